"""Removing objects where the background is known, beside OpenCV's two inpainters.

    python -m benchmarks.remove_quality

Thirty-six scenes: photos that come with packages and drawn patterns, a drawn object on each with a
soft rim, and a shadow on two thirds of them. The mask is what a network would give: the object on a
grid of 80 cells, without its shadow. Error: mean absolute difference in sRGB codes from the true
background, over what the object, its rim and its shadow changed; structure: mean SSIM of the box
around that; texture: how far the fine detail there is from the true background's, in powers of two
of the mean Laplacian (0: as rough as it should be; a blur has little error and the wrong texture).
Masks and margins are the same for all; only ours looks for the shadow.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit.decoding import DecodedSegment, PanopticMap
from panokit.effects import Pick, Remove
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult
from panokit.taxonomy import Category, Taxonomy

SIDE = 480
CELLS = 80
TUNED, REPORTED = range(100, 118), range(36)
"""Scenes that parameters were chosen on, and those of the table."""

TAXONOMY = Taxonomy("toy", (Category(1, "object", True, (255, 0, 0)),))
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """A picture with an object, the true background, and the network's result. ``changed``: where
    object, rim and shadow lie."""

    name: str
    photo: Photo
    background: Pixels
    result: PanopticResult
    changed: NDArray[np.bool_]


def backgrounds() -> dict[str, Pixels]:
    """Pictures without people, of one size."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    photos = {
        "coffee": data.coffee(), "rocket": data.rocket(), "brick": data.brick(),
        "grass": data.grass(), "gravel": data.gravel(), "retina": data.retina(),
        "moon": data.moon(), "ihc": data.immunohistochemistry(),
        "motorcycle": data.stereo_motorcycle()[0],
        "china": load_sample_images().images[0], "flower": load_sample_images().images[1],
    }  # fmt: skip
    found = {name: _square(picture) for name, picture in photos.items()}
    ys, xs = np.mgrid[:SIDE, :SIDE] / SIDE
    slope = np.stack([120 + 90 * ys, 150 + 40 * xs, 200 - 80 * ys], -1)
    stripes = np.stack([160 + 60 * np.sign(np.sin(40 * (xs + 0.4 * ys)))] * 3, -1)
    planks = np.stack([150 + 25 * ((ys * 9) % 1 < 0.08) * -3 + 12 * np.sin(60 * xs)] * 3, -1)
    tiles = np.stack([175 - 70 * (((xs * 8) % 1 < 0.07) | ((ys * 8) % 1 < 0.07))] * 3, -1)
    horizon = np.where((ys < 0.55)[..., None], (135, 180, 230), (140, 130, 105))
    for name, drawn in (("slope", slope), ("stripes", stripes), ("planks", planks),
                        ("tiles", tiles), ("horizon", horizon)):  # fmt: skip
        found[name] = np.clip(drawn, 0, 255).astype(np.uint8)
    return found


def _square(picture: NDArray[np.generic]) -> Pixels:
    array = np.asarray(picture, np.uint8)
    array = array if array.ndim == 3 else np.stack([array] * 3, -1)
    side = min(array.shape[:2])
    top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
    cut = Image.fromarray(np.ascontiguousarray(array[top : top + side, left : left + side, :3]))
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def scene(number: int, known: dict[str, Pixels]) -> Scene:
    """A scene by its number, the same every time."""
    rng = np.random.default_rng(number)
    names = sorted(known)
    name = names[number % len(names)]
    background = known[name].astype(np.float32)
    background = background[:, ::-1] if number >= len(names) else background
    background = np.clip(background + rng.normal(0, 2, background.shape), 0, 255)
    ys, xs = np.mgrid[:SIDE, :SIDE] / SIDE
    width, height = rng.uniform(0.14, 0.24), rng.uniform(0.2, 0.4)
    cx, cy = rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.6)
    body = ((xs - cx) / width * 2) ** 2 + ((ys - cy) / height * 2) ** 4
    head = ((xs - cx) / (0.45 * width)) ** 2 + ((ys - cy + 0.55 * height) / (0.2 * height)) ** 2
    inside = np.minimum(body, head)
    alpha = cv2.GaussianBlur((inside < 1).astype(np.float32), (0, 0), 1.6)[..., None]
    tint = rng.uniform(30, 220, 3)
    texture = 25 * np.sin(90 * (xs * np.cos(number) + ys * np.sin(number)))[..., None]
    light = np.ones((SIDE, SIDE, 1), np.float32)
    if number % 3:
        foot = cy + 0.5 * height
        lean = rng.uniform(-0.6, 0.6)
        reach = ((xs - cx - lean * width) / width * 1.3) ** 2 + ((ys - foot) / (0.22 * height)) ** 2
        soft = cv2.GaussianBlur((reach < 1).astype(np.float32), (0, 0), rng.uniform(2, 6))
        light = 1 - rng.uniform(0.3, 0.55) * soft[..., None]
    picture = background * light * (1 - alpha) + np.clip(tint + texture, 0, 255) * alpha
    changed = (np.abs(picture - background).max(-1) > 6) | (alpha[..., 0] > 0.02)
    cell = SIDE // CELLS
    grid = (alpha[..., 0] > 0.5)[cell // 2 :: cell, cell // 2 :: cell]
    ids = grid.repeat(cell, 0).repeat(cell, 1).astype(np.int32)
    photo = Photo.from_array(np.clip(picture + 0.5, 0, 255).astype(np.uint8))
    transform = letterbox(photo.size_wh, (320, 320))
    decoded = PanopticMap(ids, (DecodedSegment(1, 0, True, 1.0, int(ids.sum())),), on_photo=True)
    result = PanopticResult.from_map(photo, decoded, TAXONOMY, transform)
    return Scene(name, photo, np.clip(background + 0.5, 0, 255).astype(np.uint8), result, changed)


def ours(one: Scene) -> Pixels:
    """panokit edit --do remove."""
    return Remove(Pick(segment=1)).apply(one.photo, one.result).image_hwc


def ours_without_shadow(one: Scene) -> Pixels:
    """The same, with the object alone."""
    return Remove(Pick(segment=1), shadow=False).apply(one.photo, one.result).image_hwc


def by_opencv(method: int) -> Callable[[Scene], Pixels]:
    """One of OpenCV's inpainters, with the same margin around the mask."""

    def run(one: Scene) -> Pixels:
        wide = 2 * round(2 * SIDE / 320) + 1
        hole = cv2.dilate((one.result.id_map > 0).astype(np.uint8), np.ones((wide, wide), np.uint8))
        return np.asarray(cv2.inpaint(one.photo.rgb_hwc, hole, 5, method))

    return run


PIPELINES: dict[str, Callable[[Scene], Pixels]] = {
    "ours": ours, "ours, object alone": ours_without_shadow,
    "OpenCV Telea": by_opencv(cv2.INPAINT_TELEA), "OpenCV Navier-Stokes": by_opencv(cv2.INPAINT_NS),
}  # fmt: skip


def measured(one: Scene, picture: Pixels) -> tuple[float, float, float]:
    """The error, the structure and the texture of an answer."""
    from skimage.metrics import structural_similarity

    error = np.abs(picture.astype(int) - one.background.astype(int))[one.changed].mean()
    ys, xs = np.nonzero(one.changed)
    box = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
    structure = structural_similarity(picture[box], one.background[box], channel_axis=-1)
    steps = [_steps(p)[one.changed].mean() + 0.5 for p in (picture, one.background)]
    return float(error), float(structure), float(abs(np.log2(steps[0] / steps[1])))


def _steps(picture: Pixels) -> NDArray[np.float64]:
    """How much each pixel differs from its neighbours."""
    grey = picture.astype(float).mean(-1)
    return np.asarray(np.abs(cv2.Laplacian(grey, cv2.CV_64F)))


def main() -> None:
    """Print the table; with a path, draw the scenes too."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tuned", action="store_true", help="the scenes that were tuned on")
    parser.add_argument("--sheet", type=Path, help="PNG of the scenes and the answers")
    given = parser.parse_args()
    known = backgrounds()
    numbers = TUNED if given.tuned else REPORTED
    scenes = [scene(n, known) for n in numbers]
    figures: dict[str, list[tuple[float, float, float]]] = {}
    rows: list[list[Pixels]] = [[s.photo.rgb_hwc] for s in scenes]
    for name, run in PIPELINES.items():
        begun = time.process_time()
        answers = [run(s) for s in scenes]
        seconds = (time.process_time() - begun) / len(scenes)
        figures[name] = [measured(s, a) for s, a in zip(scenes, answers, strict=True)]
        for row, answer in zip(rows, answers, strict=True):
            row.append(answer)
        error, structure, texture = np.mean(figures[name], axis=0)
        better = [
            sum(a[k] > b[k] if k == 1 else a[k] < b[k] for a, b in
                zip(figures["ours"], figures[name], strict=True)) for k in range(3)
        ]  # fmt: skip
        sys.stdout.write(
            f"{name:22} error {error:6.2f}  structure {structure:.3f}  texture {texture:.2f}  "
            f"{seconds:5.2f} s  ours better in {better} of {len(scenes)}\n"
        )
    if given.sheet:
        small = [[np.asarray(Image.fromarray(p).resize((160, 160))) for p in row] for row in rows]
        half = (len(small) + 1) // 2
        columns = [np.concatenate([np.concatenate(row, 1) for row in part], 0)
                   for part in (small[:half], small[half:])]  # fmt: skip
        height = max(c.shape[0] for c in columns)
        padded = [np.pad(c, ((0, height - c.shape[0]), (0, 0), (0, 0))) for c in columns]
        Image.fromarray(np.concatenate(padded, 1)).save(given.sheet)


if __name__ == "__main__":
    main()
