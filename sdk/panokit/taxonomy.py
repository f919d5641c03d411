"""Thing and stuff classes: what the channels of the semantic head mean.

*Things* are countable (person, dog, car) and come as instances; *stuff* is not (sky, road). The
order of the categories is the order of the channels. Category id 0 is void and never listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._reading import read_json
from panokit.errors import ArgumentError, DataError

__all__ = ["VOID", "Category", "Taxonomy"]

VOID = 0
"""The id of pixels that belong to no category, and of the segment they are in."""

MAX_CATEGORIES = 4096


@dataclass(frozen=True)
class Category:
    """One class: ``id`` (1 and up), ``name``, whether it is a thing, and its sRGB ``color`` (0..255
    each)."""

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int) or not 1 <= self.id < 2**24:
            raise ArgumentError(
                "category id",
                f"category id is {self.id!r}; expected a whole number from 1 to 2^24 - 1",
            )
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 200:
            raise ArgumentError(
                "category name",
                f"category name is {self.name!r}; expected text of 1 to 200 characters",
            )
        valid = len(self.color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in self.color)
        if not valid:
            raise ArgumentError(
                "category color",
                f"category color is {self.color!r}; expected three whole numbers from 0 to 255",
            )

    def to_json(self) -> dict[str, Any]:
        """The category as COCO writes it."""
        return {
            "id": self.id,
            "name": self.name,
            "isthing": int(self.is_thing),
            "color": list(self.color),
        }


@dataclass(frozen=True)
class Taxonomy:
    """An ordered set of categories; channel ``i`` of the semantic head is ``categories[i]``."""

    name: str
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 200:
            expected = "text of 1 to 200 characters"
            raise ArgumentError(
                "name", f"the taxonomy's name is {self.name!r}; expected {expected}"
            )
        if not 1 <= len(self.categories) <= MAX_CATEGORIES:
            expected = f"a sequence of 1 to {MAX_CATEGORIES} categories"
            raise ArgumentError(
                "categories", f"there are {len(self.categories)} categories; expected {expected}"
            )
        for field in ("id", "name"):
            values = [getattr(c, field) for c in self.categories]
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise ArgumentError(
                    "categories", f"categories share the {field} {twice}; expected one {field} each"
                )

    def __len__(self) -> int:
        return len(self.categories)

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    @cached_property
    def ids(self) -> NDArray[np.int32]:
        """Category id of each channel, int32 ``[C]``."""
        return np.array([c.id for c in self.categories], np.int32)

    @cached_property
    def thing_mask(self) -> NDArray[np.bool_]:
        """Which channels are things, bool ``[C]``."""
        return np.array([c.is_thing for c in self.categories], bool)

    @cached_property
    def _channel_of_id(self) -> dict[int, int]:
        return {c.id: i for i, c in enumerate(self.categories)}

    def channel(self, category_id: int) -> int:
        """The channel of a category id."""
        try:
            return self._channel_of_id[category_id]
        except KeyError:
            known = ", ".join(f"{c.id} {c.name}" for c in self.categories)
            raise ArgumentError(
                "category id", f"there is no category id {category_id!r}; expected one of: {known}"
            ) from None

    def get(self, which: int | str) -> Category:
        """A category by id or by name."""
        if isinstance(which, str):
            for category in self.categories:
                if category.name == which:
                    return category
            raise ArgumentError.unknown("class", which, (c.name for c in self.categories))
        return self.categories[self.channel(which)]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return {"name": self.name, "categories": [c.to_json() for c in self.categories]}

    @classmethod
    def from_json(cls, data: Any) -> Taxonomy:
        """Read the classes of a network, in the order of its channels.

        Either COCO-style categories, ``{"name": …, "categories": [{id, name, isthing, color}]}`` or
        that list alone, in which a plain name stands for a thing; or names of both kinds, things
        first: ``{"things": ["person"], "stuff": ["sky"]}``. Ids count from 1 where there are none.
        """
        name = "unnamed"
        if isinstance(data, Mapping):
            name = data.get("name", name)
            categories = data.get("categories")
            if categories is None and ("things" in data or "stuff" in data):
                categories = [*_named(data, "things", 1), *_named(data, "stuff", 0)]
        else:
            categories = data
        if not isinstance(categories, list) or not categories:
            expected = "a list of classes, or an object with 'categories', or 'things' and 'stuff'"
            if isinstance(data, str | Path):
                expected += ", not text; Taxonomy.load(path) reads a file"
            raise ArgumentError("taxonomy", f"taxonomy is {data!r:.80}; expected {expected}")
        return cls(name, tuple(_category(c, i) for i, c in enumerate(categories)))

    @classmethod
    def load(cls, path: str | Path) -> Taxonomy:
        """Read a taxonomy file (JSON)."""
        try:
            data = read_json(path, strict=True)
        except (OSError, ValueError) as error:
            raise DataError(path, f"expected a taxonomy in JSON, but {error}") from None
        try:
            return cls.from_json(data)
        except ArgumentError as error:
            raise DataError(path, str(error)) from None


def _named(data: Mapping[str, Any], kind: str, isthing: int) -> list[Any]:
    """The names of one kind as categories."""
    names = data.get(kind, [])
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ArgumentError(kind, f"{kind} is {names!r}; expected a list of names")
    return [{"name": name, "isthing": isthing} for name in names]


def _category(data: Any, index: int) -> Category:
    if isinstance(data, str):
        data = {"name": data}
    if not isinstance(data, dict) or "name" not in data:
        raise ArgumentError(
            f"categories[{index}]",
            f"categories[{index}] is {data!r}; expected a name, or an object with 'name'",
        )
    color = data.get("color", _default_color(index))
    if not isinstance(color, list | tuple):
        raise ArgumentError("color", f"color is {color!r:.60}; expected a list of three numbers")
    is_thing = data.get("isthing", 1)
    if not isinstance(is_thing, int) or is_thing not in (0, 1):
        name = f"isthing of {data['name']!r:.60}"
        raise ArgumentError("isthing", f"{name} is {is_thing!r:.60}; expected 0 or 1")
    return Category(data.get("id", index + 1), data["name"], bool(is_thing), tuple(color))


def _default_color(index: int) -> tuple[int, int, int]:
    """A distinct colour for categories that bring none: golden-ratio steps round the hue circle."""
    import colorsys

    r, g, b = colorsys.hsv_to_rgb(index * 0.618033988749895 % 1.0, 0.75, 0.9)
    return round(r * 255), round(g * 255), round(b * 255)
