"""The decoding of an app that makes mistakes: stages of the reference, some of them overridden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import CenterOffset, Heads, PanopticMap, PostprocessConfig
from panokit.decoding.center_offset import ClassMap, Grid, KeptSegments, Votes, sigmoid
from panokit.decoding.kernels import Taps, axis_taps
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

__all__ = ["AppDecoding", "DecodingReplay"]

FloatArray = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class AppDecoding(PostprocessConfig):
    """How an app decodes: the bundle's settings, as the app has them, and what it does otherwise.

    ``sigmoid`` counts how often it is applied to the centre logits; ``offset_axes`` is ``"yx"`` or
    ``"xy"``; ``offset_factor`` scales the offsets, 0 standing for the stride (taken for head cells)
    and -1 for its inverse; ``upsample`` is ``"half-pixel"``, ``"corners"`` or ``"nearest"``;
    ``label_shift`` is added to every channel (what falls out is void); ``mask_padding`` makes the
    letterbox padding void; ``transpose`` swaps rows and columns of the finished map.
    """

    sigmoid: int = 1
    offset_axes: Literal["yx", "xy"] = "yx"
    offset_factor: float = 1.0
    upsample: Literal["half-pixel", "corners", "nearest"] = "half-pixel"
    label_shift: int = 0
    mask_padding: bool = True
    transpose: bool = False

    @classmethod
    def of(cls, settings: PostprocessConfig) -> AppDecoding:
        """An app without mistakes."""
        return cls(**asdict(settings))


class _AppDecoder(CenterOffset):
    """The reference's stages; each mistake overrides the one that it is made in."""

    def __init__(self, taxonomy: Taxonomy, transform: TransformRecord, app: AppDecoding) -> None:
        super().__init__(taxonomy, transform, app)
        self.app = app
        self.taps = _TAPS[app.upsample]

    def over(self, shape: tuple[int, int]) -> Grid:
        grid = super().over(shape)
        if self.app.mask_padding:
            return grid
        return replace(grid, rows=slice(0, shape[0]), cols=slice(0, shape[1]))

    def shifted(self, classes: ClassMap) -> ClassMap:
        """The classes under the app's labels."""
        channel = classes.channel + np.int32(self.app.label_shift)
        inside = (channel >= 0) & (channel < len(self.taxonomy))
        return replace(classes, channel=np.where(inside, channel, -1).astype(np.int32))

    def heatmap(self, heads: Heads) -> FloatArray:
        scores = heads.center
        for _ in range(self.app.sigmoid):
            scores = sigmoid(scores)
        return scores

    def offsets(self, heads: Heads, grid: Grid) -> FloatArray:
        stride = self.transform.input_wh[1] / heads.center.shape[0]
        factor = {0.0: stride, -1.0: 1 / stride}.get(self.app.offset_factor, self.app.offset_factor)
        planes = super().offsets(heads, grid)
        planes *= np.float32(factor)
        return planes if self.app.offset_axes == "yx" else planes[::-1]

    def ids(self, classes: ClassMap, votes: Votes, kept: KeptSegments) -> PanopticMap:
        found = super().ids(classes, votes, kept)
        if not self.app.transpose or found.ids.shape[0] != found.ids.shape[1]:
            return found
        return replace(found, ids=np.ascontiguousarray(found.ids.T))


class DecodingReplay:
    """Decodes one photo's heads as any number of apps do; their class maps are kept."""

    def __init__(
        self,
        heads: Mapping[str, NDArray[Any]],
        transform: TransformRecord,
        taxonomy: Taxonomy,
    ) -> None:
        """``heads``: real values float32 ``[h,w,C]`` (``center`` with or without its axis)."""
        self._heads = Heads.from_arrays({n: _finite(v) for n, v in heads.items()})
        self._transform, self._taxonomy = transform, taxonomy
        self._classes: dict[tuple[str, str, bool], ClassMap] = {}

    def decode(self, app: AppDecoding) -> PanopticMap:
        """The map that an app gets."""
        stages, heads = _AppDecoder(self._taxonomy, self._transform, app), self._heads
        key = (app.upsample, app.grid, app.mask_padding)
        if key not in self._classes:
            self._classes[key] = stages.classes(heads)
        classes = stages.shifted(self._classes[key]) if app.label_shift else self._classes[key]
        centers = stages.centers(heads)
        votes = stages.votes(heads, classes, centers)
        instances = stages.instances(heads, classes, centers, votes)
        return stages.ids(classes, votes, stages.filter(classes, centers, instances))


def _finite(values: NDArray[Any]) -> FloatArray:
    """Heads of a wrong app may hold anything; the largest numbers stand for infinity."""
    out = np.asarray(values, np.float32)
    return np.nan_to_num(out, nan=0.0, posinf=1e38, neginf=-1e38)


def _corners(n_in: int, n_out: int) -> tuple[Indices, Indices, FloatArray]:
    at = np.arange(n_out, dtype=np.float64) * ((n_in - 1) / max(1, n_out - 1))
    low = np.floor(np.clip(at, 0, n_in - 1)).astype(np.intp)
    return low, np.minimum(low + 1, n_in - 1), (at - low).astype(np.float32)


def _nearest(n_in: int, n_out: int) -> tuple[Indices, Indices, FloatArray]:
    at = np.floor((np.arange(n_out, dtype=np.float64) + 0.5) * (n_in / n_out))
    low = np.clip(at, 0, n_in - 1).astype(np.intp)
    return low, low, np.zeros(n_out, np.float32)


_TAPS: dict[str, Taps] = {"half-pixel": axis_taps, "corners": _corners, "nearest": _nearest}
