"""A real Chromium for the tests of pages, where one is installed; else a reason to skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def find_chromium() -> str:
    """The program: PANOKIT_CHROMIUM, or one on the path. Without one the test is skipped."""
    program = os.environ.get("PANOKIT_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    if program is None:
        pytest.skip(f"no Chromium is installed ({', '.join(NAMES)})")
    return program


@contextmanager
def open_browser() -> Iterator[Any]:
    """A headless browser. Tests without Chromium or playwright are skipped."""
    program = find_chromium()
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Any, **options: Any) -> Iterator[Any]:
    """A page of its own; an error of a script on it fails the test."""
    context = browser.new_context(**options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def listen(message: Any) -> None:
        if "Content Security Policy" in message.text:
            errors.append(message.text)

    page.on("console", listen)
    try:
        yield page
    finally:
        context.close()
    assert errors == []
