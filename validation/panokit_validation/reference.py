"""What the reference computes from what a dump holds, each stage when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._reading import parse_json
from panokit.decoding import Heads, PanopticMap, postprocess
from panokit.dump import HEADS, Dump
from panokit.errors import ArgumentError, DumpError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, TransformRecord, letterbox, preprocess
from panokit.runtime import dequantize, heads_from_raw
from panokit.segmenter import Segmenter
from panokit_validation.device import DeviceNoise, device_of

__all__ = ["ReferenceStages", "place_of", "same_heads", "told_classes"]

RawHeads = dict[str, NDArray[Any]]


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
        self._jitters: dict[int, RawHeads] = {}

    def _unfit(self, tensor: str, expected: object, got: object) -> DumpError:
        reason = f"tensor {tensor!r}: expected shape {expected}, got {got}"
        return DumpError(self.dump.path or "dump", reason)

    @cached_property
    def _prepared(self) -> tuple[NDArray[np.uint8] | None, TransformRecord | None]:
        if self.photo is not None:
            return preprocess(self.photo, self.manifest.preprocessing)
        return None, place_of(self.dump, self.manifest.preprocessing)

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
        """The artifact's heads ``[h,w,C]`` on the device's input (on :attr:`image` if the dump has
        none)."""
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
        """As :attr:`given_raw` ``[h,w,C]``, in the runtime's plain kernels, whose quantised sums
        round differently; None for float artifacts and where there is no other set of kernels."""
        image = self.image if self.device_image is None else self.device_image
        if image is None or self.artifact.precision.startswith("float"):
            return None
        device = device_of(self.segmenter, noise=PLAIN_KERNELS)
        return device.run(image.astype(np.float32)) if device.own_kernels else None

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
        """What the device's map was decoded from: its heads ``[h,w,C]``, the missing ones from its
        input."""
        if len(self.device_raw) == len(HEADS):
            return self.device_raw
        given = self.given_raw
        return None if given is None else {**given, **self.device_raw}

    @cached_property
    def knows_heads(self) -> bool:
        """Whether the device's map was decoded from exactly the heads that the dump holds: all of
        them, as integers or with the reference's own values. Other floats may have been rounded
        on their way into the dump or into the decoding."""
        if len(self.device_raw) < len(HEADS):
            return False
        if all(np.issubdtype(v.dtype, np.integer) for v in self.device_raw.values()):
            return True
        given, specs = self.given_raw, self.artifact.outputs
        if given is None:
            return False
        ours, theirs = dequantize(given, specs), dequantize(self.device_raw, specs)
        return all(np.array_equal(ours[n], theirs[n]) for n in HEADS)

    def possible_raw(self) -> Iterator[RawHeads]:
        """The heads ``[h,w,C]`` that the device's map may have been decoded from:
        :attr:`mixed_raw`; where the dump lacks some, also those of the runtime's plain kernels, and
        those of inputs that differ by one of 255 here and there, as another resize gives them."""
        if self.mixed_raw is None:
            return
        yield self.mixed_raw
        if len(self.device_raw) == len(HEADS):
            return
        if self.kernel_raw is not None:
            yield {**self.kernel_raw, **self.device_raw}
        if self.device_image is None and self.image is not None:
            for seed in range(JITTERS):
                yield {**self._jittered(self.image, seed), **self.device_raw}

    @cached_property
    def resize_spread(self) -> dict[str, float]:
        """How far another resize's roundings move each head's values (root mean square), where the
        dump holds neither the head nor the input."""
        if self.device_image is not None or self.image is None or self.raw is None:
            return {}
        specs = self.artifact.outputs
        ours, theirs = dequantize(self.raw, specs), dequantize(self._jittered(self.image, 0), specs)
        return {
            name: float(np.sqrt(np.square(theirs[name] - ours[name]).mean()))
            for name in HEADS
            if name not in self.device_raw
        }

    def _jittered(self, image: NDArray[np.uint8], seed: int) -> RawHeads:
        """Heads of an input with another resize's roundings; the network runs once a ``seed``."""
        if seed not in self._jitters:
            self._jitters[seed] = self._run_jittered(image, seed)
        return self._jitters[seed]

    def _run_jittered(self, image: NDArray[np.uint8], seed: int) -> RawHeads:
        rng = np.random.default_rng(seed)
        step = rng.choice([-1, 0, 1], image.shape, p=[0.15, 0.7, 0.15])
        step[image.max(-1) == 0] = 0  # the padding stays black
        return self.segmenter.runtime.run(np.clip(image + step, 0, 255).astype(np.uint8))

    @cached_property
    def other_raw(self) -> tuple[RawHeads, ...]:
        """Heads ``[h,w,C]`` that a healthy device may give in place of :attr:`given_raw`: those of
        the runtime's other kernels, and, where nobody knows its input, of other resizes'
        roundings."""
        found = [] if self.kernel_raw is None else [self.kernel_raw]
        if self.device_image is None and self.image is not None:
            found += [self._jittered(self.image, seed) for seed in range(JITTERS)]
        return tuple(found)

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
    def given_explained(self) -> PanopticMap | None:
        """:attr:`given_panoptic` with every intermediate."""
        mixed = self.mixed_raw
        return None if mixed is None else self._decode(mixed, explain=True)

    def heads(self, raw: RawHeads) -> Heads:
        """Real values of raw heads ``[h,w,C]``, which may be quantized."""
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
            self.manifest.center_offset,
            explain=explain,
        )

    @cached_property
    def device_classes(self) -> dict[int, int] | None:
        """Channel by segment id of the device's map; None if the dump does not tell."""
        return told_classes(self.dump)


def told_classes(dump: Dump) -> dict[int, int] | None:
    """Channel by segment id as a dump's metadata tell them; None if they do not, ``DumpError`` if
    they are no list of ids and channels."""
    text = dump.metadata.get("segments")
    if text is None:
        return None
    try:
        told = {int(s["id"]): int(s["channel"]) for s in parse_json(text.encode(), strict=True)}
        if any(abs(number) >= 1 << 63 for pair in told.items() for number in pair):
            raise ValueError("a number beyond 64 bits")
        return told
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"metadata 'segments': expected a JSON list of id and channel, but {error!r}"
        raise DumpError(dump.path or "dump", reason) from None


def place_of(dump: Dump, config: PreprocessConfig) -> TransformRecord | None:
    """Where the photo of a dump without it lies in the input: where its size calls for. The dump's
    own word is not enough."""
    if dump.transform is None:
        return None
    return letterbox(dump.transform.photo_wh, config.size_wh, fit=config.fit)


JITTERS = 3
"""Inputs tried that differ by another resize's roundings."""

PLAIN_KERNELS = DeviceNoise(threads=1, xnnpack=False)
"""The runtime's own kernels; one thread suffices."""


def same_heads(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> bool:
    """Whether two sets of raw heads are identical."""
    return all(
        n in a and n in b and a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in HEADS
    )
