"""Ground truth in the COCO panoptic format, with what partial labels say and do not say.

Layout: ``DIR/annotations/SPLIT.json``, ``DIR/images/<image file_name>`` and
``DIR/panoptic/<annotation file_name>`` (PNG, id = R + 256·G + 65536·B). Keys beyond the format:

- image ``labelled``: category ids known to be absent wherever the PNG says 0. If it is missing or
  names all categories the photo is labelled in full and 0 is plain void.
- image ``person_boxes``: ``[x, y, width, height]`` in pixels of all persons of a photo of which no
  mask is known.
- image ``source``: where the photo comes from; the split's name without it.
- image ``drawn``: of a photo with an EXIF orientation, whether its labels were drawn on what is
  seen (``"upright"``) or on the pixels as stored (``"stored"``). It is found out without this key
  (:mod:`panokit_datasets.drawn`).
- segment ``iscrowd`` 1: the class is known, instances are not separated.
- segment ``ignore`` 1: uncertain, used for nothing.

What the JSON says is not trusted: paths stay inside the folder, and sizes and ids must agree with
the files. (Symbolic links are followed: they are the folder owner's, not the JSON's.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panokit._reading import is_sidecar
from panokit.errors import DataError
from panokit.photo import MAX_PIXELS
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_json import MAX_ID, CocoJson
from panokit_datasets.drawn import as_drawn
from panokit_datasets.paths import inside
from panokit_datasets.truth import Box, TruthPhoto, TruthSegment, decode_ids, open_photo

__all__ = [
    "MAX_BOXES",
    "Box",
    "TruthPhoto",
    "TruthSegment",
    "decode_ids",
    "load_truth",
    "open_photo",
    "splits",
]

MAX_BOXES = 200


@dataclass(frozen=True)
class PanopticFolder:
    """A data set folder and the taxonomy its category ids are of."""

    root: Path
    taxonomy: Taxonomy

    @classmethod
    def open(cls, root: str | Path, taxonomy: str | Path | None = None) -> PanopticFolder:
        """Open ``root``; the taxonomy is ``root/taxonomy.json`` unless a file is named, or else
        the categories of the first annotation file."""
        root = Path(root)
        if not (root / "annotations").is_dir():
            raise DataError(root, "expected a data set folder that holds 'annotations/'")
        path = Path(taxonomy) if taxonomy else root / "taxonomy.json"
        if not path.is_file():
            names = splits(root)
            if taxonomy or not names:
                raise DataError(path, "no such taxonomy file")
            path = root / "annotations" / f"{names[0]}.json"
            return cls(root, Taxonomy.from_json(CocoJson(path).load()))
        return cls(root, Taxonomy.load(path))

    @staticmethod
    def is_one(root: Path) -> bool:
        """Whether a folder has our layout."""
        return all((root / name).is_dir() for name in ("annotations", "images", "panoptic"))

    def splits(self) -> list[str]:
        """Names of all annotation files, sorted."""
        return splits(self.root)


def splits(data_dir: str | Path) -> list[str]:
    """Names of all splits of a data set folder, sorted."""
    files = (Path(data_dir) / "annotations").glob("*.json")
    return sorted(p.stem for p in files if not is_sidecar(p.name))


def load_truth(data_dir: str | Path, split: str, taxonomy: Taxonomy) -> list[TruthPhoto]:
    """Read ``annotations/SPLIT.json``; photos in the order of their ids.

    Images are opened only to find out how the labels of turned photos were drawn: the headers of
    all, and some photos where sizes do not tell. What was found is logged.

    Raises ``DataError`` for an unreadable file, a category the taxonomy lacks or names otherwise,
    a path that leaves the folder, and an image without annotation or the reverse.
    """
    return _Reader(Path(data_dir), split, taxonomy).read()


class _Reader(CocoJson):
    """Reads one annotation file."""

    def __init__(self, root: Path, split: str, taxonomy: Taxonomy) -> None:
        super().__init__(root / "annotations" / f"{split}.json")
        self.root, self.split, self.taxonomy = root, split, taxonomy
        self.names = {c.id: c.name for c in taxonomy}
        if not (root / "annotations").is_dir():
            raise DataError(root, "expected a data set folder that holds 'annotations/'")
        if split not in splits(root):  # also keeps "../x" out
            known = ", ".join(splits(root)) or "none"
            raise DataError(self.path, f"no such split; splits here: {known}")

    def read(self) -> list[TruthPhoto]:
        data = self.load()
        self._check_categories(data.get("categories", []))
        images = self._by_id(data, "images", "id")
        labels = self._by_id(data, "annotations", "image_id")
        alone = sorted(images.keys() ^ labels.keys())
        if alone:
            raise self.wrong(f"images without annotation or the reverse: ids {alone[:5]}")
        photos = [self._photo(i, images[i], labels[i]) for i in sorted(images)]
        stated = {i: image["drawn"] for i, image in images.items() if "drawn" in image}
        return as_drawn(photos, stated, self.path)

    def _check_categories(self, categories: Any) -> None:
        """An id that means another class here than in the taxonomy would be scored as nonsense."""
        for c in self.objects(categories, "categories"):
            name = self.names.get(c["id"]) if isinstance(c.get("id"), int) else None
            if name is not None and c.get("name") != name:
                raise self.wrong(
                    f"expected category {c['id']} to be {name!r} as in taxonomy "
                    f"{self.taxonomy.name!r}, got {c.get('name')!r}; use the taxonomy that the "
                    "labels were made with"
                )

    def _by_id(self, data: dict[str, Any], key: str, id_key: str) -> dict[int, dict[str, Any]]:
        out: dict[int, dict[str, Any]] = {}
        for i, item in enumerate(self.objects(data.get(key), key)):
            number = self.whole(item.get(id_key), f"{key}[{i}].{id_key}", 0, 2**63 - 1)
            if number in out:
                raise self.wrong(f"expected one entry of {key} per photo, got two for {number}")
            out[number] = item
        return out

    def _photo(self, number: int, image: dict[str, Any], labels: dict[str, Any]) -> TruthPhoto:
        where = f"image {number}"
        w, h = (self.whole(image.get(k), f"{where}: {k}", 1, 2**24) for k in ("width", "height"))
        if w * h > MAX_PIXELS:
            raise self.wrong(f"{where}: expected at most {MAX_PIXELS} pixels, got {w} x {h}")
        ids = image.get("labelled")
        if ids is not None and not isinstance(ids, list):
            raise self.wrong(f"{where}: expected 'labelled' to be a list, got {ids!r}")
        labelled = sorted({self._channel(i, f"{where}, labelled") for i in ids or []})
        complete = ids is None or len(labelled) == len(self.taxonomy)
        if image.get("drawn", "upright") not in ("upright", "stored"):
            got = f"got {image['drawn']!r}"
            raise self.wrong(f'{where}: expected \'drawn\' to be "upright" or "stored", {got}')
        return TruthPhoto(
            image_id=number,
            name=str(image.get("file_name")),
            image_path=self._inside("images", image.get("file_name"), where),
            panoptic_path=self._inside("panoptic", labels.get("file_name"), where),
            size_wh=(w, h),
            segments=self._segments(labels.get("segments_info"), where),
            labelled=tuple(range(len(self.taxonomy))) if complete else tuple(labelled),
            complete=complete,
            source=str(image.get("source", self.split)),
            person_boxes=self._boxes(image.get("person_boxes") or [], where),
        )

    def _boxes(self, given: Any, where: str) -> tuple[Box, ...]:
        try:
            boxes = tuple((float(x), float(y), float(w), float(h)) for x, y, w, h in given)
        except (TypeError, ValueError):
            boxes = ((0.0, 0.0, 0.0, 0.0),)
        good = all(w > 0 and h > 0 and math.isfinite(x + y + w + h) for x, y, w, h in boxes)
        if not good or len(boxes) > MAX_BOXES:
            expected = f"at most {MAX_BOXES} person_boxes [x, y, width, height]"
            raise self.wrong(f"{where}: expected {expected}")
        return boxes

    def _segments(self, infos: Any, where: str) -> tuple[TruthSegment, ...]:
        out: dict[int, TruthSegment] = {}
        for s in self.objects(infos, f"{where}: segments_info"):
            number = self.whole(s.get("id"), f"{where}: segment id", 1, MAX_ID)
            if number in out:
                raise self.wrong(f"{where}: expected segment ids once each, got {number} twice")
            channel = self._channel(s.get("category_id"), f"{where}, segment {number}")
            out[number] = TruthSegment(
                id=number,
                channel=channel,
                is_thing=self.taxonomy.categories[channel].is_thing,
                is_crowd=bool(s.get("iscrowd", 0)),
                ignore=bool(s.get("ignore", 0)),
            )
        return tuple(out.values())

    def _channel(self, category_id: Any, where: str) -> int:
        number = self.whole(category_id, f"{where}: category", 1, MAX_ID)
        if number not in self.names:
            name = self.taxonomy.name
            raise self.wrong(f"{where}: category {number} is not in the taxonomy {name!r}")
        return self.taxonomy.channel(number)

    def _inside(self, folder: str, name: Any, where: str) -> Path:
        """``root/folder/name``."""
        path = inside(self.root / folder, name)
        if path is None:
            raise self.wrong(f"{where}: expected a path inside {folder}/, got {name!r}")
        return path
