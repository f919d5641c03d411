"""The documents name nothing that is not there."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.toys.scripts import load_script

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
ROOMS = (
    "sdk|validation|network|compression|converters|lab|datasets|demo_app"
    "|tests|scripts|benchmarks|docs"
)
# Names with dots that are no module: entry-point groups, and a key in Core ML files.
OTHER_NAMES = {"panokit.commands", "panokit.segmenters", "panokit.labels"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / m for m in re.findall(r"\]\((?!http|#|mailto)([^)#\s]+)", text)]
    paths = [ROOT / m for m in re.findall(rf"`((?:{ROOMS})/[\w/.\-]+)`", text)]
    assert [str(p.relative_to(ROOT)) for p in (*links, *paths) if not p.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_modules_and_their_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`(panokit(?:_\w+)?(?:\.\w+)+)`", text)) - OTHER_NAMES
    assert sorted(n for n in names if not n.endswith(".json") and not _is_there(n)) == []


def _is_there(name: str) -> bool:
    """Whether a module has this name, or an attribute of one has."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_bank_of_faults_is_the_one_that_there_is() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    assert load_script("make_bank_table").with_bank(page) == page


def test_every_command_has_its_help_in_the_docs() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    told = {line.split()[2] for line in text.splitlines() if line.startswith("## panokit ")}
    assert told == {entry.name for entry in entry_points(group="panokit.commands")}
