"""Judging dumps of networks of other contracts than ``center-offset``.

The stages are the same: the input from the photo, each head from the input, the map from the
heads; each is compared given the device's own previous stage. Causes are other settings, tried one
after the other: those that give the device's result are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.agreement import compare_tensors
from panokit.decoding import DecodingSettings, PanopticMap
from panokit.decoding.comparing import aligned_rows
from panokit.dump import Dump
from panokit.errors import ArgumentError, DumpError, HeadError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, TransformRecord, preprocess
from panokit.runtime import dequantize, open_runtime
from panokit.segmenter import Segmenter
from panokit_validation.compare import (
    UNSEEN_INPUT,
    UNTOLD_CLASSES,
    StageComparison,
    foreign_artifact,
    head_step,
    nothing_to_compare,
    why_no_map,
)
from panokit_validation.contract_ties import HeadSteps, explain_contract_map
from panokit_validation.diagnosis import Cause
from panokit_validation.diagnosis.hypotheses import unknown
from panokit_validation.faults.contracts import (
    ContractFault,
    decoding_faults,
    input_faults,
    network_faults,
)
from panokit_validation.maps import MapAgreement, compare_maps
from panokit_validation.reference import place_of, told_classes
from panokit_validation.ties import Explanation

__all__ = ["ContractReference", "compare_contract", "find_contract_causes", "simulate_contract"]

RawHeads = dict[str, NDArray[Any]]

INPUT_NOISE = 2.0
"""8-bit steps within which two pictures are one."""
EXPLAINS = 0.7
"""The least share of a map's difference for which a cause is named."""
HEADS_EXPLAIN = 0.9
"""The least share of the heads' difference (power) for which a cause is named."""


class ContractReference:
    """What the reference makes of a dump, each stage when it is first asked for."""

    def __init__(self, dump: Dump, segmenter: Segmenter, photo: Photo | None = None) -> None:
        self.dump, self.segmenter = dump, segmenter
        self.manifest, self.artifact = segmenter.bundle.manifest, segmenter.artifact
        self.settings: DecodingSettings = self.manifest.postprocessing
        if "photo" in dump.tensors:
            photo = Photo.from_array(dump.tensors["photo"], dump.name)
        self.photo = photo

    @cached_property
    def _prepared(self) -> tuple[NDArray[np.uint8] | None, TransformRecord | None]:
        if self.photo is not None:
            return preprocess(self.photo, self.manifest.preprocessing)
        return None, place_of(self.dump, self.manifest.preprocessing)

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """The picture that the photo gives, uint8 ``[H,W,3]``."""
        return self._prepared[0]

    @property
    def transform(self) -> TransformRecord | None:
        """Where the photo lies in the input."""
        return self._prepared[1]

    @cached_property
    def device_image(self) -> NDArray[np.uint8] | None:
        """The device's input as a picture 0..255, ``[H,W,3]``; floats of the network's own range
        are brought back to it."""
        values = self.dump.tensors.get("input")
        if values is None:
            return None
        config = self.manifest.preprocessing
        height, width = config.size_wh[::-1]
        if values.shape == (3, height, width) and (height, width) != (3, 3):
            values = np.moveaxis(values, 0, -1)
        if values.shape != (height, width, 3):
            expected = f"expected shape {(height, width, 3)}, got {values.shape}"
            raise DumpError(self.dump.path or "dump", f"tensor 'input': {expected}")
        if values.dtype == np.uint8:
            return values
        real = values.astype(np.float32)
        if config.is_scaled and values.dtype.kind == "f":
            real = real * np.array(config.std, np.float32) + np.array(config.mean, np.float32)
            if config.order == "bgr":
                real = real[..., ::-1]
        return np.clip(np.round(real), 0, 255).astype(np.uint8)

    @cached_property
    def given_raw(self) -> RawHeads | None:
        """The artifact's heads on the device's input, or on the photo's."""
        image = self.image if self.device_image is None else self.device_image
        return None if image is None else self.as_rows(self.segmenter.runtime.run(image))

    def as_rows(self, raw: Mapping[str, NDArray[Any]]) -> RawHeads:
        """Heads with the channels last."""
        out: RawHeads = {}
        for name, values in raw.items():
            spec = self.artifact.outputs[name]
            wanted = spec.channels_last
            if values.shape != wanted and values.shape == tuple(spec.shape[1:]):
                values = np.moveaxis(values, 0, -1)
            if values.shape != wanted:
                expected = f"expected shape {wanted}, got {values.shape}"
                raise DumpError(self.dump.path or "dump", f"tensor {name!r}: {expected}")
            out[name] = values
        return out

    @cached_property
    def device_raw(self) -> RawHeads:
        """The dump's heads, channels last."""
        names = self.settings.head_names()
        return self.as_rows({n: self.dump.tensors[n] for n in names if n in self.dump.tensors})

    def real(self, raw: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Real values of raw heads."""
        return dequantize(raw, self.artifact.outputs)

    @cached_property
    def mixed(self) -> dict[str, NDArray[np.float32]] | None:
        """What the device's map was decoded from: its own heads, those that it lacks from here."""
        if len(self.device_raw) == len(self.settings.head_names()):
            return self.real(self.device_raw)
        return None if self.given_raw is None else self.real({**self.given_raw, **self.device_raw})

    @cached_property
    def given_panoptic(self) -> PanopticMap | None:
        """The map from the device's heads."""
        return self.decode()

    def decode(self, settings: DecodingSettings | None = None) -> PanopticMap | None:
        """The map from the device's heads, as these settings have it."""
        if self.mixed is None or self.transform is None:
            return None
        settings = settings or self.settings
        heads = settings.read_heads(self.mixed)
        return settings.decode(heads, self.segmenter.taxonomy, self.transform)

    def explanation(self) -> Explanation | None:
        """How the device's map follows from its heads, as far as it does."""
        if self.mixed is None or self.transform is None:
            return None
        specs = self.artifact.outputs
        unknown = {
            name: float(specs[name].scale or 0)
            for name in self.settings.head_names()
            if name not in self.device_raw
        }
        return explain_contract_map(
            self.dump.tensors["panoptic"],
            self.classes,
            self.mixed,
            self.settings,
            self.segmenter.taxonomy,
            self.transform,
            HeadSteps.of(self.mixed, unknown),
        )

    @cached_property
    def classes(self) -> dict[int, int] | None:
        """Channel by segment id of the device's map; None if the dump does not tell."""
        return told_classes(self.dump)

    def map_agreement(self, decoded: PanopticMap) -> MapAgreement:
        """How near the device's map is to a map of ours."""
        ids = self.dump.tensors["panoptic"]
        if ids.shape != decoded.ids.shape:
            expected = f"expected shape {decoded.ids.shape}, got {ids.shape}"
            raise DumpError(self.dump.path or "dump", f"tensor 'panoptic': {expected}")
        pair = None if self.classes is None else (self.classes, decoded.channels)
        return compare_maps(ids, decoded.ids, pair)


def compare_contract(reference: ContractReference) -> tuple[tuple[StageComparison, ...], list[str]]:
    """Every stage that the dump holds and the reference can compute, and warnings."""
    stages: list[StageComparison] = []
    dump = reference.dump
    warnings = foreign_artifact(dump, reference.artifact)
    if reference.device_image is not None and reference.image is not None:
        a = compare_tensors(
            reference.device_image, reference.image, tolerance=INPUT_NOISE, data_range=255
        )
        stages.append(StageComparison("input", "photo", a, a))
    elif reference.device_image is not None:
        warnings.append(UNSEEN_INPUT)
    if reference.device_raw and reference.given_raw is not None:
        basis = "photo" if reference.device_image is None else "input"
        real, own = reference.real(reference.device_raw), reference.real(reference.given_raw)
        for name, values in real.items():
            values, other = aligned_rows(name, values, own[name], reference.settings)
            if not values.size:
                continue
            step = head_step(reference.artifact.outputs[name], other)
            agreement = compare_tensors(values, other, tolerance=step, shift=False)
            stages.append(StageComparison(name, basis, agreement))
    if "panoptic" in dump.tensors:
        if told_classes(dump) is None:
            warnings.append(UNTOLD_CLASSES)
        decoded = reference.given_panoptic
        if decoded is None:
            warnings.append(f"panoptic was not compared: {why_no_map(reference.transform)}")
        else:
            basis = "heads" if reference.device_raw else "input"
            basis = "photo" if basis == "input" and reference.device_image is None else basis
            given = reference.map_agreement(decoded)
            found = reference.explanation() if given.equal_pixels < 1 else None
            adjusted = None
            if found is not None:
                pair = None
                if found.left_classes is not None:
                    pair = (found.left_classes, found.classes)
                adjusted = compare_maps(found.left, found.ids, pair)
            stages.append(StageComparison("panoptic", basis, given, None, found, adjusted))
    if not stages:
        raise nothing_to_compare(dump, reference.transform)
    return tuple(stages), warnings


def find_contract_causes(reference: ContractReference, failing: Sequence[str]) -> list[Cause]:
    """What explains the stages that failed, best first; ``unknown`` where nothing does."""
    causes: list[Cause] = []
    if "input" in failing:
        causes += _input_causes(reference)
    if "input" not in failing and set(failing) & set(reference.settings.head_names()):
        causes += _head_causes(reference)
    if "panoptic" in failing and not causes:
        causes += _map_causes(reference)
    return causes


def _input_causes(reference: ContractReference) -> list[Cause]:
    device, image, photo = reference.device_image, reference.image, reference.photo
    if device is None or image is None or photo is None:
        return list(unknown("input", 0.0).causes)
    base = _power(device, image)
    tried = []
    for fault in input_faults(reference.manifest.preprocessing):
        picture = _picture(photo, fault, reference.manifest.preprocessing)
        tried.append((fault, 1 - _power(device, picture) / base))
    return _best("input", tried, HEADS_EXPLAIN)


def _picture(photo: Photo, fault: ContractFault, config: PreprocessConfig) -> NDArray[np.uint8]:
    """The picture of an app with a fault, in the order of channels that pictures have here."""
    changed = fault.preprocessing or config
    image = preprocess(photo, changed)[0]
    return image[..., ::-1] if changed.order != config.order else image


def _power(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.square(a.astype(np.float64) - b).mean())


def _head_causes(reference: ContractReference) -> list[Cause]:
    image = reference.image if reference.device_image is None else reference.device_image
    raw = reference.given_raw
    if image is None or raw is None:
        return list(unknown("heads", 0.0).causes)
    device = reference.real(reference.device_raw)
    own = reference.real(raw)
    base = {n: max(_power(v, own[n]), 1e-30) for n, v in device.items()}
    tried = []
    for fault in network_faults(reference.manifest.preprocessing):
        other = reference.real(reference.as_rows(_run(reference, fault, image)))
        share = np.mean([1 - _power(v, other[n]) / base[n] for n, v in device.items()])
        tried.append((fault, float(share)))
    stage = next(iter(device))
    return _best(stage, tried, HEADS_EXPLAIN)


def _run(reference: ContractReference, fault: ContractFault, image: NDArray[np.uint8]) -> RawHeads:
    """The heads that the artifact gives an app that feeds other numbers."""
    bundle = reference.segmenter.bundle
    manifest = replace(
        bundle.manifest, preprocessing=fault.preprocessing or bundle.manifest.preprocessing
    )
    return open_runtime(replace(bundle, manifest=manifest), reference.artifact, 1).run(image)


def _map_causes(reference: ContractReference) -> list[Cause]:
    own = reference.given_panoptic
    if own is None:
        return list(unknown("panoptic", 0.0).causes)
    base = 1 - reference.map_agreement(own).equal_pixels
    if base <= 0:
        return list(unknown("panoptic", base).causes)
    tried = []
    for fault in decoding_faults(reference.settings, reference.segmenter.taxonomy):
        try:
            decoded = reference.decode(fault.settings)
        except (ArgumentError, HeadError):
            continue
        if decoded is None:
            continue
        left = 1 - reference.map_agreement(decoded).equal_pixels
        tried.append((fault, 1 - left / base))
    return _best("panoptic", tried, EXPLAINS)


def _best(stage: str, tried: list[tuple[ContractFault, float]], least: float) -> list[Cause]:
    """The causes that explain enough, best first: those that come near the best one."""
    tried.sort(key=lambda t: -t[1])
    if not tried or tried[0][1] < least:
        return list(unknown(stage, 0.0).causes)
    best = tried[0][1]
    found: dict[str, Cause] = {}
    for fault, share in tried:
        if share >= max(least, best - 0.02) and fault.name not in found:
            found[fault.name] = Cause(
                fault.name, stage, fault.title, fault.advice, min(1.0, share), fault.variant
            )
    return list(found.values())


def simulate_contract(
    photo: Photo, segmenter: Segmenter, fault: ContractFault | None = None
) -> Dump:
    """The dump of a device whose app makes a mistake (none: a healthy one)."""
    from panokit.dump import dump_stages

    manifest = segmenter.bundle.manifest
    runner = segmenter
    image_config = manifest.preprocessing
    if fault is not None and fault.preprocessing is not None:
        image_config = fault.preprocessing
        changed = replace(segmenter.bundle, manifest=replace(manifest, preprocessing=image_config))
        runtime = open_runtime(changed, segmenter.artifact, 1)
        runner = Segmenter(changed, segmenter.artifact, runtime)
    settings = fault.settings if fault is not None else None
    dump = dump_stages(runner.stages(photo, config=settings), segmenter.artifact, "litert")
    picture = dump.tensors["input"]
    if image_config.order != manifest.preprocessing.order:
        picture = np.ascontiguousarray(picture[..., ::-1])
    return replace(dump, tensors={**dump.tensors, "input": picture})
