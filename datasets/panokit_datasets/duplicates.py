"""Photos that stand twice in a data set: the same bytes, or pictures that look the same.

A difference hash says for each of 8×8 places whether the picture gets lighter to the right; copies
that were resized, compressed again or retouched differ in few of its 64 bits.
(N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.)
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panokit._exif import upright
from panokit._photo_picture import header_of
from panokit.photo import MAX_FILE_BYTES, MAX_PIXELS

__all__ = ["NEAR", "PhotoHash", "near_pairs", "photo_hash"]

NEAR = 4
"""Bits of 64 in which two difference hashes of one picture may differ."""

_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # five: four bits spoil four at most
_FLAT = 10  # of 64 bits set, or all but so many: the picture is too plain to tell
_MAX_BUCKET = 2000


class PhotoHash(NamedTuple):
    """SHA-256 of a photo's bytes, its difference hash (None where the picture is too plain to
    tell), and its size: width, height, upright."""

    digest: str
    difference: int | None
    size_wh: tuple[int, int]


def photo_hash(path: Path, header: tuple[tuple[int, int], int] | None = None) -> PhotoHash | None:
    """The hashes of a photo; None where it cannot be read. ``header``: its stored size and
    orientation, where they are known."""
    from PIL import Image

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        data = path.read_bytes()
        stored, orientation = header or header_of(data, str(path))
        if stored[0] * stored[1] > MAX_PIXELS:
            return None
        with Image.open(io.BytesIO(data)) as image:
            image.draft("L", (64, 64))  # a JPEG is decoded small
            grey = image.convert("L").resize((32, 32), Image.Resampling.BOX, reducing_gap=2.0)
    except Exception:  # whoever decodes it says what is wrong
        return None
    small = np.ascontiguousarray(upright(np.asarray(grey), orientation))
    nine = np.asarray(Image.fromarray(small).resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (nine[:, 1:] > nine[:, :-1]).ravel()
    count = int(bits.sum())
    difference = int.from_bytes(np.packbits(bits).tobytes(), "big")
    size = stored[::-1] if orientation >= 5 else stored
    return PhotoHash(
        hashlib.sha256(data).hexdigest(), difference if _FLAT <= count <= 64 - _FLAT else None, size
    )


def near_pairs(hashes: Sequence[int | None], most: int = NEAR) -> Iterator[tuple[int, int]]:
    """Pairs of places whose hashes differ in at most ``most`` (up to 4) bits, each once, the
    smaller place first."""
    known = np.array([h for h in hashes if h is not None], np.uint64)
    places = np.array([i for i, h in enumerate(hashes) if h is not None], np.int64)
    told: set[tuple[int, int]] = set()
    for shift, width in _BANDS:
        band = (known >> np.uint64(shift)) & np.uint64(2**width - 1)
        order = np.argsort(band, kind="stable")
        bounds = np.flatnonzero(np.diff(band[order])) + 1
        for group in np.split(order, bounds):
            if len(group) < 2:
                continue
            for pair in _in_group(known, group[:_MAX_BUCKET], most):
                a, b = sorted((int(places[pair[0]]), int(places[pair[1]])))
                if (a, b) not in told:
                    told.add((a, b))
                    yield a, b


def _in_group(
    known: NDArray[np.uint64], group: NDArray[np.int64], most: int
) -> Iterator[tuple[int, int]]:
    for at in range(len(group) - 1):
        rest = group[at + 1 :]
        differing = np.bitwise_count(known[group[at]] ^ known[rest])
        for other in rest[differing <= most].tolist():
            yield int(group[at]), other
