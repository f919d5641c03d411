"""A run over any number of dumps: streamed, over processes or Ray, resumable, memory flat."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from panokit.bundle import MANIFEST, hash_path
from panokit.errors import ArgumentError, MissingExtraError, PanokitError
from panokit_validation.sources import DumpRef, find_dumps
from panokit_validation.worker import Outcome, RunConfig, Worker

__all__ = ["validate_dumps"]

STATE_FORMAT = "panokit-validate-state/1"

_DIED = "the process that judged it died; the dump may be hostile"
_IN_FLIGHT = 4
"""Dumps under way per process: enough to keep it busy, few enough to keep memory flat."""


def validate_dumps(
    sources: Iterable[str | os.PathLike[str]],
    config: RunConfig | None = None,
    *,
    jobs: int = 1,
    state: str | os.PathLike[str] | None = None,
    ray: str | None = None,
) -> Iterator[Outcome]:
    """Judge all dumps of ``sources`` (see :func:`panokit.dump.find_dumps`), in their order.

    One outcome at a time is held, however many there are. ``jobs`` processes work at once.
    ``state`` names a JSON Lines file of what is finished: a run that was stopped goes on from
    there, a dump that has changed since is judged again. ``ray`` runs on a Ray cluster instead:
    its address, or ``"local"`` to start one of ``jobs`` processors here (extra ``ray``).
    """
    config = config or RunConfig()
    if jobs < 1:
        raise ArgumentError("jobs", "at least 1", jobs)
    with Worker(config) as worker:  # a wrong bundle, artifact or photo folder shows at once
        if config.artifact is not None:
            worker.bundle.manifest.artifact(config.artifact)
        _ = worker.bundle, worker.photos
        root = worker.bundle.root
    refs = find_dumps(sources)
    with ExitStack() as stack:
        finished = _State(Path(state), config, root) if state is not None else None
        if finished is not None:
            stack.callback(finished.close)
        pool: _Pool
        if ray is not None:
            pool = stack.enter_context(_RayPool(config, jobs, ray))
        elif jobs > 1:
            pool = stack.enter_context(_ProcessPool(config, jobs))
        else:
            pool = stack.enter_context(_InProcess(config))
        yield from _stream(refs, pool, finished)


def _stream(refs: Iterable[DumpRef], pool: _Pool, state: _State | None) -> Iterator[Outcome]:
    """Outcomes in the order of the references, with a bounded number under way."""
    waiting: deque[tuple[DumpRef, Outcome | None]] = deque()

    def next_outcome() -> Outcome:
        ref, known = waiting.popleft()
        if known is not None:
            return known
        outcome = pool.result(ref)
        if state is not None:
            state.add(ref, outcome)
        return outcome

    for ref in refs:
        known = state.known(ref) if state is not None else None
        if known is None:
            pool.submit(ref)
        waiting.append((ref, known))
        if len(waiting) >= pool.window:
            yield next_outcome()
    while waiting:
        yield next_outcome()


class _Pool:
    """Takes references and gives their outcomes back in the same order."""

    window = 1

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, ref: DumpRef) -> None:
        raise NotImplementedError

    def result(self, ref: DumpRef) -> Outcome:
        raise NotImplementedError

    def close(self) -> None:
        """Free what it holds."""


class _InProcess(_Pool):
    def __init__(self, config: RunConfig) -> None:
        self._worker = Worker(config)

    def submit(self, ref: DumpRef) -> None:
        pass

    def result(self, ref: DumpRef) -> Outcome:
        return self._worker.judge(ref)

    def close(self) -> None:
        self._worker.__exit__(None, None, None)


_worker: Worker | None = None


def _start_worker(config: dict[str, Any]) -> None:
    global _worker
    _worker = Worker(RunConfig.from_json(config))


def _ready() -> None:
    """Nothing: that it is called shows that processes can be started."""


def _judge(ref: DumpRef) -> Outcome:
    if _worker is None:
        raise RuntimeError("the process was not started by this module")
    return _worker.judge(ref)


class _ProcessPool(_Pool):
    """Processes started afresh (not forked: the runtime has threads). If one dies, the dumps under
    way are judged again one by one, and the one that kills its process is refused."""

    def __init__(self, config: RunConfig, jobs: int) -> None:
        self._config, self._jobs = config, jobs
        self.window = _IN_FLIGHT * jobs
        self._executor = self._start(jobs)
        self._futures: deque[tuple[DumpRef, Future[Outcome]]] = deque()
        try:
            self._executor.submit(_ready).result()
        except BrokenProcessPool:
            self._executor.shutdown()
            guard = "if __name__ == '__main__':"
            reason = f"Processes cannot be started; a script must call this below `{guard}`."
            raise PanokitError(reason) from None

    def _start(self, jobs: int) -> Executor:
        return ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._config.to_json(),),
        )

    def submit(self, ref: DumpRef) -> None:
        try:
            future = self._executor.submit(_judge, ref)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self._futures.append((ref, future))

    def result(self, ref: DumpRef) -> Outcome:
        _, future = self._futures.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            return self._one_by_one(ref)

    def _one_by_one(self, first: DumpRef) -> Outcome:
        """Judge what was under way in a process of its own, which only a culprit's turn ends."""
        self._executor.shutdown(cancel_futures=True)
        refs = [first, *(ref for ref, _ in self._futures)]
        outcomes: list[Outcome] = []
        single = self._start(1)
        for ref in refs:
            try:
                outcomes.append(single.submit(_judge, ref).result())
            except BrokenProcessPool:
                outcomes.append(Outcome(ref.label, reason=_DIED))
                single.shutdown()
                single = self._start(1)
        single.shutdown()
        self._futures.clear()
        for ref, outcome in zip(refs[1:], outcomes[1:], strict=True):
            done: Future[Outcome] = Future()
            done.set_result(outcome)
            self._futures.append((ref, done))
        self._executor = self._start(self._jobs)
        return outcomes[0]

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


class _RayPool(_Pool):
    """Actors on a Ray cluster; dumps must lie where the actors can read them."""

    def __init__(self, config: RunConfig, jobs: int, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("`panokit validate --ray`", "ray") from error
        self._ray, self.window = ray, _IN_FLIGHT * jobs
        self._ours = not ray.is_initialized()
        if self._ours:
            place: dict[str, Any] = {"address": address}
            if address == "local":
                place = {"num_cpus": jobs, "include_dashboard": False}
            ray.init(**place, log_to_driver=False, configure_logging=False)
        actor = ray.remote(num_cpus=1)(Worker)
        self._actors = deque(actor.remote(config) for _ in range(jobs))
        self._pending: deque[Any] = deque()

    def submit(self, ref: DumpRef) -> None:
        self._pending.append(self._actors[0].judge.remote(ref))
        self._actors.rotate(-1)

    def result(self, ref: DumpRef) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(self._pending.popleft())
        except self._ray.exceptions.RayActorError:
            return Outcome(ref.label, reason=_DIED)
        return outcome

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()


class _State:
    """What is finished, a JSON line each, behind a line that says of which run."""

    def __init__(self, path: Path, config: RunConfig, bundle: Path) -> None:
        given = config.to_json()
        given["bundle"] = hash_path(bundle / MANIFEST)
        self._run = {"format": STATE_FORMAT, "run": given}
        self._path = path
        self._offsets: dict[str, tuple[int, str]] = {}  # label → where its line starts, and stamp
        self._reader: IO[bytes] | None = None
        if path.exists() and path.stat().st_size:
            self._read()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._run) + "\n", encoding="utf-8")
        self._writer = path.open("ab")

    def _read(self) -> None:
        good = 0
        with self._path.open("rb") as file:
            head = file.readline()
            if _line(head) != self._run:
                expected = "a state file of this very run (bundle, artifact, thresholds, options)"
                raise ArgumentError(
                    "state", f"{expected}; delete it or name another", str(self._path)
                )
            good = file.tell()
            for raw in file:
                entry = _line(raw)
                if not raw.endswith(b"\n") or entry is None or "dump" not in entry:
                    break  # the last line of a run that was killed
                self._offsets[str(entry["dump"])] = good, str(entry.get("stamp"))
                good += len(raw)
        os.truncate(self._path, good)

    def known(self, ref: DumpRef) -> Outcome | None:
        """The outcome of a dump that is finished and has not changed."""
        offset, stamp = self._offsets.get(ref.label, (0, ""))
        if not offset or stamp != _stamp(ref):
            return None
        if self._reader is None:
            self._reader = self._path.open("rb")
        self._reader.seek(offset)
        entry = _line(self._reader.readline()) or {}
        return Outcome(ref.label, entry.get("photo"), str(entry.get("reason", "")))

    def add(self, ref: DumpRef, outcome: Outcome) -> None:
        """Remember an outcome."""
        entry = {"dump": ref.label, "stamp": _stamp(ref), **vars(outcome)}
        self._writer.write(json.dumps(entry).encode() + b"\n")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
        if self._reader is not None:
            self._reader.close()


def _line(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _stamp(ref: DumpRef) -> str:
    """What changes when a local file (or the numbers beside its description) does; empty for
    URLs."""
    paths = [ref.container]
    if ref.container.endswith(".dump.json"):
        paths.append(ref.container.removesuffix(".dump.json") + ".bin")
    parts = []
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        parts.append(f"{status.st_size}-{status.st_mtime_ns}")
    return " ".join(parts)
