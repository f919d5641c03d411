"""Segments as parallel arrays, the form that detection tools take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import MissingExtraError

__all__ = ["Detections"]


@dataclass(frozen=True)
class Detections:
    """``n`` segments as arrays, one row each, in id order.

    ``xyxy`` float32 ``[n,4]`` in photo pixels, right and bottom exclusive; ``confidence`` float32
    ``[n]`` 0..1; ``class_id`` int64 ``[n]`` category ids; ``segment_id`` int64 ``[n]``, the values
    of the id map; ``class_name`` text ``[n]``; ``is_thing`` bool ``[n]``; ``mask`` bool
    ``[n,H,W]`` or None.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    segment_id: NDArray[np.int64]
    class_name: NDArray[np.str_]
    is_thing: NDArray[np.bool_]
    mask: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def xywh(self) -> NDArray[np.float32]:
        """Left, top, width, height, float32 ``[n,4]``."""
        return np.concatenate([self.xyxy[:, :2], self.xyxy[:, 2:] - self.xyxy[:, :2]], 1)

    def to_supervision(self) -> Any:
        """The same as ``supervision.Detections``: ``data`` holds ``class_name``, ``segment_id``
        and ``is_thing`` (``pip install supervision``)."""
        try:
            import supervision
        except ImportError as error:
            missing = MissingExtraError("Detections.to_supervision", "supervision")
            raise missing from error
        data: dict[str, Any] = {
            "class_name": self.class_name,
            "segment_id": self.segment_id,
            "is_thing": self.is_thing,
        }
        return supervision.Detections(
            xyxy=self.xyxy,
            mask=self.mask,
            confidence=self.confidence,
            class_id=self.class_id,
            data=data,
        )
