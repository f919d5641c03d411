"""The tutorials: their code and commands run, and say what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(?:<!-- exit: (?P<exit>\w+) -->\n)?```(?P<kind>python|console)\n(?P<body>.*?)```", re.S
)


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's blocks in their order; what Python has made stays for later blocks."""
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": page.stem}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["kind"] == "python":
            exec(compile(block["body"], page.name, "exec"), names)
        else:
            run_commands(block["body"], folder, block["exit"] or "0")


def run_commands(body: str, folder: Path, expected: str) -> None:
    """Run the lines that begin with $; the others must be in what came out."""
    commands = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
    shown = [line for line in body.splitlines() if line.strip() and not line.startswith("$ ")]
    said = ""
    for n, command in enumerate(commands, 1):
        said += run(["bash", "-c", command], folder, expected if n == len(commands) else "0")
    plain = " ".join(re.sub("[│┃]", " ", said).split())
    for line in shown:
        wanted = " ".join(re.sub("[│┃]", " ", line).split())
        assert wanted in plain, f"{wanted!r} is not in what {commands} said: {said}"


def run(command: list[str], folder: Path, expected: str) -> str:
    """Run, and give what was said."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "COLUMNS": "300", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    if expected != "any":
        assert done.returncode == int(expected), done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["start", "tutorials/developer", "tutorials/qa"])
def test_a_tutorial_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    run_page(ROOT / "docs" / f"{name}.md", tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_tutorial_of_exports_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("litert_torch")
    run_page(ROOT / "docs" / "tutorials" / "mobile.md", tmp_path, monkeypatch)


def test_a_page_that_lies_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one\ntwo\n```\n")
    with pytest.raises(AssertionError, match="'two' is not in what"):
        run_page(page, tmp_path, monkeypatch)
    page.write_text("```console\n$ exit 3\n```\n")
    with pytest.raises(AssertionError):
        run_page(page, tmp_path, monkeypatch)
    page.write_text("<!-- exit: 3 -->\n```console\n$ exit 3\n```\n```python\nassert False\n```\n")
    with pytest.raises(AssertionError):
        run_page(page, tmp_path, monkeypatch)
