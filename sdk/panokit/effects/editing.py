"""Edits as data: a list that is replayed on the photo, so that each can be undone.

``edits.json`` holds ``{"version": 1, "photo": NAME, "edits": [{"do": KIND, "pick": …, …}]}``;
docs/effects.md lists the kinds and their parameters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from panokit._files import write_json
from panokit.effects._checks import flag, in_range, one_of, whole
from panokit.effects.fill import Fill, check_color
from panokit.effects.held import with_held
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.picking import Pick, found_nothing
from panokit.effects.preview import shrink
from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = [
    "EDIT_KINDS",
    "Blur",
    "BlurBackground",
    "Edit",
    "EditList",
    "Highlight",
    "Lift",
    "Pixelate",
    "Recolor",
    "Remove",
    "ReplaceBackground",
    "ReplaceSky",
]

VERSION = 1
MAX_EDITS = 1000
MAX_JSON_BYTES = 1_000_000


@dataclass(frozen=True)
class Edit:
    """One edit: its parameters are its fields; ``do`` names its kind in JSON."""

    do: ClassVar[str] = ""

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        """Do it. ``folder`` is where photos that a fill names may lie."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back; defaults are written too."""
        data: dict[str, Any] = {"do": self.do}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                data[field.name] = value.to_json() if isinstance(value, Pick | Fill) else value
        return data

    @staticmethod
    def from_json(data: Any) -> Edit:
        """The edit of a dict; an unknown kind or parameter is an error that names it."""
        if not isinstance(data, Mapping):
            raise ArgumentError("edit", "an object with 'do'", data)
        kind = EDIT_KINDS.get(str(data.get("do")))
        if kind is None:
            raise ArgumentError("edit's 'do'", f"one of {sorted(EDIT_KINDS)}", data.get("do"))
        known = {f.name for f in fields(kind)}
        strange = sorted(set(data) - known - {"do"})
        if strange:
            raise ArgumentError(f"parameters of {kind.do}", f"some of {sorted(known)}", strange)
        readers = {"pick": Pick.from_json, "fill": Fill.from_json}
        values = {
            k: readers[k](v) if k in readers and v is not None else v
            for k, v in data.items()
            if k != "do"
        }
        needed = [
            f.name for f in fields(kind) if f.default is MISSING and values.get(f.name) is None
        ]
        if needed:
            raise ArgumentError(f"edit {kind.do}", f"given with its {needed[0]}", dict(data))
        return kind(**values)


@dataclass(frozen=True)
class BlurBackground(Edit):
    """Blur behind the picked objects, or behind all persons. See :func:`panokit.portrait_blur`."""

    do: ClassVar[str] = "blur_background"
    pick: Pick | None = None
    strength: float = 0.5
    blades: int = 0
    highlights: float = 1.0
    depth_ramp: bool = False
    quality: str = "fast"

    def __post_init__(self) -> None:
        in_range("strength", self.strength, 0, 1)
        in_range("highlights", self.highlights, 0, 1)
        one_of("blades", self.blades, (0, 5, 6, 7, 8, 9))
        flag("depth_ramp", self.depth_ramp)
        one_of("quality", self.quality, ("fast", "best"))

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.portrait import portrait_blur

        focus = None
        if self.pick is not None:
            focus = [s.id for s in self.pick.find(result)]
            if not focus:
                return unchanged(photo, found_nothing(self.pick))
        return portrait_blur(
            photo,
            result,
            strength=self.strength,
            focus=focus,
            blades=self.blades,
            highlights=self.highlights,
            depth_ramp=self.depth_ramp,
            quality=self.quality,
        )


@dataclass(frozen=True)
class Lift(Edit):
    """Cut the picked objects out: everything else becomes transparent."""

    do: ClassVar[str] = "lift"
    pick: Pick
    quality: str = "fast"

    def __post_init__(self) -> None:
        one_of("quality", self.quality, ("fast", "best"))

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.lifting import lift

        return lift(photo, result, self.pick, quality=self.quality)


@dataclass(frozen=True)
class Remove(Edit):
    """Take the picked objects away and fill in what may be behind them. ``margin`` widens the hole
    (in pixels of the network's input, about 1/320 of the photo's longer side)."""

    do: ClassVar[str] = "remove"
    pick: Pick
    margin: float = 2.0

    def __post_init__(self) -> None:
        in_range("margin", self.margin, 0, 20)

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.removing import remove

        return remove(photo, result, self.pick, margin=self.margin)


@dataclass(frozen=True)
class Recolor(Edit):
    """Give the picked objects another colour; their shading stays. ``color`` ``"#rrggbb"``,
    ``amount`` 0..1."""

    do: ClassVar[str] = "recolor"
    pick: Pick
    color: str = "#2060d0"
    amount: float = 1.0

    def __post_init__(self) -> None:
        check_color(self.color)
        in_range("amount", self.amount, 0, 1)

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.recoloring import recolor

        return recolor(photo, result, self.pick, color=self.color, amount=self.amount)


@dataclass(frozen=True)
class Pixelate(Edit):
    """Make the picked objects unrecognisable: ``blocks`` squares along the longer side. ``part`` is
    ``"all"``, or ``"head"`` for the upper part of persons (an estimate)."""

    do: ClassVar[str] = "pixelate"
    pick: Pick
    blocks: int = 8
    part: str = "all"

    def __post_init__(self) -> None:
        whole("blocks", self.blocks, 1, 32)
        one_of("part", self.part, ("all", "head"))

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.redacting import pixelate

        return pixelate(photo, result, self.pick, blocks=self.blocks, part=self.part)


@dataclass(frozen=True)
class Blur(Edit):
    """As :class:`Pixelate`, with soft colours instead of squares."""

    do: ClassVar[str] = "blur"
    pick: Pick
    blocks: int = 6
    part: str = "all"

    def __post_init__(self) -> None:
        whole("blocks", self.blocks, 1, 32)
        one_of("part", self.part, ("all", "head"))

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.redacting import blur

        return blur(photo, result, self.pick, blocks=self.blocks, part=self.part)


@dataclass(frozen=True)
class Highlight(Edit):
    """Everything but the picked objects becomes grey, and darker by ``dim`` 0..1."""

    do: ClassVar[str] = "highlight"
    pick: Pick
    dim: float = 0.0
    quality: str = "fast"

    def __post_init__(self) -> None:
        in_range("dim", self.dim, 0, 1)
        one_of("quality", self.quality, ("fast", "best"))

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.highlighting import highlight

        return highlight(photo, result, self.pick, dim=self.dim, quality=self.quality)


@dataclass(frozen=True)
class ReplaceBackground(Edit):
    """Put the picked objects (all persons without a pick) before another background.
    ``match_light`` 0..1: how far the objects take on its brightness and tint."""

    do: ClassVar[str] = "replace_background"
    fill: Fill
    pick: Pick | None = None
    match_light: float = 0.5
    quality: str = "fast"

    def __post_init__(self) -> None:
        in_range("match_light", self.match_light, 0, 1)
        one_of("quality", self.quality, ("fast", "best"))

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.replacing import replace_background

        options: dict[str, Any] = {"match_light": self.match_light, "quality": self.quality}
        return replace_background(photo, result, self.fill, self.pick, folder=folder, **options)


@dataclass(frozen=True)
class ReplaceSky(Edit):
    """Another sky; the rest takes on its light by ``match_light`` 0..1."""

    do: ClassVar[str] = "replace_sky"
    fill: Fill
    match_light: float = 0.3
    quality: str = "fast"

    def __post_init__(self) -> None:
        in_range("match_light", self.match_light, 0, 1)
        one_of("quality", self.quality, ("fast", "best"))

    def apply(
        self, photo: Photo, result: PanopticResult, *, folder: Path | None = None
    ) -> EffectResult:
        from panokit.effects.replacing import replace_sky

        options: dict[str, Any] = {"match_light": self.match_light, "quality": self.quality}
        return replace_sky(photo, result, self.fill, folder=folder, **options)


EDIT_KINDS: dict[str, type[Edit]] = {
    kind.do: kind
    for kind in (
        BlurBackground,
        Lift,
        Remove,
        Recolor,
        Pixelate,
        Blur,
        Highlight,
        ReplaceBackground,
        ReplaceSky,
    )
}
"""The kinds of edits by their name in JSON."""


@dataclass(frozen=True)
class EditList:
    """Edits of one photo in order. Lists do not change: each step gives a new one.

    ``photo`` is the photo's file name, for people; ``undone`` are the edits that :meth:`redo` puts
    back, latest last (they are not saved).
    """

    edits: tuple[Edit, ...] = ()
    photo: str = ""
    undone: tuple[Edit, ...] = ()

    def append(self, edit: Edit) -> EditList:
        """The list with one more edit; what was undone is forgotten."""
        if len(self.edits) >= MAX_EDITS:
            raise ArgumentError("edits", f"at most {MAX_EDITS} of them", len(self.edits) + 1)
        return replace(self, edits=(*self.edits, edit), undone=())

    def undo(self) -> EditList:
        """The list without its last edit; an empty list stays empty."""
        if not self.edits:
            return self
        return replace(self, edits=self.edits[:-1], undone=(*self.undone, self.edits[-1]))

    def redo(self) -> EditList:
        """The list with the edit back that was undone last."""
        if not self.undone:
            return self
        return replace(self, edits=(*self.edits, self.undone[-1]), undone=self.undone[:-1])

    def replay(
        self, photo: Photo, result: PanopticResult, *, folder: str | os.PathLike[str] | None = None
    ) -> EffectResult:
        """All edits in order on the untouched photo.

        Picks refer to ``result``, the segments of the untouched photo; an object that was removed
        cannot be picked any more. ``applied`` tells whether any edit did something, ``message``
        holds a sentence an edit. ``folder`` is where photos named by fills may lie.
        """
        check_same_photo(photo, result)
        if not self.edits:
            return unchanged(photo, "There are no edits, so the photo was left as it is.")
        inside = None if folder is None else Path(folder)
        steps: list[EffectResult] = []
        lifted: EffectResult | None = None
        for edit in self.edits:
            done = edit.apply(photo, result, folder=inside)
            steps.append(done)
            if not done.applied:
                continue
            photo = done.photo
            gone: tuple[int, ...] = ()
            if isinstance(edit, Remove):
                gone = with_held(result, edit.pick.find(result), edit.pick.but)
            result = _without(result, photo, gone)
            lifted = done if done.transparent else lifted
        message = " ".join(s.message for s in steps)
        applied = [s for s in steps if s.applied]
        if lifted is not None:
            return replace(lifted, photo=photo, message=message)
        return replace(applied[-1] if applied else steps[-1], photo=photo, message=message)

    def preview(
        self,
        photo: Photo,
        result: PanopticResult,
        *,
        pixels: int = 1_000_000,
        folder: str | os.PathLike[str] | None = None,
    ) -> EffectResult:
        """As :meth:`replay`, on a photo shrunk to about ``pixels`` pixels. Taps still mean points
        of the whole photo. Keep what :func:`panokit.effects.shrink` gives for several previews."""
        small, found = shrink(photo, result, pixels)
        if small is photo:
            return self.replay(photo, result, folder=folder)
        edits = tuple(_without_tap(e, result) for e in self.edits)
        return replace(self, edits=edits).replay(small, found, folder=folder)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        edits = [e.to_json() for e in self.edits]
        return {"version": VERSION, "photo": self.photo, "edits": edits}

    @classmethod
    def from_json(cls, data: Any) -> EditList:
        """Read what :meth:`to_json` wrote; anything else is an error that says where."""
        if not isinstance(data, Mapping) or data.get("version") != VERSION:
            got = data.get("version") if isinstance(data, Mapping) else data
            raise ArgumentError("edits", f"an object with 'version' {VERSION}", got)
        edits = data.get("edits")
        if not isinstance(edits, Sequence) or isinstance(edits, str) or len(edits) > MAX_EDITS:
            raise ArgumentError(
                "edits", f"a list of at most {MAX_EDITS} edits", type(edits).__name__
            )
        return cls(tuple(Edit.from_json(e) for e in edits), str(data.get("photo", "")))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``edits.json``."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EditList:
        """Read ``edits.json``; a file that is not one is a ``DataError``."""
        path = Path(path)
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise DataError(path, f"expected at most {MAX_JSON_BYTES} bytes of edits")
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(path, f"expected edits in JSON, but {error}") from None


def _without_tap(edit: Edit, result: PanopticResult) -> Edit:
    """The edit with its tap replaced by the segment that lies there; void becomes an id that no
    segment has."""
    pick = getattr(edit, "pick", None)
    if pick is None or pick.tap is None:
        return edit
    hit = result.at(*pick.tap)
    nothing = 1 + max((s.id for s in result), default=0)
    chosen = Pick(segment=nothing if hit is None else hit.id, but=pick.but)
    return replace(edit, pick=chosen)  # type: ignore[call-arg]


def _without(result: PanopticResult, photo: Photo, gone: Sequence[int]) -> PanopticResult:
    """The result on the edited photo, without the segments that are gone."""
    if not gone:
        return replace(result, photo=photo)
    id_map = result.id_map.copy()
    id_map[result.mask(*gone)] = 0
    kept = tuple(s for s in result if s.id not in gone)
    return replace(result, photo=photo, id_map=id_map, segments=kept)
