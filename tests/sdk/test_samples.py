"""The sample photos: found in installed packages without importing these."""

from __future__ import annotations

import subprocess
import sys

import pytest

from panokit import samples
from panokit.errors import MissingExtraError
from panokit.photo import Photo


def test_samples_are_photos() -> None:
    pytest.importorskip("skimage")
    found = samples.sample_photos()
    assert {"astronaut", "coffee", "chelsea"} <= found.keys()
    for path in found.values():
        assert Photo.open(path).rgb_hwc.std() > 10


def test_finding_them_imports_no_package() -> None:
    code = (
        "import sys; from panokit.samples import sample_photos; sample_photos(); "
        "print([m for m in ('skimage', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    pytest.importorskip("skimage")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_without_them_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install -e .*\[demo\]"):
        samples.sample_photos()
