"""Packs: photos and merged labels in a few files that are small enough to send.

A pack is an uncompressed zip file of at most :data:`MAX_PACK_BYTES`::

    index.json     {"format", "taxonomy", "photos": [record of each photo, and its "split"]}
    N.webp         photo N, longest side as chosen
    N.png          its segment map: 8 bits (16 if there are more than 255 segments), 0 = none
    N.person.png   where there is one: how likely a pixel is a person's, 0..15

True labels and pseudo-labels are one map already (:mod:`panokit_datasets.pseudo`); how much a
pseudo-label counts is decided in training, from its score. A pack is data from outside: nothing in
it is executed or written to a path that it names, and sizes are checked before pixels are decoded.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit._files import replacing
from panokit._places import plain_file
from panokit._reading import is_sidecar
from panokit.errors import ArgumentError, DataError
from panokit.pool import in_order
from panokit.taxonomy import Taxonomy
from panokit_datasets.records import DecodedPhoto, LabelledPhoto, PhotoRecord

__all__ = ["MAX_PACK_BYTES", "PackFolder", "PackedPhoto", "write_packs"]

FORMAT = "panokit-pack/1"
SUFFIX = ".pack.zip"
MAX_PACK_BYTES = 36 * 2**20
MAX_INDEX_BYTES = 64 * 2**20
MAX_MEMBER_BYTES = 16 * 2**20
MAX_SIDE = 1024


@dataclass(frozen=True)
class PackedPhoto:
    """A photo in a pack; see :class:`LabelledPhoto`."""

    path: Path
    number: int
    split: str
    record: PhotoRecord
    has_person: bool
    digest: str

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def source(self) -> str:
        return self.record.source

    @property
    def key(self) -> str:
        return f"{self.digest}/{self.number}"

    def decode(self) -> DecodedPhoto:
        """Read the pixels; ``DataError`` if they are not as the index says."""
        stat = self.path.stat()
        pack = _kept_open(self.path, stat.st_mtime_ns, stat.st_size)
        image = self._read(pack, f"{self.number}.webp", "RGB", ("WEBP",))
        segments = self._read(pack, f"{self.number}.png", None, ("PNG",)).astype(np.uint16)
        person = None
        if self.has_person:
            person = self._read(pack, f"{self.number}.person.png", None, ("PNG",))
        if segments.max(initial=0) > len(self.record.segments):
            raise DataError(self.path, f"{self.number}.png: a segment that the index lacks")
        return DecodedPhoto(self.record, image, segments, person)

    def _read(
        self, pack: zipfile.ZipFile, member: str, mode: str | None, formats: tuple[str, ...]
    ) -> NDArray[Any]:
        try:
            info = pack.getinfo(member)
            if info.file_size > MAX_MEMBER_BYTES:
                raise DataError(self.path, f"{member}: expected at most {MAX_MEMBER_BYTES} bytes")
            with Image.open(io.BytesIO(pack.read(info)), formats=formats) as image:
                if image.size != self.record.size_wh:
                    expected = f"expected size {self.record.size_wh}"
                    raise DataError(self.path, f"{member}: {expected}, got {image.size}")
                return np.array(image.convert(mode) if mode else image)
        except (KeyError, OSError, SyntaxError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(self.path, f"{member}: cannot be read ({error})") from None


@dataclass(frozen=True)
class PackFolder:
    """A folder of packs that belong together."""

    root: Path
    taxonomy: Taxonomy
    photos: tuple[PackedPhoto, ...]

    @staticmethod
    def is_one(root: str | Path) -> bool:
        """Whether ``root`` holds packs."""
        return bool(_pack_files(Path(root)))

    @classmethod
    def open(cls, root: str | Path) -> PackFolder:
        """Read the indices of all packs in ``root``; ``DataError`` names what does not fit."""
        root = Path(root)
        taxonomy: Taxonomy | None = None
        photos: list[PackedPhoto] = []
        for path in _pack_files(root):
            own, packed = _read_index(path)
            if taxonomy is not None and own != taxonomy:
                raise DataError(path, "expected the taxonomy of the other packs in this folder")
            taxonomy = own
            photos += packed
        if taxonomy is None:
            raise DataError(root, f"expected packs (*{SUFFIX}); `panokit dataset pack` makes them")
        return cls(root, taxonomy, tuple(photos))

    def splits(self) -> list[str]:
        """Names of the splits that the photos are of, sorted."""
        return sorted({p.split for p in self.photos})

    def split(self, name: str) -> list[PackedPhoto]:
        """The photos of a split."""
        return [p for p in self.photos if p.split == name]


def _pack_files(root: Path) -> list[Path]:
    return sorted(p for p in root.glob(f"*{SUFFIX}") if not is_sidecar(p.name))


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(plain_file(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(path, f"expected a pack, but {error}") from None


@lru_cache(maxsize=4)
def _kept_open(path: Path, changed: int, size: int) -> zipfile.ZipFile:
    """A pack that stays open: its directory of thousands of files takes longer to read than a
    photo. Another time of change or size is another file."""
    return _opened(path)


def _read_index(path: Path) -> tuple[Taxonomy, list[PackedPhoto]]:
    with _opened(path) as pack:
        try:
            info = pack.getinfo("index.json")
            if info.file_size > MAX_INDEX_BYTES:
                raise DataError(path, f"index.json: expected at most {MAX_INDEX_BYTES} bytes")
            text = pack.read(info)
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise DataError(path, f"expected format {FORMAT!r}, got {data['format']!r}")
            taxonomy = Taxonomy.from_json(data["taxonomy"])
            digest = hashlib.sha256(text).hexdigest()
            photos = [
                PackedPhoto(
                    path,
                    number,
                    str(p["split"]),
                    PhotoRecord.from_json(p, taxonomy),
                    bool(p["person"]),
                    digest,
                )
                for number, p in enumerate(data["photos"])
            ]
        except (KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile) as error:
            raise DataError(path, f"index.json: not the index of a pack ({error!r})") from None
    wrong = [p.name for p in photos if not 1 <= max(p.record.size_wh) <= MAX_SIDE]
    if wrong:
        raise DataError(path, f"expected sides from 1 to {MAX_SIDE}: {wrong[:3]}")
    return taxonomy, photos


def write_packs(
    photos: Iterable[tuple[str, LabelledPhoto]],
    taxonomy: Taxonomy,
    out: str | Path,
    side: int = 320,
    quality: int = 80,
    max_bytes: int = MAX_PACK_BYTES,
    processes: int = 1,
) -> tuple[list[Path], list[str]]:
    """Write photos, each with its split's name, to ``out/NNN.pack.zip``.

    ``side`` is the longest side in pixels (smaller photos stay as they are); ``quality`` 1..100 of
    WebP; a pack has at most ``max_bytes``; ``processes`` encode at once. Photos that cannot be
    decoded are left out. Returns the packs, and why photos were left out.
    """
    if not 32 <= side <= MAX_SIDE:
        raise ArgumentError("side", f"side is {side!r}; expected a number from 32 to {MAX_SIDE}")
    if not 1 <= quality <= 100:
        raise ArgumentError("quality", f"quality is {quality!r}; expected a number from 1 to 100")
    out = Path(out)
    if PackFolder.is_one(out):
        raise DataError(out, "holds packs already; name a new folder")
    writer = _Writer(out, taxonomy, max_bytes)
    encode = partial(_encode, taxonomy=taxonomy, side=side, quality=quality)
    for done in in_order(encode, photos, processes):
        made = done.get()
        if isinstance(made, str):
            writer.skipped.append(made)
        else:
            writer.add(*made)
    writer.flush()
    return writer.paths, writer.skipped


def _encode(
    photo: tuple[str, LabelledPhoto], taxonomy: Taxonomy, side: int, quality: int
) -> tuple[dict[str, Any], dict[str, bytes]] | str:
    """A photo's line in the index and its files by ending; or why it cannot be decoded."""
    try:
        decoded = _shrink(photo[1].decode(), side)
    except DataError as error:
        return str(error)
    record = decoded.record.to_json(taxonomy)
    record |= {"split": photo[0], "person": decoded.person is not None}
    wide = len(decoded.record.segments) > 255
    segments = decoded.segment_map.astype(np.uint16 if wide else np.uint8)
    members = {".webp": _encoded(decoded.image_hwc, "WEBP", quality=quality, method=4)}
    members[".png"] = _encoded(segments, "PNG", optimize=True)
    if decoded.person is not None:
        members[".person.png"] = _encoded(decoded.person, "PNG", optimize=True)
    return record, members


class _Writer:
    """Gathers photos until a pack is full."""

    def __init__(self, out: Path, taxonomy: Taxonomy, max_bytes: int) -> None:
        self.out, self.taxonomy, self.max_bytes = out, taxonomy, max_bytes
        self.paths: list[Path] = []
        self.skipped: list[str] = []
        self.members: list[dict[str, bytes]] = []
        self.records: list[dict[str, Any]] = []
        self.size = 0

    def add(self, record: dict[str, Any], members: dict[str, bytes]) -> None:
        # A member costs about 100 bytes twice; the record stands in the index.
        size = sum(map(len, members.values())) + 300 * len(members) + len(json.dumps(record)) + 2
        if self.records and self.size + size > self.max_bytes - 2**16:
            self.flush()
        self.members.append(members)
        self.records.append(record)
        self.size += size

    def flush(self) -> None:
        if not self.records:
            return
        index = {"format": FORMAT, "taxonomy": self.taxonomy.to_json(), "photos": self.records}
        path = self.out / f"{len(self.paths):03d}{SUFFIX}"
        with replacing(path) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as pack:
            pack.writestr("index.json", json.dumps(index, separators=(",", ":")))
            for number, members in enumerate(self.members):
                for ending, data in members.items():
                    pack.writestr(f"{number}{ending}", data)
        self.paths.append(path)
        self.members, self.records, self.size = [], [], 0


def _encoded(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _shrink(photo: DecodedPhoto, side: int) -> DecodedPhoto:
    """``photo`` with its longest side at most ``side``: pixels smoothly, labels by the nearest."""
    w, h = photo.record.size_wh
    if max(w, h) <= side:
        return photo
    scale = side / max(w, h)
    size_wh = max(1, round(w * scale)), max(1, round(h * scale))
    xs = ((np.arange(size_wh[0]) + 0.5) * w / size_wh[0]).astype(np.int64)
    ys = ((np.arange(size_wh[1]) + 0.5) * h / size_wh[1]).astype(np.int64)
    image = Image.fromarray(photo.image_hwc).resize(size_wh, Image.Resampling.BILINEAR)
    return DecodedPhoto(
        replace(photo.record, size_wh=size_wh),
        np.asarray(image),
        np.ascontiguousarray(photo.segment_map[ys[:, None], xs]),
        None if photo.person is None else np.ascontiguousarray(photo.person[ys[:, None], xs]),
    )
