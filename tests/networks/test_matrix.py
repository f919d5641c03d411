"""Every kind of network in every format: equal to the module as given, or refused in a sentence.

``docs/operators.md`` holds the outcome of each kind alone; `python scripts/network_kinds.py` makes
it anew. Here the kinds that a format takes stand side by side in networks of some, which is faster,
and those that it refuses are converted alone. Some of them are tried; with PANOKIT_ALL_KINDS=1
all are, which takes a quarter of an hour.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.networks.expected import EXPECTED
from tests.networks.harness import convert_kinds
from tests.networks.kinds import GROUPS, KINDS
from tests.toys.shares import some

pytestmark = [
    pytest.mark.slow,
    # What torch says about some of the networks, and temporary folders of coremltools.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FORMATS = ("onnx", "tflite", "coreml")
TOGETHER = 14  # kinds in one network


def _taken(format: str) -> list[tuple[str, ...]]:
    """The kinds that a format takes, some at a time."""
    lists = []
    for group in GROUPS.values():
        taken = [name for name in group if EXPECTED[format].get(name, "ok") == "ok"]
        names = some(taken, 6)
        lists += [tuple(names[i : i + TOGETHER]) for i in range(0, len(names), TOGETHER)]
    return some(lists, 20)


@pytest.mark.parametrize(
    ("format", "names"),
    [(format, names) for format in FORMATS for names in _taken(format)],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}…",
)
def test_equals_the_module_as_given(format: str, names: tuple[str, ...], tmp_path: Path) -> None:
    outcomes = convert_kinds(names, format, tmp_path)
    assert {name: o for name, o in outcomes.items() if o.word != "ok"} == {}


@pytest.mark.parametrize(
    ("format", "name"),
    [(format, name) for format in FORMATS for name in some(EXPECTED[format], 20)],
)
def test_is_refused_in_a_sentence_or_not_checked(format: str, name: str, tmp_path: Path) -> None:
    outcome = convert_kinds([name], format, tmp_path)[name]
    assert outcome.word == EXPECTED[format][name]
    if outcome.word == "sentence":
        assert f"parts.{name}" in outcome.text
        assert "operator" in outcome.text or "scripted" in outcome.text
    assert not any(inner in outcome.text for inner in ("mhlo", "tensor<", "site-packages", "\n"))


def test_there_are_enough_kinds_and_most_are_taken() -> None:
    """Of 61 kinds of another list 56 in TFLite and 54 in Core ML were the goal."""
    assert len(KINDS) >= 200
    for format in FORMATS:
        assert set(EXPECTED[format]) <= set(KINDS)
        assert len(EXPECTED[format]) <= 0.05 * len(KINDS)
