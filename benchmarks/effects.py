"""Effects on 12 megapixels and on a preview of 1 megapixel: time and peak memory.

    python -m benchmarks.effects

Each effect runs in a process of its own on a synthetic scene (see benchmarks/synthetic.py) enlarged
to the size, so that the peak is that effect's: imports, photo and result included.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from benchmarks.peak_memory import peak_memory
from panokit import PanopticResult, Photo
from panokit.effects import (
    BlurBackground,
    Edit,
    Fill,
    Highlight,
    Lift,
    Pick,
    Pixelate,
    Recolor,
    Remove,
    ReplaceBackground,
)
from panokit.preprocessing import letterbox

SIZES = {"12 MP": (3000, 4000), "1 MP": (866, 1155)}
RUNS = 5
FIGURE = Pick(segment=1)
EDITS: dict[str, Edit] = {
    "blur_background": BlurBackground(FIGURE, strength=0.5),
    "remove": Remove(FIGURE),
    "lift": Lift(FIGURE),
    "recolor": Recolor(FIGURE),
    "pixelate": Pixelate(FIGURE),
    "highlight": Highlight(FIGURE),
    "replace_background": ReplaceBackground(Fill(gradient=("#203060", "#e0d0c0")), FIGURE),
}
LIMITS = {
    ("blur_background", "12 MP"): 2.5,
    ("remove", "12 MP"): 3.0,
    ("blur_background", "1 MP"): 0.2,
}
"""Seconds asked for, on two cores."""


def scene(size_wh: tuple[int, int]) -> tuple[Photo, PanopticResult]:
    """A figure that fills a quarter of the photo, enlarged, with fresh noise."""
    from benchmarks.synthetic import scenes

    made = scenes(range(1, 2))[0]
    rgb = np.asarray(Image.fromarray(made.photo.rgb_hwc).resize(size_wh))
    ids = Image.fromarray(made.result.id_map.astype(np.uint8)).resize(size_wh, 0)
    rng = np.random.default_rng(0)
    noise = rng.integers(-6, 7, rgb.shape, dtype=np.int8)
    rgb = np.clip(rgb.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    photo = Photo.from_array(rgb)
    id_map = np.asarray(ids).astype(np.int32)
    segments, taxonomy = made.result.segments, made.result.taxonomy
    transform = letterbox(size_wh, (320, 320))
    return photo, PanopticResult(photo, id_map, segments, taxonomy, transform)


def run(name: str, size: str) -> dict[str, float]:
    """Median seconds of one effect and the peak of this process in MiB."""
    photo, result = scene(SIZES[size])
    edit = EDITS[name]
    seconds, busy = [], []
    for _ in range(RUNS):
        started, worked = time.perf_counter(), time.process_time()
        edit.apply(photo, result)
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - worked)
    peak = peak_memory() / 2**20
    share = float((result.id_map == 1).mean())
    figures = {"seconds": statistics.median(seconds), "cpu": statistics.median(busy)}
    return {**figures, "mib": peak, "share": share}


def main() -> None:
    """Print a line an effect and size."""
    if len(sys.argv) == 3:
        print(json.dumps(run(*sys.argv[1:])))
        return
    for size in SIZES:
        for name in EDITS:
            command = [sys.executable, "-m", "benchmarks.effects", name, size]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            limit = LIMITS.get((name, size))
            note = "" if limit is None else f"  (asked: {limit} s)"
            print(
                f"{size:6} {name:20} {found['seconds']:6.3f} s (processor {found['cpu']:6.3f} s)  "
                f"peak {found['mib']:5.0f} MiB{note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
