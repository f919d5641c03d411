"""The checks of the JavaScript: tools pinned, said when missing, and nothing found."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.toys.scripts import load_script

check_js = load_script("check_js")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lock and no tools yet."""
    modules = tmp_path / "node_modules"
    (tmp_path / "package-lock.json").write_text("{}")
    monkeypatch.setattr(check_js, "TOOLS", tmp_path)
    monkeypatch.setattr(check_js, "MODULES", modules)
    monkeypatch.setattr(check_js, "STAMP", modules / ".panokit-lock")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return tmp_path


def test_versions_are_pinned_and_no_registry_is_named(root: Path) -> None:
    wanted = json.loads((root / "tools/js/package.json").read_text())["devDependencies"]
    text = (root / "tools/js/package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert {n: packages[f"node_modules/{n}"]["version"] for n in wanted} == wanted
    assert '"resolved"' not in text
    assert all("integrity" in p for name, p in packages.items() if name)


def test_what_is_missing_is_said(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_js.missing().endswith("Run: python scripts/check_js.py --install")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert check_js.missing() == "Node.js is not installed (https://nodejs.org)."
    assert check_js.install() == "npm is not installed, so `make lint` leaves out the JavaScript."


def test_npm_installs_once(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def npm(command: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command[:2])
        for tool, *_ in check_js.COMMANDS:
            path = cwd / "node_modules" / tool
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", npm)
    for _ in range(2):
        assert check_js.install() == f"The tools that check the JavaScript are in {tools}" + (
            "/node_modules"
        )
    assert calls == [["/usr/bin/npm", "ci"]]
    assert check_js.missing() == ""
    (tools / "package-lock.json").write_text('{"changed": true}')
    check_js.install()
    assert len(calls) == 2


def test_a_failing_npm_is_told(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess(["npm"], 1, "", "no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert check_js.install() == "npm could not install them: no network"


@pytest.mark.slow
def test_the_checks_find_nothing() -> None:
    if sentence := check_js.missing():
        pytest.skip(sentence)
    assert check_js.check() == 0


@pytest.mark.slow
def test_the_checks_see_a_wrong_type(tmp_path: Path) -> None:
    if sentence := check_js.missing():
        pytest.skip(sentence)
    wrong = tmp_path / "wrong.js"
    wrong.write_text("/** @param {number} n */\nexport const f = (n) => n.length;\n")
    (tmp_path / "tsconfig.json").write_text(
        json.dumps({"extends": str(check_js.TOOLS / "tsconfig.json"), "include": ["wrong.js"]})
    )
    node = shutil.which("node") or "node"
    tsc = check_js.MODULES / "typescript/bin/tsc"
    done = subprocess.run([node, tsc, "-p", tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Property 'length' does not exist on type 'number'" in done.stdout
