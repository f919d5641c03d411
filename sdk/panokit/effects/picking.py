"""Saying which object an edit is about: by a tap, a class or a segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from panokit.config import read_settings
from panokit.effects._checks import flag
from panokit.effects.held import with_held
from panokit.errors import ArgumentError
from panokit.result import PanopticResult, Segment

__all__ = ["Pick", "found_nothing", "names_of"]

MAX_POINTS = 1000
MAX_ID = 2**31 - 1
"""Segment ids are int32."""


@dataclass(frozen=True)
class Pick:
    """Which segments of a photo: exactly one of the three ways.

    ``tap`` a point (x, y) in photo pixels, from the upper left corner; ``class_name`` all segments
    of a class, by name; ``segment`` one segment id. ``but`` are segment ids to leave out (the
    owner among the persons, say). In JSON: ``{"tap": [x, y]}``, ``{"class": "person"}`` or
    ``{"segment": 3}``, and ``"but": [1]``.

    ``add`` and ``remove`` are points (x, y) in photo pixels of what the network left out of the
    object, and of what it took for it (:func:`panokit.effects.refining.refine`). ``held``: whether
    what picked persons wear or hold comes along (a bag, a cup in the hand).
    """

    tap: tuple[float, float] | None = None
    class_name: str | None = None
    segment: int | None = None
    but: tuple[int, ...] = ()
    add: tuple[tuple[float, float], ...] = ()
    remove: tuple[tuple[float, float], ...] = ()
    held: bool = True

    def __post_init__(self) -> None:
        given = [v for v in (self.tap, self.class_name, self.segment) if v is not None]
        if len(given) != 1:
            raise ArgumentError(
                "pick",
                f"the pick is {self.to_json()}; expected exactly one of tap, class and segment",
            )
        if self.tap is not None and not (
            len(self.tap) == 2 and all(_is_number(v) and v >= 0 for v in self.tap)
        ):
            raise ArgumentError(
                "pick tap", f"pick tap is {self.tap!r}; expected two numbers x, y of at least 0"
            )
        for name, points in (("add", self.add), ("remove", self.remove)):
            good = all(len(p) == 2 and all(_is_number(v) and v >= 0 for v in p) for p in points)
            if not good or len(points) > MAX_POINTS:
                expected = f"at most {MAX_POINTS} points x, y of at least 0"
                raise ArgumentError(
                    f"pick {name}", f"pick {name} is {points!r:.80}; expected {expected}"
                )
        if self.class_name is not None and not (
            isinstance(self.class_name, str) and 0 < len(self.class_name) <= 200
        ):
            raise ArgumentError(
                "pick class", f"pick class is {self.class_name!r}; expected the name of a class"
            )
        flag("pick held", self.held)
        for name, value in (("segment", self.segment), *(("but", v) for v in self.but)):
            if value is not None and not (
                isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ID
            ):
                raise ArgumentError(
                    f"pick {name}",
                    f"pick {name} is {value!r:.40}; expected segment ids, "
                    f"whole numbers from 1 to {MAX_ID}",
                )

    def find(self, result: PanopticResult) -> tuple[Segment, ...]:
        """The picked segments of a result; none where there is nothing. A point outside the photo,
        or a class that the taxonomy does not have, is an error."""
        if self.tap is not None:
            hit = result.at(*self.tap)
            found: tuple[Segment, ...] = () if hit is None else (hit,)
        elif self.class_name is not None:
            found = result.find(self.class_name)
        else:
            found = tuple(s for s in result if s.id == self.segment)
        return tuple(s for s in found if s.id not in self.but)

    def whole(self, result: PanopticResult, segments: Sequence[Segment]) -> tuple[int, ...]:
        """Ids of picked segments, and of what the persons among them wear or hold."""
        if not self.held:
            return tuple(s.id for s in segments)
        return with_held(result, segments, self.but)

    def scaled(self, scale: Sequence[float]) -> Pick:
        """The pick for a photo whose width and height are these factors of the photo's."""
        sx, sy = scale

        def moved(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
            return tuple((x * sx, y * sy) for x, y in points)

        tap = None if self.tap is None else (self.tap[0] * sx, self.tap[1] * sy)
        return replace(self, tap=tap, add=moved(self.add), remove=moved(self.remove))

    @property
    def words(self) -> str:
        """The pick in words, for messages."""
        if self.tap is not None:
            return f"at ({self.tap[0]:g}, {self.tap[1]:g})"
        return f"of class {self.class_name}" if self.class_name else f"with id {self.segment}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        data: dict[str, Any] = {}
        if self.tap is not None:
            data["tap"] = list(self.tap)
        if self.class_name is not None:
            data["class"] = self.class_name
        if self.segment is not None:
            data["segment"] = self.segment
        data |= {"but": list(self.but)} if self.but else {}
        for name, points in (("add", self.add), ("remove", self.remove)):
            data |= {name: [list(p) for p in points]} if points else {}
        return data if self.held else {**data, "held": False}

    @classmethod
    def from_json(cls, data: Any) -> Pick:
        """Read what :meth:`to_json` wrote."""
        if isinstance(data, Mapping):  # "class" is a word of Python's
            data = {"class_name" if k == "class" else k: v for k, v in data.items()}
        return read_settings(cls, data, "pick")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def found_nothing(pick: Pick) -> str:
    """The sentence for a pick without segments."""
    return f"Nothing was found {pick.words}, so the photo was left as it is."


def names_of(segments: Sequence[Segment]) -> str:
    """Segments in words: "the cat", "2 persons and the sky"."""
    names = [s.category.name.replace("_", " ") for s in segments]
    counted = {n: names.count(n) for n in dict.fromkeys(names)}
    parts = [f"the {n}" if k == 1 else f"{k} {n}s" for n, k in counted.items()]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
