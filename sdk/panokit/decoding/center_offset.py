"""The contract ``center-offset``: three raw heads to a panoptic map, every tie with one answer.

The grouping is that of Panoptic-DeepLab (Cheng et al., https://arxiv.org/abs/1911.10194); the
exact order of operations is this project's and normative (``docs/port.md`` tells it to ports).
Coordinates are continuous: pixel ``i`` covers ``i..i+1``, its centre is ``i + 0.5``.

:class:`CenterOffset` has a method for each stage::

    heads → upsample, classes → ClassMap
          → centers           → Centers
            votes             → Votes
            instances         → Instances
            filter            → KeptSegments
            ids               → PanopticMap

Each takes and returns frozen dataclasses, so that a device's mistake is one stage overridden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding.kernels import (
    Taps,
    axis_taps,
    classify,
    find_centers,
    nearest,
    resize_planes,
    sample,
    sigmoid,
)
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.settings import DecodingSettings
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import VOID, Taxonomy

__all__ = [
    "CenterOffset",
    "Centers",
    "ClassMap",
    "Grid",
    "Heads",
    "Instances",
    "KeptSegments",
    "PostprocessConfig",
    "Votes",
    "postprocess",
]

MAX_WINDOW = 1023  # cells: more than any head has, and work that grows with its square
MAX_TOP_K = 1_000_000
MAX_AREA = 2**31 - 1  # pixels
MAX_MAGNITUDE = 1e38
"""Largest magnitude in a head: the difference of any two is still a float32."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class PostprocessConfig(DecodingSettings):
    """Parameters of the decoding of ``center-offset``.

    ``threshold``: least centre score (after the sigmoid), 0..1. ``window``: odd side of the
    non-maximum suppression window, head cells. ``top_k``: most centres kept. ``min_thing_area``
    and ``min_stuff_area``: segments of fewer decode-grid pixels become void. ``grid``: decode on
    the ``"input"`` grid or, faster and coarser, on the ``"head"`` grid. ``min_thing_score``: things
    of a lower score, 0..1, become void.
    """

    contract: ClassVar[str] = "center-offset"
    heads: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "semantic": (3,), "center": (2, 3), "offset": (3,),
    }  # fmt: skip

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
                raise ArgumentError(
                    name, f"{name} is {getattr(self, name)!r}; expected a number from 0 to 1"
                )
        if not 1 <= self.window <= MAX_WINDOW or self.window % 2 == 0:
            raise ArgumentError(
                "window", f"window is {self.window!r}; expected an odd number, 1 to {MAX_WINDOW}"
            )
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise ArgumentError("top_k", f"top_k is {self.top_k!r}; expected 1 to {MAX_TOP_K}")
        for name in ("min_thing_area", "min_stuff_area"):
            if not 0 <= getattr(self, name) <= MAX_AREA:
                expected = f"a number of pixels from 0 to {MAX_AREA}"
                raise ArgumentError(name, f"{name} is {getattr(self, name)!r}; expected {expected}")
        if self.grid not in ("input", "head"):
            raise ArgumentError("grid", f"grid is {self.grid!r}; expected 'input' or 'head'")

    def check_shapes(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        input_wh: tuple[int, int],
        stride: int,
        taxonomy: Taxonomy,
    ) -> None:
        """See :meth:`DecodingSettings.check_shapes`."""
        channels = {"semantic": len(taxonomy), "center": 1, "offset": 2}
        for head, count in channels.items():
            expected = (input_wh[1] // stride, input_wh[0] // stride, count)
            if shapes[head] != expected:
                given = f"{head} has shape {shapes[head]}"
                why = f"{expected} for this input, stride and taxonomy"
                raise ArgumentError("shape", f"{given}; expected {why}")

    def read_heads(self, arrays: Mapping[str, FloatArray]) -> Heads:
        """See :meth:`DecodingSettings.read_heads`: ``semantic`` ``[h,w,C]``, ``center``
        ``[h,w,1]``, ``offset`` ``[h,w,2]`` in input pixels."""
        return Heads.from_arrays(arrays)

    def decoder(self, taxonomy: Taxonomy, transform: TransformRecord) -> CenterOffset:
        """See :meth:`DecodingSettings.decoder`."""
        return CenterOffset(taxonomy, transform, self)

    def lenient(self, share: float) -> tuple[PostprocessConfig, float]:
        """See :meth:`DecodingSettings.lenient`."""
        least = self.min_thing_score
        return replace(self, min_thing_score=share * least), least


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
class Grid:
    """A grid over the input: its shape, the rows and columns whose centres lie on the photo, and
    the positions of its centres in input pixels."""

    shape: tuple[int, int]
    rows: slice
    cols: slice
    y: FloatArray
    x: FloatArray

    @classmethod
    def over(cls, transform: TransformRecord, shape: tuple[int, int]) -> Grid:
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


@dataclass(frozen=True)
class ClassMap:
    """The class of each pixel of the photo's part of a grid.

    ``channel`` int32 ``[rows,cols]``, -1 = void; ``peak`` float32, its logit; ``total`` float32,
    the sum of exp(logit - peak) over all channels, so that 1 / total is its probability.
    """

    grid: Grid
    channel: NDArray[np.int32]
    peak: FloatArray
    total: FloatArray


@dataclass(frozen=True)
class Centers:
    """Centres of objects, best first.

    ``heatmap`` float32 ``[h,w]``, scores of all head cells; ``cells`` intp ``[n,2]`` (row, column);
    ``scores`` float32 ``[n]``; ``yx`` float32 ``[n,2]`` in input pixels.
    """

    heatmap: FloatArray
    cells: IntArray
    scores: FloatArray
    yx: FloatArray

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True)
class Votes:
    """``voters`` intp ``[m]``, the thing pixels as flat indices into the photo's part of the grid;
    ``ranks`` int32 ``[m]``, the centre that each votes for. Both empty without a centre."""

    voters: IntArray
    ranks: NDArray[np.int32]


@dataclass(frozen=True)
class Instances:
    """What the voters of each centre make: ``channels`` intp ``[n]``, ``areas`` intp ``[n]`` in
    pixels of the grid (0: nobody voted), ``scores`` float64 ``[n]``."""

    channels: IntArray
    areas: IntArray
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class KeptSegments:
    """The segments that are large and sure enough, and their ids by centre rank, int32 ``[n]``, and
    by channel, int32 ``[C]``; 0 = void."""

    segments: tuple[DecodedSegment, ...]
    id_of_rank: NDArray[np.int32]
    id_of_channel: NDArray[np.int32]


class CenterOffset:
    """Decodes heads of inputs that were made as ``transform`` says; a method for each stage."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        settings: PostprocessConfig | None = None,
    ) -> None:
        self.taxonomy, self.transform = taxonomy, transform
        self.settings = settings or PostprocessConfig()

    taps: Taps = staticmethod(axis_taps)
    """How resized values are taken from their neighbours: with half-pixel centres."""

    def decode(self, heads: Heads, *, explain: bool = False) -> PanopticMap:
        """All stages. With ``explain`` the result carries ``semantic`` ``[H,W,C]``, ``offset``
        ``[H,W,2]``, ``class_map`` ``[H,W]`` (channel, -1 = void), ``scores`` ``[h,w]``, ``centers``
        ``[n,2]`` head cells (row, column), ``center_scores`` ``[n]`` and ``votes`` ``[H,W]``
        (centre rank, -1 = none)."""
        if heads.semantic.shape[2] != len(self.taxonomy):
            expected = f"expected {len(self.taxonomy)} channels as in the taxonomy"
            raise HeadError("semantic", f"{expected}, got {heads.semantic.shape[2]}")
        classes = self.classes(heads)
        centers = self.centers(heads)
        votes = self.votes(heads, classes, centers)
        instances = self.instances(heads, classes, centers, votes)
        kept = self.filter(classes, centers, instances)
        decoded = self.ids(classes, votes, kept)
        if not explain:
            return decoded
        return replace(decoded, explain=self._explain(heads, classes, centers, votes))

    def grid(self, heads: Heads) -> Grid:
        """The grid that pixels are decided on."""
        on_input = self.settings.grid == "input"
        shape = self.transform.input_wh[::-1] if on_input else heads.center.shape
        return self.over((shape[0], shape[1]))

    def over(self, shape: tuple[int, int]) -> Grid:
        """A grid of ``shape`` over the input; what is not the photo is void."""
        return Grid.over(self.transform, shape)

    def upsample(self, values: FloatArray, grid: Grid) -> FloatArray:
        """A head ``[h,w,C]`` on the photo's part of a grid, ``[C,rows,cols]``."""
        return resize_planes(values, grid.shape, grid.rows, grid.cols, self.taps)

    def classes(self, heads: Heads) -> ClassMap:
        """The class of each pixel: the highest upsampled logit, the lowest channel of equals."""
        grid = self.grid(heads)
        found = classify(heads.semantic, grid.shape, grid.rows, grid.cols, self.taps)
        return ClassMap(grid, found.channel, found.peak, found.total)

    def heatmap(self, heads: Heads) -> FloatArray:
        """Centre scores float32 ``[h,w]``: 1 / (1 + e^-x), computed in float64 and rounded once, so
        that every port gets the same."""
        return sigmoid(heads.center)

    def centers(self, heads: Heads) -> Centers:
        """The first ``top_k`` cells that reach the threshold and that no cell of their window
        exceeds, nor equals earlier in raster order."""
        cells, settings = self.over((heads.center.shape[0], heads.center.shape[1])), self.settings
        heatmap = self.heatmap(heads)
        found, scores = find_centers(
            heatmap, cells.rows, cells.cols, settings.threshold, settings.window, settings.top_k
        )
        yx = np.stack([cells.y[found[:, 0]], cells.x[found[:, 1]]], 1)
        return Centers(heatmap, found, scores, yx)

    def offsets(self, heads: Heads, grid: Grid) -> FloatArray:
        """From each pixel to its object's centre, (dy, dx) in input pixels, ``[2,rows,cols]``."""
        return self.upsample(heads.offset, grid)

    def vote_points(self, heads: Heads, grid: Grid) -> FloatArray:
        """Where each pixel votes: its position plus offset, (y, x) in input pixels,
        ``[2,rows,cols]``."""
        at = self.offsets(heads, grid)
        at[0] += grid.y[grid.rows, None]
        at[1] += grid.x[grid.cols]
        return at

    def votes(self, heads: Heads, classes: ClassMap, centers: Centers) -> Votes:
        """Every thing pixel votes for the centre nearest to its position plus offset; a tie goes to
        the better centre."""
        is_thing = np.append(self.taxonomy.thing_mask, False)  # -1, void, is none
        voters = np.flatnonzero(is_thing.take(classes.channel))
        if not len(centers) or not len(voters):
            return Votes(voters[:0], np.zeros(0, np.int32))
        at = self.vote_points(heads, classes.grid)
        y, x = (plane.reshape(-1).take(voters) for plane in at)
        return Votes(voters, nearest(y, x, centers.yx, self.transform.input_wh[::-1]))

    def instances(
        self, heads: Heads, classes: ClassMap, centers: Centers, votes: Votes
    ) -> Instances:
        """The class most frequent among a centre's voters (a tie goes to the lowest category id),
        their number, and the centre's score times the mean probability of that class."""
        count, channels = len(centers), len(self.taxonomy)
        pairs = votes.ranks * channels + classes.channel.reshape(-1).take(votes.voters)
        counts: IntArray = np.bincount(pairs, minlength=count * channels).reshape(-1, channels)
        by_id = np.argsort(self.taxonomy.ids)
        tops: IntArray = by_id[counts[:, by_id].argmax(1)]
        areas: IntArray = counts.sum(1)
        sums = self._probability_sums(heads, classes, votes, tops)
        scores = centers.scores.astype(np.float64) * sums / np.maximum(areas, 1)
        return Instances(tops, areas, scores)

    def _probability_sums(
        self, heads: Heads, classes: ClassMap, votes: Votes, wanted: IntArray
    ) -> NDArray[np.float64]:
        """For every centre the sum over its voters of the probability of class ``wanted[k]``."""
        channel, peak, total = (
            plane.reshape(-1).take(votes.voters)
            for plane in (classes.channel, classes.peak, classes.total)
        )
        probability = 1 / total  # of the pixel's own class; others are looked up
        other = np.flatnonzero(channel != wanted.take(votes.ranks))
        if len(other):
            grid = classes.grid
            rows, cols = np.divmod(votes.voters[other], classes.channel.shape[1])
            rows, cols = rows + grid.rows.start, cols + grid.cols.start
            channels = wanted[votes.ranks[other]]
            logits = sample(heads.semantic, grid.shape, rows, cols, channels, self.taps)
            probability[other] *= np.exp(logits - peak[other])
        return np.asarray(np.bincount(votes.ranks, probability, len(wanted)), np.float64)

    def filter(self, classes: ClassMap, centers: Centers, instances: Instances) -> KeptSegments:
        """Drops what is too small or too unsure. Ids count from 1: things in the order of their
        centres, then stuff by category id."""
        settings, taxonomy = self.settings, self.taxonomy
        segments: list[DecodedSegment] = []
        id_of_rank = np.full(len(centers), VOID, np.int32)
        enough = instances.areas >= max(1, settings.min_thing_area)
        enough &= instances.scores >= settings.min_thing_score
        for k in np.flatnonzero(enough).tolist():
            id_of_rank[k] = len(segments) + 1
            segments.append(
                DecodedSegment(
                    id=len(segments) + 1,
                    channel=int(instances.channels[k]),
                    is_thing=True,
                    score=float(instances.scores[k]),
                    area=int(instances.areas[k]),
                    center_yx=(float(centers.yx[k, 0]), float(centers.yx[k, 1])),
                )
            )
        id_of_channel = np.full(len(taxonomy), VOID, np.int32)  # things stay void: voters come last
        areas, sums = _stuff(classes, len(taxonomy))
        for c in np.argsort(taxonomy.ids).tolist():
            if taxonomy.thing_mask[c] or areas[c] < max(1, settings.min_stuff_area):
                continue
            id_of_channel[c] = len(segments) + 1
            score = float(sums[c]) / int(areas[c])
            segments.append(DecodedSegment(len(segments) + 1, c, False, score, int(areas[c])))
        return KeptSegments(tuple(segments), id_of_rank, id_of_channel)

    def ids(self, classes: ClassMap, votes: Votes, kept: KeptSegments) -> PanopticMap:
        """The map: stuff by channel, things by the centre that their pixels vote for."""
        of_channel = np.append(kept.id_of_channel, np.int32(VOID))  # -1 is void
        ids = of_channel.take(classes.channel.reshape(-1))
        ids[votes.voters] = kept.id_of_rank.take(votes.ranks)
        return PanopticMap(
            _on_grid(ids.reshape(classes.channel.shape), classes.grid, VOID), kept.segments
        )

    def _explain(
        self, heads: Heads, classes: ClassMap, centers: Centers, votes: Votes
    ) -> dict[str, NDArray[Any]]:
        grid = classes.grid
        everywhere = replace(grid, rows=slice(0, grid.shape[0]), cols=slice(0, grid.shape[1]))
        ranks = np.full(classes.channel.shape, -1, np.int32)
        ranks.reshape(-1)[votes.voters] = votes.ranks
        return {
            "semantic": _channels_last(self.upsample(heads.semantic, everywhere)),
            "offset": _channels_last(self.upsample(heads.offset, everywhere)),
            "class_map": _on_grid(classes.channel, grid, -1),
            "scores": centers.heatmap,
            "centers": centers.cells,
            "center_scores": centers.scores,
            "votes": _on_grid(ranks, grid, -1),
        }


def postprocess(
    heads: Heads,
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: PostprocessConfig | None = None,
    *,
    explain: bool = False,
) -> PanopticMap:
    """Decode ``heads`` of an input that was made as ``transform`` says: :meth:`CenterOffset.decode`
    with the settings ``config``."""
    return CenterOffset(taxonomy, transform, config).decode(heads, explain=explain)


def _stuff(classes: ClassMap, channels: int) -> tuple[IntArray, NDArray[np.float64]]:
    """Pixels of each channel, and the sum of their probabilities, both ``[C]``."""
    channel = classes.channel.reshape(-1).astype(np.intp)
    probability = (1 / classes.total).reshape(-1)
    known = channel >= 0
    if not known.all():
        channel, probability = channel[known], probability[known]
    areas = np.bincount(channel, minlength=channels)
    return areas, np.asarray(np.bincount(channel, probability, channels), np.float64)


def _on_grid(values: NDArray[np.int32], grid: Grid, outside: int) -> NDArray[np.int32]:
    """Values of the photo's part of the grid, with ``outside`` in the padding."""
    full = np.full(grid.shape, outside, np.int32)
    full[grid.rows, grid.cols] = values
    return full


def _channels_last(planes: FloatArray) -> FloatArray:
    return np.ascontiguousarray(planes.transpose(1, 2, 0))
