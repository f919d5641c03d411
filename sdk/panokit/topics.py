"""What words, errors, faults, lint rules and recipes mean: the texts of ``panokit explain`` and of
the manual's pages.

Each room gives its own, through the entry-point group ``panokit.topics``.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import entry_points

from panokit import errors as _errors
from panokit.errors import ArgumentError, PanokitError

__all__ = ["Topic", "errors", "find_topic", "topics", "words"]


@dataclass(frozen=True)
class Topic:
    """Something that has a name: ``kind`` is word, error, fault, lint rule or recipe; ``text``
    plain paragraphs; ``page`` its address within the manual."""

    name: str
    kind: str
    text: str
    page: str


def topics() -> list[Topic]:
    """All topics of the rooms whose extras are installed, in the order of their kinds."""
    found = []
    for entry in entry_points(group="panokit.topics"):
        with contextlib.suppress(ImportError):  # without its extra a room has nothing to explain
            found += entry.load()()
    return sorted(found, key=lambda t: (t.kind, t.name.lower()))


def find_topic(name: str) -> Topic:
    """A topic by its name, whatever its case; a fault also with its variant (``rotated:90``)."""
    known = topics()
    wanted = _plain(name)
    for candidate in (wanted, wanted.partition(":")[0]):
        for topic in known:
            names = [topic.name, *topic.name.split(", ")]
            if candidate in {_plain(n) for n in names}:
                return topic
    near = difflib.get_close_matches(wanted, [t.name for t in known], 4, 0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise ArgumentError(
        "topic", f"there is no topic {name!r:.80}; `panokit explain` lists all.{hint}"
    )


def _plain(name: str) -> str:
    return " ".join(re.sub(r"\(.*?\)|[_-]", " ", name).lower().split())


def words() -> list[Topic]:
    """The words of the glossary."""
    text = resources.files("panokit").joinpath("assets/glossary.md").read_text("utf-8")
    found = []
    for entry in re.findall(r"^\*\*(.+?)\*\*: (.+?)(?=\n\n|\Z)", text, re.S | re.M):
        name, meaning = entry
        told = " ".join(meaning.split())
        told = told[:1].upper() + told[1:]
        found.append(Topic(name, "word", told, f"glossary.html#{_anchor(name)}"))
    return found


def errors() -> list[Topic]:
    """The errors that Panokit raises on purpose."""
    found = []
    for name in _errors.__all__:
        kind = getattr(_errors, name)
        if issubclass(kind, PanokitError):
            told = inspect.getdoc(kind) or ""
            found.append(Topic(name, "error", told, f"api/errors.html#panokit.errors.{name}"))
    return found


def _anchor(name: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))
