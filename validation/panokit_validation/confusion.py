"""How often the diagnosis is right: every fault injected on many photos, and clean devices.

The work is split into tasks (one fault, or one kind of noise, on one artifact); each finished task
is a line of a file, from which a stopped run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from panokit._files import write_json
from panokit.bundle import MANIFEST, Bundle, hash_path
from panokit.dump import HEADS, STAGES
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.pool import Done, as_done
from panokit.segmenter import Segmenter
from panokit_validation.device import parse_noise
from panokit_validation.diagnosis import diagnose
from panokit_validation.faults import FAULTS
from panokit_validation.simulate import Simulator

__all__ = ["CLEAN", "NOISES", "VIEWS", "Case", "Confusion", "Plan", "run"]

CLEAN = "clean"
NOISES = ("threads=2", "threads=1", "xnnpack=off", "fp16")
"""What the devices of the table differ by, in turn."""

VIEWS: dict[str, tuple[str, ...]] = {
    "all": STAGES,
    "heads": ("photo", *HEADS, "panoptic"),
    "map": ("photo", "panoptic"),
}
"""Which stages the dumps hold."""


Task = tuple[str, str, str, int]
"""View, artifact, fault (or clean device) and how many photos it is to act on."""


@dataclass(frozen=True)
class Plan:
    """What to run: ``bundle``, its ``artifacts``, ``photos`` in the order to use them, and how
    many photos on which a fault acts are wanted (``count``), for each view by its name."""

    bundle: str
    artifacts: tuple[str, ...]
    photos: tuple[str, ...]
    counts: tuple[tuple[str, int], ...] = (("all", 20),)
    clean: int = 100

    def __post_init__(self) -> None:
        if len(self.photos) < 2:
            raise ArgumentError(
                "photos", f"there are {len(self.photos)} photos; expected at least two"
            )
        for view, count in self.counts:
            if view not in VIEWS or count < 1:
                raise ArgumentError(
                    "counts",
                    f"the count of view {view!r} is {count}; "
                    f"expected views {', '.join(VIEWS)}, each at least 1",
                )

    def identity(self) -> dict[str, Any]:
        """What a file of finished tasks must agree with, to be gone on from."""
        manifest = hash_path(Path(self.bundle) / MANIFEST)
        names = [Path(p).name for p in self.photos]
        return {"manifest": manifest, "photos": names, "clean": self.clean}

    def tasks(self) -> list[Task]:
        """View, artifact, fault (or noise) and count."""
        found: list[Task] = []
        bundle = Bundle.open(self.bundle, verify=False)
        for view, count in self.counts:
            for name in self.artifacts:
                artifact = bundle.manifest.artifact(name)
                quantised = artifact.outputs["semantic"].scale is not None
                found += [
                    (view, name, f.name, count) for f in FAULTS.values() if f.occurs_on(quantised)
                ]
                if view == "all":
                    found += [(view, name, f"{CLEAN}:{n}", self.clean) for n in NOISES]
        return found


@dataclass(frozen=True)
class Case:
    """One dump: what was ``injected`` on which ``photo`` under which ``noise``, and what was
    ``named``, best first, with the share that each explains. No name: nothing differed."""

    view: str
    artifact: str
    injected: str
    variant: str
    photo: str
    noise: str
    named: tuple[str, ...]
    explained: tuple[float, ...]
    alarm: bool

    @property
    def acts(self) -> bool:
        """Whether anything differed by more than rounding (which is a fault of its own here)."""
        return self.alarm or (self.injected == "fp16-rounding" and bool(self.named))

    @property
    def rank(self) -> int | None:
        """The place of the injected fault, from 1; None if it was not named."""
        return self.named.index(self.injected) + 1 if self.injected in self.named else None

    @property
    def tied(self) -> bool:
        """Whether another fault was ranked first that gives exactly the same dump."""
        rank = self.rank
        return rank is not None and rank > 1 and self.explained[rank - 1] == self.explained[0] == 1


@dataclass
class Confusion:
    """All cases of a run."""

    cases: list[Case] = field(default_factory=list)

    def select(self, view: str, artifact: str | None = None, injected: str = "") -> list[Case]:
        """The cases of a view, an artifact and a fault (or of all)."""
        return [
            c
            for c in self.cases
            if c.view == view
            and (artifact is None or c.artifact == artifact)
            and (not injected or c.injected == injected)
        ]

    def injected(self, view: str) -> list[Case]:
        """The cases with a fault."""
        return [c for c in self.select(view) if c.injected != CLEAN]

    def clean(self, view: str = "all") -> list[Case]:
        """The cases without one."""
        return self.select(view, injected=CLEAN)


def run(
    plan: Plan, state: Path, jobs: int = 1, faults: Sequence[str] = ()
) -> Generator[tuple[int, int, Confusion], None, None]:
    """Run what ``state`` does not hold yet; yields tasks done, all tasks, and the cases so far.

    ``faults`` limits the tasks to these (and clean devices). A state of another bundle or other
    photos is an error, because its cases would be mixed with these.
    """
    confusion, done = _read(state, plan)
    tasks = [t for t in plan.tasks() if not faults or t[2] in faults or t[2].startswith(CLEAN)]
    left = [t for t in tasks if t[:3] not in done]
    yield len(tasks) - len(left), len(tasks), confusion
    if not left:
        return

    def keep(done: Done[Task, list[Case]]) -> None:
        cases = done.get()
        confusion.cases += cases
        _append(state, done.item, cases)

    number = len(tasks) - len(left)
    for finished in as_done(partial(_task, plan), left, jobs, late=keep):
        keep(finished)
        number += 1
        yield number, len(tasks), confusion


def _read(state: Path, plan: Plan) -> tuple[Confusion, set[tuple[str, str, str]]]:
    confusion, done = Confusion(), set[tuple[str, str, str]]()
    identity = plan.identity()
    if not state.is_file():
        write_json(state, identity, indent=None)
        return confusion, done
    head, *lines = state.read_text(encoding="utf-8").splitlines()
    if json.loads(head) != identity:
        expected = "the state of a run on the same bundle and photos (or a new file)"
        raise ArgumentError("state", f"state {str(state)!r} is of another run; expected {expected}")
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:  # the last line of a run that was stopped
            continue
        done.add((data["view"], data["artifact"], data["task"]))
        confusion.cases += [
            Case(**{**c, "named": tuple(c["named"]), "explained": tuple(c["explained"])})
            for c in data["cases"]
        ]
    return confusion, done


def _append(state: Path, task: Task, cases: list[Case]) -> None:
    view, artifact, name, _ = task
    data = {"view": view, "artifact": artifact, "task": name, "cases": [asdict(c) for c in cases]}
    with state.open("a", encoding="utf-8") as file:
        file.write(json.dumps(data) + "\n")


_opened: dict[tuple[str, str], tuple[Segmenter, dict[str, Simulator]]] = {}


def _devices(plan: Plan, name: str) -> tuple[Segmenter, dict[str, Simulator]]:
    """A process opens each artifact once."""
    key = (plan.bundle, name)
    if key not in _opened:
        segmenter = Segmenter.open(Bundle.open(plan.bundle, verify=False), name, threads=1)
        _opened[key] = segmenter, {n: Simulator(segmenter, parse_noise(n)) for n in NOISES}
    return _opened[key]


def _task(plan: Plan, task: Task) -> list[Case]:
    """One fault (or clean device) on the photos, until it acted on as many as wanted."""
    view, artifact, name, count = task
    segmenter, devices = _devices(plan, artifact)
    injected, _, noise = name.partition(":")
    cases: list[Case] = []
    acting = 0
    for i, path in enumerate(plan.photos):
        if acting >= count:
            break
        photo = Photo.open(path)
        kind = noise or NOISES[i % len(NOISES)]
        fault = FAULTS.get(injected)
        faults = [] if fault is None else [(fault, fault.variants[i % len(fault.variants)])]
        # Not the neighbour: it may be the next frame of the same scene.
        other = Photo.open(plan.photos[(i + len(plan.photos) // 2) % len(plan.photos)])
        dump = devices[kind].simulate(photo, faults, other=other, stages=VIEWS[view])
        found = diagnose(dump, segmenter)
        case = Case(
            view=view,
            artifact=artifact,
            injected=injected,
            variant=faults[0][1].label if faults else "",
            photo=photo.name,
            noise=kind,
            named=tuple(c.name for c in found.causes),
            explained=tuple(round(c.explained, 9) for c in found.causes),
            alarm=found.alarm,
        )
        cases.append(case)
        acting += case.acts or injected == CLEAN
    return cases
