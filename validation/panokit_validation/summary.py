"""What a run adds up to, kept small: a few figures a photo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from panokit_validation.diagnosis import UNKNOWN
from panokit_validation.units import UnitRun, unit_findings
from panokit_validation.verdict import Verdict
from panokit_validation.words import sentence_of
from panokit_validation.worker import Outcome

__all__ = ["GROUP_KEYS", "Group", "Row", "RunSummary", "Vote", "group_of", "name_of"]

GROUP_KEYS = ("device", "os", "runtime", "delegate", "compute_unit", "app", "build", "artifact")
"""The metadata that tells one group of dumps from another."""

MAX_REFUSALS = 1000

LEAST_VOTE = 0.5
"""A cause that explains less of all differences is none for all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One judged photo: ``cause`` is the name of what explains it best, or the names of two that
    act together, joined by " + "; ``sqnr_db`` of its worst head, ``pq`` 0..100 and
    ``equal_pixels`` 0..1 of its map, given the device's previous stage; ``chain_pixels`` 0..1 the
    map's equal pixels along the chain from the photo. None where there is no such stage.
    ``sentence`` is the verdict in plain words."""

    photo: str
    dump: str
    verdict: Verdict
    first_bad_stage: str | None
    cause: str | None
    group: str
    message: str
    sqnr_db: float | None
    pq: float | None
    equal_pixels: float | None
    chain_pixels: float | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Vote:
    """What explains the photos that fail first at ``stage`` best, together: ``cause`` was found,
    or considered, for ``photos`` of the ``failing`` ones, and explains ``explained`` 0..1 of their
    differences on average (nothing where it was not)."""

    stage: str
    cause: str
    photos: int
    failing: int
    explained: float

    @property
    def sentence(self) -> str:
        """It in words."""
        return (
            f"{self.cause} explains {self.photos} of the {self.failing} photos that fail at "
            f"{self.stage}, {self.explained:.0%} of their differences on average"
        )


@dataclass
class Group:
    """Dumps of one device, runtime and build."""

    metadata: dict[str, str]
    verdicts: Counter[str] = field(default_factory=Counter)
    first_bad: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    _support: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def count(self, photo: Mapping[str, Any], row: Row) -> None:
        """Count one judged photo."""
        self.verdicts[row.verdict.value] += 1
        if row.first_bad_stage:
            self.first_bad[row.first_bad_stage] += 1
        if row.verdict is not Verdict.FAIL:
            return
        if row.cause:
            self.causes[row.cause] += 1
        stage = row.first_bad_stage or ""
        best: dict[str, float] = {}
        for cause in photo["causes"]:
            if cause["alarm"] and cause["name"] != UNKNOWN:
                share, name = float(cause["explained"]), name_of(cause)
                best[name] = max(share, best.get(name, 0.0))
        for name, explained in best.items():
            self._support.setdefault((stage, name), []).append(explained)

    @property
    def votes(self) -> list[Vote]:
        """For each stage at which several photos fail: what explains most of all of them. One photo
        may fit two mistakes equally well; another tells them apart."""
        found = []
        for stage, failing in self.first_bad.items():
            shares = {n: v for (at, n), v in self._support.items() if at == stage}
            if failing < 2 or not shares:
                continue
            name = max(shares, key=lambda n: sum(shares[n]))
            vote = Vote(stage, name, len(shares[name]), failing, sum(shares[name]) / failing)
            if vote.explained >= LEAST_VOTE:
                found.append(vote)
        return found

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            **self.metadata,
            "verdicts": dict(self.verdicts),
            "first_bad_stages": dict(self.first_bad.most_common()),
            "causes": dict(self.causes.most_common()),
            "votes": [asdict(vote) for vote in self.votes],
        }


class RunSummary:
    """Adds up outcomes as they come."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.refused: list[tuple[str, str]] = []
        self.refusals = 0
        self.groups: dict[str, Group] = {}
        self.warnings: Counter[str] = Counter()
        self._units: list[UnitRun] = []

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.photo is None:
            self.refusals += 1
            if len(self.refused) < MAX_REFUSALS:
                self.refused.append((outcome.dump, outcome.reason))
            return
        row = _row(outcome.photo)
        self.rows.append(row)
        self.warnings.update(outcome.photo["warnings"])
        self._units.append(_unit_run(outcome.photo, row))
        if row.group not in self.groups:
            self.groups[row.group] = Group(group_of(outcome.photo["metadata"]))
        self.groups[row.group].count(outcome.photo, row)

    @property
    def counts(self) -> dict[str, int]:
        """Photos by verdict, and how many dumps were refused."""
        counted = Counter(r.verdict.value for r in self.rows)
        return {**{v.value: counted[v.value] for v in Verdict}, "refused": self.refusals}

    @property
    def verdict(self) -> Verdict:
        """The run's: fail if a photo fails or a dump was refused."""
        counts = self.counts
        if counts[Verdict.FAIL.value] or self.refusals or not self.rows:
            return Verdict.FAIL
        return Verdict.ROUNDING if counts[Verdict.ROUNDING.value] else Verdict.PASS

    @property
    def exit_code(self) -> int:
        """0 all agree, 1 a photo fails, 2 a dump was refused."""
        if self.refusals:
            return 2
        return int(self.counts[Verdict.FAIL.value] > 0)

    @property
    def votes(self) -> list[str]:
        """What explains several failing photos of a device best, in words."""
        several = len(self.groups) > 1
        return [
            f"{group}: {vote.sentence}" if several else vote.sentence
            for group, found in self.groups.items()
            for vote in found.votes
        ]

    @property
    def unit_findings(self) -> list[str]:
        """Photos that are right on one compute unit or run and wrong on another, in words."""
        return unit_findings(self._units)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, without the photos."""
        return {
            "compute_units": self.unit_findings,
            "verdict": self.verdict.value,
            "counts": self.counts,
            "groups": [g.to_json() for g in self.groups.values()],
            "warnings": dict(self.warnings.most_common(50)),
        }


def name_of(cause: Mapping[str, Any]) -> str:
    """A cause's name; of causes that act together, all names."""
    return " + ".join(sorted({cause["name"], *cause.get("together", ())}))


def group_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """The part of a dump's metadata that tells its group."""
    return {k: metadata[k] for k in GROUP_KEYS if metadata.get(k)}


def _unit_run(photo: Mapping[str, Any], row: Row) -> UnitRun:
    metadata = photo["metadata"]
    others = {k: v for k, v in group_of(metadata).items() if k not in ("compute_unit", "delegate")}
    unit = metadata.get("compute_unit") or metadata.get("delegate") or "one unit"
    run = metadata.get("run", "1")
    number = int(run) if run.isdecimal() and len(run) < 9 else 1
    group = " · ".join(others.values()) or "unnamed device"
    return UnitRun(row.photo, group, unit, number, row.verdict is not Verdict.FAIL)


def _row(photo: Mapping[str, Any]) -> Row:
    stages = {s["stage"]: s for s in photo["stages"]}
    others = ("photo", "input", "panoptic")
    names = [n for n in stages if n not in others and not n.startswith("effect.")]
    heads = [stages[n]["figures"].get("sqnr_db") for n in names]
    known = [value for value in heads if value is not None]
    figures = stages.get("panoptic", {}).get("figures", {})
    bad = stages.get(photo["first_bad_stage"])
    return Row(
        photo=photo["photo"],
        dump=photo["dump"],
        verdict=Verdict(photo["verdict"]),
        first_bad_stage=photo["first_bad_stage"],
        cause=name_of(photo["causes"][0]) if photo["causes"] else None,
        group=" · ".join(group_of(photo["metadata"]).values()) or "unnamed device",
        message=f"{bad['stage']} {bad['message']}" if bad else "",
        sqnr_db=min(known, default=None),
        pq=figures.get("pq"),
        equal_pixels=figures.get("equal_pixels"),
        chain_pixels=(stages.get("panoptic", {}).get("chain") or {}).get("equal_pixels"),
        sentence=sentence_of(photo),
    )
