"""A device farm in a function: dumps of a device whose app makes chosen mistakes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._text import encodable
from panokit.bundle import Artifact
from panokit.dump import STAGES, Dump
from panokit.dump.model import mend
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit_validation.device import Device, DeviceNoise, RawHeads, real_heads
from panokit_validation.effects import PORTRAIT, effect_of
from panokit_validation.faults.app import App
from panokit_validation.faults.decode import DecodingReplay
from panokit_validation.faults.heads import HeadSet
from panokit_validation.faults.model import Fault, Step, Variant
from panokit_validation.reference import ReferenceStages

__all__ = ["Simulator"]

FloatArray = NDArray[np.float32]
_TAGS = (6, 3, 8)  # the orientations that phones write
_NO_SHA = "0" * 64


class Simulator:
    """Makes dumps as a device would whose app has the given faults.

    One of the bundle's TFLite artifacts is run with the runtime's threads and kernels that
    ``noise`` asks for. Networks are opened once.
    """

    def __init__(self, segmenter: Segmenter, noise: DeviceNoise | None = None) -> None:
        self.segmenter = segmenter
        self.noise = noise or DeviceNoise()
        self.device = Device(segmenter, noise=self.noise)
        self._others: dict[str, Device] = {}

    def simulate(
        self,
        photo: Photo,
        faults: Sequence[tuple[Fault, Variant]] = (),
        *,
        other: Photo | None = None,
        stages: Sequence[str] = STAGES,
    ) -> Dump:
        """The dump of one photo.

        ``other`` is the photo that a stale result belongs to. ``stages`` are the tensors to keep.
        A photo without an orientation tag gets one where the fault is to ignore it: its pixels are
        then what the right reader makes of such a file. Random numbers follow from the photo's
        name.
        """
        app = App.of(faults)
        names = [f.name for f, _ in app.causes]
        seed = zlib.crc32(encodable(photo.name).encode())
        if "exif-ignored" in names and photo.orientation == 1:
            photo = replace(photo, orientation=_TAGS[seed % len(_TAGS)])
        size = self.segmenter.bundle.manifest.preprocessing.size_wh
        source, buffers = self._sources(app, photo, other)
        artifact, network, sha = self._artifact(app)
        image, record = app.picture(source.rgb_hwc, size, source.orientation)
        values = app.values(image, artifact.input)
        fed = values
        if buffers is not source:
            fed = app.values(app.picture(buffers.rgb_hwc, size)[0], artifact.input)
        raw = network.run(app.inside(fed), seed)
        heads = HeadSet(raw, real_heads(raw, artifact), artifact.outputs)
        if sha == _NO_SHA:
            heads = replace(heads, real=_retrained(heads, seed))
        read = app.heads(heads)
        plan = app.decoding(self.segmenter.bundle.manifest.center_offset)
        grid = self.segmenter.bundle.manifest.center_offset.grid
        regions = DecodingReplay(read.real, record, self.segmenter.taxonomy, grid).decode(plan)
        changed = read is not heads or sha == _NO_SHA
        tensors: dict[str, NDArray[Any]] = {
            "photo": photo.rgb_hwc,
            "input": _stored(values),
            **(self._dumped(read.real) if changed else raw),
            "panoptic": regions.ids,
        }
        metadata = {
            "artifact": self.segmenter.artifact.name,
            "artifact_sha256": sha,
            "runtime": "litert",
            "delegate": "xnnpack" if self.noise.xnnpack else "none",
            "device": f"simulated ({self.noise.label})",
            "photo": photo.name,
            "segments": json.dumps([{"id": i, "channel": c} for i, c in regions.channels.items()]),
        }
        record = replace(record, orientation=photo.orientation, color=photo.color)
        kept = {k: v for k, v in tensors.items() if k in stages}
        if app.having(Step.EFFECT):
            kept[PORTRAIT] = self._portrait(app, Dump(tensors, metadata, record))
        usable, defects = mend(kept)
        return Dump(usable, metadata, record, defects=defects)

    def _portrait(self, app: App, dump: Dump) -> NDArray[np.uint8]:
        """The portrait picture of an app that makes mistakes in it."""
        reference = ReferenceStages(dump, self.segmenter)
        picture = app.effect(lambda **settings: effect_of(reference, **settings))
        if picture is None:
            raise ArgumentError("photos", "no portrait can be made of this photo")
        return picture

    def _sources(self, app: App, photo: Photo, other: Photo | None) -> tuple[Photo, Photo]:
        """The photos that the input and the output buffers belong to."""
        stale = app.having(Step.PHOTO)
        if not stale:
            return photo, photo
        if other is None:
            raise ArgumentError(
                "photos", "one photo is given; expected at least two where one result is another's"
            )
        return (other, other) if stale[0][1].label == "frame" else (photo, other)

    def _artifact(self, app: App) -> tuple[Artifact, Device, str]:
        """The artifact that runs. A bundle without another one is given heads of a network
        trained again (noise that is smooth over the picture), under a hash of zeros."""
        own = self.segmenter.artifact
        if not app.having(Step.ARTIFACT):
            return own, self.device, own.sha256
        for artifact in self.segmenter.bundle.manifest.artifacts:
            runs = artifact.format == "tflite" and artifact.input.shape == own.input.shape
            if runs and artifact.name != own.name:
                if artifact.name not in self._others:
                    self._others[artifact.name] = Device(self.segmenter, artifact, self.noise)
                return artifact, self._others[artifact.name], artifact.sha256
        return own, self.device, _NO_SHA

    def _dumped(self, real: Mapping[str, FloatArray]) -> RawHeads:
        kind = np.float16 if self.noise.fp16 else np.float32
        return {n: np.ascontiguousarray(v.astype(kind)) for n, v in real.items()}


def _stored(values: FloatArray) -> NDArray[Any]:
    """Whole numbers 0..255 as bytes, others as floats."""
    whole = values.min() >= 0 and values.max() <= 255 and bool((values == np.round(values)).all())
    return values.astype(np.uint8) if whole else values


def _retrained(heads: HeadSet, seed: int) -> dict[str, FloatArray]:
    rng = np.random.default_rng(seed)
    out = {}
    for name, values in heads.real.items():
        h, w, c = values.shape
        coarse = rng.normal(0, 0.5 * values.std(), (-(-h // 8), -(-w // 8), c))
        smooth = np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:h, :w]
        out[name] = (values + smooth).astype(np.float32)
    return out
