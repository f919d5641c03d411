"""Thing and stuff classes: what the channels of the semantic head mean.

*Things* are countable (person, dog, car) and come as instances; *stuff* is not (sky, road). The
order of the categories is the order of the channels. Category id 0 is void and never listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._places import plain_file
from panokit.errors import ArgumentError, DataError

__all__ = ["VOID", "Category", "Taxonomy"]

VOID = 0
"""The id of pixels that belong to no category, and of the segment they are in."""

MAX_CATEGORIES = 4096


@dataclass(frozen=True)
class Category:
    """One class: ``id`` (1 and up), ``name``, whether it is a thing, and its sRGB colour."""

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
        valid = len(self.color) == 3 and all(
            isinstance(v, int) and 0 <= v <= 255 for v in self.color
        )
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
    def from_json(cls, data: Mapping[str, Any]) -> Taxonomy:
        """Read COCO-style categories: ``{"name": …, "categories": [{id, name, isthing}]}``."""
        categories = data.get("categories")
        if not isinstance(categories, list):
            raise ArgumentError(
                "taxonomy", f"taxonomy is {data!r}; expected an object with a list 'categories'"
            )
        return cls(
            name=str(data.get("name", "unnamed")),
            categories=tuple(_category(c, i) for i, c in enumerate(categories)),
        )

    @classmethod
    def load(cls, path: str | Path) -> Taxonomy:
        """Read a taxonomy file (JSON)."""
        try:
            data = json.loads(plain_file(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(path, f"expected a taxonomy in JSON, but {error}") from None
        return cls.from_json(data)


def _category(data: Any, index: int) -> Category:
    if not isinstance(data, dict) or not {"id", "name"} <= data.keys():
        raise ArgumentError(
            f"categories[{index}]",
            f"categories[{index}] is {data!r}; expected an object with 'id' and 'name'",
        )
    color = data.get("color", _default_color(index))
    return Category(data["id"], data["name"], bool(data.get("isthing", 1)), tuple(color))


def _default_color(index: int) -> tuple[int, int, int]:
    """A distinct colour for categories that bring none: golden-ratio steps round the hue circle."""
    import colorsys

    r, g, b = colorsys.hsv_to_rgb(index * 0.618033988749895 % 1.0, 0.75, 0.9)
    return round(r * 255), round(g * 255), round(b * 255)
