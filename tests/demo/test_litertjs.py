"""LiteRT.js: found, missed with a sentence, installed by npm; never part of the project."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import PanokitError
from panokit_demo import litertjs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "litertjs"
    monkeypatch.setenv("PANOKIT_LITERTJS", str(path))
    return path


def lay_out(folder: Path) -> Path:
    for name in litertjs._NEEDED:
        path = folder / "node_modules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return folder / "node_modules"


def test_it_is_found_only_when_it_is_whole(folder: Path) -> None:
    assert litertjs.find_litertjs() is None
    modules = lay_out(folder)
    assert litertjs.find_litertjs() == modules
    (modules / litertjs._NEEDED[1]).unlink()
    assert litertjs.find_litertjs() is None


def test_without_npm_the_sentence_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PanokitError, match=r"Install Node\.js.*panokit demo --install-litertjs"):
        litertjs.install_litertjs()
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/npm")
    assert litertjs.missing_sentence().endswith("Run: panokit demo --install-litertjs")


def test_npm_installs_what_the_lock_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def npm(command: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        lock = json.loads((cwd / "package-lock.json").read_text())
        assert set(lock["packages"]) == {
            "",
            "node_modules/@litertjs/core",
            "node_modules/@litertjs/wasm-utils",
        }
        lay_out(cwd)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", npm)
    assert litertjs.install_litertjs() == folder / "node_modules"
    assert litertjs.install_litertjs() == folder / "node_modules"  # it is there: nothing to do
    assert [c[:2] for c in calls] == [["/usr/bin/npm", "ci"]]
    assert "--ignore-scripts" in calls[0]


def test_a_failed_installation_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def npm(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", npm)
    with pytest.raises(PanokitError, match=r"npm could not install LiteRT\.js: no network"):
        litertjs.install_litertjs()
    assert not folder.exists()


def test_the_lock_pins_versions_by_hash_and_no_registry() -> None:
    home = resources.files("panokit_demo").joinpath("litertjs")
    lock = json.loads(home.joinpath("package-lock.json").read_text("utf-8"))
    wanted = json.loads(home.joinpath("package.json").read_text("utf-8"))["dependencies"]
    for name, version in wanted.items():
        locked = lock["packages"][f"node_modules/{name}"]
        assert locked["version"] == version == litertjs.VERSION
        assert locked["integrity"].startswith("sha512-")
        assert "resolved" not in locked
