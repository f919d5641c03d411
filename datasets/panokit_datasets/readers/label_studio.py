"""Label Studio's JSON: a list of tasks, each with results in per cent of the photo, or as a brush.

A brush is run lengths of the mask's RGBA bytes, packed bit by bit: the count in 32 bits, the word
size less one in 5, four run sizes less one in 4 bits each; then, until all words are there, 1 bit
whether a word repeats, 2 bits which run size, the length less one, and one word or each of them.
Facts: label-studio-converter, ``brush.py``, and @thi.ng/rle-pack, which it reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from panokit._files import replacing
from panokit._reading import read_json
from panokit.photo import MAX_PIXELS, photo_header
from panokit_datasets.classes import ClassList
from panokit_datasets.paths import inside
from panokit_datasets.problems import Complain, LabelError
from panokit_datasets.reader import Options, Truth
from panokit_datasets.readers._files import FilesReader, Item
from panokit_datasets.shapes import MaskProblem, polygon_mask
from panokit_datasets.truth import QUARTERS, TruthSegment
from panokit_datasets.writer import Sample, Writer, write_photo

__all__ = ["LabelStudio", "LabelStudioWriter", "pack_brush", "unpack_brush"]

FILES = ("label-studio.json", "tasks.json", "export.json")
_WORD, _SIZES = 8, (3, 4, 8, 16)
_KINDS = {"brushlabels", "polygonlabels"}


class LabelStudio(FilesReader):
    """Tasks of Label Studio with brush strokes and polygons. All labels are things, unless
    ``classes.json`` beside the tasks says otherwise."""

    kind, title, rank = "label-studio", "Label Studio JSON", 24

    def __init__(self, tasks: Mapping[str, dict[str, Any]], *args: Any) -> None:
        super().__init__(*args)
        self.tasks = tasks
        self.channel = {c.category.name: i for i, c in enumerate(self.classes.classes)}

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        return sorted(_files(root))

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> LabelStudio:
        path = _files(root)[split]
        tasks = _tasks(path)
        named = path.parent / "classes.json"
        names = sorted({n for t in tasks for r in _results(t) for n in _labels(r)})
        listed = [{"name": n, "isthing": 1} for n in names] or [{"name": "object"}]
        classes = (
            ClassList.load(named)
            if named.is_file()
            else ClassList.from_json({"name": "label studio", "categories": listed})
        )
        items, by_name = [], {}
        for place, task in enumerate(tasks):
            name = _photo_name(task, path, place)
            by_name[name] = task
            items.append(Item(name, _photo_path(path.parent, name), (path,)))
        return cls(by_name, root, split, classes, items, options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        path, name = self.items[index].labels[0], self.items[index].name
        results = _results(self.tasks[name])
        size = self._size(index, results)
        shapes: list[tuple[int, NDArray[np.bool_]]] = []
        for result in results:
            for label in _labels(result):
                if label not in self.channel:
                    self.tell("unknown category", path, f"{name}: there is no class {label!r:.60}")
                    continue
                try:
                    mask = _mask(result, size[::-1])
                except MaskProblem as problem:
                    self.tell(problem.kind, path, f"{name}: {problem}")
                    continue
                if mask is not None and mask.any():
                    shapes.append((self.channel[label], mask))
                else:
                    self.tell("empty mask", path, f"{name}: no pixel of {label!r:.60}")
        return self._painted(shapes, size, name)

    def _size(self, index: int, results: Sequence[dict[str, Any]]) -> tuple[int, int]:
        header = photo_header(self.photo_path(index))
        stated = [(r.get("original_width"), r.get("original_height")) for r in results]
        known = [(w, h) for w, h in stated if _is_side(w) and _is_side(h)]
        if header is not None:
            stored, orientation = header
            seen = stored[::-1] if orientation in QUARTERS else stored
            if known and known[0] not in (stored, seen):
                reason = f"{self.name(index)}: size {known[0]}, but the photo's is {seen}"
                raise LabelError(self.label_paths(index)[0], reason, "wrong size")
            return known[0] if known else seen
        if not known or known[0][0] * known[0][1] > MAX_PIXELS:
            reason = f"{self.name(index)} has no photo, and no size that can be used"
            raise LabelError(self.label_paths(index)[0], reason, "missing photo")
        return known[0]

    def _painted(
        self, shapes: list[tuple[int, NDArray[np.bool_]]], size: tuple[int, int], name: str
    ) -> Truth:
        ids = np.zeros(size[::-1], np.int32)
        claimed = np.zeros(size[::-1], bool)
        segments: list[TruthSegment] = []
        of_stuff: dict[int, int] = {}
        covered = 0
        things = self.taxonomy.thing_mask
        order = sorted(shapes, key=lambda s: (bool(things[s[0]]), -int(s[1].sum())))
        for channel, mask in order:
            thing = bool(things[channel])
            number = None if thing else of_stuff.get(channel)
            if number is None:
                number = len(segments) + 1
                segments.append(TruthSegment(number, channel, thing))
                if not thing:
                    of_stuff[channel] = number
            if thing:
                covered += int(np.count_nonzero(claimed & mask))
                claimed |= mask
            ids[mask] = number
        if covered:
            reason = f"{name}: {covered} pixels belong to two objects or more"
            self.tell("overlap", self.items[0].labels[0], reason)
        there = np.bincount(ids.ravel(), minlength=len(segments) + 1) > 0
        return Truth(ids, tuple(s for s in segments if there[s.id]), covered=covered)


class LabelStudioWriter(Writer):
    """Writes ``label-studio.json`` (tasks to import, with brush labels), the photos, the classes,
    and ``label-config.xml`` for the project's settings. Crowds and what is ignored are left out."""

    kind = "label-studio"

    def write(self, sample: Sample) -> dict[str, Any]:
        name = f"{sample.flat_name}{sample.photo_suffix}"
        write_photo(sample.photo, self.out / "images" / name)
        width, height = sample.truth.size_wh
        results = []
        for s in sample.truth.segments:
            mask = sample.truth.ids == s.id
            if s.ignore or (s.is_thing and s.is_crowd) or not mask.any():
                continue
            value = {"format": "rle", "rle": pack_brush(mask)}
            value["brushlabels"] = [self.taxonomy.categories[s.channel].name]
            common = {"id": f"{sample.number}-{s.id}", "from_name": "label", "to_name": "image"}
            size = {"original_width": width, "original_height": height, "image_rotation": 0}
            results.append({**common, **size, "type": "brushlabels", "value": value})
        url = f"/data/local-files/?d=images/{name}"
        return {"data": {"image": url}, "annotations": [{"result": results}]}

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        name = FILES[0] if self.split in ("labels", "all") else f"label-studio-{self.split}.json"
        with replacing(self.out / name) as partial, partial.open("w", encoding="utf-8") as file:
            file.write("[")
            for place, record in enumerate(records):
                file.write((",\n" if place else "\n") + json.dumps(record))
            file.write("\n]\n")
        with replacing(self.out / "classes.json") as partial:
            partial.write_text(json.dumps(self.taxonomy.to_json()), encoding="utf-8")
        with replacing(self.out / "label-config.xml") as partial:
            partial.write_text(_config(self.classes), encoding="utf-8")


def _config(classes: ClassList) -> str:
    from xml.sax.saxutils import quoteattr

    labels = "\n".join(
        f"    <Label value={quoteattr(c.category.name)} "
        f'background="#{"".join(f"{v:02x}" for v in c.category.color)}"/>'
        for c in classes.classes
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}\n  </BrushLabels>\n</View>\n'
    )


# ------------------------------------------------------------------------------------------ brushes


def unpack_brush(data: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask ``[H,W]`` of a brush's bytes; :class:`MaskProblem` where they are none."""
    good = isinstance(data, list) and all(type(v) is int and 0 <= v < 256 for v in data)
    if not good or len(data) > 8 * math.prod(size_hw) + 64:
        raise MaskProblem("bad number", "a brush is no list of bytes")
    bits = np.unpackbits(np.array(data, np.uint8))
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise MaskProblem("bad number", "a brush ends too early")
        value = int.from_bytes(np.packbits(bits[at : at + count]).tobytes(), "big")
        at += count
        return value >> (-count % 8)

    total = take(32)
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if total != 4 * math.prod(size_hw) or word != _WORD:
        reason = f"a brush has {total} words of {word} bits; expected {4 * math.prod(size_hw)} of 8"
        raise MaskProblem("wrong size", reason)
    out = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeats = take(1)
        length = take(sizes[take(2)]) + 1
        if done + length > total:
            raise MaskProblem("bad number", "a brush holds too many words")
        if repeats:
            out[done : done + length] = take(word)
        else:
            if at + word * length > len(bits):
                raise MaskProblem("bad number", "a brush ends too early")
            part = np.packbits(bits[at : at + word * length].reshape(-1, word), axis=1)
            out[done : done + length] = part[:, 0]
            at += word * length
        done += length
    return out.reshape(*size_hw, 4)[..., 3] > 127


def pack_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A mask ``[H,W]`` as a brush's bytes: all four channels are 255 inside and 0 outside."""
    flat = np.repeat(mask.ravel(), 4)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], changes))
    lengths = np.diff(np.concatenate((starts, [flat.size])))
    bits = [format(flat.size, "032b"), format(_WORD - 1, "05b")]
    bits += [format(s - 1, "04b") for s in _SIZES]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if flat[start] else "00000000"
        left = length
        while left:
            part = min(left, 2**16)
            which = next(i for i, s in enumerate(_SIZES) if part <= 2**s)
            bits.append("1" + format(which, "02b") + format(part - 1, f"0{_SIZES[which]}b") + value)
            left -= part
    text = "".join(bits)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - 48).tolist()


# ---------------------------------------------------------------------------------------- the tasks


def _files(root: Path) -> dict[str, Path]:
    if root.is_file():
        return {root.stem: root} if root.suffix.lower() == ".json" and _is_tasks(root) else {}
    whole = [p for n in FILES if (p := root / n).is_file() and _is_tasks(p)]
    found = {"all": whole[0]} if whole else {}
    for path in sorted(root.glob("label-studio-*.json")):
        if _is_tasks(path):
            found[path.stem.removeprefix("label-studio-")] = path
    return found


def _is_tasks(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2**16)
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[" and b'"result"' in head


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise LabelError(path, f"expected tasks of Label Studio, but {error}") from None
    if not isinstance(data, list) or not all(isinstance(t, dict) for t in data):
        raise LabelError(path, "expected tasks of Label Studio, a list of objects")
    return data


def _results(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of a task's last annotation, or of its last prediction."""
    for key in ("annotations", "completions", "predictions"):
        entries = task.get(key)
        if isinstance(entries, list) and entries and isinstance(entries[-1], dict):
            results = entries[-1].get("result")
            if isinstance(results, list):
                return [r for r in results if isinstance(r, dict)]
    return []


def _is_side(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 2**24


def _labels(result: Mapping[str, Any]) -> list[str]:
    kind, value = result.get("type"), result.get("value")
    names = value.get(kind) if isinstance(value, dict) and kind in _KINDS else None
    return [n for n in names if isinstance(n, str)] if isinstance(names, list) else []


def _photo_name(task: Mapping[str, Any], path: Path, place: int) -> str:
    data = task.get("data")
    urls = [v for v in data.values() if isinstance(v, str)] if isinstance(data, dict) else []
    if not urls:
        raise LabelError(path, f"task {place} names no photo in 'data'", "missing photo")
    url = urls[0].replace("\\", "/").split("?d=")[-1].split("?")[0]
    return url.rsplit("/", 1)[-1] or f"task_{place}"


def _photo_path(folder: Path, name: str) -> Path:
    """Where a photo lies: uploads get eight characters and a line before their names."""
    places = [folder / "images", folder]
    for place in places:
        path = inside(place, name)
        if path is not None and path.is_file():
            return path
    plain = name.split("-", 1)[-1]
    for place in places:
        path = inside(place, plain)
        if path is not None and path.is_file():
            return path
    return inside(places[0], name) or places[0] / "unknown"


def _mask(result: Mapping[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_] | None:
    value = result["value"]
    if result.get("type") == "brushlabels":
        return unpack_brush(value.get("rle"), size_hw)
    points = value.get("points")
    good = isinstance(points, list) and all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(v, int | float) for v in p)
        for p in points
    )
    if not good or len(points) < 3:
        raise MaskProblem("bad polygon", f"a polygon is {points!r:.60}; expected three points")
    array = np.array(points, np.float64)
    if not (np.abs(array) < 1e4).all():
        raise MaskProblem("bad number", "a polygon's points are no per cent of a photo")
    return polygon_mask(array * (size_hw[1] / 100, size_hw[0] / 100), size_hw)
