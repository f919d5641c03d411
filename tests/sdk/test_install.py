"""The command that a missing extra names: one that works for this copy of Panokit."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from panokit import _install
from panokit.errors import MissingExtraError

COMMIT = "77f278a7d3a1f2f5bb6a0c8a7c3a4b8d9e0f1a2b"


@pytest.fixture(autouse=True)
def posix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A POSIX shell, and a ``pip`` on the path that is this Python's own."""
    monkeypatch.setattr(_install, "WINDOWS", False)
    monkeypatch.setattr(shutil, "which", lambda name: str(Path(sys.executable).parent / name))


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that this copy of Panokit seems to be installed in."""
    folder = tmp_path / "site-packages"
    (folder / "panokit").mkdir(parents=True)
    (folder / "panokit-0.1.0.dist-info").mkdir()
    monkeypatch.setattr(_install, "__file__", str(folder / "panokit" / "_install.py"))
    return folder


def note(site_packages: Path, text: str) -> None:
    (site_packages / "panokit-0.1.0.dist-info" / "direct_url.json").write_text(text)


def test_a_checkout_is_installed_from_its_folder(root: Path) -> None:
    error = MissingExtraError("Reading HEIC photos", "demo")
    assert error.command == f"pip install -e '{root}[demo]'"
    assert str(error) == (
        "Reading HEIC photos needs the 'demo' extra. "
        f"Install it with: pip install -e '{root}[demo]'"
    )


def test_a_wheel_is_installed_from_where_it_lies(site_packages: Path) -> None:
    wheel = site_packages.parent / "my wheels" / "panokit-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    note(site_packages, json.dumps({"url": wheel.as_uri(), "archive_info": {}}))
    assert "my%20wheels" in wheel.as_uri()
    command = MissingExtraError("x", "onnx").command
    assert command == f"pip install 'panokit[onnx] @ {wheel.as_uri()}'"


def test_an_installed_folder_is_installed_again(site_packages: Path) -> None:
    folder = site_packages.parent / "a checkout"
    folder.mkdir()
    note(site_packages, json.dumps({"url": folder.as_uri(), "dir_info": {}}))
    assert _install.install_command("onnx") == f"pip install '{folder}[onnx]'"


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        ({"url": "https://a.org/p.whl", "archive_info": {}}, "https://a.org/p.whl"),
        (
            {"url": "https://a.org/p", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
            f"git+https://a.org/p@{COMMIT}",
        ),
    ],
    ids=["a wheel at a URL", "a repository"],
)
def test_urls_and_repositories(
    site_packages: Path, origin: dict[str, object], requirement: str
) -> None:
    note(site_packages, json.dumps(origin))
    assert _install.install_command("onnx") == f"pip install 'panokit[onnx] @ {requirement}'"


@pytest.mark.parametrize(
    "text",
    [None, '{"url": "file:///nowhere/panokit-0.1.0-py3-none-any.whl"}', "{}", "[]", "no JSON"],
    ids=["no note", "the wheel is gone", "no URL", "not an object", "not JSON"],
)
def test_an_unknown_origin_sends_to_a_checkout(site_packages: Path, text: str | None) -> None:
    if text is not None:
        note(site_packages, text)
    error = MissingExtraError("x", "onnx")
    assert error.command == "pip install '.[onnx]'"
    assert str(error).endswith("In a checkout of Panokit, run: pip install '.[onnx]'")


def test_another_pip_on_the_path_is_not_named(
    site_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for which in (lambda name: "/usr/bin/pip", lambda name: None):
        monkeypatch.setattr(shutil, "which", which)
        monkeypatch.setattr(sys, "executable", "/home/a b/.venv/bin/python")
        command = _install.install_command("onnx")
        assert command == "'/home/a b/.venv/bin/python' -m pip install '.[onnx]'"


def test_windows_gets_double_quotes(site_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_install, "WINDOWS", True)
    assert _install.install_command("onnx") == 'pip install ".[onnx]"'
    assert _install._path_of("file:///C:/my%20wheels/p.whl") == Path("C:/my wheels/p.whl")
