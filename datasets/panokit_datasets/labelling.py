"""Pseudo-labels from any bundles: an ensemble of networks, mirror images and sizes.

Each view of a photo gives objects and a probability of each class at each pixel. Objects that the
views agree on are joined, their scores added over the number of views; stuff is where the views'
mean probability is high. What nobody is sure of stays unsaid. :mod:`panokit_datasets.pseudo` tells
how the result is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit._files import write_bytes, write_picture
from panokit.decoding import Heads
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import TransformRecord
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_datasets.pseudo import MAX_SEGMENTS
from panokit_datasets.records import PERSON_LEVELS

__all__ = ["Ensemble", "LabelSettings", "Labelled", "labelled_already", "write_labels"]

MAX_SIDE = 1024
"""Longest side, in pixels, that labels are computed at; larger photos get theirs enlarged."""


@dataclass(frozen=True)
class LabelSettings:
    """What views of a photo are taken, and when something is said.

    ``scales`` (0.25..1): the photo fills this share of the network's input; people who fill a
    photo are seen better small. ``least_score``: of an object, over all views. ``join``: mask IoU
    from which two views see the same object. ``least_pixels``, ``least_visible``: pixels of an
    object that no better one covers, and their share. ``stuff_probability``, ``stuff_mean``: least
    mean probability at a pixel, and on average over a stuff segment; ``least_stuff``: its share of
    the photo.
    """

    mirror: bool = True
    scales: tuple[float, ...] = (1.0,)
    least_score: float = 0.15
    join: float = 0.5
    least_pixels: int = 20
    least_visible: float = 0.5
    stuff_probability: float = 0.35
    stuff_mean: float = 0.5
    least_stuff: float = 0.015

    def __post_init__(self) -> None:
        if not self.scales or not all(0.25 <= s <= 1 for s in self.scales):
            raise ArgumentError(
                "scales", f"scales are {self.scales!r}; expected numbers from 0.25 to 1"
            )
        for name in ("least_score", "join", "least_visible", "stuff_probability", "stuff_mean"):
            if not 0 < getattr(self, name) <= 1:
                raise ArgumentError(
                    name, f"{name} is {getattr(self, name)!r}; expected a number above 0, up to 1"
                )


@dataclass(frozen=True)
class Labelled:
    """Labels of one photo: ``index`` uint8 ``[H,W]``, 0 = nothing is said, i = ``segments[i - 1]``
    as (channel, score); ``person`` float32 ``[H,W]`` 0..1, None for a taxonomy without persons."""

    index: NDArray[np.uint8]
    segments: tuple[tuple[int, float], ...]
    person: NDArray[np.float32] | None


@dataclass
class _Object:
    """What one view, or several together, take for one object."""

    channel: int
    score: float
    mask: NDArray[np.bool_]
    view: int


@dataclass
class _Group:
    members: list[_Object] = field(default_factory=list)

    def joined(self, views: int) -> tuple[int, float, NDArray[np.bool_]]:
        """Channel with the largest sum of scores, that sum over the views, and the pixels that at
        least half of the members (by score) hold."""
        votes: dict[int, float] = {}
        for m in self.members:
            votes[m.channel] = votes.get(m.channel, 0.0) + m.score
        channel = max(votes, key=lambda c: (votes[c], -c))
        total = sum(m.score for m in self.members)
        mask = sum(m.score * m.mask.astype(np.float32) for m in self.members)
        return channel, votes[channel] / views, np.asarray(mask > 0.5 * total)


class Ensemble:
    """Labels photos with every teacher, size and mirror image.

    ``taxonomy`` is that of the labels; a teacher's classes are matched by name, and those that
    it lacks are not used. A teacher that shares no class with it is refused.
    """

    def __init__(
        self, teachers: Sequence[Segmenter], taxonomy: Taxonomy, settings: LabelSettings
    ) -> None:
        if not teachers:
            raise ArgumentError("teachers", "there are no teachers; expected at least one bundle")
        self.teachers, self.taxonomy, self.settings = list(teachers), taxonomy, settings
        names = {c.name: i for i, c in enumerate(taxonomy)}
        self.channels = [
            np.array([names.get(c.name, -1) for c in t.taxonomy], np.int64) for t in teachers
        ]
        for teacher, channels in zip(self.teachers, self.channels, strict=True):
            if (channels < 0).all():
                expected = f"a teacher of classes in taxonomy {taxonomy.name!r}"
                raise ArgumentError(
                    "teacher",
                    f"the teacher has the taxonomy {teacher.taxonomy.name!r}; expected {expected}",
                )

    @property
    def views(self) -> int:
        """How many times each photo is looked at."""
        return len(self.teachers) * len(self.settings.scales) * (1 + self.settings.mirror)

    def __call__(self, photo: Photo) -> Labelled:
        """Labels of a photo, at its size."""
        rgb = _shrunk(photo.rgb_hwc)
        shape = (*rgb.shape[:2], len(self.taxonomy))
        probability, objects = np.zeros(shape, np.float32), []
        for view, (part, found) in enumerate(self._look(rgb)):
            probability += part
            objects += [replace(o, view=view) for o in found]
        probability /= np.float32(self.views)
        labelled = self._merge(probability, objects)
        return _enlarged(labelled, photo.size_wh)

    def _look(self, rgb: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.float32], list[_Object]]]:
        """Probabilities and objects of each view, on the photo."""
        for teacher, channels in zip(self.teachers, self.channels, strict=True):
            for scale in self.settings.scales:
                for mirror in (False, True)[: 1 + self.settings.mirror]:
                    seen = rgb[:, ::-1] if mirror else rgb
                    canvas, inside = _on_canvas(seen, scale)
                    probability, objects = self._view(teacher, channels, canvas)
                    probability = probability[inside]
                    for o in objects:
                        o.mask = o.mask[inside][:, ::-1] if mirror else o.mask[inside]
                    yield probability[:, ::-1] if mirror else probability, objects

    def _view(
        self, teacher: Segmenter, channels: NDArray[np.int64], rgb: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], list[_Object]]:
        config = replace(
            teacher.bundle.manifest.center_offset,
            min_thing_score=min(0.1, self.settings.least_score),
            min_stuff_area=0,
        )
        stages = teacher.stages(np.ascontiguousarray(rgb), config=config)
        own = _on_photo(stages.heads, stages.transform)
        probability = np.zeros((*rgb.shape[:2], len(self.taxonomy)), np.float32)
        for mine, theirs in enumerate(channels):
            if theirs >= 0:
                probability[..., theirs] += own[..., mine]
        result = PanopticResult.from_map(
            stages.photo, stages.panoptic, teacher.taxonomy, stages.transform
        )
        objects = []
        for s in result.segments:
            channel = int(channels[teacher.taxonomy.channel(s.category.id)])
            if s.is_thing and channel >= 0 and self.taxonomy.thing_mask[channel]:
                objects.append(_Object(channel, s.score, result.id_map == s.id, 0))
        return probability, objects

    def _merge(self, probability: NDArray[np.float32], objects: list[_Object]) -> Labelled:
        """Objects first, the best on top; then stuff where the views are sure enough."""
        settings = self.settings
        index = np.zeros(probability.shape[:2], np.uint8)
        kept: list[tuple[int, float]] = []
        joined = [g.joined(self.views) for g in self._groups(objects)]
        for channel, score, mask in sorted(joined, key=lambda j: -j[1]):
            free = mask & (index == 0)
            visible = int(np.count_nonzero(free))
            enough = max(settings.least_pixels, settings.least_visible * np.count_nonzero(mask))
            if score >= settings.least_score and visible >= enough and len(kept) < MAX_SEGMENTS:
                kept.append((channel, min(1.0, score)))
                index[free] = len(kept)
        best = probability.argmax(-1)
        sure = np.take_along_axis(probability, best[..., None], -1)[..., 0]
        for stuff in np.flatnonzero(~self.taxonomy.thing_mask):
            here = (index == 0) & (best == stuff) & (sure > settings.stuff_probability)
            if np.count_nonzero(here) < settings.least_stuff * index.size or not here.any():
                continue
            score = float(sure[here].mean())
            if score >= settings.stuff_mean and len(kept) < MAX_SEGMENTS:
                kept.append((int(stuff), score))
                index[here] = len(kept)
        person = next((i for i, c in enumerate(self.taxonomy) if c.name == "person"), None)
        return Labelled(index, tuple(kept), None if person is None else probability[..., person])

    def _groups(self, objects: list[_Object]) -> list[_Group]:
        """Objects that views agree on. From the best score down, each joins the group whose first
        member it overlaps most, at most one of each view; or it founds one. A member of another
        class counts as overlapping less."""
        groups: list[_Group] = []
        for o in sorted(objects, key=lambda o: -o.score):
            best, at = self.settings.join, None
            for group in groups:
                if any(m.view == o.view for m in group.members):
                    continue
                first = group.members[0]
                overlap = _iou(first.mask, o.mask) - 0.15 * (first.channel != o.channel)
                if overlap > best:
                    best, at = overlap, group
            if at is None:
                at = _Group()
                groups.append(at)
            at.members.append(o)
        return groups


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    shared, either = int(np.count_nonzero(a & b)), int(np.count_nonzero(a | b))
    return shared / max(1, either)


def _shrunk(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    h, w = rgb.shape[:2]
    if max(h, w) <= MAX_SIDE:
        return rgb
    scale = MAX_SIDE / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    resized = Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _enlarged(labelled: Labelled, size_wh: tuple[int, int]) -> Labelled:
    if labelled.index.shape == size_wh[::-1]:
        return labelled
    index = Image.fromarray(labelled.index).resize(size_wh, Image.Resampling.NEAREST)
    person = labelled.person
    if person is not None:
        person = np.asarray(Image.fromarray(person).resize(size_wh, Image.Resampling.BILINEAR))
    return Labelled(np.asarray(index), labelled.segments, person)


def _on_canvas(
    rgb: NDArray[np.uint8], scale: float
) -> tuple[NDArray[np.uint8], tuple[slice, slice]]:
    """The photo in the middle of a black canvas of which it fills ``scale`` of each side, and where
    it lies there."""
    if scale >= 1:
        return rgb, (slice(None), slice(None))
    h, w = rgb.shape[:2]
    big = round(h / scale), round(w / scale)
    canvas = np.zeros((*big, 3), np.uint8)
    top, left = (big[0] - h) // 2, (big[1] - w) // 2
    inside = slice(top, top + h), slice(left, left + w)
    canvas[inside] = rgb
    return canvas, inside


def _on_photo(heads: Heads, transform: TransformRecord) -> NDArray[np.float32]:
    """Probability of each class at each photo pixel, float32 ``[H,W,C]``; bilinear."""
    logits = heads.semantic
    e = np.exp(logits - logits.max(-1, keepdims=True))
    p: NDArray[np.float32] = e / e.sum(-1, keepdims=True)
    (w0, h0), (w, h), (w_in, h_in) = transform.photo_wh, transform.content_wh, transform.input_wh
    gh, gw = p.shape[:2]
    x = ((np.arange(w0) + 0.5) * w / w0 + transform.left) * gw / w_in - 0.5
    y = ((np.arange(h0) + 0.5) * h / h0 + transform.top) * gh / h_in - 0.5
    return _between(_between(p, y, 0), x, 1)


def _between(
    values: NDArray[np.float32], at: NDArray[np.float64], axis: int
) -> NDArray[np.float32]:
    """``values`` at positions along an axis: linear between neighbours, the edge beyond."""
    at = np.clip(at, 0, values.shape[axis] - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    f = (at - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    first = values.take(low, axis=axis)
    out: NDArray[np.float32] = first + (values.take(high, axis=axis) - first) * f
    return out


# ------------------------------------------------------------------------------------- files


def write_labels(
    labelled: Labelled,
    taxonomy: Taxonomy,
    out: Path,
    source: str,
    name: str,
    person_map: bool = True,
) -> None:
    """Write the labels of photo ``source/name`` (a path with "/" between folders): maps first, the
    JSON line last, so that a photo whose line is there is done."""
    map_name = PurePosixPath(name).with_suffix(".png")
    _save_map(labelled.index, out / "pseudo" / source / map_name, 8)
    if person_map and labelled.person is not None:
        levels = (np.clip(labelled.person, 0, 1) * PERSON_LEVELS + 0.5).astype(np.uint8)
        _save_map(levels, out / "person" / source / map_name, 4)
    h, w = labelled.index.shape
    line = {
        "file": f"{source}/{name}",
        "size": [w, h],
        "segments": [
            {"i": i, "c": int(taxonomy.ids[channel]), "s": round(max(score, 0.001), 3)}
            for i, (channel, score) in enumerate(labelled.segments, 1)
        ],
    }
    with (out / "pseudo" / f"{source}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")


def _save_map(values: NDArray[np.uint8], path: Path, bits: int) -> None:
    image = Image.fromarray(values)
    step = 17 if bits == 4 else 67
    image.putpalette([(i * step) % 256 for i in range(2**bits) for _ in range(3)])
    write_picture(path, image, "PNG", optimize=True, bits=bits)


def labelled_already(out: Path, source: str) -> set[str]:
    """Names of the photos of a source that are labelled in ``out``; a last line that was torn off
    is removed."""
    path = out / "pseudo" / f"{source}.jsonl"
    if not path.is_file():
        return set()
    text = path.read_bytes()
    if not text.endswith(b"\n"):
        text = text[: text.rfind(b"\n") + 1]
        write_bytes(path, text)
    return {json.loads(line)["file"].partition("/")[2] for line in text.splitlines()}
