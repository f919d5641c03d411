"""The tutorials: their code and commands run, and say and show what the pages show."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.toys import tutorials
from tests.toys.chromium import find_chromium

ROOT = Path(__file__).parent.parent
NEEDS = {"start": "skimage", "tutorials/mobile": "litert_torch"}
ALIKE = 6.0  # mean difference of 0..255; another processor rounds an outline differently


@pytest.mark.slow
@pytest.mark.parametrize("name", tutorials.PAGES)
def test_a_tutorial_runs(name: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS.get(name, "skimage"))
    page = ROOT / "docs" / f"{name}.md"
    tutorials.run_page(page, tmp_path)
    for file, shown in tutorials.pictures_of(page):
        if file.endswith(".html"):
            find_chromium()  # without one the rest of the page has been proved, and it is skipped
        assert tutorials.difference(tmp_path / file, shown) < ALIKE, (
            f"{shown} shows something else; run scripts/make_tutorial_pictures.py {name}"
        )


def test_every_tutorial_is_run_and_has_a_picture() -> None:
    pages = {f"tutorials/{p.stem}" for p in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert pages | {"start"} == set(tutorials.PAGES)
    for name in pages:
        assert list(tutorials.pictures_of(ROOT / "docs" / f"{name}.md")), name


def test_a_page_that_lies_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one\ntwo\n```\n")
    with pytest.raises(AssertionError, match="'two' is not in what"):
        tutorials.run_page(page, tmp_path)
    page.write_text("```console\n$ exit 3\n```\n")
    with pytest.raises(AssertionError):
        tutorials.run_page(page, tmp_path)
    page.write_text("<!-- exit: 3 -->\n```console\n$ exit 3\n```\n```python\nassert False\n```\n")
    with pytest.raises(AssertionError):
        tutorials.run_page(page, tmp_path)


def test_a_picture_of_something_else_is_found(tmp_path: Path) -> None:
    Image.new("RGB", (840, 420), "red").save(tmp_path / "made.png")
    page = tmp_path / "page.md"
    page.write_text("<!-- picture: made.png -->\n![What was made](shown.webp)\n")
    ((file, shown),) = tutorials.pictures_of(page)
    for color, far in (("red", False), ("blue", True)):
        Image.new("RGB", (420, 210), color).save(shown, lossless=True)
        assert (tutorials.difference(tmp_path / file, shown) > ALIKE) is far
