"""The program: what it writes, what it says, and its exit codes."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit.bundle import shipped_bundle_path
from panokit.cli import shell
from panokit.dump import read_dump, write_dump

needs_bundle = pytest.mark.skipif(
    not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built"
)


def panokit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, as a user does."""
    code = "from panokit.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "photos" / "noise.png"
    path.parent.mkdir()
    Image.fromarray(rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(path)
    return path


def test_help_and_version() -> None:
    done = panokit("--help")
    assert done.returncode == 0
    for command in ("segment", "blur", "dump", "validate", "evaluate", "train", "export", "demo"):
        assert command in done.stdout
    assert panokit("--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize(
    "command", ["segment", "blur", "dump", "validate", "evaluate", "train", "export", "demo"]
)
def test_every_command_has_help(command: str) -> None:
    done = panokit(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"]], ids=" ".join)
def test_help_loads_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from panokit.cli import app\n"
        f"try: app({arguments})\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'coremltools', 'panokit_lab.export') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(shell._installed()))
def test_help_in_the_list_is_that_of_the_command(name: str) -> None:
    entry = shell._installed()[name]
    listed, loaded = shell._help(entry), shell._load(entry).help
    assert listed
    assert inspect.cleandoc(listed) == inspect.cleandoc(loaded)


def test_a_command_whose_help_cannot_be_read_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_elsewhere.py").write_text("def make():\n    return print\nsay = make()\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("say", "made_elsewhere:say", shell.GROUP)
    assert shell._help(entry) is None
    assert shell._help(EntryPoint("gone", "no.such.module:gone", shell.GROUP)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "No such command"),
        (("segment",), "Missing"),
        (("segment", "x.jpg", "--out", "o", "--bundle", "nowhere"), "no such bundle folder"),
        (("validate", "nowhere.safetensors"), "no such dump file"),
    ],
    ids=["unknown command", "missing argument", "missing bundle", "missing dump"],
)
def test_wrong_use_is_exit_code_2_and_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    done = panokit(*arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@needs_bundle
def test_segment_writes_map_annotation_overlay_and_json(photo: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "r.json"
    done = panokit("segment", photo.parent, "--out", out, "--json", report)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == ["noise.json", "noise.overlay.png", "noise.png"]
    (result,) = json.loads(report.read_text())["results"]
    assert result["size_wh"] == [60, 40]
    ids = np.asarray(Image.open(out / "noise.png")).astype(int) @ [1, 256, 65536]
    assert set(np.unique(ids)) - {0} == {s["id"] for s in result["segments"]}


@needs_bundle
def test_a_bad_photo_is_skipped_and_the_rest_done(photo: Path, tmp_path: Path) -> None:
    bad = photo.parent / "bad.jpg"
    bad.write_text("no photo")
    report = tmp_path / "r.json"
    done = panokit("segment", photo, bad, "--out", tmp_path / "out", "--json", report)
    assert done.returncode == 2
    assert "bad.jpg: is not a photo" in done.stderr
    data: dict[str, Any] = json.loads(report.read_text())
    assert len(data["results"]) == 1
    assert len(data["skipped"]) == 1


@needs_bundle
def test_a_card_is_walked_and_what_is_left_out_is_named(photo: Path, tmp_path: Path) -> None:
    card = photo.parent
    (card / "2026").mkdir()
    (card / "2026" / photo.name).write_bytes(photo.read_bytes())
    (card / f"._{photo.name}").write_bytes(b"\0\5\x16\7")
    out = tmp_path / "out"
    done = panokit("segment", card, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.glob("*.json")) == ["noise-2.json", "noise.json"]
    (card / "2026" / "raw.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(64))
    done = panokit("segment", card, "--out", out)
    assert done.returncode == 2
    assert "raw.CR2: is a raw file (CR2)" in done.stderr


@needs_bundle
def test_results_do_not_take_the_place_of_photos(photo: Path) -> None:
    before = photo.read_bytes()
    done = panokit("segment", photo, "--out", photo.parent)
    assert done.returncode == 2
    assert "would replace the photo noise.png" in done.stderr
    assert photo.read_bytes() == before


@needs_bundle
def test_dump_validates_and_a_tampered_one_fails(photo: Path, tmp_path: Path) -> None:
    dumps, report = tmp_path / "dumps", tmp_path / "v.json"
    assert panokit("dump", photo, "--out", dumps).returncode == 0
    done = panokit("validate", dumps, "--json", report)
    assert done.returncode == 0, done.stdout
    assert json.loads(report.read_text())["verdict"] == "pass"
    path = dumps / "noise.safetensors"
    dump = read_dump(path)
    dump.tensors["input"] = dump.tensors["input"][..., ::-1].copy()
    write_dump(dump, path)
    done = panokit("validate", dumps, "--json", report)
    assert done.returncode == 1
    (verdict,) = json.loads(report.read_text())["photos"]
    assert (verdict["verdict"], verdict["first_bad_stage"]) == ("fail", "input")
    path.write_bytes(b"junk")
    assert panokit("validate", dumps).returncode == 2


@needs_bundle
def test_blur_without_a_person_leaves_the_photo(tmp_path: Path) -> None:
    photo, out = tmp_path / "grey.png", tmp_path / "out.png"
    Image.new("RGB", (64, 48), (90, 90, 90)).save(photo)
    done = panokit("blur", photo, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (np.asarray(Image.open(out)) == 90).all()
    assert panokit("blur", photo, "--out", tmp_path / "out.xyz").returncode == 2
