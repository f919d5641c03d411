"""Mapillary Vistas v1.2 and v2.0: ``SPLIT/v1.2/instances/*.png`` (16-bit).

A value is 256 · label + the instance's number, where label is the place in the ``labels`` of
``config_v1.2.json``; older downloads have no version folder and call it ``config.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from panokit._files import write_json
from panokit._reading import read_json
from panokit.errors import ArgumentError, DataError
from panokit_datasets.classes import ClassList, class_list_names
from panokit_datasets.label_png import read_label_png
from panokit_datasets.problems import Complain
from panokit_datasets.reader import Options, Truth, folders, photo_files
from panokit_datasets.readers._files import FilesReader, Item
from panokit_datasets.readers._maps import truth_of_labels
from panokit_datasets.writer import (
    Sample,
    Writer,
    check_instances,
    class_and_instance,
    write_grey,
    write_photo,
)

__all__ = ["MapillaryV1", "MapillaryV1Writer", "MapillaryV2", "MapillaryV2Writer"]


class _Mapillary(FilesReader):
    version: ClassVar[str] = ""

    @classmethod
    def config(cls, root: Path) -> Path | None:
        """The file that lists the labels."""
        for name in (f"config_{cls.version}.json", *(["config.json"] if cls.is_old() else [])):
            if (root / name).is_file():
                return root / name
        return None

    @classmethod
    def is_old(cls) -> bool:
        """Whether folders without a version are this one's."""
        return cls.version == "v1.2"

    @classmethod
    def folder(cls, split: Path) -> Path:
        """Where the maps of a split lie."""
        return split if cls.is_old() and not (split / cls.version).is_dir() else split / cls.version

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        if cls.config(root) is None:
            return []
        found = [s for s in folders(root) if photo_files(cls.folder(s) / "instances", [".png"])]
        return [s.name for s in found]

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> FilesReader:
        photos = {
            p.stem: p for p in photo_files(root / split / "images", [".jpg", ".jpeg", ".png"])
        }
        items = []
        for label in photo_files(cls.folder(root / split) / "instances", [".png"]):
            photo = photos.get(label.stem, root / split / "images" / f"{label.stem}.jpg")
            items.append(Item(label.stem, photo, (label,)))
        config = cls.config(root)
        classes = read_config(config) if config else ClassList.named(cls.class_list)
        return cls(root, split, classes, items, options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        (path,) = self.items[index].labels
        values = read_label_png(path, size_wh, ["I;16"])
        return truth_of_labels(self, path, values // 256, values % 256)


class MapillaryV1(_Mapillary):
    """Mapillary Vistas v1.2: 66 labels."""

    kind, title, rank = "mapillary-v1.2", "Mapillary Vistas v1.2", 38
    version, class_list = "v1.2", "mapillary_v1_2"


class MapillaryV2(_Mapillary):
    """Mapillary Vistas v2.0: 124 labels."""

    kind, title, rank = "mapillary-v2.0", "Mapillary Vistas v2.0", 39
    version, class_list = "v2.0", "mapillary_v2_0"


class _MapillaryWriter(Writer):
    version: ClassVar[str] = ""

    def write(self, sample: Sample) -> dict[str, Any]:
        name = sample.flat_name
        folder = self.out / self.split
        write_photo(sample.photo, folder / "images" / f"{name}.jpg")
        unlabelled = max(v.source_id for v in self.classes.void)
        labels, instances = class_and_instance(sample.truth, self.classes)
        check_instances(instances, 255, "Mapillary Vistas")
        groups = {c.numbers.get("crowd_of", 0): c.source_id for c in self.classes.classes}
        for s in sample.truth.segments:
            if s.is_crowd and not s.ignore:  # a group has a label of its own, or none
                group = groups.get(int(self.taxonomy.ids[s.channel]), unlabelled)
                labels[sample.truth.ids == s.id] = group
        labels = np.where(labels < 0, unlabelled, labels)
        folder = folder / self.version
        write_grey(folder / "labels" / f"{name}.png", labels, 8, self._palette())
        values = 256 * labels + np.maximum(instances, 0)
        write_grey(folder / "instances" / f"{name}.png", values, 16)
        return {"name": name}

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        listed: list[tuple[int, dict[str, Any]]] = []
        for c in self.classes.classes:
            label = {"name": c.category.name, "readable": c.category.name, "evaluate": c.evaluate}
            label |= {"instances": c.category.is_thing, "color": list(c.category.color)}
            listed.append((c.source_id, label))
        for v in self.classes.void:
            label = {"name": v.name, "readable": v.name, "evaluate": False, "instances": False}
            listed.append((v.source_id, label | {"color": [0, 0, 0]}))
        labels = [label for _, label in sorted(listed, key=lambda entry: entry[0])]
        data = {"version": self.version.removeprefix("v"), "labels": labels}
        write_json(self.out / f"config_{self.version}.json", data)

    def _palette(self) -> bytes:
        colors = np.zeros((256, 3), np.uint8)
        for c in self.classes.classes:
            colors[c.source_id] = c.category.color
        return colors.tobytes()


class MapillaryV1Writer(_MapillaryWriter):
    """Writes Mapillary Vistas v1.2."""

    kind, version, class_list = "mapillary-v1.2", "v1.2", "mapillary_v1_2"


class MapillaryV2Writer(_MapillaryWriter):
    """Writes Mapillary Vistas v2.0."""

    kind, version, class_list = "mapillary-v2.0", "v2.0", "mapillary_v2_0"


def read_config(path: Path) -> ClassList:
    """The class list of a Mapillary configuration: ``labels`` with ``name``, ``readable``,
    ``instances``, ``evaluate`` and ``color``. ``DataError`` says what is wrong with it."""
    try:
        data = read_json(path)
        labels = data["labels"] if isinstance(data, Mapping) else None
        if not isinstance(labels, list) or not 1 <= len(labels) <= 256:
            raise ArgumentError("labels", "expected 'labels', a list of 1 to 256 labels")
        categories: list[dict[str, Any]] = []
        void: list[dict[str, Any]] = []
        for place, label in enumerate(labels):
            entry = _label(label, place)
            (categories if entry["evaluate"] else void).append(entry)
        found = ClassList.from_json({"name": path.stem, "categories": categories, "void": void})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"expected a Mapillary configuration, but {error}") from None
    return _known(found)


def _label(label: Any, place: int) -> dict[str, Any]:
    if not isinstance(label, Mapping) or not isinstance(label.get("name"), str):
        raise ArgumentError("labels", f"label {place} is {label!r:.60}; expected an object")
    return {
        "id": place + 1,
        "source_id": place,
        "name": str(label.get("readable") or label["name"]),
        "isthing": int(bool(label.get("instances", False))),
        "evaluate": int(bool(label.get("evaluate", True))),
        "color": label.get("color", [0, 0, 0]),
        "role": "void",
    }


def _known(found: ClassList) -> ClassList:
    """The known list where names and places are the same: its notes on groups come with it."""
    names = {c.source_id: c.category.name for c in found.classes}
    for name in class_list_names():
        if not name.startswith("mapillary"):
            continue
        known = ClassList.named(name)
        same = {c.source_id: c.category.name for c in known.classes if c.evaluate}
        if names == same:
            return known
    return replace(found, name="mapillary")
