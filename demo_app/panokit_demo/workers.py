"""Processes that do the work: the server never waits for it, and can stop what takes long.

First come, first served: a job waits in one line, and a worker that gets free takes the first. A
worker that died while it had nothing to do costs no job; a job that crashes its worker is refused,
and one whose worker is killed is done once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from panokit.errors import MissingExtraError, PanokitError, PhotoError
from panokit_demo import budget
from panokit_demo.limits import DemoLimits

__all__ = [
    "ClientBusyError",
    "JobBusyError",
    "JobCrashedError",
    "JobFailedError",
    "JobKilledError",
    "JobRefusedError",
    "JobTooSlowError",
    "WorkerPool",
    "in_words",
    "serve_jobs",
]

log = logging.getLogger(__name__)

ATTEMPTS, AGAIN_AFTER_A_KILL = 4, 1
"""So often a job is handed on, where a worker turns out to be dead already or is killed at work."""

LOOK_SECONDS = 0.5
"""So often idle workers are looked after."""

READY_SECONDS = 120.0
"""What a worker may take to load its network."""

_TAKEN = "taken"


class JobBusyError(Exception):
    """Too many jobs wait already."""


class ClientBusyError(Exception):
    """Too many jobs of the same client wait or are worked on."""


class JobTooSlowError(Exception):
    """A job took longer than it may, and was stopped; ``seconds`` is what it may take."""

    def __init__(self, seconds: float, of: str = "") -> None:
        super().__init__(seconds)
        self.seconds, self.of = seconds, of


class JobRefusedError(Exception):
    """The job refused its input, with a sentence that says why."""


class JobFailedError(Exception):
    """A job ended without an answer: a fault of the program."""


class JobCrashedError(JobFailedError):
    """The work ended its process: a decoder crashed."""


class JobKilledError(JobFailedError):
    """The system or its owner ended the process at work, again and again."""


class _NeverTakenError(JobFailedError):
    """The process was gone before it took the job: another may do it."""


@lru_cache(maxsize=1)
def _context() -> Any:
    """How workers are made. Where the system can, by a process that has loaded the program and
    splits: one that takes a dead one's place is there in a tenth of the time."""
    try:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["panokit_demo.jobs", "ai_edge_litert.interpreter"])
    except ValueError:  # Windows
        return multiprocessing.get_context("spawn")
    return context


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, limits: DemoLimits, arguments: tuple[Any, ...]) -> None:
        context = _context()
        self._limits = limits
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, limits, *arguments), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return bool(self._process.is_alive())

    def call(self, job: str, arguments: tuple[Any, ...]) -> Any:
        """Do a job and wait for it (in a thread of the pool's)."""
        try:
            self._pipe.send((job, arguments))
            self._pipe.recv()
        except (EOFError, OSError):
            raise _NeverTakenError("the worker had ended") from None
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if kind == "refused":
            raise JobRefusedError(value)
        if kind == "failed":
            raise JobFailedError(value)
        return value

    def _ended(self) -> Exception:
        self._process.join(5)
        if budget.was_over_budget(self._process.exitcode):
            return JobTooSlowError(self._limits.photo_seconds, " of processor time")
        if self._process.exitcode in (-int(getattr(signal, "SIGKILL", 9)), -int(signal.SIGTERM)):
            return JobKilledError("the worker was ended")
        return JobCrashedError("the worker ended")

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
        self._arguments = (tuple(bundles), artifact)
        self._threads = ThreadPoolExecutor(2 * limits.workers, "panokit-worker")
        self._idle: deque[_Worker] = deque()
        self._line: deque[asyncio.Future[_Worker]] = deque()
        self._all: set[_Worker] = set()
        self._inside: Counter[str] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self._warming: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start all workers and wait until they have loaded the network."""
        for _ in range(self._limits.workers):
            self._add()
        await asyncio.gather(
            *(self.run("ready", timeout=READY_SECONDS) for _ in range(len(self._all)))
        )
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End all workers."""
        if self._watching is not None:
            self._watching.cancel()
        for task in self._warming:
            task.cancel()
        workers, self._all = list(self._all), set()
        for worker in workers:
            await asyncio.to_thread(worker.stop)
        self._threads.shutdown(wait=False)

    async def run(
        self, job: str, *arguments: Any, timeout: float | None = None, client: str | None = None
    ) -> Any:
        """Do a job of :class:`panokit_demo.jobs.Studio`, by name.

        Raises ``JobBusyError`` at once where too many wait, ``ClientBusyError`` where too many of
        this ``client`` do, ``JobTooSlowError`` after ``timeout`` seconds of work (the worker is
        replaced then), ``JobRefusedError`` with a sentence.
        """
        with self._counted(client):
            for attempt in range(ATTEMPTS + 1):
                worker = await self._worker(first=attempt > 0)
                try:
                    return await self._run_on(worker, job, arguments, timeout)
                except (_NeverTakenError, JobKilledError) as error:
                    most = ATTEMPTS if isinstance(error, _NeverTakenError) else AGAIN_AFTER_A_KILL
                    if attempt >= most:
                        raise
        raise AssertionError  # the last attempt returns or raises

    @contextlib.contextmanager
    def _counted(self, client: str | None) -> Iterator[None]:
        """One more job of the client's is inside."""
        if client is None:
            yield
            return
        if self._inside[client] >= self._limits.per_client:
            raise ClientBusyError
        self._inside[client] += 1
        try:
            yield
        finally:
            self._inside[client] -= 1
            if not self._inside[client]:
                del self._inside[client]

    async def _worker(self, first: bool) -> _Worker:
        """A worker, when it is this job's turn; ``first`` is for one that has waited already."""
        if self._idle and (first or not self._line):
            return self._idle.popleft()
        if not first and len(self._line) >= self._limits.waiting:
            raise JobBusyError
        turn: asyncio.Future[_Worker] = asyncio.get_running_loop().create_future()
        (self._line.appendleft if first else self._line.append)(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(turn.result())
            raise

    async def _run_on(
        self, worker: _Worker, job: str, arguments: tuple[Any, ...], timeout: float | None
    ) -> Any:
        try:
            value = await self._answer(worker, job, arguments, timeout or self._limits.seconds)
        except BaseException as error:
            if type(error) in (JobRefusedError, JobFailedError):
                self._give_back(worker)
            else:
                await self._replace(worker)
            raise
        self._give_back(worker)
        return value

    async def _answer(
        self, worker: _Worker, job: str, arguments: tuple[Any, ...], timeout: float
    ) -> Any:
        if not worker.alive:
            raise _NeverTakenError("the worker had ended")
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._threads, worker.call, job, arguments)
        done, _ = await asyncio.wait({call}, timeout=timeout)
        if not done:
            call.add_done_callback(lambda c: c.exception())  # it ends when the process does
            raise JobTooSlowError(timeout)
        return call.result()

    async def _watch(self) -> None:
        """Replace workers that die while they have nothing to do."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in [w for w in self._idle if not w.alive]:
                with contextlib.suppress(ValueError):  # a job has taken it meanwhile
                    self._idle.remove(worker)
                    await self._replace(worker)

    def _add(self) -> None:
        self._give_back(self._new())

    def _new(self) -> _Worker:
        worker = _Worker(self._limits, self._arguments)
        self._all.add(worker)
        return worker

    def _give_back(self, worker: _Worker) -> None:
        """The worker is free: for who waits longest, or for whoever comes next."""
        if worker not in self._all:
            return
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(worker)
                return
        self._idle.append(worker)

    async def _replace(self, worker: _Worker) -> None:
        if worker not in self._all:
            return
        self._all.discard(worker)
        await asyncio.shield(self._stop_and_add(worker))

    async def _stop_and_add(self, worker: _Worker) -> None:
        await asyncio.to_thread(worker.stop)
        task = asyncio.create_task(self._warm(self._new()))
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    async def _warm(self, worker: _Worker) -> None:
        """Let a new worker load its network before a job is given to it: another worker is sooner.
        One that cannot is given all the same, so that a job learns of it."""
        try:
            with contextlib.suppress(Exception):
                await self._answer(worker, "ready", (), READY_SECONDS)
        finally:
            self._give_back(worker)


def _work(pipe: Connection, *arguments: Any) -> None:
    """A worker's life: jobs in, answers out, until the server is gone."""
    # Ctrl-C reaches the whole group; the server ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    budget.arm()
    from panokit_demo.jobs import Studio

    serve_jobs(pipe, Studio(*arguments))


def serve_jobs(pipe: Connection, studio: Any) -> None:
    """Take jobs and answer them, until nobody sends any."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            job, values = pipe.recv()
            pipe.send(_TAKEN)
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
