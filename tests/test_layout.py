"""Guards of the house: where modules lie, what may import what, what a bare import costs."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import panokit

PACKAGES = {
    "sdk": "panokit",
    "network": "panokit_network",
    "compression": "panokit_compression",
    "converters": "panokit_converters",
    "demo_app": "panokit_demo",
}
MAY_IMPORT = {
    "panokit": set(),
    "panokit_network": {"panokit"},
    "panokit_compression": {"panokit", "panokit_network"},
    "panokit_converters": {"panokit", "panokit_network", "panokit_compression"},
    "panokit_demo": {"panokit"},
}


@pytest.mark.parametrize("folder", PACKAGES)
def test_no_module_lies_directly_in_a_source_root(root: Path, folder: str) -> None:
    # A plain compression/__init__.py would shadow the standard library's `compression`.
    assert sorted((root / folder).glob("*.py*")) == []


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_imports_run_one_way(root: Path, folder: str, package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    banned = set(PACKAGES.values()) - allowed
    if package == "panokit":
        banned |= {"torch", "tensorflow", "coremltools", "litert_torch"}
    for path in (root / folder / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            tops = {n.partition(".")[0] for n in names}
            assert not tops & banned, f"{path} imports {sorted(tops & banned)}"


def test_importing_panokit_loads_nothing_heavy() -> None:
    code = (
        "import sys, panokit; "
        "print([m for m in ('torch', 'ai_edge_litert', 'typer', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_listed_and_exist(root: Path) -> None:
    listed = (root / "tests" / "public_api.txt").read_text(encoding="utf-8").split()
    assert sorted(panokit.__all__) == listed, (
        "the public API changed: if that is meant, write sorted(panokit.__all__), "
        "a name a line, to tests/public_api.txt"
    )
    # A module of a public name's own name would take its place as soon as it is imported.
    for module in pkgutil.walk_packages(panokit.__path__, "panokit."):
        importlib.import_module(module.name)
    for name in panokit.__all__:
        assert not isinstance(getattr(panokit, name), ModuleType), name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = panokit.nonsense
