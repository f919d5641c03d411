"""The demo's live camera in Chromium: frames a second, with each effect.

    python -m benchmarks.live_camera [--width 390 --height 844] [--seconds 5]

Chromium's fake camera shows a sample photo, 640 x 480 at 30 frames a second. Without a graphics
card Chromium draws WebGL on the processor too, which a phone does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.toys.chromium import find_chromium
from tests.toys.fake_camera import camera_options, write_clip

EFFECTS = ("segments", "blur", "background", "color")


def measure(page: Page, effect: str, seconds: float) -> str:
    """What the page says of itself after some time with an effect."""
    page.click(f"#live-effects label:has([value={effect}])")
    page.wait_for_selector("#live-about:not(:empty)")
    page.wait_for_timeout(1000 * seconds)
    return page.inner_text("#live-about")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=390)
    parser.add_argument("--height", type=int, default=844)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    program = [sys.executable, "-c", "from panokit.cli import main; main()"]
    command = [*program, "demo", "--no-browser", "--port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        sync_playwright() as playwright,
    ):
        clip = Path(folder) / "clip.y4m"
        write_clip(clip)
        assert server.stdout is not None
        url = server.stdout.readline().split()[3]
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=camera_options(clip)
        )
        context = browser.new_context(
            viewport={"width": args.width, "height": args.height}, permissions=["camera"]
        )
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        page.click("#live-start")
        print(f"Chromium {browser.version}, {os.cpu_count()} cores, {args.width} x {args.height}")
        for effect in EFFECTS:
            print(f"  {effect:12}{measure(page, effect, args.seconds)}")
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
