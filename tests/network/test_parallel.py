"""Two processes learn what one does; TensorBoard gets figures and pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panokit.errors import ArgumentError
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_network.training.board import Board
from panokit_network.training.cache import PhotoCache
from panokit_network.training.config import Phase
from panokit_network.training.parallel import SyncedBatchNorm2d, synchronize
from panokit_network.training.trainer import Trainer
from panokit_network.training.validate import Validator
from tests.network.test_train import SMALL
from tests.toys.data_folder import make_folder

pytestmark = pytest.mark.slow

# float32, so that only the order of sums can differ between one process and two.
# A low rate: Adam turns a rounding of a small gradient into a whole step.
# Large enough that batch normalisation averages over many cells: with four, a rounding explodes.
PHASES = (Phase(64, 8, 64, freeze_blocks=3), Phase(96, 8, 64))
EXACT = replace(SMALL, bf16=False, dropout=0.0, record_every=1, phases=PHASES, learning_rate=5e-5)

RUN = """
import sys
from panokit.cli import main
main()
"""


def _train(root: Path, name: str, launcher: list[str], steps: int) -> dict[str, Any]:
    script = root / "run.py"
    script.write_text(RUN)
    command = [
        sys.executable, *launcher, str(script), "train", "--data", str(root / "data"), "--out",
        str(root / name), "--config", str(root / "c.json"), "--workers", "0", "--no-imagenet",
        "--cache", str(root / f"cache-{name}"), "--json", str(root / f"{name}.json"),
        "--stop-after", str(steps),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((root / f"{name}.json").read_text())
    return result


def test_two_gloo_processes_equal_one_process(tmp_path: Path) -> None:
    make_folder(tmp_path / "data")
    (tmp_path / "c.json").write_text(json.dumps(EXACT.to_json()))
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    # Both phases, so that freezing and thawing happen under way.
    assert _train(tmp_path, "one", [], 16)["processes"] == 1
    assert _train(tmp_path, "two", torchrun, 16)["processes"] == 2
    curves = {}
    for name in ("one", "two"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        curves[name] = [f for f in map(json.loads, lines) if "total" in f]
    assert [f["step"] for f in curves["one"]] == list(range(1, 17))
    for one, two in zip(curves["one"], curves["two"], strict=True):
        # Rounding grows from step to step, as it does between any two machines.
        tolerance = 1e-5 if one["step"] == 1 else 0.005  # roundings add up over the steps
        for key in ("total", "semantic", "center", "offset"):
            assert two[key] == pytest.approx(one[key], rel=tolerance), (one["step"], key)


def test_synchronized_statistics_equal_batch_norm_in_one_process() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.BatchNorm2d(4))
    x = torch.randn(3, 4, 5, 5)
    expected = plain(x)
    plain.load_state_dict(torch.nn.Sequential(torch.nn.BatchNorm2d(4)).state_dict())
    synchronize(plain)
    assert isinstance(plain[0], SyncedBatchNorm2d)
    torch.testing.assert_close(plain(x), expected)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[PanopticFolder, PhotoCache]:
    folder = PanopticFolder.open(make_folder(tmp_path / "data"))
    return folder, PhotoCache.build(load_split(folder, "toy_train"), folder.taxonomy, tmp_path)


def test_batch_must_divide_among_processes(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panokit_network.training.trainer.world_size", lambda: 3)
    with pytest.raises(ArgumentError, match="a multiple of the 3 processes"):
        Trainer(EXACT, photos[1], photos[0].taxonomy, tmp_path / "run", imagenet=False)


def test_board_shows_losses_validation_and_pictures(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, cache = photos
    validator = Validator({"toy": cache}, folder.taxonomy, size=64, limit=2)
    board = Board(tmp_path / "board")
    config = replace(EXACT, phases=(replace(SMALL.phases[0], samples=84),), validate_every=40)
    made = Trainer(
        config, cache, folder.taxonomy, tmp_path / "run", validator, None, 0, False, board=board
    )
    made.run()
    board.close()
    shown = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {"train/total", "train/rate", "validation/toy/miou"} <= set(shown.Tags()["scalars"])
    assert [e.step for e in shown.Scalars("train/total")][-1] == 84
    assert "validation/toy/0" in shown.Tags()["images"]
    row = validator.pictures(made.averaged(), per_split=1)[0][1]
    assert row.shape == (64, 3 * 64, 3)
    assert row.dtype == np.uint8
