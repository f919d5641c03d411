"""The postprocessing reference: three raw heads to a panoptic map, every tie with one answer.

The grouping is that of Panoptic-DeepLab (Cheng et al., https://arxiv.org/abs/1911.10194); the
exact order of operations is this project's and normative (``docs/port.md`` tells it to ports).
Coordinates are continuous: pixel ``i`` covers ``i..i+1``, its centre is ``i + 0.5``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import VOID, Taxonomy

__all__ = ["DecodedSegment", "Heads", "PanopticMap", "PostprocessConfig", "postprocess"]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class PostprocessConfig:
    """Parameters of the decoding.

    ``threshold``: least centre score (after the sigmoid), 0..1. ``window``: odd side of the
    non-maximum suppression window, head cells. ``top_k``: most centres kept. ``min_thing_area``
    and ``min_stuff_area``: segments of fewer decode-grid pixels become void. ``grid``: decode on
    the ``"input"`` grid or, faster and coarser, on the ``"head"`` grid.
    """

    threshold: float = 0.25
    window: int = 7
    top_k: int = 100
    min_thing_area: int = 64
    min_stuff_area: int = 256
    grid: Literal["input", "head"] = "input"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ArgumentError("threshold", "from 0 to 1", self.threshold)
        if self.window < 1 or self.window % 2 == 0:
            raise ArgumentError("window", "an odd number of at least 1", self.window)
        if self.top_k < 1:
            raise ArgumentError("top_k", "at least 1", self.top_k)
        for name in ("min_thing_area", "min_stuff_area"):
            if getattr(self, name) < 0:
                raise ArgumentError(name, "at least 0", getattr(self, name))
        if self.grid not in ("input", "head"):
            raise ArgumentError("grid", "'input' or 'head'", self.grid)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PostprocessConfig:
        """Read what :meth:`to_json` wrote; unknown names are an error."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ArgumentError("postprocessing", "known names and types", str(error)) from None


@dataclass(frozen=True)
class Heads:
    """The network's raw outputs for one photo, channels last, float32.

    ``semantic`` ``[h,w,C]`` logits, ``center`` ``[h,w]`` logits, ``offset`` ``[h,w,2]`` (dy, dx)
    in input pixels. NaN, infinity or a wrong shape raises ``HeadError`` naming head and position.
    """

    semantic: FloatArray
    center: FloatArray
    offset: FloatArray

    def __post_init__(self) -> None:
        h, w = self.semantic.shape[:2] if self.semantic.ndim == 3 else (0, 0)
        expected = {"semantic": (h, w, -1), "center": (h, w), "offset": (h, w, 2)}
        for name, shape in expected.items():
            array = getattr(self, name)
            fits = array.ndim == len(shape) and all(
                e in (-1, s) for e, s in zip(shape, array.shape, strict=True)
            )
            if not fits or 0 in array.shape:
                text = str(shape).replace("-1", "C")
                raise HeadError(name, f"expected shape {text}, got {array.shape}")
            if array.dtype != np.float32:
                raise HeadError(name, f"expected float32, got {array.dtype}")
            if not np.isfinite(array).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise HeadError(name, f"expected finite numbers, got {array[at]} at {at}")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], layout: str = "nhwc") -> Heads:
        """Heads from tensors named ``semantic``, ``center``, ``offset``, with or without a batch
        axis of 1; ``layout`` is ``"nhwc"`` or ``"nchw"``."""
        out: dict[str, FloatArray] = {}
        for name in ("semantic", "center", "offset"):
            if name not in arrays:
                raise HeadError(name, f"is missing; got {sorted(arrays)}")
            array = np.asarray(arrays[name])
            if array.ndim == 4 and array.shape[0] == 1:
                array = array[0]
            if layout == "nchw" and array.ndim == 3:
                array = np.moveaxis(array, 0, -1)
            if name == "center" and array.ndim == 3 and array.shape[-1] == 1:
                array = array[..., 0]
            out[name] = np.ascontiguousarray(array, np.float32)
        return cls(**out)


@dataclass(frozen=True)
class DecodedSegment:
    """One segment on the decode grid. ``area`` is in decode-grid pixels, ``center_yx`` in input
    pixels (None for stuff), ``score`` 0..1."""

    id: int
    channel: int
    is_thing: bool
    score: float
    area: int
    center_yx: tuple[float, float] | None = None


@dataclass(frozen=True)
class PanopticMap:
    """The decoded map: int32 ``[H,W]`` segment ids on the decode grid (0 = void), its segments in
    id order, and with ``explain=True`` every intermediate by name."""

    ids: NDArray[np.int32]
    segments: tuple[DecodedSegment, ...]
    explain: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Grid:
    """The decode grid: its size, and which pixels are photo rather than padding."""

    shape: tuple[int, int]
    content: NDArray[np.bool_]
    y: FloatArray  # pixel centres in input pixels
    x: FloatArray


def postprocess(
    heads: Heads,
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: PostprocessConfig | None = None,
    *,
    explain: bool = False,
) -> PanopticMap:
    """Decode ``heads`` of an input that was made as ``transform`` says.

    With ``explain`` the result carries ``semantic`` ``[H,W,C]``, ``offset`` ``[H,W,2]``,
    ``class_map`` ``[H,W]`` (channel, -1 = void), ``scores`` ``[h,w]``, ``centers`` ``[n,2]`` head
    cells (row, column), ``center_scores`` ``[n]`` and ``votes`` ``[H,W]`` (centre rank, -1 = none).
    """
    config = config or PostprocessConfig()
    if heads.semantic.shape[2] != len(taxonomy):
        expected = f"expected {len(taxonomy)} channels as in the taxonomy"
        raise HeadError("semantic", f"{expected}, got {heads.semantic.shape[2]}")
    cell_shape = heads.center.shape
    grid = _decode_grid(transform, cell_shape, config.grid)
    semantic = _resize(heads.semantic, grid.shape)  # [H,W,C]
    class_map = np.where(grid.content, semantic.argmax(-1), -1).astype(np.int32)
    scores = _sigmoid(heads.center)
    cells, cell_scores = _find_centers(scores, _cell_content(transform, cell_shape), config)
    (w_in, h_in), (h, w) = transform.input_wh, cell_shape
    centers = np.empty((len(cells), 2), np.float32)
    centers[:, 0] = (cells[:, 0] + np.float32(0.5)) * np.float32(h_in / h)
    centers[:, 1] = (cells[:, 1] + np.float32(0.5)) * np.float32(w_in / w)
    thing = (class_map >= 0) & taxonomy.thing_mask[class_map]
    offset = _resize(heads.offset, grid.shape)  # [H,W,2]
    votes = _vote(offset, thing, centers, grid)
    ids, segments = _assemble(
        class_map, votes, thing, centers, cell_scores, semantic, taxonomy, config
    )
    details: dict[str, NDArray[Any]] = {}
    if explain:
        details = {
            "semantic": semantic,
            "offset": offset,
            "class_map": class_map,
            "scores": scores,
            "centers": cells,
            "center_scores": cell_scores,
            "votes": votes,
        }
    return PanopticMap(ids, tuple(segments), details)


def _decode_grid(transform: TransformRecord, cell_shape: tuple[int, ...], which: str) -> _Grid:
    w_in, h_in = transform.input_wh
    if which == "input":
        y = np.arange(h_in, dtype=np.float32) + np.float32(0.5)
        x = np.arange(w_in, dtype=np.float32) + np.float32(0.5)
        return _Grid((h_in, w_in), ~transform.padding_mask(), y, x)
    h, w = cell_shape
    y = (np.arange(h, dtype=np.float32) + np.float32(0.5)) * np.float32(h_in / h)
    x = (np.arange(w, dtype=np.float32) + np.float32(0.5)) * np.float32(w_in / w)
    return _Grid((h, w), _cell_content(transform, cell_shape), y, x)


def _cell_content(transform: TransformRecord, cell_shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Head cells whose centre lies on the photo, bool ``[h,w]`` (top and left edges count)."""
    (w_in, h_in), (h, w) = transform.input_wh, cell_shape
    (cw, ch) = transform.content_wh
    # Twice the centre times the cell count, in whole numbers: (2i + 1)·H against 2h·edge.
    y = (2 * np.arange(h) + 1) * h_in
    x = (2 * np.arange(w) + 1) * w_in
    rows = (y >= 2 * h * transform.top) & (y < 2 * h * (transform.top + ch))
    cols = (x >= 2 * w * transform.left) & (x < 2 * w * (transform.left + cw))
    return np.asarray(rows[:, None] & cols)


def _axis_weights(n_in: int, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Half-pixel bilinear taps: for each output the two inputs and the second one's weight."""
    at = (np.arange(n_out, dtype=np.float64) + 0.5) * (n_in / n_out) - 0.5
    at = np.clip(at, 0, n_in - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, n_in - 1)
    return low, high, (at - low).astype(np.float32)


def _resize(values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Bilinear, half-pixel centres, no antialias: along x first, then y, each ``a + (b - a)·f``
    in float32. ``values`` is ``[h,w,C]``."""
    h, w = values.shape[:2]
    if (h, w) == shape:
        return values
    low, high, f = _axis_weights(w, shape[1])
    left = values[:, low]
    wide = left + (values[:, high] - left) * f[:, None]  # [h,W,C]
    low, high, f = _axis_weights(h, shape[0])
    upper = wide[low]
    delta = wide[high]
    delta -= upper
    delta *= f[:, None, None]
    upper += delta
    return upper  # [H,W,C]


def _sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + e^-x), computed in float64 and rounded once, so that every port gets the same."""
    x = np.clip(logits.astype(np.float64), -700, 700)
    return (1.0 / (1.0 + np.exp(-x))).astype(np.float32)


def _find_centers(
    scores: FloatArray, content: NDArray[np.bool_], config: PostprocessConfig
) -> tuple[NDArray[np.intp], FloatArray]:
    """Cells (row, column) of the centres, best first, and their scores."""
    h, w = scores.shape
    r = config.window // 2
    candidate = content & (scores >= np.float32(config.threshold))
    padded = np.full((h + 2 * r, w + 2 * r), -np.inf, np.float32)
    padded[r : r + h, r : r + w] = scores
    for dy in range(-r, r + 1):
        if not candidate.any():
            break
        for dx in range(-r, r + 1):
            other = padded[r + dy : r + dy + h, r + dx : r + dx + w]
            if (dy, dx) < (0, 0):  # an equal cell earlier in raster order wins
                candidate &= other < scores
            elif (dy, dx) > (0, 0):
                candidate &= other <= scores
    cells = np.argwhere(candidate)  # raster order
    found = scores[candidate]
    order = np.argsort(-found, kind="stable")[: config.top_k]
    return cells[order], found[order]


def _vote(
    offset: FloatArray, thing: NDArray[np.bool_], centers: FloatArray, grid: _Grid
) -> NDArray[np.int32]:
    """The rank of the centre nearest to each thing pixel's position plus offset, -1 elsewhere."""
    votes = np.full(grid.shape, -1, np.int32)
    rows, cols = np.nonzero(thing)
    if not len(centers) or not len(rows):
        return votes
    at_y = grid.y[rows] + offset[rows, cols, 0]
    at_x = grid.x[cols] + offset[rows, cols, 1]
    best = np.full(len(rows), np.inf, np.float32)
    rank = np.zeros(len(rows), np.int32)
    for k, (cy, cx) in enumerate(centers):
        dy, dx = at_y - cy, at_x - cx
        distance = dy * dy + dx * dx
        closer = distance < best
        rank[closer] = k
        np.minimum(best, distance, out=best)
    votes[rows, cols] = rank
    return votes


def _class_probability(logits: FloatArray, channel: int) -> float:
    """Mean softmax probability of a channel over pixels ``[n,C]``."""
    shifted = logits - logits.max(1, keepdims=True)
    e = np.exp(shifted)
    return float((e[:, channel] / e.sum(1)).mean(dtype=np.float64))


def _assemble(
    class_map: NDArray[np.int32],
    votes: NDArray[np.int32],
    thing: NDArray[np.bool_],
    centers: FloatArray,
    center_scores: FloatArray,
    semantic: FloatArray,
    taxonomy: Taxonomy,
    config: PostprocessConfig,
) -> tuple[NDArray[np.int32], list[DecodedSegment]]:
    """Segments from votes and classes: things in centre order, then stuff by category id."""
    ids = np.full(class_map.shape, VOID, np.int32)
    segments: list[DecodedSegment] = []
    channels = len(taxonomy)
    # One pass over the thing pixels gives every instance's class histogram.
    rank, channel = votes[thing], class_map[thing]
    known = rank >= 0
    histogram = np.bincount(
        rank[known] * channels + channel[known], minlength=len(centers) * channels
    ).reshape(-1, channels)
    for k, (counts, score) in enumerate(zip(histogram, center_scores, strict=True)):
        area = int(counts.sum())
        if area == 0 or area < config.min_thing_area:
            continue
        top = _most_frequent(counts, taxonomy)
        mask = votes == k
        ids[mask] = len(segments) + 1
        probability = _class_probability(semantic[mask], top)
        center = (float(centers[k, 0]), float(centers[k, 1]))
        segments.append(
            DecodedSegment(len(segments) + 1, top, True, float(score) * probability, area, center)
        )
    areas = np.bincount(class_map[(class_map >= 0) & ~thing], minlength=channels)
    stuff = [c for c in range(channels) if areas[c] and not taxonomy.thing_mask[c]]
    for top in sorted(stuff, key=lambda c: int(taxonomy.ids[c])):
        area = int(areas[top])
        if area < config.min_stuff_area:
            continue
        mask = class_map == top
        ids[mask] = len(segments) + 1
        probability = _class_probability(semantic[mask], top)
        segments.append(DecodedSegment(len(segments) + 1, top, False, probability, area))
    return ids, segments


def _most_frequent(counts: NDArray[np.intp], taxonomy: Taxonomy) -> int:
    """The channel counted most; a tie goes to the lowest category id."""
    most = np.flatnonzero(counts == counts.max())
    return int(most[np.argmin(taxonomy.ids[most])])
