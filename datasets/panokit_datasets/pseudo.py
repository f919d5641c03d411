"""Pseudo-labels: what teachers say of photos that people labelled in part, or not at all.

In a data set folder they lie beside the true labels::

    DIR/pseudo/<source>.jsonl         one line a photo: {"file", "size": [w, h], "segments":
                                      [{"i": index, "c": category id, "s": score}, ...]}
    DIR/pseudo/<source>/<stem>.png    8-bit, size of the photo: index of a segment, 0 = nothing
                                      is said (which is not "background")
    DIR/person/<source>/<stem>.png    optional, 4-bit grey: probability of a person times 15

`panokit label` writes them. True labels always win: :func:`merge_labels` fills only what they
leave open (Lee 2013, pseudo-labels; with weights as in https://arxiv.org/abs/2010.09713).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit._places import plain_file
from panokit._reading import open_text
from panokit.errors import DataError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import Box
from panokit_datasets.records import PERSON_LEVELS, DecodedPhoto, SegmentRecord

__all__ = [
    "LEAST_VISIBLE",
    "MAX_SEGMENTS",
    "PseudoLabels",
    "PseudoSegment",
    "merge_boxes",
    "merge_labels",
    "read_map",
    "read_pseudo_labels",
]

MAX_SEGMENTS = 255
MAX_FILE_BYTES = 500_000_000
LEAST_VISIBLE = 0.7
"""Share of a pseudo-labelled object that must be open ground for it to count as one: less is the
rim of an object that a person labelled, or half of another."""


@dataclass(frozen=True)
class PseudoSegment:
    """One segment that teachers see: ``index`` in the map, ``channel``, ``score`` (0..1]."""

    index: int
    channel: int
    score: float


@dataclass(frozen=True)
class PseudoLabels:
    """What teachers say of one photo of ``size_wh`` pixels, and where the maps lie
    (``person_path`` may be missing)."""

    size_wh: tuple[int, int]
    segments: tuple[PseudoSegment, ...]
    index_path: Path
    person_path: Path | None = None

    def index_map(self) -> NDArray[np.uint8]:
        """The segment index of each pixel, uint8 ``[H,W]``, 0 = nothing is said."""
        index = read_map(self.index_path, self.size_wh)
        known = np.zeros(256, bool)
        known[[0, *(s.index for s in self.segments)]] = True
        strange = np.flatnonzero(~known & (np.bincount(index.ravel(), minlength=256) > 0))
        if strange.size:
            reason = f"segments {strange[:5].tolist()} are in the PNG but not in the JSON lines"
            raise DataError(self.index_path, reason)
        return index

    def person_map(self) -> NDArray[np.uint8] | None:
        """How likely each pixel is a person's, uint8 ``[H,W]``, 0..15; None without a map."""
        if self.person_path is None:
            return None
        person = read_map(self.person_path, self.size_wh)
        if person.max(initial=0) > PERSON_LEVELS:
            raise DataError(self.person_path, f"expected values up to {PERSON_LEVELS}")
        return person


def read_pseudo_labels(root: Path, source: str, taxonomy: Taxonomy) -> dict[str, PseudoLabels]:
    """The pseudo-labels of a source by photo name; empty where there are none.

    Raises ``DataError`` for a line that is not as :mod:`panokit_datasets.pseudo` says.
    """
    path = root / "pseudo" / f"{source}.jsonl"
    if Path(source).name != source or not path.is_file():
        return {}
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DataError(path, f"expected at most {MAX_FILE_BYTES} bytes")
    out: dict[str, PseudoLabels] = {}
    number = 0
    try:
        with open_text(path) as lines:
            for line in lines:
                number += 1
                name, labels = _photo(root, json.loads(line), taxonomy)
                out[name] = labels
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(path, f"line {number}: {error!r}"[:300]) from None
    return out


def _photo(root: Path, data: Any, taxonomy: Taxonomy) -> tuple[str, PseudoLabels]:
    name = data["file"]
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"expected 'file' to be a path inside the data set, got {name!r}")
    w, h = data["size"]
    segments = tuple(_segment(s, taxonomy) for s in data["segments"])
    if len({s.index for s in segments}) != len(segments):
        raise ValueError(f"{name}: expected segment indices once each")
    map_name = relative.with_suffix(".png")
    person = root / "person" / map_name
    return str(name), PseudoLabels(
        (int(w), int(h)),
        segments,
        root / "pseudo" / map_name,
        person if person.is_file() else None,
    )


def _segment(data: Any, taxonomy: Taxonomy) -> PseudoSegment:
    index, score = data["i"], float(data["s"])
    if isinstance(index, bool) or not isinstance(index, int) or not 1 <= index <= MAX_SEGMENTS:
        raise ValueError(f"expected a segment index from 1 to {MAX_SEGMENTS}, got {index!r}")
    if not (math.isfinite(score) and 0 < score <= 1):
        raise ValueError(f"expected a score above 0, up to 1, got {score}")
    return PseudoSegment(index, taxonomy.channel(data["c"]), score)


def read_map(path: Path, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A PNG of small whole numbers (grey or indexed, up to 8 bits), uint8 ``[H,W]``."""
    try:
        with Image.open(plain_file(path), formats=("PNG",)) as image:
            if image.size != size_wh:
                raise DataError(path, f"expected size {size_wh}, got {image.size}")
            if image.mode not in ("L", "P", "1"):
                raise DataError(path, f"expected a grey or indexed PNG, got mode {image.mode}")
            values: NDArray[np.uint8] = np.asarray(image, np.uint8)
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(path, f"cannot be decoded: {error}") from None
    return values


def merge_labels(
    photo: DecodedPhoto,
    taxonomy: Taxonomy,
    segments: Sequence[PseudoSegment],
    index_map: NDArray[np.uint8],
) -> DecodedPhoto:
    """``photo`` with pseudo-labels where its true labels say nothing.

    Nothing is filled into a photo labelled in full, into a segment, or against the word of the
    true labels that a class is absent. Of an object with less than :data:`LEAST_VISIBLE` of its
    pixels on open ground what lies there is uncertain, not a second object.
    """
    record = photo.record
    if record.complete:
        return photo
    open_ground = photo.segment_map == 0
    whole = np.bincount(index_map.ravel(), minlength=256)
    left = np.bincount(index_map[open_ground], minlength=256)
    lookup = np.zeros(256, np.uint16)
    merged = list(record.segments)
    for s in segments:
        if s.channel in record.absent or left[s.index] == 0:
            continue
        is_thing = bool(taxonomy.thing_mask[s.channel])
        cut = is_thing and left[s.index] < LEAST_VISIBLE * whole[s.index]
        merged.append(SegmentRecord(s.channel, is_thing, cut, cut, s.score))
        lookup[s.index] = len(merged)
    segment_map = np.where(open_ground, lookup[index_map], photo.segment_map)
    return replace(photo, record=replace(record, segments=tuple(merged)), segment_map=segment_map)


def merge_boxes(photo: DecodedPhoto, boxes: Sequence[Box], person: int) -> DecodedPhoto:
    """``photo`` with what the boxes of all its persons say: outside them there is no person but
    those that are labelled; what lies in a box and in no segment is uncertain.

    ``person`` is the channel of persons. (As in BoxSup, https://arxiv.org/abs/1503.01640, a box
    alone gives no mask.)
    """
    h, w = photo.segment_map.shape
    inside = np.zeros((h, w), bool)
    for left, top, width, height in boxes:
        x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
        inside[y0 : max(0, math.ceil(top + height)), x0 : max(0, math.ceil(left + width))] = True
    record = photo.record
    uncertain = SegmentRecord(person, True, is_crowd=True, ignore=True, score=1.0)
    segments = (*record.segments, uncertain)
    fill = inside & (photo.segment_map == 0)
    segment_map = np.where(fill, len(segments), photo.segment_map).astype(np.uint16)
    absent = tuple(sorted({*record.absent, person}))
    return replace(
        photo, record=replace(record, segments=segments, absent=absent), segment_map=segment_map
    )
