"""Where the time of one photo goes with the shipped bundle: medians over the sample photos."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from panokit import Photo, Segmenter, postprocess, preprocess
from panokit.runtime import heads_from_raw
from panokit.samples import sample_photos


def milliseconds(call: Callable[[], Any], runs: int = 15) -> float:
    """Median time of a call."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def main() -> None:
    """Print milliseconds and shares."""
    segmenter = Segmenter.open(threads=1)
    config = segmenter.bundle.manifest.center_offset
    for name, path in sample_photos().items():
        photo = Photo.open(path)
        image, transform = preprocess(photo, segmenter.bundle.manifest.preprocessing)
        raw = segmenter.runtime.run(image)
        heads = heads_from_raw(raw, segmenter.artifact)
        found = {
            "decode file": milliseconds(partial(Photo.open, path)),
            "preprocess": milliseconds(partial(preprocess, photo)),
            "network": milliseconds(partial(segmenter.runtime.run, image)),
            "postprocess": milliseconds(
                partial(postprocess, heads, segmenter.taxonomy, transform, config)
            ),
        }
        total = sum(found.values())
        parts = ", ".join(f"{k} {v:.1f} ms ({v / total:.0%})" for k, v in found.items())
        print(f"{name}: {parts}")
