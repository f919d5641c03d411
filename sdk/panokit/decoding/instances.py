"""The contract ``instances``: objects with boxes and masks, to a list of them and to a map.

Networks such as YOLO-seg and RF-DETR-Seg answer with many anchors or queries: a box, scores per
class, and a mask, which is its own or a mixture of prototypes that all share. How these become
instances differs from family to family. Each difference is a field of :class:`InstancesConfig`;
:data:`INSTANCE_PRESETS` holds the families. Every comparison and tie has one answer.

:class:`Instances` has a method for each stage::

    heads → detections → DetectedBoxes
            suppress   → DetectedBoxes
            masks      → Masks
            instances  → InstanceSet
            paint      → Painted
            ids        → PanopticMap

Boxes are (x0, y0, x1, y1) in input pixels; coordinates are continuous, pixel ``i`` covers
``i..i+1``. Sources: YOLACT (https://arxiv.org/abs/1904.02689) for masks from prototypes; the
published outputs of the YOLO family, and RF-DETR (https://arxiv.org/abs/2511.09554) and its code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding.kernels import Taps, axis_taps, sigmoid, softmax
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.settings import DecodingSettings, check_columns
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import VOID, Taxonomy

__all__ = [
    "INSTANCE_PRESETS",
    "DetectedBoxes",
    "Instance",
    "InstanceHeads",
    "InstanceSet",
    "Instances",
    "InstancesConfig",
    "Masks",
    "Painted",
    "paint",
]

MAX_ANCHORS = 1_000_000
MAX_COUNT = 10_000
MAX_AREA = 2**31 - 1  # pixels
MAX_MAGNITUDE = 1e38  # of scores and masks: the difference of any two is still a float32
MAX_BOX = 1e9  # of a box: areas in input pixels are still float32
MAX_FACTOR = 1e15  # of coefficients and prototypes: sums of products are still float32

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class InstancesConfig(DecodingSettings):
    """How a family decodes.

    Tensors: ``tensors`` says what they are. ``"joined"``: ``detections`` holds box, objectness
    (if ``objectness``), class scores and mask coefficients of each anchor. ``"rows"``:
    ``detections`` holds box, score, class column and mask coefficients of each finished detection.
    ``"split"``: ``boxes``, ``scores`` and, with prototypes, ``coefficients`` are tensors of their
    own. ``anchors_last``: these are ``[k,A]``, not ``[A,k]``. ``masks``: ``"prototypes"``
    (``prototypes``, mixed by the coefficients), or ``"direct"`` (``masks``, one for each anchor).

    Boxes: ``box`` is ``"center"`` (centre x and y, width, height), ``"corners"``, or
    ``"distances"`` (left, top, right, bottom from the centre of the anchor's cell, in strides; the
    grids of ``strides`` follow each other, cells in raster order). ``box_unit``: ``"pixels"`` of
    the input, or ``"input"``: shares of its width and height.

    Scores: ``classes`` says what the class scores are: ``"probabilities"``, or ``"sigmoid"`` or
    ``"softmax"`` logits. ``background``: the ``"first"`` or ``"last"`` column, "nothing", is never
    chosen. ``choice``: an anchor is a detection of its ``"best"`` class, the first of equals,
    or each of its ``"pairs"`` with a class is one. A detection is kept if its score (objectness ×
    class score; the objectness alone as well) is above ``threshold``. The best ``top_k`` go on
    (None: as many as there are anchors): score descending, then by anchor, then by column.

    Suppression: ``nms``: a detection is dropped if its box overlaps that of a better one, of the
    same column if ``class_wise``, by an IoU above this (None: no suppression). The first
    ``max_count`` stay.

    Masks: ``activation`` ``"sigmoid"`` makes probabilities of mask logits before they are resized
    to the input. ``crop``: pixels outside the box are cut off ``"before"`` the resize (on the
    cells of the prototypes), ``"after"`` it, or not at all (``"none"``). The mask is where the
    resized value is above ``mask_threshold``. Fewer than ``min_area`` pixels are no instance.

    ``columns``: the taxonomy's channel of each class column, the background not counted, -1 for
    none; empty: in order. Such detections take part in the choice and are dropped at its end.
    """

    contract: ClassVar[str] = "instances"
    heads: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "detections": (2,), "boxes": (2,), "scores": (2,), "coefficients": (2,),
        "prototypes": (3,), "masks": (3,),
    }  # fmt: skip

    tensors: Literal["joined", "rows", "split"] = "joined"
    anchors_last: bool = True
    objectness: bool = False
    masks: Literal["prototypes", "direct"] = "prototypes"
    box: Literal["center", "corners", "distances"] = "center"
    box_unit: Literal["pixels", "input"] = "pixels"
    strides: tuple[int, ...] = (8, 16, 32)
    classes: Literal["probabilities", "sigmoid", "softmax"] = "probabilities"
    background: Literal["none", "first", "last"] = "none"
    choice: Literal["best", "pairs"] = "best"
    threshold: float = 0.25
    top_k: int | None = 30_000
    nms: float | None = 0.7
    class_wise: bool = True
    max_count: int = 300
    activation: Literal["none", "sigmoid"] = "none"
    mask_threshold: float = 0.0
    crop: Literal["after", "before", "none"] = "after"
    min_area: int = 0
    columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ArgumentError.unknown(name, getattr(self, name), known)
        for name in ("threshold", "nms"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ArgumentError(name, f"{name} is {value!r}; expected a number from 0 to 1")
        if not abs(self.mask_threshold) <= MAX_MAGNITUDE:
            expected = "expected a finite number"
            raise ArgumentError(
                "mask_threshold", f"mask_threshold is {self.mask_threshold!r}; {expected}"
            )
        ranges = {
            "min_area": (0, MAX_AREA),
            "max_count": (1, MAX_COUNT),
            "top_k": (1, MAX_ANCHORS),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ArgumentError(name, f"{name} is {value!r}; expected {low} to {high}")
        if not 1 <= len(self.strides) <= 16 or any(not 1 <= s <= 1024 for s in self.strides):
            expected = "1 to 16 numbers of pixels from 1 to 1024"
            raise ArgumentError("strides", f"strides are {self.strides!r}; expected {expected}")
        if self.box == "distances" and self.box_unit != "pixels":
            raise ArgumentError("box_unit", "distances are in strides; box_unit must be 'pixels'")
        if self.tensors != "joined" and self.objectness:
            expected = "objectness goes with tensors 'joined'"
            raise ArgumentError("objectness", f"{expected}; tensors is {self.tensors!r}")
        if self.tensors != "split" and self.masks == "direct":
            expected = "masks 'direct' goes with tensors 'split'"
            raise ArgumentError("masks", f"{expected}; tensors is {self.tensors!r}")
        plain = (self.classes, self.background, self.choice) == ("probabilities", "none", "best")
        if self.tensors == "rows" and not plain:
            raise ArgumentError(
                "tensors",
                "rows hold one score and its class; expected classes 'probabilities', "
                "background 'none' and choice 'best'",
            )
        check_columns(self.columns)

    def head_names(self) -> tuple[str, ...]:
        """See :meth:`DecodingSettings.head_names`."""
        if self.masks == "direct":
            return ("boxes", "scores", "masks")
        anchors = (
            ("boxes", "scores", "coefficients") if self.tensors == "split" else ("detections",)
        )
        return (*anchors, "prototypes")

    def class_count(self, taxonomy: Taxonomy) -> int:
        """Columns of class scores, the background among them. Without ``columns`` these are the
        taxonomy's things, which come first in it."""
        things = int(taxonomy.thing_mask.sum())
        return (len(self.columns) or things) + (self.background != "none")

    def check_shapes(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        input_wh: tuple[int, int],
        stride: int,
        taxonomy: Taxonomy,
    ) -> None:
        """See :meth:`DecodingSettings.check_shapes`."""
        anchors = shapes[self.head_names()[0]][0]
        picture = shapes[self.head_names()[-1]]
        if len(picture) != 3:
            expected = "rows, columns and channels"
            name = self.head_names()[-1]
            raise ArgumentError("shape", f"{name} has shape {picture}; expected {expected}")
        mixed, classes = picture[2], self.class_count(taxonomy)
        wanted: dict[str, tuple[int, int]] = {
            "detections": (anchors, 6 + mixed)
            if self.tensors == "rows"
            else (anchors, 4 + self.objectness + classes + mixed),
            "boxes": (anchors, 4),
            "scores": (anchors, classes),
            "coefficients": (anchors, mixed),
        }
        for name in self.head_names()[:-1]:
            if shapes[name] != wanted[name]:
                expected = f"{wanted[name]} for {len(taxonomy)} classes"
                raise ArgumentError(
                    "shape", f"{name} has shape {shapes[name]}; expected {expected}"
                )
        if self.masks == "direct" and mixed != anchors:
            expected = f"a mask for each of {anchors} boxes"
            raise ArgumentError("shape", f"masks has shape {picture}; expected {expected}")

    def read_heads(self, arrays: Mapping[str, FloatArray]) -> InstanceHeads:
        """See :meth:`DecodingSettings.read_heads`: anchors are the first axis."""
        return InstanceHeads.from_arrays(arrays, settings=replace(self, anchors_last=False))

    def decoder(self, taxonomy: Taxonomy, transform: TransformRecord) -> Instances:
        """See :meth:`DecodingSettings.decoder`."""
        return Instances(taxonomy, transform, self)


_CHOICES = {
    "tensors": ("joined", "rows", "split"),
    "masks": ("prototypes", "direct"),
    "box": ("center", "corners", "distances"),
    "box_unit": ("pixels", "input"),
    "classes": ("probabilities", "sigmoid", "softmax"),
    "background": ("none", "first", "last"),
    "choice": ("best", "pairs"),
    "activation": ("none", "sigmoid"),
    "crop": ("after", "before", "none"),
}

_YOLO = InstancesConfig()

INSTANCE_PRESETS: dict[str, InstancesConfig] = {
    "yolo-seg": _YOLO,
    "yolo-seg-v5": replace(
        _YOLO,
        anchors_last=False,
        objectness=True,
        nms=0.45,
        max_count=1000,
        activation="sigmoid",
        mask_threshold=0.5,
        crop="before",
    ),
    "yolo-seg-end2end": replace(_YOLO, tensors="rows", anchors_last=False, box="corners", nms=None),
    "yolo-seg-split": replace(_YOLO, tensors="split", box="distances"),
    "rf-detr-seg": InstancesConfig(
        tensors="split",
        anchors_last=False,
        masks="direct",
        box_unit="input",
        classes="sigmoid",
        choice="pairs",
        threshold=0.5,
        top_k=None,
        nms=None,
        crop="none",
    ),
}
"""The families by name. ``yolo-seg``: v8, 11 and 26 as exported raw. TFLite files hold boxes as
shares: ``box_unit="input"``. Early v8 cut masks before the resize: ``crop="before"``.
``rf-detr-seg``: COCO weights have 91 columns, and the column is the category id, so ``columns``
must say so; own weights have ``background="last"``."""


@dataclass(frozen=True)
class InstanceHeads:
    """The network's raw outputs for one photo, as the config reads them, float32.

    ``boxes`` ``[A,4]``; ``scores`` ``[A,C]`` (finished detections: ``[A,1]``); ``labels`` float32
    ``[A]``, the class columns of finished detections, else None; ``objectness`` ``[A]`` or None;
    ``coefficients`` ``[A,M]`` and ``prototypes`` ``[h,w,M]``, or mask logits ``masks`` ``[h,w,A]``.
    Masks and prototypes lie over the whole input. NaN among scores, labels and objectness drops the
    anchor. Where pairs are chosen, a NaN score drops its pair alone. In the background's column it
    is not looked at. A softmax makes all of the anchor NaN. Any other NaN, infinity, or a magnitude
    above 1e9 in boxes, 1e15 in coefficients and prototypes, 1e38 else, or a wrong shape raises
    ``HeadError`` naming head and position.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: FloatArray | None = None
    objectness: FloatArray | None = None
    coefficients: FloatArray | None = None
    prototypes: FloatArray | None = None
    masks: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise HeadError("boxes", f"expected shape (A, 4), got {self.boxes.shape}")
        n = len(self.boxes)
        if n > MAX_ANCHORS:
            raise HeadError("boxes", f"expected at most {MAX_ANCHORS} anchors, got {n}")
        if (self.masks is None) == (self.prototypes is None):
            raise HeadError("masks", "expected masks, or coefficients and prototypes")
        if (self.coefficients is None) != (self.prototypes is None):
            raise HeadError("prototypes", "expected coefficients and prototypes together")
        m = 0 if self.prototypes is None else ([*self.prototypes.shape] or [0])[-1]
        expected: dict[str, tuple[int | str, ...]] = {
            "scores": (n, "C"),
            "labels": (n,),
            "objectness": (n,),
            "coefficients": (n, m),
            "prototypes": ("h", "w", m),
            "masks": ("h", "w", n),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is None:
                continue
            fits = array.ndim == len(shape) and all(
                s > 0 if isinstance(e, str) else s == e
                for e, s in zip(shape, array.shape, strict=True)
            )
            if not fits:
                text = str(shape).replace("'", "")
                raise HeadError(name, f"expected shape {text}, got {array.shape}")
        if self.prototypes is not None and not m:
            raise HeadError("prototypes", f"expected at least one, got {self.prototypes.shape}")
        limits = {
            "boxes": MAX_BOX,
            "scores": MAX_MAGNITUDE,
            "labels": MAX_MAGNITUDE,
            "objectness": MAX_MAGNITUDE,
            "coefficients": MAX_FACTOR,
            "prototypes": MAX_FACTOR,
            "masks": MAX_MAGNITUDE,
        }
        for name, limit in limits.items():
            array = getattr(self, name)
            if array is not None:
                _check_numbers(name, array, limit, name in ("scores", "labels", "objectness"))

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        layout: str = "nhwc",
        settings: InstancesConfig | None = None,
    ) -> InstanceHeads:
        """Heads from tensors with the names that :class:`InstancesConfig` tells, with or without a
        batch axis of 1. ``layout`` is that of ``prototypes`` and ``masks``: ``"nhwc"`` ``[h,w,M]``
        or ``"nchw"`` ``[M,h,w]``. How the others lie is ``settings.anchors_last``: never guessed,
        since a small raw output looks like a finished one."""
        settings = settings or InstancesConfig()
        direct = settings.masks == "direct"
        grid = _read(arrays, "masks" if direct else "prototypes", 3)
        grid = np.ascontiguousarray(np.moveaxis(grid, 0, -1) if layout == "nchw" else grid)
        if direct:
            return cls(
                _anchors(arrays, "boxes", settings),
                _anchors(arrays, "scores", settings),
                masks=grid,
            )
        if settings.tensors == "split":
            boxes, scores, coefficients = (
                _anchors(arrays, name, settings) for name in ("boxes", "scores", "coefficients")
            )
            return cls(boxes, scores, coefficients=coefficients, prototypes=grid)
        joined, m = _anchors(arrays, "detections", settings), grid.shape[2]
        rows = settings.tensors == "rows"
        classes = 1 if rows else joined.shape[1] - 4 - settings.objectness - m
        if classes < 1 or (rows and joined.shape[1] != 6 + m):
            expected = f"expected {6 + m}" if rows else f"expected {5 + settings.objectness + m}"
            more = "" if rows else " or more"
            way = "(k, A)" if settings.anchors_last else "(A, k)"
            raise HeadError(
                "detections",
                f"{expected}{more} numbers an anchor for {m} prototypes, got {joined.shape[1]}. "
                f"The tensor is read as {way}; anchors_last turns it",
            )
        return cls(
            joined[:, :4],
            joined[:, 4:5] if rows else joined[:, 4 + settings.objectness : joined.shape[1] - m],
            labels=joined[:, 5] if rows else None,
            objectness=joined[:, 4] if settings.objectness else None,
            coefficients=joined[:, joined.shape[1] - m :],
            prototypes=grid,
        )


def _read(arrays: Mapping[str, NDArray[Any]], name: str, rank: int) -> FloatArray:
    """A tensor by name, float32, without its batch axis."""
    if name not in arrays:
        raise HeadError(name, f"is missing; got {sorted(arrays)}")
    array = np.asarray(arrays[name], np.float32)
    if array.ndim == rank + 1:
        if array.shape[0] != 1:
            raise HeadError(name, f"expected a batch of 1, got {array.shape[0]}")
        array = array[0]
    if array.ndim != rank:
        raise HeadError(name, f"expected {rank} axes, or a batch of 1 of them, got {array.shape}")
    return array


def _anchors(
    arrays: Mapping[str, NDArray[Any]], name: str, settings: InstancesConfig
) -> FloatArray:
    """A tensor ``[A,k]``."""
    array = _read(arrays, name, 2)
    return array.T if settings.anchors_last else array


def _check_numbers(name: str, array: FloatArray, limit: float, nan_is_allowed: bool) -> None:
    if array.dtype != np.float32:
        raise HeadError(name, f"expected float32, got {array.dtype}")
    if not array.size:
        return
    if nan_is_allowed:
        low, high = np.fmin.reduce(array, axis=None), np.fmax.reduce(array, axis=None)
        if np.isnan(low):
            return
    else:
        low, high = array.min(), array.max()
    # Written so that a NaN, which no comparison holds for, is caught as well.
    if low >= -limit and high <= limit:
        return
    bad = ~(np.abs(array) <= limit)
    if nan_is_allowed:
        bad &= ~np.isnan(array)
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    expected = f"expected finite numbers of at most {limit:g} in magnitude"
    raise HeadError(name, f"{expected}, got {array[at]} at {at}", at)


@dataclass(frozen=True)
class DetectedBoxes:
    """Detections, best first.

    ``index`` intp ``[n]``, the anchor, row or query; ``columns`` and ``channels`` intp ``[n]``, the
    class in the head and in the taxonomy (-1: the taxonomy has none); ``scores`` float32 ``[n]``;
    ``boxes`` float32 ``[n,4]`` (x0, y0, x1, y1) in input pixels, as they came: they may lie
    outside the photo, or have no size.
    """

    index: IntArray
    columns: IntArray
    channels: IntArray
    scores: FloatArray
    boxes: FloatArray

    def __len__(self) -> int:
        return len(self.index)

    def take(self, which: IntArray | slice) -> DetectedBoxes:
        """Some of them, in the given order."""
        return DetectedBoxes(
            self.index[which],
            self.columns[which],
            self.channels[which],
            self.scores[which],
            self.boxes[which],
        )


@dataclass(frozen=True)
class Masks:
    """The mask of each detection on the input grid, cut to a part that holds all of it:
    ``corners`` intp ``[n,2]``, the row and column of that part's first pixel; ``pixels``, bool
    ``[rows,cols]`` each. Nothing lies outside the photo."""

    corners: IntArray
    pixels: tuple[NDArray[np.bool_], ...]


@dataclass(frozen=True)
class Instance:
    """One object on the input grid.

    ``index``: its anchor, row or query; ``channel`` of the taxonomy; ``score`` 0..1; ``box`` (x0,
    y0, x1, y1) in input pixels, cut to the photo; ``mask`` bool ``[rows,cols]``, of which the first
    pixel lies at ``corner`` (row, column) of the input; ``area`` in pixels of the input.
    """

    index: int
    channel: int
    score: float
    box: tuple[float, float, float, float]
    corner: tuple[int, int]
    mask: NDArray[np.bool_]
    area: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns of the input that ``mask`` covers."""
        (y, x), (h, w) = self.corner, self.mask.shape
        return slice(y, y + h), slice(x, x + w)

    def on_grid(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask on a whole input of ``shape`` ``[H,W]``."""
        full = np.zeros(shape, bool)
        full[self.slices] = self.mask
        return full


@dataclass(frozen=True)
class InstanceSet:
    """The instances of a photo, best first; ``unmapped``: detections of classes that the taxonomy
    has no channel for, by column."""

    found: tuple[Instance, ...]
    unmapped: dict[int, int]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.found)


@dataclass(frozen=True)
class Painted:
    """Who has each pixel of the input: ``rank`` int32 ``[H,W]``, the instance, -1 = none;
    ``areas`` intp ``[n]``, the pixels each has (0: hidden or left out); ``order`` intp ``[n]``, the
    order in which they were painted."""

    rank: NDArray[np.int32]
    areas: IntArray
    order: IntArray


class Instances:
    """Decodes detections and masks of inputs that were made as ``transform`` says; a method for
    each stage. ``ArgumentError`` if ``settings.columns`` names a channel that is no thing of the
    taxonomy, or if there are no columns and the taxonomy has stuff among its first channels."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        settings: InstancesConfig | None = None,
    ) -> None:
        self.taxonomy, self.transform = taxonomy, transform
        self.settings = settings or InstancesConfig()
        columns = self.settings.columns or self._things_first()
        for channel in columns:
            if channel >= len(taxonomy):
                expected = f"channels below {len(taxonomy)}, as the taxonomy has"
                raise ArgumentError("columns", f"columns hold {channel}; expected {expected}")
            if channel >= 0 and not taxonomy.thing_mask[channel]:
                name = taxonomy.categories[channel].name
                raise ArgumentError(
                    "columns",
                    f"columns hold {channel}, which is {name!r} and stuff; instances are things. "
                    "Write -1 to leave a class out",
                )
        self.columns: IntArray = np.array(columns, np.intp)

    def _things_first(self) -> tuple[int, ...]:
        """Without columns: the taxonomy's things, which must come first."""
        things = int(self.taxonomy.thing_mask.sum())
        if not self.taxonomy.thing_mask[:things].all() or not things:
            raise ArgumentError(
                "columns",
                "columns are empty and the taxonomy does not begin with all its things; "
                "name the channel of each class column",
            )
        return tuple(range(things))

    taps: Taps = staticmethod(axis_taps)
    """How resized masks are taken from their neighbours: with half-pixel centres."""

    def decode(self, heads: InstanceHeads, *, explain: bool = False) -> PanopticMap:
        """All stages, to a map: the best instance is painted first, each where nothing is yet;
        the rest is void. With ``explain`` the result carries, of the detections before the
        suppression, ``detections`` ``[n]`` (anchors), ``columns`` ``[n]``, ``scores`` ``[n]`` and
        ``boxes`` ``[n,4]``; after it ``kept`` ``[m]`` (anchors) and ``kept_columns`` ``[m]``; and
        ``instances`` ``[k]`` (anchors), ``areas`` ``[k]`` of their whole masks and ``ranks``
        ``[H,W]`` (which of the k, -1 = none)."""
        found = self.detections(heads)
        kept = self.suppress(found)
        instances = self.instances(kept, self.masks(heads, kept))
        painted = self.paint(instances)
        decoded = self.ids(instances, painted)
        if not explain:
            return decoded
        return replace(
            decoded,
            explain={
                "detections": found.index,
                "columns": found.columns,
                "scores": found.scores,
                "boxes": found.boxes,
                "kept": kept.index,
                "kept_columns": kept.columns,
                "instances": np.array([i.index for i in instances], np.intp),
                "areas": np.array([i.area for i in instances], np.intp),
                "ranks": painted.rank,
            },
        )

    def find(self, heads: InstanceHeads) -> InstanceSet:
        """The stages up to the instances, whose masks may overlap."""
        kept = self.suppress(self.detections(heads))
        return self.instances(kept, self.masks(heads, kept))

    def class_scores(self, heads: InstanceHeads) -> FloatArray:
        """Of each anchor and class, float32 ``[A,C]``: probability, times objectness where there is
        one. Sigmoid and softmax are computed in float64 and rounded once."""
        settings, scores = self.settings, heads.scores
        if settings.classes == "sigmoid":
            scores = sigmoid(scores)
        elif settings.classes == "softmax":
            scores = softmax(scores, 1)
        if settings.background != "none":
            scores = scores[:, 1:] if settings.background == "first" else scores[:, :-1]
        if heads.objectness is not None:
            with np.errstate(over="ignore"):
                scores = scores * heads.objectness[:, None]
        return scores

    def detections(self, heads: InstanceHeads) -> DetectedBoxes:
        """What scores above the threshold, the best first. Equal scores: the lower anchor, then
        the lower column."""
        settings, least = self.settings, np.float32(self.settings.threshold)
        scores = self.class_scores(heads)
        if (heads.labels is None) == (settings.tensors == "rows"):
            raise HeadError("labels", f"tensors is {settings.tensors!r}; only rows have labels")
        if heads.labels is None and scores.shape[1] != len(self.columns):
            also = "" if settings.background == "none" else " beside the background"
            expected = f"expected {len(self.columns)} classes{also}"
            raise HeadError("scores", f"{expected}, got {scores.shape[1]}")
        alive = np.ones(len(scores), bool)
        if heads.objectness is not None:
            alive = heads.objectness > least
        if settings.choice == "pairs":
            index, columns = np.nonzero((scores > least) & alive[:, None])
        else:
            # A NaN among an anchor's scores is the maximum, and above nothing.
            index = np.flatnonzero((scores.max(1) > least) & alive)
            columns = scores[index].argmax(1)
        values = scores[index, columns]
        if heads.labels is not None:
            columns, known = self._labels(heads.labels, index)
            index, columns, values = index[known], columns[known], values[known]
        top = len(scores) if settings.top_k is None else settings.top_k
        order = np.argsort(-values, kind="stable")[:top]
        index, columns, values = index[order], columns[order], values[order]
        boxes = self.boxes(heads, index)
        return DetectedBoxes(index, columns, self.columns[columns], values, boxes)

    def _labels(self, labels: FloatArray, index: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """The class columns of rows, to the nearest whole number (a joined integer output holds
        them with its step), and which of them are numbers."""
        values = labels[index]
        known = ~np.isnan(values)
        columns = np.floor(np.where(known, values, 0).astype(np.float64) + 0.5)
        bad = np.flatnonzero((columns < 0) | (columns >= len(self.columns)))
        if len(bad):
            at = (int(index[bad[0]]),)
            expected = f"expected class columns from 0 to {len(self.columns) - 1}"
            raise HeadError("labels", f"{expected}, got {values[bad[0]]} at {at}", at)
        return columns.astype(np.intp), known

    def boxes(self, heads: InstanceHeads, index: IntArray) -> FloatArray:
        """The boxes of the anchors ``index``, (x0, y0, x1, y1) in input pixels, float32
        ``[n,4]``."""
        settings, given = self.settings, heads.boxes[index]
        if settings.box == "distances":
            centers, stride = self._cells(len(heads.boxes))
            centers, stride = centers[index], stride[index, None]
            low, high = centers - given[:, :2], centers + given[:, 2:]
            return np.concatenate([low * stride, high * stride], 1)
        if settings.box_unit == "input":
            given = given * np.array(self.transform.input_wh * 2, np.float32)
        if settings.box == "corners":
            return given
        half = given[:, 2:] / 2
        return np.concatenate([given[:, :2] - half, given[:, :2] + half], 1)

    def _cells(self, anchors: int) -> tuple[FloatArray, FloatArray]:
        """Centres of the anchors' cells in strides, (x, y) ``[A,2]``, and the strides ``[A]``."""
        w, h = self.transform.input_wh
        sizes = [(h // s, w // s) for s in self.settings.strides]
        whole = all(h % s == 0 and w % s == 0 for s in self.settings.strides)
        if not whole or sum(a * b for a, b in sizes) != anchors:
            cells = " + ".join(f"{a}×{b}" for a, b in sizes)
            expected = f"expected {cells} anchors for strides {self.settings.strides}"
            raise HeadError("boxes", f"{expected} of an input of {w}×{h}, got {anchors}")
        centers, strides = [], []
        for (rows, cols), stride in zip(sizes, self.settings.strides, strict=True):
            y, x = np.divmod(np.arange(rows * cols), cols)
            centers.append(np.stack([x, y], 1).astype(np.float32) + np.float32(0.5))
            strides.append(np.full(rows * cols, stride, np.float32))
        return np.concatenate(centers), np.concatenate(strides)

    def suppress(self, found: DetectedBoxes) -> DetectedBoxes:
        """Non-maximum suppression: going down from the best, a detection that stays drops all later
        ones that its box overlaps by an IoU above ``nms``. Areas and IoU are float32. Two boxes
        without size never drop each other: 0 / 0 is above nothing."""
        settings = self.settings
        if settings.nms is None:
            return found.take(slice(settings.max_count))
        most = np.float32(settings.nms)
        x0, y0, x1, y1 = np.ascontiguousarray(found.boxes.T)
        areas = (x1 - x0) * (y1 - y0)
        # What is not dropped yet, in order.
        left: IntArray = np.arange(len(found))
        kept: list[int] = []
        zero = np.float32(0)
        while len(left) and len(kept) < settings.max_count:
            i, left = int(left[0]), left[1:]
            kept.append(i)
            w = np.minimum(x1[i], x1[left]) - np.maximum(x0[i], x0[left])
            h = np.minimum(y1[i], y1[left]) - np.maximum(y0[i], y0[left])
            shared = np.maximum(w, zero) * np.maximum(h, zero)
            with np.errstate(divide="ignore", invalid="ignore"):
                drops = shared / (areas[i] + areas[left] - shared) > most
            if settings.class_wise:
                drops &= found.columns[left] == found.columns[i]
            left = left[~drops]
        return found.take(np.array(kept, np.intp))

    def masks(self, heads: InstanceHeads, found: DetectedBoxes) -> Masks:
        """The mask of each detection. Sums over prototypes are computed in float64 and rounded
        once; the resize to the input is bilinear in float32, along x first."""
        settings, (w_in, h_in) = self.settings, self.transform.input_wh
        grid = heads.prototypes if heads.prototypes is not None else heads.masks
        if grid is None or (heads.masks is None) == (settings.masks == "direct"):
            raise HeadError("masks", f"masks is {settings.masks!r}; the heads hold others")
        rows, cols = self.transform.content_slices
        row_taps, col_taps = self.taps(grid.shape[0], h_in), self.taps(grid.shape[1], w_in)
        least = np.float32(settings.mask_threshold)
        corners = np.zeros((len(found), 2), np.intp)
        pixels: list[NDArray[np.bool_]] = []
        for k in range(len(found)):
            inside = rows, cols
            if settings.crop == "after":
                inside = _inside(found.boxes[k], rows, cols)
            corners[k] = inside[0].start, inside[1].start
            shape = tuple(s.stop - s.start for s in inside)
            if found.channels[k] < 0 or 0 in shape:
                pixels.append(np.zeros((0, 0), bool))
                continue
            taps = _part(row_taps, inside[0]), _part(col_taps, inside[1])
            part = _reach(taps[0]), _reach(taps[1])
            cells = self._cell_values(heads, found, k, part)
            pixels.append(_resized(cells, taps, part) > least)
        return Masks(corners, tuple(pixels))

    def _cell_values(
        self, heads: InstanceHeads, found: DetectedBoxes, k: int, part: tuple[slice, slice]
    ) -> FloatArray:
        """What detection ``k`` has in a part of the mask's cells, before the resize."""
        settings, index = self.settings, int(found.index[k])
        if heads.masks is not None:
            grid, values = heads.masks, heads.masks[..., index][part]
        else:
            if heads.prototypes is None or heads.coefficients is None:
                raise HeadError("prototypes", "is missing")
            grid, coefficients = heads.prototypes, heads.coefficients[index].astype(np.float64)
            cells = grid[part].astype(np.float64)
            values = (cells.reshape(-1, len(coefficients)) @ coefficients).astype(np.float32)
            values = values.reshape(cells.shape[:2])
        if settings.activation == "sigmoid":
            values = sigmoid(values)
        if settings.crop != "before":
            return values
        (h, w), (w_in, h_in) = grid.shape[:2], self.transform.input_wh
        box = found.boxes[k] * np.array([w / w_in, h / h_in] * 2, np.float32)
        inside = _inside(box, *part)
        cut = np.zeros_like(values)
        here = tuple(
            slice(s.start - p.start, s.stop - p.start) for s, p in zip(inside, part, strict=True)
        )
        cut[here] = values[here]
        return cut

    def instances(self, found: DetectedBoxes, masks: Masks) -> InstanceSet:
        """The detections with a class and a mask: empty masks and small ones are dropped."""
        settings, (rows, cols) = self.settings, self.transform.content_slices
        low = np.array([cols.start, rows.start] * 2, np.float32)
        high = np.array([cols.stop, rows.stop] * 2, np.float32)
        boxes = np.clip(found.boxes, low, high).tolist()
        out: list[Instance] = []
        unmapped: dict[int, int] = {}
        for k, mask in enumerate(masks.pixels):
            if found.channels[k] < 0:
                column = int(found.columns[k])
                unmapped[column] = unmapped.get(column, 0) + 1
                continue
            area = int(np.count_nonzero(mask))
            if not area or area < settings.min_area:
                continue
            y, x = masks.corners[k].tolist()
            x0, y0, x1, y1 = boxes[k]
            out.append(
                Instance(
                    index=int(found.index[k]),
                    channel=int(found.channels[k]),
                    score=float(found.scores[k]),
                    box=(x0, y0, x1, y1),
                    corner=(y, x),
                    mask=mask,
                    area=area,
                )
            )
        return InstanceSet(tuple(out), unmapped)

    def paint(self, instances: InstanceSet) -> Painted:
        """The best first, each where nothing is yet."""
        w, h = self.transform.input_wh
        return paint(instances.found, (h, w), range(len(instances)))

    def ids(self, instances: InstanceSet, painted: Painted) -> PanopticMap:
        """The map. Ids count from 1 in the order of painting; hidden instances have none."""
        segments, id_of_rank = segments_of(instances.found, painted)
        ids = np.append(id_of_rank, np.int32(VOID)).take(painted.rank)
        return PanopticMap(ids, segments)


def paint(
    instances: Sequence[Instance],
    shape: tuple[int, int],
    order: Sequence[int],
    overlap: float = 1.0,
) -> Painted:
    """Paint instances on an input of ``shape`` ``[H,W]`` in the given order, each where nothing is
    yet. One of which more than the share ``overlap`` (0..1) of its whole mask is taken is left
    out. The share is computed in float64."""
    rank = np.full(shape, -1, np.int32)
    areas = np.zeros(len(instances), np.intp)
    for k in order:
        instance = instances[k]
        view = rank[instance.slices]
        free = instance.mask & (view < 0)
        area = int(np.count_nonzero(free))
        if not area or (instance.area - area) / instance.area > overlap:
            continue
        areas[k] = area
        np.copyto(view, np.int32(k), where=free)
    return Painted(rank, areas, np.array(order, np.intp))


def segments_of(
    instances: Sequence[Instance], painted: Painted
) -> tuple[tuple[DecodedSegment, ...], NDArray[np.int32]]:
    """A segment for each instance that has pixels, ids from 1 in the order of painting, and the id
    of each instance, int32 ``[n]`` (0: none). Its centre is that of its box."""
    found: list[DecodedSegment] = []
    id_of_rank = np.full(len(instances), VOID, np.int32)
    for k in painted.order.tolist():
        if not painted.areas[k]:
            continue
        instance = instances[k]
        x0, y0, x1, y1 = instance.box
        id_of_rank[k] = len(found) + 1
        found.append(
            DecodedSegment(
                id=len(found) + 1,
                channel=instance.channel,
                is_thing=True,
                score=instance.score,
                area=int(painted.areas[k]),
                center_yx=((y0 + y1) / 2, (x0 + x1) / 2),
            )
        )
    return tuple(found), id_of_rank


def _inside(box: FloatArray, rows: slice, cols: slice) -> tuple[slice, slice]:
    """The part of rows and columns whose numbers lie in a box (x0, y0, x1, y1): start ≤ number <
    end. An empty part begins where the rows or columns do."""
    x0, y0, x1, y1 = (math.ceil(v) for v in box.tolist())
    return _between(rows, y0, y1), _between(cols, x0, x1)


def _between(span: slice, start: int, stop: int) -> slice:
    start, stop = max(span.start, start), min(span.stop, stop)
    return slice(start, stop) if start < stop else slice(span.start, span.start)


_AxisTaps = tuple[IntArray, IntArray, FloatArray]


def _part(taps: _AxisTaps, part: slice) -> _AxisTaps:
    low, high, f = taps
    return low[part], high[part], f[part]


def _reach(taps: _AxisTaps) -> slice:
    """The cells that taps in ascending order use."""
    return slice(int(taps[0][0]), int(taps[1][-1]) + 1)


def _resized(
    cells: FloatArray, taps: tuple[_AxisTaps, _AxisTaps], part: tuple[slice, slice]
) -> FloatArray:
    """Cells ``[h,w]``, the part ``part`` of a grid, at taps of that grid: ``a + (b - a)·f`` along
    x, then along y."""
    (above, below, fy), (left, right, fx) = taps
    first = cells.take(left - part[1].start, axis=1)
    wide = cells.take(right - part[1].start, axis=1)
    wide -= first
    wide *= fx
    wide += first
    upper = wide.take(above - part[0].start, axis=0)
    out = wide.take(below - part[0].start, axis=0)
    out -= upper
    out *= fy[:, None]
    out += upper
    return np.asarray(out)
