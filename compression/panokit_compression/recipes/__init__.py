"""Recipes: what is done to a float network, as data.

The recipes that come with the package are the JSON files beside this module; the name of a file
is the name of its recipe. A path to a JSON file of one's own works wherever a name does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from panokit.errors import ArgumentError

__all__ = ["Precision", "Ranges", "Recipe", "Rounding", "load_recipe", "recipe_names"]

Precision = Literal["float32", "float16", "int8"]
Ranges = Literal["none", "min_max", "mean"]
Rounding = Literal["nearest", "compensated"]

MIN_CALIBRATION_PHOTOS = 16


@dataclass(frozen=True)
class Recipe:
    """What is done to a float network.

    ``precision`` of the weights; ``int8`` quantizes activations, input and heads as well, per
    channel for weights. ``calibration_photos`` is how many photos the activation ranges are
    measured on (0 unless int8), ``ranges`` how they are merged over the photos (the widest, or the
    mean of each photo's ends, which a single odd photo cannot spoil), ``rounding`` how weights go
    to the grid: to the nearest value, or so that errors compensate (``rounding.py``).
    """

    name: str
    precision: Precision
    description: str = ""
    calibration_photos: int = 0
    ranges: Ranges = "none"
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentError("recipe name", "text", self.name)
        choices = {"precision": Precision, "ranges": Ranges, "rounding": Rounding}
        for field, kind in choices.items():
            if getattr(self, field) not in get_args(kind):
                expected = f"one of: {', '.join(get_args(kind))}"
                raise ArgumentError(field, expected, getattr(self, field))
        if isinstance(self.calibration_photos, bool) or not isinstance(
            self.calibration_photos, int
        ):
            raise ArgumentError("calibration_photos", "a whole number", self.calibration_photos)
        if self.needs_calibration:
            if self.calibration_photos < MIN_CALIBRATION_PHOTOS:
                expected = f"at least {MIN_CALIBRATION_PHOTOS} for int8"
                raise ArgumentError("calibration_photos", expected, self.calibration_photos)
            if self.ranges == "none":
                raise ArgumentError("ranges", "'min_max' or 'mean' for int8", "none")
        elif (self.calibration_photos, self.ranges, self.rounding) != (0, "none", "nearest"):
            raise ArgumentError(
                "recipe", f"without calibration settings for {self.precision}", self.to_json()
            )

    @property
    def needs_calibration(self) -> bool:
        """Whether activation ranges must be measured on photos."""
        return self.precision == "int8"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Read what :meth:`to_json` wrote; unknown names are an error."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ArgumentError("recipe", "an object of known names", str(error)) from None


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name.removesuffix(".json") for f in files if f.name.endswith(".json"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by name, or from a JSON file (a path that ends in ``.json``)."""
    text = str(name_or_path)
    if text.endswith(".json"):
        path = Path(text)
        if not path.is_file():
            raise ArgumentError("recipe", "a JSON file that exists", text)
        content = path.read_text(encoding="utf-8")
    elif text in recipe_names():
        content = (resources.files(__name__) / f"{text}.json").read_text(encoding="utf-8")
    else:
        expected = f"one of: {', '.join(recipe_names())}; or a path to a JSON file"
        raise ArgumentError("recipe", expected, text)
    try:
        data = json.loads(content)
    except ValueError as error:
        raise ArgumentError("recipe", "JSON", f"{text}: {error}") from None
    if not isinstance(data, dict):
        raise ArgumentError("recipe", "a JSON object", data)
    return Recipe.from_json(data)
