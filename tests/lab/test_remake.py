"""What hangs on the weights is made again by commands that exist, once for the same weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from panokit.cli.shell import app
from tests.toys.scripts import load_script

remake = load_script("remake")


def commands(root: Path, tmp_path: Path) -> list[list[str]]:
    """Those of all steps, as words."""
    listed = tmp_path / "annotations" / "coco_panoptic_val.json"
    listed.parent.mkdir()
    listed.write_text(json.dumps({"images": [{"file_name": "a.jpg"}, {"file_name": "b.jpg"}]}))
    peers = tmp_path / "peers"
    peers.mkdir()
    (peers / "net.tflite").touch()
    places = remake.Places(tmp_path, tmp_path / "out", peers, (peers / "net.tflite",), tmp_path)
    steps = list(remake.steps(places))
    assert len({step.name for step in steps}) == len(steps)
    return [[str(word) for word in command] for step in steps for command in step.commands]


def test_every_command_is_there_and_takes_its_words(root: Path, tmp_path: Path) -> None:
    found = commands(root, tmp_path)
    for program, first, *rest in found:
        if program != sys.executable:  # panokit
            command: Any = typer.main.get_command(app)
            words = [first, *rest]
            while hasattr(command, "resolve_command"):
                _, command, words = command.resolve_command(typer.Context(command), words)
                command = command.make_context("", [], resilient_parsing=True).command
            command.make_parser(typer.Context(command)).parse_args(words)
        elif first == "-m":
            assert (root / rest[0].replace(".", "/")).with_suffix(".py").is_file()
        else:
            assert (root / first).is_file()
    assert any("model_card_figures" in words[1] for words in found)


def test_a_step_is_done_once_for_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = tmp_path / "w.safetensors", tmp_path / "out"
    weights.write_bytes(b"one")
    tell = "import sys; open(sys.argv[1], 'a').write('x')"
    fail = "import sys; sys.exit('no photos')"

    def steps(places: Any) -> Iterator[Any]:
        yield remake.Step("a", ((sys.executable, "-c", tell, out / "a.txt"),))
        yield remake.Step("b", ((sys.executable, "-c", tell if ready else fail, out / "b.txt"),))

    monkeypatch.setattr(remake, "steps", steps)
    monkeypatch.setattr(remake, "shipped_weights_path", lambda: weights)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["remake.py", "--out", str(out), *words])
        code = remake.main()
        b = out / "b.txt"
        return code, (out / "a.txt").read_text(), b.read_text() if b.is_file() else ""

    ready = False
    assert run() == (1, "x", "")
    assert "no photos" in (out / "b.log").read_text()
    ready = True
    assert run() == (0, "x", "x")
    assert run() == (0, "x", "x")
    assert run("--only", "b") == (0, "x", "xx")
    weights.write_bytes(b"two")
    assert run() == (0, "xx", "xxx")
    with pytest.raises(SystemExit):
        run("--only", "c")
    assert "there is no step 'c'" in capsys.readouterr().err
