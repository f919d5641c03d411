"""The gallery's slider in a real Chromium, from a file, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from panokit_demo.gallery import write_gallery
from tests.demo.test_gallery import FakeSegmenter, save
from tests.toys.chromium import open_browser, open_page


def test_the_slider_follows_mouse_and_keys(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    written = write_gallery([save(tmp_path / "a.png", (600, 400))], tmp_path, FakeSegmenter())
    with open_browser() as browser, open_page(browser) as page:
        page.goto(written.page.as_uri())
        slider, stage = page.locator(".stage input"), page.locator(".stage")
        assert slider.input_value() == "50"
        box = stage.bounding_box()
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, y)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.2 * box["width"], y, steps=5)
        page.mouse.up()
        assert abs(int(slider.input_value()) - 20) <= 2
        before = int(slider.input_value())
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert int(slider.input_value()) == before + 2
        cut = stage.evaluate("e => getComputedStyle(e).getPropertyValue('--cut')")
        assert cut == f"{before + 2}%"
        page.locator("[value=photo]").evaluate("e => e.click()")
        assert page.locator(".divider").is_hidden()
