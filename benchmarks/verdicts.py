"""Does the validator tell right from wrong? Thousands of wrong maps over right heads, and as many
clean dumps.

    python -m benchmarks.verdicts PHOTO… [--bundle DIR]… [--wrong 2000] [--clean 2000]

A wrong map counts where it changes the class of more than 1 % of the pixels, or more than 5 % of a
segment: it must fail. Clean dumps (threads, other kernels, half precision; with all stages, with
heads and map, with the map alone) must pass.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.wrong_maps import WrongMap, wrong_maps
from panokit import Photo, Segmenter, postprocess
from panokit.dump import STAGES, Dump, dump_stages, read_dump
from panokit.photo import photo_paths
from panokit.runtime import heads_from_raw
from panokit_validation import validate_dump
from panokit_validation.device import DeviceNoise
from panokit_validation.simulate import Simulator
from panokit_validation.verdict import PhotoVerdict, Verdict

MIN_CLASSES, MIN_GROUPING = 0.01, 0.05

NOISES = (
    DeviceNoise(1), DeviceNoise(4), DeviceNoise(1, xnnpack=False), DeviceNoise(1, fp16=True),
)  # fmt: skip
KEPT = {
    "all stages": STAGES,
    "heads and map": ("photo", "semantic", "center", "offset", "panoptic"),
    "map alone": ("photo", "panoptic"),
}


@dataclass
class Tally:
    """Dumps by kind, and those that came out wrong."""

    seen: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    explained: dict[str, float] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, bad: bool, verdict: PhotoVerdict, **facts: Any) -> None:
        """Count one dump."""
        map_ = next(s for s in verdict.stages if s.stage == "panoptic").figures
        share = map_.get("tie_pixels", 0.0) + map_.get("rounding_pixels", 0.0)
        self.explained[kind] = max(share, self.explained.get(kind, 0.0))
        self.seen[kind] += 1
        self.bad[kind] += bad
        if bad:
            self.examples.append({"kind": kind, **facts})

    def to_json(self) -> dict[str, Any]:
        """Counts and every dump that came out wrong."""
        return {
            "kinds": {
                k: {"dumps": n, "wrong": self.bad[k], "most_explained": self.explained[k]}
                for k, n in self.seen.items()
            },
            "dumps": self.seen.total(),
            "wrong": self.bad.total(),
            "examples": self.examples,
        }


def spoilt(dump: Dump, wrong: WrongMap) -> Dump:
    """A dump with a wrong map."""
    segments = [{"id": i, "channel": c} for i, c in wrong.map.classes.items()]
    metadata = {**dump.metadata, "segments": json.dumps(segments)}
    return Dump({**dump.tensors, "panoptic": wrong.map.ids}, metadata, dump.transform)


def opened(bundles: list[Path | None], precisions: set[str]) -> Iterator[Segmenter]:
    """A segmenter of each TFLite artifact of each bundle."""
    for bundle in bundles:
        first = Segmenter.open(bundle, threads=1)
        for artifact in first.bundle.manifest.artifacts:
            if artifact.format == "tflite" and artifact.precision in precisions:
                yield Segmenter.open(bundle, artifact.name, threads=1)


def measure_wrong(
    segmenter: Segmenter, photo: Photo, tally: Tally, seed: int, each: int, keep: tuple[str, ...]
) -> None:
    """Judge the wrong maps of one photo."""
    stages = segmenter.stages(photo)
    right = dump_stages(stages, segmenter.artifact, segmenter.runtime.name)
    right = Dump({k: v for k, v in right.tensors.items() if k in keep}, right.metadata)
    heads = heads_from_raw(stages.raw, segmenter.artifact)
    config = segmenter.bundle.manifest.center_offset
    made = wrong_maps(heads, segmenter.taxonomy, stages.transform, config, seed, each)
    for wrong in made:
        change = wrong.change
        if change.classes <= MIN_CLASSES and change.grouping <= MIN_GROUPING:
            continue
        verdict = validate_dump(spoilt(right, wrong), segmenter)
        map_ = next(s for s in verdict.stages if s.stage == "panoptic")
        tally.add(
            f"{segmenter.artifact.precision}, {wrong.kind}",
            verdict.verdict is not Verdict.FAIL, verdict,
            photo=photo.name, classes=round(change.classes, 4),
            grouping=round(change.grouping, 4), message=map_.message,
            turned=map_.figures.get("turned"),
        )  # fmt: skip


def own_letterbox(rgb: np.ndarray[Any, Any], size_wh: tuple[int, int]) -> np.ndarray[Any, Any]:
    """An app's own letterbox: a triangle filter in float64, rounded once."""
    (w_in, h_in), (h, w) = size_wh, rgb.shape[:2]
    scale = min(w_in / w, h_in / h)
    new_w, new_h = max(1, int(w * scale + 0.5)), max(1, int(h * scale + 0.5))
    small = np.tensordot(_taps(h, new_h), rgb.astype(np.float64), (1, 0))
    small = np.tensordot(_taps(w, new_w), small, (1, 1)).transpose(1, 0, 2)
    out = np.zeros((h_in, w_in, 3), np.uint8)
    top, left = (h_in - new_h) // 2, (w_in - new_w) // 2
    out[top : top + new_h, left : left + new_w] = np.clip(np.round(small), 0, 255)
    return out


def _taps(n_in: int, n_out: int) -> np.ndarray[Any, Any]:
    step = n_in / n_out
    at = (np.arange(n_out)[:, None] + 0.5) * step
    weights = np.maximum(0, 1 - np.abs(np.arange(n_in)[None] + 0.5 - at) / max(step, 1))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def measure_own_letterbox(segmenter: Segmenter, photo: Photo, tally: Tally) -> None:
    """Judge dumps of an app that resizes by itself."""
    stages = segmenter.stages(photo)
    image = own_letterbox(photo.rgb_hwc, segmenter.bundle.manifest.preprocessing.size_wh)
    raw = segmenter.runtime.run(image)
    heads = heads_from_raw(raw, segmenter.artifact)
    config = segmenter.bundle.manifest.center_offset
    map_ = postprocess(heads, segmenter.taxonomy, stages.transform, config)
    whole = dump_stages(
        replace(stages, input_hwc=image, raw=raw, panoptic=map_), segmenter.artifact, "litert"
    )
    for name, kept in KEPT.items():
        if name == "heads and map":  # without the input its heads are another photo's
            continue
        dump = Dump({k: v for k, v in whole.tensors.items() if k in kept}, whole.metadata)
        verdict = validate_dump(dump, segmenter)
        bad = next((s for s in verdict.stages if s.verdict is Verdict.FAIL), None)
        tally.add(
            f"{segmenter.artifact.precision}, own letterbox, {name}", bad is not None, verdict,
            photo=photo.name, stage=bad and bad.stage, message=bad and bad.message,
        )  # fmt: skip


def measure_clean(
    segmenter: Segmenter, photo: Photo, tally: Tally, makers: list[Simulator]
) -> None:
    """Judge the clean dumps of one photo."""
    for maker in makers:
        whole = maker.simulate(photo)
        for name, kept in KEPT.items():
            dump = Dump({k: v for k, v in whole.tensors.items() if k in kept}, whole.metadata)
            verdict = validate_dump(dump, segmenter)
            failed = verdict.verdict is Verdict.FAIL
            bad = next((s for s in verdict.stages if s.verdict is Verdict.FAIL), None)
            tally.add(
                f"{segmenter.artifact.precision}, {maker.noise.label}, {name}", failed, verdict,
                photo=photo.name, stage=bad and bad.stage, message=bad and bad.message,
            )  # fmt: skip


def measure_devices(segmenter: Segmenter, folder: Path, tally: Tally) -> None:
    """Judge dumps that a device wrote with this artifact."""
    for path in sorted(folder.rglob("*.safetensors")):
        whole = read_dump(path)
        if whole.metadata.get("artifact_sha256") != segmenter.artifact.sha256:
            continue
        for name, kept in KEPT.items():
            dump = replace(whole, tensors={k: v for k, v in whole.tensors.items() if k in kept})
            verdict = validate_dump(dump, segmenter)
            bad = next((s for s in verdict.stages if s.verdict is Verdict.FAIL), None)
            device = whole.metadata.get("device", "device")
            tally.add(
                f"{segmenter.artifact.precision}, {device}, {name}", bad is not None, verdict,
                photo=whole.name, stage=bad and bad.stage, message=bad and bad.message,
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--bundle", action="append", type=Path)
    parser.add_argument("--each", type=int, default=1, help="wrong maps of each kind a photo")
    parser.add_argument("--limit", type=int, default=40, help="photos at most")
    parser.add_argument("--map-alone", action="store_true", help="wrong maps without heads")
    parser.add_argument("--no-clean", action="store_true")
    parser.add_argument("--no-wrong", action="store_true")
    parser.add_argument("--device-dumps", type=Path, help="dumps of other machines")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = list(photo_paths(args.photos).values())
    chosen = [
        paths[i] for i in np.linspace(0, len(paths) - 1, min(args.limit, len(paths))).astype(int)
    ]
    wrong, clean = Tally(), Tally()
    keep = KEPT["map alone"] if args.map_alone else KEPT["all stages"]
    started = time.perf_counter()
    for segmenter in opened(args.bundle or [None], {"float32", "float16", "int8"}):
        if args.device_dumps:
            measure_devices(segmenter, args.device_dumps, clean)
        makers = [Simulator(segmenter, noise) for noise in NOISES]
        for number, path in enumerate(chosen):
            photo = Photo.open(path)
            if not args.no_wrong:
                measure_wrong(segmenter, photo, wrong, number, args.each, keep)
            if not args.no_clean:
                measure_clean(segmenter, photo, clean, makers)
                measure_own_letterbox(segmenter, photo, clean)
            print(
                f"\r{segmenter.artifact.name} {number + 1}/{len(chosen)}", end="", file=sys.stderr
            )
    print(file=sys.stderr)
    data = {"wrong_maps": wrong.to_json(), "clean": clean.to_json(),
            "seconds": round(time.perf_counter() - started)}  # fmt: skip
    for name, tally in (("wrong maps that pass", wrong), ("clean dumps that fail", clean)):
        print(f"{name}: {tally.bad.total()} of {tally.seen.total()}")
        for kind, count in sorted(tally.seen.items()):
            print(f"  {tally.bad[kind]:4d} of {count:5d}  {tally.explained[kind]:7.2%}  {kind}")
    if args.json:
        args.json.write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
