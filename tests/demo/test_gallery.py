"""The gallery: one page, whole, well formed, with nothing from outside and nothing unescaped."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.errors import ArgumentError, MissingExtraError, OutputError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult, Segment
from panokit.taxonomy import Category, Taxonomy
from panokit_demo.gallery import DISPLAY_SIDE, write_gallery

pytest.importorskip("jinja2")

VOID_ELEMENTS = {"meta", "img", "input", "br", "link", "hr"}
EVIL = """<img src=x onerror=alert(1)> "&'.png"""


class FakeSegmenter:
    """Says that the left half of every photo is a person and the rest a wall, unless black."""

    taxonomy = Taxonomy(
        "toy", (Category(1, "person", True, (255, 0, 0)), Category(2, "<wall>", False, (0, 0, 9)))
    )

    def segment(self, photo: Photo, /) -> PanopticResult:
        w, h = photo.size_wh
        ids = np.full((h, w), 2, np.int32)
        person = bool(photo.rgb_hwc.any())
        if person:
            ids[:, : w // 2] = 1
        segments = tuple(
            Segment(i, self.taxonomy.get(i), 0.5, int((ids == i).sum()), (0, 0, w, h))
            for i in ((1, 2) if person else (2,))
        )
        transform = letterbox((w, h), (320, 320))
        return PanopticResult(photo, ids, segments, self.taxonomy, transform, "toy-int8")


class Page(HTMLParser):
    """Checks that tags nest, and keeps elements with their attributes and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def save(path: Path, size_wh: tuple[int, int] = (60, 40), value: int = 120) -> Path:
    Image.new("RGB", size_wh, (value, value, value)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """A person, an evil name, no person, damaged, missing, and one pixel."""
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no photo")
    return [
        save(tmp_path / "first.png"),
        save(tmp_path / EVIL),
        save(tmp_path / "black.png", value=0),
        damaged,
        tmp_path / "missing.jpg",
        save(tmp_path / "pixel.png", (1, 1)),
    ]


def test_the_page_shows_every_photo_and_every_failure(photos: list[Path], tmp_path: Path) -> None:
    result = write_gallery(photos, tmp_path / "out", FakeSegmenter())
    assert result.page == tmp_path / "out" / "index.html"
    page = Page(result.page.read_text(encoding="utf-8"))
    assert len(page.all("article")) == 6
    for photo in photos:
        assert photo.name in page.text
    assert [e.photo.name for e in result.failures] == ["damaged.jpg", "missing.jpg"]
    assert "damaged.jpg: is not a photo in a known format" in page.text
    assert "missing.jpg: no such file" in page.text
    assert str(tmp_path) not in page.text
    assert result.entries[0].counts == {"person": 1}
    assert result.entries[0].effect_applied
    assert not result.entries[2].effect_applied
    # Left half person, right half wall: the class names are escaped too.
    assert re.search(r"1 × person\s+50\.0 %", page.text)
    assert re.search(r"<wall>\s+50\.0 %", page.text)
    assert "toy-int8" in page.text
    assert "No person was found" in page.text


def test_file_names_are_escaped(photos: list[Path], tmp_path: Path) -> None:
    result = write_gallery(photos, tmp_path / "out.html", FakeSegmenter())
    page = Page(result.page.read_text(encoding="utf-8"))
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert any((a["alt"] or "").startswith(f"The photo {EVIL}: ") for a in page.all("img"))
    assert len(page.all("script")) == 1


def test_the_page_needs_nothing_from_outside(photos: list[Path], tmp_path: Path) -> None:
    html = write_gallery(photos, tmp_path / "out", FakeSegmenter()).page.read_text("utf-8")
    page = Page(html)
    sources = [a["src"] or "" for a in page.all("img")]
    # Photo and overlay of four photos, and a blur for three of them.
    assert len(sources) == 4 * 2 + 3
    assert all(s.startswith("data:image/jpeg;base64,") for s in sources)
    assert page.all("link") == []
    assert all("src" not in a for a in page.all("script"))
    assert not re.search(r"https?:|url\(|@import", html)


def test_the_page_can_be_used_by_keyboard_and_screen_reader(
    photos: list[Path], tmp_path: Path
) -> None:
    page = Page(write_gallery(photos, tmp_path, FakeSegmenter()).page.read_text("utf-8"))
    assert page.all("html") == [{"lang": "en"}]
    assert all(a["alt"] for a in page.all("img"))
    ranges = {a["id"] for a in page.all("input") if a["type"] == "range"}
    assert len(ranges) == 4
    assert ranges == {a["for"] for a in page.all("label") if "for" in a}
    disabled = [a for a in page.all("input") if "disabled" in a]
    assert [a["value"] for a in disabled] == ["blur"]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_pictures_are_shrunk_for_display(tmp_path: Path) -> None:
    photo = save(tmp_path / "wide.png", (3000, 30))
    result = write_gallery([photo], tmp_path, FakeSegmenter())
    source = Page(result.page.read_text("utf-8")).all("img")[0]["src"] or ""
    data = base64.b64decode(source.partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (DISPLAY_SIDE, 10)


def test_names_that_are_no_utf8_are_shown_with_a_mark(tmp_path: Path) -> None:
    result = write_gallery([tmp_path / "caf\udce9.jpg"], tmp_path, FakeSegmenter())
    assert "caf?.jpg: no such file" in Page(result.page.read_text("utf-8")).text
    assert result.to_json()["photos"][0]["photo"].endswith("caf?.jpg")


def test_a_photo_where_nothing_is_found(tmp_path: Path) -> None:
    class Blind(FakeSegmenter):
        def segment(self, photo: Photo, /) -> PanopticResult:
            found = super().segment(photo)
            return replace(found, id_map=np.zeros_like(found.id_map), segments=())

    result = write_gallery([save(tmp_path / "a.png")], tmp_path, Blind())
    text = Page(result.page.read_text("utf-8")).text
    assert re.search(r"no class\s+100\.0 %", text)


def test_progress_wraps_the_photos(tmp_path: Path) -> None:
    seen: list[str] = []

    def progress(photos: Sequence[Path]) -> Iterable[Path]:
        for photo in photos:
            seen.append(photo.name)
            yield photo

    write_gallery([save(tmp_path / "a.png")] * 2, tmp_path, FakeSegmenter(), progress)
    assert seen == ["a.png", "a.png"]


def test_a_failed_run_leaves_the_old_page(tmp_path: Path) -> None:
    class Broken(FakeSegmenter):
        def segment(self, photo: Photo, /) -> PanopticResult:
            raise RuntimeError("broken")

    page = tmp_path / "page.html"
    page.write_text("old")
    photo = save(tmp_path / "a.png")
    with pytest.raises(RuntimeError):
        write_gallery([photo], page, Broken())
    assert page.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "page.html"]


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    photo = save(tmp_path / "a.png")
    with pytest.raises(ArgumentError, match=r"out is .*; expected a folder, or a page"):
        write_gallery([photo], photo, FakeSegmenter())
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ArgumentError, match=r"out is .*; expected a folder, or a page"):
        write_gallery([photo], tmp_path / "folder.html", FakeSegmenter())
    with pytest.raises(ArgumentError, match="there are no photos"):
        write_gallery([], tmp_path, FakeSegmenter())
    with pytest.raises(OutputError, match=r"a\.png is a file; expected a folder"):
        write_gallery([photo], photo / "page.html", FakeSegmenter())


def test_without_jinja2_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e .*\[demo\]"):
        write_gallery([save(tmp_path / "a.png")], tmp_path, FakeSegmenter())
