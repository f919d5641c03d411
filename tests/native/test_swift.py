"""The Swift package on Linux: XCTest with all vectors, the Apple-only file by parser and stubs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from panokit.bundle import Bundle
from panokit.vectors import write_golden_tests
from tests.toys.scripts import load_script

swift = load_script("native_swift")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if reason := swift.missing():
        pytest.skip(reason)
    return swift.Package.copied(tmp_path_factory.mktemp("swift"))


def test_xctest_and_all_vectors_pass(package: Any) -> None:
    assert package.test() == ""


def test_the_apple_only_file_is_parsed_inside_its_conditions(package: Any) -> None:
    assert package.parse() == ""
    broken: Path = package.folder / "broken.swift"
    good = (package.folder / swift.SOURCES / "Apple.swift").read_text(encoding="utf-8")
    assert "#if canImport(CoreVideo)" in good
    broken.write_text(good.replace("{ CVPixelBufferUnlock", "{ let = CVPixelBufferUnlock"))
    assert "error" in package.parse("broken.swift")


def test_the_apple_only_file_has_the_right_types(package: Any) -> None:
    assert package.check_types() == ""
    apple: Path = package.folder / swift.SOURCES / "Apple.swift"
    good = apple.read_text(encoding="utf-8")
    apple.write_text(good.replace("rowStride: strides[2],", 'rowStride: "2",'))
    assert "error" in package.check_types()
    apple.write_text(good)


ADAPTER = Path(__file__).parent / "adapters" / "App.swift"


def test_the_xctest_target_passes_and_fails_where_it_should(package: Any, tmp_path: Path) -> None:
    tests: Path = package.folder / "swift" / "Tests" / "PanokitTests"
    write_golden_tests(tmp_path / "golden", "xctest")
    for path in (tmp_path / "golden").iterdir():
        if path.is_dir():
            shutil.copytree(path, tests / path.name)
        else:
            shutil.copy(path, tests)
    shutil.copy(Bundle.open().root / "manifest.json", tests)
    shutil.copy(ADAPTER, tests)
    for fault, failed in (
        ("", set()), ("offset", {"testInputToHeads"}), ("letterbox", {"testHeadsToMap"}),
    ):  # fmt: skip
        (tests / "fault").write_text(fault)
        done = package.run("swift", "test", "--filter", "PanokitGoldenTests")
        told = done.stdout + done.stderr
        assert "PanokitGoldenTests" in told, told[-2000:]
        assert set(re.findall(r"PanokitGoldenTests\.(\w+)' failed", told)) == failed, told[-2000:]
        assert "testPhotoToInput' skipped" in told
