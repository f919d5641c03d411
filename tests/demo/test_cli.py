"""`panokit demo`: its arguments, what it writes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from panokit.errors import ArgumentError, PanokitError, PhotoError, UsageError
from panokit.segmenter import Segmenter
from panokit_demo.cli import demo
from tests.demo.test_gallery import FakeSegmenter, save

pytest.importorskip("jinja2")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run the command in ``tmp_path`` with a segmenter that needs no bundle."""
    monkeypatch.setattr(Segmenter, "open", lambda bundle, artifact: FakeSegmenter())
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command("demo")(demo)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return call


def test_a_folder_and_a_photo_become_a_page(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.JPG"):
        save(folder / name)
    (folder / "notes.txt").write_text("not a photo")
    done = run("--gallery", folder, save(tmp_path / "c.png"), "page.html", "--json", "g.json")
    assert done.exit_code == 0, done.output
    assert "3 photos in page.html" in done.output
    assert (tmp_path / "page.html").is_file()
    data = json.loads((tmp_path / "g.json").read_text("utf-8"))
    assert [Path(p["photo"]).name for p in data["photos"]] == ["a.JPG", "b.png", "c.png"]
    assert data["photos"][0]["counts"] == {"person": 1}


def test_the_word_samples_stands_for_the_installed_ones(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("skimage")
    done = run("--gallery", "samples", "out")
    assert done.exit_code == 0, done.output
    assert "astronaut.png" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_an_unreadable_photo_gives_exit_code_2_and_the_rest_is_done(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = run("--gallery", save(tmp_path / "a.png"), "gone.jpg", "out")
    assert done.exit_code == 2
    assert "skipped gone.jpg: no such file" in done.output
    assert "1 photo in" in done.output
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("a.png", "out"), UsageError, "need --gallery"),
        (("--json", "out.json"), UsageError, "need --gallery"),
        (("--port", "70000"), ArgumentError, "port is 70000; expected a number from 0 to 65535"),
        (("--gallery",), UsageError, "photos, and last the page"),
        (("--gallery", "a.png"), UsageError, "photos, and last the page"),
        (("--gallery", "a.png", "b.PNG"), UsageError, "The last argument of --gallery is"),
        (("--gallery", ".", "out"), PhotoError, "holds no photo"),
    ],
)
def test_wrong_use(  # type: ignore[no-untyped-def]
    run, arguments: tuple[str, ...], kind: type[PanokitError], message: str
) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, kind)
    assert message in str(done.exception)
