"""What every decoding ends in: a map of segment ids, and its segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.preprocessing import TransformRecord

__all__ = ["DecodedSegment", "PanopticMap"]


@dataclass(frozen=True)
class DecodedSegment:
    """One segment on the decode grid: ``id`` in the map (1 and up) and ``channel`` of its class
    (0 and up). ``area`` is in decode-grid pixels, ``center_yx`` in input pixels (None for stuff),
    ``score`` 0..1."""

    id: int
    channel: int
    is_thing: bool
    score: float
    area: int
    center_yx: tuple[float, float] | None = None


@dataclass(frozen=True)
class PanopticMap:
    """The decoded map: int32 ``[H,W]`` segment ids on the decode grid (0 = void), its segments in
    id order, and with ``explain=True`` every intermediate by name. ``on_photo``: the decode grid is
    the photo itself, not one over the network's input."""

    ids: NDArray[np.int32]
    segments: tuple[DecodedSegment, ...]
    explain: dict[str, NDArray[Any]] = field(default_factory=dict)
    on_photo: bool = False

    @property
    def channels(self) -> dict[int, int]:
        """The channel of each segment by its id."""
        return {s.id: s.channel for s in self.segments}

    def rows_cols(self, transform: TransformRecord) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """For each photo row and column, the row and column of ``ids`` that holds its centre."""
        if self.on_photo:
            return np.arange(self.ids.shape[0]), np.arange(self.ids.shape[1])
        return transform.rows_cols((self.ids.shape[0], self.ids.shape[1]))
