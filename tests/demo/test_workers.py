"""The pool: answers, refusals, too much to do, too slow, and a worker that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from panokit.errors import PhotoError
from panokit_demo import workers
from panokit_demo.limits import DemoLimits
from panokit_demo.workers import (
    JobBusyError,
    JobFailedError,
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


def fake_work(pipe: Any, *arguments: Any) -> None:
    from panokit_demo.workers import _answer

    studio = FakeStudio()
    while True:
        job, values = pipe.recv()
        pipe.send(_answer(studio, job, values))


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
