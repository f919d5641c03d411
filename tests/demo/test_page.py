"""The page in a real Chromium, over `panokit demo` itself."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit.dump import read_dump
from panokit.samples import sample_photos
from panokit_demo.litertjs import find_litertjs
from tests.toys.chromium import open_browser, open_page
from tests.toys.path_proxy import path_proxy

pytestmark = pytest.mark.slow

pytest.importorskip("fastapi")
pytest.importorskip("skimage")

PROGRAM = (sys.executable, "-c", "from panokit.cli import main; main()", "demo", "--no-browser")
DEVICE = ["camera/int8", "camera/int8-float-in", "camera/int8-uint8-in", "toy/float32"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def bundles(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pytest.importorskip("flatbuffers")
    from tests.toys.demo_bundles import camera_bundle, toy_bundle

    folder = tmp_path_factory.mktemp("bundles")
    return [camera_bundle(folder), toy_bundle(folder)]


@pytest.fixture(scope="module")
def url(bundles: list[Path]) -> Iterator[str]:
    """The address of a running `panokit demo`; Ctrl-C must end it."""
    options = [o for b in bundles for o in ("--bundle", str(b))]
    command = [*PROGRAM, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            assert "Panokit demo at http://127.0.0.1:" in line
            yield line.split()[3]
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(20) in (0, 130, -signal.SIGINT)


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    with open_page(browser, viewport={"width": 1280, "height": 860}) as opened:
        opened.goto(url)
        opened.wait_for_selector("body[data-ready=yes]")
        yield opened


def open_sample(page: Any, name: str) -> None:
    page.click(f"[data-sample={name}]")
    page.wait_for_selector("#bench:not([hidden])")
    page.wait_for_selector("#busy", state="hidden")


def tap(page: Any, x: float, y: float) -> None:
    """Tap the photo at a place in 0..1."""
    box = page.locator("#marks").bounding_box()
    page.locator("#marks").click(position={"x": x * box["width"], "y": y * box["height"]})


def drawn(page: Any) -> None:
    page.wait_for_selector("#busy", state="hidden")


def pixels(page: Any) -> np.ndarray:
    """What the right pane's picture shows, without its overlay."""
    data = page.locator("#pane-right .base").evaluate("c => c.toDataURL('image/png')")
    raw = base64.b64decode(data.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int)


def download(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.click(button)
    done = waiting.value
    return done.suggested_filename, Path(done.path()).read_bytes()


def test_tap_the_person_blur_undo_remove_download(page: Any) -> None:
    open_sample(page, "astronaut")
    assert "× person" in page.inner_text("#found")
    page.click("#tab-edit")
    before = pixels(page)
    tap(page, 0.45, 0.3)
    assert page.inner_text("#picked-title") == "The person"
    page.locator("#blur").fill("60")
    page.wait_for_selector("#edit-message:not(:empty)")
    drawn(page)
    assert page.inner_text("#edit-message").startswith("Blurred behind the person")
    blurred = pixels(page)
    # The face stays as it was; the corner above on the right does not.
    assert np.abs(blurred - before)[120:220, 190:260].mean() < 2.5
    assert np.abs(blurred - before)[:60, -60:].mean() > 1
    assert page.locator("#history li").all_inner_texts() == ["Portrait blur 60 %: person"]
    page.click("#undo")
    drawn(page)
    page.wait_for_selector("#history li", state="detached")
    assert (pixels(page) == before).all()
    page.click("#redo")
    page.wait_for_selector("#history li")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#history li", state="detached")
    page.click("#tab-segments")
    page.locator(".segment:not(:has-text('person'))").first.click()
    page.click("#tab-edit")
    page.click("[data-do=remove]")
    page.wait_for_selector("#edit-message:has-text('Removed the ')")
    drawn(page)
    assert (pixels(page) != before).any()
    name, data = download(page, "#save-png")
    assert name == "astronaut-edited.png"
    saved = np.asarray(Image.open(io.BytesIO(data)))
    assert saved.shape == (512, 512, 3)
    name, data = download(page, "#save-jpg")
    assert name == "astronaut-edited.jpg"
    assert Image.open(io.BytesIO(data)).format == "JPEG"
    name, data = download(page, "#save-edits")
    assert name == "edits.json"
    kept = json.loads(data)
    assert [e["do"] for e in kept["edits"]] == ["remove"]
    assert kept["photo"] == "astronaut.png"


def test_a_slide_is_one_step(page: Any) -> None:
    open_sample(page, "astronaut")
    page.click("#tab-edit")
    box = page.locator("#blur").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 4, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], y, steps=12)
    page.mouse.up()
    page.wait_for_selector("#edit-message:not(:empty)")
    drawn(page)
    (step,) = page.locator("#history li").all_inner_texts()
    assert step in [f"Portrait blur {n} %" for n in (70, 75, 80)]
    page.click("#undo")
    page.wait_for_selector("#history li", state="detached")
    assert page.locator("#undo").is_disabled()
    assert page.input_value("#blur") == "0"


def test_edits_of_a_file_are_replayed_and_refused_ones_taken_back(
    page: Any, tmp_path: Path
) -> None:
    open_sample(page, "coffee")
    page.click("#tab-edit")
    good = tmp_path / "edits.json"
    edit = {"do": "replace_background", "fill": {"color": "#000000"}, "pick": {"tap": [300, 200]}}
    good.write_text(json.dumps({"version": 1, "edits": [edit]}))
    page.set_input_files("#load-edits", good)
    page.wait_for_selector("#edit-message:not(:empty)")
    assert page.locator("#history li").count() == 1
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"version": 1, "edits": [{"do": "explode"}]}))
    page.set_input_files("#load-edits", bad)
    page.wait_for_selector("#toast:not([hidden])")
    assert "edit's 'do' is" in page.inner_text("#toast-text")
    drawn(page)
    assert "New background" in page.locator("#history li").inner_text()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("broken.jpg", b"\xff\xd8\xff\xe0 broken", "broken.jpg is damaged and cannot be read"),
        ("drawing.svg", b"<svg xmlns='x'/>", "The photo is an SVG drawing"),
        ("large.jpg", bytes(41_000_000), "large.jpg has 41.0 MB; at most 40.0 MB"),
    ],
)
def test_a_file_that_is_no_photo_gives_a_sentence(
    page: Any, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    page.set_input_files("#file", file)
    page.wait_for_selector("#toast:not([hidden])")
    assert sentence in page.inner_text("#toast-text")
    assert page.locator("#welcome").is_visible()
    page.click("#toast-close")
    assert page.locator("#toast").is_hidden()
    open_sample(page, "coffee")  # and the page still works


def test_a_photo_that_is_chosen_at_once_is_kept(browser: Any, url: str) -> None:
    """Before the server has said what it can do."""
    held: list[Any] = []
    with open_page(browser, viewport={"width": 1280, "height": 900}) as page:
        page.route("**/api/info", lambda route: held.append(route))
        page.goto(url)
        page.set_input_files("#file", sample_photos()["grace_hopper"])
        page.wait_for_timeout(200)
        assert page.locator("#welcome").is_visible()
        held[0].continue_()
        page.wait_for_selector("#bench:not([hidden])")
        assert "grace_hopper.jpg" in page.inner_text("#about")


def test_ones_own_photo_views_and_the_keyboard(page: Any) -> None:
    page.set_input_files("#file", sample_photos()["grace_hopper"])
    page.wait_for_selector("#bench:not([hidden])")
    assert "grace_hopper.jpg · 512 × 600 pixels" in page.inner_text("#about")
    overlay = page.locator("#pane-right .overlay")
    seen = {}
    for view in ("panoptic", "semantic", "instances", "boxes"):
        page.locator(f"#views input[value={view}]").check()
        seen[view] = overlay.evaluate("c => c.toDataURL()")
    assert seen["semantic"] != seen["boxes"] != seen["panoptic"]
    assert seen["instances"] != seen["boxes"]
    page.locator("#opacity").fill("0")
    assert overlay.evaluate("c => getComputedStyle(c).opacity") == "0"
    page.locator("#marks").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".segment[aria-pressed=true]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".segment[aria-pressed=true]").count() == 0
    page.locator("#tab-segments").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-edit").is_visible()


def test_hovering_names_the_segment(page: Any) -> None:
    open_sample(page, "astronaut")
    box = page.locator("#marks").bounding_box()
    page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.3 * box["height"])
    assert "person" in page.inner_text("#tip")
    assert page.locator(".segment.hovered", has_text="person").count() == 1


def test_the_divider_follows_mouse_and_keys(page: Any) -> None:
    open_sample(page, "chelsea")
    page.locator("#compare").check()
    assert page.inner_text("#tag-left") == "Photo"
    assert page.inner_text("#tag-right") == "Segments · camera/int8"
    divider = page.locator("#divider").bounding_box()
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(divider["x"] + divider["width"] / 2, stage["y"] + 40)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.25 * stage["width"], stage["y"] + 60, steps=4)
    page.mouse.up()
    assert abs(int(page.input_value("#cut")) - 250) <= 3
    page.locator("#cut").focus()
    page.keyboard.press("ArrowRight")
    assert abs(int(page.input_value("#cut")) - 251) <= 3
    moved = page.locator("#divider").bounding_box()
    assert abs(moved["x"] + moved["width"] / 2 - (stage["x"] + 0.25 * stage["width"])) < 4
    page.select_option("#right", "segments:toy/float32")
    page.wait_for_selector("#tag-right >> text=toy/float32")


def test_on_a_phone(browser: Any, url: str) -> None:
    options = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with open_page(browser, device_scale_factor=2, **options) as page:
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        assert page.locator("#camera").get_attribute("capture") == "environment"
        width = "document.documentElement.scrollWidth"
        assert page.evaluate(width) <= 360
        open_sample(page, "astronaut")
        assert page.evaluate(width) <= 360
        page.locator("#tab-edit").tap()
        box = page.locator("#marks").bounding_box()
        assert box["height"] <= 0.6 * 740  # the tools stay in reach
        page.touchscreen.tap(box["x"] + 0.45 * box["width"], box["y"] + 0.3 * box["height"])
        assert page.inner_text("#picked-title") == "The person"
        page.locator("#object-tools [data-do=pixelate]").tap()
        page.wait_for_selector("#edit-message:not(:empty)")
        assert page.inner_text("#edit-message") == "Pixelated the person."
        assert page.evaluate(width) <= 360
        low = page.evaluate(
            "[...document.querySelectorAll('button, .button, select')]"
            ".filter(e => e.offsetParent && e.getBoundingClientRect().height < 35).length"
        )
        assert low == 0


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_on_a_phone_a_tap_offers_what_to_do_and_back_takes_it_back(browser: Any, url: str) -> None:
    with open_page(browser, **PHONE) as page:
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        open_sample(page, "astronaut")
        page.locator("label.toggle").click()  # Compare
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.locator("label.toggle").click()
        assert page.locator("#object-bar").is_hidden()
        tap(page, 0.4, 0.3)
        assert "person" in page.locator("#bar-title").inner_text()
        page.locator("#bar-tools button[data-do=pixelate]").click()
        drawn(page)
        assert page.locator("#history li").count() == 1
        assert page.locator("#tab-edit").get_attribute("aria-selected") == "true"
        page.mouse.wheel(0, 700)  # the photo stays in sight beside the tools
        page.wait_for_timeout(200)
        box = page.locator("#stage").bounding_box()
        assert -5 <= box["y"] <= 60
        small = page.eval_on_selector_all(
            "#bench button, #bench select, .object-bar button",
            "all => all.filter(e => e.offsetParent).map(e => e.getBoundingClientRect().height)"
            ".filter(h => h < 43.5)",
        )
        assert small == []
        address = page.url
        page.go_back()
        page.wait_for_selector("#history:empty", state="attached")
        assert page.url == address
        assert "person" in page.locator("#bar-title").inner_text()


def test_what_was_removed_is_selected_again_by_an_undo(page: Any) -> None:
    open_sample(page, "astronaut")
    page.click("#tab-edit")
    tap(page, 0.4, 0.3)
    before = page.locator("#picked-title").inner_text()
    page.click("#object-tools [data-do=remove]")
    drawn(page)
    assert page.locator("#picked-title").inner_text() == "Tap an object"
    page.click("#undo")
    drawn(page)
    assert page.locator("#picked-title").inner_text() == before


def test_taps_correct_the_selected_object(page: Any) -> None:
    open_sample(page, "astronaut")
    page.click("#tab-edit")
    assert page.locator("#correct").is_hidden()
    tap(page, 0.35, 0.3)
    page.locator("#correct label", has_text="Add").click()
    tap(page, 0.59, 0.68)  # the name tag, which the network left out
    page.wait_for_selector("#correct-about:not([hidden])")
    assert "1 added, 0 taken away" in page.inner_text("#correct-about")
    assert page.locator("#history li").count() == 0  # a look, no edit yet
    page.locator("#correct label", has_text="Take away").click()
    tap(page, 0.04, 0.95)
    page.wait_for_selector("#correct-about:has-text('1 taken away')")
    page.click("#object-tools [data-do=lift]")
    drawn(page)
    name, data = download(page, "#save-edits")
    assert name == "edits.json"
    (edit,) = json.loads(data)["edits"]
    assert len(edit["pick"]["add"]) == len(edit["pick"]["remove"]) == 1
    _, data = download(page, "#save-png")
    alpha = np.asarray(Image.open(io.BytesIO(data)))[..., 3]
    h, w = alpha.shape
    assert alpha[round(0.68 * h), round(0.59 * w)] > 127
    assert alpha[round(0.95 * h), round(0.04 * w)] < 128
    tap(page, 0.04, 0.95)  # still taking away: no other selection
    page.locator("#correct label", has_text="Tap selects").click()
    tap(page, 0.8, 0.1)
    assert page.locator("#correct-about").is_hidden()


def test_strokes_correct_the_selected_object(page: Any) -> None:
    open_sample(page, "astronaut")
    page.click("#tab-edit")
    tap(page, 0.35, 0.3)
    page.locator("#correct label", has_text="Take away").click()
    box = page.locator("#marks").bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + 0.9 * box["height"], steps=20)
    page.mouse.up()
    page.wait_for_selector("#correct-about:has-text('0 added, 1 taken away')")
    assert page.inner_text("#picked-title") == "The person"  # the stroke's end is no tap
    page.click("#object-tools [data-do=highlight]")
    drawn(page)
    _, data = download(page, "#save-edits")
    points = json.loads(data)["edits"][0]["pick"]["remove"]
    assert 10 < len(points) < 60
    assert points[0] == pytest.approx([0.25 * 512, 0.6 * 512], abs=3)
    assert points[-1] == pytest.approx([0.35 * 512, 0.9 * 512], abs=8)


def test_what_no_class_knows_can_be_cut_out(page: Any) -> None:
    open_sample(page, "coffee")
    page.click("#tab-edit")
    tap(page, 0.55, 0.42)  # the cup, where the map is void
    page.wait_for_selector("#correct:not([hidden])")
    assert page.inner_text("#picked-title") == "The object"
    page.click("#object-tools [data-do=lift]")
    drawn(page)
    assert page.inner_text("#history") == "Lift: object"
    _, data = download(page, "#save-png")
    alpha = np.asarray(Image.open(io.BytesIO(data)))[..., 3]
    h, w = alpha.shape
    assert alpha[round(0.42 * h), round(0.55 * w)] > 127
    assert 0.01 < (alpha > 127).mean() < 0.5
    page.click("#undo")
    drawn(page)
    tap(page, 0.55, 0.42)
    page.wait_for_selector("#correct:not([hidden])")
    page.click("#tab-segments")
    page.click("#tab-edit")
    page.keyboard.press("Escape")


def test_an_own_picture_as_background(page: Any, tmp_path: Path) -> None:
    Image.new("RGB", (300, 900), (250, 0, 0)).save(tmp_path / "a rose garden.png")
    open_sample(page, "astronaut")
    page.click("#tab-edit")
    page.set_input_files(".own-picture input", tmp_path / "a rose garden.png")
    page.wait_for_selector(".own-picture:has-text('a rose garden.png')")
    page.click("[data-do=replace_background]")
    drawn(page)
    r, g, b = pixels(page)[10, -300]
    assert r > 200 > 60 > max(g, b)
    _, data = download(page, "#save-edits")
    assert json.loads(data)["edits"][0]["fill"] == {"photo": "a rose garden.png"}
    page.locator("#scene-tools input[type=color]").first.fill("#00ff00")  # a colour again
    assert page.inner_text(".own-picture") == "Own picture …"


def test_an_edit_that_changes_nothing_is_not_recorded(page: Any) -> None:
    open_sample(page, "astronaut")
    page.click("#tab-edit")
    page.click("#scene-tools [data-do=replace_sky]")  # there is no sky
    page.wait_for_selector("#toast:not([hidden])")
    drawn(page)
    assert page.locator("#history li").count() == 0
    assert page.locator("#undo").is_disabled()


@pytest.mark.skipif(find_litertjs() is None, reason="LiteRT.js is not installed (npm)")
@pytest.mark.parametrize("artifact", DEVICE)
def test_this_device_proves_itself(page: Any, artifact: str, tmp_path: Path) -> None:
    page.select_option("#artifact", artifact)
    open_sample(page, "astronaut")
    page.click("#tab-device")
    page.click("#run-device")
    page.wait_for_selector("#device-verdict:not([hidden])", timeout=60_000)
    assert page.get_attribute("#verdict", "data-verdict") in ("pass", "pass with rounding")
    assert page.locator("#stages li").count() == 5
    assert page.inner_text("#tag-right") == "This device"
    name, data = download(page, "#save-dump")
    assert name == "astronaut.safetensors"
    path = tmp_path / name
    path.write_bytes(data)
    dump = read_dump(path)
    assert dump.metadata["runtime"] == "litert.js"
    assert set(dump.tensors) == {"photo", "input", "semantic", "center", "offset", "panoptic"}
    # The browser decoded the PNG to the very pixels, so that its input is the reference's.
    photo = np.asarray(Image.open(sample_photos()["astronaut"]))
    assert (dump.tensors["photo"] == photo).all()
    expected = "float32" if artifact == "toy/float32" else "int8"
    assert dump.tensors["semantic"].dtype.name == expected


@pytest.mark.parametrize("keeps", [True, False], ids=["keeps the path", "takes it away"])
def test_the_whole_page_works_behind_a_proxy(browser: Any, keeps: bool) -> None:
    """A photo opened, edited and downloaded, and the page about the API: all below the path."""
    command = [*PROGRAM, "--port", "0", "--root-path", "/team/seg", "--allow-host", "demo.test"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline().split()[3].rpartition(":")[2].strip("/"))
            with (
                path_proxy(port, "/team/seg", keeps) as (address, asked),
                open_page(browser, viewport={"width": 1280, "height": 860}) as page,
            ):
                page.goto(f"{address}/team/seg/")
                page.wait_for_selector("body[data-ready=yes]")
                open_sample(page, "astronaut")
                assert page.locator("[data-sample] img").first.evaluate("i => i.naturalWidth")
                page.click("#tab-edit")
                tap(page, 0.45, 0.3)
                page.click("[data-do=remove]")
                page.wait_for_selector("#edit-message:not(:empty)")
                drawn(page)
                page.goto(f"{address}/team/seg/docs")
                page.wait_for_selector("pre:has-text('/team/seg/api/segment')")
                page.click(".brand")
                page.wait_for_selector("body[data-ready=yes]")
            assert len(asked) > 25
            assert [path for path in asked if not path.startswith("/team/seg/")] == []
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(20) in (0, 130, -signal.SIGINT)


def test_without_litertjs_the_page_says_what_is_missing(browser: Any, url: str) -> None:
    with open_page(browser) as page:

        def without(route: Any) -> None:
            answer = route.fetch()
            info = answer.json()
            info["device"] = {"ready": False, "missing": "LiteRT.js is not installed. Run: …"}
            route.fulfill(response=answer, json=info)

        page.route("**/api/info", without)
        page.goto(url)
        open_sample(page, "coffee")
        page.click("#tab-device")
        assert page.inner_text("#device-missing").startswith("LiteRT.js is not installed")
        assert page.locator("#run-device").is_disabled()


def test_the_page_about_the_api(browser: Any, url: str) -> None:
    with open_page(browser) as page:
        page.goto(f"{url}docs")
        page.wait_for_selector(".operation")
        text = page.inner_text("#document")
        assert "/api/segment" in text
        assert "curl -F photo=@photo.jpg -F edits=<edits.json" in text


def test_without_the_server_the_page_says_so(page: Any) -> None:
    page.route("**/api/sessions", lambda route: route.abort())
    page.click("[data-sample=coffee]")
    page.wait_for_selector("#toast:not([hidden])")
    assert "cannot be reached" in page.inner_text("#toast-text")
