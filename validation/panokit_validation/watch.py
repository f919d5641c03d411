"""Dumps judged as they arrive in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from panokit_validation.sources import DumpRef, find_dumps
from panokit_validation.worker import Outcome, RunConfig, Worker

__all__ = ["watch_dumps"]

Stamp = tuple[int, int]


def watch_dumps(
    sources: Iterable[str | os.PathLike[str]], config: RunConfig, every: float = 1.0
) -> Iterator[Outcome]:
    """The outcome of each dump that lies in ``sources``, and of each that comes or changes, without
    end. A file is judged once it has not changed for ``every`` seconds."""
    places = list(sources)
    judged: dict[str, Stamp] = {}
    seen: dict[str, Stamp] = {}
    first = True
    with Worker(config) as worker:
        while True:
            for ref in find_dumps(places):
                stamp = _stamp(ref)
                if judged.get(ref.label) == stamp:
                    continue
                if not first and seen.get(ref.label) != stamp:
                    seen[ref.label] = stamp  # it may still be written
                    continue
                judged[ref.label] = stamp
                yield worker.judge(ref)
            first = False
            time.sleep(every)


def _stamp(ref: DumpRef) -> Stamp:
    try:
        status = Path(ref.container).stat()
    except OSError:  # a URL, or gone
        return 0, 0
    return status.st_mtime_ns, status.st_size
