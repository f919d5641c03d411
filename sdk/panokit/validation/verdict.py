"""From a dump to a verdict: pass or fail, and the first stage that differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact
from panokit.dump import HEADS, Dump
from panokit.errors import ArgumentError, DumpError
from panokit.photo import Photo
from panokit.postprocessing import postprocess
from panokit.preprocessing import TransformRecord, letterbox, preprocess
from panokit.runtime import dequantize, heads_from_raw
from panokit.segmenter import Segmenter
from panokit.validation.compare import compare_maps, compare_tensors

__all__ = ["PhotoVerdict", "StageVerdict", "ValidationConfig", "Verdict", "validate_dump"]


class Verdict(StrEnum):
    """What came of a comparison."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"


@dataclass(frozen=True)
class ValidationConfig:
    """Thresholds of agreement with the reference, each stage given the device's previous one."""

    input_max_abs: float = 2.0  # 8-bit steps
    input_mean_abs: float = 0.25  # 8-bit steps
    head_sqnr_db: float = 25.0
    panoptic_pq: float = 97.0
    panoptic_equal_pixels: float = 0.995

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value) or value < 0:
                raise ArgumentError(name, "a finite number from 0", value)


@dataclass(frozen=True)
class StageVerdict:
    """One stage of one photo: its verdict, figures, and in a sentence what they mean."""

    stage: str
    verdict: Verdict
    figures: dict[str, float]
    message: str


@dataclass(frozen=True)
class PhotoVerdict:
    """One photo: all compared stages in the order of the pipeline."""

    photo: str
    stages: tuple[StageVerdict, ...]
    warnings: tuple[str, ...] = ()

    @property
    def first_bad_stage(self) -> str | None:
        """The first stage that fails, or None."""
        return next((s.stage for s in self.stages if s.verdict is Verdict.FAIL), None)

    @property
    def verdict(self) -> Verdict:
        """Fail if any stage fails."""
        return Verdict.PASS if self.first_bad_stage is None else Verdict.FAIL

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "photo": self.photo,
            "verdict": self.verdict.value,
            "first_bad_stage": self.first_bad_stage,
            "stages": [
                {**asdict(s), "verdict": s.verdict.value, "stage": s.stage} for s in self.stages
            ],
            "warnings": list(self.warnings),
            "causes": [],
        }


def validate_dump(
    dump: Dump,
    segmenter: Segmenter,
    config: ValidationConfig | None = None,
    photo: Photo | None = None,
) -> PhotoVerdict:
    """Compare a dump with the reference on the same artifact.

    Each stage is computed from the device's *previous* stage where the dump holds it (input from
    photo, heads from input, map from heads), so one fault shows once. ``photo`` stands in for a
    dump without its own.
    """
    config = config or ValidationConfig()
    stages: list[StageVerdict] = []
    warnings: list[str] = []
    sha = dump.metadata.get("artifact_sha256")
    if sha is not None and sha != segmenter.artifact.sha256:
        warnings.append(
            f"the device ran another file than the bundle's {segmenter.artifact.name} "
            f"({sha[:12]}… instead of {segmenter.artifact.sha256[:12]}…)"
        )
    image, transform = _reference_input(dump, segmenter, photo)
    if "input" in dump.tensors:
        given = _image_from_input(dump, segmenter.artifact)
        if image is not None:
            stages.append(_compare_input(given, image, dump, config))
        image = given
    raw = {n: dump.tensors[n] for n in HEADS if n in dump.tensors}
    if raw and image is not None:
        stages += _compare_heads(raw, segmenter.runtime.run(image), segmenter, dump, config)
    if "panoptic" in dump.tensors:
        if len(raw) < len(HEADS) and image is not None:
            raw = segmenter.runtime.run(image)
        if len(raw) == len(HEADS) and transform is not None:
            stages.append(_compare_panoptic(dump, raw, transform, segmenter, config))
        else:
            warnings.append("panoptic was not compared: neither heads, input nor photo lead to it")
    if not stages:
        raise DumpError(dump.path or "dump", "holds no stage that can be compared with another")
    return PhotoVerdict(dump.name, tuple(stages), tuple(warnings))


def _reference_input(
    dump: Dump, segmenter: Segmenter, photo: Photo | None
) -> tuple[NDArray[np.uint8] | None, TransformRecord | None]:
    manifest = segmenter.bundle.manifest
    if "photo" in dump.tensors:
        pixels = dump.tensors["photo"]
        if pixels.shape[-1] != 3:
            got = f"expected shape [h,w,3], got {pixels.shape}"
            raise DumpError(dump.path or "dump", f"tensor 'photo': {got}")
        photo = Photo.from_array(pixels)
    if photo is not None:
        return preprocess(photo, manifest.preprocessing)
    if dump.transform is None:
        return None, None
    # The transform must be the one that the photo's size calls for; the dump's word is not enough.
    expected = letterbox(dump.transform.photo_wh, manifest.preprocessing.size_wh)
    return None, expected


def _image_from_input(dump: Dump, artifact: Artifact) -> NDArray[np.uint8]:
    """The dump's input tensor as an image uint8 ``[H,W,3]``."""
    values = dump.tensors["input"]
    spec = artifact.input
    shape = spec.shape[1:] if spec.layout != "nchw" else (*spec.shape[2:], spec.shape[1])
    if values.shape != tuple(shape):
        reason = f"tensor 'input': expected shape {tuple(shape)}, got {values.shape}"
        raise DumpError(dump.path or "dump", reason)
    if values.dtype == np.int8:  # quantised: with the artifact's own scale and zero point
        scale, zero = spec.scale or 1.0, spec.zero_point if spec.zero_point is not None else -128
        values = (values.astype(np.float32) - zero) * scale
    return np.clip(np.round(values.astype(np.float32)), 0, 255).astype(np.uint8)


def _compare_input(
    given: NDArray[np.uint8], image: NDArray[np.uint8], dump: Dump, config: ValidationConfig
) -> StageVerdict:
    a = compare_tensors(given, image)
    good = a.max_abs <= config.input_max_abs and a.mean_abs <= config.input_mean_abs
    message = f"differs from the reference input by at most {a.max_abs:.0f} of 255"
    return StageVerdict("input", _verdict(good), a.to_json(), message)


def _compare_heads(
    raw: dict[str, NDArray[Any]],
    expected: dict[str, NDArray[Any]],
    segmenter: Segmenter,
    dump: Dump,
    config: ValidationConfig,
) -> list[StageVerdict]:
    specs = segmenter.artifact.outputs
    stages = []
    for name, values in raw.items():
        if values.ndim == 2:  # a centre head without its channel axis
            values = values[..., None]
        if values.shape != expected[name].shape:
            reason = f"tensor {name!r}: expected shape {expected[name].shape}, got {values.shape}"
            raise DumpError(dump.path or "dump", reason)
        a = compare_tensors(
            dequantize({name: values}, specs)[name],
            dequantize({name: expected[name]}, specs)[name],
        )
        message = (
            "is the reference's on the device's input"
            if a.max_abs == 0
            else f"lies {a.sqnr_db:.1f} dB above its difference to the reference"
        )
        good = a.sqnr_db >= config.head_sqnr_db
        stages.append(StageVerdict(name, _verdict(good), a.to_json(), message))
    return stages


def _compare_panoptic(
    dump: Dump,
    raw: dict[str, NDArray[Any]],
    transform: TransformRecord,
    segmenter: Segmenter,
    config: ValidationConfig,
) -> StageVerdict:
    heads = heads_from_raw(raw, segmenter.artifact)
    manifest = segmenter.bundle.manifest
    reference = postprocess(heads, segmenter.taxonomy, transform, manifest.postprocessing).ids
    ids = dump.tensors["panoptic"]
    if ids.shape != reference.shape:
        reason = f"tensor 'panoptic': expected shape {reference.shape}, got {ids.shape}"
        raise DumpError(dump.path or "dump", reason)
    a = compare_maps(ids, reference)
    good = a.pq >= config.panoptic_pq and a.equal_pixels >= config.panoptic_equal_pixels
    message = (
        f"{a.equal_pixels:.2%} of the pixels agree, {a.missing} segments missing, {a.extra} extra"
    )
    return StageVerdict("panoptic", _verdict(good), a.to_json(), message)


def _verdict(good: bool) -> Verdict:
    return Verdict.PASS if good else Verdict.FAIL
