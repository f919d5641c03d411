"""Edits as data: a list that is replayed on the photo, so that each can be undone.

``edits.json`` holds ``{"version": 1, "photo": NAME, "edits": [{"do": KIND, "pick": …, …}]}``;
docs/effects.md lists the kinds and their parameters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from panokit._files import write_json
from panokit._places import plain_file
from panokit._reading import read_json
from panokit._text import has_controls
from panokit.effects.edit import Edit
from panokit.effects.highlighting import Highlight
from panokit.effects.lifting import Lift
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.picking import Pick, found_nothing
from panokit.effects.portrait import BlurBackground
from panokit.effects.preview import shrink
from panokit.effects.recoloring import Recolor
from panokit.effects.redacting import Blur, Pixelate
from panokit.effects.removing import Remove
from panokit.effects.replacing import ReplaceBackground, ReplaceSky
from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["EDIT_KINDS", "EditList"]

VERSION = 1
MAX_EDITS = 1000
MAX_JSON_BYTES = 1_000_000


EDIT_KINDS: dict[str, type[Edit]] = {
    kind.do: kind
    for kind in (
        BlurBackground,
        Remove,
        Lift,
        Highlight,
        Pixelate,
        Blur,
        Recolor,
        ReplaceBackground,
        ReplaceSky,
    )
}
"""The kinds of edits by their name in JSON, in the order in which help and forms show them."""


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
            raise ArgumentError(
                "edits", f"there are {len(self.edits) + 1} edits; expected at most {MAX_EDITS}"
            )
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
        self,
        photo: Photo,
        result: PanopticResult,
        *,
        draft: bool = False,
        folder: str | os.PathLike[str] | None = None,
    ) -> EffectResult:
        """All edits in order on the untouched photo.

        Picks refer to ``result``, the segments of the untouched photo; an object that was removed
        cannot be picked any more. ``applied`` tells whether any edit did something, ``message``
        holds a sentence an edit. A ``draft`` comes sooner and may be coarser. ``folder`` is where
        photos named by fills may lie.
        """
        check_same_photo(photo, result)
        if not self.edits:
            return unchanged(photo, "There are no edits, so the photo was left as it is.")
        inside = None if folder is None else Path(folder)
        for edit in self.edits:
            edit.check_files(inside)
        steps: list[EffectResult] = []
        lifted: EffectResult | None = None
        untouched = result
        for edit in self.edits:
            if missing := _gone(edit, untouched, result):
                steps.append(unchanged(photo, found_nothing(missing)))
                continue
            done = edit.apply(photo, result, draft=draft, folder=inside)
            steps.append(done)
            if not done.applied:
                continue
            photo = done.photo
            result = _without(result, photo, done.gone)
            lifted = done if done.transparent else lifted
        message = " ".join(s.message for s in steps)
        gone = tuple(i for s in steps for i in s.gone)
        applied = [s for s in steps if s.applied]
        last = applied[-1] if applied else steps[-1]
        return replace(lifted or last, photo=photo, message=message, gone=gone)

    def preview(
        self,
        photo: Photo,
        result: PanopticResult,
        *,
        pixels: int = 1_000_000,
        draft: bool = False,
        folder: str | os.PathLike[str] | None = None,
    ) -> EffectResult:
        """As :meth:`replay`, on a photo shrunk to about ``pixels`` pixels. Taps still mean points
        of the whole photo. Keep what :func:`panokit.effects.shrink` gives for several previews."""
        small, found = shrink(photo, result, pixels)
        if small is photo:
            return self.replay(photo, result, draft=draft, folder=folder)
        scale = small.size_wh[0] / photo.size_wh[0], small.size_wh[1] / photo.size_wh[1]
        edits = tuple(_on_small(e, result, scale) for e in self.edits)
        return replace(self, edits=edits).replay(small, found, draft=draft, folder=folder)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        edits = [e.to_json() for e in self.edits]
        return {"version": VERSION, "photo": self.photo, "edits": edits}

    @classmethod
    def from_json(cls, data: Any) -> EditList:
        """Read what :meth:`to_json` wrote; anything else is an error that says where."""
        if not isinstance(data, Mapping) or data.get("version") != VERSION:
            got = data.get("version") if isinstance(data, Mapping) else data
            raise ArgumentError(
                "edits", f"the edits are {got!r}; expected an object with 'version' {VERSION}"
            )
        edits = data.get("edits")
        if not isinstance(edits, Sequence) or isinstance(edits, str) or len(edits) > MAX_EDITS:
            raise ArgumentError(
                "edits",
                f"'edits' is a {type(edits).__name__} or too long; "
                f"expected a list of at most {MAX_EDITS} edits",
            )
        photo = data.get("photo", "")
        if not isinstance(photo, str) or has_controls(photo):
            raise ArgumentError("photo", f"'photo' is {photo!r:.60}; expected the photo's name")
        return cls(tuple(Edit.from_json(e) for e in edits), photo)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``edits.json``."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EditList:
        """Read ``edits.json``; a file that is not one is a ``DataError``."""
        path = Path(path)
        try:
            if plain_file(path).stat().st_size > MAX_JSON_BYTES:
                raise DataError(path, f"expected at most {MAX_JSON_BYTES} bytes of edits")
            return cls.from_json(read_json(path, strict=True))
        except (OSError, ValueError) as error:
            raise DataError(path, f"expected edits in JSON, but {error}") from None


def _on_small(edit: Edit, result: PanopticResult, scale: tuple[float, float]) -> Edit:
    """The edit for a smaller photo: its tap is replaced by the segment that lies there (on void it
    is moved), and its other points are moved."""
    pick = getattr(edit, "pick", None)
    if pick is None:
        return edit
    hit = None if pick.tap is None else result.at(*pick.tap)
    pick = pick.scaled(scale)
    if hit is not None:
        pick = replace(pick, tap=None, segment=hit.id)
    return replace(edit, pick=pick)  # type: ignore[call-arg]


def _gone(edit: Edit, untouched: PanopticResult, result: PanopticResult) -> Pick | None:
    """The edit's pick, if it taps an object that an edit before it removed."""
    pick = getattr(edit, "pick", None)
    if not isinstance(pick, Pick) or pick.tap is None:
        return None
    hit = untouched.at(*pick.tap)
    return pick if hit is not None and hit.id not in {s.id for s in result} else None


def _without(result: PanopticResult, photo: Photo, gone: Sequence[int]) -> PanopticResult:
    """The result on the edited photo, without the segments that are gone."""
    if not gone:
        return replace(result, photo=photo)
    id_map = result.id_map.copy()
    id_map[result.mask(*gone)] = 0
    kept = tuple(s for s in result if s.id not in gone)
    return replace(result, photo=photo, id_map=id_map, segments=kept)
