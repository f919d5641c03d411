"""One dump under examination: its stages in turn, each given the device's previous one."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from panokit.validation import evidence
from panokit.validation.device import Network, real_heads
from panokit.validation.diagnosis import Cause, DiagnosisConfig, Finding
from panokit.validation.faults.app import App
from panokit.validation.faults.bank import FAULTS
from panokit.validation.faults.decode import Decoder
from panokit.validation.faults.heads import HeadSet
from panokit.validation.faults.model import Step
from panokit.validation.ranking import Score, conclude, hypotheses
from panokit.validation.workbench import Workbench

__all__ = ["INPUT_STEPS", "Examination", "stale"]

FloatArray = NDArray[np.float32]
RealHeads = dict[str, FloatArray]
INPUT_STEPS = (Step.ORIENTATION, Step.COLOR, Step.LAYOUT, Step.TENSOR)
INPUT_FLOOR = (0.5 / 64) ** 2
"""Half an 8-bit step of a picture with a deviation of 64: rounding."""
SAME_SCENE, SAME_COLORS = 0.45, 0.7
"""Pictures below both show different things: two photos reach 0.4 and 0.6 by chance, a photo and
itself zoomed 0.5, turned by some degrees 0.8 of the colours."""
LARGE_PHOTO = 1_500_000
"""Photos of more pixels have their colours changed after the resize, which is quicker."""


class Examination:
    """Looks for the first cause at every stage of a dump."""

    def __init__(
        self,
        dump: Dump,
        segmenter: Segmenter,
        photo: Photo | None,
        config: DiagnosisConfig,
        others: Sequence[Photo] = (),
    ) -> None:
        self.dump, self.segmenter, self.config, self.others = dump, segmenter, config, others
        self.manifest = segmenter.bundle.manifest
        self.bench = Workbench.of(segmenter)
        self.photo = self._photo(photo)
        self.artifact = self._device_artifact()
        self.quantised = self.artifact.outputs["semantic"].scale is not None
        self.app = App()  # what is known of the device so far
        self._runs: dict[Any, tuple[RealHeads, TransformRecord | None]] = {}
        self._decoders: dict[Any, Decoder] = {}
        self._records: dict[Any, TransformRecord] = {}
        self._laid_out: dict[Any, tuple[NDArray[np.uint8], TransformRecord]] = {}

    def findings(self) -> list[Finding]:
        """What differs, in the order of the pipeline. Behind a stage that nothing explains,
        unexplained stages are not listed again."""
        found: list[Finding] = []
        for examine in (self._input, self._other_artifact, self._heads, self._panoptic):
            finding = examine(found)
            if finding is None:
                continue
            if any(c.name == "stale-photo" for c in finding.causes):
                return [*found, finding]  # what follows belongs to the other photo
            lost = any(c.name == "unknown" for f in found for c in f.causes)
            if not (lost and any(c.name == "unknown" for c in finding.causes)):
                found.append(finding)
        return found

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
    def _foreign(self) -> bool:
        sha = self.dump.metadata.get("artifact_sha256")
        return sha is not None and sha != self.segmenter.artifact.sha256

    def _device_artifact(self) -> Artifact:
        """The artifact that the device ran, if the bundle has it and it runs here."""
        if self._foreign:
            sha = self.dump.metadata["artifact_sha256"]
            for artifact in self._others_of_bundle():
                if artifact.sha256 == sha:
                    return artifact
        return self.segmenter.artifact

    def _others_of_bundle(self) -> list[Artifact]:
        own = self.segmenter.artifact
        return [
            a
            for a in self.manifest.artifacts
            if a.format == "tflite" and a.name != own.name and a.input.shape == own.input.shape
        ]

    def _network(self, artifact: Artifact | None = None, fast: bool = True) -> Network:
        return self.bench.network(self.segmenter, artifact or self.artifact, fast=fast)

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

    def _picture(
        self, app: App, photo: Photo | None = None, *, exact: bool = False
    ) -> tuple[FloatArray, TransformRecord]:
        """The values that an app feeds for the photo, and where it believes the photo to be.
        Unless ``exact``, a large photo's colours are changed when it has been made small."""
        photo = photo or self.photo
        if photo is None:
            raise DumpError(self.dump.path or "dump", "holds no photo to replay")
        pixels, size = photo.rgb_hwc, self.manifest.preprocessing.size_wh
        if exact or pixels.shape[0] * pixels.shape[1] <= LARGE_PHOTO:
            image, record = app.picture(pixels, size, photo.orientation)
            return app.values(image, self.artifact.input), record
        shape = App.of(app.having(Step.ORIENTATION, Step.LAYOUT))
        key = (id(photo), _key(shape, Step.ORIENTATION, Step.LAYOUT))
        if key not in self._laid_out:
            self._laid_out[key] = shape.picture(pixels, size, photo.orientation)
        image, record = self._laid_out[key]
        if app.having(Step.COLOR):
            image = image.copy()
            image[record.content_slices] = app.colored(image[record.content_slices])
        return app.values(image, self.artifact.input), record

    def _run(self, app: App, fast: bool = True) -> tuple[RealHeads, TransformRecord | None]:
        """The heads that the artifact gives on the app's input (the device's, if dumped)."""
        key = (_key(app, *INPUT_STEPS, Step.NETWORK), fast)
        if key not in self._runs:
            if self.values is not None:
                values, record = self.values, self._record()
            else:
                values, record = self._picture(app)
            raw = self._network(fast=fast).run(app.inside(values))
            self._runs[key] = real_heads(raw, self.artifact), record
        return self._runs[key]

    def _record(self) -> TransformRecord | None:
        """Where the photo lies in the device's input, as far as is known."""
        if self.photo is not None:
            app = App.of(self.app.having(*INPUT_STEPS))
            key = ("record", _key(app, *INPUT_STEPS))
            if key not in self._records:
                self._records[key] = self._picture(app)[1]
            return self._records[key]
        if self.dump.transform is None:
            return None
        return letterbox(self.dump.transform.photo_wh, self.manifest.preprocessing.size_wh)

    def _adopt(self, finding: Finding) -> None:
        """Later stages are judged for an app that has these faults."""
        known = [
            (FAULTS[c.name], FAULTS[c.name].variant(c.variant))
            for c in finding.causes
            if c.name in FAULTS and c.variant in {v.label for v in FAULTS[c.name].variants}
        ]
        self.app = App.of((*self.app.causes, *known))

    # The stages.

    def _input(self, found: list[Finding]) -> Finding | None:
        values, config = self.values, self.config
        if values is None or self.photo is None:
            return None
        expected = self._picture(App())[0]
        distance = np.abs(values - expected)
        if distance.max() <= config.input_max_abs and distance.mean() <= config.input_mean_abs:
            return None
        base = evidence.noise_to_signal(values, expected)
        large = self.photo.rgb_hwc.shape[0] * self.photo.rgb_hwc.shape[1] > LARGE_PHOTO

        def judge(app: App) -> Score:
            residual = evidence.noise_to_signal(values, self._picture(app)[0])
            if app.having(Step.COLOR) and large and residual < 0.5 * base:
                exactly = self._picture(app, exact=True)[0]
                residual = min(residual, evidence.noise_to_signal(values, exactly))
            return Score(residual, residual <= INPUT_FLOOR)

        for other in self.others:
            residual = evidence.noise_to_signal(values, self._picture(App(), other)[0])
            if residual <= INPUT_FLOOR:
                return stale("input", base, 1 - residual / base, other.name, certain=True)

        def unrelated() -> Finding | None:
            if not evidence.looks_like_a_photo(values):
                return None
            likeness = evidence.same_scene(values, expected)
            alike = evidence.same_colors(values, expected)
            if likeness >= SAME_SCENE or alike >= SAME_COLORS:
                return None
            return stale("input", base, 1 - likeness)

        singles = hypotheses(INPUT_STEPS, self.artifact.input.scale is not None)
        finding = conclude("input", base, singles, judge, config, config.explains, unrelated)
        self._adopt(finding)
        return finding

    def _other_artifact(self, found: list[Finding]) -> Finding | None:
        """The hash is a fact; how much it explains is measured where that can be replayed."""
        if not self._foreign:
            return None
        fault, own = FAULTS["other-artifact"], self.segmenter.artifact
        sha = self.dump.metadata["artifact_sha256"]
        known = self.artifact.name != own.name
        label = self.artifact.name if known else f"{sha[:12]}…"
        difference, explained = 0.0, 1.0
        values = self.values
        if values is None and self.photo is not None:
            values = self._picture(self.app)[0]
        if known and self.device_heads and values is not None:
            expected = real_heads(self._network(own).run(values), own)
            difference = _mean(evidence.head_noise(self.device_heads, expected))
            replayed = self._run(self.app)[0]
            left = _mean(evidence.head_noise(self.device_heads, replayed))
            explained = max(0.0, 1 - left / difference) if difference else 1.0
        cause = Cause(
            fault.name, "heads", fault.title, fault.advice, explained, label, certain=True
        )
        return Finding("heads", difference, (cause,))

    def _heads(self, found: list[Finding]) -> Finding | None:
        from panokit.validation.head_examination import examine_heads

        if not self.device_heads or (self.values is None and self.photo is None):
            return None
        if self._foreign and self.artifact.name == self.segmenter.artifact.name:
            return None  # another file that cannot be replayed; the hash says so
        finding = examine_heads(self)
        if finding is not None:
            self._adopt(finding)
        return finding

    def _panoptic(self, found: list[Finding]) -> Finding | None:
        from panokit.validation.map_examination import examine_map

        if "panoptic" not in self.dump.tensors:
            return None
        complete = len(self.device_heads) == len(HEADS)
        replayable = self.values is not None or self.photo is not None
        if not complete and (
            not replayable or (self._foreign and self.artifact.name == self.segmenter.artifact.name)
        ):
            return None
        return examine_map(self, complete)

    # Decoding.

    def decoder(self, app: App, complete: bool, fast: bool = True) -> Decoder | None:
        """A decoder of the device's heads (``complete``), or of those the app's steps lead to."""
        key = (_key(app, *INPUT_STEPS, Step.NETWORK, Step.HEADS), complete, fast)
        if key not in self._decoders:
            if complete:
                heads, record = self.device_heads, self._record()
            else:
                ran, record = self._run(app, fast)
                heads = {**ran, **self.device_heads}
            if record is None:
                return None
            read = app.heads(HeadSet(self.dump.tensors, heads, self.artifact.outputs)).real
            self._decoders[key] = Decoder(read, record, self.segmenter.taxonomy)
        return self._decoders[key]

    @cached_property
    def device_map(self) -> tuple[NDArray[np.int32], dict[int, int] | None]:
        """The device's map with small ids from 0 (void), and its segments' channels if told."""
        ids = self.dump.tensors["panoptic"]
        values, index = np.unique(ids, return_inverse=True)
        offset = 0 if 0 in values else 1
        dense = (index.reshape(ids.shape) + offset).astype(np.int32)
        text = self.dump.metadata.get("segments")
        if text is None:
            return dense, None
        try:
            told = {int(s["id"]): int(s["channel"]) for s in json.loads(text)}
        except (ValueError, TypeError, KeyError, RecursionError):
            return dense, None
        channels = {i + offset: told[int(v)] for i, v in enumerate(values) if int(v) in told}
        return dense, channels


def _key(app: App, *steps: Step) -> tuple[tuple[str, str], ...]:
    return tuple((fault.name, variant.label) for fault, variant in app.having(*steps))


def _mean(noise: dict[str, float]) -> float:
    return sum(noise.values()) / max(1, len(noise))


def stale(
    stage: str, base: float, explained: float, name: str = "", *, certain: bool = False
) -> Finding:
    """The finding that a stage belongs to another photo (``name``, if that is known)."""
    fault = FAULTS["stale-photo"]
    cause = Cause(fault.name, stage, fault.title, fault.advice, explained, name, certain=certain)
    return Finding(stage, base, (cause,))
