"""The wheel and the sdist are whole, and a plain install of them segments a photo."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from panokit.bundle import shipped_bundle_path
from tests.toys.scripts import load_script
from tests.toys.shares import some

check_wheel = load_script("check_wheel")

needs_hatchling = pytest.mark.skipif(
    find_spec("hatchling") is None, reason="hatchling is not installed (extra dev)"
)
needs_bundle = pytest.mark.skipif(
    not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built"
)


@needs_hatchling
@needs_bundle
@pytest.mark.slow
def test_the_wheel_and_the_sdist_are_whole(root: Path, tmp_path: Path) -> None:
    built = check_wheel.build(root, tmp_path)
    assert list(check_wheel.sdist_problems(built.sdist, root)) == []
    assert list(check_wheel.wheel_problems(built.wheel, root)) == []


@needs_bundle
@pytest.mark.slow
@pytest.mark.parametrize("kind", some(["wheel", "checkout"], 2))
def test_a_plain_install_segments_a_photo(
    root: Path, tmp_path: Path, kind: str, installs_packages: None
) -> None:
    target, command = root, f"pip install '{root}[{{extra}}]'"
    if kind == "wheel":
        pytest.importorskip("hatchling", reason="hatchling is not installed (extra dev)")
        target = check_wheel.build(root, tmp_path / "dist").wheel
        command = f"pip install 'panokit[{{extra}}] @ {target.as_uri()}'"
    assert list(check_wheel.install_problems(target, tmp_path, command)) == []


METADATA = """\
Metadata-Version: 2.4
Name: panokit
Version: 9.9
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Python: <3.14,>=3.11
Requires-Dist: numpy<3,>=2.0
Requires-Dist: torch
Requires-Dist: jinja2>=3.1; extra == 'report'
"""


def test_what_is_wrong_with_a_wheel_is_named(root: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "panokit-9.9-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {
            "panokit/__init__.py": "",
            "panokit/__pycache__/errors.cpython-311.pyc": "",
            "tests/conftest.py": "",
            "panokit-9.9.dist-info/METADATA": METADATA,
            "panokit-9.9.dist-info/entry_points.txt": "[console_scripts]\nrun = panokit.run:main\n",
            "panokit-9.9.dist-info/licenses/LICENSE": "All rights reserved.",
        }.items():
            archive.writestr(name, text)
    found = "\n".join(check_wheel.wheel_problems(wheel, root))
    for sentence in (
        "panokit/py.typed is missing.",
        "panokit_demo/static/js/app.js is missing.",
        "panokit_validation/templates/report.html.j2 is missing.",
        "tests/conftest.py does not belong there.",
        "panokit/__pycache__/errors.cpython-311.pyc does not belong there.",
        "no file is named panokit_network/configs/*.json.",
        "METADATA: Version is '9.9', expected '0.1.0'.",
        "METADATA: Requires-Dist is ",
        "METADATA: Provides-Extra is set(), expected ",
        "the file LICENSE is missing, or is not the checkout's.",
        "the program panokit is missing.",
        "entry point run of console_scripts names panokit.run:main, which is not in the wheel.",
        "the wheel is not pure Python.",
    ):
        assert f"{wheel.name}: {sentence}" in found
    assert "METADATA: Name" not in found
    assert "METADATA: Requires-Python" not in found
