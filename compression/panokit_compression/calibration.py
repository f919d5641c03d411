"""Which photos the activation ranges are measured on.

The choice depends on nothing but the names, so that the same data gives the same artifact, and
the names go into the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._text import encodable
from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit_datasets.coco_panoptic import PanopticFolder, load_truth

__all__ = ["CalibrationSet", "calibration_from_data", "calibration_from_photos", "enough"]

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class CalibrationSet:
    """Inputs to measure ranges on.

    ``images`` uint8 ``[H,W,3]`` RGB each, as the network gets them; ``names`` says which photo
    (and which variant of it) each is; ``source`` says in words where they come from.
    """

    images: tuple[Image, ...]
    names: tuple[str, ...]
    source: str

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
        return {"source": self.source, "photos": list(self.names)}


def calibration_from_data(
    data: str | Path, count: int, config: PreprocessConfig | None = None
) -> CalibrationSet:
    """``count`` training photos of a COCO-panoptic folder (splits named ``*_train``).

    The photos with the smallest SHA-256 of their name are taken: as good as random, and the same
    everywhere. ``DataError`` if there are fewer.
    """
    folder = PanopticFolder.open(data)
    images = folder.root / "images"
    paths: dict[bool, set[Path]] = {True: set(), False: set()}
    for name in folder.splits():
        truth = load_truth(folder.root, name, folder.taxonomy)
        paths[name.endswith("_train")] |= {photo.image_path for photo in truth}
    # Validation photos never calibrate, even where a training split holds them too.
    training = paths[True] - paths[False]
    chosen = sorted(training, key=lambda p: _digest(p.relative_to(images).as_posix()))[:count]
    if len(chosen) < count:
        reason = f"expected at least {count} photos in splits *_train, got {len(chosen)}"
        raise DataError(folder.root, reason)
    return CalibrationSet(
        images=tuple(preprocess(Photo.open(path), config)[0] for path in chosen),
        names=tuple(path.relative_to(images).as_posix() for path in chosen),
        source="training photos",
    )


def calibration_from_photos(
    photos: Mapping[str, Photo], count: int, config: PreprocessConfig | None = None
) -> CalibrationSet:
    """``count`` inputs from ``photos`` by name; few photos are used again, mirrored and cropped.

    For want of training photos: variants of a handful of photos cover ranges less well.
    """
    if not photos or count < 1:
        raise ArgumentError(
            "photos",
            f"{len(photos)} photos, of which {count} are to be used; expected at least 1 of each",
        )
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
    return CalibrationSet(tuple(images), tuple(names), source)


def enough(calibration: CalibrationSet | None, count: int, name: str) -> CalibrationSet:
    """The first ``count`` images for the recipe ``name``; ``ArgumentError`` if there are fewer."""
    if calibration is None or len(calibration) < count:
        got = 0 if calibration is None else len(calibration)
        expected = f"a set of at least {count} inputs for {name}"
        raise ArgumentError(
            "calibration", f"there are {got} calibration images; expected {expected}"
        )
    return calibration.first(count)


def _digest(name: str) -> str:
    return hashlib.sha256(encodable(name).encode()).hexdigest()


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


_VARIANTS: dict[str, Callable[[Image], Image]] = {
    "": lambda rgb: rgb,
    "mirror": _mirror,
    "crop-center": _crop(0.5, 0.5),
    "crop-top-left": _crop(0, 0),
    "crop-top-right": _crop(0, 1),
    "crop-bottom-left": _crop(1, 0),
    "crop-bottom-right": _crop(1, 1),
    "mirror-crop-center": lambda rgb: _crop(0.5, 0.5)(_mirror(rgb)),
}
