"""What all edits have in common: checked fields, JSON, and a description for commands and forms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.parameters import Parameter, about, parameters_of, value_to_json
from panokit.effects.picking import Pick, found_nothing
from panokit.effects.refining import picked
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment

__all__ = ["Edit", "EditGroup", "ObjectEdit"]

EditGroup = Literal["portrait", "object", "scene"]


@dataclass(frozen=True)
class Edit:
    """One edit, which is the effect itself: its fields are its parameters, :meth:`apply` does it.

    A kind of edit is a frozen dataclass with these class variables: ``do`` names it in JSON,
    ``title`` names it for people, ``group`` says what it is about. ``basic`` edits are offered in
    a short form, such as the demo's page; there the portrait is one slider, its first basic
    number. ``slow`` edits are worth a draft first. Each field has metadata made by
    :func:`panokit.effects.parameters.about`. A value that a field cannot have is an
    ``ArgumentError``.
    """

    do: ClassVar[str] = ""
    title: ClassVar[str] = ""
    group: ClassVar[EditGroup] = "object"
    basic: ClassVar[bool] = True
    slow: ClassVar[bool] = False
    _kinds: ClassVar[dict[str, type[Edit]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "do" in vars(cls):
            Edit._kinds[cls.do] = cls

    def __post_init__(self) -> None:
        for parameter in self.parameters():
            parameter.check(getattr(self, parameter.name))

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """The parameters of this kind of edit, in the order of the fields."""
        return parameters_of(cls)  # type: ignore[arg-type]  # a class can be hashed

    def check_files(self, folder: Path | None) -> None:
        """An error for a photo that is named and cannot be read from ``folder``, whether or not
        this photo will need it."""

    def apply(
        self,
        photo: Photo,
        result: PanopticResult,
        *,
        draft: bool = False,
        folder: Path | None = None,
    ) -> EffectResult:
        """Do it to ``photo``, whose segments are ``result``.

        A ``draft`` comes sooner and may be coarser. ``folder`` is where photos that a fill names
        may lie. A ``result`` of a photo of another size is an ``ArgumentError``.
        """
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back; defaults are written too."""
        values = {p.name: value_to_json(getattr(self, p.name)) for p in self.parameters()}
        return {"do": self.do, **{name: v for name, v in values.items() if v is not None}}

    @staticmethod
    def from_json(data: object) -> Edit:
        """The edit of a dict; an unknown kind or parameter is an ``ArgumentError`` that names
        it."""
        if not isinstance(data, Mapping):
            raise ArgumentError("edit", f"edit is {data!r}; expected an object with 'do'")
        kind = Edit._kinds.get(str(data.get("do")))
        if kind is None:
            raise ArgumentError(
                "edit's 'do'",
                f"edit's 'do' is {data.get('do')!r}; expected one of {sorted(Edit._kinds)}",
            )
        known = {p.name: p for p in kind.parameters()}
        strange = sorted(set(data) - set(known) - {"do"})
        if strange:
            raise ArgumentError(
                f"parameters of {kind.do}",
                f"{kind.do} has the parameters {strange}; expected some of {sorted(known)}",
            )
        values = {k: known[k].from_json(v) for k, v in data.items() if k != "do"}
        for name, parameter in known.items():
            if parameter.required and values.get(name) is None:
                raise ArgumentError(
                    f"edit {kind.do}", f"edit {kind.do} lacks its {name}; it has {dict(data)}"
                )
        return kind(**values)

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """This kind of edit for a form, JSON-ready: names, a sentence, and the parameters."""
        return {
            "title": cls.title,
            "about": cls.summary(),
            "group": cls.group,
            "basic": cls.basic,
            "slow": cls.slow,
            "parameters": [p.to_json() for p in cls.parameters()],
        }

    @classmethod
    def summary(cls) -> str:
        """What this kind of edit does: the first paragraph of its docstring, as one line."""
        return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


@dataclass(frozen=True)
class ObjectEdit(Edit):
    """An edit of picked objects: a kind says in :meth:`change` what it does to them."""

    pick: Pick = field(metadata=about("Which objects it is about."))

    def apply(
        self,
        photo: Photo,
        result: PanopticResult,
        *,
        draft: bool = False,
        folder: Path | None = None,
    ) -> EffectResult:
        check_same_photo(photo, result)
        result, segments = picked(photo, result, self.pick)
        if not segments:
            return unchanged(photo, found_nothing(self.pick))
        return self.change(photo, result, segments, draft)

    def change(
        self, photo: Photo, result: PanopticResult, segments: Sequence[Segment], draft: bool
    ) -> EffectResult:
        """Do it to ``segments``, the picked ones of ``result``: at least one."""
        raise NotImplementedError
