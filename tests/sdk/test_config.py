"""Settings from JSON: types, places in messages, nesting, and back again."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest

from panokit.config import read_settings, read_settings_file, write_settings
from panokit.errors import ArgumentError


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    size: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    flag: bool = False
    color: Color = Color.RED
    kind: Literal["a", "b"] = "a"
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[Inner, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    maybe: int | None = None


WHOLE = Outer(
    "x", Inner(3), True, Color.BLUE, "b", (1.0, 2.0), (Inner(1), Inner(2, 0.25)), {"p": 2.0}, 7
)


def test_what_is_written_is_read_back() -> None:
    data = write_settings(WHOLE)
    assert data["many"] == [{"size": 1, "share": 0.5}, {"size": 2, "share": 0.25}]
    assert data["color"] == "blue"
    assert read_settings(Outer, data) == WHOLE
    assert read_settings(Outer, {"name": "y", "inner": {"size": 4}}) == Outer("y", Inner(4))


def test_whole_numbers_are_numbers_and_the_reverse() -> None:
    assert read_settings(Inner, {"size": 3.0, "share": 1}) == Inner(3, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": 3}, r"settings\.inner is .*; expected a JSON object"),
        ({"inner": {"size": "3"}}, r"settings\.inner\.size is .*; expected a whole number"),
        ({"inner": {"size": 3.5}}, r"settings\.inner\.size is .*; expected a whole number"),
        ({"inner": {"size": True}}, r"settings\.inner\.size is .*; expected a whole number"),
        (
            {"inner": {"size": 1, "share": float("nan")}},
            r"settings\.inner\.share is .*; expected a number",
        ),
        ({"inner": {}}, r"settings\.inner lacks 'size'"),
        ({"flag": 1}, r"settings\.flag is .*; expected true or false"),
        ({"color": "green"}, r"settings\.color is .*; expected one of: red, blue"),
        ({"kind": "c"}, r"settings\.kind is .*; expected one of: a, b"),
        ({"pair": [1]}, r"settings\.pair is .*; expected a list of 2"),
        ({"pair": "12"}, r"settings\.pair is .*; expected a list"),
        ({"many": [{"size": 1}, {"size": None}]}, r"settings\.many\[1\]\.size"),
        ({"weights": {"p": "x"}}, r"settings\.weights\.p is .*; expected a number"),
        ({"maybe": "x"}, r"settings\.maybe is .*; expected a whole number"),
        ({"name": 5}, r"settings\.name is .*; expected text"),
        ({"colour": "red"}, r"\['colour'\].*did you mean 'color'\?"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
)
def test_what_is_refused_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read_settings(Outer, {"name": "x", "inner": {"size": 1}, **change})


def test_a_name_that_means_nothing_any_more_is_left_out() -> None:
    assert read_settings(Inner, {"size": 1, "old": 2}, ignore={"old"}) == Inner(1)


def test_files_with_a_byte_order_mark_and_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(b'\xef\xbb\xbf{"size": 2}')
    assert read_settings_file(Inner, path) == Inner(2)
    path.write_text("{")
    with pytest.raises(ArgumentError, match="cannot be read from"):
        read_settings_file(Inner, path)
    with pytest.raises(ArgumentError, match="cannot be read from"):
        read_settings_file(Inner, tmp_path / "none.json")
