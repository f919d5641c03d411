"""Sample photos that come with installed packages, so that a demo needs no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from panokit.errors import MissingExtraError

__all__ = ["sample_photos"]

# Name → the package that brings the photo, and the file inside it. All are free to use: the
# packages' own README.txt beside each file names its origin.
_FILES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
}


def sample_photos() -> dict[str, Path]:
    """Names and files of the sample photos that are installed, in the order to show them.

    The packages are found, not imported. Raises ``MissingExtraError`` if no photo is there.
    """
    found = {}
    for name, (package, file) in _FILES.items():
        for root in _roots(package):
            if (root / file).is_file():
                found[name] = root / file
                break
    if not found:
        raise MissingExtraError("The sample photos", "demo")
    return found


def _roots(package: str) -> list[Path]:
    """Folders of an installed package; none if it is missing or not in plain files."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(p) for p in (spec and spec.submodule_search_locations) or ()]
