"""What the server remembers, and for how long."""

from __future__ import annotations

from typing import Any

import numpy as np

from panokit.decoding import PanopticMap
from panokit_demo.jobs import Segmented, WorkingPhoto
from panokit_demo.limits import DemoLimits
from panokit_demo.store import SessionStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def photo(source: int = 100) -> WorkingPhoto:
    return WorkingPhoto("a.jpg", bytes(source), np.zeros((10, 10, 3), np.uint8), (10, 10))


def found() -> dict[str, Segmented]:
    ids = np.zeros((10, 10), np.int32)
    return {"int8": Segmented("int8", PanopticMap(ids, ()), {}, {})}


def make(**limits: Any) -> tuple[SessionStore, Clock]:
    clock = Clock()
    return SessionStore(DemoLimits(**limits), clock), clock


def test_sessions_are_forgotten_after_their_time_unless_used() -> None:
    store, clock = make(session_minutes=20)
    first, second = store.add(photo(), {}), store.add(photo(), {})
    clock.now = 19 * 60
    assert store.get(first.id) is first
    clock.now = 21 * 60
    assert store.get(second.id) is None
    assert store.get(first.id) is first
    assert len(store) == 1


def test_the_longest_unused_goes_first() -> None:
    store, _ = make(sessions=2)
    first, second = store.add(photo(), {}), store.add(photo(), {})
    assert store.get(first.id) is first
    third = store.add(photo(), {})
    assert [store.get(s.id) is s for s in (first, second, third)] == [True, False, True]


def test_backgrounds_belong_to_the_session_and_are_counted() -> None:
    store, _ = make()
    first, second = store.add(photo(), {}), store.add(photo(), {})
    first.add_background("a.jpg", bytes(50))
    first.add_background("a.jpg", bytes(70))
    first.add_background("b.jpg", bytes(5))
    assert first.bytes == second.bytes + 75
    assert set(first.working.backgrounds) == {"a.jpg", "b.jpg"}
    assert not second.working.backgrounds


def test_memory_is_bounded_and_counted() -> None:
    store, _ = make(session_bytes=2500)
    first = store.add(photo(), found())
    assert first.bytes == 100 + 300 + 400  # the file, the pixels, the map
    assert store.bytes == 800
    for _ in range(9):
        newest = store.add(photo(), found())
    assert store.bytes == 2400
    assert store.get(newest.id) is newest


def test_dropping_is_at_once_and_ids_cannot_be_guessed() -> None:
    store, _ = make()
    session = store.add(photo(), {})
    assert len(session.id) >= 20
    assert store.drop(session.id)
    assert not store.drop(session.id)
    assert store.get(session.id) is None
