"""The contract ``semantic``: one class for each pixel and no instances, to a panoptic map.

Networks such as DeepLab, LR-ASPP, SegFormer and MOSAIC answer with logits per class, or with the
classes alone (an argmax inside the network). Each class in the photo becomes one segment, things
too. What differs between networks is a field of :class:`SemanticConfig`.

:class:`Semantic` has a method for each stage::

    heads → classes  → SemanticClasses
            segments → SemanticSegments
            ids      → PanopticMap

Sources: DeepLab (https://arxiv.org/abs/1706.05587) for the argmax over resized logits; TensorFlow's
``ResizeBilinear`` and ``ResizeNearestNeighbor`` for the two corner rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding.kernels import Taps, aligned_taps, axis_taps, classify
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.settings import DecodingSettings, check_columns
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import VOID, Taxonomy

__all__ = [
    "Semantic",
    "SemanticClasses",
    "SemanticConfig",
    "SemanticHeads",
    "SemanticSegments",
]

MAX_AREA = 2**31 - 1  # pixels
MAX_MAGNITUDE = 1e38
"""Largest magnitude of a logit: the difference of any two is still a float32."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class SemanticConfig(DecodingSettings):
    """How a network's classes are read.

    ``input``: the head holds ``"logits"``, ``"probabilities"`` (after a softmax in the network), or
    ``"labels"`` (class columns, whole numbers). ``align_corners``: the resize to the input puts the
    corner samples of both grids on each other; otherwise pixels have half-pixel centres.
    ``columns``: the taxonomy's channel of each class column, -1 for none (void); empty: in order.
    ``min_area``: classes of fewer pixels of the input grid become void. ``threshold``: a pixel
    whose highest value, as the head holds it, is below this is void; so a head of one channel tells
    an object from the rest. None: there is no such limit.
    """

    contract: ClassVar[str] = "semantic"
    heads: ClassVar[Mapping[str, tuple[int, ...]]] = {"semantic": (2, 3)}

    input: Literal["logits", "probabilities", "labels"] = "logits"
    align_corners: bool = False
    columns: tuple[int, ...] = ()
    min_area: int = 0
    threshold: float | None = None

    def __post_init__(self) -> None:
        kinds = ("logits", "probabilities", "labels")
        if self.input not in kinds:
            raise ArgumentError.unknown("input", self.input, kinds)
        if not 0 <= self.min_area <= MAX_AREA:
            expected = f"a number of pixels from 0 to {MAX_AREA}"
            raise ArgumentError("min_area", f"min_area is {self.min_area!r}; expected {expected}")
        if self.threshold is not None and not abs(self.threshold) <= MAX_MAGNITUDE:
            given = f"threshold is {self.threshold!r}"
            raise ArgumentError("threshold", f"{given}; expected a finite number or none")
        if self.threshold is not None and self.input == "labels":
            raise ArgumentError("threshold", "threshold goes with logits and probabilities; input "
                                "is 'labels'")  # fmt: skip
        check_columns(self.columns)

    def check_shapes(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        input_wh: tuple[int, int],
        stride: int,
        taxonomy: Taxonomy,
    ) -> None:
        """See :meth:`DecodingSettings.check_shapes`."""
        shape, classes = shapes["semantic"], len(self.columns) or len(taxonomy)
        if self.input == "labels":
            if len(shape) != 2 and shape[2:] != (1,):
                raise ArgumentError(
                    "shape", f"semantic has shape {shape}; expected rows and columns"
                )
        elif len(shape) != 3 or shape[2] != classes:
            expected = f"rows, columns and {classes} channels for this taxonomy"
            raise ArgumentError("shape", f"semantic has shape {shape}; expected {expected}")

    def read_heads(self, arrays: Mapping[str, NDArray[Any]]) -> SemanticHeads:
        """See :meth:`DecodingSettings.read_heads`: ``semantic`` ``[h,w,C]``, or labels ``[h,w]``.
        Labels may be of any type, of floats the nearest whole number counts, and may have a channel
        axis of 1."""
        if self.input == "labels" and "semantic" in arrays:
            arrays = {"semantic": _labels(np.asarray(arrays["semantic"]))}
        return SemanticHeads.from_arrays(arrays)

    def decoder(self, taxonomy: Taxonomy, transform: TransformRecord) -> Semantic:
        """See :meth:`DecodingSettings.decoder`."""
        return Semantic(taxonomy, transform, self)


def _labels(array: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as whole numbers without a channel axis; ``HeadError`` if one is none."""
    if array.ndim >= 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype.kind == "f":
        given, array = array, np.floor(array.astype(np.float64) + 0.5)
        is_label = np.abs(array) < 2**31  # NaN is none
        if not is_label.all():
            index = tuple(int(i) for i in np.argwhere(~is_label)[0])
            at = index[-2:]  # without the batch axis
            expected = f"expected labels of 32 bits, got {given[index]} at {at}"
            raise HeadError("semantic", expected, at)
    return array.astype(np.int64)


@dataclass(frozen=True)
class SemanticHeads:
    """The network's raw output for one photo.

    ``semantic``: logits or probabilities float32 ``[h,w,C]``, or labels int32 ``[h,w]``, over the
    whole input. A wrong shape or type, NaN, infinity, or a magnitude above 1e38 raises
    ``HeadError``.
    """

    semantic: NDArray[Any]

    def __post_init__(self) -> None:
        array = self.semantic
        if array.ndim not in (2, 3) or 0 in array.shape:
            expected = "expected shape (h, w, C), or (h, w) for labels"
            raise HeadError("semantic", f"{expected}, got {array.shape}")
        if array.dtype != (np.int32 if array.ndim == 2 else np.float32):
            expected = "expected int32 for labels (h, w)" if array.ndim == 2 else "expected float32"
            raise HeadError("semantic", f"{expected}, got {array.dtype}")
        if array.ndim == 2:
            return
        # Written so that a NaN, which no comparison holds for, is caught as well.
        if not (array.min() >= -MAX_MAGNITUDE and array.max() <= MAX_MAGNITUDE):
            at = tuple(int(i) for i in np.argwhere(~(np.abs(array) <= MAX_MAGNITUDE))[0])
            limit = f"expected finite numbers of at most {MAX_MAGNITUDE:g} in magnitude"
            raise HeadError("semantic", f"{limit}, got {array[at]} at {at}", at)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], layout: str = "nhwc") -> SemanticHeads:
        """Heads from a tensor named ``semantic``, with or without a batch axis of 1. Integer types
        are labels (``[h,w]``, ``[1,h,w]``, ``[1,h,w,1]``), all else is logits or probabilities.
        ``layout`` is ``"nhwc"`` or ``"nchw"``."""
        if "semantic" not in arrays:
            raise HeadError("semantic", f"is missing; got {sorted(arrays)}")
        array = np.asarray(arrays["semantic"])
        labels = array.dtype.kind in "iu"
        if array.ndim == 4 or (labels and array.ndim == 3):
            if array.shape[0] != 1:
                raise HeadError("semantic", f"expected a batch of 1, got {array.shape[0]}")
            array = array[0]
        if array.ndim == 3 and layout == "nchw":
            array = np.moveaxis(array, 0, -1)
        if not labels:
            return cls(np.ascontiguousarray(array, np.float32))
        if array.ndim == 3:
            if array.shape[2] != 1:
                expected = "expected one channel of whole numbers (labels); dequantize logits first"
                raise HeadError("semantic", f"{expected}. Got the shape {array.shape}")
            array = array[..., 0]
        limits = np.iinfo(np.int32)
        if array.size and not (array.min() >= limits.min and array.max() <= limits.max):
            at = tuple(int(i) for i in np.argwhere((array < limits.min) | (array > limits.max))[0])
            raise HeadError("semantic", f"expected labels of 32 bits, got {array[at]} at {at}", at)
        return cls(np.ascontiguousarray(array, np.int32))


@dataclass(frozen=True)
class SemanticClasses:
    """The class of each pixel of the photo's part of the input grid.

    ``column`` int32 ``[rows,cols]``: the class as the network counts; ``channel`` int32
    ``[rows,cols]``: that of the taxonomy, -1 = it has none; ``probability`` float32 ``[rows,cols]``
    of the class, 0..1 (labels: 1); ``below`` bool ``[rows,cols]``: the highest value is below the
    threshold, so that the pixel is void.
    """

    column: NDArray[np.int32]
    channel: NDArray[np.int32]
    probability: FloatArray
    below: NDArray[np.bool_]

    @property
    def unmapped(self) -> dict[int, int]:
        """The columns in the photo that the taxonomy has no class for, and their pixels."""
        columns, counts = np.unique(
            self.column[(self.channel < 0) & ~self.below], return_counts=True
        )
        return dict(zip(columns.tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class SemanticSegments:
    """The segments, and the id of each channel, int32 ``[C]``; 0 = void."""

    segments: tuple[DecodedSegment, ...]
    id_of_channel: NDArray[np.int32]


class Semantic:
    """Decodes a class for each pixel of inputs that were made as ``transform`` says; a method for
    each stage. ``ArgumentError`` if ``settings.columns`` names a channel the taxonomy lacks."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        settings: SemanticConfig | None = None,
    ) -> None:
        self.taxonomy, self.transform = taxonomy, transform
        self.settings = settings or SemanticConfig()
        columns = self.settings.columns or tuple(range(len(taxonomy)))
        if max(columns) >= len(taxonomy):
            expected = f"channels below {len(taxonomy)}, as the taxonomy has"
            raise ArgumentError("columns", f"columns hold {max(columns)}; expected {expected}")
        self.columns = np.array(columns, np.int32)

    @property
    def taps(self) -> Taps:
        """How resized values are taken from their neighbours."""
        return aligned_taps if self.settings.align_corners else axis_taps

    def decode(self, heads: SemanticHeads, *, explain: bool = False) -> PanopticMap:
        """All stages. With ``explain`` the result carries ``class_map`` int32 ``[H,W]`` (channel,
        -1 = void), ``columns`` int32 ``[H,W]`` (column, -1 = padding), ``probability`` float32
        ``[H,W]`` (padding: 0) and ``unmapped`` intp ``[n,2]`` (column without a class, pixels)."""
        classes = self.classes(heads)
        kept = self.segments(classes)
        decoded = self.ids(classes, kept)
        if not explain:
            return decoded
        return replace(
            decoded,
            explain={
                "class_map": self._on_grid(classes.channel, -1),
                "columns": self._on_grid(classes.column, -1),
                "probability": self._on_grid(classes.probability, 0),
                "unmapped": np.array([*classes.unmapped.items()], np.intp).reshape(-1, 2),
            },
        )

    def classes(self, heads: SemanticHeads) -> SemanticClasses:
        """The class of each pixel: the highest of the resized values, the lowest column of equals.
        Labels are taken from the nearest cell, since a label between two others means nothing."""
        labels, array = self.settings.input == "labels", heads.semantic
        if labels != (array.ndim == 2):
            got = "labels (h, w)" if array.ndim == 2 else "numbers per class (h, w, C)"
            raise HeadError("semantic", f"expected {self.settings.input}, got {got}")
        (w, h), (rows, cols) = self.transform.input_wh, self.transform.content_slices
        if labels:
            take_rows = nearest_cells(array.shape[0], h, self.settings.align_corners)[rows]
            take_cols = nearest_cells(array.shape[1], w, self.settings.align_corners)[cols]
            column: NDArray[np.int32] = array[take_rows[:, None], take_cols]
            probability: FloatArray = np.ones(column.shape, np.float32)
            below = np.zeros(column.shape, bool)
        else:
            if array.shape[2] != len(self.columns):
                expected = f"expected {len(self.columns)} classes"
                raise HeadError("semantic", f"{expected}, got {array.shape[2]}")
            found = classify(array, (h, w), rows, cols, self.taps)
            column = found.channel
            given = self.settings.input == "probabilities"
            probability = found.peak if given else np.asarray(1 / found.total)
            least = self.settings.threshold
            below = found.peak < np.float32(-np.inf if least is None else least)
        known = (column >= 0) & (column < len(self.columns)) & ~below
        channel = np.where(known, self.columns.take(column, mode="clip"), np.int32(-1))
        return SemanticClasses(column, channel, probability, below)

    def segments(self, classes: SemanticClasses) -> SemanticSegments:
        """One segment for each class in the photo that has enough pixels. Ids count from 1 by
        category id; the score is the mean probability of the pixels, summed in float64."""
        n = len(self.taxonomy)
        channel, probability = classes.channel.reshape(-1), classes.probability.reshape(-1)
        known = channel >= 0
        areas = np.bincount(channel[known], minlength=n)
        sums = np.bincount(channel[known], probability[known], n)
        found: list[DecodedSegment] = []
        id_of_channel = np.full(n, VOID, np.int32)
        for c in np.argsort(self.taxonomy.ids).tolist():
            area = int(areas[c])
            if not area or area < self.settings.min_area:
                continue
            id_of_channel[c] = len(found) + 1
            is_thing, score = bool(self.taxonomy.thing_mask[c]), float(sums[c]) / area
            found.append(DecodedSegment(len(found) + 1, c, is_thing, score, area))
        return SemanticSegments(tuple(found), id_of_channel)

    def ids(self, classes: SemanticClasses, kept: SemanticSegments) -> PanopticMap:
        """The map: each pixel has the id of its class; the padding is void."""
        ids = np.append(kept.id_of_channel, np.int32(VOID)).take(classes.channel)
        return PanopticMap(self._on_grid(ids, VOID), kept.segments)

    def _on_grid(self, values: NDArray[Any], outside: int) -> NDArray[Any]:
        full = np.full(self.transform.input_wh[::-1], outside, values.dtype)
        full[self.transform.content_slices] = values
        return full


def nearest_cells(n_in: int, n_out: int, align_corners: bool) -> IntArray:
    """For each of ``n_out`` pixels the nearest of ``n_in`` cells, in whole numbers so that no
    rounding can differ: the cell that holds the pixel's centre, or with ``align_corners`` the
    cell number ``i·(n_in - 1)/(n_out - 1)`` rounded half up."""
    i = np.arange(n_out, dtype=np.int64)
    if align_corners:
        steps = max(1, n_out - 1)
        return np.asarray((2 * i * (n_in - 1) + steps) // (2 * steps), np.intp)
    return np.asarray((2 * i + 1) * n_in // (2 * n_out), np.intp)
