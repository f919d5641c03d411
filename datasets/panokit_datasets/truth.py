"""True labels of one photo, and reading what they name: the photo, and the PNG of segment ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit._exif import upright
from panokit.errors import DataError, PhotoError
from panokit.photo import Photo
from panokit.taxonomy import VOID
from panokit_datasets.id_png import ids_of, read_id_png

__all__ = [
    "QUARTERS",
    "Box",
    "TruthPhoto",
    "TruthSegment",
    "decode_ids",
    "open_photo",
    "stored_ids",
]

QUARTERS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


@dataclass(frozen=True)
class TruthSegment:
    """One true segment: its ``id`` in the PNG, the ``channel`` of its class, and whether it is a
    thing, a crowd (instances not separated) or to be ignored."""

    id: int
    channel: int
    is_thing: bool
    is_crowd: bool = False
    ignore: bool = False


@dataclass(frozen=True)
class TruthPhoto:
    """One photo of a split and where its labels lie.

    ``image_id`` and ``name`` (``file_name``) are those of the split; ``size_wh`` in pixels,
    upright; ``labelled`` are the channels that are labelled wherever they occur; ``complete`` says
    that all are. ``person_boxes`` are the boxes of all persons, where only those are known.
    ``turn`` is the EXIF orientation that turns the labels' file upright: the photo's where they
    were drawn on its pixels as stored, else 1.
    """

    image_id: int
    name: str
    image_path: Path
    panoptic_path: Path
    size_wh: tuple[int, int]
    segments: tuple[TruthSegment, ...]
    labelled: tuple[int, ...]
    complete: bool
    source: str = ""
    person_boxes: tuple[Box, ...] = ()
    turn: int = 1

    def load(self) -> tuple[Photo, NDArray[np.int32], tuple[TruthSegment, ...]]:
        """The photo, its ids ``[h0,w0]`` (0: nothing is said) and its segments; ``DataError`` where
        a file is missing or cannot be read."""
        return open_photo(self), decode_ids(self), self.segments

    @property
    def absent(self) -> tuple[int, ...]:
        """Channels known not to be where the id is 0; none where that is plain void."""
        return () if self.complete else self.labelled


def open_photo(truth: TruthPhoto) -> Photo:
    """The photo's pixels; ``DataError`` if its size is not the one in the JSON."""
    try:
        photo = Photo.open(truth.image_path)
    except PhotoError as error:
        raise DataError(truth.image_path, error.reason) from None
    if photo.size_wh != truth.size_wh:
        reason = f"expected size {truth.size_wh} as in the JSON, got {photo.size_wh}"
        raise DataError(truth.image_path, reason)
    return photo


def decode_ids(truth: TruthPhoto) -> NDArray[np.int32]:
    """The PNG's segment ids, int32 ``[H,W]``, 0 = none; every other id is in ``segments``. They lie
    as the photo is seen, however they were drawn."""
    ids = np.ascontiguousarray(upright(stored_ids(truth), truth.turn))
    known = np.array([VOID, *(s.id for s in truth.segments)], np.int32)
    strange = ids[~np.isin(ids, known)]
    if strange.size:
        first = np.unique(strange)[:5].tolist()
        reason = f"segment ids {first} are in the PNG but not in the JSON"
        raise DataError(truth.panoptic_path, reason)
    return ids


def stored_ids(truth: TruthPhoto) -> NDArray[np.int32]:
    """The PNG's ids as its file holds them."""
    expected = truth.size_wh[::-1] if truth.turn in QUARTERS else truth.size_wh
    return ids_of(read_id_png(truth.panoptic_path, expected))
