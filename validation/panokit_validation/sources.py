"""Where dumps come from: files, folders, zip archives, and URLs that fsspec knows.

Finding names only; each dump is opened when its turn comes, in whichever process that is. Nothing
is ever unpacked to a name that an archive chose.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

from panokit._reading import is_sidecar
from panokit._text import by_number
from panokit.dump.model import MAX_DUMP_BYTES, MAX_METADATA_BYTES, Dump
from panokit.dump.read import (
    SUFFIXES,
    check_member,
    check_members,
    check_safetensors_head,
    read_dump,
    read_raw,
)
from panokit.errors import DumpError, MissingExtraError
from panokit_validation.web import fetch, is_web, list_page, sibling

__all__ = ["DumpOpener", "DumpRef", "find_dumps"]

MAX_MEMBERS = 200_000

MAX_ARCHIVE_BYTES = 4_000_000_000
"""Larger archives are not fetched over HTTP."""


@dataclass(frozen=True)
class DumpRef:
    """One dump to be opened: a file or URL, and in an archive the ``member``.

    ``problem`` is why it cannot be opened, where that was seen when it was found. ``name`` stands
    for the container where people read it: reports are passed on, and nobody's folders are in them.
    ``before`` are the dumps that came just before it, nearest first.
    """

    container: str
    member: str = ""
    problem: str = ""
    name: str = ""
    before: tuple[DumpRef, ...] = field(default=(), compare=False, repr=False)

    @property
    def label(self) -> str:
        """Its name for people, unique within a run."""
        name = self.name or self.container
        return f"{name}/{self.member}" if self.member else name


def find_dumps(sources: Iterable[str | os.PathLike[str]]) -> Iterator[DumpRef]:
    """All dumps in files, folders (with their subfolders), ``.zip`` archives and URLs, in order.

    In folders and archives files ending in ``.safetensors``, ``.npz`` and ``.dump.json`` (in any
    capitals) count; hidden ones do not.
    What is wrong becomes a reference with a ``problem``, so that the others go on. Of absolute
    paths the names begin where they differ.
    """
    texts = [os.fspath(source) for source in sources]
    absolute = [os.path.dirname(t.rstrip("/\\")) for t in texts if os.path.isabs(t)]
    try:
        common = os.path.commonpath(absolute) if absolute else ""
    except ValueError:  # two drives of Windows
        common = ""
    for text in texts:
        if is_web(text):
            yield from _find_on_web(text)
        elif _is_url(text):
            yield from _find_remote(text)
        else:
            found = _find_in_folder(Path(text)) if os.path.isdir(text) else _expand(text)
            for ref in found:
                inside = common and os.path.isabs(text)
                name = os.path.relpath(ref.container, common) if inside else ""
                yield replace(ref, name=name)


def _is_url(text: str) -> bool:
    return "://" in text or "::" in text


def _expand(container: str) -> Iterator[DumpRef]:
    if container.lower().endswith(".zip"):
        yield from _find_in_archive(container)
    else:
        yield DumpRef(container)


def _find_in_folder(root: Path) -> Iterator[DumpRef]:
    home = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted((f for f in folders if not is_sidecar(f)), key=by_number)
        for name in sorted(files, key=by_number):
            path = Path(folder) / name
            if not name.lower().endswith((*SUFFIXES, ".zip")) or name.startswith("."):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                yield DumpRef(str(path), problem="leads out of the folder through a link")
            else:
                yield from _expand(str(path))


def _find_on_web(url: str) -> Iterator[DumpRef]:
    if not url.endswith("/"):
        yield from _expand(url)
        return
    try:
        links = list(islice(list_page(url), MAX_MEMBERS))
    except DumpError as error:
        yield DumpRef(url, problem=f"cannot be listed: it {error.reason}")
        return
    for link in links:
        if link.endswith((*SUFFIXES, ".zip")):
            yield from _expand(link)


def _find_remote(url: str) -> Iterator[DumpRef]:
    try:
        fs, root = _filesystem(url)
        paths = sorted(fs.find(root), key=by_number) if fs.isdir(root) else [root]
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, MissingExtraError):
            raise
        yield DumpRef(url, problem=f"cannot be listed: {error}")
        return
    if paths == [root]:
        yield from _expand(url)
        return
    for path in paths:
        inside = str(path).removeprefix(str(root))
        if inside.lower().endswith((*SUFFIXES, ".zip")) and not is_sidecar(inside):
            yield from _expand(str(fs.unstrip_protocol(path)))


def _find_in_archive(container: str) -> Iterator[DumpRef]:
    try:
        with _open_binary(container) as file, zipfile.ZipFile(file) as archive:
            problem = check_members(archive, _size(file))
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, DumpError) as error:
        reason = error.reason if isinstance(error, DumpError) else f"is no zip archive: {error}"
        yield DumpRef(container, problem=reason)
        return
    if len(infos) > MAX_MEMBERS:
        problem = f"has {len(infos)} members, expected at most {MAX_MEMBERS}"
    if problem:
        yield DumpRef(container, problem=problem)
        return
    seen: set[str] = set()
    for name, info in sorted(
        ((_member_path(i), i) for i in infos), key=lambda pair: by_number(pair[0])
    ):
        if name.endswith("/") or is_sidecar(name) or PurePosixPath(name).name.startswith("."):
            continue
        trouble = "is there twice" if name in seen else _unsafe(name) or check_member(info)
        seen.add(name)
        if name.lower().endswith(SUFFIXES) or (trouble and _unsafe(name)):
            yield DumpRef(container, name, trouble or "")


def _member_path(info: zipfile.ZipInfo) -> str:
    """A member's path with "/" between folders, whatever the system that packed it put there.
    Names that do not say their encoding are UTF-8 (as macOS writes them) if they can be."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def _unsafe(name: str) -> str | None:
    bad = name.startswith("/") or ".." in name.split("/") or ":" in name
    return "has a name that leads out of the archive" if bad else None


class DumpOpener:
    """Opens dumps by reference; an archive stays open for the next one. Use it with ``with``."""

    def __init__(self) -> None:
        self._container = ""
        self._file: IO[bytes] | None = None
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}

    def __enter__(self) -> DumpOpener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive."""
        if self._archive is not None:
            self._archive.close()
        if self._file is not None:
            self._file.close()
        self._archive = self._file = None
        self._container = ""

    def open(self, ref: DumpRef) -> Dump:
        """Read a dump; ``DumpError`` says what is wrong with it."""
        if ref.problem:
            raise DumpError(ref.label, ref.problem)
        if not ref.member and not _is_url(ref.container):
            return read_dump(ref.container)
        try:
            if ref.member:
                return self._from_archive(ref)
            return _from_web(ref) if is_web(ref.container) else self._from_url(ref)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError) as error:
            raise DumpError(ref.label, f"cannot be unpacked: {error}") from None
        except (NotImplementedError, RuntimeError, ValueError) as error:
            if isinstance(error, DumpError):
                raise
            raise DumpError(ref.label, f"cannot be read: {error}") from None

    def _from_archive(self, ref: DumpRef) -> Dump:
        archive = self._opened(ref.container)
        info = self._members[ref.member]
        folder = PurePosixPath(ref.member).parent

        def part(name: str) -> tuple[IO[bytes], int]:
            found = self._member(str(folder / PurePosixPath(name)))
            if found is None:
                raise DumpError(ref.label, f"file {name[:80]!r} is not in the archive")
            problem = check_member(found)
            if problem:
                raise DumpError(ref.label, f"file {name[:80]!r} {problem}")
            return _spooled(archive.open(found), found.file_size, ref.label), found.file_size

        with archive.open(info) as member:
            return _read_stream(member, info.file_size, ref.member, ref.label, part)

    def _from_url(self, ref: DumpRef) -> Dump:
        fs, path = _filesystem(ref.container)
        if not fs.exists(path):
            raise DumpError(ref.label, "no such dump file")
        folder = PurePosixPath(str(path)).parent

        def part(name: str) -> tuple[IO[bytes], int]:
            inner = str(folder / PurePosixPath(name))
            if not fs.exists(inner):
                raise DumpError(ref.label, f"file {name[:80]!r} is not beside it")
            size = int(fs.size(inner))
            return _spooled(fs.open(inner, "rb"), size, ref.label), size

        with fs.open(path, "rb") as file:
            return _read_stream(file, int(fs.size(path)), str(path), ref.label, part)

    def _opened(self, container: str) -> zipfile.ZipFile:
        if self._archive is None or self._container != container:
            self.close()
            self._file = _open_binary(container)
            self._archive, self._container = zipfile.ZipFile(self._file), container
            self._members = {_member_path(i): i for i in reversed(self._archive.infolist())}
        return self._archive

    def _member(self, path: str) -> zipfile.ZipInfo | None:
        """A member by its path; by one of other capitals (Windows makes no difference) if it is the
        only one."""
        path = unicodedata.normalize("NFC", path)
        if path in self._members:
            return self._members[path]
        alike = [i for p, i in self._members.items() if p.casefold() == path.casefold()]
        return alike[0] if len(alike) == 1 else None


def _from_web(ref: DumpRef) -> Dump:
    def part(name: str) -> tuple[IO[bytes], int]:
        return fetch(sibling(ref.container, name), MAX_DUMP_BYTES)

    file, size = fetch(ref.container, MAX_DUMP_BYTES)
    with file:
        return _read_stream(file, size, urlsplit(ref.container).path, ref.label, part)


def _read_stream(file: IO[bytes], size: int, name: str, label: str, part: Any) -> Dump:
    """A dump from a stream: checked by its header first, then by way of a temporary file."""
    if size > MAX_DUMP_BYTES:
        raise DumpError(label, f"expected at most {MAX_DUMP_BYTES} bytes, got {size}")
    name = name.lower()
    if name.endswith(".json"):
        return read_raw(file.read(MAX_METADATA_BYTES + 1), label, part)
    suffix = ".npz" if name.endswith(".npz") else ".safetensors"
    head = b"" if suffix == ".npz" else check_safetensors_head(file, size, label)
    with tempfile.TemporaryDirectory(prefix="panokit-") as folder:
        path = Path(folder) / f"dump{suffix}"
        with path.open("wb") as out:
            out.write(head)
            _copy(file, out, size - len(head), label)
        return read_dump(path, label)


def _spooled(file: IO[bytes], size: int, label: str) -> IO[bytes]:
    """A seekable copy of a stream of at most ``size`` bytes."""
    if size > MAX_DUMP_BYTES:
        file.close()
        raise DumpError(label, f"expected at most {MAX_DUMP_BYTES} bytes, got {size}")
    out: IO[bytes] = tempfile.TemporaryFile(prefix="panokit-")  # noqa: SIM115 - the caller's
    with file:
        _copy(file, out, size, label)
    out.seek(0)
    return out


def _copy(file: IO[bytes], out: IO[bytes], size: int, label: str) -> None:
    left = size
    while left > 0:
        block = file.read(min(1 << 20, left))
        if not block:
            raise DumpError(label, f"ends {left} bytes early: truncated")
        out.write(block)
        left -= len(block)
    if file.read(1):
        raise DumpError(label, f"is longer than the {size} bytes that it states")


def _filesystem(url: str) -> tuple[Any, Any]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtraError("Reading dumps from URLs", "remote") from error
    fs, path = url_to_fs(url)
    return fs, path


def _open_binary(container: str) -> IO[bytes]:
    if is_web(container):
        return fetch(container, MAX_ARCHIVE_BYTES)[0]
    if _is_url(container):
        fs, path = _filesystem(container)
        opened: IO[bytes] = fs.open(path, "rb")
        return opened
    if not os.path.isfile(container):
        raise DumpError(container, "no such dump file")
    return open(container, "rb")


def _size(file: IO[bytes]) -> int:
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    return size
