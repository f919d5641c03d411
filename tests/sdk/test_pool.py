"""Work in processes: order, errors, processes that die, stopping, and what was done before."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from panokit.errors import ArgumentError, DataError
from panokit.pool import Done, WorkerDiedError, as_done, in_order
from tests.toys.pool_work import dies, dies_once, double, late_if_even


@pytest.mark.parametrize("processes", [1, 2])
def test_order_values_and_errors(processes: int) -> None:
    done = list(in_order(double, [1, 100, 3], processes))
    assert [d.item for d in done] == [1, 100, 3]
    assert [done[0].get(), done[2].get()] == [2, 6]
    assert isinstance(done[1].error, DataError)  # the others went on
    with pytest.raises(DataError, match="100 is refused"):
        done[1].get()


def test_what_is_done_already_takes_its_place() -> None:
    items: list[int | Done[int, int]] = [1, Done(2, -4), 3, Done(4, -8)]
    for processes in (1, 2):
        assert [d.get() for d in in_order(double, items, processes)] == [2, -4, 6, -8]


def test_quick_items_come_first_where_order_does_not_matter() -> None:
    done = [d.get() for d in as_done(late_if_even, range(6), 2)]
    assert sorted(done) == list(range(6))
    assert done != list(range(6))


def test_only_the_item_that_kills_its_process_is_given_up() -> None:
    for function in (in_order, as_done):
        done = {d.item: d for d in function(dies, range(8), 2)}
        assert sorted(done) == list(range(8))
        for number, d in done.items():
            assert isinstance(d.error, WorkerDiedError) is (number in (3, 4))
            if d.error is None:
                assert d.get() == number


def test_an_item_is_tried_again(tmp_path: Path) -> None:
    done = list(in_order(partial(dies_once, tmp_path), range(5), 2, attempts=3))
    assert [d.get() for d in done] == list(range(5))


def test_few_items_are_under_way_at_once() -> None:
    asked = 0

    def items() -> Iterator[int]:
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield number

    for processes in (1, 2):
        asked = 0
        running = in_order(double, items(), processes)
        next(running)
        assert asked <= 4 * processes
        running.close()


def test_what_is_under_way_when_the_caller_stops_is_finished() -> None:
    late: list[Done[int, int]] = []
    running = as_done(late_if_even, [1, 2, 3], 2, late=late.append)
    assert next(running).get() == 1
    running.close()
    assert [d.get() for d in late] == [2]


def test_no_processes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="processes"):
        list(in_order(double, [1], 0))


def test_ray_gives_the_same() -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    done = list(in_order(double, [1, 100, 3], 2, ray="local"))
    assert [done[0].get(), done[2].get()] == [2, 6]
    assert isinstance(done[1].error, DataError)
