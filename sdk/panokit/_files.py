"""Files: text and JSON as other systems write them, files that no user made, and new files that
come into being whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = [
    "is_sidecar",
    "link_folder",
    "open_text",
    "parse_json",
    "read_json",
    "replacing",
    "replacing_folder",
    "write_json",
]

# What Finder, Explorer and network drives put into folders, in lower case; names that begin with
# "._" as well (AppleDouble: https://www.rfc-editor.org/rfc/rfc1740).
_SIDECARS = frozenset(
    {
        ".ds_store", "__macosx", ".appledouble", ".localized", "icon\r", ".spotlight-v100",
        ".trashes", ".fseventsd", ".temporaryitems", ".documentrevisions-v100", ".volumeicon.icns",
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin",
        "system volume information", "@eadir", ".directory", ".nomedia", ".thumbnails",
        "picasa.ini", ".picasa.ini", ".picasaoriginals",
    }
)  # fmt: skip


def is_sidecar(path: str | Path) -> bool:
    """Whether a file, by its name or that of a folder on its way, is one that a system put there
    and no user: ``.DS_Store``, ``._photo.jpg``, ``Thumbs.db``, ``__MACOSX/…``."""
    parts = str(path).replace("\\", "/").lower().split("/")
    return any(part.startswith("._") or part in _SIDECARS for part in parts)


def parse_json(data: bytes) -> Any:
    """JSON in any Unicode encoding, with a byte order mark or without. ``ValueError`` says what is
    wrong with it, also where it is nested too deeply."""
    try:
        return json.loads(data.decode(json.detect_encoding(data)))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: str | Path) -> Any:
    """As :func:`parse_json`, of a file; ``OSError`` if it cannot be read."""
    return parse_json(Path(path).read_bytes())


def open_text(path: str | Path) -> IO[str]:
    """Open a text to read, in UTF-8, UTF-16 or UTF-32; a byte order mark is skipped."""
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(4)
    return path.open(encoding=json.detect_encoding(head) if head else "utf-8")


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
