"""Files that come into being whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["link_folder", "replacing", "replacing_folder", "write_json"]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it replaces ``path``, else it is gone."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """As :func:`replacing`, for a folder: the old one is removed only when the new one is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    partial.chmod(0o755)
    old = partial.with_suffix(".old")
    try:
        yield partial
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    finally:
        if old.exists() and not path.exists():  # interrupted between the two
            os.replace(old, path)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


def link_folder(folder: Path, name: Path) -> None:
    """Make ``name`` show the files of ``folder``: a link to it; where the system allows none (as
    Windows does without a privilege), a folder of hard links, or of copies on another disk."""
    try:
        name.symlink_to(folder.resolve(), target_is_directory=True)
    except (OSError, NotImplementedError):
        if name.exists() or not folder.is_dir():
            raise
        shutil.copytree(folder, name, copy_function=_hard_link)


def _hard_link(file: str, name: str) -> None:
    try:
        os.link(file, name)
    except (OSError, NotImplementedError):
        shutil.copy2(file, name)


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON with two spaces of indentation, atomically."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
