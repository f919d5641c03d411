"""Paths that a file from outside names."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any

__all__ = ["inside"]


def inside(folder: Path, name: Any) -> Path | None:
    """``folder/name``, or None where that is no path inside the folder. Windows' rules are the
    stricter ones and hold everywhere."""
    if not isinstance(name, str) or "\0" in name:
        return None
    relative = PureWindowsPath(name)
    if not relative.name or relative.drive or relative.root or ".." in relative.parts:
        return None
    return folder.joinpath(*relative.parts)
