"""What a dump holds, and what the artifact gives where apps with faults are replayed on it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact, TensorSpec
from panokit.dump import HEADS, Dump
from panokit.errors import DumpError
from panokit.photo import Photo
from panokit.preprocessing import TransformRecord, letterbox
from panokit.segmenter import Segmenter
from panokit_validation.device import Device, DeviceNoise, device_of, real_heads
from panokit_validation.diagnosis.cause import DiagnosisConfig, Finding
from panokit_validation.diagnosis.hypotheses import INPUT_STEPS
from panokit_validation.faults.app import App
from panokit_validation.faults.bank import FAULTS
from panokit_validation.faults.decode import DecodingReplay
from panokit_validation.faults.heads import HeadSet
from panokit_validation.faults.model import Step

__all__ = ["RealHeads", "Replay", "is_large"]

FloatArray = NDArray[np.float32]
RealHeads = dict[str, FloatArray]
LARGE_PHOTO = 1_500_000
"""Photos of more pixels have their colours changed after the resize, which is quicker."""


def is_large(photo: Photo) -> bool:
    """Whether a photo's colours are changed after the resize, for speed."""
    width, height = photo.size_wh
    return width * height > LARGE_PHOTO


class Replay:
    """A dump, and the device that made it as far as it is known: :attr:`app` holds the faults that
    were found so far, and later stages are replayed with them."""

    def __init__(
        self,
        dump: Dump,
        segmenter: Segmenter,
        photo: Photo | None,
        config: DiagnosisConfig,
        others: Sequence[Photo] = (),
        failing: Collection[str] = (),
    ) -> None:
        self.dump, self.segmenter, self.config, self.others = dump, segmenter, config, others
        self.failing = frozenset(failing)
        self.manifest = segmenter.bundle.manifest
        self.photo = self._photo(photo)
        self.artifact = self._device_artifact()
        self.quantised = self.artifact.outputs["semantic"].scale is not None
        self.app = App()  # what is known of the device so far
        self._runs: dict[Any, tuple[RealHeads, TransformRecord | None]] = {}
        self._decoders: dict[Any, DecodingReplay] = {}
        self._records: dict[Any, TransformRecord] = {}
        self._laid_out: dict[Any, tuple[NDArray[np.uint8], TransformRecord]] = {}

    # What the dump and the photo say.

    def _photo(self, photo: Photo | None) -> Photo | None:
        pixels = self.dump.tensors.get("photo")
        orientation = self.dump.transform.orientation if self.dump.transform else 1
        if photo is not None:
            orientation = photo.orientation if photo.orientation != 1 else orientation
            return replace(photo, orientation=orientation)
        if pixels is None:
            return None
        return Photo(np.ascontiguousarray(pixels), orientation=orientation, name=self.dump.name)

    @cached_property
    def is_foreign(self) -> bool:
        sha = self.dump.metadata.get("artifact_sha256")
        return sha is not None and sha != self.segmenter.artifact.sha256

    def _device_artifact(self) -> Artifact:
        """The artifact that the device ran, if the bundle has it and it runs here."""
        if self.is_foreign:
            sha = self.dump.metadata["artifact_sha256"]
            for artifact in self.others_of_bundle():
                if artifact.sha256 == sha:
                    return artifact
        return self.segmenter.artifact

    def others_of_bundle(self) -> list[Artifact]:
        own = self.segmenter.artifact
        return [
            a
            for a in self.manifest.artifacts
            if a.format == "tflite" and a.name != own.name and a.input.shape == own.input.shape
        ]

    def device(self, artifact: Artifact | None = None, fast: bool = True) -> Device:
        """A device with an artifact (what this one ran by default), in the runtime's fast kernels
        or its plain ones."""
        noise = DeviceNoise() if fast else DeviceNoise(xnnpack=False)
        return device_of(self.segmenter, artifact or self.artifact, noise)

    def _check_shape(self, name: str, shape: tuple[int, ...], spec: TensorSpec) -> None:
        expected = spec.shape[1:] if spec.layout != "nchw" else (*spec.shape[2:], spec.shape[1])
        if tuple(shape) != tuple(expected):
            reason = f"tensor {name!r}: expected shape {tuple(expected)}, got {tuple(shape)}"
            raise DumpError(self.dump.path or "dump", reason)

    @cached_property
    def values(self) -> FloatArray | None:
        """The real values of the device's input, float32 ``[H,W,3]``."""
        stored = self.dump.tensors.get("input")
        if stored is None:
            return None
        spec = self.artifact.input
        self._check_shape("input", stored.shape, spec)
        values: FloatArray = stored.astype(np.float32)
        if stored.dtype == np.int8:
            zero = spec.zero_point if spec.zero_point is not None else -128
            values = (values - np.float32(zero)) * np.float32(spec.scale or 1)
        return values

    @cached_property
    def device_heads(self) -> RealHeads:
        """Real values of the heads that the dump holds."""
        raw = {n: self.dump.tensors[n] for n in HEADS if n in self.dump.tensors}
        real = real_heads(raw, self.artifact)
        for name, values in real.items():
            self._check_shape(name, values.shape, self.artifact.outputs[name])
        return real

    # Replays.

    def picture(
        self,
        app: App,
        photo: Photo | None = None,
        *,
        exact: bool = False,
        unrounded: bool = False,
    ) -> tuple[FloatArray, TransformRecord]:
        """The values that an app feeds for the photo, and where it believes the photo to be.
        Unless ``exact``, a large photo's colours are changed when it has been made small.
        ``unrounded`` values have not been quantised yet."""
        photo = photo or self.photo
        if photo is None:
            raise DumpError(self.dump.path or "dump", "holds no photo to replay")
        pixels, size = photo.rgb_hwc, self.manifest.preprocessing.size_wh
        spec = self.artifact.input
        if unrounded:
            spec = replace(spec, dtype="float32", scale=None, zero_point=None)
        if exact or not is_large(photo):
            image, record = app.picture(pixels, size, photo.orientation)
            return app.values(image, spec), record
        shape = App.of(app.having(Step.ORIENTATION, Step.LAYOUT))
        key = (id(photo), _key(shape, Step.ORIENTATION, Step.LAYOUT))
        if key not in self._laid_out:
            self._laid_out[key] = shape.picture(pixels, size, photo.orientation)
        image, record = self._laid_out[key]
        if app.having(Step.COLOR):
            image = image.copy()
            image[record.content_slices] = app.colored(image[record.content_slices])
        return app.values(image, spec), record

    def run(self, app: App, fast: bool = True) -> tuple[RealHeads, TransformRecord | None]:
        """The heads that the artifact gives on the app's input (the device's, if dumped)."""
        key = (_key(app, *INPUT_STEPS, Step.NETWORK), fast)
        if key not in self._runs:
            if self.values is not None:
                values, record = self.values, self.record()
            else:
                values, record = self.picture(app)
            raw = self.device(fast=fast).run(app.inside(values))
            self._runs[key] = real_heads(raw, self.artifact), record
        return self._runs[key]

    def record(self) -> TransformRecord | None:
        """Where the photo lies in the device's input, as far as is known."""
        if self.photo is not None:
            app = App.of(self.app.having(*INPUT_STEPS))
            key = ("record", _key(app, *INPUT_STEPS))
            if key not in self._records:
                self._records[key] = self.picture(app)[1]
            return self._records[key]
        if self.dump.transform is None:
            return None
        return letterbox(self.dump.transform.photo_wh, self.manifest.preprocessing.size_wh)

    def adopt(self, finding: Finding) -> None:
        """Later stages are judged for an app that has these faults."""
        known = [
            (FAULTS[c.name], FAULTS[c.name].variant(c.variant))
            for c in finding.causes
            if c.name in FAULTS and c.variant in {v.label for v in FAULTS[c.name].variants}
        ]
        self.app = App.of((*self.app.causes, *known))

    # Decoding.

    def decoder(self, app: App, complete: bool, fast: bool = True) -> DecodingReplay | None:
        """A decoder of the device's heads (``complete``), or of those the app's steps lead to."""
        key = (_key(app, *INPUT_STEPS, Step.NETWORK, Step.HEADS), complete, fast)
        if key not in self._decoders:
            if complete:
                heads, record = self.device_heads, self.record()
            else:
                ran, record = self.run(app, fast)
                heads = {**ran, **self.device_heads}
            if record is None:
                return None
            read = app.heads(HeadSet(self.dump.tensors, heads, self.artifact.outputs)).real
            grid = self.manifest.center_offset.grid
            self._decoders[key] = DecodingReplay(read, record, self.segmenter.taxonomy, grid)
        return self._decoders[key]

    @cached_property
    def told_channels(self) -> dict[int, int] | None:
        """Channel by segment id, as the dump's metadata tell; None if they do not."""
        text = self.dump.metadata.get("segments")
        if text is None:
            return None
        try:
            return {int(s["id"]): int(s["channel"]) for s in json.loads(text)}
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    @cached_property
    def device_map(self) -> tuple[NDArray[np.int32], dict[int, int] | None]:
        """The device's map with small ids from 0 (void), and its segments' channels if told."""
        ids = self.dump.tensors["panoptic"]
        values, index = np.unique(ids, return_inverse=True)
        offset = 0 if 0 in values else 1
        dense = (index.reshape(ids.shape) + offset).astype(np.int32)
        told = self.told_channels
        if told is None:
            return dense, None
        channels = {i + offset: told[int(v)] for i, v in enumerate(values) if int(v) in told}
        return dense, channels


def _key(app: App, *steps: Step) -> tuple[tuple[str, str], ...]:
    return tuple((fault.name, variant.label) for fault, variant in app.having(*steps))
