"""The contract ``mask-queries``: a class and a mask per query to a panoptic map.

Networks such as MaskFormer, Mask2Former, EoMT and kMaX-DeepLab answer with Q queries: logits over
the classes, and a mask over the picture. How these become a map differs from family to family in a
dozen small ways. Each is a field of :class:`MaskQueriesConfig`; :data:`MASK_QUERY_PRESETS` holds
the families. Every comparison and tie has one answer (``docs/contracts.md``).

:class:`MaskQueries` has a method for each stage::

    heads → queries           → Queries
            owners            → Owners
            segments          → QuerySegments
            ids               → PanopticMap

Sources: MaskFormer (https://arxiv.org/abs/2107.06278), Mask2Former
(https://arxiv.org/abs/2112.01527), EoMT (https://arxiv.org/abs/2503.19108), kMaX-DeepLab
(https://arxiv.org/abs/2207.04044) and the code of each, and Transformers' ports of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding.kernels import (
    Taps,
    aligned_taps,
    axis_taps,
    sigmoid,
    softmax,
    taps_at,
)
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.settings import DecodingSettings, check_columns
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import VOID, Taxonomy

__all__ = [
    "MASK_QUERY_PRESETS",
    "MaskQueries",
    "MaskQueriesConfig",
    "Owners",
    "Queries",
    "QueryHeads",
    "QuerySegments",
]

MAX_QUERIES = 4096
MAX_AREA = 2**31 - 1
MAX_MAGNITUDE = 1e38

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.intp]

_BAND_VALUES = 1 << 17  # float32 values of a band of rows over all queries: half a megabyte


@dataclass(frozen=True)
class MaskQueriesConfig(DecodingSettings):
    """How a family decodes.

    Classes: ``classes`` says what the class head holds: ``"softmax"`` or ``"sigmoid"`` logits,
    ``"probabilities"``, or ``"labels"``: one class column a query, ``[Q]``, whose score is in a
    head of its own, ``confidence`` ``[Q]``. ``no_object``: the last column means "nothing". A query
    is kept if its best class is not that and its score is above ``threshold`` (stuff:
    ``stuff_threshold``; None: the same).

    Masks: the logits over the whole input are resized to ``mask_grid`` (``"head"`` leaves them,
    ``"input"``, or a width and height), then to the photo's part of the decode grid.
    ``activation`` makes probabilities of them, ``"sigmoid"`` or ``"softmax"`` over all queries,
    before or after the second resize (``activate_last``). ``align_corners``: both resizes align
    the corners of their grids where the input's width is odd. ``antialias``: along an axis that
    the second resize makes shorter, each pixel is a mean of the cells below it, weighted by a
    triangle. ``crop_first``: the padding is cut
    off between the resizes, so that no value from it is mixed in.

    Owners: ``"best"``: a pixel belongs to the kept query with the highest score × probability,
    the first of equals. ``order``: queries count in the order ``"given"``, or by ``"score"``, the
    best first and equals as given. ``"first"``: queries come by score × mean probability in their
    mask, the best first, and take what is left; the mask is where the probability is above
    ``mask_threshold``.

    Segments: of a query A is the number of pixels it owns (``"first"``: takes), O of those that its
    mask holds: probability ≥ ``mask_threshold`` (``mask_rule`` ``"above"``: > it), or score ×
    probability if ``weighted``. It becomes
    a segment if both are above 0 and enough of the mask is owned: A / O is at least ``overlap``
    (``overlap_rule`` ``"at-least"``), or as float32 above it (``"ratio-above"``), or A is above
    O × ``overlap`` as float32 (``"product-above"``). So 4 pixels of 5 are enough for 0.8 by the
    first two rules, 7 of 10 for 0.7 by the first alone. ``painted``: ``"owned"`` pixels, or
    ``"inside"``: those of its mask. Things have at least ``min_thing_area`` pixels of the decode
    grid, stuff ``min_stuff_area``. Stuff of one class is one segment.

    ``grid``: decode on the ``"input"`` grid, or on the ``"photo"`` itself, as the originals do.
    ``columns``: the taxonomy's channel of each class column, -1 for none; empty: in order.
    """

    contract: ClassVar[str] = "mask-queries"
    heads: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "classes": (1, 2), "confidence": (1,), "masks": (3,),
    }  # fmt: skip

    classes: Literal["softmax", "sigmoid", "probabilities", "labels"] = "softmax"
    no_object: bool = True
    threshold: float = 0.8
    stuff_threshold: float | None = None
    mask_grid: Literal["head", "input"] | tuple[int, int] = "input"
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    activate_last: bool = True
    align_corners: bool = False
    antialias: bool = False
    crop_first: bool = True
    owner: Literal["best", "first"] = "best"
    order: Literal["given", "score"] = "given"
    mask_threshold: float = 0.5
    mask_rule: Literal["at-least", "above"] = "at-least"
    weighted: bool = False
    overlap: float = 0.8
    overlap_rule: Literal["at-least", "ratio-above", "product-above"] = "at-least"
    painted: Literal["owned", "inside"] = "inside"
    min_thing_area: int = 0
    min_stuff_area: int = 0
    grid: Literal["input", "photo"] = "input"
    columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("threshold", "stuff_threshold", "mask_threshold", "overlap"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ArgumentError(name, f"{name} is {value!r}; expected a number from 0 to 1")
        for name in ("min_thing_area", "min_stuff_area"):
            if not 0 <= getattr(self, name) <= MAX_AREA:
                expected = f"a number of pixels from 0 to {MAX_AREA}"
                raise ArgumentError(name, f"{name} is {getattr(self, name)!r}; expected {expected}")
        if isinstance(self.mask_grid, tuple) and not all(1 <= n <= 8192 for n in self.mask_grid):
            expected = "'head', 'input', or a width and height from 1 to 8192"
            raise ArgumentError(
                "mask_grid", f"mask_grid is {self.mask_grid!r}; expected {expected}"
            )
        if self.crop_first and self.mask_grid != "input":
            raise ArgumentError(
                "crop_first",
                f"crop_first goes with mask_grid 'input'; mask_grid is {self.mask_grid!r}",
            )
        if self.classes == "labels" and self.no_object:
            raise ArgumentError(
                "no_object", "labels name a class; no_object must be false with classes 'labels'"
            )
        if self.owner == "first" and self.order == "score":
            raise ArgumentError("order", "order goes with owner 'best'; owner is 'first'")
        if self.antialias and (self.align_corners or self.crop_first):
            given = "antialias goes with pixels' centres and the whole grid"
            raise ArgumentError("antialias", f"{given}; align_corners and crop_first must be false")
        if self.owner == "first" and self.weighted:
            raise ArgumentError("weighted", "weighted goes with owner 'best'; owner is 'first'")
        check_columns(self.columns)

    def head_names(self) -> tuple[str, ...]:
        """See :meth:`DecodingSettings.head_names`."""
        labels = self.classes == "labels"
        return ("classes", "confidence", "masks") if labels else ("classes", "masks")

    def class_count(self, taxonomy: Taxonomy) -> int:
        """Columns of the class head that are classes."""
        return len(self.columns) or len(taxonomy)

    def check_shapes(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        input_wh: tuple[int, int],
        stride: int,
        taxonomy: Taxonomy,
    ) -> None:
        """See :meth:`DecodingSettings.check_shapes`."""
        classes, masks = shapes["classes"], shapes["masks"]
        columns = self.class_count(taxonomy) + self.no_object
        if self.classes == "labels":
            if len(classes) != 1 or shapes["confidence"] != classes:
                expected = "a class and a confidence for each query"
                given = f"classes and confidence have shapes {classes}, {shapes['confidence']}"
                raise ArgumentError("shape", f"{given}; expected {expected}")
        elif len(classes) != 2 or classes[1] != columns:
            expected = f"(queries, {columns}) for this taxonomy"
            raise ArgumentError("shape", f"classes has shape {classes}; expected {expected}")
        if len(masks) != 3 or masks[2] != classes[0]:
            expected = f"(rows, columns, {classes[0]}), a mask for each query"
            raise ArgumentError("shape", f"masks has shape {masks}; expected {expected}")

    def read_heads(self, arrays: Mapping[str, FloatArray]) -> QueryHeads:
        """See :meth:`DecodingSettings.read_heads`. Labels and their confidence become the two
        columns of ``classes``."""
        if self.classes == "labels":
            masks = {name: array for name, array in arrays.items() if name == "masks"}
            arrays = {"classes": _stacked(arrays), **masks}
        return QueryHeads.from_arrays(arrays)

    def decoder(self, taxonomy: Taxonomy, transform: TransformRecord) -> MaskQueries:
        """See :meth:`DecodingSettings.decoder`."""
        return MaskQueries(taxonomy, transform, self)


def _stacked(arrays: Mapping[str, NDArray[Any]]) -> FloatArray:
    """Labels and confidence ``[Q]``, with or without a batch axis of 1, side by side."""
    found: list[FloatArray] = []
    for name in ("classes", "confidence"):
        if name not in arrays:
            raise HeadError(name, f"is missing; got {sorted(arrays)}")
        array = np.asarray(arrays[name], np.float32)
        array = array[0] if array.ndim == 2 and array.shape[0] == 1 else array
        if array.ndim != 1 or (found and array.shape != found[0].shape):
            raise HeadError(name, f"expected a number for each query, got shape {array.shape}")
        found.append(array)
    return np.stack(found, 1)


_MASK2FORMER = MaskQueriesConfig()
_TRANSFORMERS = MaskQueriesConfig(
    threshold=0.5,
    mask_grid="head",
    activate_last=False,
    crop_first=False,
    weighted=True,
    overlap_rule="ratio-above",
    painted="owned",
)

MASK_QUERY_PRESETS: dict[str, MaskQueriesConfig] = {
    "mask2former": _MASK2FORMER,
    "oneformer": _MASK2FORMER,
    "maskformer": replace(_MASK2FORMER, painted="owned"),
    "eomt": _MASK2FORMER,
    "transformers-mask2former": replace(_TRANSFORMERS, mask_grid=(384, 384)),
    "transformers-maskformer": _TRANSFORMERS,
    "transformers-oneformer": replace(_TRANSFORMERS, antialias=True),
    "transformers-eomt": replace(_MASK2FORMER, overlap_rule="ratio-above"),
    "maskconver": MaskQueriesConfig(
        classes="labels",
        no_object=False,
        threshold=0.01,
        mask_grid="head",
        crop_first=False,
        order="score",
        mask_rule="above",
        overlap=0.7,
        overlap_rule="product-above",
        painted="owned",
        min_thing_area=257,
        min_stuff_area=257,
    ),
    "kmax": MaskQueriesConfig(
        threshold=0.7,
        stuff_threshold=0.5,
        activation="softmax",
        align_corners=True,
        owner="first",
        mask_threshold=0.4,
        overlap_rule="product-above",
    ),
}
"""The families by name. ``oneformer`` of ADE20K has threshold 0.5, ``maskformer`` of it 0.7;
``kmax`` of Cityscapes 0.5 and 0.3 with overlap 0.9, of ADE20K 0.4 and 0.4. Ids count from 1 in all;
EoMT's own count from 0."""


@dataclass(frozen=True)
class QueryHeads:
    """The network's raw outputs for one photo, float32.

    ``classes`` ``[Q,K]``: what the class head holds for each query and class; ``masks`` ``[h,w,Q]``
    logits over the whole input. A NaN among a query's classes drops the query. Infinity, or NaN in
    a mask, or a wrong shape raises ``HeadError`` naming head and position.
    """

    classes: FloatArray
    masks: FloatArray

    def __post_init__(self) -> None:
        q = self.classes.shape[0] if self.classes.ndim == 2 else 0
        if self.classes.ndim != 2 or 0 in self.classes.shape:
            raise HeadError("classes", f"expected shape (Q, K), got {self.classes.shape}")
        if q > MAX_QUERIES:
            raise HeadError("classes", f"expected at most {MAX_QUERIES} queries, got {q}")
        fits = self.masks.ndim == 3 and self.masks.shape[2] == q and 0 not in self.masks.shape
        if not fits:
            raise HeadError("masks", f"expected shape (h, w, {q}), got {self.masks.shape}")
        for name in ("classes", "masks"):
            array = getattr(self, name)
            if array.dtype != np.float32:
                raise HeadError(name, f"expected float32, got {array.dtype}")
        known = self.classes[~np.isnan(self.classes)]
        if known.size and not np.abs(known).max() <= MAX_MAGNITUDE:
            raise _not_finite("classes", self.classes, np.abs(self.classes) > MAX_MAGNITUDE)
        low, high = self.masks.min(), self.masks.max()
        if not (low >= -MAX_MAGNITUDE and high <= MAX_MAGNITUDE):
            raise _not_finite("masks", self.masks, ~(np.abs(self.masks) <= MAX_MAGNITUDE))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], layout: str = "nhwc") -> QueryHeads:
        """Heads from tensors named ``classes`` and ``masks``, with or without a batch axis of 1;
        ``layout`` ``"nhwc"``: masks are ``[h,w,Q]``, ``"nchw"``: ``[Q,h,w]``."""
        out: dict[str, FloatArray] = {}
        for name, rank in (("classes", 2), ("masks", 3)):
            if name not in arrays:
                raise HeadError(name, f"is missing; got {sorted(arrays)}")
            array = np.asarray(arrays[name])
            if array.ndim == rank + 1:
                if array.shape[0] != 1:
                    raise HeadError(name, f"expected a batch of 1, got {array.shape[0]}")
                array = array[0]
            if name == "masks" and layout == "nchw" and array.ndim == 3:
                array = np.moveaxis(array, 0, -1)
            out[name] = np.ascontiguousarray(array, np.float32)
        return cls(**out)


def _not_finite(name: str, array: FloatArray, bad: NDArray[np.bool_]) -> HeadError:
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    limit = f"expected finite numbers of at most {MAX_MAGNITUDE:g} in magnitude"
    return HeadError(name, f"{limit}, got {array[at]} at {at}", at)


@dataclass(frozen=True)
class Queries:
    """The kept queries in the order in which they are looked at.

    ``index`` intp ``[n]``, which of the Q; ``columns`` and ``channels`` intp ``[n]``, their class
    in the head and in the taxonomy (-1: the taxonomy has none); ``scores`` float32 ``[n]``.
    """

    index: IntArray
    columns: IntArray
    channels: IntArray
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Owners:
    """Who owns the pixels of the photo's part of the decode grid.

    ``rank`` int32 ``[rows,cols]``: the kept query, -1 = none; ``inside`` bool ``[rows,cols]``: the
    pixel lies in its owner's mask; ``owned``, ``held``, ``both`` intp ``[n]``: pixels that a query
    owns, that its mask holds (over all pixels), and that are both. ``order`` intp ``[n]``: the
    order in which queries become segments.
    """

    rank: NDArray[np.int32]
    inside: NDArray[np.bool_]
    owned: IntArray
    held: IntArray
    both: IntArray
    order: IntArray


@dataclass(frozen=True)
class QuerySegments:
    """The segments, and of each kept query its segment's id, int32 ``[n]``; 0 = void."""

    segments: tuple[DecodedSegment, ...]
    id_of_rank: NDArray[np.int32]


_AxisTaps = tuple[IntArray, IntArray, FloatArray]


@dataclass(frozen=True)
class _Mix:
    """An axis whose pixels are weighted means of cells: ``weights`` float64 ``[out,in]``."""

    weights: NDArray[np.float64]

    def part(self, rows: slice) -> _Mix:
        return _Mix(self.weights[rows])


@dataclass(frozen=True)
class _Plan:
    """From which rows and columns of which grid each output pixel is taken."""

    first: tuple[int, int] | None  # rows and columns of the grid in between
    rows: _AxisTaps | _Mix
    cols: _AxisTaps | _Mix
    shape: tuple[int, int]


class MaskQueries:
    """Decodes queries of inputs that were made as ``transform`` says; a method for each stage."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        settings: MaskQueriesConfig | None = None,
    ) -> None:
        self.taxonomy, self.transform = taxonomy, transform
        self.settings = settings or MaskQueriesConfig()

    def decode(self, heads: QueryHeads, *, explain: bool = False) -> PanopticMap:
        """All stages. With ``explain`` the result carries ``queries`` ``[n]`` (which of the Q),
        ``query_scores`` ``[n]``, ``owners`` ``[H,W]`` (rank among these, -1 = none), ``owned``,
        ``held`` and ``both`` ``[n]`` (see :class:`Owners`)."""
        queries = self.queries(heads)
        owners = self.owners(heads, queries)
        kept = self.segments(queries, owners)
        decoded = self.ids(owners, kept)
        if not explain:
            return decoded
        return replace(
            decoded,
            explain={
                "queries": queries.index,
                "query_scores": queries.scores,
                "owners": self._on_grid(owners.rank, -1),
                "owned": owners.owned,
                "held": owners.held,
                "both": owners.both,
            },
        )

    def probabilities(self, heads: QueryHeads) -> FloatArray:
        """Of each query and class, ``[Q,K]``; computed in float64 and rounded once."""
        settings = self.settings
        if settings.classes == "probabilities":
            return heads.classes
        if settings.classes == "sigmoid":
            return sigmoid(heads.classes)
        return softmax(heads.classes, 1)

    def queries(self, heads: QueryHeads) -> Queries:
        """The queries that say something: best class (the first of equals) not "nothing", and its
        score above the threshold, all in float32."""
        settings = self.settings
        if settings.classes == "labels":
            return self._labelled(heads)
        p = self.probabilities(heads)
        classes = p.shape[1] - settings.no_object
        if classes < 1:
            raise HeadError(
                "classes", f"expected classes beside 'no object', got {p.shape[1]} in all"
            )
        if settings.owner == "first":  # "nothing" only takes its share of the probability
            p = p[:, :classes]
        columns = p.argmax(1)
        scores = p[np.arange(len(p)), columns]
        channels = self._channels(classes)[columns]
        return self._kept(columns, channels, scores, columns < classes)

    def _labelled(self, heads: QueryHeads) -> Queries:
        """The same of labels with their confidence. A label that is no column drops its query."""
        table = self._channels(self.settings.class_count(self.taxonomy))
        given = np.floor(heads.classes[:, 0].astype(np.float64) + 0.5)
        known = (given >= 0) & (given < len(table) - 1)  # NaN is none
        columns = np.where(known, given, 0).astype(np.intp)
        return self._kept(columns, table[columns], heads.classes[:, 1], known)

    def _kept(
        self, columns: IntArray, channels: IntArray, scores: FloatArray, known: NDArray[np.bool_]
    ) -> Queries:
        """Of queries with a class, those above their threshold, in the order that counts."""
        settings = self.settings
        is_thing = np.append(self.taxonomy.thing_mask, False).take(channels)
        stuff = settings.threshold if settings.stuff_threshold is None else settings.stuff_threshold
        least = np.where(is_thing, np.float32(settings.threshold), np.float32(stuff))
        kept = np.flatnonzero(known & (scores > least))
        if settings.order == "score":
            kept = kept[np.argsort(-scores[kept], kind="stable")]
        return Queries(kept, columns[kept], channels[kept], scores[kept])

    def _channels(self, classes: int) -> IntArray:
        """The taxonomy's channel of each column; of "no object" -1."""
        count = self.settings.class_count(self.taxonomy)
        columns = np.array(self.settings.columns or range(count), np.intp)
        if classes != count or columns.max() >= len(self.taxonomy):
            expected = f"expected {count} classes ({len(self.taxonomy)} in the taxonomy)"
            also = " and 'no object'" if self.settings.no_object else ""
            raise HeadError("classes", f"{expected}{also}, got {classes + self.settings.no_object}")
        return np.append(columns, -1)

    def owners(self, heads: QueryHeads, queries: Queries) -> Owners:
        """Which query owns each pixel, and how much of its mask that is."""
        if self.settings.owner == "first":
            return self._first_owners(heads, queries)
        return self._best_owners(heads, queries)

    def _best_owners(self, heads: QueryHeads, queries: Queries) -> Owners:
        settings, plan, n = self.settings, self._plan(heads), len(queries)
        rank = np.full(plan.shape, -1, np.int32)
        inside = np.zeros(plan.shape, bool)
        held = np.zeros(n, np.intp)
        if n:
            least = np.float32(settings.mask_threshold)
            hold = np.greater if settings.mask_rule == "above" else np.greater_equal
            for rows, p in self.bands(heads, queries.index):  # p [n,rows,cols]
                best = queries.scores[0] * p[0]
                found = np.zeros(best.shape, np.int32)
                within = hold(best if settings.weighted else p[0], least)
                held[0] += np.count_nonzero(within)
                for k in range(1, n):
                    strength = queries.scores[k] * p[k]
                    better = strength > best
                    np.copyto(found, k, where=better)
                    np.maximum(best, strength, out=best)
                    holds = hold(strength if settings.weighted else p[k], least)
                    held[k] += np.count_nonzero(holds)
                    if not settings.weighted:
                        np.copyto(within, holds, where=better)
                rank[rows] = found
                # What the owner's mask holds is, if weighted, what the best strength is.
                inside[rows] = hold(best, least) if settings.weighted else within
        return _owners(rank, inside, held)

    def _first_owners(self, heads: QueryHeads, queries: Queries) -> Owners:
        """Queries by score × mean probability in their mask, the best first, take what is left.
        ``rank`` is that among the queries as they came."""
        settings, plan, n = self.settings, self._plan(heads), len(queries)
        least = np.float32(settings.mask_threshold)
        sums, held = np.zeros(n), np.zeros(n, np.intp)
        masks = np.zeros((n, *plan.shape), bool)
        for rows, p in self.bands(heads, queries.index):
            masks[:, rows] = p > least
            held += np.count_nonzero(masks[:, rows], axis=(1, 2))
            sums += np.where(masks[:, rows], p, 0).sum((1, 2), np.float64)
        order = np.argsort(
            -(queries.scores * (sums / np.maximum(held, 1)).astype(np.float32)), kind="stable"
        )
        rank = np.full(plan.shape, -1, np.int32)
        owned = np.zeros(n, np.intp)
        for k in order.tolist():
            new = masks[k] & (rank < 0)
            owned[k] = np.count_nonzero(new)
            if self._is_enough(int(owned[k]), int(held[k])):
                rank[new] = k
        return Owners(rank, rank >= 0, owned, held, owned, order)

    def _is_enough(self, owned: int, held: int) -> bool:
        """Whether a query owns enough of what its mask holds."""
        if not owned or not held:
            return False
        least, rule = self.settings.overlap, self.settings.overlap_rule
        if rule == "at-least":
            return owned / held >= least
        if rule == "ratio-above":
            return float(np.float32(owned) / np.float32(held)) > least
        return bool(np.float32(owned) > np.float32(held) * np.float32(least))

    def segments(self, queries: Queries, owners: Owners) -> QuerySegments:
        """What becomes of each query. Ids count from 1 in the owners' order. Stuff of a class that
        is there already joins it; the score stays the first one's."""
        settings = self.settings
        painted = owners.both if settings.painted == "inside" else owners.owned
        found: list[DecodedSegment] = []
        stuff: dict[int, int] = {}
        id_of_rank = np.full(len(queries), VOID, np.int32)
        for k in owners.order.tolist():
            channel, area = int(queries.channels[k]), int(painted[k])
            enough = self._is_enough(int(owners.owned[k]), int(owners.held[k]))
            if channel < 0 or not area or not enough:
                continue
            is_thing = bool(self.taxonomy.thing_mask[channel])
            if area < (settings.min_thing_area if is_thing else settings.min_stuff_area):
                continue
            if not is_thing and channel in stuff:
                at = stuff[channel]
                found[at - 1] = replace(found[at - 1], area=found[at - 1].area + area)
                id_of_rank[k] = at
                continue
            id_of_rank[k] = len(found) + 1
            if not is_thing:
                stuff[channel] = len(found) + 1
            score = float(queries.scores[k])
            found.append(DecodedSegment(len(found) + 1, channel, is_thing, score, area))
        return QuerySegments(tuple(found), id_of_rank)

    def ids(self, owners: Owners, kept: QuerySegments) -> PanopticMap:
        """The map: each pixel has the id of its owner's segment."""
        ids = np.append(kept.id_of_rank, np.int32(VOID)).take(owners.rank)
        if self.settings.painted == "inside":
            ids[~owners.inside] = VOID
        on_photo = self.settings.grid == "photo"
        return PanopticMap(self._on_grid(ids, VOID), kept.segments, on_photo=on_photo)

    def _on_grid(self, values: NDArray[np.int32], outside: int) -> NDArray[np.int32]:
        if self.settings.grid == "photo":
            return values
        full = np.full(self.transform.input_wh[::-1], outside, np.int32)
        full[self.transform.content_slices] = values
        return full

    taps: Taps = staticmethod(axis_taps)
    """How resized values are taken from their neighbours: with half-pixel centres."""

    def _plan(self, heads: QueryHeads) -> _Plan:
        settings, transform = self.settings, self.transform
        (w_in, h_in), (w, h) = transform.input_wh, transform.content_wh
        between = heads.masks.shape[0], heads.masks.shape[1]
        first = None
        if settings.mask_grid != "head":
            wanted = settings.mask_grid if settings.mask_grid != "input" else (w_in, h_in)
            first = (wanted[1], wanted[0]) if (wanted[1], wanted[0]) != between else None
            between = wanted[1], wanted[0]
        out_w, out_h = transform.photo_wh if settings.grid == "photo" else (w, h)
        corners = self._corners()
        rows: _AxisTaps | _Mix = _region(
            between[0], h_in, transform.top, h, out_h, settings.crop_first, corners
        )
        cols: _AxisTaps | _Mix = _region(
            between[1], w_in, transform.left, w, out_w, settings.crop_first, corners
        )
        if settings.antialias:
            rows = _shrunk(between[0], h_in, transform.top, h, out_h) or rows
            cols = _shrunk(between[1], w_in, transform.left, w, out_w) or cols
        return _Plan(first, rows, cols, (out_h, out_w))

    def _corners(self) -> bool:
        return self.settings.align_corners and self.transform.input_wh[0] % 2 == 1

    def bands(self, heads: QueryHeads, index: IntArray) -> Iterator[tuple[slice, FloatArray]]:
        """Mask probabilities of the queries ``index`` on the photo's part of the decode grid, band
        by band of its rows: ``[n,rows,cols]``."""
        settings, plan = self.settings, self._plan(heads)
        # A softmax over queries needs all of them.
        every = settings.activation == "softmax"
        chosen = heads.masks if every else heads.masks[:, :, index]
        planes = np.ascontiguousarray(chosen.transpose(2, 0, 1))  # [n,h,w]
        if plan.first is not None:
            taps = aligned_taps if self._corners() else self.taps
            planes = _resized(planes, taps(planes.shape[1], plan.first[0]),
                              taps(planes.shape[2], plan.first[1]))  # fmt: skip
        if not settings.activate_last:
            planes = self._activate(planes)
        wide = _along(planes, plan.cols, axis=2)
        # Steps to the next row, once for all of the rows between two.
        steps = np.diff(wide, axis=1, append=wide[:, -1:])
        step = max(1, _BAND_VALUES // max(1, planes.shape[0] * plan.shape[1]))
        for start in range(0, plan.shape[0], step):
            rows = slice(start, min(start + step, plan.shape[0]))
            p = _row_band(wide, steps, plan.rows, rows)
            if settings.activate_last:
                p = self._activate(p)
            yield rows, p[index] if every else p

    def _activate(self, logits: FloatArray) -> FloatArray:
        """Probabilities of mask logits ``[n,…]``; in float64, rounded once."""
        return sigmoid(logits) if self.settings.activation == "sigmoid" else softmax(logits, 0)


def _region(
    n: int, size: int, start: int, length: int, n_out: int, crop: bool, corners: bool
) -> tuple[IntArray, IntArray, FloatArray]:
    """Taps of an axis from a grid of ``n`` cells over an input of ``size`` pixels to ``n_out``
    pixels over its part from ``start`` on. ``crop``: n is size, and values come from that part
    alone."""
    if corners:
        step = (length - 1) / (n_out - 1) if n_out > 1 else 0.0
        at = np.arange(n_out, dtype=np.float64) * step + start  # in the input's pixels
        if crop:
            return taps_at(at, start, start + length - 1)
        return taps_at(at * ((n - 1) / (size - 1) if size > 1 else 0.0), 0, n - 1)
    position = (np.arange(n_out, dtype=np.float64) + 0.5) * (length / n_out)  # in the photo's part
    if crop:
        return taps_at(position - 0.5 + start, start, start + length - 1)
    return taps_at((position + start) * (n / size) - 0.5, 0, n - 1)


def _shrunk(n: int, size: int, start: int, length: int, n_out: int) -> _Mix | None:
    """The antialiased mixture of an axis as in :func:`_region`, if it becomes shorter. Each pixel
    takes the cells around its centre, weighted by a triangle that reaches one pixel to each side;
    the weights add up to 1."""
    cells = (length / n_out) * (n / size)  # of a pixel
    if cells <= 1:
        return None
    center = ((np.arange(n_out, dtype=np.float64) + 0.5) * (length / n_out) + start) * (n / size)
    distance = np.abs(np.arange(n, dtype=np.float64)[None, :] + 0.5 - center[:, None]) / cells
    weights = np.maximum(1 - distance, 0)
    return _Mix(weights / weights.sum(1, keepdims=True))


def _row_band(
    planes: FloatArray, steps: FloatArray, axis: _AxisTaps | _Mix, rows: slice
) -> FloatArray:
    """Some rows of ``planes`` ``[n,h,w]`` resized along y; ``steps`` are to the next row."""
    if isinstance(axis, _Mix):
        return _along(planes, axis.part(rows), axis=1)
    low, high, f = axis[0][rows], axis[1][rows], axis[2][rows]
    if not f.any() or ((high - low) > 1).any():
        return _along(planes, (low, high, f), axis=1)
    b = steps.take(low, 1)
    b *= f[:, None]
    b += planes.take(low, 1)
    return b


def _along(planes: FloatArray, taps: _AxisTaps | _Mix, axis: int) -> FloatArray:
    """Resize along an axis: ``a + (b - a)·f``, or weighted means in float64, rounded once."""
    if isinstance(taps, _Mix):
        mixed = np.tensordot(planes.astype(np.float64), taps.weights, axes=(axis, 1))
        return np.ascontiguousarray(np.moveaxis(mixed, -1, axis), np.float32)
    low, high, f = taps
    if not f.any() and np.array_equal(low, np.arange(low[0], low[0] + len(low))):
        part = [slice(None)] * planes.ndim
        part[axis] = slice(int(low[0]), int(low[0]) + len(low))
        return planes[tuple(part)]
    a = planes.take(low, axis)
    b = planes.take(high, axis)
    b -= a
    b *= f if axis == planes.ndim - 1 else f[:, None]
    b += a
    return b


def _resized(planes: FloatArray, rows: _AxisTaps | _Mix, cols: _AxisTaps | _Mix) -> FloatArray:
    return _along(_along(planes, cols, axis=2), rows, axis=1)


def _owners(rank: NDArray[np.int32], inside: NDArray[np.bool_], held: IntArray) -> Owners:
    n = len(held)
    owned = np.bincount(rank[rank >= 0].ravel(), minlength=n)
    both = np.bincount(rank[inside].ravel(), minlength=n)
    return Owners(rank, inside, owned, held, both, np.arange(n))
