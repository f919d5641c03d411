"""Write docs/topics.json, of which the manual makes a page for each fault and lint rule, and a
picture of each fault.

    python scripts/make_topics.py              # both
    python scripts/make_topics.py --no-pictures
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit import Photo, Segmenter
from panokit._files import write_text
from panokit.samples import sample_photos
from panokit.topics import topics
from panokit_validation.effects import effect_of
from panokit_validation.faults import FAULTS, Fault
from panokit_validation.reference import ReferenceStages
from panokit_validation.simulate import Simulator

DOCS = Path(__file__).resolve().parent.parent / "docs"
SIDE = 140
OVERLAY = 0.55


def topics_text() -> str:
    """All topics as JSON."""
    return json.dumps([asdict(t) for t in topics()], indent=1, ensure_ascii=False) + "\n"


def picture(
    fault: Fault, simulator: Simulator, right: Any, photo: Photo, other: Photo
) -> Image.Image:
    """Above what the network was given, or the effect's picture, below what was found: on the left
    as it should be, on the right with the fault."""
    wrong = simulator.simulate(photo, [(fault, fault.variants[0])], other=other)
    if "portrait" in wrong.tensors:
        plain = simulator.simulate(photo, [])
        good = effect_of(ReferenceStages(plain, simulator.segmenter))
        rows = [[np.asarray(good), wrong.tensors["portrait"]]]
    else:
        rows = [
            [_input(d) for d in (right, wrong)],
            [_found(d, simulator.segmenter) for d in (right, wrong)],
        ]
    out = Image.new("RGB", (2 * SIDE + 6, len(rows) * (SIDE + 6) - 6), "white")
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            tile = Image.fromarray(pixels).convert("RGB")
            tile.thumbnail((SIDE, SIDE))
            out.paste(tile, (x * (SIDE + 6), y * (SIDE + 6)))
    return out


def _input(dump: Any) -> NDArray[np.uint8]:
    values = np.nan_to_num(dump.tensors["input"].astype(np.float32))
    values = values + 128 if values.min() < 0 <= 127 >= values.max() else values
    if values.ndim == 3 and values.shape[0] == 3:
        values = values.transpose(1, 2, 0)
    return np.asarray(np.clip(values, 0, 255).astype(np.uint8).reshape(-1, values.shape[-2], 3))


def _found(dump: Any, segmenter: Segmenter) -> NDArray[np.uint8]:
    """The device's map over the picture."""
    ids = dump.tensors["panoptic"].astype(np.int64)
    told = json.loads(dump.metadata["segments"])
    colors = np.full((int(max(ids.max(), 0)) + 1, 3), 60, np.float32)
    for segment in told:
        if 0 < segment["id"] < len(colors) and segment["channel"] is not None:
            category = segmenter.taxonomy.categories[segment["channel"] % len(segmenter.taxonomy)]
            colors[segment["id"]] = category.color
    back = _input(dump)
    painted = colors[np.clip(ids, 0, None)]
    if painted.shape[:2] != back.shape[:2]:
        small = Image.fromarray(painted.astype(np.uint8)).resize(back.shape[1::-1], 0)
        painted = np.asarray(small, np.float32)
    return np.asarray((OVERLAY * painted + (1 - OVERLAY) * back).astype(np.uint8))


def main() -> None:
    """Write the topics, and the pictures."""
    write_text(DOCS / "topics.json", topics_text())
    if "--no-pictures" in sys.argv[1:]:
        return
    folder = DOCS / "images" / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(Segmenter.open())
    photo, other = (Photo.open(sample_photos()[n]) for n in ("grace_hopper", "coffee"))
    right = simulator.simulate(photo, [])
    for name, fault in FAULTS.items():
        made = picture(fault, simulator, right, photo, other)
        made.save(folder / f"{name}.webp", quality=50, method=6)


if __name__ == "__main__":
    main()
