"""Reading what other systems write: text and JSON in any Unicode encoding, and which files no user
made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from panokit._places import plain_file

__all__ = ["is_sidecar", "open_text", "parse_json", "read_json"]

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
    return parse_json(plain_file(path).read_bytes())


def open_text(path: str | Path) -> IO[str]:
    """Open a text to read, in UTF-8, UTF-16 or UTF-32; a byte order mark is skipped."""
    path = plain_file(path)
    with path.open("rb") as file:
        head = file.read(4)
    return path.open(encoding=json.detect_encoding(head) if head else "utf-8")
