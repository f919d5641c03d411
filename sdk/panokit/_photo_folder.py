"""Which files are photos: those that are named, and those that lie in folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from panokit._photo_file import RAW_SUFFIXES, looks_like_a_photo
from panokit._reading import is_sidecar
from panokit._text import by_number
from panokit.errors import PhotoError

__all__ = ["PHOTO_SUFFIXES", "photo_paths"]

_log = logging.getLogger(__name__)

PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif",
    ".heic", ".heif", ".hif", ".avif",
)  # fmt: skip
"""What files in a folder are taken for photos."""

# Pictures that are not read: they are opened all the same, so that they are named.
_PICTURE_SUFFIXES = (
    *RAW_SUFFIXES, ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jxr", ".psd", ".ppm", ".pgm", ".pnm",
    ".tga", ".exr", ".hdr", ".qoi",
)  # fmt: skip
# Small JPEGs that cameras write beside their films.
_NO_PHOTO = (".thm",)


def photo_paths(paths: Iterable[Path], leave_out: Iterable[Path] = ()) -> dict[str, Path]:
    """Photo files by a name of their own, from files and folders.

    A folder gives the photos that lie in it and in its subfolders, by path; a file counts whatever
    its suffix. Pictures that cannot be read (raw files) are among them, last, so that whoever opens
    them says so. Hidden files, what systems put into folders, and the folders ``leave_out`` are
    not. The name is the file's stem, numbered where two share one in any capitals.
    """
    without = {os.path.realpath(p) for p in leave_out}
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = list(_in_folder(path, without))
        if not found:
            raise PhotoError(path, f"holds no photo ({', '.join(PHOTO_SUFFIXES)})")
        files += found
    files.sort(key=lambda p: p.suffix.lower() in _PICTURE_SUFFIXES)  # stable: only these move
    named: dict[str, Path] = {}
    taken: set[str] = set()
    for file in files:
        name, number = file.stem, 2
        while name.casefold() in taken:
            name, number = f"{file.stem}-{number}", number + 1
        taken.add(name.casefold())
        named[name] = file
    return named


def _in_folder(root: Path, without: set[str]) -> Iterator[Path]:
    """The pictures of a folder, then those of each subfolder; links are followed, once."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=_tell, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        for name in sorted(files, key=by_number):
            if not name.startswith(".") and not is_sidecar(name) and _is_picture(folder, name):
                yield Path(folder, name)
        folders[:] = [
            f
            for f in folders
            if not f.startswith(".")
            and not is_sidecar(f)
            and os.path.realpath(os.path.join(folder, f)) not in without
        ]
        folders.sort(key=by_number)


def _tell(error: OSError) -> None:
    _log.warning(
        "%s: cannot be listed, its photos are left out: %s", error.filename, error.strerror
    )


def _is_picture(folder: str, name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in PHOTO_SUFFIXES or suffix in _PICTURE_SUFFIXES:
        return True
    path = os.path.join(folder, name)
    if suffix in _NO_PHOTO or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return looks_like_a_photo(file.read(64))
    except OSError:
        return False
