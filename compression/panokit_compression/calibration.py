"""Which photos the activation ranges are measured on.

The choice depends on nothing but the names, so that the same data gives the same artifact, and
the names go into the manifest. Photos without variety are refused; what else makes them a makeshift
is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit_compression.variety import (
    FEW,
    Variety,
    compare_thumbnails,
    drawn_by,
    look_at,
    thumbnail,
)
from panokit_datasets.coco_panoptic import PanopticFolder, load_truth

__all__ = [
    "CalibrationSet",
    "calibration_from_data",
    "calibration_from_photos",
    "enough",
    "training_photos",
]

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class CalibrationSet:
    """Inputs to measure ranges on.

    ``images`` uint8 ``[H,W,3]`` RGB each, as the network gets them; ``names`` says which photo
    (and which variant of it) each is; ``source`` says in words where they come from, ``warnings``
    what makes them less than is wanted.
    """

    images: tuple[Image, ...]
    names: tuple[str, ...]
    source: str
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images or len(self.images) != len(self.names):
            got = f"{len(self.images)} images and {len(self.names)} names"
            raise ArgumentError(
                "calibration set",
                f"the calibration set has {got}; expected as many images as names, at least one",
            )
        shapes = {image.shape for image in self.images}
        dtypes = {image.dtype for image in self.images}
        if len(shapes) != 1 or dtypes != {np.dtype(np.uint8)}:
            expected = "uint8 images of one shape [H,W,3]"
            raise ArgumentError(
                "calibration images",
                f"the calibration images are {dtypes} of {shapes}; expected {expected}",
            )

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> CalibrationSet:
        """The first ``count`` images (all, if there are fewer)."""
        return replace(self, images=self.images[:count], names=self.names[:count])

    def digest(self) -> str:
        """SHA-256 of the images themselves, whatever their names."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(repr(image.shape).encode())
            digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()

    def inputs(self) -> Iterator[NDArray[np.float32]]:
        """The images as the float network takes them: float32 ``[1,H,W,3]``, 0..255."""
        for image in self.images:
            yield image[None].astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """What the manifest says about the calibration."""
        said = {"source": self.source, "photos": list(self.names)}
        return {**said, "warnings": list(self.warnings)} if self.warnings else said


def calibration_from_data(
    data: str | Path, count: int, config: PreprocessConfig | None = None
) -> CalibrationSet:
    """``count`` training photos of a COCO-panoptic folder (splits named ``*_train``).

    The photos with the smallest SHA-256 of their name are taken: as good as random, and the same
    everywhere. ``DataError`` if there are fewer, or if they do not differ.
    """
    images: list[Image] = []
    thumbnails: list[NDArray[np.float32]] = []
    paths = training_photos(data, count)
    for path in paths.values():
        photo = Photo.open(path)  # one at a time: photos are large
        images.append(preprocess(photo, config)[0])
        thumbnails.append(thumbnail(photo.rgb_hwc))
    warnings = _warnings(compare_thumbnails(list(paths), thumbnails))
    return CalibrationSet(tuple(images), tuple(paths), "training photos", warnings)


def training_photos(
    data: str | Path, count: int, *, at_least: int | None = None
) -> dict[str, Path]:
    """The first ``count`` training photos of a COCO-panoptic folder in the order of the SHA-256 of
    their names, which are their paths below ``images``; ``DataError`` if there are fewer than
    ``at_least`` (``count`` by default)."""
    folder = PanopticFolder.open(data)
    images = folder.root / "images"
    paths: dict[bool, set[Path]] = {True: set(), False: set()}
    for name in folder.splits():
        truth = load_truth(folder.root, name, folder.taxonomy)
        paths[name.endswith("_train")] |= {photo.image_path for photo in truth}
    # Validation photos never calibrate, even where a training split holds them too.
    training = paths[True] - paths[False]
    chosen = sorted(training, key=lambda p: drawn_by(p.relative_to(images).as_posix()))[:count]
    least = count if at_least is None else at_least
    if len(chosen) < least:
        reason = f"expected at least {least} photos in splits *_train, got {len(chosen)}"
        raise DataError(folder.root, reason)
    return {path.relative_to(images).as_posix(): path for path in chosen}


def calibration_from_photos(
    photos: Mapping[str, Photo], count: int, config: PreprocessConfig | None = None
) -> CalibrationSet:
    """``count`` inputs from ``photos`` by name; few photos are used again, mirrored and cropped.

    For want of training photos: variants of a handful of photos cover ranges less well.
    ``ArgumentError`` if the photos do not differ.
    """
    if not photos or count < 1:
        raise ArgumentError(
            "photos",
            f"{len(photos)} photos, of which {count} are to be used; expected at least 1 of each",
        )
    warnings = _warnings(look_at(photos))
    images: list[Image] = []
    names: list[str] = []
    for variant, change in _VARIANTS.items():
        for name, photo in photos.items():
            if len(images) == count:
                break
            changed = Photo.from_array(np.ascontiguousarray(change(photo.rgb_hwc)))
            images.append(preprocess(changed, config)[0])
            names.append(f"{name}+{variant}" if variant else name)
    if len(images) < count:
        least = -(-count // len(_VARIANTS))
        raise ArgumentError(
            "photos",
            f"there are {len(photos)} calibration photos; "
            f"expected at least {least} for {count} inputs",
        )
    source = "photos given" if len(photos) >= count else "photos given, with mirrored and cropped"
    return CalibrationSet(tuple(images), tuple(names), source, warnings)


def _warnings(seen: Variety) -> tuple[str, ...]:
    """What makes the calibration a makeshift; ``ArgumentError`` if it would measure nothing."""
    if seen.none:
        raise ArgumentError(
            "photos",
            f"the photos to calibrate on do not vary: {seen.none}; expected photos such as the "
            f"network will see, at least {FEW} that differ",
        )
    return tuple(f"calibration photos: {doubt}" for doubt in seen.doubts)


def enough(calibration: CalibrationSet | None, count: int, name: str) -> CalibrationSet:
    """The first ``count`` images for the recipe ``name``; ``ArgumentError`` if there are fewer."""
    if calibration is None or len(calibration) < count:
        got = 0 if calibration is None else len(calibration)
        expected = f"a set of at least {count} inputs for {name}"
        raise ArgumentError(
            "calibration", f"there are {got} calibration images; expected {expected}"
        )
    return calibration.first(count)


def _crop(top: float, left: float, size: float = 0.6) -> Callable[[Image], Image]:
    """A crop of ``size`` of each side; ``top`` and ``left`` 0..1 place it."""

    def crop(rgb: Image) -> Image:
        h, w = rgb.shape[:2]
        ch, cw = max(1, int(h * size)), max(1, int(w * size))
        y, x = int((h - ch) * top), int((w - cw) * left)
        return rgb[y : y + ch, x : x + cw]

    return crop


def _mirror(rgb: Image) -> Image:
    return rgb[:, ::-1]


def _mirrored(change: Callable[[Image], Image]) -> Callable[[Image], Image]:
    return lambda rgb: change(_mirror(rgb))


_PLACES = {
    "center": (0.5, 0.5),
    "top-left": (0.0, 0.0),
    "top-right": (0.0, 1.0),
    "bottom-left": (1.0, 0.0),
    "bottom-right": (1.0, 1.0),
}
_CROPS = {f"crop-{place}": _crop(*at) for place, at in _PLACES.items()}
_CLOSE = {f"close-{place}": _crop(*at, 0.4) for place, at in _PLACES.items()}

# In the order in which they are used: those that are least like another come first.
_VARIANTS: dict[str, Callable[[Image], Image]] = {
    "": lambda rgb: rgb,
    "mirror": _mirror,
    **_CROPS,
    **{f"mirror-{name}": _mirrored(crop) for name, crop in _CROPS.items()},
    **_CLOSE,
    **{f"mirror-{name}": _mirrored(crop) for name, crop in _CLOSE.items()},
}
