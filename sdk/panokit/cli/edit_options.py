"""Options of a command from the parameters of edits, and an edit from the options that were given.

Each parameter is stated once, in the dataclass of its edit. A pick is given by ``--tap``,
``--class``, ``--segment``, ``--but`` and so on, a fill by ``--color``, ``--gradient`` and
``--background``. Every other parameter is an option of its own name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from panokit.effects import EDIT_KINDS, Edit, Fill, Parameter, Pick
from panokit.errors import ArgumentError

__all__ = ["edit_from_options", "options_of", "options_of_any", "takes"]

Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class _Option:
    """One option of the command line: its name in Python, the type of its value, its words."""

    name: str
    kind: type
    words: str
    default: object = None

    def of(
        self, default: object, words: str, panel: str, low: float | None, high: float | None
    ) -> inspect.Parameter:
        """The option as Typer reads it from a signature."""
        flag = "--class" if self.name == "class_name" else f"--{self.name.replace('_', '-')}"
        flag = f"{flag}/--no-{flag[2:]}" if self.default is True else flag
        told = typer.Option(default, flag, help=words, rich_help_panel=panel, min=low, max=high)
        kind = self.kind | None if default is None else self.kind
        keyword = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(self.name, keyword, default=told, annotation=kind)


PICK = (
    _Option("tap", str, "What lies at X,Y in photo pixels, e.g. 410,300."),
    _Option("class_name", str, "All of a class, e.g. person."),
    _Option("segment", int, "One segment id."),
    _Option("but", str, "Segment ids to leave out, e.g. 1,4."),
    _Option("add", str, "What belongs to it too: points X,Y, several with semicolons."),
    _Option("remove", str, "What does not belong to it: points X,Y, several with semicolons."),
    _Option("with_held", bool, "What persons wear or hold comes along, as a bag or a cup.", True),
)
FILL = (
    _Option("color", str, "A colour to put behind (#rrggbb)."),
    _Option("gradient", str, "Colours to put behind, from top to bottom (#rrggbb,#rrggbb)."),
    _Option("background", Path, "A photo to put behind."),
)
TYPES = {"number": float, "whole": int, "flag": bool, "color": str}


def takes(options: Iterable[inspect.Parameter]) -> Callable[[Command], Command]:
    """Give a command that ends in ``**settings`` these options in place of it."""

    def give(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        signature = signature.replace(parameters=[*own, *options])
        command.__signature__ = signature  # type: ignore[attr-defined]  # Typer reads it
        return command

    return give


def options_of(kind: type[Edit], panel: str) -> list[inspect.Parameter]:
    """The options of a command that does one kind of edit, with its limits and defaults."""
    found = []
    for p in kind.parameters():
        low, high = (p.low, p.high) if p.kind in ("number", "whole") else (None, None)
        where = p.about.rstrip(".") if p.kind in ("pick", "fill") else panel
        found += [o.of(o.default, o.words, where, low, high) for o in _options(p)]
    return found


def options_of_any(
    kinds: Iterable[type[Edit]], *, pick_panel: str, panel: str
) -> list[inspect.Parameter]:
    """The options of a command that does any of these kinds of edits. The help says which kinds
    each option is for. None has a default here: the edit has its own, and refuses what is not
    within its limits or not its parameter."""
    uses: dict[str, list[tuple[str, _Option]]] = {}
    for kind in kinds:
        for p in kind.parameters():
            for option in _options(p):
                uses.setdefault(option.name, []).append((kind.do, option))
    found = []
    for own in uses.values():
        option = own[0][1]
        picks = option in PICK
        words = option.words if picks else _help(own)
        found.append(option.of(None, words, pick_panel if picks else panel, None, None))
    return found


def edit_from_options(do: str, given: Mapping[str, Any], folder: Path) -> Edit:
    """The edit named ``do`` from the options of a command; None and ``""`` mean not given. A photo
    to put behind must lie inside ``folder``."""
    kind = EDIT_KINDS.get(do)
    names = {p.name for p in kind.parameters()} if kind else set()
    composed = {o.name for o in (*PICK, *FILL)} - names
    values = {k: v for k, v in given.items() if v not in (None, "") and k not in composed}
    pick = _pick(given, optional=kind is not None and any(_is_free(p) for p in kind.parameters()))
    if pick is not None:
        values["pick"] = pick.to_json()
    if "fill" in names:
        values["fill"] = _fill(given, folder).to_json()
    return Edit.from_json({"do": do, **values})


def _options(p: Parameter) -> tuple[_Option, ...]:
    if p.kind in ("pick", "fill"):
        return PICK if p.kind == "pick" else FILL
    kind = type(p.choices[0]) if p.choices else TYPES[p.kind]
    words = f"{p.about.rstrip('.')} ({p.limits})." if p.limits else p.about
    return (_Option(p.name, kind, words, p.default),)


def _help(uses: list[tuple[str, _Option]]) -> str:
    """What an option does, by the kinds of edits that have it."""
    by_words: dict[str, list[tuple[str, _Option]]] = {}
    for do, option in uses:
        by_words.setdefault(option.words, []).append((do, option))
    sentences = []
    for words, own in by_words.items():
        kinds = _listed([do for do, _ in own])
        sentences.append(f"For {kinds}: {words[0].lower()}{words[1:]}{_defaults(own)}")
    return " ".join(sentences)


def _defaults(uses: list[tuple[str, _Option]]) -> str:
    by_value: dict[object, list[str]] = {}
    for do, option in uses:
        if option.default is not None and option.default is not False:
            by_value.setdefault(option.default, []).append(do)
    if len(by_value) < 2:
        return "".join(f" Default: {value}." for value in by_value)
    return f" Default: {', '.join(f'{v} for {_listed(d)}' for v, d in by_value.items())}."


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _is_free(p: Parameter) -> bool:
    """Whether this is a pick that may be left out: then it is all persons."""
    return p.kind == "pick" and not p.required


def _pick(given: Mapping[str, Any], optional: bool) -> Pick | None:
    """The pick of the options; None if there is none. ``optional``: whether none is needed."""
    tap, class_name, segment = (given.get(o.name) for o in PICK[:3])
    held = given.get("with_held") is not False
    if not tap and not class_name and segment is None:
        return Pick(class_name="person", held=False) if optional and not held else None
    but = given.get("but") or ""
    try:
        ids = tuple(int(v) for v in but.split(",") if v.strip())
    except ValueError:
        raise ArgumentError("but", f"--but is {but!r}; expected segment ids, e.g. 1,4") from None
    add, remove = (_points(name, given.get(name)) for name in ("add", "remove"))
    return Pick(_point(tap) if tap else None, class_name or None, segment, ids, add, remove, held)


def _point(text: str, name: str = "tap") -> tuple[float, float]:
    try:
        x, y = (float(v) for v in text.split(","))
    except ValueError:
        raise ArgumentError(
            name, f"--{name} is {text!r}; expected X,Y in photo pixels, e.g. 410,300"
        ) from None
    return x, y


def _points(name: str, text: str | None) -> tuple[tuple[float, float], ...]:
    return tuple(_point(part, name) for part in (text or "").split(";") if part.strip())


def _fill(given: Mapping[str, Any], folder: Path) -> Fill:
    color, gradient, background = (given.get(o.name) for o in FILL)
    if background is None:
        stops = tuple(c.strip() for c in gradient.split(",")) if gradient else None
        return Fill(color or None, stops)
    path = background.resolve()
    if not path.is_relative_to(folder):
        raise ArgumentError(
            "background", f"background is {str(background)!r}; expected a photo inside {folder}"
        )
    return Fill(color or None, None, path.relative_to(folder).as_posix())
