"""Runs kept in a database, and what changed between builds, devices and runtimes.

SQLAlchemy speaks to SQLite (a file, no server) and PostgreSQL (a team's). Only plain columns and
standard statements are used, so that both give the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from panokit import __version__
from panokit._places import make_folder, plain_file
from panokit._text import encodable
from panokit.dump.model import dump_stem
from panokit.errors import ArgumentError, DataError, MissingExtraError
from panokit_validation.latency import Latency
from panokit_validation.summary import RunSummary, group_of
from panokit_validation.worker import Outcome

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["Change", "History", "RunInfo", "SpeedRow", "history_url"]

SCHEMA_VERSION = 1
LOCK_SECONDS = 60.0
"""So long a run waits for another one to write."""

_BATCH = 500
_LOCK = 0x70616E6F  # a number that means the making of our tables
_WRITES = "panokit_writes"
_FIGURES = ("sqnr_db", "pq", "equal_pixels")
_OF_LATENCY = ("source", "device", "os", "compute_unit", "artifact", "build", "stage")
_TIMES = ("first", "burst", "sustained", "p95")
_RANK = {"pass": 0, "pass with rounding": 1, "fail": 2, "refused": 3}


@dataclass(frozen=True)
class RunInfo:
    """One kept run: when (UTC, ISO 8601), of what, with which result."""

    id: int
    created: str
    bundle: str
    build: str
    verdict: str
    photos: int
    failed: int
    refused: int


@dataclass(frozen=True)
class Change:
    """What became of a photo since the run before, on one device and runtime.

    ``kind``: ``"broke"`` (agreed, fails now), ``"mended"``, ``"moved"`` (fails at another stage),
    ``"worse"`` or ``"better"`` (pass and pass with rounding), ``"new"`` or ``"gone"``.
    """

    kind: str
    photo: str
    group: str
    before: str
    after: str

    def to_json(self) -> dict[str, str]:
        """A JSON-ready dict."""
        return asdict(self)


@dataclass(frozen=True)
class SpeedRow:
    """How fast a stage was on a device, in milliseconds; ``change`` of ``burst`` since the build
    before, 0.1 = a tenth slower, None for the first."""

    device: str
    os: str
    compute_unit: str
    artifact: str
    stage: str
    build: str
    first: float | None
    burst: float | None
    sustained: float | None
    change: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def history_url(text: str) -> str:
    """A database URL; a plain path means an SQLite file."""
    if "://" in text:
        for scheme in ("postgresql://", "postgres://"):
            if text.startswith(scheme):  # SQLAlchemy would look for psycopg2
                return "postgresql+psycopg://" + text.removeprefix(scheme)
        return text
    path = Path(text)
    if path.is_dir():
        raise ArgumentError(
            "history", f"history is {text!r}; expected a database URL or an SQLite file"
        )
    if path.exists():
        try:
            plain_file(path)
        except OSError as error:
            raise DataError(path, f"cannot be a history: {error}") from None
    make_folder(path.parent)
    return f"sqlite:///{path}"


def _engine(sa: Any, url: str) -> Engine:
    """The engine; on SQLite a transaction that writes takes its lock when it begins. Python's own
    transactions take it at the first change, where waiting for another run is not possible."""
    if not url.startswith("sqlite"):
        engine: Engine = sa.create_engine(url)
        return engine
    engine = sa.create_engine(url, connect_args={"timeout": LOCK_SECONDS})

    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # or Python would begin transactions itself

    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", begun)
    return engine


class History:
    """A database of runs. Use it with ``with``."""

    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy
        except ImportError as error:
            raise MissingExtraError("`panokit validate --history`", "history") from error
        self._sa, self._shown = sqlalchemy, url.rsplit("@", 1)[-1]
        try:
            self._engine: Engine = _engine(sqlalchemy, history_url(url))
        except ImportError as error:
            raise MissingExtraError("`panokit validate --history`", "history") from error
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise DataError(self._shown, f"the history cannot be opened: {error}") from None
        self._define(sqlalchemy)
        try:
            with self._writing("opened") as connection:
                self._prepare(connection)
        except DataError:
            self._engine.dispose()
            raise

    def __enter__(self) -> History:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._engine.dispose()

    @contextmanager
    def _writing(self, done: str = "written") -> Iterator[Connection]:
        """A transaction that waits until no other run writes."""
        try:
            with self._engine.execution_options(**{_WRITES: True}).begin() as connection:
                yield connection
        except self._sa.exc.SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error)
            raise DataError(self._shown, f"the history cannot be {done}: {reason}") from None

    def _define(self, sa: Any) -> None:
        tables = sa.MetaData()
        text, whole = sa.Text, sa.Integer
        self._meta = sa.Table(
            "panokit_schema", tables, sa.Column("version", whole, primary_key=True)
        )
        self._runs = sa.Table(
            "panokit_runs",
            tables,
            sa.Column("id", whole, primary_key=True),
            sa.Column("created", text, nullable=False),
            sa.Column("finished", sa.Boolean, nullable=False),
            sa.Column("panokit", text, nullable=False),
            sa.Column("bundle", text, nullable=False, index=True),
            sa.Column("manifest_sha256", text, nullable=False),
            sa.Column("build", text, nullable=False),
            sa.Column("options", text, nullable=False),
            sa.Column("verdict", text, nullable=False),
            sa.Column("photos", whole, nullable=False),
            sa.Column("failed", whole, nullable=False),
            sa.Column("refused", whole, nullable=False),
        )
        self._photos = sa.Table(
            "panokit_photos",
            tables,
            sa.Column("id", whole, primary_key=True),
            sa.Column(
                "run_id", whole, sa.ForeignKey("panokit_runs.id"), nullable=False, index=True
            ),
            sa.Column("photo", text, nullable=False),
            sa.Column("dump", text, nullable=False),
            sa.Column("device", text, nullable=False),
            sa.Column("runtime", text, nullable=False),
            sa.Column("metadata", text, nullable=False),
            sa.Column("verdict", text, nullable=False),
            sa.Column("first_bad_stage", text),
            sa.Column("cause", text),
            *(sa.Column(name, sa.Float) for name in _FIGURES),
        )
        self._latency = sa.Table(
            "panokit_latency",
            tables,
            sa.Column("id", whole, primary_key=True),
            sa.Column("created", text, nullable=False),
            sa.Column("bundle", text, nullable=False, index=True),
            *(sa.Column(name, text, nullable=False) for name in _OF_LATENCY),
            *(sa.Column(f"{name}_ms", sa.Float) for name in _TIMES),
            sa.Column("calls", whole, nullable=False),
        )
        self._tables = tables

    def _prepare(self, connection: Connection) -> None:
        """Make what is missing. Several runs that start a new history do so one after another: on
        SQLite the transaction sees to that, on PostgreSQL a lock of ours."""
        if connection.dialect.name == "postgresql":
            lock = self._sa.func.pg_advisory_xact_lock(_LOCK)
            connection.execute(self._sa.select(lock))
        self._tables.create_all(connection)
        version = connection.execute(self._sa.select(self._meta.c.version)).scalar()
        if version is None:
            connection.execute(self._meta.insert(), {"version": SCHEMA_VERSION})
        elif version != SCHEMA_VERSION:
            reason = f"expected a history of version {SCHEMA_VERSION}, got {version}"
            raise DataError(self._shown, f"{reason}; it was written by another version of Panokit")

    def start(
        self, bundle: str, manifest_sha256: str, build: str, options: dict[str, Any]
    ) -> RunRecorder:
        """Begin to record a run."""
        values = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": False,
            "panokit": __version__,
            "bundle": bundle,
            "manifest_sha256": manifest_sha256,
            "build": build,
            "options": json.dumps(options),
            "verdict": "",
            "photos": 0,
            "failed": 0,
            "refused": 0,
        }
        values = {k: _storable(v) if isinstance(v, str) else v for k, v in values.items()}
        with self._writing() as connection:
            key = connection.execute(self._runs.insert(), values).inserted_primary_key
        if key is None:
            raise DataError(self._shown, "the database gave the run no number")
        return RunRecorder(self, int(key[0]))

    def runs(self, bundle: str | None = None) -> list[RunInfo]:
        """All finished runs (of one bundle name), the oldest first."""
        c = self._runs.c
        query = self._sa.select(
            c.id, c.created, c.bundle, c.build, c.verdict, c.photos, c.failed, c.refused
        )
        query = query.where(c.finished).order_by(c.id)
        if bundle is not None:
            query = query.where(c.bundle == bundle)
        with self._engine.connect() as connection:
            return [RunInfo(*row) for row in connection.execute(query)]

    def add_latency(self, bundle: str, latency: Latency) -> None:
        """Keep what a phone reported of a bundle's speed."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        said = {name: getattr(latency, name) for name in _OF_LATENCY if name != "stage"}
        rows = []
        for stage, timing in latency.stages.items():
            texts = {"created": created, "bundle": bundle, "stage": stage, **said}
            rows.append(
                {
                    **{k: _storable(v) for k, v in texts.items()},
                    **{f"{name}_ms": getattr(timing, name) for name in _TIMES},
                    "calls": timing.calls,
                }
            )
        with self._writing() as connection:
            connection.execute(self._latency.insert(), rows)

    def latencies(self, bundle: str) -> list[SpeedRow]:
        """The newest figures of each device, compute unit, artifact, stage and build of a bundle,
        and by how much each differs from the build before, the oldest build first."""
        c = self._latency.c
        query = self._sa.select(
            c.device, c.os, c.compute_unit, c.artifact, c.stage, c.build,
            c.first_ms, c.burst_ms, c.sustained_ms,
        )  # fmt: skip
        query = query.where(c.bundle == bundle).order_by(c.id)
        newest: dict[tuple[str, ...], tuple[float | None, ...]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                newest.pop(tuple(row[:6]), None)  # so that it stands where it was last measured
                newest[tuple(row[:6])] = tuple(row[6:])
        found, before = [], dict[tuple[str, ...], float]()
        for key, times in newest.items():
            last, burst = before.get(key[:5]), times[1]
            change = burst / last - 1 if burst is not None and last else None
            device, system, unit, artifact, stage, build = key
            first, burst, sustained = times
            found.append(
                SpeedRow(device, system, unit, artifact, stage, build, first, burst, sustained,
                         change)
            )  # fmt: skip
            if burst is not None:
                before[key[:5]] = burst
        return found

    def changes(self, run: int, before: int | None = None) -> list[Change]:
        """What changed since another run of the bundle (without ``before`` the previous one), by
        photo, dump and device; other builds of the app are meant to be compared."""
        if before is None:
            names = {r.id: r.bundle for r in self.runs()}
            earlier = [i for i, name in names.items() if i < run and name == names.get(run)]
            if not earlier:
                return []
            before = earlier[-1]
        old, new = self._results(before), self._results(run)
        changes = []
        for key in sorted({*old, *new}):
            change = _change(key, old.get(key), new.get(key))
            if change is not None:
                changes.append(change)
        return changes

    def groups(self, run: int) -> list[dict[str, Any]]:
        """Device by device and runtime by runtime: photos, failures and mean figures."""
        sa, c = self._sa, self._photos.c
        failed = sa.func.sum(sa.case((c.verdict == "fail", 1), else_=0)).label("failed")
        query = (
            sa.select(
                c.device,
                c.runtime,
                sa.func.count().label("photos"),
                failed,
                *(sa.func.avg(c[name]).label(name) for name in _FIGURES),
            )
            .where(c.run_id == run, c.verdict != "refused")
            .group_by(c.device, c.runtime)
            .order_by(c.device, c.runtime)
        )
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _results(self, run: int) -> dict[tuple[str, str], tuple[str, str]]:
        """(photo and dump, device and runtime) → (verdict, first bad stage); of doubles the
        worst."""
        c = self._photos.c
        query = self._sa.select(c.photo, c.dump, c.device, c.runtime, c.verdict, c.first_bad_stage)
        found: dict[tuple[str, str], tuple[str, str]] = {}
        with self._engine.connect() as connection:
            for photo, dump, device, runtime, verdict, stage in connection.execute(
                query.where(c.run_id == run)
            ):
                key = _named(photo, dump), " · ".join(v for v in (device, runtime) if v)
                value = verdict, stage or ""
                if key not in found or _RANK[value[0]] > _RANK[found[key][0]]:
                    found[key] = value
        return found

    def _insert(self, rows: Sequence[dict[str, Any]]) -> None:
        with self._writing() as connection:
            connection.execute(self._photos.insert(), list(rows))

    def _close_run(self, run: int, summary: RunSummary) -> None:
        counts = summary.counts
        values = {
            "finished": True,
            "verdict": summary.verdict.value,
            "photos": len(summary.rows),
            "failed": counts["fail"],
            "refused": counts["refused"],
        }
        with self._writing() as connection:
            connection.execute(self._runs.update().where(self._runs.c.id == run).values(values))


class RunRecorder:
    """Writes a run's outcomes in batches."""

    def __init__(self, history: History, run: int) -> None:
        self._history, self.run = history, run
        self._rows: list[dict[str, Any]] = []

    def add(self, outcome: Outcome) -> None:
        """Record one outcome."""
        self._rows.append({"run_id": self.run, **_columns(outcome)})
        if len(self._rows) >= _BATCH:
            self._flush()

    def finish(self, summary: RunSummary) -> None:
        """Record the run's result; only finished runs are compared."""
        self._flush()
        self._history._close_run(self.run, summary)

    def _flush(self) -> None:
        if self._rows:
            self._history._insert(self._rows)
        self._rows = []


def _columns(outcome: Outcome) -> dict[str, Any]:
    photo = outcome.photo
    if photo is None:
        empty = dict.fromkeys(("device", "runtime", "metadata"), "")
        bare = dict.fromkeys(("first_bad_stage", "cause", *_FIGURES))
        name = Path(outcome.dump).name
        values = {"photo": name, "dump": outcome.dump, "verdict": "refused", **empty, **bare}
    else:
        summary = RunSummary()
        summary.add(outcome)
        (row,) = summary.rows
        metadata = photo["metadata"]
        runtime = [metadata.get(k, "") for k in ("runtime", "delegate", "compute_unit", "artifact")]
        values = {
            "photo": row.photo,
            "dump": row.dump,
            "device": " ".join(v for v in (metadata.get("device"), metadata.get("os")) if v),
            "runtime": " ".join(v for v in runtime if v),
            "metadata": json.dumps(group_of(metadata)),
            "verdict": row.verdict.value,
            "first_bad_stage": row.first_bad_stage,
            "cause": row.cause,
            **{name: getattr(row, name) for name in _FIGURES},
        }
    # PostgreSQL's text holds neither NUL nor lone surrogates.
    return {k: _storable(v) if isinstance(v, str) else v for k, v in values.items()}


def _named(photo: str, dump: str) -> str:
    """The photo, and the dump's file where that has another name; its folder may change from run to
    run."""
    name = PurePosixPath(dump.replace("\\", "/")).name
    return photo if name in (photo, "") or dump_stem(name) == photo else f"{photo} ({name})"


def _storable(text: str) -> str:
    return encodable(text.replace("\0", "\ufffd"))


def _change(
    key: tuple[str, str], old: tuple[str, str] | None, new: tuple[str, str] | None
) -> Change | None:
    if old == new:
        return None
    before, after = ("" if v is None else " at ".join(p for p in v if p) for v in (old, new))
    if old is None or new is None:
        kind = "new" if old is None else "gone"
    elif (_RANK[old[0]] >= 2) != (_RANK[new[0]] >= 2):
        kind = "broke" if _RANK[new[0]] >= 2 else "mended"
    elif _RANK[new[0]] >= 2:
        kind = "moved"
    else:
        kind = "worse" if _RANK[new[0]] > _RANK[old[0]] else "better"
    return Change(kind, *key, before, after)
