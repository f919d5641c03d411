"""Sample photos that come with installed packages, so that a demo needs no download."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from panokit.errors import MissingExtraError

__all__ = ["calibration_photos", "sample_photos"]

# Name → the package that brings the photo, and the file inside it. All are free to use: the
# packages' own README.txt beside each file names its origin.
_FILES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
}
# Everyday photos that are not shown: quantization measures ranges on them, so that an artifact can
# be judged on the ones above.
_CALIBRATION_FILES = {
    "rocket": ("skimage", "data/rocket.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "cameraman": ("skimage", "data/camera.png"),
    "coins": ("skimage", "data/coins.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}


def sample_photos() -> dict[str, Path]:
    """Names and files of the sample photos that are installed, in the order to show them.

    The packages are found, not imported. Raises ``MissingExtraError`` if no photo is there.
    """
    return _installed(_FILES)


def calibration_photos() -> dict[str, Path]:
    """Names and files of photos of installed packages that are not among the sample photos.

    For want of training photos: they are few. Raises ``MissingExtraError`` if no photo is there.
    """
    return _installed(_CALIBRATION_FILES)


def _installed(files: Mapping[str, tuple[str, str]]) -> dict[str, Path]:
    found = {}
    for name, (package, file) in files.items():
        for root in _roots(package):
            if (root / file).is_file():
                found[name] = root / file
                break
    if not found:
        raise MissingExtraError("Opening the sample photos", "demo")
    return found


def _roots(package: str) -> list[Path]:
    """Folders of an installed package; none if it is missing or not in plain files."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(p) for p in (spec and spec.submodule_search_locations) or ()]
