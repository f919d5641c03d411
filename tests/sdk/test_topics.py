"""`panokit explain`: every topic has a text and a page, and is found by what people type."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from panokit.cli.shell import app
from panokit.errors import ArgumentError
from panokit.topics import find_topic, topics


def test_every_topic_says_something_and_has_a_page() -> None:
    found = topics()
    assert {t.kind for t in found} == {"word", "error", "fault", "lint rule", "recipe"}
    for topic in found:
        assert len(topic.text) > 10, topic
        assert ".html" in topic.page, topic
        assert "{" not in topic.text, topic


@pytest.mark.parametrize(
    ("typed", "kind", "name"),
    [
        ("bgr", "fault", "bgr"),
        ("rotated:90", "fault", "rotated"),
        ("Softplus", "lint rule", "softplus"),
        ("panoptic quality", "word", "panoptic quality (PQ)"),
        ("decoding", "word", "decode, decoding"),
        ("photoerror", "error", "PhotoError"),
        ("int8-mse", "recipe", "int8-mse"),
    ],
)
def test_topics_are_found_by_what_people_type(typed: str, kind: str, name: str) -> None:
    assert (find_topic(typed).kind, find_topic(typed).name) == (kind, name)


def test_an_unknown_topic_names_near_ones() -> None:
    with pytest.raises(ArgumentError, match=r"there is no topic 'rotate'.*Did you mean rotated"):
        find_topic("rotate")


def test_the_command_prints_text_and_page_and_lists_all() -> None:
    said = CliRunner().invoke(app, ["explain", "uv-swapped"]).stdout
    assert "chroma planes" in said
    assert "faults/uv-swapped.html" in said
    said = CliRunner().invoke(app, ["explain"]).stdout
    assert "fault: " in said
    assert "bgr" in said


def test_without_torch_the_other_topics_are_explained() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from panokit.topics import topics;"
        "print(sorted({t.kind for t in topics()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['error', 'fault', 'lint rule', 'word']"
