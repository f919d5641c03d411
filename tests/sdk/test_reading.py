"""Text as other systems write it, and files that no user made."""

from __future__ import annotations

from pathlib import Path

import pytest

from panokit._reading import is_sidecar, open_text, parse_json, read_json


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-le"]
)
def test_json_and_text_are_read_in_every_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"name":\n "Füße 🐕"}', encoding=encoding)
    assert read_json(path) == {"name": "Füße 🐕"}
    with open_text(path) as lines:
        assert list(lines) == ['{"name":\n', ' "Füße 🐕"}']


def test_an_empty_text_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with open_text(tmp_path / "x") as lines:
        assert list(lines) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"\xef\xbb\xbf", b'{"a": "\xe9"}', b"[" * 100_000, b"\xff\xfe{", b'"\xed\xa0\x80"'],
    ids=["empty", "mark", "latin-1", "deep", "torn", "surrogate"],
)
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        (".DS_Store", True), ("a/b/._x.jpg", True), ("__MACOSX/x.jpg", True), ("Thumbs.db", True),
        ("sub\\DESKTOP.INI", True), ("@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg", True), ("Icon\r", True),
        ("x.jpg", False), ("_x.jpg", False), ("a.DS_Store", False), (".x.jpg", False),
        ("desktop.ini.json", False),
    ],
)  # fmt: skip
def test_what_systems_put_into_folders(name: str, theirs: bool) -> None:
    assert is_sidecar(name) == theirs
