"""Jobs in processes and on a local Ray cluster: a worker killed midway loses nothing and nothing
is handed over twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import ArgumentError
from panokit_lab.workers import ATTEMPTS, run_jobs
from tests.toys.jobs import note

ROOT = Path(__file__).parents[2]


def jobs(tmp_path: Path, count: int = 5, **marks: str) -> dict[str, dict[str, Any]]:
    starts = str(tmp_path / "starts")
    made = {f"job{n}": {"name": f"job{n}", "number": n, "starts": starts} for n in range(count)}
    for mark, name in marks.items():
        made[name][mark] = True
    return made


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned workers find the tests' package."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def check(tmp_path: Path, done: list[tuple[str, Any]], count: int = 5) -> list[str]:
    """Every job handed over once, with its own result; returns the starts."""
    assert sorted(name for name, _ in done) == [f"job{n}" for n in range(count)]
    assert all(result == {"name": n, "square": int(n[3:]) ** 2} for n, result in done)
    return (tmp_path / "starts").read_text().split()


def test_here(tmp_path: Path) -> None:
    done: list[tuple[str, Any]] = []
    given = jobs(tmp_path, wrong="job1")
    failures = run_jobs(note, given, lambda n, r: done.append((n, r)))
    assert [(f.name, "is wrong" in f.reason) for f in failures] == [("job1", True)]
    assert [n for n, _ in done] == ["job0", "job2", "job3", "job4"]


def test_a_killed_process_loses_nothing(tmp_path: Path, importable: None) -> None:
    done: list[tuple[str, Any]] = []
    given = jobs(tmp_path, deadly="job2")
    assert run_jobs(note, given, lambda n, r: done.append((n, r)), workers=2) == []
    assert check(tmp_path, done).count("job2") == 2


def test_a_job_that_kills_every_worker_is_given_up(tmp_path: Path, importable: None) -> None:
    done: list[tuple[str, Any]] = []
    given = jobs(tmp_path, 2, always_deadly="job1")
    failures = run_jobs(note, given, lambda n, r: done.append((n, r)), workers=2)
    assert [f.name for f in failures] == ["job1"]
    assert f"{ATTEMPTS} times" in failures[0].reason
    assert [n for n, _ in done] == ["job0"]


@pytest.mark.filterwarnings("ignore")
def test_a_killed_ray_worker_loses_nothing(tmp_path: Path, importable: None) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    done: list[tuple[str, Any]] = []
    given = jobs(tmp_path, deadly="job2")

    def on_done(name: str, result: Any) -> None:
        done.append((name, result))

    assert run_jobs(note, given, on_done, workers=2, ray_address="local") == []
    assert check(tmp_path, done).count("job2") == 2


def test_no_workers() -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        run_jobs(note, {}, lambda n, r: None, workers=0)
