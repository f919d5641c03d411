"""Settings as JSON: one reader and one writer for all frozen dataclasses.

What comes from a file is not trusted: every field is checked against its annotation, unknown names
are told with the known ones, and the message says where in the file the fault lies. A class checks
ranges itself, when it is made.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Set
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from panokit._reading import read_json
from panokit.errors import ArgumentError

__all__ = ["read_settings", "read_settings_file", "write_settings"]

T = TypeVar("T")


def read_settings(
    kind: type[T], data: object, where: str = "settings", ignore: Set[str] = frozenset()
) -> T:
    """An instance of the dataclass ``kind`` from what JSON gave; fields left out keep their
    defaults.

    Understands bool, int, float (finite), str, ``Literal``, enums, ``tuple``, ``dict[str, …]``,
    ``X | None``, nested dataclasses, and classes with a ``from_json`` of their own. ``where`` names
    the place for messages; ``ignore`` are names that mean nothing any more. Raises
    ``ArgumentError``.
    """
    if not isinstance(data, Mapping):
        raise ArgumentError(where, f"{where} is {data!r}; expected a JSON object")
    hints, fields = _hints(kind), {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    given = {k: v for k, v in data.items() if k not in ignore}
    if unknown := sorted(str(k) for k in given.keys() - fields.keys()):
        near = difflib.get_close_matches(unknown[0], fields, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        expected = f"an object whose names are each one of: {', '.join(fields)}{hint}"
        raise ArgumentError(where, f"{where} has {unknown}; expected {expected}")
    missing = [n for n, f in fields.items() if n not in given and _is_required(f)]
    if missing:
        raise ArgumentError(
            where, f"{where} lacks {', '.join(map(repr, missing))}; it has {sorted(given)}"
        )
    values = {n: _value(hints[n], v, f"{where}.{n}", ignore) for n, v in given.items()}
    return kind(**values)


def read_settings_file(
    kind: type[T], path: str | Path, where: str = "settings", ignore: Set[str] = frozenset()
) -> T:
    """As :func:`read_settings`, of a JSON file."""
    try:
        data = read_json(path, strict=True)
    except (OSError, ValueError) as error:
        raise ArgumentError(where, f"{where} cannot be read from {str(path)!r}: {error}") from None
    return read_settings(kind, data, where, ignore)


def write_settings(settings: object) -> dict[str, Any]:
    """A JSON-ready dict of a dataclass that :func:`read_settings` reads back."""
    data = _plain(settings)
    if not isinstance(data, dict):
        raise ArgumentError(
            "settings", f"settings is a {type(settings).__name__}; expected a dataclass"
        )
    return data


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return {name: _nested(getattr(value, name)) for name in fields}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): _nested(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_nested(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _nested(value: Any) -> Any:
    """A value inside another; a class with a ``to_json`` of its own writes itself."""
    own = None if isinstance(value, type) else getattr(value, "to_json", None)
    return _plain(value) if own is None else own()


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, where: str, ignore: Set[str]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, where, ignore)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            raise ArgumentError(
                where, f"{where} is {value!r}; expected one of: {', '.join(map(str, arguments))}"
            )
        return value
    if origin is tuple:
        return _tuple(arguments, value, where, ignore)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ArgumentError(where, f"{where} is {value!r}; expected a JSON object")
        return {str(k): _value(arguments[1], v, f"{where}.{k}", ignore) for k, v in value.items()}
    if not isinstance(hint, type):
        return value
    return _simple(hint, value, where, ignore)


def _one_of(kinds: tuple[Any, ...], value: Any, where: str, ignore: Set[str]) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [k for k in kinds if k is not type(None)]
    for kind in others[:-1]:
        try:
            return _value(kind, value, where, ignore)
        except ArgumentError:
            continue
    return _value(others[-1], value, where, ignore)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str, ignore: Set[str]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ArgumentError(where, f"{where} is {value!r}; expected a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_value(kinds[0], v, f"{where}[{i}]", ignore) for i, v in enumerate(value))
    if len(value) != len(kinds):
        raise ArgumentError(where, f"{where} is {list(value)!r}; expected a list of {len(kinds)}")
    pairs = zip(kinds, value, strict=True)
    return tuple(_value(k, v, f"{where}[{i}]", ignore) for i, (k, v) in enumerate(pairs))


def _simple(kind: type, value: Any, where: str, ignore: Set[str]) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise ArgumentError(where, f"{where} is {value!r}; expected true or false")
        return value
    if kind in (int, float):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or (kind is int and value != int(value)):
            raise ArgumentError(
                where,
                f"{where} is {value!r}; expected {'a whole number' if kind is int else 'a number'}",
            )
        return kind(value)
    if kind is str:
        if not isinstance(value, str):
            raise ArgumentError(where, f"{where} is {value!r}; expected text")
        return value
    if issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(m.value) for m in kind)
            raise ArgumentError(where, f"{where} is {value!r}; expected one of: {known}") from None
    if issubclass(kind, Path):
        return Path(_simple(str, value, where, ignore))
    own = getattr(kind, "from_json", None)
    if own is not None:
        return own(value)
    if dataclasses.is_dataclass(kind):
        return read_settings(kind, value, where, ignore)
    return value
