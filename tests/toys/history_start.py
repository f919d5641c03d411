"""A process that starts a history, all at the same moment."""

from __future__ import annotations

from typing import Any

from panokit_validation.history import History


def start(url: str, barrier: Any, answers: Any) -> None:
    """Open the history once all are here; the number of a run begun in it, or the error."""
    barrier.wait(60)
    try:
        with History(url) as history:
            answers.put(history.start("bundle", "0" * 64, "build", {}).run)
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}"[:300])
