"""The recipes of the manual run as they stand: from data to a bundle to a validated dump."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = sorted((Path(__file__).parent.parent / "docs" / "recipes").glob("*.md"))


# One process for all commands of a page: each alone would load torch and LiteRT again.
RUN = """
import shlex, subprocess, sys
from panokit.cli import main

for line in sys.argv[1].splitlines():
    words = shlex.split(line, comments=True)
    if not words or words[0] != "panokit":
        subprocess.run(words or ["true"], check=True)
        continue
    sys.argv = words
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{line}: exit code {end.code}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_runs_as_it_stands(page: Path, root: Path, tmp_path: Path) -> None:
    commands = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    assert commands
    (tmp_path / "scripts").symlink_to(root / "scripts", target_is_directory=True)
    programs = Path(sys.executable).parent
    run = subprocess.run(
        [sys.executable, "-c", RUN, "".join(commands)],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "pass: " in run.stdout
    assert not re.search(r"Traceback", run.stderr)


def test_the_recipes_are_those_of_the_domains() -> None:
    assert [p.stem for p in RECIPES] == ["aerial", "driving", "medical", "phone", "surveillance"]
