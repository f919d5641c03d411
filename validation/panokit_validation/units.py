"""One photo on several compute units, or run several times: where is it right, and where not?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["UnitRun", "unit_findings"]


@dataclass(frozen=True)
class UnitRun:
    """The verdict on one dump: its ``photo``, ``group`` (device, runtime, artifact …, all but the
    compute unit), ``unit`` (CPU, GPU, Neural Engine …), ``run`` (1 is the first) and whether it is
    right."""

    photo: str
    group: str
    unit: str
    run: int
    right: bool


def unit_findings(runs: Iterable[UnitRun]) -> list[str]:
    """A sentence for each pattern of right and wrong among the units and repetitions of a photo,
    with the number of photos that show it; none where all agree."""
    photos: dict[tuple[str, str], list[UnitRun]] = defaultdict(list)
    for run in runs:
        photos[run.group, run.photo].append(run)
    seen: Counter[tuple[str, str]] = Counter()
    for (group, _), of_photo in photos.items():
        if len({r.right for r in of_photo}) == 2:
            seen[group, _pattern(of_photo)] += 1
    return [
        f"{group}: {pattern} ({'1 photo' if n == 1 else f'{n} photos'})."
        for (group, pattern), n in seen.most_common()
    ]


def _pattern(runs: list[UnitRun]) -> str:
    by_unit: dict[str, dict[int, bool]] = defaultdict(dict)
    for r in runs:  # of two dumps of one run the worse counts
        by_unit[r.unit][r.run] = r.right and by_unit[r.unit].get(r.run, True)
    parts = [_of_unit(unit, found) for unit, found in sorted(by_unit.items())]
    right = [unit for unit, words in parts if not words]
    wrong = [f"wrong on {unit}{words}".rstrip() for unit, words in parts if words]
    return ", ".join([f"right on {' and '.join(right)}"] * bool(right) + wrong)


def _of_unit(unit: str, found: Mapping[int, bool]) -> tuple[str, str]:
    """The unit, and in words when it is wrong; empty if never."""
    runs = sorted(found)
    wrong = [n for n in runs if not found[n]]
    if not wrong:
        return unit, ""
    if wrong == runs:
        return unit, " in every run" if len(runs) > 1 else " "
    if wrong == runs[runs.index(wrong[0]) :]:
        return unit, f" from run {wrong[0]} on"
    if wrong == [runs[0]]:
        return unit, f" in run {runs[0]} only"
    return unit, f" in {len(wrong)} of {len(runs)} runs"
