"""Writing labels in the layout of a data set: photo by photo, in several processes, resumable."""

from __future__ import annotations

import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from panokit._files import replacing, write_bytes
from panokit.errors import ArgumentError, PhotoError
from panokit.photo import Photo, photo_header
from panokit_datasets.classes import ClassList
from panokit_datasets.problems import LabelError
from panokit_datasets.reader import Truth

__all__ = [
    "Sample",
    "Writer",
    "class_and_instance",
    "flat_name",
    "write_grey",
    "write_photo",
    "write_rgb",
]

QUALITY = 95
PLAIN = (".jpg", ".jpeg", ".png", ".webp")
"""Suffixes of photos that are copied as they are."""


@dataclass(frozen=True)
class Sample:
    """One labelled photo on its way into a data set: its place there, its name and group, where
    the photo lies, and its labels in the classes of the target."""

    number: int
    name: str
    group: str
    photo: Path
    truth: Truth

    @property
    def flat_name(self) -> str:
        """The name without folders and suffix, with characters that every disk takes."""
        return flat_name(self.name, self.number)

    @property
    def photo_suffix(self) -> str:
        """The suffix under which the photo is written: its own where programs read it."""
        suffix = self.photo.suffix.lower()
        return suffix.replace("jpeg", "jpg") if suffix in PLAIN else ".jpg"


def flat_name(name: str, number: int) -> str:
    """A name without folders and suffix, with characters that every disk takes."""
    stem = name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in stem)
    return plain.strip(".")[:150] or f"photo_{number}"


class Writer(ABC):
    """Writes one split. ``kind`` is that of the reader which reads it back; ``class_list`` names
    the classes that the format is bound to, where it is."""

    kind: ClassVar[str] = ""
    class_list: ClassVar[str] = ""

    def __init__(self, out: Path, split: str, classes: ClassList) -> None:
        self.out, self.split, self.classes = out, split, classes
        self.taxonomy = classes.taxonomy

    @abstractmethod
    def write(self, sample: Sample) -> dict[str, Any]:
        """Write the files of one photo; what the split's own files need of it is returned."""

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write the files of the split, from what :meth:`write` returned for each photo. Formats
        whose photos stand for themselves have none."""
        del records


def write_photo(source: Path, target: Path) -> None:
    """Copy a photo. One that EXIF turns, or of another kind than the target's suffix, is written
    anew, upright; a JPEG with quality 95."""
    header = photo_header(source)
    same = source.suffix.lower().replace("jpeg", "jpg") == target.suffix.lower()
    if header is not None and header[1] == 1 and same:
        with replacing(target) as partial:
            shutil.copyfile(source, partial)
        return
    from PIL import Image

    try:
        image = Image.fromarray(Photo.open(source).rgb_hwc)
    except PhotoError as error:
        raise LabelError(source, error.reason, "unreadable") from None
    buffer = io.BytesIO()
    kinds = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
    image.save(buffer, kinds.get(target.suffix.lower(), "PNG"), quality=QUALITY)
    write_bytes(target, buffer.getvalue())


def write_rgb(path: Path, rgb: NDArray[np.uint8]) -> None:
    """A PNG of colours ``[H,W,3]``."""
    _png(path, rgb, "RGB")


def write_grey(
    path: Path, values: NDArray[np.integer], bits: int = 8, palette: bytes | None = None
) -> None:
    """A PNG of grey values ``[H,W]`` of 8 or 16 bits, or of places in a palette."""
    if values.size and int(values.max()) >= 2**bits:
        raise ArgumentError(
            "values", f"{path.name} would hold {int(values.max())}; {bits} bits hold less"
        )
    _png(
        path,
        values.astype(np.uint16 if bits == 16 else np.uint8),
        "I;16" if bits == 16 else "L",
        palette,
    )


def _png(path: Path, values: NDArray[np.generic], mode: str, palette: bytes | None = None) -> None:
    from PIL import Image

    image = Image.fromarray(values)
    if palette is not None:
        image = image.convert("L")
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    write_bytes(path, buffer.getvalue())


def class_and_instance(
    truth: Truth,
    classes: ClassList,
    *,
    key: str = "source_id",
    per_class: bool = True,
    first: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels as two maps: the number of each pixel's class (-1: void), and of its instance (-1 for
    stuff and crowds), counted from ``first`` in each class or in the photo.

    What is ignored becomes void.
    """
    top = max((s.id for s in truth.segments), default=0) + 1
    number = np.full(top, -1, np.int64)
    instance = np.full(top, -1, np.int64)
    counted: dict[int, int] = {}
    for s in sorted(truth.segments, key=lambda s: s.id):
        if s.ignore:
            continue
        c = classes.classes[s.channel]
        number[s.id] = c.source_id if key == "source_id" else c.numbers.get(key, c.category.id)
        if s.is_thing and not s.is_crowd:
            group = s.channel if per_class else 0
            instance[s.id] = counted.get(group, 0) + first
            counted[group] = counted.get(group, 0) + 1
    return number[truth.ids], instance[truth.ids]


def check_instances(instances: NDArray[np.int64], limit: int, what: str) -> None:
    """Refuse labels with more instances than a format can number."""
    most = int(instances.max(initial=-1))
    if most > limit:
        raise ArgumentError(
            "instances", f"{what} numbers instances up to {limit}; this photo has {most}"
        )
