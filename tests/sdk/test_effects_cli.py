"""panokit blur and panokit edit: files, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from panokit.bundle import shipped_bundle_path
from panokit.cli import effects
from panokit.cli.shell import app
from panokit.effects import EditList, Pick, Remove
from panokit.errors import ArgumentError, DataError

pytestmark = pytest.mark.skipif(
    not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built"
)


def run(*arguments: str | Path) -> Result:
    """Run a command in this process; an error of ours is raised as it is."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    y, x = np.mgrid[0:60, 0:90]
    Image.fromarray(np.stack([x * 2, y * 3, x + y], -1).astype(np.uint8)).save(path)
    return path


def test_the_commands_are_there() -> None:
    assert effects.__all__ == ["blur", "edit"]


def test_blur_without_a_person_says_so_and_writes_the_photo(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = run("blur", photo, "--out", out, "--json", tmp_path / "r.json")
    assert done.exit_code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    if not report["applied"]:
        assert "No person was found" in done.stdout
        np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(photo)))


def test_edits_are_written_replayed_and_undone(photo: Path, tmp_path: Path) -> None:
    edits, out = tmp_path / "edits.json", tmp_path / "out.png"
    step = ("--tap", "45,30", "--do")
    run("edit", photo, *step, "highlight", "--out", out, "--edits", edits)
    run("edit", photo, *step, "recolor", "--color", "#20a040", "--out", out, "--edits", edits)
    assert [e.do for e in EditList.load(edits).edits] == ["highlight", "recolor"]
    twice = out.read_bytes()
    again = tmp_path / "again.png"
    assert run("edit", photo, "--edits", edits, "--out", again).exit_code == 0
    assert again.read_bytes() == twice
    run("edit", photo, "--undo", "--edits", edits, "--out", again, "--json", tmp_path / "r.json")
    assert [e.do for e in EditList.load(edits).edits] == ["highlight"]
    assert len(json.loads((tmp_path / "r.json").read_text())["edits"]["edits"]) == 1


def test_a_background_photo_is_named_relative_to_the_edits(photo: Path, tmp_path: Path) -> None:
    edits, out = tmp_path / "edits.json", tmp_path / "out.png"
    arguments = ("--tap", "45,30", "--do", "replace_background", "--background", photo)
    run("edit", photo, *arguments, "--out", out, "--edits", edits)
    assert json.loads(edits.read_text())["edits"][0]["fill"] == {"photo": "photo.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "o.png"), "given, one of"),
        (("--out", "o.tif", "--do", "lift", "--tap", "1,1"), "a name ending in"),
        (("--out", "o.png", "--do", "lift", "--tap", "here"), "written X,Y"),
        (("--out", "o.png", "--do", "lift"), "given with its pick"),
        (("--out", "o.png", "--do", "melt", "--tap", "1,1"), "one of .*remove"),
        (("--out", "o.png", "--do", "lift", "--tap", "1,1", "--blocks", "3"), "parameters of lift"),
        (("--out", "o.png", "--edits", "nowhere.json"), "an existing file"),
    ],
    ids=["nothing", "suffix", "tap", "pick", "kind", "parameter", "edits"],
)
def test_wrong_use_is_a_sentence(
    arguments: tuple[str, ...], message: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    with pytest.raises(ArgumentError, match=message):
        run("edit", photo, *arguments)
    assert [p.name for p in photo.parent.iterdir()] == ["photo.png"]


def test_a_damaged_edits_file_is_refused_and_kept(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "edits.json").write_text('{"version": 9}')
    with pytest.raises(DataError, match="expected edits in JSON"):
        run("edit", photo, "--edits", tmp_path / "edits.json", "--out", tmp_path / "o.png")
    assert (tmp_path / "edits.json").read_text() == '{"version": 9}'


def test_the_list_is_only_written_when_the_picture_is(photo: Path, tmp_path: Path) -> None:
    edits = tmp_path / "edits.json"
    EditList((Remove(Pick(tap=(5, 5))),)).save(edits)
    before = edits.read_text()
    with pytest.raises(ArgumentError, match="inside 0"):
        run("edit", photo, "--do", "lift", "--tap", "900,1", "--edits", edits,
            "--out", tmp_path / "o.png")  # fmt: skip
    assert edits.read_text() == before
