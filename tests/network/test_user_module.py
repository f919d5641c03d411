"""A network in the user's own folder, beside scripts of any name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from panokit.errors import ArgumentError
from panokit_network.source import import_network

NET = "from torch import nn\n{imports}\ndef build():\n    return nn.Conv2d(3, {width}, 1)\n"
RUN = "open('was-run', 'w').close()\nraise SystemExit('the own script was run')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["onnxscript", "sklearn", "coremltools", "fractions", "PIL"])
def test_a_script_named_as_a_package_is_left_alone(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(RUN)
    (folder / "own_net.py").write_text(NET.format(imports="import own_layers", width=4))
    (folder / "own_layers.py").write_text("import fractions, PIL.Image\n")
    assert import_network("own_net:build").out_channels == 4
    found = PathFinder.find_spec(name)  # as a converter that imports it later does
    assert found is not None
    assert not Path(str(found.origin)).is_relative_to(folder)
    assert not (folder / "was-run").exists()


@pytest.mark.parametrize("name", ["onnx", "typer", "json"])
def test_a_network_in_a_file_named_as_a_package_is_told_to_be_renamed(
    folder: Path, name: str
) -> None:
    (folder / f"{name}.py").write_text(RUN)
    with pytest.raises(ArgumentError, match=rf"{name}\.py of this folder.*rename it"):
        import_network(f"{name}:build")
    assert not (folder / "was-run").exists()


@pytest.mark.parametrize("name", ["models", "utils", "own_package"])
def test_a_package_of_the_folder_is_found(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    (folder / name / "net.py").write_text(NET.format(imports="from . import parts", width=5))
    (folder / name / "parts.py").touch()
    assert import_network(f"{name}.net:build").out_channels == 5


def test_what_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot be imported"):
        import_network("nowhere_at_all:build")
    (folder / "own_empty.py").touch()
    with pytest.raises(ArgumentError, match="cannot be imported"):
        import_network("own_empty:build")
