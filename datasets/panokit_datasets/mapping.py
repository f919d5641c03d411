"""Classes of one data set as those of another.

A mapping says for each class of a source what becomes of it: a thing stays a thing, turns into a
crowd where its instances are not known, joins stuff, is ignored, or is void. Mappings into the
camera classes come with Panokit for each of its class lists; between any two lists they are found
by the names (:data:`mappings/same_things.json`); a user's own is a JSON file::

    {"schema": "panokit-mapping-1", "thing": {"person": ["pedestrian", "rider"]},
     "stuff": {"road": ["road", "parking"]}, "void": ["static"]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panokit._reading import parse_json, read_json
from panokit.errors import ArgumentError, DataError
from panokit.taxonomy import Taxonomy
from panokit_datasets.classes import ClassList
from panokit_datasets.reader import Truth
from panokit_datasets.truth import TruthSegment

__all__ = ["ClassMapping", "Rule"]

KINDS = ("thing", "crowd", "stuff", "ignore")
NOTHING = ("void", "unpainted", "ignore_nearest")


class Rule(NamedTuple):
    """What becomes of a source class: the target's channel (-1: none), and as what."""

    channel: int
    how: str


VOID_RULE = Rule(-1, "void")

_JOINED = 2**23  # ids of joined segments, where things keep theirs


@dataclass(frozen=True)
class ClassMapping:
    """What becomes of each class of ``source`` (by name, the names of its void too) in
    ``target``; names that are missing become void."""

    source: ClassList
    target: Taxonomy
    rules: Mapping[str, Rule]

    @property
    def unmapped(self) -> list[str]:
        """Source classes of which nothing is left."""
        names = [c.category.name for c in self.source.classes]
        return [n for n in names if self.rules.get(n, VOID_RULE).channel < 0]

    def apply(self, truth: Truth, *, stable: bool = False) -> Truth:
        """The labels in the target's classes. Stuff of one class becomes one segment; crowds of
        one class become one; segments are numbered 1, 2, 3. ``stable``: things keep their ids, and
        what is joined has the same id in every frame."""
        keys: dict[tuple[int, str, int], int] = {}
        made: list[TruthSegment] = []
        new = np.zeros(max((s.id for s in truth.segments), default=0) + 1, np.int32)
        for s in truth.segments:
            rule = self.rules.get(self.source.classes[s.channel].category.name, VOID_RULE)
            if rule.channel < 0:
                continue
            how = self._how(rule, s)
            alone = s.id if how == "thing" else 0
            key = rule.channel, how, alone
            if key not in keys:
                number = len(made) + 1
                if stable:
                    number = alone or _JOINED + 4 * rule.channel + KINDS.index(how)
                keys[key] = number
                made.append(self._segment(number, rule.channel, how))
            new[s.id] = keys[key]
        ids = new[truth.ids]
        if truth.void is not None and not stable:
            self._paint_void(ids, truth.void, keys, made)
        return Truth(ids, tuple(made), None, truth.covered)

    def _how(self, rule: Rule, segment: TruthSegment) -> str:
        if segment.ignore:
            return "ignore"
        is_thing = self.target.categories[rule.channel].is_thing
        if rule.how == "thing" and (segment.is_crowd or not segment.is_thing):
            return "crowd"
        return rule.how if is_thing or rule.how == "ignore" else "stuff"

    def _segment(self, number: int, channel: int, how: str) -> TruthSegment:
        thing = self.target.categories[channel].is_thing
        crowd, ignore = how in ("crowd", "ignore"), how == "ignore"
        return TruthSegment(number, channel, thing, crowd, ignore)

    def _paint_void(
        self,
        ids: NDArray[np.int32],
        void: NDArray[np.uint8],
        keys: dict[tuple[int, str, int], int],
        made: list[TruthSegment],
    ) -> None:
        """What is void in the source and something here: a car's bonnet, the border of objects."""
        for place, entry in enumerate(self.source.void[:255], 1):
            rule = self.rules.get(entry.name)
            if rule is None or rule.how in ("void", "unpainted"):
                continue
            here = void == place
            if not here.any():
                continue
            if rule.how == "ignore_nearest":
                self._ignore_nearest(ids, here, keys, made)
                continue
            how = "ignore" if rule.how == "ignore" else self._void_how(rule)
            ids[here] = self._joined(rule.channel, how, keys, made)

    def _void_how(self, rule: Rule) -> str:
        return "crowd" if self.target.categories[rule.channel].is_thing else "stuff"

    def _joined(
        self,
        channel: int,
        how: str,
        keys: dict[tuple[int, str, int], int],
        made: list[TruthSegment],
    ) -> int:
        key = channel, how, 0
        if key not in keys:
            keys[key] = len(made) + 1
            made.append(self._segment(len(made) + 1, channel, how))
        return keys[key]

    def _ignore_nearest(
        self,
        ids: NDArray[np.int32],
        here: NDArray[np.bool_],
        keys: dict[tuple[int, str, int], int],
        made: list[TruthSegment],
    ) -> None:
        """Pixels ``here`` become an ignored segment of the class that is nearest."""
        channels = np.full(len(made) + 1, -1, np.int32)
        for s in made:
            channels[s.id] = s.channel
        near = _spread(np.where(here, -2, channels[ids]))
        for channel in np.unique(near[here]).tolist():
            if channel >= 0:
                ids[here & (near == channel)] = self._joined(channel, "ignore", keys, made)

    @classmethod
    def between(cls, source: ClassList, target: ClassList) -> ClassMapping:
        """The mapping into another class list: the one that comes with Panokit where the target
        are the camera classes, or else by the names."""
        if target.name == "camera" and source.name in _camera_sets():
            return cls.from_json(_camera_sets()[source.name], source, target.taxonomy)
        rules = {}
        names = _target_names(target.taxonomy)
        for c in source.classes:
            channel = _find(c.category.name, names)
            if channel is None:
                continue
            single = c.category.is_thing and "crowd_of" not in c.numbers
            is_thing = target.taxonomy.categories[channel].is_thing
            how = ("thing" if single else "crowd") if is_thing else "stuff"
            rules[c.category.name] = Rule(channel, how)
        return cls(source, target.taxonomy, rules)

    @classmethod
    def load(cls, path: str | Path, source: ClassList, target: Taxonomy) -> ClassMapping:
        """Read a mapping file (JSON); ``DataError`` says what is wrong with it."""
        try:
            data = read_json(path, strict=True)
            return cls.from_json(data, source, target)
        except (OSError, ValueError) as error:
            raise DataError(path, f"expected a mapping of classes, but {error}") from None

    @classmethod
    def from_json(cls, data: Any, source: ClassList, target: Taxonomy) -> ClassMapping:
        """Read a mapping. Every name must be one of the source's, and stand once."""
        if not isinstance(data, Mapping):
            raise ArgumentError("mapping", f"mapping is {data!r:.60}; expected an object")
        known = {c.category.name for c in source.classes} | {v.name for v in source.void}
        rules: dict[str, Rule] = {}

        def add(name: Any, rule: Rule) -> None:
            if name in rules:
                raise ArgumentError("mapping", f"the class {name!r:.60} stands twice")
            if name not in known:
                raise ArgumentError.unknown("source class", name, sorted(known))
            rules[name] = rule

        for how in KINDS:
            for wanted, names in _object(data.get(how, {}), how).items():
                channel = target.channel(target.get(wanted).id)
                for name in _names(names, f"{how}.{wanted}"):
                    add(name, Rule(channel, how))
        for how in NOTHING:
            for name in _names(data.get(how, []), how):
                add(name, Rule(-1, how))
        return cls(source, target, rules)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back; unmapped classes are void in it."""
        out: dict[str, Any] = {"schema": "panokit-mapping-1", "target": self.target.name}
        for how in KINDS:
            found: dict[str, list[str]] = {}
            for name, rule in self.rules.items():
                if rule.how == how:
                    found.setdefault(self.target.categories[rule.channel].name, []).append(name)
            out[how] = found
        for how in NOTHING:
            out[how] = [n for n, r in self.rules.items() if r.how == how]
        out["void"] += [n for n in self.unmapped if n not in self.rules]
        return out


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentError("mapping", f"{where} is {value!r:.60}; expected an object")
    return value


def _names(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ArgumentError("mapping", f"{where} is {value!r:.60}; expected a list of names")
    return value


def _spread(labels: NDArray[np.int32], open_label: int = -2) -> NDArray[np.int32]:
    """Labels in which open pixels have the label of a pixel that is near, step by step."""
    out = labels.copy()
    while True:
        todo = out == open_label
        if not todo.any() or todo.all():
            return out
        padded = np.pad(out, 1, constant_values=open_label)
        before = int(todo.sum())
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (0, 2), (2, 0), (2, 2)):
            near = padded[dy : dy + out.shape[0], dx : dx + out.shape[1]]
            take = (out == open_label) & (near >= 0)
            out[take] = near[take]
        if int((out == open_label).sum()) == before:  # only void lies near
            out[out == open_label] = -1


# ------------------------------------------------------------------------------------- by the names


def _data(name: str) -> Any:
    return parse_json((resources.files("panokit_datasets") / "mappings" / name).read_bytes())


@cache
def _camera_sets() -> Mapping[str, Any]:
    sets: Mapping[str, Any] = _data("to_camera.json")["sets"]
    return sets


@cache
def _same() -> tuple[dict[str, str], dict[str, list[str]]]:
    data = _data("same_things.json")
    first = {_plain(n): _plain(group[0]) for group in data["same"] for n in group}
    broader = {_plain(n): [_plain(b) for b in more] for n, more in data["kind_of"].items()}
    return first, broader


def _plain(name: str) -> str:
    """A name without case and without what COCO adds to names of joined classes."""
    plain = name.lower().replace("_", " ").split(",")[0].strip()
    for ending in ("-merged", "-stuff", "-other"):
        plain = plain.removesuffix(ending)
    return plain


def _target_names(target: Taxonomy) -> dict[str, int]:
    first, _ = _same()
    found: dict[str, int] = {}
    for channel, c in enumerate(target):
        found.setdefault(_plain(c.name), channel)
    for channel, c in enumerate(target):  # a whole name comes before what is left of another
        found[c.name] = channel
    for channel, c in enumerate(target):
        found.setdefault(first.get(_plain(c.name), _plain(c.name)), channel)
    return found


def _find(name: str, names: Mapping[str, int]) -> int | None:
    """The channel of the class with that name, of one that means the same, or of the nearest
    broader one."""
    first, broader = _same()
    plain = _plain(name)
    for candidate in (name, plain, first.get(plain, plain)):
        if candidate in names:
            return names[candidate]
    for wider in [*broader.get(plain, []), *broader.get(first.get(plain, plain), [])]:
        for candidate in (wider, first.get(wider, wider)):
            if candidate in names:
                return names[candidate]
    return None
