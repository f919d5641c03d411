"""Making a network small: recipes, calibration photos, quantization of TFLite files.

::

    recipes      what to do: a frozen dataclass, checked in as JSON
    calibration  which photos the ranges are measured on, and which they were
    rounding     weights moved to the int8 grid so that the layer's output changes least
    quantize     a float TFLite file in, a quantized one out
"""

from __future__ import annotations

from panokit_compression.calibration import (
    CalibrationSet,
    calibration_from_data,
    calibration_from_photos,
)
from panokit_compression.quantize import quantize
from panokit_compression.recipes import Recipe, load_recipe, recipe_names

__all__ = [
    "CalibrationSet",
    "Recipe",
    "calibration_from_data",
    "calibration_from_photos",
    "load_recipe",
    "quantize",
    "recipe_names",
]
