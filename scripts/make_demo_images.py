"""Make the pictures of docs/demo.md: the running demo in a headless Chromium.

    python -m scripts.make_demo_images [--bundle BUNDLE …]

Needs Chromium and, for "this device", LiteRT.js (scripts/install_litertjs.py).
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Playwright, sync_playwright

from tests.toys.chromium import find_chromium
from tests.toys.fake_camera import camera_options, write_clip

OUT = Path(__file__).parent.parent / "docs" / "images"
PROGRAM = Path(sys.executable).with_name("panokit")
MOST_BYTES = 600_000
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 820}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


@contextmanager
def running(options: list[str]) -> Iterator[str]:
    """The address of a demo server."""
    command = [str(PROGRAM), "demo", "--no-browser", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[3]
        finally:
            if os.name == "nt":
                server.terminate()
            else:
                server.send_signal(signal.SIGINT)


def keep(page: Any, name: str) -> None:
    """A screenshot; one that is too large gets fewer colours."""
    page.mouse.move(2, 2)
    page.wait_for_selector("#busy", state="hidden")
    page.wait_for_timeout(400)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = OUT / f"demo-{name}.png"
    image.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def start(page: Any, url: str, sample: str) -> None:
    """Open the page and a sample."""
    page.goto(url)
    page.wait_for_selector("body[data-ready=yes]")
    page.click(f"[data-sample={sample}]")
    page.wait_for_selector("#bench:not([hidden])")


def blur(page: Any, percent: int, at: tuple[float, float]) -> None:
    """Tap, and blur what is behind."""
    page.click("#tab-edit")
    box = page.locator("#marks").bounding_box()
    page.locator("#marks").click(position={"x": at[0] * box["width"], "y": at[1] * box["height"]})
    page.locator("#blur").fill(str(percent))
    page.wait_for_selector("#edit-message:not(:empty)")


def live(playwright: Playwright, url: str) -> None:
    """The live camera with another background, on a phone's width."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.y4m"
        write_clip(clip)
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=camera_options(clip)
        )
        page = browser.new_context(**PHONE, permissions=["camera"]).new_page()
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        page.click("#live-start")
        page.click("#live-effects label:has([value=background])")
        page.wait_for_selector("#live-about:not(:empty)")
        page.wait_for_timeout(3000)
        keep(page, "live")
        browser.close()


def main() -> None:
    """Write demo-desktop, -phone, -dark, -device and -live."""
    with running(sys.argv[1:]) as url, sync_playwright() as playwright:
        live(playwright, url)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_context(**DESKTOP).new_page()
        start(page, url, "astronaut")
        keep(page, "desktop")
        page = browser.new_context(**PHONE).new_page()
        start(page, url, "grace_hopper")
        blur(page, 70, (0.5, 0.4))
        keep(page, "phone")
        page = browser.new_context(**DESKTOP, color_scheme="dark").new_page()
        start(page, url, "astronaut")
        page.locator("#compare").check()
        blur(page, 75, (0.42, 0.3))
        keep(page, "dark")
        page = browser.new_context(viewport={"width": 1280, "height": 880}).new_page()
        start(page, url, "grace_hopper")
        page.click("#tab-device")
        page.click("#run-device")
        page.wait_for_selector("#device-verdict:not([hidden])", timeout=60_000)
        keep(page, "device")
        browser.close()


if __name__ == "__main__":
    main()
