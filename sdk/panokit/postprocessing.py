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

from panokit._decode import ClassPlanes, classify, find_centers, nearest, resize_planes, sample
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import VOID, Taxonomy

__all__ = ["DecodedSegment", "Heads", "PanopticMap", "PostprocessConfig", "postprocess"]

MAX_MAGNITUDE = 1e38
"""Largest magnitude in a head: the difference of any two is still a float32."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class PostprocessConfig:
    """Parameters of the decoding.

    ``threshold``: least centre score (after the sigmoid), 0..1. ``window``: odd side of the
    non-maximum suppression window, head cells. ``top_k``: most centres kept. ``min_thing_area``
    and ``min_stuff_area``: segments of fewer decode-grid pixels become void. ``grid``: decode on
    the ``"input"`` grid or, faster and coarser, on the ``"head"`` grid. ``min_thing_score``: things
    of a lower score, 0..1, become void.
    """

    threshold: float = 0.25
    window: int = 7
    top_k: int = 100
    min_thing_area: int = 64
    min_stuff_area: int = 256
    grid: Literal["input", "head"] = "input"
    min_thing_score: float = 0.0

    def __post_init__(self) -> None:
        for name in ("threshold", "min_thing_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(name, "from 0 to 1", getattr(self, name))
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
    in input pixels. NaN, infinity, a magnitude above 1e38 (differences of such would overflow) or
    a wrong shape raises ``HeadError`` naming head and position.
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
            # Written so that a NaN, which no comparison holds for, is caught as well.
            if not (array.min() >= -MAX_MAGNITUDE and array.max() <= MAX_MAGNITUDE):
                bad = ~(np.abs(array) <= MAX_MAGNITUDE)
                at = tuple(int(i) for i in np.argwhere(bad)[0])
                limit = f"expected finite numbers of at most {MAX_MAGNITUDE:g} in magnitude"
                raise HeadError(name, f"{limit}, got {array[at]} at {at}", at)

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
    """A grid over the input: its shape, the rows and columns whose centres lie on the photo, and
    the positions of its centres in input pixels."""

    shape: tuple[int, int]
    rows: slice
    cols: slice
    y: FloatArray
    x: FloatArray

    @classmethod
    def over(cls, transform: TransformRecord, shape: tuple[int, int]) -> _Grid:
        left, top, (cw, ch), (w_in, h_in) = (
            transform.left, transform.top, transform.content_wh, transform.input_wh,
        )  # fmt: skip
        rows, y = _axis(shape[0], h_in, top, ch)
        cols, x = _axis(shape[1], w_in, left, cw)
        return cls(shape, rows, cols, y, x)


def _axis(n: int, size: int, start: int, length: int) -> tuple[slice, FloatArray]:
    """Cells of one axis whose centres lie on the photo (its first edge counts), and all centres."""
    # Twice the centre times the cell count, in whole numbers: (2i + 1)·size against 2n·edge.
    twice = (2 * np.arange(n) + 1) * size
    inside = np.flatnonzero((twice >= 2 * n * start) & (twice < 2 * n * (start + length)))
    span = slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
    centers = (np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(size / n)
    return span, centers


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
    h, w = heads.center.shape
    cells = _Grid.over(transform, (h, w))
    grid = cells if config.grid == "head" else _Grid.over(transform, transform.input_wh[::-1])
    planes = classify(heads.semantic, grid.shape, grid.rows, grid.cols)
    scores = _sigmoid(heads.center)
    found, found_scores = find_centers(
        scores, cells.rows, cells.cols, config.threshold, config.window, config.top_k
    )
    centers = np.stack([cells.y[found[:, 0]], cells.x[found[:, 1]]], 1)  # [n,2] input pixels
    voters, ranks = _vote(heads.offset, planes, grid, centers, taxonomy, transform)
    parts, segments = _assemble(
        _Votes(heads.semantic, grid, planes, voters, ranks), centers, found_scores, taxonomy, config
    )
    details: dict[str, NDArray[Any]] = {}
    if explain:
        everywhere = slice(0, grid.shape[0]), slice(0, grid.shape[1])
        details = {
            "semantic": _channels_last(resize_planes(heads.semantic, grid.shape, *everywhere)),
            "offset": _channels_last(resize_planes(heads.offset, grid.shape, *everywhere)),
            "class_map": _on_grid(planes.channel, grid, -1),
            "scores": scores,
            "centers": found,
            "center_scores": found_scores,
            "votes": _on_grid(_spread(ranks, voters, planes.channel.shape, -1), grid, -1),
        }
    return PanopticMap(_on_grid(parts, grid, VOID), tuple(segments), details)


def _on_grid(values: NDArray[np.int32], grid: _Grid, outside: int) -> NDArray[np.int32]:
    """Values of the photo's part of the grid, with ``outside`` in the padding."""
    full = np.full(grid.shape, outside, np.int32)
    full[grid.rows, grid.cols] = values
    return full


def _channels_last(planes: FloatArray) -> FloatArray:
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + e^-x), computed in float64 and rounded once, so that every port gets the same."""
    x = np.clip(logits.astype(np.float64), -700, 700)
    return (1.0 / (1.0 + np.exp(-x))).astype(np.float32)


def _spread(
    values: NDArray[np.int32], at: IntArray, shape: tuple[int, ...], elsewhere: int
) -> NDArray[np.int32]:
    out = np.full(shape, elsewhere, np.int32)
    out.reshape(-1)[at] = values
    return out


def _vote(
    offset: FloatArray,
    planes: ClassPlanes,
    grid: _Grid,
    centers: FloatArray,
    taxonomy: Taxonomy,
    transform: TransformRecord,
) -> tuple[IntArray, NDArray[np.int32]]:
    """The thing pixels (flat indices into the photo's part of the grid) and the rank of the
    centre that each votes for; none at all if there is no centre."""
    voters = np.flatnonzero(taxonomy.thing_mask.take(planes.channel))
    if not len(centers) or not len(voters):
        return voters[:0], np.zeros(0, np.int32)
    at = resize_planes(offset, grid.shape, grid.rows, grid.cols)  # [2,rows,cols]
    at[0] += grid.y[grid.rows, None]
    at[1] += grid.x[grid.cols]
    y, x = (plane.reshape(-1).take(voters) for plane in at)
    return voters, nearest(y, x, centers, transform.input_wh[::-1])


@dataclass(frozen=True)
class _Votes:
    """The voters ``[n]`` (flat indices into the photo's part of the grid), the centre ``ranks``
    ``[n]`` that they vote for, and what else is known of the pixels."""

    semantic: FloatArray
    grid: _Grid
    planes: ClassPlanes
    voters: IntArray
    ranks: NDArray[np.int32]

    def class_counts(self, centers: int, channels: int) -> IntArray:
        """How often each class occurs among the voters of each centre, ``[centers,C]``."""
        pairs = self.ranks * channels + self.planes.channel.reshape(-1).take(self.voters)
        counts: IntArray = np.bincount(pairs, minlength=centers * channels)
        return counts.reshape(-1, channels)

    def probability_sums(self, wanted: IntArray) -> NDArray[np.float64]:
        """For every centre the sum over its voters of the probability of class ``wanted[k]``."""
        channel, peak, total = (
            plane.reshape(-1).take(self.voters)
            for plane in (self.planes.channel, self.planes.peak, self.planes.total)
        )
        probability = 1 / total  # of the pixel's own class; others are looked up
        other = np.flatnonzero(channel != wanted.take(self.ranks))
        if len(other):
            rows, cols = np.divmod(self.voters[other], self.planes.channel.shape[1])
            rows, cols = rows + self.grid.rows.start, cols + self.grid.cols.start
            channels = wanted[self.ranks[other]]
            logits = sample(self.semantic, self.grid.shape, rows, cols, channels)
            probability[other] *= np.exp(logits - peak[other])
        return np.asarray(np.bincount(self.ranks, probability, len(wanted)), np.float64)


def _assemble(
    votes: _Votes,
    centers: FloatArray,
    center_scores: FloatArray,
    taxonomy: Taxonomy,
    config: PostprocessConfig,
) -> tuple[NDArray[np.int32], list[DecodedSegment]]:
    """Segments from votes and classes: things in centre order, then stuff by category id."""
    channels, planes = len(taxonomy), votes.planes
    segments: list[DecodedSegment] = []
    id_of_rank = np.full(len(centers), VOID, np.int32)
    counts = votes.class_counts(len(centers), channels)
    tops = _most_frequent(counts, taxonomy)
    of_rank = votes.probability_sums(tops)
    for k, area in enumerate(counts.sum(1).tolist()):
        if area == 0 or area < config.min_thing_area:
            continue
        score = float(center_scores[k]) * float(of_rank[k]) / area
        if score < config.min_thing_score:
            continue
        id_of_rank[k] = len(segments) + 1
        center = (float(centers[k, 0]), float(centers[k, 1]))
        segments.append(DecodedSegment(len(segments) + 1, int(tops[k]), True, score, area, center))
    id_of_channel = np.full(channels, VOID, np.int32)  # things stay void: voters are set below
    channel = planes.channel.reshape(-1).astype(np.intp)
    areas = np.bincount(channel, minlength=channels).tolist()
    of_channel = np.bincount(channel, (1 / planes.total).reshape(-1), channels)
    for c in np.argsort(taxonomy.ids).tolist():
        if areas[c] == 0 or areas[c] < config.min_stuff_area or taxonomy.thing_mask[c]:
            continue
        id_of_channel[c] = len(segments) + 1
        score = float(of_channel[c]) / areas[c]
        segments.append(DecodedSegment(len(segments) + 1, c, False, score, areas[c]))
    ids = id_of_channel.take(channel)
    ids[votes.voters] = id_of_rank.take(votes.ranks)
    return ids.reshape(planes.channel.shape), segments


def _most_frequent(counts: IntArray, taxonomy: Taxonomy) -> IntArray:
    """The channel counted most for each centre; a tie goes to the lowest category id."""
    by_id = np.argsort(taxonomy.ids)
    channels: IntArray = by_id[counts[:, by_id].argmax(1)]
    return channels
