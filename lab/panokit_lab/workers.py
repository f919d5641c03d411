"""Jobs in parallel processes of this machine, or on a Ray cluster; the same code either way.

A worker that dies takes its unfinished job with it and nothing else: the job is started again
elsewhere, a few times at most. Results are handed over once per job, by the process that asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from panokit.errors import ArgumentError, MissingExtraError, PanokitError

__all__ = ["ATTEMPTS", "Failure", "run_jobs"]

log = logging.getLogger(__name__)

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
    if workers < 1:
        raise ArgumentError("workers", f"workers is {workers!r}; expected at least 1")
    if ray_address is not None:
        return _on_ray(work, jobs, on_done, workers, ray_address)
    if workers == 1:
        return _here(work, jobs, on_done)
    return _in_processes(work, jobs, on_done, workers)


def _here(work: Work, jobs: Mapping[str, Any], on_done: OnDone) -> list[Failure]:
    failures: list[Failure] = []
    for name, payload in jobs.items():
        try:
            result = work(payload)
        except PanokitError as error:
            failures.append(Failure(name, str(error)))
        else:
            on_done(name, result)
    return failures


def _in_processes(
    work: Work, jobs: Mapping[str, Any], on_done: OnDone, workers: int
) -> list[Failure]:
    failures: list[Failure] = []
    attempts = dict.fromkeys(jobs, 0)
    todo = dict(jobs)
    # A pool that breaks does not tell whose fault it was. Those that were running then go on one
    # at a time, so that only the guilty job is given up.
    suspects: set[str] = set()
    while todo:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
        running: dict[Future[Any], str] = {}
        waiting = sorted(todo, key=lambda name: name not in suspects)
        try:
            while waiting or running:
                while waiting and len(running) < (1 if suspects else workers):
                    name = waiting.pop(0)
                    running[pool.submit(work, todo[name])] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        running[future] = name
                        raise
                    except PanokitError as error:
                        failures.append(Failure(name, str(error)))
                    else:
                        on_done(name, result)
                    del todo[name]
                    suspects.discard(name)
        except BrokenProcessPool:
            suspects |= set(running.values())
            if len(running) == 1:
                name = next(iter(running.values()))
                attempts[name] += 1
                log.warning("the worker of %s died, attempt %d", name, attempts[name])
                if attempts[name] >= ATTEMPTS:
                    failures.append(Failure(name, f"its worker died {ATTEMPTS} times"))
                    del todo[name]
                    suspects.discard(name)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return failures


def _on_ray(
    work: Work, jobs: Mapping[str, Any], on_done: OnDone, workers: int, address: str
) -> list[Failure]:
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False}
        given: dict[str, Any] = local if address == "local" else {"address": address}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **given)
    failures: list[Failure] = []
    # A lost worker is Ray's to replace; an error of the job itself is not tried again.
    remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, retry_exceptions=False)(work)
    try:
        running = {remote.remote(payload): name for name, payload in jobs.items()}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                name = running.pop(reference)
                try:
                    on_done(name, ray.get(reference))
                except ray.exceptions.RayTaskError as error:
                    if not isinstance(error.cause, PanokitError):
                        raise
                    failures.append(Failure(name, str(error.cause)))
                except ray.exceptions.WorkerCrashedError:
                    failures.append(Failure(name, f"its worker died {ATTEMPTS} times"))
    finally:
        if started:
            ray.shutdown()
    return failures


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingExtraError("compress search --ray-address", "ray") from None
    return ray
