"""Mask AP of things, as COCO measures instances; hotcoco does the arithmetic.

In a panoptic map a pixel has one owner, which lowers AP: masks of instance networks overlap.
Figures are told as "from panoptic maps".
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import MissingExtraError
from panokit.rle import rle_string
from panokit.taxonomy import Taxonomy
from panokit_datasets.truth import TruthSegment

__all__ = ["AveragePrecision"]

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class AveragePrecision:
    """Collects the masks of things photo by photo.

    Figures are 0..100: AP (mean over IoU 0.50 to 0.95), AP50, AP75, and AP of small (below 32²
    pixels), medium and large (from 96²) objects. None where there is no such object. A crowd, or
    what is ignored, takes any number of answers and counts neither way.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        require()
        self.taxonomy = taxonomy
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(
        self,
        pred_ids: NDArray[np.int32],
        pred: Sequence[tuple[int, int, float]],
        true_ids: NDArray[np.int32],
        true: Sequence[TruthSegment],
    ) -> None:
        """Add a photo: maps ``[H,W]``; (id, channel, score) of each answer; the true segments."""
        number = len(self._images) + 1
        h, w = true_ids.shape
        self._images.append({"id": number, "width": w, "height": h})
        for s in true:
            mask = true_ids == s.id
            if not s.is_thing or not mask.any():
                continue
            entry = self._entry(number, s.channel, mask)
            entry |= {"id": len(self._truth) + 1, "area": int(mask.sum())}
            self._truth.append(entry | {"iscrowd": int(s.is_crowd or s.ignore)})
        for segment_id, channel, score in pred:
            mask = pred_ids == segment_id
            if self.taxonomy.thing_mask[channel] and mask.any():
                self._found.append(self._entry(number, channel, mask) | {"score": float(score)})

    def _entry(self, number: int, channel: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(xs[0]), int(ys[0])
        box = [left, top, int(xs[-1]) - left + 1, int(ys[-1]) - top + 1]
        return {
            "image_id": number,
            "category_id": int(self.taxonomy.ids[channel]),
            "segmentation": rle_string(mask),
            "bbox": box,
        }

    def compute(self) -> Mapping[str, float | None]:
        """The figures over all photos."""
        from hotcoco import COCO, COCOeval

        if not self._truth:
            return dict.fromkeys(FIGURES)
        if not self._found:
            return {
                name: 0.0 if name.startswith("AP5") or name == "AP" else None for name in FIGURES
            }
        categories = [{"id": c.id, "name": c.name} for c in self.taxonomy if c.is_thing]
        data = {"images": self._images, "annotations": self._truth, "categories": categories}
        with tempfile.TemporaryDirectory(prefix="panokit-") as folder:
            paths = Path(folder) / "truth.json", Path(folder) / "found.json"
            for path, content in zip(paths, (data, self._found), strict=True):
                path.write_text(json.dumps(content), encoding="utf-8")
            with redirect_stdout(io.StringIO()):  # it prints its table
                truth = COCO(os.fspath(paths[0]))
                evaluation = COCOeval(truth, truth.loadRes(os.fspath(paths[1])), "segm")
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
        values = [float(v) for v in list(evaluation.stats)[: len(FIGURES)]]
        return {n: None if v < 0 else 100 * v for n, v in zip(FIGURES, values, strict=True)}


def require() -> None:
    """Say how to get hotcoco, where it is missing."""
    try:
        import hotcoco  # noqa: F401
    except ImportError:
        raise MissingExtraError("mask AP", "ap") from None
