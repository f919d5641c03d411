"""What a long run has done, line by line, so that it can go on after an interrupt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Journal"]


class Journal:
    """Results by key in a file of JSON lines; without a path nothing is kept.

    A line that was cut off by an interrupt is left out, and its work is done again.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._offsets: dict[str, int] = {}
        self._file: Any = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            end = self._read(path) if path.is_file() else 0
            self._file = path.open("r+b" if path.is_file() else "w+b")
            self._file.seek(end)
            self._file.truncate()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, key: str) -> Any:
        self._file.seek(self._offsets[key])
        value = json.loads(self._file.readline())[1]
        self._file.seek(0, 2)
        return value

    def write(self, key: str, value: Any) -> None:
        """Keep a result, unless it is there."""
        if self._file is None or key in self._offsets:
            return
        self._file.seek(0, 2)
        self._offsets[key] = self._file.tell()
        self._file.write(json.dumps([key, value]).encode() + b"\n")
        self._file.flush()

    def values(self) -> Iterator[Any]:
        """All results, in the order they were kept in, one at a time."""
        for key in list(self._offsets):
            yield self[key]

    def _read(self, path: Path) -> int:
        """Find the whole lines; where they end."""
        end = 0
        with path.open("rb") as file:
            for line in file:
                try:
                    key, _ = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n") or not isinstance(key, str):
                    break
                self._offsets[key] = end
                end += len(line)
        return end
