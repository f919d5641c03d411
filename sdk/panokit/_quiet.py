"""Third-party tools that warn, print and draw bars: what they say goes to our log instead."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["hushed", "quiet"]


@contextlib.contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Swallow warnings and Python-level output of the block; both go to ``logger`` at debug."""
    said = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        if text := said.getvalue().strip():
            logger.debug("%s", text)


@contextlib.contextmanager
def hushed(logger: logging.Logger, least: int = logging.ERROR) -> Iterator[None]:
    """``logger`` and what hangs below it say nothing under the level ``least``."""
    level = logger.level
    logger.setLevel(least)
    try:
        yield
    finally:
        logger.setLevel(level)
