"""What all tests share: taxonomies, transforms, heads, and where the shared data lies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from panokit.postprocessing import Heads
from panokit.preprocessing import TransformRecord, letterbox
from panokit.taxonomy import Category, Taxonomy

ROOT = Path(__file__).parent.parent


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


def full_frame(size: int) -> TransformRecord:
    """A square photo that fills its square input exactly."""
    return letterbox((size, size), (size, size))


def toy_heads(cells: int, channels: int = 4) -> Heads:
    """All-zero heads of cells × cells, centres far below any threshold."""
    return Heads(
        np.zeros((cells, cells, channels), np.float32),
        np.full((cells, cells), -20, np.float32),
        np.zeros((cells, cells, 2), np.float32),
    )
