"""Fixtures that all tests share. Functions that tests call are in tests/toys/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from panokit.taxonomy import Category, Taxonomy

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, so that no process waits for another's last long test."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def photo_set() -> Path:
    """The photo set beside the project; tests that need it are skipped without it."""
    path = Path(os.environ.get("PANOKIT_DATA", ROOT.parent / "shared" / "data" / "camera-panoptic"))
    if not (path / "taxonomy.json").is_file():
        pytest.skip("the photo set ../shared/data/camera-panoptic is not here")
    return path


@pytest.fixture(scope="session")
def installs_packages() -> None:
    """For tests that install packages from an index: only when they are asked for."""
    if os.environ.get("PANOKIT_INSTALL_TESTS") != "1":
        pytest.skip("installs packages from the package index: set PANOKIT_INSTALL_TESTS=1")


@pytest.fixture
def taxonomy() -> Taxonomy:
    """Two things (ids 1, 3) and two kinds of stuff (ids 2, 7)."""
    return Taxonomy(
        "toy",
        (
            Category(1, "person", True, (255, 0, 0)),
            Category(2, "sky", False, (0, 0, 255)),
            Category(3, "dog", True, (0, 255, 0)),
            Category(7, "road", False, (128, 128, 128)),
        ),
    )
