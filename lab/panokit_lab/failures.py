"""What goes wrong with one artifact or recipe, so that the others can go on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from panokit.errors import ExportError, PanokitError

__all__ = ["errors_named", "reason_of"]

log = logging.getLogger(__name__)


@contextmanager
def errors_named(what: str) -> Iterator[None]:
    """An error of a tool that nobody has put into words yet becomes a sentence."""
    try:
        yield
    except (PanokitError, OSError):
        raise
    except Exception as error:  # the tools and the user's module may raise anything
        log.debug("%s", what, exc_info=True)
        raise ExportError(what, reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """An error in words: ours as it is, one of a tool by its kind and first line."""
    if isinstance(error, PanokitError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"fails with {type(error).__name__}: {lines[0][:300]}"
