"""Work in several processes, here or on a Ray cluster; a process that dies takes nobody along.

:func:`in_order` and :func:`as_done` call ``work(item)`` for each item. ``work`` and the items
travel to other processes, so ``work`` must be importable by name (or a ``functools.partial`` of
such a function). Few items are under way at once, so that memory stays flat however many there are.

A deliberate error (``PanokitError``) is the item's result; the others go on. Where a process dies,
the items under way are done again one at a time, each in a process of its own, and only the one
whose processes die is given up.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import Any, Generic, Protocol, TypeVar, cast

from panokit.errors import ArgumentError, MissingExtraError, PanokitError

__all__ = ["Done", "WorkerDiedError", "as_done", "in_order"]

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Made = TypeVar("Made")

AHEAD = 4
"""Items under way per process: enough to keep it busy."""


class WorkerDiedError(PanokitError):
    """The process that worked on an item died, every time."""


@dataclass(frozen=True)
class Done(Generic[Item, Made]):
    """One item with what came of it: its ``value``, or the ``error`` that it ended in."""

    item: Item
    value: Made | None = None
    error: PanokitError | None = None

    def get(self) -> Made:
        """The value; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return cast(Made, self.value)


def in_order(
    work: Callable[[Item], Made],
    items: Iterable[Item | Done[Item, Made]],
    processes: int = 1,
    *,
    attempts: int = 1,
    ray: str | None = None,
) -> Generator[Done[Item, Made]]:
    """What comes of each item, in the order of the items. A :class:`Done` among them, as of an
    earlier run, takes its place without being worked on.

    With one process the work is done in this one. ``attempts``: how often an item may kill its
    process before it is given up. ``ray`` is the address of a Ray cluster, or ``"local"`` to start
    one of so many processes here.
    """
    with _backend(work, processes, attempts, ray) as backend:
        todo = iter(items)
        waiting: deque[_Ticket[Item, Made]] = deque()
        while True:
            for item in islice(todo, backend.window - len(waiting)):
                if isinstance(item, Done):
                    waiting.append(_Ticket(item.item, done=item))
                else:
                    waiting.append(backend.submit(item))
            if not waiting:
                return
            ticket = waiting.popleft()
            yield ticket.done or backend.result(ticket, list(waiting))


def as_done(
    work: Callable[[Item], Made],
    items: Iterable[Item],
    processes: int = 1,
    *,
    attempts: int = 1,
    ray: str | None = None,
    late: Callable[[Done[Item, Made]], None] | None = None,
) -> Generator[Done[Item, Made]]:
    """As :func:`in_order`, but each item as soon as it is done.

    ``late`` gets what was under way when the caller stopped asking: it is finished, not lost.
    """
    with _backend(work, processes, attempts, ray) as backend:
        todo = iter(items)
        waiting: list[_Ticket[Item, Made]] = []
        try:
            while True:
                for item in islice(todo, max(0, processes - len(waiting))):
                    waiting.append(backend.submit(item))
                if not waiting:
                    return
                ticket = backend.first(waiting)
                waiting.remove(ticket)
                yield backend.result(ticket, waiting)
        finally:
            if late is not None:
                while waiting:
                    ticket = waiting.pop(0)
                    late(backend.result(ticket, waiting))


# -------------------------------------------------------------------------------- where it is done


@dataclass(eq=False)
class _Ticket(Generic[Item, Made]):
    """An item under way; ``handle`` is the backend's own, ``done`` its result once it is there."""

    item: Item
    handle: Any = None
    done: Done[Item, Made] | None = None


class _Backend(Protocol[Item, Made]):
    @property
    def window(self) -> int: ...

    def submit(self, item: Item) -> _Ticket[Item, Made]: ...

    def first(self, waiting: list[_Ticket[Item, Made]]) -> _Ticket[Item, Made]: ...

    def result(
        self, ticket: _Ticket[Item, Made], waiting: list[_Ticket[Item, Made]]
    ) -> Done[Item, Made]: ...

    def close(self) -> None: ...


@contextmanager
def _backend(
    work: Callable[[Item], Made], processes: int, attempts: int, ray: str | None
) -> Iterator[_Backend[Item, Made]]:
    if processes < 1:
        raise ArgumentError("processes", f"processes is {processes!r}; expected at least 1")
    made: _Backend[Item, Made]
    if ray is not None:
        made = _Ray(work, processes, attempts, ray)
    elif processes == 1:
        made = _Here(work)
    else:
        made = _Processes(work, processes, attempts)
    with ExitStack() as stack:
        stack.callback(made.close)
        yield made


def _try(work: Callable[[Item], Made], item: Item) -> Done[Item, Made]:
    try:
        return Done(item, work(item))
    except PanokitError as error:
        return Done(item, error=error)


class _Here(Generic[Item, Made]):
    """In this process, when the result is asked for."""

    window = 1

    def __init__(self, work: Callable[[Item], Made]) -> None:
        self._work = work

    def submit(self, item: Item) -> _Ticket[Item, Made]:
        return _Ticket(item)

    def first(self, waiting: list[_Ticket[Item, Made]]) -> _Ticket[Item, Made]:
        return waiting[0]

    def result(
        self, ticket: _Ticket[Item, Made], waiting: list[_Ticket[Item, Made]]
    ) -> Done[Item, Made]:
        return _try(self._work, ticket.item)

    def close(self) -> None:
        """Nothing to free."""


def _ready() -> None:
    """Nothing: that it is called shows that processes can be started."""


class _Processes(Generic[Item, Made]):
    """Processes started afresh, not forked: runtimes have threads, and forking copies their
    locks."""

    def __init__(self, work: Callable[[Item], Made], processes: int, attempts: int) -> None:
        self._work, self._count, self._attempts = work, processes, attempts
        self.window = AHEAD * processes
        self._executor = self._start(processes)
        try:
            self._executor.submit(_ready).result()
        except BrokenProcessPool:
            self._executor.shutdown()
            guard = "if __name__ == '__main__':"
            reason = f"Processes cannot be started; a script must call this below `{guard}`."
            raise PanokitError(reason) from None

    def _start(self, processes: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))

    def submit(self, item: Item) -> _Ticket[Item, Made]:
        try:
            return _Ticket(item, self._executor.submit(_try, self._work, item))
        except BrokenProcessPool as error:
            broken: Future[Done[Item, Made]] = Future()
            broken.set_exception(error)
            return _Ticket(item, broken)

    def first(self, waiting: list[_Ticket[Item, Made]]) -> _Ticket[Item, Made]:
        for ticket in waiting:
            if ticket.done is not None:
                return ticket
        finished = wait([t.handle for t in waiting], return_when=FIRST_COMPLETED).done
        return next(t for t in waiting if t.handle in finished)

    def result(
        self, ticket: _Ticket[Item, Made], waiting: list[_Ticket[Item, Made]]
    ) -> Done[Item, Made]:
        if ticket.done is not None:  # done again, one by one
            return ticket.done
        try:
            done: Done[Item, Made] = ticket.handle.result()
        except BrokenProcessPool:
            self._one_by_one([ticket, *waiting])
            if ticket.done is None:
                raise
            return ticket.done
        return done

    def _one_by_one(self, tickets: list[_Ticket[Item, Made]]) -> None:
        """Do what was under way again, each item in a process that only its own turn can end."""
        self._executor.shutdown(cancel_futures=True)
        single = self._start(1)
        for ticket in tickets:
            if ticket.done is not None:
                continue
            for attempt in range(1, self._attempts + 1):
                try:
                    ticket.done = single.submit(_try, self._work, ticket.item).result()
                    break
                except BrokenProcessPool:
                    log.warning("the process that worked on %s died (%d)", ticket.item, attempt)
                    single.shutdown()
                    single = self._start(1)
            else:
                times = f"{self._attempts} times" if self._attempts > 1 else "once"
                ticket.done = Done(ticket.item, error=WorkerDiedError(f"its worker died {times}"))
        single.shutdown()
        self._executor = self._start(self._count)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


class _Ray(Generic[Item, Made]):
    """Tasks on a Ray cluster, which replaces a lost worker itself."""

    def __init__(
        self, work: Callable[[Item], Made], processes: int, attempts: int, address: str
    ) -> None:
        try:
            import ray
            import ray.exceptions
        except ImportError:
            raise MissingExtraError("running on a Ray cluster", "ray") from None
        self._ray, self._attempts = ray, attempts
        self.window = AHEAD * processes
        self._ours = not ray.is_initialized()
        if self._ours:
            place: dict[str, Any] = {"address": address}
            if address == "local":
                place = {"num_cpus": processes, "include_dashboard": False}
            ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
        remote = ray.remote(num_cpus=1, max_retries=attempts - 1, retry_exceptions=False)
        self._task: Any = remote(_try)
        self._work = work

    def submit(self, item: Item) -> _Ticket[Item, Made]:
        return _Ticket(item, self._task.remote(self._work, item))

    def first(self, waiting: list[_Ticket[Item, Made]]) -> _Ticket[Item, Made]:
        (finished, *_), _ = self._ray.wait([t.handle for t in waiting], num_returns=1)
        return next(t for t in waiting if t.handle == finished)

    def result(
        self, ticket: _Ticket[Item, Made], waiting: list[_Ticket[Item, Made]]
    ) -> Done[Item, Made]:
        try:
            done: Done[Item, Made] = self._ray.get(ticket.handle)
        except self._ray.exceptions.WorkerCrashedError:
            times = f"{self._attempts} times" if self._attempts > 1 else "once"
            return Done(ticket.item, error=WorkerDiedError(f"its worker died {times}"))
        return done

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()
