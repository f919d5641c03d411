"""Segments as parallel arrays, the form that detection tools take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import MissingExtraError

if TYPE_CHECKING:
    from panokit.result import PanopticResult

__all__ = ["Detections", "detections"]


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


def detections(
    result: PanopticResult, *, things: bool = True, stuff: bool = False, masks: bool = True
) -> Detections:
    """The segments of a result as arrays: things, stuff or both. ``masks=False`` leaves the masks
    out, which take a byte for every pixel of the photo and segment."""
    chosen = [s for s in result if (things if s.is_thing else stuff)]
    n = len(chosen)
    mask = None
    if masks:
        mask = np.zeros((n, *result.id_map.shape), bool)
        for plane, segment in zip(mask, chosen, strict=True):
            x0, y0, x1, y1 = segment.box_xyxy
            np.equal(result.id_map[y0:y1, x0:x1], segment.id, out=plane[y0:y1, x0:x1])
    return Detections(
        xyxy=np.array([s.box_xyxy for s in chosen], np.float32).reshape(n, 4),
        confidence=np.array([s.score for s in chosen], np.float32),
        class_id=np.array([s.category.id for s in chosen], np.int64),
        segment_id=np.array([s.id for s in chosen], np.int64),
        class_name=np.array([s.category.name for s in chosen], np.str_),
        is_thing=np.array([s.is_thing for s in chosen], bool),
        mask=mask,
    )
