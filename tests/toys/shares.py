"""Long lists of kinds: `make test` tries some of each, `make test-all` all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["ALL", "some"]

T = TypeVar("T")

ALL = os.environ.get("PANOKIT_ALL_KINDS") == "1"


def some(items: Iterable[T], each: int) -> list[T]:
    """All ``items`` where all are wanted, else each so many-th."""
    return list(items)[:: 1 if ALL else each]
