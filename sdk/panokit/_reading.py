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


def parse_json(data: bytes, *, strict: bool = False) -> Any:
    """JSON in any Unicode encoding, with a byte order mark or without. ``ValueError`` says what is
    wrong with it, also where it is nested too deeply.

    ``strict`` is for what Panokit itself writes and may come from anyone: no name twice in an
    object, no NaN or infinity, no whole number beyond 64 bits, no half of a character.
    """
    hooks: dict[str, Any] = {}
    if strict:
        hooks = {
            "object_pairs_hook": _each_once,
            "parse_constant": _no_number,
            "parse_int": _whole_number,
            "parse_float": _finite_number,
        }
    try:
        found = json.loads(data.decode(json.detect_encoding(data)), **hooks)
        if strict:
            _check_texts(found)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def read_json(path: str | Path, *, strict: bool = False) -> Any:
    """As :func:`parse_json`, of a file; ``OSError`` if it cannot be read."""
    return parse_json(plain_file(path).read_bytes(), strict=strict)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _whole_number(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"the number {text[:24]} is beyond 64 bits")
    return int(text)


def _finite_number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:24]} is too large")
    return number


def _check_texts(value: Any) -> None:
    """Texts that UTF-8 can hold, everywhere in ``value``."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("a text holds half of a character (a lone surrogate)") from None
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_texts(name)
            _check_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner)


def open_text(path: str | Path) -> IO[str]:
    """Open a text to read, in UTF-8, UTF-16 or UTF-32; a byte order mark is skipped."""
    path = plain_file(path)
    with path.open("rb") as file:
        head = file.read(4)
    return path.open(encoding=json.detect_encoding(head) if head else "utf-8")
