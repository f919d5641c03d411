"""Write docs/commands.md: the help of every command, and what some mistakes are answered with.

    python scripts/make_commands_page.py          # write it
    python scripts/make_commands_page.py --check  # exit code 1 if it would change

The text is the program's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

import typer

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEAD = """# Commands

Written by `python scripts/make_commands_page.py` from the program itself. Exit code 0: good. 1: the
checked thing fails. 2: wrong use or bad input, told in one sentence.

"""
# What people get wrong: the command, and files it needs.
MISTAKES: tuple[tuple[str, dict[str, bytes]], ...] = (
    ("segment nowhere.jpg --out found", {}),
    ("segment text.jpg --out found", {"text.jpg": b"not a photo"}),
    ("segment photo.png --out found --classes unicorn", {}),
    ("segment photo.png --out found --artifact tflite-int7", {}),
    ("segment photo.png --out found --bundle nowhere.panokit", {}),
    ("blur photo.png --out portrait.txt", {}),
    ("edit photo.png --tap 4 --do remove --out without.png", {}),
    ("validate empty", {}),
    ("validate broken.npz", {"broken.npz": b"PK\x03\x04 cut off"}),
    ("simulate photo.png --fault brg --out dumps", {}),
    ("evaluate --data nowhere --split val", {}),
    ("train --data nowhere --out run", {}),
    ("dataset pack nowhere --out packs", {}),
)


def main() -> int:
    """Write the page, or compare it."""
    os.environ |= {"COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb", "TYPER_USE_RICH": "0"}
    text = HEAD + "".join(_help(*command) for command in _commands()) + _mistakes()
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


def _commands() -> list[tuple[str, ...]]:
    """All commands, those of groups after their group."""
    found: list[tuple[str, ...]] = []
    for entry in sorted(entry_points(group="panokit.commands")):
        found.append((entry.name,))
        loaded = entry.load()
        if isinstance(loaded, typer.Typer):
            found += [(entry.name, name) for name in typer.main.get_group(loaded).commands]
    return found


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from panokit.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _help(*name: str) -> str:
    said = _run([*name, "--help"], PAGE.parent).stdout
    lines = [line.rstrip().replace("-c ", "panokit ", 1) for line in said.strip().splitlines()]
    return f"## panokit {' '.join(name)}\n```\n" + "\n".join(lines) + "\n```\n\n"


def _mistakes() -> str:
    parts = ["# What mistakes are answered with\n"]
    for line, files in MISTAKES:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "empty").mkdir()
            _photo(folder / "photo.png")
            for name, content in files.items():
                (folder / name).write_bytes(content)
            done = _run(line.split(), folder)
        answer = [s for s in done.stderr.splitlines() if s.strip() and not s.startswith("INFO:")]
        told = "\n".join(answer).replace(place, ".")
        parts.append(f"```\n$ panokit {line}\n{told}\n(exit code {done.returncode})\n```\n")
    return "\n".join(parts)


def _photo(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48), (90, 120, 200)).save(path)


if __name__ == "__main__":
    sys.exit(main())
