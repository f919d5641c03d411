"""Runs that are killed at any moment lose nothing, do nothing twice and leave nothing half done.

Each command runs once undisturbed; elsewhere it is killed at random moments, and the last run is
left alone. What is there then is what the undisturbed run made.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panokit._files import write_json
from panokit.bundle import Bundle, hash_path
from panokit.config import write_settings
from panokit.dump import dump_stages, write_dump
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from tests.fuzz.rounds import IS_LONG, rounds
from tests.toys.data_folder import make_folder
from tests.toys.demo_bundles import toy_bundle

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
DUMPS = 40
OLD = '{"old": true}'


@dataclass(frozen=True)
class Command:
    """``arguments`` run in a folder, with the inputs in the folder above; ``made`` tells what is
    there once it is done, so that two runs can be compared; ``whole`` checks what is there after
    any kill."""

    arguments: tuple[str, ...]
    made: Callable[[Path], Any]
    whole: Callable[[Path], None]
    extra: str = "torch"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _validated(folder: Path) -> Any:
    photos = _read(folder / "verdicts.json")["photos"]
    lines = (folder / "state").read_text(encoding="utf-8").splitlines()[1:]
    with contextlib.closing(sqlite3.connect(folder / "runs.db")) as history:
        finished = list(
            history.execute(
                "select distinct r.photos, (select count(distinct dump) from panokit_photos p "
                "where p.run_id = r.id), (select count(*) from panokit_photos p "
                "where p.run_id = r.id) from panokit_runs r where r.finished"
            )
        )
    assert (folder / "page.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    return [(p["dump"], p["verdict"]) for p in photos], len(lines), finished


def _validate_whole(folder: Path) -> None:
    found = _read(folder / "verdicts.json")
    assert found == json.loads(OLD) or len(found["photos"]) == DUMPS


def _exported(folder: Path) -> Any:
    bundle = Bundle.open(folder / "mine.panokit")
    return [(a.name, a.sha256) for a in bundle.manifest.artifacts]


def _export_whole(folder: Path) -> None:
    assert Bundle.open(folder / "mine.panokit").manifest.artifacts


def _compressed(folder: Path) -> Any:
    recipes = sorted(p.parent.name for p in folder.glob("runs/*/result.json"))
    assert recipes == ["float32", "int8"]
    return [hash_path(folder / "runs" / r / "model.tflite") for r in recipes]


def _compress_whole(folder: Path) -> None:
    for path in folder.glob("runs/**/[!.]*.json"):
        _read(path)
    for path in folder.glob("runs/**/[!.]*.tflite"):
        assert path.read_bytes()[4:8] == b"TFL3"


def _trained(folder: Path) -> Any:
    steps = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return hash_path(folder / "run/weights.safetensors"), [s.get("step") for s in steps]


def _train_whole(folder: Path) -> None:
    from safetensors.numpy import load_file

    for name in ("checkpoint", "weights"):
        path = folder / f"run/{name}.safetensors"
        assert not path.exists() or load_file(path)


_MODULE = ("--module", "tests.toys.user_network:build", "--taxonomy", "../taxonomy.json",
           "--photos", "../data/images/toy_train", "--size", "64")  # fmt: skip
COMMANDS = {
    "validate": Command(
        ("validate", "../dumps", "--bundle", "../toy.panokit", "--state", "state", "--json",
         "verdicts.json", "--report", "page.html", "--history", "runs.db", "--build", "a"),
        _validated, _validate_whole, "sqlalchemy",
    ),
    "export": Command(
        ("export", *_MODULE, "--formats", "tflite,onnx", "--recipe", "float32,int8", "--out",
         "mine.panokit"),
        _exported, _export_whole,
    ),
    "compress": Command(
        ("compress", "run", "float32,int8", *_MODULE, "--out", "runs"), _compressed, _compress_whole
    ),
    "train": Command(
        ("train", "--data", "../data", "--config", "../config.json", "--out", "run",
         "--no-imagenet", "--train", "toy_train", "--validate", "toy_train", "--workers", "1"),
        _trained, _train_whole,
    ),
}  # fmt: skip


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Dumps, a bundle, a data set, settings of a short training."""
    segmenter = Segmenter.open(toy_bundle(tmp_path), threads=1)
    (tmp_path / "dumps").mkdir()
    rng = np.random.default_rng(0)
    for number in range(DUMPS):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        stages = segmenter.stages(Photo.from_array(pixels, f"p{number}"))
        dump = dump_stages(stages, segmenter.artifact, "litert")
        write_dump(dump, tmp_path / "dumps" / f"p{number}.safetensors")
    make_folder(tmp_path / "data")
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(3)]
    write_json(tmp_path / "taxonomy.json", {"name": "toy", "categories": categories})
    return tmp_path


def _new_folder(path: Path) -> Path:
    """A place for results, in which older ones lie already."""
    path.mkdir()
    (path / "tmp").mkdir()
    (path / "verdicts.json").write_text(OLD, encoding="utf-8")
    toy_bundle(path)
    (path / "toy.panokit").rename(path / "mine.panokit")
    return path


def _run(command: Command, folder: Path, seconds: float | None = None) -> float:
    """Run it, or kill it after so many seconds, its children with it or not; how long it took."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from panokit.cli import main; main()", *command.arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"),
             "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=seconds)
        assert process.returncode in (0, 1), said.decode()[-2000:]
    except subprocess.TimeoutExpired:
        if int(began * 1000) % 2:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
    return time.monotonic() - began


@pytest.mark.parametrize("name", list(COMMANDS) if IS_LONG else ["validate"])
def test_killed_runs(name: str, inputs: Path) -> None:
    command = COMMANDS[name]
    pytest.importorskip(command.extra, reason=f"{command.extra} is not installed")
    if name == "train":
        from tests.network.test_train import SMALL

        write_json(
            inputs / "config.json", write_settings(replace(SMALL, save_every=3, validate_every=8))
        )
    alone = _new_folder(inputs / "alone")
    seconds = _run(command, alone)
    expected = command.made(alone)
    rng = np.random.default_rng()
    for turn in range(rounds(1, 10)):
        folder = _new_folder(inputs / f"killed-{turn}")
        for _ in range(rounds(2, 5)):
            at = float(rng.uniform(0, seconds))
            _run(command, folder, at)
            command.whole(folder)
        _run(command, folder)
        assert command.made(folder) == expected, f"{name}, killed last after {at:.2f} s"
        left = [p for p in folder.rglob(".*") if ".part" in p.name or p.name.endswith(".old")]
        assert left == []
