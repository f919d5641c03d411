"""The report's page: text is text, whatever it says; differences need the same photos."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import MissingExtraError
from panokit_lab import report as report_module
from panokit_lab.comparison import compare
from panokit_lab.report import write_report
from panokit_lab.results import Latency, RecipeResult, Results
from panokit_lab.search import Timed
from tests.toys.results import RESULT_JSON

NAME = "int8 <b>&amp;"


def finished(name: str, pq: float, photo: str = "a.jpg") -> RecipeResult:
    data: dict[str, Any] = copy.deepcopy(RESULT_JSON)
    data["recipe"]["name"] = name
    quality = data["artifacts"]["tflite"]["quality"]
    quality["pq"]["all"] = quality["pq"]["per_class"]["person"]["pq"] = pq
    quality["per_photo"][0] |= {"name": photo, "pq": pq}
    return RecipeResult.from_json(data)


def test_artifacts_are_compared_with_the_float_network() -> None:
    results = {r.name: r for r in (finished(NAME, 48.5), finished("float32", 50.0))}
    rows = compare(results)
    assert [(row.recipe, row.format) for row in rows] == [
        ("float32", "tflite"), ("float32", "coreml"), (NAME, "tflite"), (NAME, "coreml")
    ]  # fmt: skip
    assert [row.pq_change for row in rows] == [0, None, -1.5, None]
    (changed,) = rows[2].classes
    assert (changed.name, changed.change) == ("person", -1.5)
    (worst,) = rows[2].worst_photos
    assert (worst.photo, worst.before, worst.after) == ("a.jpg", 50.0, 48.5)


def test_other_photos_cannot_be_compared() -> None:
    results = {r.name: r for r in (finished("float32", 50.0), finished("int8", 48.5, "z.jpg"))}
    row = compare(results)[2]
    assert (row.recipe, row.pq_change, row.classes, row.worst_photos) == ("int8", None, (), ())


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished recipes whose files are not timed."""
    for result in (finished("float32", 50.0), finished(NAME, 48.5)):
        (tmp_path / result.network / result.name).mkdir(parents=True)
        path = tmp_path / result.network / result.name / "result.json"
        path.write_text(json.dumps(result.to_json()))

    def timed(out: Path, results: Results, *_: object) -> Timed:
        found = RESULT_JSON["artifacts"]["tflite"]["latency"]["1"]
        one = Latency.from_json({**found, "name": "<i>peer</i>"})
        return Timed(results, (one, replace(one, threads=2)))

    monkeypatch.setattr(report_module, "timed", timed)
    monkeypatch.setattr(report_module, "THREADS", (1,))
    return tmp_path / "camera"


def test_names_are_text_on_the_page_not_markup(runs: Path, tmp_path: Path) -> None:
    found = write_report(runs, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<th>int8 &lt;b&gt;&amp;amp;</th>" in page
    assert "<summary>int8 &lt;b&gt;&amp;amp; (tflite)</summary>" in page
    assert "&lt;i&gt;peer&lt;/i&gt;" in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "person -1.5" in page
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert written == found.to_json()
    assert NAME in (tmp_path / "report" / "report.md").read_text()


def test_without_jinja2_the_extra_is_named_before_the_work(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"panokit compress report.*'export' extra"):
        write_report(runs, tmp_path / "report")
    assert not (tmp_path / "report").exists()
