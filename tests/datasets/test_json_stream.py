"""Annotation files read entry by entry, and a run's journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panokit_datasets import json_stream
from panokit_datasets.json_stream import JsonIndex, as_id, scan
from panokit_datasets.problems import LabelError


def entries(path: Path) -> list[tuple[str, int, Any]]:
    return [(e.name, e.place, e.value) for e in scan(path)]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("bom", [False, True])
def test_entries_are_those_of_json(
    block: int, indent: int | None, bom: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data: dict[str, Any] = {
        "info": {"a": [1, 2.5, None, True]}, "empty": [], "version": 12345,
        "images": [{"id": i, "name": f'é"\\{i}'} for i in range(5)],
        "numbers": [1, 23, 456, -7.5e3], "nested": [[1, [2]], {"x": []}], "none": None,
    }  # fmt: skip
    path = tmp_path / "a.json"
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    path.write_text(text, encoding="utf-8-sig" if bom else "utf-8")
    monkeypatch.setattr(json_stream, "BLOCK", block)
    found: dict[str, Any] = {}
    for name, place, value in entries(path):
        if place < 0:
            found[name] = value
        else:
            found.setdefault(name, []).append(value)
    assert found == {k: v for k, v in data.items() if v != []}
    raw = path.read_bytes()
    for entry in scan(path):
        assert json.loads(raw[entry.offset : entry.offset + entry.length]) == entry.value
    path.write_text(json.dumps([1, {"a": 2}]), encoding="utf-8")
    assert entries(path) == [("", 0, 1), ("", 1, {"a": 2})]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": [1, 2}', "expected ',' or ']'"),
        ('{"a" 1}', "a name and a colon"),
        ('{"a": 1', "expected ',' or '}'"),
        ('{"a": [{"b": nul}]}', "Expecting value"),
        ('{"a": 1} x', "the end of the file"),
        ("7", "an object or a list"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ('{"a": ' + "[" * 5000, "JSON"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LabelError, match=why):
        entries(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_named(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding=encoding)
    with pytest.raises(LabelError, match="UTF-8"):
        entries(tmp_path / "a.json")


def test_bytes_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": ["\xff\xfe\xfd"]}')
    with pytest.raises(LabelError, match="UTF-8"):
        entries(tmp_path / "a.json")


def test_ids_as_tools_write_them() -> None:
    assert [as_id(v) for v in (7, "7", " 7 ", 7.0, "a_1", 7.5, None, True, "", [1])] == [
        7, 7, 7, 7, "a_1", None, None, None, None, None,
    ]  # fmt: skip
    assert as_id(float("nan")) is None
    assert as_id("9" * 30) == "9" * 30


def test_an_index_groups_entries_by_their_photo(tmp_path: Path) -> None:
    data = {
        "images": [{"id": 1}, {"id": "2"}, {"id": 2}, {"no": 1}],
        "annotations": [{"id": i % 4, "image_id": 1 + i % 2, "n": i} for i in range(6)],
        "categories": [{"id": 1}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    index = JsonIndex(path, {"images": "id", "annotations": "image_id"}, unique="annotations")
    assert index.ids("images") == [1, 2]
    assert [r["n"] for r in index.rows("annotations", 2)] == [1, 3, 5]
    assert index.rows("annotations", 9) == []
    assert len(index.rows("images", 2)) == 2
    assert index.odd == [("images", 3, {"no": 1})]
    assert (index.texts, index.twice, index.has_zero) == (1, [0, 1], True)
    assert index.values["categories"] == [{"id": 1}]
