"""The pool: answers, refusals, too much to do, too slow, and a worker that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import PhotoError
from panokit_demo import budget, workers
from panokit_demo.limits import DemoLimits
from panokit_demo.workers import (
    ClientBusyError,
    JobBusyError,
    JobCrashedError,
    JobFailedError,
    JobKilledError,
    JobRefusedError,
    JobTooSlowError,
    WorkerPool,
)


class FakeStudio:
    """Jobs that need no network."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def ready(self) -> int:
        return os.getpid()

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def refuse(self) -> None:
        raise PhotoError("photo", "is odd")

    def fail(self) -> None:
        raise RuntimeError("secret")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self, mark: str) -> str:
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    def crash(self) -> None:
        os.abort()

    def burn(self, seconds: int) -> None:
        with budget.processor_seconds(seconds):
            sum(range(10**15))  # in C: no signal handler of Python's would be called


def fake_work(pipe: Any, *arguments: Any) -> None:
    from panokit_demo.workers import serve_jobs

    budget.arm()
    serve_jobs(pipe, FakeStudio())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a coroutine function with a pool of fake workers."""
    monkeypatch.setattr(workers, "_work", fake_work)

    def call(body: Callable[[WorkerPool], Awaitable[Any]], **limits: int) -> Any:
        async def whole() -> Any:
            pool = WorkerPool(DemoLimits(**limits), ())
            await pool.start()
            try:
                return await body(pool)
            finally:
                await pool.close()

        return asyncio.run(whole())

    return call


def test_jobs_run_side_by_side_and_wait_their_turn(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        return await asyncio.gather(*(pool.run("sleep", 0.01 * i) for i in range(6)))

    assert run(body, workers=2) == [0.01 * i for i in range(6)]


def test_too_many_are_sent_away_at_once(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        jobs = [pool.run("sleep", 0.2) for _ in range(5)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    done = run(body, workers=1, waiting=2)
    assert done[:3] == [0.2] * 3
    assert [type(e) for e in done[3:]] == [JobBusyError] * 2


def test_a_slow_job_is_stopped_and_the_next_one_works(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        before = await pool.run("ready")
        with pytest.raises(JobTooSlowError):
            await pool.run("sleep", 60, timeout=0.1)
        return before, await pool.run("ready")

    before, after = run(body, workers=1)
    assert before != after


def test_a_dead_worker_is_replaced(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        with pytest.raises(JobFailedError):
            await pool.run("die")
        return await pool.run("sleep", 0)

    assert run(body, workers=1) == 0


def test_refusals_are_sentences_and_faults_keep_the_worker(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        with pytest.raises(JobRefusedError, match=r"^The photo is odd\.$"):
            await pool.run("refuse")
        with pytest.raises(JobFailedError):
            await pool.run("fail")
        return await pool.run("sleep", 0)

    assert run(body, workers=1) == 0


def test_a_cancelled_job_frees_its_worker(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        job = asyncio.create_task(pool.run("sleep", 60))
        await asyncio.sleep(0.1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        return await pool.run("sleep", 0)

    assert run(body, workers=1) == 0


def test_a_job_whose_worker_is_killed_is_done_once_more(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    async def body(pool: WorkerPool) -> Any:
        with pytest.raises(JobKilledError):
            await pool.run("die")
        return await pool.run("die_once", str(tmp_path / "mark"))

    assert run(body, workers=1) == "done"


def test_a_job_that_crashes_its_worker_is_not_done_again(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        with pytest.raises(JobCrashedError):
            await pool.run("crash")
        return await pool.run("sleep", 0)

    assert run(body, workers=1) == 0


def test_who_comes_first_is_served_first(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        served: list[int] = []

        async def ask(number: int) -> None:
            await pool.run("sleep", 0.02)
            served.append(number)
            if number < 8:  # comes again the moment it is served, before those that wait wake up
                await ask(number + 8)

        await asyncio.gather(*(ask(n) for n in range(8)))
        return served

    assert run(body, workers=1, waiting=8) == list(range(16))


def test_one_client_has_few_jobs_inside(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        flood = [pool.run("sleep", 0.1, client="a") for _ in range(6)]
        other = pool.run("sleep", 0.1, client="b")
        done = await asyncio.gather(*flood, other, return_exceptions=True)
        return [*map(type, done), await pool.run("sleep", 0, client="a")]

    *kinds, after = run(body, workers=1, waiting=12, per_client=3)
    assert kinds == [float] * 3 + [ClientBusyError] * 3 + [float]
    assert after == 0


def test_workers_that_die_idle_cost_nothing(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        pids = set()
        for _ in range(3):
            for worker in list(pool._all):
                assert worker._process.pid is not None
                os.kill(worker._process.pid, signal.SIGKILL)
            pids |= set(await asyncio.gather(pool.run("ready"), pool.run("ready")))
        return pids

    assert len(run(body, workers=2)) >= 3


def test_an_idle_death_is_seen_without_a_job(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.05)

    async def body(pool: WorkerPool) -> Any:
        (worker,) = pool._all
        worker._process.kill()
        for _ in range(100):
            await asyncio.sleep(0.05)
            if worker not in pool._all and pool._idle:
                return True
        return False

    assert run(body, workers=1)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timers")
def test_work_over_its_processor_time_is_stopped_in_any_code(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        with pytest.raises(JobTooSlowError) as caught:
            await pool.run("burn", 1)
        return caught.value.seconds, caught.value.of, await pool.run("sleep", 0)

    assert run(body, workers=1, photo_seconds=1) == (1, " of processor time", 0)


def test_a_job_that_is_cancelled_in_the_line_gives_up_its_place(run: Callable[..., Any]) -> None:
    async def body(pool: WorkerPool) -> Any:
        first = asyncio.create_task(pool.run("sleep", 0.2))
        second = asyncio.create_task(pool.run("sleep", 0.2, client="a"))
        third = asyncio.create_task(pool.run("sleep", 0.01))
        await asyncio.sleep(0.05)
        second.cancel()
        return await first, await third, dict(pool._inside)

    assert run(body, workers=1) == (0.2, 0.01, {})
