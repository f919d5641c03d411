"""The history, against a real SQLite file and a real PostgreSQL server."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import DataError
from panokit_validation.summary import RunSummary
from panokit_validation.worker import Outcome

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed (extra history)")

from panokit_validation.history import History, RunInfo, _named, history_url
from tests.fuzz.rounds import rounds
from tests.toys.history_start import start


def postgres_binaries() -> Path | None:
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in found if (p / "pg_ctl").exists()), None)


def other_user() -> str | None:
    """PostgreSQL refuses to run as root: the user to become, or None where there is no need."""
    if os.geteuid() != 0:
        return None
    names = {p.pw_name for p in pwd.getpwall()}
    return next((n for n in ("postgres", "nobody") if n in names), None)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """A server of its own in a temporary folder, reached through a socket there."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra history)")
    user = other_user()
    if os.geteuid() == 0 and (user is None or shutil.which("runuser") is None):
        pytest.skip("PostgreSQL does not run as root, and there is no other user to become")
    home = Path(tempfile.mkdtemp(prefix="pk-pg-"))
    home.chmod(0o755)
    if user:
        shutil.chown(home, user)
    become = ["runuser", "-u", user, "--"] if user else []

    def run(program: str, *arguments: str) -> None:
        command = [*become, str(binaries / program), *arguments]
        # Its output goes nowhere: a server that inherited a pipe would hold it open.
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=quiet, stderr=quiet, cwd=home, timeout=120)

    data = str(home / "data")
    try:
        run("initdb", "-D", data, "-U", "qa", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses='' -c fsync=off -k {home}"
        run("pg_ctl", "-D", data, "-o", options, "-w", "-l", str(home / "log"), "start")
        try:
            yield f"postgresql://qa@/postgres?host={home}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "kept" / "runs.db")
        return
    server = request.getfixturevalue("postgresql")
    yield server
    import sqlalchemy

    engine = sqlalchemy.create_engine(history_url(server))
    with engine.begin() as connection:  # the next test starts from nothing
        connection.execute(sqlalchemy.text("DROP SCHEMA public CASCADE"))
        connection.execute(sqlalchemy.text("CREATE SCHEMA public"))
    engine.dispose()


def test_dumps_of_one_photo_are_told_apart() -> None:
    assert _named("cat", "night/cat.safetensors") == "cat"
    assert _named("cat.jpg", "night/cat.jpg") == "cat.jpg"
    assert _named("cat", "a.zip/phone/run2.npz") == "cat (run2.npz)"
    assert _named("cat", "C:\\dumps\\cat.dump.json") == "cat"


@pytest.mark.parametrize("turn", range(rounds(1, 60)))
def test_many_runs_start_a_new_history_at_once(url: str, turn: int) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(6), context.Queue()
    runs = [context.Process(target=start, args=(url, barrier, answers)) for _ in range(6)]
    for run in runs:
        run.start()
    numbers = [answers.get(timeout=60) for _ in runs]
    for run in runs:
        run.join(30)
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look", b"\0" * 4096])
def test_a_file_that_is_no_history(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"runs\.db: the history cannot be opened: "):
        History(str(path))
    assert path.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_history_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "runs.db")
    with pytest.raises(DataError, match="it is a pipe or a device"):
        History(str(tmp_path / "runs.db"))


CAUSE = {
    "explained": 1.0,
    "name": "bgr",
    "title": "t",
    "advice": "Feed RGB.",
    "stage": "input",
    "alarm": True,
}


def outcome(
    photo: str, verdict: str = "pass", stage: str | None = None, **metadata: str
) -> Outcome:
    """A judged photo as the worker gives it."""
    if verdict == "refused":
        return Outcome(photo, reason="damaged")
    figures = {"sqnr_db": 40.5, "pq": 99.0, "equal_pixels": 0.5}
    stages = [
        {"stage": n, "figures": figures, "message": "m", "chain": None}
        for n in ("input", "semantic", "panoptic")
    ]
    data: dict[str, Any] = {
        "photo": photo,
        "dump": f"d/{photo}",
        "verdict": verdict,
        "first_bad_stage": stage,
        "causes": [dict(CAUSE)] if stage else [],
        "stages": stages,
        "warnings": [],
        "metadata": {"device": "Pixel 9", "runtime": "litert", **metadata},
    }
    return Outcome(data["dump"], data)


def record(history: History, outcomes: list[Outcome], build: str = "", bundle: str = "b") -> int:
    recorder, summary = history.start(bundle, "00", build, {"thresholds": {}}), RunSummary()
    for one in outcomes:
        recorder.add(one)
        summary.add(one)
    recorder.finish(summary)
    return recorder.run


def test_what_changed_between_builds(url: str) -> None:
    with History(url) as history:
        first = record(
            history,
            [
                outcome("same"),
                outcome("breaks"),
                outcome("mends", "fail", "input"),
                outcome("moves", "fail", "input"),
                outcome("worse"),
                outcome("better", "pass with rounding"),
                outcome("gone"),
            ],
            "1.0",
        )
        assert history.changes(first) == []
        record(history, [outcome("other", "fail", "input")], bundle="another bundle")
    with History(url) as history:  # a new connection, as the next night's run has
        second = record(
            history,
            [
                outcome("same"),
                outcome("breaks", "fail", "center"),
                outcome("mends"),
                outcome("moves", "fail", "panoptic"),
                outcome("worse", "pass with rounding"),
                outcome("better"),
                outcome("new"),
            ],
            "1.1",
        )
        changes = {c.photo: (c.kind, c.before, c.after) for c in history.changes(second)}
        assert changes == {
            "breaks": ("broke", "pass", "fail at center"),
            "mends": ("mended", "fail at input", "pass"),
            "moves": ("moved", "fail at input", "fail at panoptic"),
            "worse": ("worse", "pass", "pass with rounding"),
            "better": ("better", "pass with rounding", "pass"),
            "gone": ("gone", "pass", ""),
            "new": ("new", "", "pass"),
        }
        assert history.changes(second, before=second) == []
        kept = history.runs("b")
        assert [(r.build, r.verdict, r.photos, r.failed) for r in kept] == [
            ("1.0", "fail", 7, 2),
            ("1.1", "fail", 7, 2),
        ]
        assert isinstance(kept[0], RunInfo)
        assert len(history.runs()) == 3


def test_devices_and_runtimes_are_told_apart(url: str) -> None:
    with History(url) as history:
        record(history, [outcome("p"), outcome("p", device="iPhone", runtime="coreml")])
        run = record(
            history,
            [outcome("p"), outcome("p", "fail", "input", device="iPhone", runtime="coreml")],
        )
        (change,) = history.changes(run)
        assert (change.kind, change.group) == ("broke", "iPhone · coreml")
        groups = {g["device"]: g for g in history.groups(run)}
        assert groups["iPhone"]["failed"] == 1
        assert groups["Pixel 9"]["failed"] == 0
        assert groups["Pixel 9"]["sqnr_db"] == pytest.approx(40.5)


def test_runs_that_were_stopped_do_not_count(url: str) -> None:
    with History(url) as history:
        record(history, [outcome("p", "fail", "input")])
        history.start("b", "00", "", {}).add(outcome("p"))  # never finished
        run = record(history, [outcome("p")])
        assert [c.kind for c in history.changes(run)] == ["mended"]
        assert len(history.runs("b")) == 2


def test_hostile_text_is_kept_as_text(url: str) -> None:
    evil = "'); DROP TABLE panokit_runs; -- \0 \ud800 😀"
    with History(url) as history:
        record(history, [outcome(evil, device=evil), Outcome(evil, reason=evil)])
        run = record(history, [outcome(evil, "fail", "input", device=evil)], build=evil)
        kinds = [c.kind for c in history.changes(run)]
        assert sorted(kinds) == ["broke", "gone"]


def test_many_photos(url: str) -> None:
    with History(url) as history:
        record(history, [outcome(f"p{i}") for i in range(1203)])
        assert history.runs("b")[0].photos == 1203
        run = record(history, [outcome(f"p{i}", "fail", "input") for i in range(1203)])
        assert len(history.changes(run)) == 1203


def test_another_versions_history_is_refused(url: str) -> None:
    import sqlalchemy

    with History(url):
        pass
    engine = sqlalchemy.create_engine(history_url(url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE panokit_schema SET version = 99"))
    engine.dispose()
    with pytest.raises(DataError, match="expected a history of version 1, got 99"):
        History(url)


def test_what_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database " * 100)
    with pytest.raises(DataError, match="cannot be opened"):
        History(str(tmp_path / "x.db"))
    with pytest.raises(DataError, match="cannot be opened"):
        History("nonsense://somewhere/x")
    with pytest.raises(DataError) as error:
        History("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(error.value)
