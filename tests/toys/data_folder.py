"""A tiny COCO-panoptic folder, made on the spot: coloured shapes on a sky."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = [
    {"id": 1, "name": "disc", "isthing": 1, "color": [255, 0, 0]},
    {"id": 2, "name": "square", "isthing": 1, "color": [0, 255, 0]},
    {"id": 3, "name": "sky", "isthing": 0, "color": [0, 0, 255]},
]


def make_folder(root: Path, split: str = "toy_train", photos: int = 12, seed: int = 0) -> Path:
    """Write ``photos`` photos of 96 × 64 with one disc and one square each."""
    rng = np.random.default_rng(seed)
    for name in ("annotations", f"images/{split}", f"panoptic/{split}"):
        (root / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    yy, xx = np.mgrid[:64, :96]
    for i in range(photos):
        ids = np.full((64, 96), 3)
        cy, cx, r = int(rng.integers(18, 46)), int(rng.integers(18, 30)), int(rng.integers(9, 15))
        ids[(yy - cy) ** 2 + (xx - cx) ** 2 <= r * r] = 1
        y0, x0, a = int(rng.integers(4, 30)), int(rng.integers(52, 66)), int(rng.integers(14, 26))
        ids[y0 : y0 + a, x0 : x0 + a] = 2
        colors = np.array([[0, 0, 0], [200, 40, 40], [40, 190, 60], [90, 140, 220]])
        noise = rng.integers(-20, 20, (64, 96, 3))
        pixels = np.clip(colors[ids] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / split / f"{i}.png")
        rgb = np.stack([ids, ids * 0, ids * 0], -1).astype(np.uint8)
        Image.fromarray(rgb).save(root / "panoptic" / split / f"{i}.png")
        name = f"{split}/{i}.png"
        images.append({"id": i, "file_name": name, "width": 96, "height": 64, "source": "toy"})
        segments = [{"id": k, "category_id": k, "area": 1, "iscrowd": 0} for k in (1, 2, 3)]
        annotations.append({"image_id": i, "file_name": name, "segments_info": segments})
    data = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(data))
    return root
