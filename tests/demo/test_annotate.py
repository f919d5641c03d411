"""`panokit annotate`: its API, and the page in a real browser with a server that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from panokit.cli.shell import app
from panokit.errors import UsageError
from panokit.taxonomy import Taxonomy
from panokit_datasets.classes import camera_taxonomy
from panokit_datasets.readers import open_dataset
from tests.datasets.test_annotation import PAINT, RELABEL, project
from tests.toys.chromium import open_browser, open_page


@pytest.fixture
def client(tmp_path: Path, taxonomy: Taxonomy) -> Iterator[Any]:
    """A client of the API of a small project."""
    testing = pytest.importorskip("fastapi.testclient")
    from panokit_demo.annotate_server import create_annotate_app

    application = create_annotate_app(
        project(tmp_path, taxonomy), hosts=frozenset({"testserver", "localhost"})
    )
    with testing.TestClient(application) as made:
        yield made


def test_the_api_does_what_a_person_does(client: Any, tmp_path: Path) -> None:
    described = client.get("/api/project").json()
    assert [p["name"] for p in described["photos"]] == ["p0", "p1", "p2"]
    first = client.get("/api/photos/0").json()
    assert {s["id"] for s in first["segments"]} == {1, 2, 3, 4, 5}
    assert first["size_wh"] == [30, 20]
    after = client.post("/api/photos/0", json=RELABEL).json()
    assert {s["id"]: s["category"] for s in after["segments"]}[2] == 1
    assert after["can_undo"]
    client.post("/api/photos/0", json=PAINT)
    picture = client.get("/api/photos/0/ids.png")
    assert picture.headers["content-type"] == "image/png"
    (tmp_path / "ids.png").write_bytes(picture.content)
    ids = np.asarray(Image.open(tmp_path / "ids.png")).astype(int)
    assert ids[11, 11].tolist() == [1, 0, 0]
    assert client.get("/api/photos/0/photo.jpg").content[:2] == b"\xff\xd8"
    assert client.post("/api/photos/0/done", json={"done": True}).json()["done"]
    assert len(open_dataset(tmp_path / "out", "anna")) == 1
    assert not client.post("/api/photos/0", json={"operation": "undo"}).json()["done"]


def test_bad_requests_get_a_sentence(client: Any) -> None:
    for path, body, word in (
        ("/api/photos/0", {"operation": "explode"}, "operation"),
        ("/api/photos/0", {"operation": "delete", "segments": [77]}, "no segment 77"),
        ("/api/photos/9", RELABEL, "expected 0 to 2"),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert word in answer.json()["detail"]
    assert client.post("/api/photos/0", content=b"{").status_code == 422
    assert client.get("/api/project", headers={"Host": "evil.example"}).status_code == 403
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/api/photos/0", json=RELABEL, headers=foreign).status_code == 403
    page = client.get("/")
    assert "script-src" in page.headers["content-security-policy"]


def test_what_is_missing_is_said(tmp_path: Path, taxonomy: Taxonomy) -> None:
    run = CliRunner().invoke(app, ["annotate", "--out", str(tmp_path)])
    assert isinstance(run.exception, UsageError)
    for name in ("anna", "ben"):
        project(tmp_path, taxonomy, name).finish(0)
    words = ["annotate", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "a.json")]
    run = CliRunner().invoke(app, [*words, "--agreement", "anna,ben"])
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["pq"] == 100
    run = CliRunner().invoke(app, [*words, "--agreement", "anna"])
    assert isinstance(run.exception, UsageError)


@contextmanager
def served(photo: Path, out: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command as a process of its own, and the address of its page."""
    words = [str(photo), "--out", str(out), "--port", "0", "--no-browser"]
    program = str(Path(sys.executable).with_name("panokit"))
    process = subprocess.Popen(
        [program, "annotate", *words], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            found = re.search(r"http://\S+", said)
            if found:
                break
        assert found, said
        yield found[0], process
    finally:
        process.kill()
        process.communicate()


def segments(page: Any) -> list[str]:
    """The names in the list of segments."""
    found: list[str] = page.eval_on_selector_all(
        "#segments .segment > span:nth-child(2)", "all => all.map(e => e.textContent)"
    )
    return found


def ready(page: Any) -> None:
    """Wait until the page has done what it was asked for."""
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#busy[hidden]", state="attached")
    time.sleep(0.05)
    page.wait_for_selector("#busy[hidden]", state="attached")


def test_the_page_loses_nothing_when_the_server_is_killed(tmp_path: Path) -> None:
    """Open, propose, relabel, paint, merge, undo, kill the server, resume."""
    data = pytest.importorskip("skimage.data")
    photo = tmp_path / "astronaut.png"
    Image.fromarray(data.astronaut()).resize((256, 256)).save(photo)
    out = tmp_path / "out"
    with (
        open_browser() as browser,
        open_page(browser, viewport={"width": 1280, "height": 900}) as page,
    ):
        with served(photo, out) as (address, process):
            page.goto(address)
            ready(page)
            proposed = segments(page)
            assert "person" in proposed
            page.locator("#segments .segment", has_text="person").first.click()
            page.locator("#classes button", has_text=re.compile("^dog$")).click()
            ready(page)
            assert "dog" in segments(page)
            # Paint two new cats far apart, then merge them.
            page.keyboard.press("Escape")
            page.keyboard.press("/")
            page.keyboard.type("cat")
            page.keyboard.press("Enter")
            page.keyboard.press("b")
            box = page.locator("#canvas").bounding_box()
            for x in (0.1, 0.9):
                page.keyboard.press("Escape")
                page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.9 * box["height"])
                page.mouse.down()
                page.mouse.move(
                    box["x"] + x * box["width"], box["y"] + 0.8 * box["height"], steps=4
                )
                page.mouse.up()
                ready(page)
            assert segments(page).count("cat") == 2
            page.locator("#segments .segment", has_text="cat").first.click()
            page.locator("#segments .segment", has_text="cat").last.click(modifiers=["Shift"])
            page.keyboard.press("m")
            ready(page)
            assert segments(page).count("cat") == 1
            page.keyboard.press("z")
            ready(page)
            assert segments(page).count("cat") == 2
            before = sorted(segments(page))
            picture = page.request.get(f"{address}api/photos/0/ids.png").body()
            process.send_signal(signal.SIGKILL)
            process.wait()
            page.keyboard.press("z")
            page.wait_for_selector("#toast:not([hidden])")
            assert "cannot be reached" in page.locator("#toast").inner_text()
        with served(photo, out) as (address, _):
            page.goto(address)
            ready(page)
            assert sorted(segments(page)) == before
            assert page.request.get(f"{address}api/photos/0/ids.png").body() == picture
            page.keyboard.press("Shift+Z")
            ready(page)
            assert segments(page).count("cat") == 1
            page.keyboard.press("Enter")
            ready(page)
            page.wait_for_selector("#progress:has-text('1 of 1 photos done')")
    reader = open_dataset(out, "labels")
    assert reader.taxonomy == camera_taxonomy()
    truth = reader.truth(0)
    names = [reader.taxonomy.categories[s.channel].name for s in truth.segments]
    assert names.count("cat") == 1
    assert "dog" in names


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_phones_and_desks(width: int, tmp_path: Path) -> None:
    photo = tmp_path / "p.png"
    Image.new("RGB", (320, 200), (90, 120, 150)).save(photo)
    with (
        open_browser() as browser,
        open_page(browser, viewport={"width": width, "height": 844}) as page,
        served(photo, tmp_path / "out") as (address, _),
    ):
        page.goto(address)
        ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = page.eval_on_selector_all(
            "#actions button, #tools label",
            "all => all.map(e => e.getBoundingClientRect().height).filter(h => h < 34)",
        )
        assert small == []
