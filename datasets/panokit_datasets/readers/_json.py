"""What the readers of COCO's JSON formats share: images, categories, and complaints about both."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from panokit._files import replacing
from panokit.errors import ArgumentError
from panokit.photo import MAX_PIXELS
from panokit_datasets.classes import ClassList
from panokit_datasets.json_stream import JsonIndex, as_id
from panokit_datasets.paths import inside
from panokit_datasets.problems import Complain, LabelError, Problem
from panokit_datasets.reader import Options, Reader

__all__ = ["JsonReader", "classes_of", "finite", "write_listing"]

MAX_ID = 2**24 - 1


class JsonReader(Reader):
    """A reader over the images of a JSON file."""

    def __init__(
        self,
        root: Path,
        split: str,
        classes: ClassList,
        index: JsonIndex,
        photo_folders: Iterable[Path],
        options: Options,
        complain: Complain,
    ) -> None:
        super().__init__(root, split, classes, options, complain)
        self.index = index
        self.photo_folders = tuple(photo_folders)
        self.keys = self.listed_keys()
        self._kept_rows: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._kept_path: tuple[int, Path] | None = None
        self.channel_of = classes.channels()
        self.kept = {c.source_id for c in self.classes.classes}
        self.final_channel = self.classes.channels()

    def listed_keys(self) -> list[Hashable]:
        """The ids of the photos that can be read."""
        return [k for k in self.index.ids("images") if self.index.has("annotations", k)]

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, index: int) -> dict[str, Any]:
        """The photo's entry in ``images``; of several of one id the last, as most tools do."""
        return self.rows("images", index)[-1]

    def rows(self, name: str, index: int) -> list[dict[str, Any]]:
        """The entries of a photo in one of the file's lists; the last photo's are kept."""
        kept = self._kept_rows.get(name)
        if kept is None or kept[0] != index:
            kept = index, self.index.rows(name, self.keys[index])
            self._kept_rows[name] = kept
        return kept[1]

    def name(self, index: int) -> str:
        name = self.image(index).get("file_name")
        return name.replace("\\", "/") if isinstance(name, str) else str(self.keys[index])

    def photo_path(self, index: int) -> Path:
        if self._kept_path is None or self._kept_path[0] != index:
            path = self.place_of(self.photo_folders, self.image(index).get("file_name"))
            self._kept_path = index, path
        return self._kept_path[1]

    def place_of(self, parents: Iterable[Path], name: Any) -> Path:
        """Where a file lies: in the first folder that has it, or else in the first."""
        paths = [p for folder in parents if (p := inside(folder, name)) is not None]
        if not paths:
            where = ", ".join(str(f) for f in parents)
            reason = f"names {name!r:.200}; expected a path inside {where}"
            raise LabelError(self.index.path, reason, "unsafe path")
        return next((p for p in paths if p.is_file()), paths[0])

    def stated_size(self, index: int) -> tuple[int, int] | None:
        """Width and height in the JSON; None where it does not say."""
        image = self.image(index)
        size = image.get("width"), image.get("height")
        if size == (None, None):
            return None
        good = all(isinstance(v, int | float) and not isinstance(v, bool) for v in size)
        w, h = (int(v) if good and math.isfinite(v) else 0 for v in size)  # type: ignore[arg-type]
        if not (0 < w < 2**24 and 0 < h < 2**24 and w * h <= MAX_PIXELS):
            reason = f"image {self.keys[index]!r}: size {size!r:.60}; expected 1 pixel or more"
            raise LabelError(self.index.path, reason, "bad number")
        return w, h

    def origin(self, index: int) -> str:
        extra = self.image(index).get("extra")  # Roboflow's
        name = extra.get("name") if isinstance(extra, dict) else None
        return name if isinstance(name, str) else ""

    def write_subset(self, indices: Iterable[int], path: Path) -> None:
        """Write a JSON of some of the photos, with all that it says of each."""
        records = (
            {
                "image": self.image(i),
                "annotations": self.rows("annotations", i),
            }
            for i in indices
        )
        write_listing(path, records, self.index.values)

    def check_set(self) -> None:
        super().check_set()
        path = str(self.index.path)
        for name, place, value in self.index.odd[:1000]:
            if isinstance(value, dict):
                reason = f"{name}[{place}] has no id that can be used: {value!r:.80}"
                self.complain(Problem("bad id", path, reason))
            else:
                reason = f"{name}[{place}] is {value!r:.80}; expected an object"
                self.complain(Problem("bad id", path, reason))
        if self.index.texts:
            reason = f"{self.index.texts} ids are text or have a decimal point"
            self.complain(Problem("id as text", path, reason))
        for key in self.index.ids("images"):
            if not self.index.has("annotations", key):
                self.complain(Problem("no annotation", path, f"image {key!r} has no annotation"))
        for key in self.index.ids("annotations"):
            if not self.index.has("images", key):
                reason = f"annotations are of image {key!r}, which is not listed"
                self.complain(Problem("unlisted image", path, reason))
        if self.index.count("images") != len(self.index.ids("images")):
            for key in self.index.ids("images"):
                n = len(self.index.rows("images", key))
                if n > 1:
                    reason = f"image id {key!r} stands {n} times"
                    self.complain(Problem("duplicate id", path, reason))

    def category(self, value: Any, where: str) -> int | None:
        """The channel of a category id, -1 where the class is not kept, None where there is none
        such."""
        number = as_id(value)
        if not isinstance(number, int) or number not in self.channel_of:
            reason = f"{where}: category {value!r:.40}, which is not listed"
            self.tell("unknown category", self.index.path, reason)
            return None
        return self.final_channel[number] if number in self.kept else -1


def write_listing(
    path: Path, records: Iterable[Mapping[str, Any]], more: Mapping[str, Any]
) -> None:
    """Write ``images``, ``annotations`` and what is ``more`` as JSON. Records are taken one by one:
    each has an ``image``, and an ``annotation`` or several ``annotations``, which are numbered."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as second:
            file.write('{"images": [')
            count = 0
            for place, record in enumerate(records):
                file.write((",\n" if place else "\n") + json.dumps(record["image"]))
                listed = record.get("annotations")
                for entry in [record["annotation"]] if listed is None else listed:
                    number = {} if listed is None else {"id": count + 1}
                    second.write((",\n" if count else "\n") + json.dumps({**number, **entry}))
                    count += 1
            second.seek(0)
            file.write('\n], "annotations": [')
            shutil.copyfileobj(second, file)
        file.write("\n]")
        for name, value in more.items():
            file.write(f", {json.dumps(name)}: {json.dumps(value)}")
        file.write("}\n")


def classes_of(
    index: JsonIndex, complain: Complain, *, things: bool | None = None, used: bool = True
) -> ClassList:
    """The class list of ``categories``. ``things`` is taken where a category does not say
    ``isthing``; without it that is a problem. An unused root category with id 0 and supercategory
    ``none``, which Roboflow adds, is left out unless it is ``used``."""
    path = str(index.path)
    given = index.values.get("categories")
    if not isinstance(given, list) or not given:
        raise LabelError(path, "expected 'categories', a list of objects")
    entries: list[dict[str, Any]] = []
    seen: set[int] = set()
    names: dict[str, int] = {}
    for place, c in enumerate(given):
        number = as_id(c.get("id")) if isinstance(c, dict) else None
        if not isinstance(number, int) or not 0 <= number <= MAX_ID:
            complain(Problem("bad id", path, f"categories[{place}] is {c!r:.80}; expected an id"))
            continue
        if number in seen:
            complain(Problem("duplicate id", path, f"category {number} stands twice"))
            continue
        if number == 0 and c.get("supercategory") == "none" and not used and len(given) > 1:
            reason = f"category 0 ({c.get('name')!r:.60}) has no annotations"
            complain(Problem("empty category", path, reason))
            continue
        if "isthing" not in c and things is None:
            reason = f"category {number} ({c.get('name')!r:.60}) does not say isthing"
            complain(Problem("no isthing", path, reason))
        seen.add(number)
        entries.append(_category(c, number, names, True if things is None else things))
    if not entries:
        raise LabelError(path, "expected 'categories' with ids, got none")
    shift = 1 if 0 in seen else 0
    for entry in entries:
        entry["id"] = entry["source_id"] + shift
    try:
        found = ClassList.from_json({"name": index.path.stem[:200], "categories": entries})
    except ArgumentError as error:
        raise LabelError(path, str(error), "unknown category") from None
    return found.recognized()


def _category(
    c: dict[str, Any], number: int, names: dict[str, int], things: bool
) -> dict[str, Any]:
    """A category as a class list has it; names that stand twice get their number."""
    name = str(c.get("name") or number)[:180]
    names[name] = names.get(name, 0) + 1
    name = name if names[name] == 1 else f"{name} ({number})"
    entry = {"source_id": number, "name": name, "isthing": int(bool(c.get("isthing", things)))}
    color = c.get("color")
    if isinstance(color, list) and len(color) == 3 and all(type(v) is int for v in color):
        entry["color"] = [min(255, max(0, v)) for v in color]
    return entry


def finite(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e15 else None
