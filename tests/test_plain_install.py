"""`pip install .` alone, in a fresh environment, segments a photo with the shipped bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.bundle import shipped_bundle_path


@pytest.mark.skipif(not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built")
def test_a_plain_install_segments_a_photo(root: Path, tmp_path: Path) -> None:
    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, env=clean, cwd=tmp_path,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    photo = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(photo)
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    run(binaries / "pip", "install", "--quiet", "--disable-pip-version-check", root)
    run(binaries / "panokit", "segment", photo, "--out", "out", "--json", "r.json")
    assert len(json.loads((tmp_path / "r.json").read_text())["results"]) == 1
    listed = json.loads(run(binaries / "pip", "list", "--format", "json").stdout)
    names = {p["name"].lower() for p in listed}
    assert not names & {"torch", "tensorflow", "opencv-python-headless", "coremltools"}
    absent = subprocess.run(
        [str(binaries / "panokit"), "export"], capture_output=True, text=True, check=False
    )
    assert absent.returncode == 2
    assert f"pip install '{root}[export]'" in absent.stderr
