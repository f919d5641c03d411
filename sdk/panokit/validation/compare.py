"""Compare a dump with the reference, stage by stage.

Every stage is compared twice: *given* the device's own previous stage (what the reference computes
from the device's input, from its heads, from its map), so that one fault shows at one stage; and
along the *chain* that the reference computes from the photo alone, which shows what the faults
add up to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import TensorSpec
from panokit.dump import HEADS, Dump
from panokit.errors import ArgumentError, DumpError
from panokit.photo import Photo
from panokit.postprocessing import Heads, PanopticMap, postprocess
from panokit.preprocessing import TransformRecord, letterbox, preprocess
from panokit.runtime import dequantize, heads_from_raw
from panokit.segmenter import Segmenter
from panokit.validation.device import DeviceNoise, Network
from panokit.validation.effects import reference_effect
from panokit.validation.maps import MapAgreement, compare_maps
from panokit.validation.margins import Context, PixelKinds, Tolerances, classify_pixels
from panokit.validation.tensors import TensorAgreement, compare_tensors

__all__ = ["Comparison", "ReferenceStages", "StageComparison", "compare_dump"]

RawHeads = dict[str, NDArray[Any]]

_HOPELESS_DB = 3.0
"""Heads that lie further apart than this are not explained by other kernels."""


class ReferenceStages:
    """What the reference makes of a dump; each stage is computed when it is first asked for.

    ``photo`` stands in for a dump that holds none. Properties named ``given_…`` start from the
    device's own previous stage, ``device_…`` are the dump's tensors in the reference's shapes and
    units, the others come from the photo alone. What cannot be computed is None.
    """

    def __init__(self, dump: Dump, segmenter: Segmenter, photo: Photo | None = None) -> None:
        self.dump, self.segmenter = dump, segmenter
        self.manifest, self.artifact = segmenter.bundle.manifest, segmenter.artifact
        if "photo" in dump.tensors:
            pixels = dump.tensors["photo"]
            if pixels.shape[-1] != 3:
                raise self._unfit("photo", "[h,w,3]", pixels.shape)
            photo = Photo.from_array(pixels, dump.name)
        self.photo = photo

    def _unfit(self, tensor: str, expected: object, got: object) -> DumpError:
        reason = f"tensor {tensor!r}: expected shape {expected}, got {got}"
        return DumpError(self.dump.path or "dump", reason)

    @cached_property
    def _prepared(self) -> tuple[NDArray[np.uint8] | None, TransformRecord | None]:
        if self.photo is not None:
            return preprocess(self.photo, self.manifest.preprocessing)
        if self.dump.transform is None:
            return None, None
        # The transform that the photo's size calls for; the dump's word is not enough.
        size = self.manifest.preprocessing.size_wh
        return None, letterbox(self.dump.transform.photo_wh, size)

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """The input that the photo gives, uint8 ``[H,W,3]``."""
        return self._prepared[0]

    @property
    def transform(self) -> TransformRecord | None:
        """Where the photo lies in the input."""
        return self._prepared[1]

    @cached_property
    def device_image(self) -> NDArray[Any] | None:
        """The device's input as an image ``[H,W,3]``, 0..255: uint8 if it holds whole numbers in
        that range, else float32. Quantised inputs are read with the artifact's own scale."""
        values = self.dump.tensors.get("input")
        if values is None:
            return None
        spec = self.artifact.input
        shape = spec.shape[1:] if spec.layout != "nchw" else (*spec.shape[2:], spec.shape[1])
        if values.shape != tuple(shape):
            raise self._unfit("input", tuple(shape), values.shape)
        if values.dtype == np.uint8:
            return values
        if values.dtype == np.int8:
            zero = spec.zero_point if spec.zero_point is not None else -128
            values = (values.astype(np.float32) - zero) * np.float32(spec.scale or 1.0)
        values = values.astype(np.float32)
        rounded = np.round(values)
        whole = (rounded == values).all() and rounded.min() >= 0 and rounded.max() <= 255
        return rounded.astype(np.uint8) if whole else values

    @cached_property
    def raw(self) -> RawHeads | None:
        """The artifact's heads ``[h,w,C]`` on :attr:`image`, in its own type."""
        return None if self.image is None else self.segmenter.runtime.run(self.image)

    @cached_property
    def given_raw(self) -> RawHeads | None:
        """The artifact's heads on the device's input (on :attr:`image` if the dump has none)."""
        image = self.device_image
        if image is None or (self.image is not None and np.array_equal(image, self.image)):
            return self.raw
        try:
            return self.segmenter.runtime.run(image)
        except ArgumentError:  # a runtime that takes bytes only
            whole = np.clip(np.round(image), 0, 255).astype(np.uint8)
            return self.segmenter.runtime.run(whole)

    @cached_property
    def kernel_raw(self) -> RawHeads | None:
        """As :attr:`given_raw`, in the runtime's plain kernels, whose quantised sums round
        differently; None for float artifacts and where there is no other set of kernels."""
        image = self.image if self.device_image is None else self.device_image
        if image is None or self.artifact.precision.startswith("float"):
            return None
        network = _plain_network(self.segmenter)
        return network.run(image.astype(np.float32)) if network.own_kernels else None

    @cached_property
    def device_raw(self) -> RawHeads:
        """The dump's heads ``[h,w,C]``, checked for shape; only those that it holds."""
        out: RawHeads = {}
        for name in HEADS:
            if name not in self.dump.tensors:
                continue
            values = self.dump.tensors[name]
            if name == "center" and values.ndim == 2:
                values = values[..., None]
            spec = self.artifact.outputs[name]
            shape = spec.shape[1:] if spec.layout != "nchw" else (*spec.shape[2:], spec.shape[1])
            if values.shape != tuple(shape):
                raise self._unfit(name, tuple(shape), values.shape)
            out[name] = values
        return out

    @cached_property
    def mixed_raw(self) -> RawHeads | None:
        """What the device's map was decoded from: its heads, the missing ones from its input."""
        if len(self.device_raw) == len(HEADS):
            return self.device_raw
        given = self.given_raw
        return None if given is None else {**given, **self.device_raw}

    @cached_property
    def panoptic(self) -> PanopticMap | None:
        """The map from :attr:`raw`."""
        return None if self.raw is None else self._decode(self.raw)

    @cached_property
    def given_panoptic(self) -> PanopticMap | None:
        """The map from the device's heads (those that the dump lacks from its input)."""
        mixed = self.mixed_raw
        if mixed is None:
            return None
        if self.raw is not None and same_heads(mixed, self.raw):
            return self.panoptic
        return self._decode(mixed)

    @cached_property
    def kernel_map(self) -> PanopticMap | None:
        """The map from :attr:`kernel_raw`."""
        return None if self.kernel_raw is None else self._decode(self.kernel_raw)

    @cached_property
    def given_explained(self) -> PanopticMap | None:
        """:attr:`given_panoptic` with every intermediate."""
        mixed = self.mixed_raw
        return None if mixed is None else self._decode(mixed, explain=True)

    def heads(self, raw: RawHeads) -> Heads:
        """Real values of raw heads."""
        specs = self.artifact.outputs
        if specs["semantic"].layout == "nchw":  # dumps are channels last whatever the artifact is
            return Heads.from_arrays(dequantize(raw, specs))
        return heads_from_raw(raw, self.artifact)

    def _decode(self, raw: RawHeads, explain: bool = False) -> PanopticMap | None:
        if self.transform is None:
            return None
        return postprocess(
            self.heads(raw),
            self.segmenter.taxonomy,
            self.transform,
            self.manifest.postprocessing,
            explain=explain,
        )

    @cached_property
    def device_classes(self) -> dict[int, int] | None:
        """Channel by segment id of the device's map; None if the dump does not tell."""
        text = self.dump.metadata.get("segments")
        if text is None:
            return None
        try:
            return {int(s["id"]): int(s["channel"]) for s in json.loads(text)}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            reason = f"metadata 'segments': expected a JSON list of id and channel, but {error!r}"
            raise DumpError(self.dump.path or "dump", reason) from None


def _plain_network(segmenter: Segmenter) -> Network:
    """The artifact in the runtime's plain kernels, opened once (one thread suffices); the
    segmenter keeps it, so that both go together."""
    kept = vars(segmenter)
    if "_plain_kernels" not in kept:
        noise = DeviceNoise(threads=1, xnnpack=False)
        kept["_plain_kernels"] = Network(segmenter, noise=noise)
    network: Network = kept["_plain_kernels"]
    return network


def same_heads(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> bool:
    """Whether two sets of raw heads are identical."""
    return all(
        n in a and n in b and a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in HEADS
    )


@dataclass(frozen=True)
class StageComparison:
    """One stage of one dump.

    ``given``: the device's tensor against what the reference computes from the device's ``basis``
    (``"photo"``, ``"input"``, ``"heads"`` or ``"panoptic"``). ``chain``: against what the
    reference computes from the photo alone; None without a photo. For the map, ``pixels`` tells
    ties and rounding from errors, and ``adjusted`` is the agreement when those are excused.
    ``kernels``, where a quantised artifact's stage differs much: how far the runtime's plain
    kernels lie from the reference's on the same photo.
    """

    stage: str
    basis: str
    given: TensorAgreement | MapAgreement
    chain: TensorAgreement | MapAgreement | None = None
    pixels: PixelKinds | None = None
    adjusted: MapAgreement | None = None
    kernels: TensorAgreement | MapAgreement | None = None


@dataclass(frozen=True)
class Comparison:
    """All stages of a dump that could be compared, in the order of the pipeline."""

    stages: tuple[StageComparison, ...]
    warnings: tuple[str, ...] = ()

    def get(self, stage: str) -> StageComparison | None:
        """A stage by name, or None."""
        return next((s for s in self.stages if s.stage == stage), None)


def compare_dump(
    reference: ReferenceStages,
    *,
    input_tolerance: float = 1.0,
    explain: bool = True,
    kernels_below_db: float = 0.0,
) -> Comparison:
    """Compare every stage that the dump holds and the reference can compute.

    ``input_tolerance`` (8-bit steps) is what the input's ``outside`` counts beyond; for a head it
    is one quantisation step, or the rounding of float16. ``explain=False`` leaves the pixels of the
    map unsorted. Heads of a quantised artifact at less than ``kernels_below_db`` (and a map that
    hangs on them) are compared with the runtime's plain kernels too. A dump of which
    nothing can be compared raises ``DumpError``.
    """
    stages: list[StageComparison] = []
    warnings: list[str] = []
    dump = reference.dump
    sha, expected = dump.metadata.get("artifact_sha256"), reference.artifact.sha256
    if sha is not None and sha != expected:
        name = reference.artifact.name
        warnings.append(
            f"the device ran another file than the bundle's {name} "
            f"({sha[:12]}… instead of {expected[:12]}…)"
        )
    if reference.device_image is not None and reference.image is not None:
        a = compare_tensors(
            reference.device_image, reference.image, tolerance=input_tolerance, data_range=255
        )
        stages.append(StageComparison("input", "photo", a, a))
    stages += _heads(reference, kernels_below_db)
    if "panoptic" in dump.tensors:
        if reference.given_panoptic is not None:
            stages.append(_panoptic(reference, explain, kernels_below_db > 0))
        else:
            warnings.append("panoptic was not compared: neither heads, input nor photo lead to it")
    for name in dump.tensors:
        if name.startswith("effect."):
            _effect(reference, name, stages, warnings)
    if not stages:
        raise DumpError(dump.path or "dump", "holds no stage that can be compared with another")
    return Comparison(tuple(stages), tuple(warnings))


def _heads(reference: ReferenceStages, kernels_below_db: float) -> list[StageComparison]:
    device, given, chain = reference.device_raw, reference.given_raw, reference.raw
    if not device or given is None:
        return []
    specs = reference.artifact.outputs
    basis = "photo" if reference.device_image is None else "input"
    stages = []
    for name, values in device.items():
        expected = dequantize({name: given[name]}, specs)[name]
        real = dequantize({name: values}, specs)[name]
        step = head_step(specs[name], expected)
        a = compare_tensors(real, expected, tolerance=step)
        b: TensorAgreement | None = None
        if chain is not None:
            own = chain is given or np.array_equal(chain[name], given[name])
            full = expected if own else dequantize({name: chain[name]}, specs)[name]
            b = a if own else compare_tensors(real, full, tolerance=step, shift=False)
        kernels: TensorAgreement | None = None
        near = _HOPELESS_DB < a.sqnr_db < kernels_below_db
        if near and reference.kernel_raw is not None:
            other = dequantize({name: reference.kernel_raw[name]}, specs)[name]
            kernels = compare_tensors(other, expected, tolerance=step, shift=False)
        stages.append(StageComparison(name, basis, a, b, kernels=kernels))
    return stages


def head_step(spec: TensorSpec, values: NDArray[np.float32]) -> float:
    """One quantisation step of a head; for a float head float16's rounding of its largest value."""
    return float(spec.scale) if spec.scale else float(np.abs(values).max()) * 2.0**-11


def _panoptic(reference: ReferenceStages, explain: bool, kernels: bool) -> StageComparison:
    given, chain = reference.given_panoptic, reference.panoptic
    if given is None:  # the caller has looked
        raise ArgumentError("reference", "one that has a map", None)
    ids = reference.dump.tensors["panoptic"]
    if ids.shape != given.ids.shape:
        raise reference._unfit("panoptic", given.ids.shape, ids.shape)
    has_heads = bool(reference.device_raw)
    basis = "heads" if has_heads else "photo" if reference.device_image is None else "input"

    of_device = reference.device_classes

    def agreement(
        map_: PanopticMap, device: NDArray[Any] = ids, own: dict[int, int] | None = of_device
    ) -> MapAgreement:
        theirs = {s.id: s.channel for s in map_.segments}
        return compare_maps(device, map_.ids, None if own is None else (own, theirs))

    a = agreement(given)
    pixels = adjusted = None
    explained = reference.given_explained if explain and a.equal_pixels < 1 else None
    if explained is not None:
        pixels = classify_pixels(ids, explained, a, _context(reference))
        adjusted = agreement(given, *pixels.excuse(ids, given, a, of_device))
    b = a if chain is given else None if chain is None else agreement(chain)
    other = reference.kernel_map if kernels and not has_heads and a.equal_pixels < 1 else None
    spread = None
    if other is not None:
        theirs = {s.id: s.channel for s in other.segments}
        spread = agreement(given, other.ids, None if of_device is None else theirs)
    return StageComparison("panoptic", basis, a, b, pixels, adjusted, spread)


def _context(reference: ReferenceStages) -> Context:
    """What the map was decoded with, and by how little a decision may be won."""
    mixed, transform = reference.mixed_raw, reference.transform
    if mixed is None or transform is None:  # there is no map without them
        raise ArgumentError("reference", "one that has a map", None)
    heads = reference.heads(mixed)
    specs = reference.artifact.outputs
    quantised = (0.0 if n in reference.device_raw else float(specs[n].scale or 0) for n in HEADS)
    semantic, center, offset = quantised
    return Context(
        heads=heads,
        taxonomy=reference.segmenter.taxonomy,
        transform=transform,
        config=reference.manifest.postprocessing,
        tolerances=Tolerances.of_heads(heads, max(transform.input_wh), (semantic, center, offset)),
        device_classes=reference.device_classes,
    )


def _effect(
    reference: ReferenceStages, name: str, stages: list[StageComparison], warnings: list[str]
) -> None:
    expected, basis, problem = reference_effect(name.removeprefix("effect."), reference)
    if expected is None:
        warnings.append(f"{name} was not compared: {problem}")
        return
    values = reference.dump.tensors[name]
    if values.shape != expected.shape:
        raise reference._unfit(name, expected.shape, values.shape)
    a = compare_tensors(values, expected, tolerance=2, data_range=255)
    stages.append(StageComparison(name, basis, a))
