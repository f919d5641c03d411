"""Mattes from the same mask, ours beside the usual ways, and persons beside MediaPipe's.

    python -m benchmarks.mattes [--fur FOLDER] [--data camera-panoptic] [--selfie FILE.tflite]

Three sets whose mattes are known: drawn figures with hair, figures with gaps under their arms, and
with ``--fur`` the lemur of PyMatting's examples (the folder data/lemur of its repository) before
other backgrounds. Each method gets the mask that a network with heads of 80 x 80 would give. SAD
and gradient error are in thousands, the time is for 0.7 megapixels.

With ``--data`` the person's mask of our network is refined on real photos in each of these ways and
cut at one half, beside MediaPipe's selfie segmentation (``--selfie``, once for each file), which
finds persons by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.effects_quality import gradient_error
from benchmarks.person_iou import Peer, compare, peer_segmenter
from benchmarks.synthetic import Scene, animal_scenes, scenes
from panokit.effects.matting import matte_of
from panokit.photo import Photo
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
from panokit_datasets.quality import Prediction

FloatArray = NDArray[np.float32]
REPORTED = range(12)
ERODED = 10
"""Pixels that rembg takes off both sides of the edge for its trimap."""

Method = Callable[[Photo, PanopticResult, list[int]], FloatArray]


def mask_only(photo: Photo, result: PanopticResult, ids: list[int]) -> FloatArray:
    """The mask as it is."""
    return result.mask(*ids).astype(np.float32)


def trimap_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """1 and 0 well inside and outside the mask, one half in between."""
    kernel = np.ones((2 * ERODED + 1,) * 2, np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0
    outside = cv2.dilate(mask.astype(np.uint8), kernel) == 0
    return np.where(inside, 1.0, np.where(outside, 0.0, 0.5))


def closed_form(photo: Photo, result: PanopticResult, ids: list[int]) -> FloatArray:
    """What rembg does: a trimap, and PyMatting's closed-form matte of the whole photo."""
    from pymatting import estimate_alpha_cf

    trimap = trimap_of(result.mask(*ids))
    if not ((trimap == 0).any() and (trimap == 1).any()):
        return trimap.astype(np.float32)
    return np.asarray(estimate_alpha_cf(photo.rgb_hwc / 255, trimap), np.float32)


def guided(photo: Photo, result: PanopticResult, ids: list[int]) -> FloatArray:
    """The trimap, and He's guided filter with a colour guide in its band."""
    from panokit.effects.matting import guided_coefficients

    mask = result.mask(*ids)
    guide = photo.rgb_hwc.astype(np.float32) / 255
    coefficients = guided_coefficients(guide, mask.astype(np.float32), 2 * ERODED, 1e-4)
    value = (coefficients[..., :3] * guide).sum(-1) + coefficients[..., 3]
    trimap = trimap_of(mask)
    return np.where(trimap == 0.5, np.clip(value, 0, 1), trimap).astype(np.float32)


def ours(photo: Photo, result: PanopticResult, ids: list[int], quality: str) -> FloatArray:
    """Panokit's."""
    return matte_of(photo, result, ids, quality).alpha_hw


METHODS: dict[str, Method] = {
    "mask": mask_only,
    "trimap, guided filter": guided,
    "rembg: trimap, PyMatting closed form": closed_form,
    "panokit draft": partial(ours, quality="draft"),
    "panokit good": partial(ours, quality="good"),
    "panokit best": partial(ours, quality="best"),
}


def known_mattes(title: str, made: list[Scene]) -> Table:
    """SAD, gradient error and time of each method, means over scenes."""
    table = Table("method", "SAD", "gradient", "ms", title=f"{title}, {len(made)} scenes")
    for name, method in METHODS.items():
        figures = []
        for scene in made:
            begun = time.perf_counter()
            alpha = method(scene.photo, scene.result, [1])
            milliseconds = 1e3 * (time.perf_counter() - begun)
            sad = float(np.abs(alpha - scene.alpha_hw).sum()) / 1e3
            figures.append((sad, gradient_error(alpha, scene.alpha_hw) / 1e3, milliseconds))
        sad, gradient, milliseconds = np.mean(figures, axis=0)
        table.add_row(name, f"{sad:.2f}", f"{gradient:.3f}", f"{milliseconds:.0f}")
    return table


def persons(data: Path, split: str, selfies: list[Path]) -> Table:
    """Person IoU of each method on real photos."""
    segmenter = Segmenter.open(None)
    person = segmenter.taxonomy.channel(segmenter.taxonomy.get("person").id)
    last: list[Any] = [None, None]

    def segmented(photo: Photo) -> PanopticResult:
        if last[0] is not photo:
            last[:] = [photo, segmenter.segment(photo)]
        result: PanopticResult = last[1]
        return result

    def refined(method: Method) -> Callable[[Photo], Prediction]:
        def predict(photo: Photo) -> Prediction:
            result = segmented(photo)
            ids = [s.id for s in result if s.category.name == "person"]
            alpha = method(photo, result, ids) if ids else np.zeros(result.id_map.shape)
            return Prediction(
                np.zeros(result.id_map.shape, np.int32), [], np.where(alpha > 0.5, person, -1)
            )

        return predict

    networks: dict[str, Callable[[Photo], Any]] = {
        f"our network, {name}": refined(method) for name, method in METHODS.items()
    }
    for file in selfies:
        peer = Peer(file.name, lambda x: x.astype(np.float32) / 255, lambda y: y[0, ..., 0] > 0.5)
        networks[f"MediaPipe {file.stem}"] = peer_segmenter(file.parent, peer, True, person)
    return compare(networks, data, split, segmenter, person, set())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fur", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--selfie", type=Path, action="append", default=[])
    parser.add_argument("--split", action="append")
    given = parser.parse_args()
    console = Console()
    console.print(known_mattes("hair", scenes(REPORTED)))
    console.print(known_mattes("gaps", scenes(REPORTED, arms=True)))
    if given.fur:
        console.print(known_mattes("fur", animal_scenes(given.fur, REPORTED)))
    if given.data:
        for split in given.split or ["coco_person_val", "coco_panoptic_val"]:
            console.print(persons(given.data, split, given.selfie))


if __name__ == "__main__":
    main()
