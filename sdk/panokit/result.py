"""What was found in a photo: one map, its segments, and the views people want of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import PanopticMap
from panokit.detections import Detections
from panokit.errors import ArgumentError
from panokit.extents import extents
from panokit.outlines import Outline, trace
from panokit.photo import Photo
from panokit.preprocessing import TransformRecord
from panokit.rle import rle_string
from panokit.taxonomy import VOID, Category, Taxonomy

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PanopticResult", "Segment", "measured"]

_SHOWN = 1024  # pixels of the longest side in a notebook

VIEWS = "panokit.render"
"""What draws results. It imports this file, so its functions are looked up when they are called."""


REFINING = "panokit.effects.refining"
PROPOSING = "panokit.effects.proposing"
"""What corrects and proposes segments; both import this file too."""


def _view(name: str) -> Callable[..., Image.Image]:
    view: Callable[..., Image.Image] = getattr(import_module(VIEWS), name)
    return view


@dataclass(frozen=True)
class Segment:
    """One segment of a photo.

    ``id`` is its value in the id map; ``score`` 0..1; ``area`` in photo pixels; ``box_xyxy`` in
    photo pixels, right and bottom exclusive; ``center_xy`` the network's object centre in photo
    coordinates (None for stuff).
    """

    id: int
    category: Category
    score: float
    area: int
    box_xyxy: tuple[int, int, int, int]
    center_xy: tuple[float, float] | None = None

    def __repr__(self) -> str:
        score = f" {self.score:.0%}" if self.is_thing else ""
        return f"<Segment {self.id} {self.category.name}{score} {list(self.box_xyxy)}>"

    @property
    def is_thing(self) -> bool:
        """Whether this is one object rather than a region of stuff."""
        return self.category.is_thing

    @property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in photo pixels."""
        x0, y0, x1, y1 = self.box_xyxy
        return x0, y0, x1 - x0, y1 - y0

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "id": self.id,
            "category_id": self.category.id,
            "category": self.category.name,
            "isthing": int(self.is_thing),
            "score": round(self.score, 4),
            "area": self.area,
            "box_xyxy": list(self.box_xyxy),
            "center_xy": None if self.center_xy is None else [round(v, 2) for v in self.center_xy],
        }


class Steady(Protocol):
    """What a video knows of the frames before this one."""

    def matte(self, ids: Sequence[int], alpha_hw: NDArray[np.float32]) -> NDArray[np.float32]:
        """A matte of segments, float32 ``[H,W]`` 0..1, steadied where nothing moves."""


@dataclass(frozen=True)
class PanopticResult:
    """A segmented photo.

    ``id_map`` int32 ``[H,W]`` on the photo, 0 = void, else a segment's id; ``segments`` in id
    order; ``transform`` tells how the photo was laid into the network's input. ``steady`` is there
    for the frames of a video: effects ask it to steady their mattes.
    """

    photo: Photo
    id_map: NDArray[np.int32]
    segments: tuple[Segment, ...]
    taxonomy: Taxonomy
    transform: TransformRecord
    artifact: str = ""
    steady: Steady | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_map(
        cls,
        photo: Photo,
        decoded: PanopticMap,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        artifact: str = "",
    ) -> PanopticResult:
        """Bring a decoded map back to the photo (nearest neighbour). A segment that no photo
        pixel falls into is left out."""
        ids = decoded.ids
        rows, cols = decoded.rows_cols(transform)
        id_map = ids.take(cols, axis=1).take(rows, axis=0)
        areas, boxes = _areas_and_boxes(ids, rows, cols, len(decoded.segments) + 1)
        segments = []
        for s in decoded.segments:
            if areas[s.id] == 0:
                continue
            center = None
            if s.center_yx is not None:
                center = transform.point_to_photo(s.center_yx[1], s.center_yx[0])
            segments.append(
                Segment(
                    id=s.id,
                    category=taxonomy.categories[s.channel],
                    score=s.score,
                    area=int(areas[s.id]),
                    box_xyxy=boxes[s.id],
                    center_xy=center,
                )
            )
        return cls(photo, id_map, tuple(segments), taxonomy, transform, artifact)

    def __repr__(self) -> str:
        w, h = self.photo.size_wh
        things = ", ".join(f"{n} {name}" for name, n in self.counts.items())
        stuff = ", ".join(s.category.name for s in self.segments if not s.is_thing)
        found = "; ".join(filter(None, (things, stuff))) or "nothing"
        return f"<PanopticResult {w}x{h}: {found}>"

    def _repr_png_(self) -> bytes:
        """The overlay as notebooks show it."""
        image = self.overlay()
        image.thumbnail((_SHOWN, _SHOWN))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    def show(self) -> None:
        """Show the overlay: in a notebook below the cell, else in the system's viewer."""
        try:
            from IPython.core.getipython import get_ipython
            from IPython.display import display
        except ImportError:
            self.overlay().show()
            return
        if get_ipython() is None:
            self.overlay().show()
        else:
            display(self)

    def __len__(self) -> int:
        return len(self.segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def get(self, segment_id: int) -> Segment:
        """The segment with this id."""
        for segment in self.segments:
            if segment.id == segment_id:
                return segment
        known = [s.id for s in self.segments]
        raise ArgumentError(
            "segment id", f"there is no segment {segment_id!r}; expected one of {known}"
        )

    def find(self, *classes: int | str | Iterable[int | str]) -> tuple[Segment, ...]:
        """All segments of these categories (ids or names, or lists of them), in id order."""
        wanted = {self.taxonomy.get(c).id for c in _flat(classes)}
        return tuple(s for s in self.segments if s.category.id in wanted)

    def at(self, x: float, y: float) -> Segment | None:
        """The segment at a photo point, or None on void; outside the photo is an error."""
        h, w = self.id_map.shape
        if not (0 <= x < w and 0 <= y < h):
            raise ArgumentError(
                "point",
                f"the point {(x, y)} lies outside the photo; "
                f"expected x from 0 to below {w} and y from 0 to below {h}",
            )
        segment_id = int(self.id_map[int(y), int(x)])
        return None if segment_id == VOID else self.get(segment_id)

    def mask(self, *segments: int | Segment) -> NDArray[np.bool_]:
        """Where any of the segments (or ids) lies, bool ``[H,W]``."""
        ids = [s.id if isinstance(s, Segment) else self.get(s).id for s in segments]
        return np.isin(self.id_map, ids)

    @property
    def counts(self) -> dict[str, int]:
        """Objects per thing class, most first, by name."""
        names = [s.category.name for s in self.segments if s.is_thing]
        counted = {n: names.count(n) for n in dict.fromkeys(names)}
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    def only(self, *classes: int | str | Iterable[int | str]) -> PanopticResult:
        """The same result with these categories alone; the rest is void (background). Names and
        ids, or lists of them: ``only("sky")``, ``only(["sky", "road"])``."""
        kept = self.find(*_flat(classes))
        id_map = np.where(np.isin(self.id_map, [s.id for s in kept]), self.id_map, VOID)
        return replace(self, id_map=id_map.astype(np.int32), segments=kept)

    def refine(
        self,
        segment: int | Segment,
        *,
        add: Sequence[Any] = (),
        remove: Sequence[Any] = (),
    ) -> PanopticResult:
        """The result with a segment corrected by hand: points (x, y) in photo pixels, or strokes
        of them, of what belongs to it and what does not; see
        :func:`panokit.effects.refining.refine`."""
        number = segment.id if isinstance(segment, Segment) else segment
        refine = import_module(REFINING).refine
        refined: PanopticResult = refine(self.photo, self, number, add=add, remove=remove)
        return refined

    def propose(self, x: float, y: float) -> PanopticResult:
        """The result with a segment more, named "object": the region that stands out by its
        colours and edges round a point on void, in photo pixels. Where there is none, or a segment
        lies there, the result is as it was; see :func:`panokit.effects.proposing.propose`."""
        proposed: PanopticResult = import_module(PROPOSING).propose(self.photo, self, x, y)[0]
        return proposed

    def semantic_map(self) -> NDArray[np.int32]:
        """The semantic view: category id of every pixel, int32 ``[H,W]``, 0 = void."""
        table = np.zeros(self._highest + 1, np.int32)
        for s in self.segments:
            table[s.id] = s.category.id
        return table.take(self.id_map)

    def instance_map(self) -> NDArray[np.int32]:
        """The instance view: segment ids of things, int32 ``[H,W]``, 0 elsewhere."""
        table = np.zeros(self._highest + 1, np.int32)
        for s in self.segments:
            table[s.id] = s.id if s.is_thing else 0
        return table.take(self.id_map)

    def rle(self, segment: int | Segment) -> dict[str, Any]:
        """A segment's mask as COCO's compressed run lengths: ``size`` [H, W] and ``counts``."""
        return rle_string(self.mask(segment))

    def polygons(self, segment: int | Segment) -> tuple[Outline, ...]:
        """The exact outlines of a segment's pieces with their holes, biggest first, in photo
        pixels; see :func:`panokit.outlines.trace`."""
        segment = self.get(segment.id if isinstance(segment, Segment) else segment)
        x0, y0, x1, y1 = segment.box_xyxy
        return trace(self.id_map[y0:y1, x0:x1] == segment.id, (x0, y0))

    def detections(
        self, *, things: bool = True, stuff: bool = False, masks: bool = True
    ) -> Detections:
        """Boxes, scores, classes and masks of things, stuff or both as arrays. ``masks=False``
        leaves the masks out, which take a byte for every pixel of the photo and segment."""
        chosen = [s for s in self if (things if s.is_thing else stuff)]
        n = len(chosen)
        mask = None
        if masks:
            mask = np.zeros((n, *self.id_map.shape), bool)
            for plane, segment in zip(mask, chosen, strict=True):
                x0, y0, x1, y1 = segment.box_xyxy
                np.equal(self.id_map[y0:y1, x0:x1], segment.id, out=plane[y0:y1, x0:x1])
        return Detections(
            xyxy=np.array([s.box_xyxy for s in chosen], np.float32).reshape(n, 4),
            confidence=np.array([s.score for s in chosen], np.float32),
            class_id=np.array([s.category.id for s in chosen], np.int64),
            segment_id=np.array([s.id for s in chosen], np.int64),
            class_name=np.array([s.category.name for s in chosen], np.str_),
            is_thing=np.array([s.is_thing for s in chosen], bool),
            mask=mask,
        )

    def to_pandas(self) -> Any:
        """A table of the segments (``pip install pandas``): id, class, is_thing, score, area in
        pixels, share of the photo, and the box: left, top, right, bottom."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install pandas") from None
        total = self.id_map.size
        rows = [
            (s.id, s.category.name, s.is_thing, s.score, s.area, s.area / total, *s.box_xyxy)
            for s in self.segments
        ]
        names = ["id", "class", "is_thing", "score", "area", "share"]
        return pandas.DataFrame(rows, columns=[*names, "left", "top", "right", "bottom"])

    def to_supervision(
        self, *, things: bool = True, stuff: bool = False, masks: bool = True
    ) -> Any:
        """The segments as ``supervision.Detections`` (``pip install supervision``)."""
        return self.detections(things=things, stuff=stuff, masks=masks).to_supervision()

    def crop(self, segment: int | Segment) -> Image.Image:
        """The photo inside a segment's box, transparent outside its mask (RGBA)."""
        from PIL import Image

        segment = self.get(segment.id if isinstance(segment, Segment) else segment)
        x0, y0, x1, y1 = segment.box_xyxy
        alpha = (self.id_map[y0:y1, x0:x1] == segment.id).astype(np.uint8) * 255
        rgba = np.dstack([self.photo.rgb_hwc[y0:y1, x0:x1], alpha])
        return Image.fromarray(np.ascontiguousarray(rgba))

    def overlay(
        self,
        *,
        opacity: float = 0.5,
        labels: bool = True,
        scores: bool = True,
        highlight: Sequence[int] = (),
    ) -> Image.Image:
        """The photo with every segment in its colour; see :func:`panokit.render.overlay`."""
        return _view("overlay")(
            self, opacity=opacity, labels=labels, scores=scores, highlight=highlight
        )

    def semantic_view(self) -> Image.Image:
        """The semantic view as a picture: every class in its colour, void black (RGB)."""
        return _view("semantic_view")(self)

    def instance_view(self) -> Image.Image:
        """The instance view as a picture: every object in a colour of its own (RGB)."""
        return _view("instance_view")(self)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels, JSON-ready."""
        return {
            "photo": self.photo.name,
            "size_wh": list(self.photo.size_wh),
            "artifact": self.artifact,
            "counts": self.counts,
            "segments": [s.to_json() for s in self.segments],
            "transform": self.transform.to_json(),
        }

    @property
    def _highest(self) -> int:
        return max((s.id for s in self.segments), default=0)


def _flat(classes: Iterable[int | str | Iterable[int | str]]) -> Iterator[int | str]:
    for one in classes:
        if isinstance(one, int | str):
            yield one
        else:
            yield from one


def measured(segments: Iterable[Segment], id_map: NDArray[np.int32]) -> tuple[Segment, ...]:
    """Segments with the areas and boxes that they have in a map ``[H,W]``; those of which it has
    no pixel are left out."""
    there = extents(id_map)
    return tuple(
        replace(s, area=there[s.id].area, box_xyxy=there[s.id].box_xyxy)
        for s in segments
        if s.id in there
    )


def _areas_and_boxes(
    ids: NDArray[np.int32], rows: NDArray[np.intp], cols: NDArray[np.intp], count: int
) -> tuple[NDArray[np.intp], list[tuple[int, int, int, int]]]:
    """Area and box on the photo of every id below ``count``, from the small grid: each of its
    pixels that is used (``rows`` and ``cols`` ascend) covers a rectangle of the photo."""
    y, first_y, high = np.unique(rows, return_index=True, return_counts=True)
    x, first_x, wide = np.unique(cols, return_index=True, return_counts=True)
    used = ids[y[:, None], x]
    pixels = (high[:, None] * wide).ravel()
    areas = np.bincount(used.ravel(), pixels, count).astype(np.intp)
    last_y, last_x = first_y + high, first_x + wide
    boxes = [(0, 0, 0, 0)] * count
    for number, extent in extents(used).items():
        x0, y0, x1, y1 = extent.box_xyxy
        boxes[number] = (
            int(first_x[x0]), int(first_y[y0]), int(last_x[x1 - 1]), int(last_y[y1 - 1])
        )  # fmt: skip
    return areas, boxes
