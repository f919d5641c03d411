"""What is known of a training photo: its segments, and what its labels say is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy

__all__ = [
    "NO_PERSON_MAP",
    "PERSON_LEVELS",
    "DecodedPhoto",
    "LabelledPhoto",
    "PhotoRecord",
    "SegmentRecord",
]

PERSON_LEVELS = 15
"""Value of a person map where the teachers are sure of a person; 0 where they see none."""

NO_PERSON_MAP = 255
"""Value of a person map where nothing is said."""


@dataclass(frozen=True)
class SegmentRecord:
    """One labelled segment: its semantic ``channel``, and whether it is a thing, a crowd
    (instances not separated) or uncertain and to be ignored.

    ``score`` (0..1] is how sure a teacher is of a pseudo-label, and None for a true label.
    """

    channel: int
    is_thing: bool
    is_crowd: bool = False
    ignore: bool = False
    score: float | None = None

    @property
    def is_object(self) -> bool:
        """Whether this is one instance of a thing."""
        return self.is_thing and not self.is_crowd and not self.ignore

    def to_json(self, taxonomy: Taxonomy) -> dict[str, Any]:
        """A JSON-ready dict with the category's id; flags that are not set are left out."""
        data: dict[str, Any] = {"category_id": int(taxonomy.ids[self.channel])}
        data |= {k: 1 for k, on in (("iscrowd", self.is_crowd), ("ignore", self.ignore)) if on}
        return data if self.score is None else {**data, "score": round(self.score, 3)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], taxonomy: Taxonomy) -> SegmentRecord:
        """Read back what :meth:`to_json` wrote."""
        channel = taxonomy.channel(data["category_id"])
        score = data.get("score")
        if score is not None and not (isinstance(score, int | float) and 0 < score <= 1):
            raise ArgumentError("score", f"score is {score!r}; expected a number above 0, up to 1")
        return cls(
            channel,
            taxonomy.categories[channel].is_thing,
            bool(data.get("iscrowd", 0)),
            bool(data.get("ignore", 0)),
            score,
        )


@dataclass(frozen=True)
class PhotoRecord:
    """What the labels of one photo say.

    ``name`` is its file name in the data set, ``source`` where it comes from, ``size_wh`` its width
    and height in pixels, upright. ``absent`` are
    channels known not to be there outside the segments; ``complete`` says that everything is
    labelled, so that what is in no segment is plain void.
    """

    name: str
    source: str
    size_wh: tuple[int, int]
    segments: tuple[SegmentRecord, ...]
    absent: tuple[int, ...]
    complete: bool

    def to_json(self, taxonomy: Taxonomy) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return {
            "name": self.name,
            "source": self.source,
            "size": list(self.size_wh),
            "segments": [s.to_json(taxonomy) for s in self.segments],
            "absent": [int(taxonomy.ids[c]) for c in self.absent],
            "complete": self.complete,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], taxonomy: Taxonomy) -> PhotoRecord:
        """Read a record; what does not fit raises ``ArgumentError``."""
        try:
            w, h = data["size"]
            return cls(
                name=str(data["name"]),
                source=str(data["source"]),
                size_wh=(int(w), int(h)),
                segments=tuple(SegmentRecord.from_json(s, taxonomy) for s in data["segments"]),
                absent=tuple(taxonomy.channel(i) for i in data["absent"]),
                complete=bool(data["complete"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ArgumentError(
                "photo record",
                f"the photo record {str(data)[:200]} is incomplete or of wrong types: {error}",
            ) from None


@dataclass(frozen=True)
class DecodedPhoto:
    """Pixels of one photo.

    ``image_hwc`` uint8 ``[H,W,3]`` sRGB; ``segment_map`` uint16 ``[H,W]``, 0 = none, else 1 +
    index into ``record.segments``; ``person`` uint8 ``[H,W]``, how likely a pixel is a person's,
    0..:data:`PERSON_LEVELS`, or None where no teacher said so.
    """

    record: PhotoRecord
    image_hwc: NDArray[np.uint8]
    segment_map: NDArray[np.uint16]
    person: NDArray[np.uint8] | None = None


class LabelledPhoto(Protocol):
    """A photo that can be decoded, wherever it lies."""

    @property
    def name(self) -> str:
        """Its file name in the data set."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    @property
    def key(self) -> str:
        """What tells its pixels and labels from any other's: changes when they change."""

    def decode(self) -> DecodedPhoto:
        """Read the pixels; ``DataError`` names what does not fit."""
