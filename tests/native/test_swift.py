"""The Swift package on Linux: XCTest with all vectors, the Apple-only file by parser and stubs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
