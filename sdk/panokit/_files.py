"""Files that come into being whole or not at all, where they were asked for.

A result is written under a temporary name beside its place and then takes that place. What the
place is stays as it is: a link leads where it led (the file behind it is replaced), a pipe, a
terminal or another open file gets the content written to it. Where nothing can be written,
``OutputError`` says why, and what was there before is still there.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panokit._places import (
    check_output_file,
    check_output_folder,
    make_folder,
    sentences,
    stream_opener,
)
from panokit._text import encodable

if TYPE_CHECKING:
    from PIL import Image

try:
    import fcntl
except ImportError:  # Windows locks no files this way
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "json_text",
    "link_folder",
    "make_folder",
    "replacing",
    "replacing_folder",
    "write_bytes",
    "write_json",
    "write_picture",
    "write_text",
]

LEFT_SECONDS = 86400.0
"""Where files cannot be locked, a temporary file of this age was left by a run that died."""

UNLOCKED_SECONDS = 0.2
"""A younger temporary file may be made, but not locked yet."""

_NAME_BYTES = 120  # of a name that goes into a temporary one, which must not get too long
_LONGEST_SUFFIX = 20
_own: set[tuple[int, Path, Path]] = set()
"""Temporary files and folders in use: the process that made each, its name, and its place."""
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.(part(\..*)?|old)", re.DOTALL)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name; on success its content goes to ``path``, else nothing changes."""
    path = Path(path)
    with sentences(path) as about:
        check_output_file(path)
        make_folder(path.parent)
        opener = stream_opener(path)
        if opener is not None:
            with tempfile.TemporaryDirectory(prefix="panokit-") as folder:
                partial = Path(folder) / f"result{path.suffix}"
                yield partial
                with partial.open("rb") as source, opener() as target:
                    shutil.copyfileobj(source, target)
            return
        place = Path(os.path.realpath(path))
        _sweep(str(place.parent))
        suffix = place.suffix if len(place.suffix) <= _LONGEST_SUFFIX else ""
        partial = _beside(place, place.name.removesuffix(suffix), f"part{suffix}")
        about(partial)
        with _temporary_file(partial, place):
            yield partial
            os.replace(partial, place)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """As :func:`replacing`, for a folder: the old one is removed only when the new one is whole."""
    path = Path(path)
    with sentences(path) as about:
        check_output_folder(path)
        make_folder(path.parent)
        place = Path(os.path.realpath(path))
        _sweep(str(place.parent))
        partial = _beside(place, place.name, "part")
        about(partial)
        _own.add((os.getpid(), partial, place))
        partial.mkdir()
        lock = _locked(partial)
        try:
            yield partial
            if place.exists():
                os.replace(place, partial.with_suffix(".old"))
            os.replace(partial, place)
        finally:
            _clear(partial, place)
            _unlock(lock)


def _beside(place: Path, name: str, end: str) -> Path:
    """A new temporary name in the folder of ``place``, which nobody can guess."""
    short = os.fsdecode(os.fsencode(name)[:_NAME_BYTES])
    return place.with_name(f".{short}.{secrets.token_hex(8)}.{end}")


@contextmanager
def _temporary_file(partial: Path, place: Path) -> Iterator[None]:
    """An empty file ``partial``, locked as long as it is in use, with the mode that ``place`` has.
    It is gone at the end."""
    mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else None
    _own.add((os.getpid(), partial, place))
    number = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666 if mode is None else mode)
    lock = _lock(number)
    try:
        if mode is not None:
            partial.chmod(mode)
        yield
    finally:
        _unlock(lock)
        with contextlib.suppress(OSError):
            _clear(partial, place)


def _clear(partial: Path, place: Path) -> None:
    """Take away a temporary file, or a temporary folder and the old version beside it, which goes
    back if an interrupt came between the two renames."""
    old = partial.with_suffix(".old")
    if old.is_dir():
        if not place.exists():
            os.replace(old, place)
        shutil.rmtree(old, ignore_errors=True)
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
    _own.discard((os.getpid(), partial, place))


@atexit.register
def _clear_all() -> None:
    """An interrupt may come between any two steps, before a ``try`` and in a ``finally`` too."""
    for process, partial, place in list(_own):
        if process == os.getpid():
            with contextlib.suppress(OSError):
                _clear(partial, place)


def _locked(path: Path) -> int | None:
    """A lock on a file or folder that ends with this process; None where it cannot be had."""
    return None if fcntl is None else _lock(os.open(path, os.O_RDONLY))


def _lock(number: int) -> int | None:
    """As :func:`_locked`, of an open file, which is closed where there is no lock."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # another holds it, or the file system has no locks
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
    os.close(number)
    return None


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


@lru_cache(maxsize=256)
def _sweep(folder: str) -> None:
    """Clear away what runs that were killed left in a folder, once a process."""
    with contextlib.suppress(OSError):
        left = [Path(folder, e.name) for e in os.scandir(folder) if _TEMPORARY.fullmatch(e.name)]
        for path in sorted(left):  # .old before .part
            if not _left_behind(path):
                continue
            if not path.is_dir() or path.is_symlink():
                path.unlink(missing_ok=True)
                continue
            place = path.with_name(path.name[1:].rsplit(".", 2)[0])
            if path.suffix == ".old" and not place.exists():  # killed between the two renames
                os.replace(path, place)
            shutil.rmtree(path, ignore_errors=True)


def _left_behind(path: Path) -> bool:
    """Whether no running process works on a temporary file or folder: nobody holds its lock. A
    folder's old version belongs to whoever holds the new one."""
    if path.suffix == ".old" and path.with_suffix(".part").exists():
        path = path.with_suffix(".part")
    try:
        age = time.time() - path.lstat().st_mtime
        if fcntl is None:
            return age > LEFT_SECONDS
        lock = _locked(path) if age > UNLOCKED_SECONDS else None
    except OSError:
        return False
    _unlock(lock)
    return lock is not None


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


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_picture(path: str | Path, image: Image.Image, kind: str, **options: Any) -> None:
    """Write a picture of Pillow's, of the format ``kind``, whole or not at all. It is encoded in
    memory first, for Pillow takes no notice of a disk that fills up at a picture's end."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    write_bytes(path, buffer.getvalue())


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all."""
    write_bytes(path, encodable(text).encode())


def write_json(path: str | Path, data: Any, indent: int | None = 2) -> None:
    """Write JSON (with two spaces of indentation), whole or not at all."""
    write_bytes(path, json_text(data, indent).encode())


def json_text(data: Any, indent: int | None = 2) -> str:
    """JSON as text with a line end that UTF-8 can hold: names that are no UTF-8 are readable in
    it."""
    return encodable(json.dumps(data, indent=indent, ensure_ascii=False), "\\\\") + "\n"
