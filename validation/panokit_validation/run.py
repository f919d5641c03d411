"""A run over any number of dumps: streamed, over processes or Ray, resumable, memory flat."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from panokit._files import replacing, write_text
from panokit._places import plain_file
from panokit.bundle import MANIFEST, hash_path
from panokit.errors import ArgumentError
from panokit.pool import Done, in_order
from panokit_validation.frames import KEPT
from panokit_validation.sources import DumpRef, find_dumps
from panokit_validation.worker import Outcome, RunConfig, Worker

__all__ = ["validate_dumps"]

log = logging.getLogger(__name__)

STATE_FORMAT = "panokit-validate-state/2"

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
    refs = _with_before(find_dumps(sources))
    with ExitStack() as stack:
        finished = _State(Path(state), config, root) if state is not None else None
        if finished is not None:
            stack.callback(finished.close)
        yield from _stream(refs, config, jobs, ray, finished)


def _with_before(refs: Iterable[DumpRef]) -> Iterator[DumpRef]:
    """The references, each with those just before it: its result may be one of theirs."""
    before: tuple[DumpRef, ...] = ()
    for ref in refs:
        yield replace(ref, before=before)
        before = (ref, *before)[:KEPT]


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
    """What is finished, a JSON line each, behind a line that says of which run. Each line holds a
    digest of itself: what was damaged is told, and judged again; all other lines stay."""

    def __init__(self, path: Path, config: RunConfig, bundle: Path) -> None:
        given = config.to_json()
        given["bundle"] = hash_path(bundle / MANIFEST)
        self._run = {"format": STATE_FORMAT, "run": given}
        self._path = path
        self._offsets: dict[str, tuple[int, str]] = {}  # label → where its line starts, and stamp
        self._reader: IO[bytes] | None = None
        self._check_place()
        if path.exists() and path.stat().st_size:
            self._read()
        else:
            write_text(path, json.dumps(self._run) + "\n")
        self._writer = path.open("ab")

    def _check_place(self) -> None:
        try:
            plain_file(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            reason = f"state {str(self._path)!r} cannot be used: {error}"
            raise ArgumentError("state", reason) from None

    def _read(self) -> None:
        damaged: list[int] = []
        with self._path.open("rb") as file:
            if _line(file.readline()) != self._run:
                expected = "a state file of this very run (bundle, artifact, thresholds, options)"
                raise ArgumentError(
                    "state",
                    f"state {str(self._path)!r} is of another run; "
                    f"expected {expected}; delete it or name another",
                )
            whole = file.tell()
            for number, raw in enumerate(file, 2):
                if raw.endswith(b"\n"):  # else the last line of a run that was killed
                    whole += len(raw)
                    if _sound(raw) is None:
                        damaged.append(number)
        if damaged:
            self._mend(damaged)
        else:
            os.truncate(self._path, whole)
        self._index()

    def _mend(self, damaged: list[int]) -> None:
        """Leave the damaged lines out, and say so."""
        shown = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
        lines = "line" if len(damaged) == 1 else "lines"
        log.warning("%s: %s %s cannot be believed (damaged); those dumps are judged again",
                    self._path, lines, shown)  # fmt: skip
        left_out = frozenset(damaged)
        with (
            replacing(self._path) as partial,
            partial.open("wb") as new,
            self._path.open("rb") as old,
        ):
            for number, raw in enumerate(old, 1):
                if number not in left_out and raw.endswith(b"\n"):
                    new.write(raw)

    def _index(self) -> None:
        with self._path.open("rb") as file:
            at = len(file.readline())
            for raw in file:
                entry = _line(raw) or {}
                self._offsets[str(entry.get("dump"))] = at, str(entry.get("stamp"))
                at += len(raw)

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
        entry = json.loads(json.dumps(entry))  # as it will be read, for the digest to be the same
        self._writer.write(json.dumps({**entry, "digest": _digest(entry)}).encode() + b"\n")
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


def _sound(raw: bytes) -> dict[str, Any] | None:
    """The entry of a line, if it is as it was written."""
    entry = _line(raw)
    if entry is None or "dump" not in entry:
        return None
    return entry if entry.pop("digest", None) == _digest(entry) else None


def _digest(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:32]


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
