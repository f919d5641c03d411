"""Changes of bytes and of JSON that a sound file gets."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "HOSTILE_VALUES",
    "changed_bytes",
    "changed_files",
    "changed_json",
    "hostile_text",
    "places",
]

Place = tuple[str | int, ...]

HOSTILE_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "minus one": -1,
    "2": 2,
    "127": 127,
    "32-bit": 2**31 - 1,
    "below 32-bit": -(2**31),
    "64-bit": 2**63,
    "400 digits": 10**400,
    "half": 0.5,
    "tiny": 5e-324,
    "huge": 1.7e308,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "no text": "",
    "a letter": "a",
    "digits": "1",
    "300 letters": "n" * 300,
    "a million letters": "n" * 1_000_000,
    "190 letters of four bytes": "\U0001f408" * 190,
    "controls": "a\x1b]0;owned\x07\x1b[31m\x9b2J",
    "nul": "a\x00b",
    "right to left": "a\u202eb",
    "a lone surrogate": "a\ud800b",
    "a path up": "../../etc/passwd",
    "a path of the root": "/etc/passwd",
    "markup": "<script>alert(1)</script>",
    "no list": [],
    "a list of nothing": [None],
    "numbers": [1, 2, 3],
    "nine numbers": [1] * 9,
    "a deep list": [[[[[[[[1]]]]]]]],
    "100,000 numbers": [7] * 100_000,
    "no object": {},
    "an object": {"a": 1},
    "an object of itself": {"name": {"name": {"name": "x"}}},
}
"""What a field of JSON may hold that its reader does not expect."""


def places(data: Any, before: Place = ()) -> Iterator[Place]:
    """Every field of JSON, those of lists by their first entry alone: the others are alike."""
    yield before
    entries = data.items() if isinstance(data, dict) else enumerate(data[:1]) if (
        isinstance(data, list)
    ) else ()  # fmt: skip
    for key, value in entries:
        yield from places(value, (*before, key))


def changed_json(data: Any, place: Place, value: Any) -> Any:
    """A copy with another value at a place."""
    if not place:
        return value
    made = copy.deepcopy(data)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return made


def hostile_text(data: Any, place: Place, rng: np.random.Generator) -> str:
    """JSON in which a field is missing, stands twice, or is cut off."""
    text = json.dumps(data)
    luck = rng.integers(3)
    if luck == 0 and place and isinstance(place[-1], str):
        made = copy.deepcopy(data)
        inner = made
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]
        return json.dumps(made)
    if luck == 1 and place and isinstance(place[-1], str):
        key = json.dumps(place[-1])
        return text.replace(f"{key}:", f"{key}: 1, {key}:", 1)
    return text[: int(rng.integers(1, len(text)))]


def changed_files(
    path: Path, head: int, count: int, rng: np.random.Generator, whole_each: int
) -> list[Path]:
    """The sound file at ``path``, and beside it ``count`` with other bytes: most among the first
    ``head``, each ``whole_each``-th anywhere."""
    content, files = path.read_bytes(), [path]
    end = path.name.removeprefix("sound")
    for number in range(count):
        files.append(path.with_name(f"{number}{end}"))
        front = changed_bytes(content[:head], rng) + content[head:]
        files[-1].write_bytes(front if number % whole_each else changed_bytes(content, rng))
    return files


def changed_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """One to eight bytes at random, one or two 32-bit numbers that hurt, a cut, a piece moved."""
    data = np.frombuffer(content, np.uint8).copy()
    places_of = rng.integers(0, max(len(data) - 4, 1), rng.integers(1, 9))
    kind = rng.integers(8)
    if kind < 3:
        data[places_of] = rng.integers(0, 256, len(places_of))
    elif kind < 6:
        for place in (places_of[:2] // 4) * 4:
            evil = (0, 1, -1, 2**31 - 1, -(2**31), len(data), int(rng.integers(300)))
            number = struct.pack("<i", evil[rng.integers(len(evil))])
            data[place : place + 4] = list(number)[: len(data) - place]
    elif kind == 6:
        data = data[: int(rng.integers(len(data)))]
    else:
        first, second = sorted(int(p) for p in rng.integers(0, len(data), 2))
        size = min(int(rng.integers(1, 64)), len(data) - second)
        data[second : second + size] = data[first : first + size].copy()
    return data.tobytes()
