"""What an artifact is called at its borders, in every format: the input, the heads, their types."""

from __future__ import annotations

from typing import Literal

__all__ = ["HEADS", "INPUT", "INPUT_TYPES", "InputType"]

INPUT = "image"
"""The name of the input."""

HEADS = ("semantic", "center", "offset")
"""The names of the outputs."""

InputType = Literal["native", "uint8", "float32"]
"""The type of the input; ``native`` is what the recipe made."""

INPUT_TYPES: tuple[InputType, ...] = ("native", "uint8", "float32")
