"""Every error Panokit raises on purpose.

::

    PanokitError
    ├── ArgumentError      a parameter has a value that cannot be used     (also ValueError)
    ├── UsageError         options are missing, or exclude each other      (also ValueError)
    ├── PhotoError         a file is not a photo that can be read
    ├── BundleError        a bundle is missing, damaged, tampered with or foreign
    ├── HeadError          network outputs have a wrong shape, or hold NaN or infinity
    ├── DumpError          a device dump is missing, damaged or does not fit
    ├── DataError          a data set does not match its description
    ├── ExportError        an artifact could not be written or is not right
    ├── OutputError        a result cannot be written where it was asked for
    └── MissingExtraError  an optional dependency is not installed         (also ImportError)

A message says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from panokit._install import install_advice, install_command
from panokit._text import shown

__all__ = [
    "ArgumentError",
    "BundleError",
    "DataError",
    "DumpError",
    "ExportError",
    "HeadError",
    "MissingExtraError",
    "OutputError",
    "PanokitError",
    "PhotoError",
    "UsageError",
]


LONGEST_SENTENCE = 2000
_KEPT_FIRST, _KEPT_LAST = 500, 300


class PanokitError(Exception):
    """Base of all errors raised on purpose by Panokit. They travel between processes whole. A value
    from a file may be endless, or steer a terminal: a sentence is one line of bounded length."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(_bounded(a) if isinstance(a, str) else a for a in args))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)


def _bounded(sentence: str) -> str:
    sentence = shown(sentence, len(sentence))
    if len(sentence) <= LONGEST_SENTENCE:
        return sentence
    left_out = len(sentence) - _KEPT_FIRST - _KEPT_LAST
    return f"{sentence[:_KEPT_FIRST]} … ({left_out} characters) … {sentence[-_KEPT_LAST:]}"


def _again(kind: type[PanokitError], args: tuple[Any, ...], fields: dict[str, Any]) -> PanokitError:
    """An error as it was in another process: its constructor took other arguments than it shows."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ArgumentError(PanokitError, ValueError):
    """A parameter has a value that cannot be used.

    ``name``: the parameter. The sentence says what it is, what was expected, and what to do.
    """

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name

    @classmethod
    def unknown(cls, what: str, name: object, known: Iterable[str]) -> ArgumentError:
        """``name`` is none of ``known``; the sentence suggests the nearest of them."""
        names = tuple(known)
        near = difflib.get_close_matches(str(name), names, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        one_of = ", ".join(names) or "none"
        return cls(what, f"there is no {what} {name!r}{hint}; expected one of: {one_of}")


class UsageError(PanokitError, ValueError):
    """Options are missing, or exclude each other; the sentence names them with their dashes."""


class _FileError(PanokitError):
    """An error about one file; ``path`` names it and ``reason`` says what is wrong."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = str(path), reason


class PhotoError(_FileError):
    """A file is not a photo that can be read."""


class BundleError(_FileError):
    """A bundle is missing, damaged, tampered with or foreign."""


class DumpError(_FileError):
    """A device dump is missing, damaged or does not fit what it is compared with."""


class DataError(_FileError):
    """A data set does not match its description."""


class ExportError(_FileError):
    """An artifact could not be written, or does not compute what it should."""


class OutputError(_FileError):
    """A result cannot be written where it was asked for; what was there is as it was."""


class HeadError(PanokitError):
    """Network outputs have a wrong shape or type, or hold NaN or infinity (at ``position``)."""

    def __init__(self, head: str, reason: str, position: tuple[int, ...] | None = None) -> None:
        super().__init__(f"head {head!r}: {reason}")
        self.head, self.reason, self.position = head, reason, position


class MissingExtraError(PanokitError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        self.command = install_command(extra)
        super().__init__(f"{feature} needs the {extra!r} extra. {install_advice(extra)}")
