"""Work in several processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["in_order"]

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_order(work: Callable[[Item], Made], items: Iterable[Item], processes: int) -> Iterator[Made]:
    """``work`` of each item, in order, made in so many processes; a few items ahead of what is
    taken, so that memory stays flat."""
    if processes <= 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        todo = iter(items)
        running = deque(pool.submit(work, i) for i in islice(todo, 8 * processes))
        while running:
            made = running.popleft().result()
            running.extend(pool.submit(work, i) for i in islice(todo, 1))
            yield made
