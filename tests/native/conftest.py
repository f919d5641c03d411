"""The core built once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.native_core import Core, build_library, compiler


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    """The core as a shared library; tests that need it are skipped without a C compiler."""
    if compiler() is None:
        pytest.skip("there is no C compiler: install gcc or clang, or set CC")
    folder: Path = tmp_path_factory.mktemp("native")
    return Core(build_library(folder))
