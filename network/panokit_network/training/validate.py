"""Quick figures on validation photos while training (the full ones: ``panokit evaluate``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panokit.preprocessing import Size
from panokit.taxonomy import Taxonomy
from panokit_datasets.records import DecodedPhoto
from panokit_network.model import PanopticNetwork
from panokit_network.training.augment import PADDING, letterboxed_scene
from panokit_network.training.cache import PhotoCache
from panokit_network.training.precision import mixed_precision

__all__ = ["Validator"]

_NOTHING, _OPEN = -1, -2


class Validator:
    """Mean IoU of classes and the state of the centre head, per split.

    Labelled pixels count, and pixels in no segment that are taken for a class known to be absent
    there. ``center_max`` is the mean over photos of the highest centre score
    and ``centers`` the mean number of peaks above 0.25: a centre head that collapses shows there
    first.
    """

    def __init__(
        self,
        splits: Mapping[str, PhotoCache],
        taxonomy: Taxonomy,
        size: Size = 320,
        limit: int = 60,
    ) -> None:
        self.splits, self.taxonomy, self.size, self.limit = splits, taxonomy, size, limit

    def __call__(self, network: PanopticNetwork) -> dict[str, Any]:
        return {name: self._split(network, photos) for name, photos in self.splits.items()}

    def pictures(
        self, network: PanopticNetwork, per_split: int = 3
    ) -> list[tuple[str, NDArray[np.uint8]]]:
        """The first photos of each split as named rows of photo, labels and prediction, class
        colours over the photo, uint8 ``[H,3·W,3]``; unlabelled pixels show the photo."""
        colors = np.array([c.color for c in self.taxonomy], np.float32)
        rows = []
        for name, photos in self.splits.items():
            for index in range(min(len(photos), per_split)):
                image = letterboxed_scene(photos[index], self.size).image_hwc
                truth = _labels(photos[index], self.size)
                predicted, _ = self._predict(network, photos[index])
                views = [image, *(_tinted(image, c, colors) for c in (truth, predicted))]
                rows.append((f"{name}/{index}", np.concatenate(views, axis=1)))
        return rows

    def _split(self, network: PanopticNetwork, photos: PhotoCache) -> dict[str, Any]:
        classes = len(self.taxonomy)
        confusion = np.zeros((classes, classes), np.int64)
        invented = np.zeros(classes, np.int64)
        highest: list[float] = []
        peaks: list[int] = []
        for index in range(min(len(photos), self.limit)):
            photo = photos[index]
            truth = _labels(photo, self.size)
            predicted, score = self._predict(network, photo)
            known = truth >= 0
            pairs = truth[known] * classes + predicted[known]
            confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
            absent = np.zeros(classes, bool)
            absent[list(photo.record.absent)] = not photo.record.complete
            wrong = predicted[(truth == _OPEN) & absent[predicted]]
            invented += np.bincount(wrong, minlength=classes)
            highest.append(float(score.max()))
            peak = torch.nn.functional.max_pool2d(score, 7, 1, 3) == score
            peaks.append(int((peak & (score > 0.25)).sum()))
        hits, true, found = np.diag(confusion), confusion.sum(1), confusion.sum(0) + invented
        iou = hits / np.maximum(true + found - hits, 1)
        present = true > 0
        return {
            "miou": round(float(iou[present].mean()), 4) if present.any() else 0.0,
            "iou": {
                c.name: round(float(v), 3)
                for c, v, p in zip(self.taxonomy, iou, present, strict=True)
                if p
            },
            "center_max": round(float(np.mean(highest)), 3) if highest else 0.0,
            "centers": round(float(np.mean(peaks)), 2) if peaks else 0.0,
        }

    @torch.no_grad()
    def _predict(
        self, network: PanopticNetwork, photo: DecodedPhoto
    ) -> tuple[NDArray[np.int64], torch.Tensor]:
        image = letterboxed_scene(photo, self.size).image_hwc
        device = next(network.parameters()).device
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(device).float()
        with mixed_precision(device):
            heads = network(x)
        logits = torch.nn.functional.interpolate(
            heads["semantic"].float(), size=image.shape[:2], mode="bilinear"
        )
        return logits[0].argmax(0).cpu().numpy(), torch.sigmoid(heads["center"].float())


def _tinted(
    image_hwc: NDArray[np.uint8], channels: NDArray[np.int64], colors: NDArray[np.float32]
) -> NDArray[np.uint8]:
    known = (channels >= 0)[..., None]
    mixed = 0.45 * image_hwc + 0.55 * colors[np.maximum(channels, 0)]
    return np.where(known, mixed, image_hwc).astype(np.uint8)


def _labels(photo: DecodedPhoto, size: Size) -> NDArray[np.int64]:
    """Channel of every labelled pixel of the letterboxed photo, ``_OPEN`` in no segment,
    ``_NOTHING`` in the padding and where labels are uncertain."""
    segment_map = letterboxed_scene(photo, size).segment_map
    own = [_NOTHING if s.ignore else s.channel for s in photo.record.segments]
    table = np.array([_OPEN, *own])
    inside = segment_map != PADDING
    return np.where(inside, table[np.where(inside, segment_map, 0)], _NOTHING)
