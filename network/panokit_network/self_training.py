"""Self-training: what trained weights are sure of fills in what no label says.

Most photos are labelled for a few classes only. Averaged weights of an earlier run look at each
photo and its mirror image; where they are sure of a class that the labels allow, that class becomes
a down-weighted label (pseudo-labels, Lee 2013; with strong augmentation of the learner, as in
https://arxiv.org/abs/2010.09713). Photos labelled in full and segments are never touched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from panokit.errors import ArgumentError, DataError
from panokit.preprocessing import letterbox
from panokit.taxonomy import Taxonomy
from panokit_network.data import TEACHER_UNSURE, DecodedPhoto
from panokit_network.model import PanopticNetwork
from panokit_network.weights import load_weights

__all__ = ["SelfTeacher"]


@dataclass(frozen=True)
class SelfTeacher:
    """Fills the teacher map of photos.

    ``knows`` bool ``[C]``: the classes of the teacher maps that came with the photos, whose 0
    says that none of them is there. ``sure`` is the least probability, 0..1, after the classes
    that the labels rule out have been taken away.
    """

    network: PanopticNetwork
    taxonomy: Taxonomy
    knows: NDArray[np.bool_]
    name: str
    sure: float = 0.8
    size: int = 320

    def __post_init__(self) -> None:
        if not 0 < self.sure <= 1:
            raise ArgumentError("sure", "above 0, up to 1", self.sure)

    @classmethod
    def open(
        cls, path: str | Path, taxonomy: Taxonomy, knows: NDArray[np.bool_], sure: float = 0.8
    ) -> SelfTeacher:
        """A teacher from a weight file of the same taxonomy."""
        network, info = load_weights(path)
        if info.taxonomy != taxonomy:
            raise DataError(path, "expected weights of the taxonomy that is to be trained")
        # PyTorch's own annotations lack this overload.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
        return cls(network, taxonomy, knows, f"{digest}-{sure}")

    def __call__(self, photo: DecodedPhoto) -> NDArray[np.uint8] | None:
        """The teacher map, uint8 ``[H,W]``: 1 + channel, 0 = none of the classes that ``knows``
        names, 255 = unsure; None for a photo labelled in full."""
        if photo.record.complete:
            return photo.teacher
        probability = self.probability(photo.image_hwc)  # [H,W,C]
        possible = np.ones(len(self.taxonomy), np.float32)
        possible[list(photo.record.absent)] = 0
        probability *= possible
        best = probability.argmax(-1)
        top = np.take_along_axis(probability, best[..., None], -1)[..., 0]
        sure = top >= self.sure * np.maximum(probability.sum(-1), 1e-6)
        shape = photo.segment_map.shape
        given = np.full(shape, TEACHER_UNSURE, np.uint8) if photo.teacher is None else photo.teacher
        # The given map's 0 rules its own classes out; its classes stay as they are.
        fill = sure & ((given == TEACHER_UNSURE) | ((given == 0) & ~self.knows[best]))
        return np.where(fill, best + 1, given).astype(np.uint8)

    @torch.no_grad()
    def probability(self, image_hwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities of a photo, float32 ``[H,W,C]``, mean over it and its mirror."""
        h, w = image_hwc.shape[:2]
        record = letterbox((w, h), (self.size, self.size))
        canvas = np.zeros((self.size, self.size, 3), np.uint8)
        resized = cv2.resize(image_hwc, record.content_wh, interpolation=cv2.INTER_AREA)
        canvas[record.content_slices] = resized
        x = torch.from_numpy(canvas).permute(2, 0, 1).float()
        pair = torch.stack([x, x.flip(-1)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.network(pair)["semantic"]
        p = logits.float().softmax(1)  # [2,C,h,w]
        p = (p[:1] + p[1:].flip(-1)) / 2
        p = F.interpolate(p, size=(self.size, self.size), mode="bilinear", align_corners=False)
        rows, cols = record.content_slices
        inside = p[:, :, rows, cols]
        out = F.interpolate(inside, size=(h, w), mode="bilinear", align_corners=False)
        return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())
