"""ADE20K: SceneParse150 (``ADEChallengeData2016``), and the original folders with all classes.

SceneParse150: ``annotations/SPLIT/*.png`` holds classes 1..150 (0: other), ``annotations_instance``
R = instance class 1..100, G = the instance's number. As in Mask2Former's preparation, stuff is
painted first, instances over it, and what a thing class has beside its instances is void.

Originals: ``images/ADE/SPLIT/SCENE/…/NAME.jpg`` with ``NAME_seg.png`` (class = R // 10 · 256 + G; B
tells instances apart) and ``NAME.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from panokit._files import write_json
from panokit._places import plain_file
from panokit._reading import parse_json
from panokit_datasets.classes import ClassList
from panokit_datasets.label_png import read_label_png, read_rgb_png
from panokit_datasets.problems import Complain, LabelError
from panokit_datasets.reader import CROWD, Options, Truth, folders, photo_files, segments_of_maps
from panokit_datasets.readers._files import FilesReader, Item
from panokit_datasets.readers._maps import truth_of_labels
from panokit_datasets.writer import (
    Sample,
    Writer,
    check_instances,
    class_and_instance,
    write_grey,
    write_photo,
    write_rgb,
)

__all__ = ["Ade20k", "Ade20kFull", "Ade20kFullWriter", "Ade20kWriter"]

MAX_JSON_BYTES = 2**25
_SEG = "_seg.png"


class Ade20k(FilesReader):
    """SceneParse150 with its instances."""

    kind, title, rank = "ade20k", "ADE20K SceneParse150", 37
    class_list = "ade20k_150"

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        if not (root / "annotations_instance").is_dir():
            return []
        return [s.name for s in folders(root / "annotations") if photo_files(s, [".png"])]

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> Ade20k:
        items = [
            Item(
                label.stem,
                root / "images" / split / f"{label.stem}.jpg",
                (label, root / "annotations_instance" / split / label.name),
            )
            for label in photo_files(root / "annotations" / split, [".png"])
        ]
        return cls(root, split, ClassList.named(cls.class_list), items, options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        path, second = self.items[index].labels
        labels = read_label_png(path, size_wh, ["L", "P"])
        rgb = read_rgb_png(second, (labels.shape[1], labels.shape[0])).astype(np.int64)
        of_instance = self.classes.table("instance_id")
        of_instance[0] = -1
        things = of_instance[rgb[..., 0]]
        unknown = np.unique(rgb[..., 0][things == -2])
        if unknown.size:
            few = ", ".join(map(str, unknown[:5].tolist()))
            self.tell("unknown category", second, f"it holds {few}, which no instance class has")
        ids = {c.category.id: c.source_id for c in self.classes.classes}
        source = np.array([ids[int(i)] for i in self.taxonomy.ids], np.int64)
        labels = np.where(things >= 0, source[np.maximum(things, 0)], labels)
        instances = np.where(things >= 0, rgb[..., 1], CROWD)
        return truth_of_labels(self, path, labels, instances, crowds=False)


class Ade20kFull(FilesReader):
    """The original folders: every class that a photo's JSON names. Which are stuff is said by
    SceneParse150 where it has the class; all others are things."""

    kind, title, rank = "ade20k-full", "ADE20K, original folders", 36

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        base = cls.base(root)
        return [s.name for s in folders(base) if next(s.rglob(f"*{_SEG}"), None) is not None]

    @classmethod
    def base(cls, root: Path) -> Path:
        """The folder that holds the splits."""
        return root / "images" / "ADE"

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> Ade20kFull:
        base = cls.base(root) / split
        items: list[Item] = []
        names: dict[int, str] = {}
        for seg in sorted(base.rglob(f"*{_SEG}")):
            stem = seg.name.removesuffix(_SEG)
            name = seg.relative_to(base).as_posix().removesuffix(_SEG)
            described = seg.with_name(f"{stem}.json")
            names |= _classes_of(described)
            scene = name.rsplit("/", 1)[0] if "/" in name else ""
            items.append(Item(name, seg.with_name(f"{stem}.jpg"), (seg, described), scene))
        return cls(root, split, _class_list(names), items, options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        path, _ = self.items[index].labels
        rgb = read_rgb_png(path, size_wh).astype(np.int64)
        labels = rgb[..., 0] // 10 * 256 + rgb[..., 1]
        table = self.classes.table("id", max(256, int(labels.max(initial=0)) + 1))
        table[0] = -1
        channels = table[labels]
        unknown = np.unique(labels[channels == -2])
        if unknown.size:
            few = ", ".join(map(str, unknown[:5].tolist()))
            self.tell("unknown category", path, f"it holds {few}, which no JSON names")
        instances = np.where(rgb[..., 2] == 0, CROWD, rgb[..., 2])
        return segments_of_maps(np.maximum(channels, -1), instances, self.taxonomy)


def _classes_of(path: Path) -> dict[int, str]:
    """The names of the classes of a photo's objects, by number."""
    try:
        if plain_file(path).stat().st_size > MAX_JSON_BYTES:
            raise LabelError(path, f"expected at most {MAX_JSON_BYTES} bytes")
        text = path.read_bytes().decode("utf-8", "replace")  # some names are Latin-1
        objects = parse_json(text.encode())["annotation"]["object"]
        found = {o["name_ndx"]: o["name"] for o in objects}
    except FileNotFoundError:
        raise LabelError(path, "no such file", "missing labels") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabelError(path, f"expected annotation.object with name_ndx: {error!r}") from None
    return {n: str(name)[:200] for n, name in found.items() if type(n) is int and 0 < n < 2**16}


def _class_list(names: dict[int, str]) -> ClassList:
    scene = {
        str(n).strip(): c.category
        for c in ClassList.named("ade20k_150").classes
        for n in (c.category.name,)
    }
    used: set[str] = set()
    categories = []
    for number, name in sorted(names.items()):
        first = name.split(",")[0].strip()
        known = scene.get(first)
        unique = name if name not in used else f"{name} ({number})"
        used.add(unique)
        entry = {"id": number, "name": unique, "isthing": int(known.is_thing if known else True)}
        categories.append(entry | ({"color": list(known.color)} if known else {}))
    if not categories:
        categories = [{"id": 1, "name": "object", "isthing": 1}]
    return ClassList.from_json({"name": "ade20k_full", "categories": categories})


class Ade20kWriter(Writer):
    """Writes SceneParse150: classes, and instances."""

    kind, class_list = "ade20k", "ade20k_150"

    def write(self, sample: Sample) -> dict[str, Any]:
        name = sample.flat_name
        write_photo(sample.photo, self.out / "images" / self.split / f"{name}.jpg")
        labels, instances = class_and_instance(sample.truth, self.classes, per_class=False, first=1)
        check_instances(instances, 255, "ADE20K")
        kinds, _ = class_and_instance(sample.truth, self.classes, key="instance_id")
        write_grey(self.out / "annotations" / self.split / f"{name}.png", np.maximum(labels, 0))
        inside = instances > 0
        rgb = np.stack([kinds, instances, np.zeros_like(kinds)], -1)
        rgb = np.where(inside[..., None], rgb, 0).astype(np.uint8)
        write_rgb(self.out / "annotations_instance" / self.split / f"{name}.png", rgb)
        return {"name": name}


class Ade20kFullWriter(Writer):
    """Writes the original folders: a PNG of classes and instances, and a JSON of the objects."""

    kind = "ade20k-full"

    def write(self, sample: Sample) -> dict[str, Any]:
        name = sample.flat_name
        folder = self.out / "images" / "ADE" / self.split / "all"
        write_photo(sample.photo, folder / f"{name}.jpg")
        labels, instances = class_and_instance(
            sample.truth, self.classes, key="id", per_class=False, first=1
        )
        check_instances(instances, 255, "ADE20K")
        labels = np.maximum(labels, 0)
        blue = np.maximum(instances, 0)
        rgb = np.stack([labels // 256 * 10, labels % 256, blue], -1)
        write_rgb(folder / f"{name}{_SEG}", rgb.astype(np.uint8))
        objects = [
            {
                "id": i,
                "name": self.taxonomy.categories[s.channel].name,
                "name_ndx": int(self.taxonomy.ids[s.channel]),
                "raw_name": self.taxonomy.categories[s.channel].name,
                "parts": {"part_level": 0, "ispartof": [], "hasparts": []},
                "crop": "0",
            }
            for i, s in enumerate(s for s in sample.truth.segments if not s.ignore)
        ]
        data = {"annotation": {"filename": f"{name}.jpg", "object": objects}}
        write_json(folder / f"{name}.json", data, indent=None)
        return {"name": name}
