"""Places that files are read from and written to: what is there, and whether it can be used."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from panokit.errors import OutputError

__all__ = [
    "check_output_file",
    "check_output_folder",
    "make_folder",
    "plain_file",
    "sentences",
    "stream_opener",
]

READER_SECONDS = 10.0
"""So long a named pipe is waited for until somebody reads it."""

_OPEN_FILE = re.compile(r"(?:/dev|/proc/(?:self|thread-self|(\d+)))/fd/(\d+)")
_MOST_LINKS = 40
# Errors of writing that the system tells without the file's name.
_OF_WRITING = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EPIPE", "ENXIO")
    if hasattr(errno, name)
)
_REASONS = {
    errno.EISDIR: "is a folder; expected the name of a file to write",
    errno.ENOENT: "cannot be made there; expected a place that can be written",
    errno.EACCES: "may not be written by this user; choose another place",
    errno.EPERM: "may not be written by this user; choose another place",
    errno.EROFS: "lies on a read-only file system; choose another place",
    errno.ENAMETOOLONG: "has too long a name for this file system; choose a shorter one",
    errno.ELOOP: "is a link that leads back to itself; choose another place",
    errno.ENOSPC: "could not be written: the disk is full",
    errno.EFBIG: "could not be written: it would be larger than a file may be here",
    errno.EPIPE: "was closed by its reader before the result was written",
    errno.ENXIO: "is read by nobody; start its reader first or choose another place",
}


def plain_file(path: str | os.PathLike[str]) -> Path:
    """``path``, unless it is a pipe or a device, which may never end: then an ``OSError``."""
    path = Path(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError("it is a pipe or a device; expected a file")
    return path


def check_output_file(path: str | Path) -> None:
    """``OutputError`` if no file could be written at ``path``, as far as can be told before."""
    path = Path(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        _check_above(path)
        return
    except OSError as error:
        raise OutputError(path, reason(path, error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(path, _REASONS[errno.EISDIR])
    if stat.S_ISBLK(status.st_mode):
        raise OutputError(path, "is a disk; expected the name of a file to write")
    if not stat.S_ISREG(status.st_mode) or _open_file(path) is not None:
        return
    if status.st_nlink > 1:
        names = (
            f"is one of {status.st_nlink} names of the same file (hard links), and the others "
            "would keep the old content; remove it or choose another name"
        )
        raise OutputError(path, names)
    if not os.access(path, os.W_OK):
        raise OutputError(path, "is read-only; make it writable or choose another name")
    _check_above(path)


def check_output_folder(path: str | Path) -> None:
    """``OutputError`` if ``path`` is no folder and none can be made there, as far as can be told
    before."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        _check_above(path)
        return
    except OSError as error:
        raise OutputError(path, reason(path, error)) from None
    if not stat.S_ISDIR(mode):
        raise OutputError(path, "is a file; expected a folder, or the name of a new one")
    _check_writable(path, path)


def _check_above(path: Path) -> None:
    """Whether something can be made at ``path``: the next folder above it that exists decides."""
    place = Path(os.path.realpath(path))
    for folder in place.parents:
        if folder.is_dir():
            _check_writable(folder, path)
            return
        if os.path.lexists(folder):
            raise OutputError(path, f"cannot be made: {folder} is a file; expected a folder")


def _check_writable(folder: Path, path: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(path, f"cannot be written: the folder {folder} is read-only here")


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it, unless it is there; the folder."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        check_output_folder(path)
        raise OutputError(path, reason(path, error)) from None
    return path


def reason(path: Path, error: OSError) -> str:
    """Why nothing can be written at ``path``, as the end of a sentence that begins with it."""
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        for above in path.parents:
            if os.path.lexists(above) and not above.is_dir():
                return f"cannot be made: {above} is a file; expected a folder"
    if error.errno in _REASONS:
        return _REASONS[error.errno]
    return f"cannot be written: {error.strerror or error}"


@contextmanager
def sentences(path: Path) -> Iterator[Callable[[Path], None]]:
    """Errors of writing ``path`` become ``OutputError``; other files' errors stay what they are.

    Yields a function to call with the temporary name of the result, whose errors are ``path``'s.
    """
    names = [str(path)]

    def about(temporary: Path) -> None:
        names.append(str(temporary))

    try:
        yield about
    except OSError as error:
        named = error.filename
        ours = named is None and error.errno in _OF_WRITING
        if named is not None:
            name = os.fsdecode(named) if isinstance(named, (str, bytes)) else str(named)
            ours = any(name == n or name.startswith(n + os.sep) for n in names)
        if not ours or isinstance(error, OutputError):
            raise
        raise OutputError(path, reason(path, error)) from error


def stream_opener(path: Path) -> Callable[[], IO[bytes]] | None:
    """What opens a pipe, a terminal or another open file to write to; None for a plain file."""
    number = _open_file(path)
    if number is not None:
        return lambda: _opened_before(number)
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return lambda: _open_pipe(path) if stat.S_ISFIFO(mode) else path.open("wb", buffering=0)


def _open_file(path: Path) -> int | None:
    """The number of the open file that a name such as ``/dev/stdout`` stands for."""
    name = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        found = _OPEN_FILE.fullmatch(name)
        if found and found[1] in (None, str(os.getpid())):
            return int(found[2])
        try:
            name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))
        except (OSError, ValueError):
            return None
    return None


def _opened_before(number: int) -> IO[bytes]:
    """The open file itself, where it stands: opening it by its name would empty it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return os.fdopen(os.dup(number), "wb")


def _open_pipe(path: Path) -> IO[bytes]:
    """A named pipe, as soon as somebody reads it."""
    deadline = time.monotonic() + READER_SECONDS
    while True:
        try:
            number = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
                raise
        time.sleep(0.05)
    os.set_blocking(number, True)
    return os.fdopen(number, "wb")
