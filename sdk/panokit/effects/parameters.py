"""What commands and forms need to know of an edit's fields: words, limits, defaults and a check.

An edit states each parameter once, as a field of its dataclass::

    strength: float = field(default=0.5, metadata=about("How strong the blur is.", low=0, high=1))

:func:`parameters_of` reads the fields back. The check of values, the options of the command line
and the form of the demo's page are made from what it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from panokit.effects._checks import flag, in_range, one_of, whole
from panokit.effects.fill import Fill, check_color
from panokit.effects.picking import Pick
from panokit.errors import ArgumentError

__all__ = ["Parameter", "ParameterKind", "about", "parameters_of", "value_to_json"]

ParameterKind = Literal["number", "whole", "choice", "flag", "color", "pick", "fill"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of an edit.

    ``about`` is one sentence. ``default`` is None for a parameter that must be given. Numbers lie
    from ``low`` to ``high``, both included; a choice is one of ``choices``. ``basic`` parameters
    are shown in a short form, such as the demo's page; the others keep their defaults there.
    ``start`` is what a short form begins with, where that is not the default.
    """

    name: str
    kind: ParameterKind
    required: bool
    default: object
    about: str
    low: float = 0
    high: float = 0
    choices: tuple[int | str, ...] = ()
    basic: bool = False
    start: object = None

    @property
    def limits(self) -> str:
        """The allowed values in words, such as ``"0..1"`` or ``"fast or best"``; may be empty."""
        if self.kind in ("number", "whole"):
            return f"{self.low:g}..{self.high:g}"
        if self.kind == "choice":
            *most, last = map(str, self.choices)
            return f"{', '.join(most)} or {last}"
        return "#rrggbb" if self.kind == "color" else ""

    def check(self, value: object) -> None:
        """Refuse a value that the parameter cannot have."""
        if value is None and not self.required and self.default is None:
            return
        match self.kind:
            case "number":
                in_range(self.name, value, self.low, self.high)
            case "whole":
                whole(self.name, value, int(self.low), int(self.high))
            case "choice":
                one_of(self.name, value, self.choices)
            case "flag":
                flag(self.name, value)
            case "color":
                check_color(value)
            case "pick" | "fill":
                kind = Pick if self.kind == "pick" else Fill
                if not isinstance(value, kind):
                    raise ArgumentError(
                        self.name, f"{self.name} is {value!r}; expected a {kind.__name__}"
                    )

    def from_json(self, data: object) -> object:
        """The value of what :meth:`value_to_json` gave. Numbers and words are what they are."""
        if data is None or self.kind not in ("pick", "fill"):
            return data
        return Pick.from_json(data) if self.kind == "pick" else Fill.from_json(data)

    def to_json(self) -> dict[str, Any]:
        """The parameter itself, JSON-ready, for a form: what does not apply is left out."""
        data: dict[str, Any] = {"name": self.name, "kind": self.kind, "about": self.about}
        data |= {"required": self.required, "basic": self.basic}
        if self.kind in ("number", "whole"):
            data |= {"low": self.low, "high": self.high}
        if self.kind == "choice":
            data["choices"] = list(self.choices)
        for name, value in (("default", self.default), ("start", self.start)):
            if value is not None:
                data[name] = value_to_json(value)
        return data


def about(
    words: str,
    *,
    low: float = 0,
    high: float = 0,
    choices: Sequence[int | str] = (),
    color: bool = False,
    basic: bool = False,
    start: object = None,
) -> dict[str, Any]:
    """Metadata of a field of an edit; see :class:`Parameter`. ``color`` is for a field that holds
    a colour, ``"#rrggbb"``."""
    told = {"about": words, "low": low, "high": high, "choices": tuple(choices)}
    return {**told, "color": color, "basic": basic, "start": start}


@cache
def parameters_of(edit: type) -> tuple[Parameter, ...]:
    """The parameters of a dataclass whose fields have metadata made by :func:`about`, in order."""
    hints = get_type_hints(edit)
    found = []
    for field in fields(edit):
        told = dict(field.metadata)
        kind = _kind_of(hints[field.name], bool(told["choices"]), told.pop("color"))
        required = field.default is MISSING
        default = None if required else field.default
        found.append(Parameter(field.name, kind, required, default, **told))
    return tuple(found)


def value_to_json(value: object) -> object:
    """A value of a parameter, JSON-ready."""
    return value.to_json() if isinstance(value, Pick | Fill) else value


def _kind_of(hint: object, chosen: bool, color: bool) -> ParameterKind:
    for plain, kind in _KINDS.items():
        if hint is plain or plain in get_args(hint):
            return "choice" if chosen else "color" if color else kind
    raise TypeError(f"a parameter of an edit cannot be {hint}")


# The types that a field may have. Text is a choice or a colour, never free.
_KINDS: dict[type, ParameterKind] = {
    bool: "flag",
    int: "whole",
    float: "number",
    str: "choice",
    Pick: "pick",
    Fill: "fill",
}
