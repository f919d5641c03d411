"""The live camera: its JavaScript against Python's, and the page with Chromium's fake camera."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit.decoding import DecodedSegment, PanopticMap
from panokit.effects.whole import _filled
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult
from panokit.taxonomy import Category, Taxonomy
from panokit.tracking import Tracker
from panokit.video import MapSmoother
from panokit_demo.litertjs import find_litertjs
from tests.toys.chromium import find_chromium, open_page
from tests.toys.fake_camera import camera_options, write_clip

JS = Path(__file__).parents[2] / "demo_app" / "panokit_demo" / "static" / "js"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


def node(code: str, folder: Path, data: Any) -> Any:
    """What code prints as JSON, given ``data``; ``js/NAME`` in it is a module of the page."""
    script, given = folder / "run.mjs", folder / "data.json"
    given.write_text(json.dumps(data))
    head = 'import { readFileSync } from "node:fs";\n'
    head += f"const data = JSON.parse(readFileSync({str(given)!r}));\n"
    script.write_text(head + re.sub(r'"js/(\w+)"', rf'"{JS.as_uri()}/\1.js"', code))
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def moving_boxes(frames: int, seed: int) -> list[NDArray[np.int32]]:
    """Maps [60,80] with boxes that move, come late, and are hidden for a while."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 50, (6, 2))
    step = rng.uniform(-2.5, 2.5, (6, 2))
    maps = []
    for frame in range(frames):
        ids = np.zeros((60, 80), np.int32)
        for n in rng.permutation(6):
            if (frame < 3 * n) or (n % 2 and 10 <= frame % 16 < 14):
                continue
            x, y = (start[n] + frame * step[n]).astype(int)
            ids[max(0, y) : max(0, y + 12), max(0, x) : max(0, x + 9)] = n + 1
        maps.append(ids)
    return maps


@needs_node
@pytest.mark.parametrize("seed", range(4))
def test_tracks_are_those_of_python(tmp_path: Path, seed: int) -> None:
    taxonomy = Taxonomy("toy", tuple(Category(i, f"c{i}", True, (0, 0, 0)) for i in range(1, 4)))
    maps = moving_boxes(40, seed)
    photo = Photo.from_array(np.zeros((60, 80, 3), np.uint8))
    transform = letterbox((80, 60), (80, 60))
    tracker = Tracker(patience=6)
    expected = []
    for frame, ids in enumerate(maps):
        unsure = {n for n in range(1, 7) if n * frame % 5 == 1}
        segments = tuple(DecodedSegment(n, n % 3, True, 0.9, 1) for n in range(1, 7))
        result = PanopticResult.from_map(photo, PanopticMap(ids, segments), taxonomy, transform)
        expected.append({str(i): t.number for i, t in tracker.update(result, unsure).items()})
    code = """
import { Tracker } from "js/tracking";
const tracker = new Tracker(6);
console.log(JSON.stringify(data.map((rows, frame) => {
  const ids = Int32Array.from(rows.flat());
  const there = [...new Set(ids)].filter(Boolean).sort((a, b) => a - b);
  const segments = there.map((id) => ({ id, category_id: id % 3, isthing: 1 }));
  const unsure = new Set(there.filter((id) => (id * frame) % 5 === 1));
  const tracks = tracker.update(ids, [60, 80], segments, unsure);
  return Object.fromEntries([...tracks].map(([id, track]) => [id, track.number]));
})));
"""
    assert node(code, tmp_path, [m.tolist() for m in maps]) == expected
    assert len({n for frame in expected for n in frame.values()}) >= 5


@needs_node
def test_maps_are_steadied_as_in_python(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = np.kron(rng.integers(0, 4, (6, 8)), np.ones((8, 8), int)).astype(np.int32)
    picture = np.kron(rng.integers(0, 255, (6, 8)), np.ones((8, 8), int)).astype(np.uint8)
    smoother = MapSmoother()
    frames, expected = [], []
    for frame in range(30):
        labels = np.where(rng.random(base.shape) < 0.1, rng.integers(0, 4, base.shape), base)
        grey = picture.copy()
        if 8 <= frame < 14:
            grey[10:22, 3 * frame - 20 : 3 * frame] = 250
        if frame == 20:
            grey = 255 - grey  # a cut
        grey = np.clip(grey.astype(int) + rng.integers(-2, 3, grey.shape), 0, 255)
        rgb = np.repeat(grey.astype(np.uint8)[..., None], 3, -1)
        expected.append(smoother.update(labels.astype(np.int32), rgb).ravel().tolist())
        frames.append([labels.ravel().tolist(), rgb.ravel().tolist()])
    code = """
import { MapSmoother, Motion } from "js/tracking";
const [smoother, motion] = [new MapSmoother(8), new Motion(4)];
console.log(JSON.stringify(data.map(([labels, rgb]) => {
  const moving = motion.update(Uint8Array.from(rgb), [48, 64], 3);
  return [...smoother.update(Int32Array.from(labels), [48, 64], moving, 4)];
})));
"""
    assert node(code, tmp_path, frames) == expected
    assert any(a != f[0] for a, f in zip(expected, frames, strict=True))  # it did something


@needs_node
def test_islands_are_filled_as_in_python(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    cases, expected = [], []
    for _ in range(12):
        mask = np.zeros((60, 80), bool)
        mask[10:50, 15:65] = True
        colors = np.full((60, 80, 3), (40, 90, 160), np.uint8)
        colors[10:50, 15:65] = (200, 120, 40)
        things = np.zeros_like(mask)
        for _ in range(5):
            y, x = rng.integers(12, 42), rng.integers(17, 57)
            h, w = rng.integers(2, 8, 2)
            mask[y : y + h, x : x + w] = False
            if rng.random() < 0.5:  # one sees through it
                colors[y : y + h, x : x + w] = (40, 90, 160)
            if rng.random() < 0.2:
                things[y : y + h, x : x + w] = True
        colors = np.clip(colors + rng.integers(-12, 13, colors.shape), 0, 255).astype(np.uint8)
        things &= ~mask
        expected.append((_filled(mask, colors, things) & ~things | mask).ravel().tolist())
        data = np.concatenate([colors, np.zeros((60, 80, 1), np.uint8)], -1)
        cases.append(
            [mask.ravel().astype(int).tolist(), data.ravel().tolist(), things.ravel().tolist()]
        )
    code = """
import { fillIslands } from "js/islands";
console.log(JSON.stringify(data.map(([mask, colors, things]) => {
  const matte = Float32Array.from(mask);
  fillIslands(matte, { data: Uint8Array.from(colors), size: [80, 60] }, (i) => things[i]);
  return [...matte].map((v) => v >= 0.5);
})));
"""
    assert node(code, tmp_path, cases) == expected
    changed = [e != [bool(v) for v in c[0]] for e, c in zip(expected, cases, strict=True)]
    assert any(changed)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with a fake camera."""
    program = find_chromium()
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("skimage")
    clip = tmp_path_factory.mktemp("camera") / "clip.y4m"
    write_clip(clip)
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=camera_options(clip))
        try:
            yield opened
        finally:
            opened.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("fastapi")
    program = (sys.executable, "-c", "from panokit.cli import main; main()", "demo")
    command = [*program, "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "Panokit demo at http://127.0.0.1:" in line
        yield line.split()[3]
        server.send_signal(signal.SIGINT)
        server.wait(20)


def shown(page: Any) -> NDArray[np.int64]:
    """The canvas as the page shows it."""
    picture = page.locator("#live-view").screenshot()
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def frames_shown(page: Any) -> int:
    return int(page.get_attribute("#viewfinder", "data-frames") or 0)


def more_frames(page: Any, count: int = 4) -> None:
    wanted = frames_shown(page) + count
    for _ in range(400):
        if frames_shown(page) >= wanted:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"no {count} frames in 20 seconds: {page.inner_text('body')}")


@pytest.mark.slow
def test_the_live_camera(browser: Any, url: str) -> None:
    if find_litertjs() is None:
        pytest.skip("LiteRT.js is not installed (panokit demo --install-litertjs)")
    size = {"width": 390, "height": 844}
    with open_page(browser, viewport=size, permissions=["camera"]) as page:
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        page.click("#live-start")
        more_frames(page, 8)
        assert "person 1" in page.inner_text("#live-found")
        assert re.search(r"\d+ frames a second .* network \d+ ms", page.inner_text("#live-about"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#live-effects label:has([value=background])")
        more_frames(page)
        picture = shown(page)
        h, w = picture.shape[:2]
        # The corners are the gradient; the face is in the middle, in its own colours.
        for corner in (picture[2, 2], picture[2, w - 3]):
            assert np.abs(corner - [41, 77, 107]).max() < 12
        face = picture[int(0.28 * h), int(0.35 * w) : int(0.65 * w)]
        assert (face[:, 0] > face[:, 2] + 25).sum() > 20
        page.click("#live-effects label:has([value=blur])")
        page.locator("#live-strength").fill("100")
        more_frames(page)
        box = page.locator("#live-view").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 0.7 * box["height"])
        more_frames(page)
        page.click("#live-shutter")
        page.wait_for_selector("#bench:not([hidden])")
        assert re.match(r"camera-\d{8}-\d{6}\.jpg · 640 × 480", page.inner_text("#about"))
        assert page.is_hidden("#viewfinder")
        page.click("#start-again")
        page.click("#live-start")
        more_frames(page, 2)
        page.click("#live-stop")
        assert page.is_visible("#welcome")


@pytest.mark.slow
def test_a_camera_that_is_not_allowed_is_a_sentence(browser: Any, url: str) -> None:
    if find_litertjs() is None:
        pytest.skip("LiteRT.js is not installed (panokit demo --install-litertjs)")
    with open_page(browser) as page:
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        page.click("#live-start")
        page.wait_for_selector("#toast:not([hidden])")
        assert "did not allow the camera" in page.inner_text("#toast-text")
        assert page.is_visible("#welcome")
