"""Whether photos differ enough to measure anything on them, and a split of them in two.

Ranges that were measured on four black photos are those of black photos, and an artifact compared
with its reference on them agrees whatever it does on others. Photos are looked at as thumbnails:
means of 16 x 16 tiles, which neither noise nor compression changes much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit._text import encodable
from panokit.photo import Photo

__all__ = [
    "FEW",
    "Variety",
    "compare_thumbnails",
    "drawn_by",
    "look_at",
    "split_photos",
    "thumbnail",
    "unlike",
]

SIDE = 16
FLAT = 4.0  # standard deviation over a thumbnail, in levels of 255, below which nothing is seen
ALIKE = 3.0  # root mean square difference of two thumbnails, below which they are one photo
FEW = 8  # different photos, below which ranges are a makeshift
NARROW = 96.0  # levels between the 1st and the 99th percentile of all tiles
MAX_FLAT_SHARE = 0.5
NAMED = 3  # photos that a sentence names


@dataclass(frozen=True)
class Variety:
    """What photos have to tell apart.

    ``flat`` names those of a single colour; ``groups`` holds the names of the others, photos that
    look alike together; ``low`` and ``high`` (0..255) are the 1st and the 99th percentile of the
    levels of all photos.
    """

    flat: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    low: float
    high: float

    @property
    def count(self) -> int:
        """How many photos there are."""
        return len(self.flat) + sum(len(group) for group in self.groups)

    @property
    def none(self) -> str:
        """Why nothing can be measured on these photos, in words; empty if something can."""
        if not self.groups:
            return f"all {self.count} are of one colour each ({_names(self.flat)})"
        if len(self.groups) == 1 and self.count > 1:
            alike = f"{_names(self.groups[0])} look the same"
            if self.flat:
                return f"{alike}, and {_names(self.flat)} are of one colour"
            return alike
        return ""

    @property
    def doubts(self) -> tuple[str, ...]:
        """What makes figures from these photos a makeshift, in words."""
        found = []
        if len(self.groups) < FEW:
            found.append(f"only {len(self.groups)} differ, expected at least {FEW}")
        if len(self.flat) > MAX_FLAT_SHARE * self.count:
            found.append(
                f"{len(self.flat)} of {self.count} are of one colour ({_names(self.flat)})"
            )
        if self.groups and self.high - self.low < NARROW:
            found.append(
                f"the levels lie between {self.low:.0f} and {self.high:.0f} of 255, "
                "expected dark and bright photos"
            )
        return tuple(found)


def look_at(photos: Mapping[str, Photo]) -> Variety:
    """How much ``photos`` (by name) differ."""
    return compare_thumbnails(list(photos), [thumbnail(p.rgb_hwc) for p in photos.values()])


def compare_thumbnails(names: Sequence[str], thumbnails: Sequence[NDArray[np.float32]]) -> Variety:
    """As :func:`look_at`, of thumbnails float32 ``[16,16,3]`` 0..255."""
    flat: list[str] = []
    groups: list[list[str]] = []
    firsts: list[NDArray[np.float32]] = []
    for name, seen in zip(names, thumbnails, strict=True):
        if float(seen.std(axis=(0, 1)).max()) < FLAT:
            flat.append(name)
            continue
        if firsts:
            apart = _apart(np.stack(firsts), seen)
            if float(apart.min()) < ALIKE:
                groups[int(apart.argmin())].append(name)
                continue
        firsts.append(seen)
        groups.append([name])
    low, high = np.percentile(np.stack(list(thumbnails)), (1, 99)) if thumbnails else (0, 0)
    return Variety(tuple(flat), tuple(tuple(g) for g in groups), float(low), float(high))


def split_photos(
    photos: Mapping[str, Photo], count: int
) -> tuple[dict[str, Photo], dict[str, Photo]]:
    """Photos to calibrate with, up to ``count``, and the others, to judge with.

    Photos that look alike stay on one side. At least a third (of very few photos, half) is kept
    for judging. Which photo goes where depends on the hash of its name, not on the order. The
    first part is empty where there is nothing to split: all photos look the same or are flat.
    """
    seen = look_at(photos)
    groups = [*seen.groups, *((name,) for name in seen.flat)]
    if len(seen.groups) < 2:
        return {}, dict(photos)
    groups.sort(key=lambda group: min(drawn_by(name) for name in group))
    least = max(len(groups) // 3, min(2, len(groups) // 2))
    chosen: list[str] = []
    for group in groups[: len(groups) - least]:
        if len(chosen) >= count:
            break
        chosen += group
    return (
        {name: photo for name, photo in photos.items() if name in set(chosen)},
        {name: photo for name, photo in photos.items() if name not in set(chosen)},
    )


def thumbnail(rgb_hwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of 16 x 16 tiles of an image ``[H,W,3]``, float32 ``[16,16,3]`` 0..255."""
    image = Image.fromarray(np.ascontiguousarray(rgb_hwc))
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small, np.float32)


def unlike(
    photos: Mapping[str, NDArray[np.uint8]], others: Iterable[NDArray[np.uint8]]
) -> tuple[str, ...]:
    """Names of the images ``[H,W,3]`` that look like none of ``others``."""
    known = np.stack([thumbnail(image) for image in others])
    least = {name: _apart(known, thumbnail(image)).min() for name, image in photos.items()}
    return tuple(name for name, apart in least.items() if apart >= ALIKE)


def drawn_by(name: str) -> str:
    """What photos are put in order by: the SHA-256 of a name, as good as random and the same
    everywhere. The name may hold bytes that are no UTF-8."""
    return hashlib.sha256(encodable(name).encode()).hexdigest()


def _apart(thumbnails: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square difference of each of ``[N,16,16,3]`` from another, in levels of 255."""
    found: NDArray[np.float32] = np.sqrt(np.square(thumbnails - other).mean(axis=(1, 2, 3)))
    return found


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} …" if len(names) > NAMED else shown
