"""A run over any number of dumps: streamed, over processes or Ray, resumable, memory flat."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

from panokit.bundle import MANIFEST, hash_path
from panokit.errors import ArgumentError
from panokit.pool import Done, in_order
from panokit_validation.sources import DumpRef, find_dumps
from panokit_validation.worker import Outcome, RunConfig, Worker

__all__ = ["validate_dumps"]

STATE_FORMAT = "panokit-validate-state/1"

_DIED = "the process that judged it died; the dump may be hostile"


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
        raise ArgumentError("jobs", f"jobs is {jobs!r}; expected at least 1")
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
        yield from _stream(refs, config, jobs, ray, finished)


def _stream(
    refs: Iterable[DumpRef], config: RunConfig, jobs: int, ray: str | None, state: _State | None
) -> Iterator[Outcome]:
    """Outcomes in the order of the references; what is finished already is not judged again."""

    def known_or_not() -> Iterator[DumpRef | Done[DumpRef, Outcome]]:
        for ref in refs:
            outcome = state.known(ref) if state is not None else None
            yield ref if outcome is None else Done(ref, outcome)

    for done in in_order(partial(_judge, config), known_or_not(), jobs, ray=ray):
        outcome = done.value or Outcome(done.item.label, reason=_DIED)
        if state is not None and not state.has(done.item):
            state.add(done.item, outcome)
        yield outcome


_workers: dict[str, Worker] = {}


def _judge(config: RunConfig, ref: DumpRef) -> Outcome:
    """The verdict on a dump, by this process's worker for such runs."""
    key = json.dumps(config.to_json(), sort_keys=True)
    if key not in _workers:
        for other in _workers.values():
            other.close()
        _workers.clear()
        _workers[key] = Worker(config)
    return _workers[key].judge(ref)


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
                    "state",
                    f"state {str(self._path)!r} is of another run; "
                    f"expected {expected}; delete it or name another",
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
        if not self.has(ref):
            return None
        offset = self._offsets[ref.label][0]
        if self._reader is None:
            self._reader = self._path.open("rb")
        self._reader.seek(offset)
        entry = _line(self._reader.readline()) or {}
        return Outcome(ref.label, entry.get("photo"), str(entry.get("reason", "")))

    def has(self, ref: DumpRef) -> bool:
        """Whether a dump is finished and has not changed."""
        offset, stamp = self._offsets.get(ref.label, (0, ""))
        return bool(offset) and stamp == _stamp(ref)

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
