"""Instances of one network and classes of another (or of one with both) to one panoptic map.

Instances are painted first, the best on top; stuff fills what is left. :class:`Merge` has a method
for each stage::

    instances → order  → order
                things → Painted
    classes   → stuff  → MergedStuff
                ids    → PanopticMap

The rule is the heuristic of Panoptic Segmentation (Kirillov et al.,
https://arxiv.org/abs/1801.00868), as detectron2, panopticapi and mmdet have it. They differ in
their thresholds and in ties; here every comparison and tie has one answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.config import read_settings, write_settings
from panokit.decoding.instances import (
    InstanceHeads,
    Instances,
    InstancesConfig,
    InstanceSet,
    Painted,
    paint,
    segments_of,
)
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.semantic import (
    Semantic,
    SemanticClasses,
    SemanticConfig,
    SemanticHeads,
)
from panokit.decoding.settings import DecodingSettings
from panokit.errors import ArgumentError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import VOID, Taxonomy

__all__ = [
    "MERGE_PRESETS",
    "InstancesSemanticConfig",
    "InstancesSemanticHeads",
    "Merge",
    "MergeConfig",
    "MergedStuff",
]

MAX_AREA = 2**31 - 1  # pixels

IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class MergeConfig:
    """How instances and classes become one map.

    ``threshold``: instances of a lower score, 0..1, are left out. ``order``: instances are painted
    by ``"score"``, the best first, equals as they come; or as ``"given"``. ``overlap``: one of
    which a larger share, 0..1, of its whole mask is taken is left out. ``min_stuff_area``: stuff
    of fewer pixels becomes void. They are counted on the input grid (``area_grid`` ``"input"``), or
    scaled to the photo's size (``"photo"``), for which the originals' limits are meant.
    """

    threshold: float = 0.5
    order: Literal["score", "given"] = "score"
    overlap: float = 0.5
    min_stuff_area: int = 4096
    area_grid: Literal["input", "photo"] = "input"

    def __post_init__(self) -> None:
        for name in ("threshold", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(
                    name, f"{name} is {getattr(self, name)!r}; expected a number from 0 to 1"
                )
        for name, known in (("order", ("score", "given")), ("area_grid", ("input", "photo"))):
            if getattr(self, name) not in known:
                raise ArgumentError.unknown(name, getattr(self, name), known)
        if not 0 <= self.min_stuff_area <= MAX_AREA:
            expected = f"a number of pixels from 0 to {MAX_AREA}"
            raise ArgumentError(
                "min_stuff_area", f"min_stuff_area is {self.min_stuff_area!r}; expected {expected}"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MergeConfig:
        """Read what :meth:`to_json` wrote; unknown names are an error."""
        return read_settings(cls, data, "merge")


_DETECTRON2 = MergeConfig(area_grid="photo")

MERGE_PRESETS: dict[str, MergeConfig] = {
    "detectron2": _DETECTRON2,
    "panopticapi": _DETECTRON2,
    "mmdet": replace(_DETECTRON2, threshold=0.0),
}
"""The originals' limits by name. detectron2's and panopticapi's rules differ only in the order of
equal scores (detectron2's is unstable). mmdet leaves the threshold to the detector. It adds 1e-5
to the area that overlaps are divided by, which changes no decision at this overlap."""


@dataclass(frozen=True)
class InstancesSemanticHeads:
    """The heads of both parts; see :class:`InstanceHeads` and :class:`SemanticHeads`."""

    instances: InstanceHeads
    semantic: SemanticHeads


@dataclass(frozen=True)
class InstancesSemanticConfig(DecodingSettings):
    """The contract ``instances-semantic``: a network (or two in one file) with both, joined."""

    contract: ClassVar[str] = "instances-semantic"
    heads: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **InstancesConfig.heads, **SemanticConfig.heads,
    }  # fmt: skip

    instances: InstancesConfig = field(default_factory=InstancesConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    merge: MergeConfig = field(default_factory=MergeConfig)

    def head_names(self) -> tuple[str, ...]:
        """See :meth:`DecodingSettings.head_names`."""
        return (*self.instances.head_names(), *self.semantic.head_names())

    def check_shapes(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        input_wh: tuple[int, int],
        stride: int,
        taxonomy: Taxonomy,
    ) -> None:
        """See :meth:`DecodingSettings.check_shapes`."""
        for part in (self.instances, self.semantic):
            part.check_shapes(shapes, input_wh, stride, taxonomy)

    def read_heads(self, arrays: Mapping[str, NDArray[Any]]) -> InstancesSemanticHeads:
        """See :meth:`DecodingSettings.read_heads`: ``semantic`` ``[h,w,C]`` beside what the
        instances are of."""
        return InstancesSemanticHeads(
            self.instances.read_heads(arrays), self.semantic.read_heads(arrays)
        )

    def decode(
        self,
        heads: InstancesSemanticHeads,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        *,
        explain: bool = False,
    ) -> PanopticMap:
        """See :meth:`DecodingSettings.decode`."""
        found = Instances(taxonomy, transform, self.instances).find(heads.instances)
        classes = Semantic(taxonomy, transform, self.semantic).classes(heads.semantic)
        return Merge(taxonomy, transform, self.merge).decode(found, classes, explain=explain)


@dataclass(frozen=True)
class MergedStuff:
    """Stuff in what the instances leave: its segments, ids from ``first_id`` on by category id, and
    the id of each channel, int32 ``[C]``; 0 = void."""

    segments: tuple[DecodedSegment, ...]
    id_of_channel: NDArray[np.int32]


class Merge:
    """Joins instances and classes of one input that was made as ``transform`` says; a method for
    each stage. Both have channels of the same ``taxonomy``."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        settings: MergeConfig | None = None,
    ) -> None:
        self.taxonomy, self.transform = taxonomy, transform
        self.settings = settings or MergeConfig()

    def decode(
        self, instances: InstanceSet, classes: SemanticClasses, *, explain: bool = False
    ) -> PanopticMap:
        """All stages. Pixels of a thing class without an instance are void. With ``explain`` the
        result carries ``ranks`` int32 ``[H,W]`` (which of the instances, -1 = none), ``order``
        intp ``[k]`` (instances as they were painted) and ``painted`` intp ``[n]`` (pixels of each
        instance). ``ArgumentError`` if ``classes`` are not of this input."""
        painted = self.things(instances, self.order(instances))
        stuff = self.stuff(instances, painted, classes)
        decoded = self.ids(instances, painted, classes, stuff)
        if not explain:
            return decoded
        return replace(
            decoded,
            explain={"ranks": painted.rank, "order": painted.order, "painted": painted.areas},
        )

    def order(self, instances: InstanceSet) -> IntArray:
        """The instances that reach the threshold, intp ``[k]``, in the order of painting."""
        scores = np.array([i.score for i in instances], np.float32)
        kept = np.flatnonzero(scores >= np.float32(self.settings.threshold))
        if self.settings.order == "given":
            return kept
        return kept[np.argsort(-scores[kept], kind="stable")]

    def things(self, instances: InstanceSet, order: IntArray) -> Painted:
        """The instances, each where nothing is yet, if enough of it is free."""
        w, h = self.transform.input_wh
        return paint(instances.found, (h, w), order.tolist(), self.settings.overlap)

    def stuff(
        self, instances: InstanceSet, painted: Painted, classes: SemanticClasses
    ) -> MergedStuff:
        """The stuff classes in what is left, by category id. Their score is the mean probability
        of those pixels, summed in float64."""
        (w, h), n = self.transform.content_wh, len(self.taxonomy)
        if classes.channel.shape != (h, w):
            got = f"classes have the shape {classes.channel.shape}"
            raise ArgumentError("classes", f"{got}; expected {(h, w)}, the photo's part")
        free = (painted.rank[self.transform.content_slices] < 0) & (classes.channel >= 0)
        channel = classes.channel[free]
        areas = np.bincount(channel, minlength=n)
        sums = np.bincount(channel, classes.probability[free], n)
        found: list[DecodedSegment] = []
        id_of_channel = np.full(n, VOID, np.int32)
        next_id = int(np.count_nonzero(painted.areas)) + 1
        for c in np.argsort(self.taxonomy.ids).tolist():
            area = int(areas[c])
            if self.taxonomy.thing_mask[c] or not area or not self._is_large(area):
                continue
            id_of_channel[c] = next_id + len(found)
            score = float(sums[c]) / area
            found.append(DecodedSegment(next_id + len(found), c, False, score, area))
        return MergedStuff(tuple(found), id_of_channel)

    def _is_large(self, area: int) -> bool:
        """Whether stuff has enough pixels; in whole numbers."""
        if self.settings.area_grid == "input":
            return area >= self.settings.min_stuff_area
        (w0, h0), (w, h) = self.transform.photo_wh, self.transform.content_wh
        return area * w0 * h0 >= self.settings.min_stuff_area * w * h

    def ids(
        self,
        instances: InstanceSet,
        painted: Painted,
        classes: SemanticClasses,
        stuff: MergedStuff,
    ) -> PanopticMap:
        """The map: instances count from 1 in the order of painting, stuff follows."""
        segments, id_of_rank = segments_of(instances.found, painted)
        ids = np.append(id_of_rank, np.int32(VOID)).take(painted.rank)
        view = ids[self.transform.content_slices]
        of_class = np.append(stuff.id_of_channel, np.int32(VOID)).take(classes.channel)
        np.copyto(view, of_class, where=view == VOID)
        return PanopticMap(ids, segments + stuff.segments)
