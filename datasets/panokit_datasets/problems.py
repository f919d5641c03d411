"""What can be wrong with a data set: the kinds, how bad each is, and what mends it.

A reader raises :class:`LabelError` at the first problem. A check reads on: it hands every problem
to a collector (:data:`Complain`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from panokit.errors import DataError

__all__ = ["KINDS", "Complain", "Kind", "LabelError", "Problem", "Severity", "refuse"]

Severity = Literal["error", "warning", "note"]


class Kind(NamedTuple):
    """How bad a kind of problem is, and what mends it."""

    severity: Severity
    fix: str


KINDS: dict[str, Kind] = {
    "unreadable": Kind("error", "make the file again, or take its photo out of the set"),
    "missing photo": Kind("error", "put the photo where its labels say, or leave it out"),
    "missing labels": Kind("error", "make the labels, or leave the photo out"),
    "wrong size": Kind("error", "make the labels again at the size of the photo"),
    "wrong mode": Kind("error", "save the labels as the PNG that the format asks for"),
    "id not in JSON": Kind("error", "add the segment to segments_info, or paint its pixels 0"),
    "id not in PNG": Kind("error", "take the segment out of segments_info"),
    "wrong area": Kind("error", "count the area from the PNG"),
    "wrong box": Kind("warning", "take the box from the PNG"),
    "duplicate id": Kind("error", "give each its own id; most tools keep only the later one"),
    "unknown category": Kind("error", "add the category, or change the label"),
    "no isthing": Kind("error", "say isthing 0 or 1 for each category"),
    "two crowds": Kind("warning", "join them: strict PQ counts only the last crowd of a class"),
    "stuff twice": Kind("warning", "join the segments of a stuff class of one photo"),
    "id 0": Kind("error", "number segments from 1: 0 means that nothing is labelled"),
    "id too large": Kind("error", "number segments below 2^24: three bytes hold no more"),
    "bad id": Kind("error", "write ids as whole numbers"),
    "id as text": Kind("note", "write ids as whole numbers, not as text or with a decimal point"),
    "annotation id 0": Kind(
        "warning", "number annotations from 1: pycocotools takes id 0 as unmatched"
    ),
    "overlap": Kind("note", "decide which of two objects is in front; here the smaller one is"),
    "bad number": Kind("error", "write a finite number in the range that is named"),
    "empty mask": Kind("warning", "draw the object, or take the annotation out"),
    "bad polygon": Kind("error", "a polygon has at least three points: six numbers or more"),
    "outside": Kind("warning", "cut the shape at the border of the photo"),
    "box without mask": Kind("warning", "draw a mask: a box alone says nothing of pixels"),
    "EXIF in doubt": Kind("warning", "say 'drawn': 'upright' or 'stored' for the image"),
    "unsafe path": Kind("error", "name files relative to the set, without '..'"),
    "other case": Kind("warning", "rename one: some disks hold only one of the two"),
    "no annotation": Kind("warning", "label the photo, or take it out of the list"),
    "unlisted image": Kind("error", "list the image, or take its annotations out"),
    "unlisted photo": Kind("note", "list the photo, or take the file out of the folder"),
    "empty category": Kind("note", "a root that some tools add; it is left out"),
    "crowd of one": Kind("warning", "if the tool marks masks as crowds, say --crowd-means-mask"),
    "two classes": Kind("warning", "give each instance one class; the most frequent one is taken"),
    "instance of stuff": Kind("note", "stuff has no instances; its pixels are joined"),
    "duplicate photo": Kind("warning", "keep one of them"),
    "leak": Kind("error", "keep the photo in one split: it is learnt and then judged"),
    "near duplicate": Kind("note", "look at both: one may be a copy of the other"),
    "near leak": Kind("warning", "look at both: a copy in another split is learnt and then judged"),
    "class only here": Kind("warning", "add photos with the class to the training split"),
}
"""All kinds. The sentence says what mends it."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: its ``kind`` (of :data:`KINDS`), the ``path`` of the file, and a
    sentence."""

    kind: str
    path: str
    reason: str

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    @property
    def fix(self) -> str:
        return KINDS[self.kind].fix

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "file": self.path,
            "what": self.reason,
            "fix": self.fix,
        }


class LabelError(DataError):
    """A label that cannot be used; ``kind`` is one of :data:`KINDS`."""

    def __init__(self, path: str | Path, reason: str, kind: str = "unreadable") -> None:
        super().__init__(path, reason)
        self.kind = kind

    @property
    def problem(self) -> Problem:
        return Problem(self.kind, self.path, self.reason)


Complain = Callable[[Problem], None]
"""Takes a problem; where it returns, reading goes on without what is wrong."""


def refuse(problem: Problem) -> None:
    """The collector of readers that are not checks: an error is raised, the rest goes by."""
    if problem.severity == "error":
        raise LabelError(problem.path, problem.reason, problem.kind)
