"""Named jobs in processes of this machine, or on a Ray cluster (:mod:`panokit.pool`).

A worker that dies takes its unfinished job with it and nothing else: the job is started again, a
few times at most. Results are handed over once per job, by the process that asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from panokit.pool import as_done

__all__ = ["ATTEMPTS", "Failure", "run_jobs"]

ATTEMPTS = 3

Work = Callable[[Any], Any]
OnDone = Callable[[str, Any], None]


@dataclass(frozen=True)
class Failure:
    """A job that could not be done, and why."""

    name: str
    reason: str


def run_jobs(
    work: Work,
    jobs: Mapping[str, Any],
    on_done: OnDone,
    workers: int = 1,
    ray_address: str | None = None,
) -> list[Failure]:
    """Call ``work(payload)`` for each of ``jobs`` and ``on_done(name, result)`` as they finish.

    With ``ray_address`` (``"local"`` starts a cluster of ``workers`` here) they go to Ray, else to
    ``workers`` processes, or none for one. A deliberate error of a job is a :class:`Failure`;
    the other jobs go on. ``work`` must be importable by name.
    """
    failures: list[Failure] = []
    by_name = partial(_work_on, work, dict(jobs))
    for done in as_done(by_name, jobs, workers, attempts=ATTEMPTS, ray=ray_address):
        if done.error is not None:
            failures.append(Failure(done.item, str(done.error)))
        else:
            on_done(done.item, done.get())
    return failures


def _work_on(work: Work, jobs: Mapping[str, Any], name: str) -> Any:
    return work(jobs[name])
