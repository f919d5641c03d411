"""What every reader of COCO panoptic JSON asks of a file that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from panokit._reading import read_json
from panokit.errors import DataError
from panokit_datasets.foreign import foreign_kind

__all__ = ["MAX_ID", "CocoJson"]

MAX_ID = 2**24 - 1
"""The largest segment id that three bytes of a PNG hold."""


class CocoJson:
    """One annotation file; every complaint names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, reason: str) -> DataError:
        """The error that says so."""
        return DataError(self.path, reason)

    def load(self) -> dict[str, Any]:
        """What the file holds; another kind of file is called what it is."""
        try:
            data = read_json(self.path)
        except (OSError, ValueError) as error:
            raise self.wrong(f"expected COCO panoptic JSON, but {error}") from None
        foreign = foreign_kind(data)
        if foreign is not None:
            raise self.wrong(foreign)
        if not isinstance(data, dict):
            got = type(data).__name__
            raise self.wrong(f"expected COCO panoptic JSON (an object), got {got}")
        return data

    def objects(self, items: Any, where: str) -> list[dict[str, Any]]:
        """``items``, if that is a list of objects."""
        if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
            raise self.wrong(f"expected COCO panoptic JSON, but {where} is not a list of objects")
        return items

    def whole(self, value: Any, where: str, low: int, high: int) -> int:
        """``value``, if that is a whole number from ``low`` to ``high``."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            reason = f"{where}: expected a whole number from {low} to {high}, got {value!r:.60}"
            raise self.wrong(reason)
        return int(value)
