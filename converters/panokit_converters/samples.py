"""A few photos that other packages bring along, for golden vectors and for want of better ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from panokit.errors import MissingExtraError, PhotoError
from panokit.photo import Photo

__all__ = ["photos_from_paths", "sample_photos"]

_FILES = (
    ("astronaut", "skimage", "data/astronaut.png"),
    ("chelsea", "skimage", "data/chelsea.png"),
    ("coffee", "skimage", "data/coffee.png"),
    ("grace_hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)


def sample_photos() -> dict[str, Photo]:
    """The sample photos of scikit-image and matplotlib that are installed, by name.

    ``MissingExtraError`` if there are none. The packages are located, not imported.
    """
    photos: dict[str, Photo] = {}
    for name, package, relative in _FILES:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin).parent / relative
        if path.is_file():
            photos[name] = Photo.open(path)
    if not photos:
        raise MissingExtraError("sample photos (or give some with --photos)", "demo")
    return photos


def photos_from_paths(paths: list[Path]) -> dict[str, Photo]:
    """Photos by name from files and folders; a folder stands for the images in it."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
            if not inside:
                raise PhotoError(path, f"holds no photo; looked for {', '.join(_SUFFIXES)}")
            files += inside
        else:
            files.append(path)
    photos: dict[str, Photo] = {}
    for file in files:
        name, number = file.stem, 2
        while name in photos:
            name, number = f"{file.stem}-{number}", number + 1
        photos[name] = Photo.open(file)
    return photos


_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
