"""Judging dumps: milliseconds a dump on one core, and the memory of a run of a thousand."""

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

from panokit import Photo, Segmenter, postprocess, read_dump, write_dump
from panokit.dump import Dump, dump_stages
from panokit.runtime import heads_from_raw
from panokit.samples import sample_photos
from panokit_validation import validate_dump

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
        many_dumps(paths, folder)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    main()
