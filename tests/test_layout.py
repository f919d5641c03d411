"""Guards of the house: where modules lie, what may import what, what a bare import costs."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import panokit
from tests.toys.scripts import load_script

structure = load_script("structure")


@pytest.mark.parametrize("folder", structure.ROOMS)
def test_no_module_lies_directly_in_a_source_root(root: Path, folder: str) -> None:
    # A plain compression/__init__.py would shadow the standard library's `compression`.
    assert sorted((root / folder).glob("*.py*")) == []


def test_no_arrow_points_up_and_no_files_import_in_circles(root: Path) -> None:
    found = structure.all_imports(root)
    assert len(found) > 500  # the reading itself works
    assert structure.arrows_upward(found) == []
    assert structure.circles(found) == []


def test_structure_sees_what_it_guards_against(tmp_path: Path) -> None:
    """An arrow up and a circle, one hidden in a function and one under TYPE_CHECKING."""
    files = {
        "sdk/panokit/a.py": "def f():\n    from panokit.b import g\n",
        "sdk/panokit/b.py": "if TYPE_CHECKING:\n    from panokit import a\n",
        "sdk/panokit/c.py": "import panokit_lab.export\n",
        "lab/panokit_lab/export.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    found = structure.all_imports(tmp_path)
    assert [(i.file, i.module) for i in structure.arrows_upward(found)] == [
        ("panokit.c", "panokit_lab.export")
    ]
    assert structure.circles(found) == [["panokit.a", "panokit.b"]]


def test_only_commands_topics_and_segmenters_are_found_by_entry_point(root: Path) -> None:
    assert structure.entry_point_lookups(root) == [
        "panokit.cli.shell",
        "panokit.topics",
        "panokit_datasets.commands.evaluate",
    ]
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    groups = re.findall(r'^\[project\.entry-points\."([^"]+)"\]', text, re.MULTILINE)
    assert groups == ["panokit.commands", "panokit.topics", "panokit.segmenters"]


def test_the_sdk_needs_nothing_heavy(root: Path) -> None:
    for path in (root / "sdk" / "panokit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            tops = {n.partition(".")[0] for n in names}
            assert not tops & {"torch", "tensorflow", "coremltools", "litert_torch"}, path


def test_importing_panokit_loads_nothing_heavy() -> None:
    code = (
        "import sys, panokit; "
        "print([m for m in ('torch', 'ai_edge_litert', 'typer', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_listed_and_exist(root: Path) -> None:
    packages = [package for package, _ in structure.ROOMS.values()]
    names = [
        f"{package}.{name}"
        for package in packages
        for name in sorted(getattr(importlib.import_module(package), "__all__", []))
    ]
    listed = (root / "tests" / "public_api.txt").read_text(encoding="utf-8").split()
    assert names == listed, (
        "the public API changed: if that is meant, write package.name for each package of "
        "scripts/structure.py and each name of its __all__, sorted, to tests/public_api.txt"
    )
    # A module of a public name's own name would take its place as soon as it is imported.
    for module in pkgutil.walk_packages(panokit.__path__, "panokit."):
        importlib.import_module(module.name)
    for name in names:
        package, _, attribute = name.partition(".")
        assert not isinstance(getattr(sys.modules[package], attribute), ModuleType), name


def test_no_test_imports_from_a_conftest(root: Path) -> None:
    """pytest loads those files by its own rules; what tests call is in tests/toys/."""
    for path in (root / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(a.name for a in node.names)]
            assert not any("conftest" in n.split(".") for n in names), path


def test_the_manual_names_no_package_index(root: Path) -> None:
    """Panokit is on none: an install line names a checkout or a wheel."""
    for path in [root / "README.md", *(root / "docs").rglob("*.md")]:
        assert not re.search(r"pip install '?panokit", path.read_text(encoding="utf-8")), path


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = panokit.nonsense
