"""Text from outside, made fit for a file or for a person at a terminal.

File names may hold bytes that are no UTF-8 (Python keeps them as lone surrogates), and texts of
bundles, dumps and names may hold characters that steer a terminal.
"""

from __future__ import annotations

import codecs
import re

__all__ = [
    "CONSOLE_ERRORS",
    "by_number",
    "encodable",
    "has_controls",
    "shown",
    "without_directions",
]

CONSOLE_ERRORS = "panokit-console"
"""Name of the way to write what a console's encoding lacks: signs by ASCII ones, else escapes."""

MOST_SHOWN = 4000
"""Most characters of a text that are shown in one piece."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NUMBER = re.compile(r"([0-9]+)")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Joiners, marks of direction and tags stand in ordinary names (emoji, Arabic, Hebrew, Persian) and
# reach no further than the letters beside them; embeddings, overrides and isolates do.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb]")
_ASCII = str.maketrans(
    {
        "→": "->", "←": "<-", "↔": "<->", "×": "x", "…": "...", "–": "-", "—": "-", "−": "-",
        "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "·": "*", "≤": "<=", "≥": ">=",
        "≈": "~", "±": "+-", "✓": "ok", "✗": "x", "\ufffd": "?", "\xa0": " ",
    }
)  # fmt: skip


def encodable(text: str, backslash: str = "\\") -> str:
    """``text`` that UTF-8 can hold: a byte that was none becomes ``\\xNN``, another lone surrogate
    ``\\uNNNN``. ``backslash`` is how the format of the text writes one."""
    return _SURROGATE.sub(lambda m: backslash + _escaped(m[0]), text)


def shown(text: object, most: int = MOST_SHOWN) -> str:
    """``text`` on one line, without what would steer a terminal."""
    clean = encodable(" ".join(re.split(r"\s*[\r\n]+\s*", str(text).strip("\r\n"))))
    cut = clean if len(clean) <= most else clean[:most] + "…"
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", cut.replace("\t", " "))


def by_number(name: str) -> tuple[list[tuple[str, int, str]], str]:
    """A key that sorts names as people number them: ``frame-9`` before ``frame-10``."""
    parts = _NUMBER.split(name)  # what lies between numbers, and numbers, in turn
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    return [(t, len(n), n) for t, n in zip(parts[::2], [*numbers, ""], strict=True)], name


def has_controls(text: str) -> bool:
    """Whether a text holds control characters, line ends or lone surrogates."""
    return _CONTROL.search(text) is not None


def without_directions(text: str) -> str:
    """``text`` without what turns the direction of others' text, as systems put around names."""
    return _STEERING.sub("", text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"u{code:04x}"


def _for_console(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = []
    for character in error.object[error.start : error.end]:
        simple = character.translate(_ASCII)
        if simple != character:
            parts.append(simple)
        elif "\ud800" <= character <= "\udfff":
            parts.append(encodable(character))
        elif "\u2500" <= character <= "\u28ff":  # boxes, bars, spinners
            parts.append("-")
        else:
            parts.append(character.encode("ascii", "backslashreplace").decode("ascii"))
    return "".join(parts), error.end


codecs.register_error(CONSOLE_ERRORS, _for_console)
