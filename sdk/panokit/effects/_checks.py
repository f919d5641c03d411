"""Refusing impossible parameters."""

from __future__ import annotations

from collections.abc import Sequence

from panokit.errors import ArgumentError

__all__ = ["flag", "in_range", "one_of", "whole"]


def in_range(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is no number from ``low`` to ``high`` (NaN included)."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not low <= float(value) <= high
    ):
        raise ArgumentError(name, f"{name} is {value!r}; expected a number from {low} to {high}")


def whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is no whole number from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ArgumentError(
            name, f"{name} is {value!r}; expected a whole number from {low} to {high}"
        )


def one_of(name: str, value: object, allowed: Sequence[int | str]) -> None:
    """Refuse what is not among ``allowed``; True is not 1."""
    if isinstance(value, bool) or value not in allowed:
        raise ArgumentError(name, f"{name} is {value!r}; expected one of {list(allowed)}")


def flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ArgumentError(name, f"{name} is {value!r}; expected true or false")
