"""Run the code and commands of a page of the manual, and hold it to what it shows.

Blocks of Python and of console lines run in their order in an empty folder. A line under a command
must be in what it said; ``<!-- exit: 1 -->`` before a block is its last command's exit code.
``<!-- picture: FILE -->`` before a picture names the file of the run that it shows; a page in HTML
is shown as Chromium draws it. `python scripts/make_tutorial_pictures.py` makes the pictures.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
from PIL import Image

from tests.toys.chromium import open_browser, open_page

__all__ = ["PAGES", "difference", "picture", "pictures_of", "run_page"]

PAGES = ("start", "tutorials/developer", "tutorials/qa", "tutorials/mobile")
SIDE = 420  # pixels of a picture's longest side

_BLOCK = re.compile(
    r"(?:<!-- exit: (?P<exit>\w+) -->\n)?```(?P<kind>python|console)\n(?P<body>.*?)```", re.S
)
_PICTURE = re.compile(r"<!-- picture: (?P<file>\S+) -->\n!\[[^\]]+\]\((?P<shown>[^)\s]+)\)")


def run_page(page: Path, folder: Path) -> None:
    """Run a page's blocks in ``folder``; what Python has made stays for later blocks.
    ``AssertionError`` where the page says what is not so."""
    names: dict[str, object] = {"__name__": page.stem}
    with chdir(folder):
        for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            if block["kind"] == "python":
                exec(compile(block["body"], page.name, "exec"), names)
            else:
                run_commands(block["body"], block["exit"] or "0")


def run_commands(body: str, expected: str) -> None:
    """Run the lines that begin with $; the others must be in what came out."""
    commands = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
    shown = [line for line in body.splitlines() if line.strip() and not line.startswith("$ ")]
    said = ""
    for n, command in enumerate(commands, 1):
        said += _run(command, expected if n == len(commands) else "0")
    plain = _plain(said)
    for line in shown:
        if _plain(line) not in plain:
            raise AssertionError(f"{_plain(line)!r} is not in what {commands} said: {said}")


def pictures_of(page: Path) -> Iterator[tuple[str, Path]]:
    """The file of a run that each picture of a page shows, and where the picture lies."""
    for found in _PICTURE.finditer(page.read_text(encoding="utf-8")):
        yield found["file"], (page.parent / found["shown"]).resolve()


def picture(file: Path) -> Image.Image:
    """What a page shows of a picture, or of a page in HTML, that a run has made."""
    if file.suffix == ".html":
        return _screenshot(file)
    image = Image.open(file).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def difference(file: Path, shown: Path) -> float:
    """How far a page's picture is from what a run has made: the mean over pixels, 0..255."""
    fresh, old = picture(file), Image.open(shown).convert("RGB")
    if fresh.size != old.size:
        return 255.0
    return float(np.abs(np.asarray(fresh, float) - np.asarray(old, float)).mean())


def _screenshot(file: Path) -> Image.Image:
    with (
        open_browser() as browser,
        open_page(browser, viewport={"width": 900, "height": 900}, color_scheme="light") as page,
    ):
        page.goto(file.resolve().as_uri())
        return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def _plain(text: str) -> str:
    return " ".join(re.sub("[│┃]", " ", text).split())


def _run(command: str, expected: str) -> str:
    """Run a command, and give what was said."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "COLUMNS": "300", "NO_COLOR": "1"}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=500
    )
    said = done.stdout + done.stderr
    if expected != "any" and done.returncode != int(expected):
        raise AssertionError(f"{command} ended with {done.returncode}, not {expected}: {said}")
    return said
