"""How the labels of turned photos were drawn: on the photo as it is seen, or on its pixels as
stored.

Some annotation tools turn a photo as its EXIF orientation says, some do not. Where the turn changes
the shape of the picture the labels' size tells. Where it does not (half turns, mirrors, squares)
the picture does: edges of segments lie on edges of the picture, and a segment's pixels are alike.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit._exif import upright
from panokit.errors import DataError, PhotoError
from panokit.photo import Photo, photo_header
from panokit_datasets.truth import QUARTERS, Box, TruthPhoto, stored_ids

__all__ = ["CERTAIN", "as_drawn", "evidence_of", "judge", "upright_box"]

_log = logging.getLogger(__name__)

LOOKED_AT = 64  # photos of a split that are decoded
SIDE = 128  # pixels of the longest side that pictures are compared at
CERTAIN = 2.0
"""From so much evidence on a photo's labels count as found (odds of 7 to 1)."""

# Natural logarithms of odds. Measured on true labels of five sources against the same labels
# mirrored and turned: ranks of edges differ by 0.24 ± 0.12, explained variances by 0.15 ± 0.15.
_PER_RANK, _PER_VARIANCE = 20.0, 5.0
_ENOUGH_EDGE = 100  # edge pixels; fewer tell less
_MOST_OF_ONE, _MOST_OF_OTHERS = 4.0, 8.0
_OF_SIZE = 4.0


def evidence_of(rgb_hwc: NDArray[np.uint8], ids: NDArray[np.int32], orientation: int) -> float:
    """How much speaks for labels on the stored pixels (above 0) or on the photo as it is seen.

    ``rgb_hwc`` uint8 ``[H,W,3]``, upright; ``ids`` int ``[H,W]``, as their file holds them;
    ``orientation`` is the photo's. A logarithm of odds from -4 to 4, 0 where nothing tells.
    """
    picture, labels = _reduced(rgb_hwc, ids)
    turned = upright(labels, orientation)
    if turned.shape != labels.shape or len(np.unique(labels)) < 2:
        return 0.0
    edges = [_edge_rank(picture, each) for each in (turned, labels)]
    weight = min(1.0, min(n for _, n in edges) / _ENOUGH_EDGE)
    ranks = edges[0][0] - edges[1][0]
    variances = _explained(picture, turned) - _explained(picture, labels)
    odds = weight * (_PER_RANK * ranks + _PER_VARIANCE * variances)
    return float(np.clip(odds, -_MOST_OF_ONE, _MOST_OF_ONE))


def judge(odds: Sequence[float], sizes: Sequence[bool]) -> list[float]:
    """The evidence for each of several photos of one set once the others are heard: a set is mostly
    the work of one tool.

    ``odds`` are of single photos (:func:`evidence_of`); ``sizes`` of others whose labels' size
    told (True: drawn on the stored pixels).
    """
    total = sum(odds) + sum(_OF_SIZE if stored else -_OF_SIZE for stored in sizes)
    return [own + float(np.clip(total - own, -_MOST_OF_OTHERS, _MOST_OF_OTHERS)) for own in odds]


def upright_box(box: Box, stored_wh: tuple[int, int], orientation: int) -> Box:
    """A box (left, top, width, height, in pixels) on the stored pixels, turned with them."""
    (x, y, w, h), (width, height) = box, stored_wh
    if orientation in QUARTERS:
        x, y, w, h, width, height = y, x, h, w, height, width
    x = width - x - w if orientation in (2, 3, 6, 7) else x
    y = height - y - h if orientation in (3, 4, 7, 8) else y
    return x, y, w, h


def _reduced(
    rgb_hwc: NDArray[np.uint8], ids: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Both at most :data:`SIDE` wide and high: pixels averaged, ids of the nearest pixel."""
    from PIL import Image

    h, w = ids.shape
    scale = min(1.0, SIDE / max(h, w))
    size_wh = max(1, round(w * scale)), max(1, round(h * scale))
    shrunk = Image.fromarray(rgb_hwc).resize(size_wh, Image.Resampling.BOX)
    xs = ((np.arange(size_wh[0]) + 0.5) * w / size_wh[0]).astype(np.int64)
    ys = ((np.arange(size_wh[1]) + 0.5) * h / size_wh[1]).astype(np.int64)
    return np.asarray(shrunk, np.float64), ids[ys[:, None], xs]


def _edge_rank(picture: NDArray[np.float64], labels: NDArray[np.generic]) -> tuple[float, int]:
    """The mean rank (0..1) of the picture's steps where labels change, and at how many places."""
    steps = [np.abs(np.diff(picture, axis=axis)).sum(-1).ravel() for axis in (0, 1)]
    changes = [(labels[1:] != labels[:-1]).ravel(), (labels[:, 1:] != labels[:, :-1]).ravel()]
    step, change = np.concatenate(steps), np.concatenate(changes)
    _, place, counts = np.unique(step, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2  # equal steps share the middle of their ranks
    ranks = middle[place.ravel()] / max(1, len(step) - 1)
    count = int(np.count_nonzero(change))
    return (float(ranks[change].mean()) if count else 0.5), count


def _explained(picture: NDArray[np.float64], labels: NDArray[np.generic]) -> float:
    """The share of the colours' variance that lies between segments, 0..1."""
    _, index = np.unique(labels, return_inverse=True)
    index, colors = index.ravel(), picture.reshape(-1, picture.shape[-1])
    counts = np.bincount(index)
    total = float(((colors - colors.mean(0)) ** 2).sum())
    between = sum(
        float((np.bincount(index, c) ** 2 / counts).sum() - len(c) * c.mean() ** 2)
        for c in colors.T
    )
    return between / total if total > 0 else 0.0


def as_drawn(photos: list[TruthPhoto], stated: dict[int, str], path: Path) -> list[TruthPhoto]:
    """The photos, each with the turn that its labels need; what was found is told."""
    turned = {
        n: header
        for n, p in enumerate(photos)
        if (header := photo_header(p.image_path)) is not None and header[1] != 1
    }
    stored: dict[int, str] = {}  # by place in the list: what told
    sizes, open_ones = [], []
    for n, (size_wh, orientation) in turned.items():
        if photos[n].image_id in stated:
            stored |= {n: "the file"} if stated[photos[n].image_id] == "stored" else {}
        elif orientation in QUARTERS and size_wh[0] != size_wh[1]:
            as_stored = _png_size(photos[n].panoptic_path) == size_wh
            sizes.append(as_stored)
            stored |= {n: "their size"} if as_stored else {}
        else:
            open_ones.append(n)
    verdicts = _verdicts(photos, {n: turned[n][1] for n in open_ones}, sizes)
    stored |= {n: "the picture" for n, odds in verdicts.items() if odds >= CERTAIN}
    _tell(path, len(turned), stored, [photos[n] for n, o in verdicts.items() if abs(o) < CERTAIN])
    out = list(photos)
    for n, (size_wh, orientation) in turned.items():
        out[n] = _turned(photos[n], size_wh, orientation, n in stored)
    return out


def _turned(
    photo: TruthPhoto, stored_wh: tuple[int, int], orientation: int, stored: bool
) -> TruthPhoto:
    """A turned photo whose labels were drawn on its pixels as stored, or were not. The JSON may
    give its size either way."""
    seen_wh = stored_wh[::-1] if orientation in QUARTERS else stored_wh
    boxes_stored = stored
    if stored_wh != seen_wh and photo.size_wh in (stored_wh, seen_wh):
        boxes_stored = photo.size_wh == stored_wh
        photo = replace(photo, size_wh=seen_wh)
    if boxes_stored:
        boxes = tuple(upright_box(b, stored_wh, orientation) for b in photo.person_boxes)
        photo = replace(photo, person_boxes=boxes)
    return replace(photo, turn=orientation if stored else 1)


def _verdicts(
    photos: Sequence[TruthPhoto], orientations: dict[int, int], sizes: Sequence[bool]
) -> dict[int, float]:
    """Evidence that labels were drawn on the stored pixels, by place in the list; of many photos
    some are looked at, the others follow them."""
    asked = list(orientations)[:: max(1, len(orientations) // LOOKED_AT)]
    odds = [_looked_at(photos[n], orientations[n]) for n in asked]
    heard = dict(zip(asked, judge(odds, sizes), strict=True))
    (rest,) = judge([0.0], [*sizes, *(o > 0 for o in odds if abs(o) >= CERTAIN)])
    return {n: heard.get(n, rest) for n in orientations}


def _looked_at(photo: TruthPhoto, orientation: int) -> float:
    size_wh = _png_size(photo.panoptic_path)
    if size_wh is None:
        return 0.0
    try:
        rgb = Photo.open(photo.image_path).rgb_hwc
        ids = stored_ids(replace(photo, size_wh=size_wh))
    except (PhotoError, DataError):  # whoever decodes them says what is wrong
        return 0.0
    return evidence_of(rgb, ids, orientation) if ids.shape == rgb.shape[:2] else 0.0


def _png_size(path: Path) -> tuple[int, int] | None:
    header = photo_header(path)
    return None if header is None else header[0]


def _tell(path: Path, turned: int, stored: dict[int, str], unknown: list[TruthPhoto]) -> None:
    if stored:
        how = ", ".join(sorted(set(stored.values())))
        _tell_once(
            f"{path}: {turned} photos are turned by their EXIF orientation; the labels of "
            f"{len(stored)} of them were drawn on the pixels as stored (told by {how}) and are "
            "turned with the photos"
        )
    if unknown:
        _tell_once(
            f"{path}: of {len(unknown)} photos that EXIF turns by half, mirrors, or turns as "
            f"squares ({unknown[0].name} is the first) the pictures do not tell whether their "
            "labels were drawn upright or on the pixels as stored; they are taken as upright. "
            'Say which by "drawn": "upright" or "stored" in each of these images of the JSON'
        )


_told: set[str] = set()


def _tell_once(sentence: str) -> None:
    """A data set is read several times by one command."""
    if sentence not in _told:
        _told.add(sentence)
        _log.warning("%s.", sentence)
