"""Processor time that a piece of work may take: a process that takes more is ended by the system,
whatever code it is in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["arm", "processor_seconds", "was_over_budget"]

_SIGNAL = getattr(signal, "SIGPROF", None)  # Windows has none: there wall time alone counts
_armed = False


def arm() -> None:
    """Let budgets end this process from now on; only workers do that."""
    global _armed
    if hasattr(signal, "setitimer") and _SIGNAL is not None:
        signal.signal(_SIGNAL, signal.SIG_DFL)
        _armed = True


@contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """Work that may take so many seconds of processor time."""
    _set(seconds)
    try:
        yield
    finally:
        _set(0)


def _set(seconds: float) -> None:
    if _armed and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def was_over_budget(exit_code: int | None) -> bool:
    """Whether a process ended because it took more than its budget."""
    return _SIGNAL is not None and exit_code == -_SIGNAL
