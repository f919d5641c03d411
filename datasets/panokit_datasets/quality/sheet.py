"""A picture sheet of a split: the best, the middle and the worst photos, labels beside answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from panokit._files import write_picture
from panokit.errors import ArgumentError
from panokit_datasets.drawing import labels_as_result
from panokit_datasets.quality.evaluate import (
    EvaluationPhoto,
    EvaluationResult,
    PhotoQuality,
    evaluation_photos,
)
from panokit_datasets.reader import Truth

if TYPE_CHECKING:
    from PIL import Image

    from panokit.segmenter import Segmenter

__all__ = ["picked", "write_sheet"]

CELL = 320
"""Longest side of a picture on the sheet, pixels."""

_LINE = 18


def picked(result: EvaluationResult, each: int = 3) -> dict[str, list[PhotoQuality]]:
    """The ``each`` best, middle and worst photos: by PQ if the split is labelled in full, else by
    person IoU, else by mIoU. No photo is picked twice."""
    if each < 1:
        raise ArgumentError("each", f"each is {each!r}; expected at least 1")
    key = "pq" if result.complete == 1 else "person_iou"
    if all(getattr(p, key) is None for p in result.per_photo):
        key = "miou"
    judged = [p for p in result.per_photo if getattr(p, key) is not None]
    judged.sort(key=lambda p: (-getattr(p, key), p.name))
    n = min(each, (len(judged) + 2) // 3)
    middle = max(n, (len(judged) - n) // 2)
    return {
        f"best by {key}": judged[:n],
        f"median by {key}": judged[middle : min(middle + n, max(n, len(judged) - n))],
        f"worst by {key}": judged[max(n, len(judged) - n) :],
    }


def write_sheet(
    path: str | Path,
    segmenter: Segmenter,
    result: EvaluationResult,
    data_dir: str | Path,
    split: str,
    each: int = 3,
) -> None:
    """Write the sheet as PNG: a row a photo; the photo, its labels, what was found. ``each`` photos
    are the best, so many the median and so many the worst."""
    truths = {t.name: t for t in evaluation_photos(data_dir, split, segmenter.taxonomy)}
    rows: list[tuple[str, list[Image.Image]]] = []
    for title, photos in picked(result, each).items():
        rows += [(_caption(title, p), _views(truths[p.name], segmenter)) for p in photos]
    sheet = _draw(rows)
    write_picture(path, sheet, "PNG", optimize=True)


def _caption(title: str, photo: PhotoQuality) -> str:
    figures = (("PQ", photo.pq, 1), ("person IoU", photo.person_iou, 3), ("mIoU", photo.miou, 3))
    known = [f"{name} {value:.{digits}f}" for name, value, digits in figures if value is not None]
    return f"{title}: {photo.name}   " + "   ".join(known)


def _views(truth: EvaluationPhoto, segmenter: Segmenter) -> list[Image.Image]:
    """The photo, its labels and the answer, each at most :data:`CELL` wide and high."""
    from PIL import Image

    photo, ids, segments = truth.load()
    labels = labels_as_result(photo, Truth(ids, segments), segmenter.taxonomy)
    found = segmenter.segment(photo)
    views = [
        Image.fromarray(photo.rgb_hwc),
        labels.overlay(opacity=0.6, scores=False),
        found.overlay(),
    ]
    for view in views:
        view.thumbnail((CELL, CELL))
    return views


def _draw(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    from PIL import Image, ImageDraw

    heights = [max(v.height for v in views) + _LINE for _, views in rows]
    sheet = Image.new("RGB", (3 * CELL, max(1, sum(heights))), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    top = 0
    for (caption, views), height in zip(rows, heights, strict=True):
        draw.text((4, top + 3), caption, fill=(0, 0, 0))
        for column, view in enumerate(views):
            sheet.paste(view, (column * CELL, top + _LINE))
        top += height
    return sheet
