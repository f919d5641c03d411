"""Judging dumps: milliseconds a dump on one core, with and without looking for causes, and time and
memory of a run of a thousand."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from panokit import Photo, Segmenter, postprocess, read_dump, write_dump
from panokit.dump import STAGES, Dump, dump_stages
from panokit.runtime import heads_from_raw
from panokit.samples import sample_photos
from panokit_validation import validate_dump
from panokit_validation.device import DeviceNoise
from panokit_validation.faults import FAULTS
from panokit_validation.simulate import Simulator
from panokit_validation.verdict import Verdict

DUMPS = 1000
RUNS = 9

# The child pins itself to one core, runs the program and tells its peak memory.
CHILD = """
import os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from benchmarks.peak_memory import peak_memory
from panokit.cli import main
started = time.perf_counter()
try:
    main()
except SystemExit:
    pass
print("measured", time.perf_counter() - started, peak_memory(), file=sys.stderr)
"""


def blue_for_red(dump: Dump, segmenter: Segmenter) -> Dump:
    """What a device gives that takes BGR for RGB: every stage after the photo differs."""
    image = dump.tensors["input"][..., ::-1].copy()
    raw = segmenter.runtime.run(image)
    heads = heads_from_raw(raw, segmenter.artifact)
    config = segmenter.bundle.manifest.center_offset
    if dump.transform is None:
        raise ValueError("the dump was not made here")
    map_ = postprocess(heads, segmenter.taxonomy, dump.transform, config)
    segments = json.dumps([{"id": s.id, "channel": s.channel} for s in map_.segments])
    tensors = {**dump.tensors, "input": image, **raw, "panoptic": map_.ids}
    return replace(dump, tensors=tensors, metadata={**dump.metadata, "segments": segments})


def write_dumps(folder: Path) -> list[Path]:
    """A good and a faulty dump of every sample photo."""
    segmenter = Segmenter.open(threads=1)
    paths = []
    for name, path in sample_photos().items():
        stages = segmenter.stages(Photo.open(path))
        good = dump_stages(stages, segmenter.artifact, segmenter.runtime.name)
        paths.append(write_dump(good, folder / f"{name}.safetensors"))
        bad = blue_for_red(good, segmenter)
        paths.append(write_dump(bad, folder / f"{name}-bgr.safetensors"))
    return paths


def one_dump(paths: list[Path]) -> None:
    """Print the median wall and processor time of reading and judging each dump."""
    segmenter = Segmenter.open(threads=1)
    for path in paths:
        wall, processor = [], []
        for _ in range(RUNS):
            started = time.perf_counter(), time.process_time()
            verdict = validate_dump(read_dump(path), segmenter)
            wall.append(time.perf_counter() - started[0])
            processor.append(time.process_time() - started[1])
        print(
            f"{path.stem}: {verdict.verdict.value}, {1e3 * statistics.median(wall):.0f} ms "
            f"({1e3 * statistics.median(processor):.0f} ms of processor time)"
        )


FAULTY = ("bgr", "stretched", "jpeg-first", "shift-one-pixel", "head-nchw", "offset-swapped",
          "threshold", "map-turned")  # fmt: skip
KEPT = {"all stages": STAGES, "photo and map alone": ("photo", "panoptic")}


def faulty_dumps(segmenter: Segmenter) -> dict[str, Dump]:
    """A dump of each fault, the sample photos taking turns; and one that nothing explains."""
    photos = [Photo.open(p) for p in sample_photos().values()]
    maker = Simulator(segmenter, DeviceNoise(1))
    made = {
        name: maker.simulate(photos[i % len(photos)], [(FAULTS[name], FAULTS[name].variants[0])])
        for i, name in enumerate(FAULTY)
    }
    whole = maker.simulate(photos[0])
    torn = whole.tensors["panoptic"].copy()
    torn[::3] = np.roll(torn[::3], 40, axis=1)
    made["unknown"] = replace(whole, tensors={**whole.tensors, "panoptic": torn})
    return made


def causes(segmenter: Segmenter, dumps: dict[str, Dump]) -> None:
    """Print the processor time of judging a failing dump and finding its cause, in a run."""
    for view, kept in KEPT.items():
        times = {}
        for name, whole in dumps.items():
            dump = replace(whole, tensors={k: v for k, v in whole.tensors.items() if k in kept})
            started = time.process_time()
            verdict = validate_dump(dump, segmenter, diagnose=True)
            if verdict.verdict is Verdict.FAIL:
                times[name] = time.process_time() - started
        slowest = max(times, key=lambda n: times[n])
        print(
            f"cause of a failing dump, {view}: median {statistics.median(times.values()):.2f} s, "
            f"at most {times[slowest]:.2f} s ({slowest}) of processor time"
        )


def a_fifth_fails(dumps: dict[str, Dump], good: Path, folder: Path, count: int = DUMPS) -> None:
    """Print the time of `panokit validate` over ``count`` dumps of which a fifth fail, with causes,
    in two processes."""
    run = folder / "mixed"
    run.mkdir()
    bad = [write_dump(d, folder / f"bad-{i}.safetensors") for i, d in enumerate(dumps.values())]
    for i in range(count):
        os.link(bad[i // 5 % len(bad)] if i % 5 == 0 else good, run / f"{i:05}.safetensors")
    started = time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).with_name("panokit")), "validate", str(run), "--jobs", "2",
         "--json", str(folder / "mixed.json")], capture_output=True, check=False,
    )  # fmt: skip
    counts = json.loads((folder / "mixed.json").read_text(encoding="utf-8"))["counts"]
    print(
        f"{count} dumps with causes, two processes: {time.perf_counter() - started:.0f} s, {counts}"
    )


def many_dumps(paths: list[Path], folder: Path, count: int = DUMPS) -> None:
    """Print time and peak memory of `panokit validate` over ``count`` dumps, on one core."""
    run = folder / "run"
    run.mkdir()
    for i in range(count):
        os.link(paths[i % len(paths)], run / f"{i:05}.safetensors")
    arguments = ["validate", str(run), "--no-diagnose", "--json", str(folder / "r.json"),
        "--junit", str(folder / "r.xml"), "--state", str(folder / "s.jsonl")]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=False
    )
    measured = [line for line in done.stderr.splitlines() if line.startswith("measured")]
    if not measured:
        raise RuntimeError(done.stderr)
    _, seconds, peak = measured[0].split()
    judged = len(json.loads((folder / "r.json").read_text(encoding="utf-8"))["photos"])
    mb = int(peak) / 2**20
    print(
        f"{judged} dumps: {float(seconds):.1f} s, {1e3 * float(seconds) / judged:.0f} ms each, "
        f"at most {mb:.0f} MB"
    )


def main() -> None:
    """Print both."""
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_dumps(folder)
        one_dump(paths)
        segmenter = Segmenter.open(threads=1)
        dumps = faulty_dumps(segmenter)
        causes(segmenter, dumps)
        many_dumps(paths, folder)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        a_fifth_fails(dumps, paths[0], folder)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    main()
