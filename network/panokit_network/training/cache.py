"""Decoded photos in one file, so that epochs cost no decoding."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import make_folder, replacing, write_json
from panokit._photo_picture import optional_readers
from panokit.errors import DataError
from panokit.pool import in_order
from panokit.taxonomy import Taxonomy
from panokit_datasets.records import DecodedPhoto, LabelledPhoto, PhotoRecord

__all__ = ["PhotoCache"]

log = logging.getLogger(__name__)

MUCH = 1_000_000_000  # bytes of other files in a cache's folder that are told
CACHE_FORMAT = 4  # in the names of cache files: another format is another file

Progress = Callable[[Iterable[LabelledPhoto]], Iterable[LabelledPhoto]]


@dataclass
class PhotoCache:
    """Decoded photos in one memory-mapped file; worker processes share its pages. Photos that
    cannot be decoded are left out and listed in ``skipped``."""

    records: list[PhotoRecord]
    offsets: list[int]
    pixels: NDArray[np.uint8]
    skipped: list[str] = field(default_factory=list)
    has_person: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> DecodedPhoto:
        record = self.records[index]
        w, h = record.size_wh
        n, at = w * h, self.offsets[index]
        image = self.pixels[at : at + 3 * n].reshape(h, w, 3)
        segments = self.pixels[at + 3 * n : at + 5 * n].view(np.uint16).reshape(h, w)
        person = None
        if self.has_person[index]:
            person = self.pixels[at + 5 * n : at + 6 * n].reshape(h, w)
        return DecodedPhoto(record, image, segments, person)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process gets where it is not forked (Windows, macOS): the name of the file
        of pixels, which it maps itself."""
        file = getattr(self.pixels, "filename", None)
        return self.__dict__ | ({"pixels": Path(file)} if file else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["pixels"], Path):
            state = state | {"pixels": np.memmap(state["pixels"], np.uint8, "r")}
        self.__dict__.update(state)

    @classmethod
    def build(
        cls,
        photos: Sequence[LabelledPhoto],
        taxonomy: Taxonomy,
        folder: str | Path,
        progress: Progress = lambda x: x,
        processes: int = 1,
    ) -> PhotoCache:
        """Open the cache in ``folder`` if it was made from these very photos, else make it, in so
        many processes."""
        folder = make_folder(folder)
        described = json.dumps([p.key for p in photos]) + json.dumps(taxonomy.to_json())
        described += ",".join(optional_readers())  # what was skipped for want of one is tried again
        stem = f"{hashlib.sha256(described.encode()).hexdigest()[:16]}-{CACHE_FORMAT}"
        pixels_path, index_path = folder / f"{stem}.bin", folder / f"{stem}.json"
        if not index_path.is_file():
            _write(photos, taxonomy, pixels_path, index_path, progress, processes)
            _tell_of_others(pixels_path)
        index = json.loads(index_path.read_text(encoding="utf-8"))
        return cls(
            records=[PhotoRecord.from_json(r, taxonomy) for r in index["photos"]],
            offsets=index["offsets"],
            pixels=np.memmap(pixels_path, np.uint8, "r") if index["photos"] else np.zeros(0, "u1"),
            skipped=index["skipped"],
            has_person=index["person"],
        )


def _tell_of_others(written: Path) -> None:
    """Say how much lies beside a new file: photos or labels that change leave the old one there."""
    others = [p.stat().st_size for p in written.parent.glob("*.bin") if p != written]
    if sum(others) >= MUCH:
        size = f"{len(others)} more of decoded photos, {sum(others) / 1e9:.1f} GB"
        log.info("%s holds %s; those that no run uses may be deleted", written.parent, size)


def _write(
    photos: Sequence[LabelledPhoto],
    taxonomy: Taxonomy,
    pixels_path: Path,
    index_path: Path,
    progress: Progress,
    processes: int,
) -> None:
    records: list[PhotoRecord] = []
    offsets: list[int] = []
    skipped: list[str] = []
    has_person: list[bool] = []
    with replacing(pixels_path) as partial, partial.open("wb") as file:
        for done in in_order(_decode, progress(photos), processes):
            photo = done.get()
            if isinstance(photo, str):
                skipped.append(photo)
                continue
            records.append(photo.record)
            offsets.append(file.tell())
            has_person.append(photo.person is not None)
            parts = [photo.image_hwc, photo.segment_map]
            parts += [photo.person] if photo.person is not None else []
            for part in parts:
                file.write(np.ascontiguousarray(part).tobytes())
    index = {
        "photos": [r.to_json(taxonomy) for r in records],
        "offsets": offsets,
        "skipped": skipped,
        "person": has_person,
    }
    write_json(index_path, index, indent=None)


def _decode(photo: LabelledPhoto) -> DecodedPhoto | str:
    try:
        return photo.decode()
    except DataError as error:
        return str(error)
