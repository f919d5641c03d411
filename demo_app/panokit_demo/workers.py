"""Processes that do the work: the server never waits for it, and can stop what takes long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from panokit.errors import MissingExtraError, PanokitError, PhotoError
from panokit_demo.limits import DemoLimits

__all__ = [
    "JobBusyError",
    "JobFailedError",
    "JobRefusedError",
    "JobTooSlowError",
    "WorkerPool",
    "in_words",
]

log = logging.getLogger(__name__)


class JobBusyError(Exception):
    """Too many jobs wait already."""


class JobTooSlowError(Exception):
    """A job took longer than it may, and was stopped."""


class JobRefusedError(Exception):
    """The job refused its input, with a sentence that says why."""


class JobFailedError(Exception):
    """A job ended without an answer: a fault of the program."""


class _WorkerEndedError(JobFailedError):
    """The process is gone: a decoder crashed, or the system ended it."""


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, job: str, arguments: tuple[Any, ...]) -> Any:
        """Do a job and wait for it (in a thread of the pool's)."""
        try:
            self._pipe.send((job, arguments))
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise _WorkerEndedError("the worker ended") from None
        if kind == "refused":
            raise JobRefusedError(value)
        if kind == "failed":
            raise JobFailedError(value)
        return value

    def stop(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join(5)
        self._pipe.close()


class WorkerPool:
    """A fixed number of workers; jobs wait their turn, and not too many of them."""

    def __init__(
        self, limits: DemoLimits, bundles: Sequence[Path | None], artifact: str | None = None
    ) -> None:
        self._limits = limits
        self._arguments = (limits, tuple(bundles), artifact)
        self._threads = ThreadPoolExecutor(2 * limits.workers, "panokit-worker")
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._all: set[_Worker] = set()
        self._waiting = 0

    async def start(self) -> None:
        """Start all workers and wait until they have loaded the network."""
        for _ in range(self._limits.workers):
            self._add()
        await asyncio.gather(*(self.run("ready", timeout=120.0) for _ in range(len(self._all))))

    async def close(self) -> None:
        """End all workers."""
        workers, self._all = list(self._all), set()
        for worker in workers:
            await asyncio.to_thread(worker.stop)
        self._threads.shutdown(wait=False)

    async def run(self, job: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Do a job of :class:`panokit_demo.jobs.Studio`, by name.

        Raises ``JobBusyError`` at once where too many wait, ``JobTooSlowError`` after ``timeout``
        seconds of work (the worker is replaced then), ``JobRefusedError`` with a sentence.
        """
        if self._idle.empty():
            if self._waiting >= self._limits.waiting:
                raise JobBusyError
            self._waiting += 1
            try:
                worker = await self._idle.get()
            finally:
                self._waiting -= 1
        else:
            worker = self._idle.get_nowait()
        try:
            return await self._run_on(worker, job, arguments, timeout or self._limits.seconds)
        except BaseException as error:
            if type(error) in (JobRefusedError, JobFailedError):
                self._give_back(worker)
            else:
                await self._replace(worker)
            raise

    async def _run_on(
        self, worker: _Worker, job: str, arguments: tuple[Any, ...], timeout: float
    ) -> Any:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._threads, worker.call, job, arguments)
        done, _ = await asyncio.wait({call}, timeout=timeout)
        if not done:
            call.add_done_callback(lambda c: c.exception())  # it ends when the process does
            raise JobTooSlowError
        value = call.result()
        self._give_back(worker)
        return value

    def _add(self) -> None:
        worker = _Worker(self._arguments)
        self._all.add(worker)
        self._idle.put_nowait(worker)

    def _give_back(self, worker: _Worker) -> None:
        if worker in self._all:
            self._idle.put_nowait(worker)

    async def _replace(self, worker: _Worker) -> None:
        if worker not in self._all:
            return
        self._all.discard(worker)
        await asyncio.shield(asyncio.to_thread(worker.stop))
        self._add()


def _work(pipe: Connection, *arguments: Any) -> None:
    """A worker's life: jobs in, answers out, until the server is gone."""
    # Ctrl-C reaches the whole group; the server ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from panokit_demo.jobs import Studio

    studio = Studio(*arguments)
    with contextlib.suppress(EOFError, OSError):
        while True:
            job, values = pipe.recv()
            pipe.send(_answer(studio, job, values))


def _answer(studio: Any, job: str, values: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "done", getattr(studio, job)(*values)
    except PanokitError as error:
        return "refused", in_words(error)
    except MemoryError:
        return "refused", "The photo needs more memory than there is; use a smaller one."
    except Exception as error:
        log.exception("job %s failed", job)
        return "failed", f"{type(error).__name__}: {error}"


def in_words(error: PanokitError) -> str:
    """An error as a sentence for the page."""
    if isinstance(error, MissingExtraError):  # the command is for who runs the server
        return f"{error.feature} needs the {error.extra!r} extra, which this server lacks."
    if not isinstance(error, PhotoError):
        return str(error)
    name = f"The {error.path}" if error.path in ("photo", "request", "sample") else error.path
    return f"{name} {error.reason}."
