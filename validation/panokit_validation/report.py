"""One self-contained HTML page about a run: no scripts, nothing from the net, all text escaped."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panokit import __version__
from panokit._files import replacing
from panokit.errors import MissingExtraError, PanokitError
from panokit_validation.compare import compare_dump
from panokit_validation.pictures import Picture, pictures_of
from panokit_validation.reference import ReferenceStages
from panokit_validation.sources import find_dumps
from panokit_validation.summary import Row, RunSummary
from panokit_validation.verdict import Verdict, floor_percent
from panokit_validation.worker import RunConfig, Worker

if TYPE_CHECKING:
    from jinja2 import Template

    from panokit_validation.history import Change

__all__ = ["REPORT_PHOTOS", "write_report"]

REPORT_PHOTOS = 24
"""Photos shown with pictures; the worst come first."""

MAX_ROWS = 5000
WIDEST_BAR = 40.0  # of 1000, or two photos would fill the page
MAX_BARS = 600

_log = logging.getLogger(__name__)
_WORST_FIRST = (Verdict.FAIL, Verdict.ROUNDING, Verdict.PASS)


@dataclass(frozen=True)
class Card:
    """One photo with pictures: its outcome as JSON, and the names of the classes."""

    photo: dict[str, Any]
    pictures: list[Picture]
    classes: list[str]


@dataclass(frozen=True)
class Bar:
    """One mark of a trend: a photo, or the worst of several neighbours."""

    x: float
    y: float
    width: float
    verdict: str
    title: str


@dataclass(frozen=True)
class Trend:
    """A figure over the photos of the run in their order; heights 0..100 from the bottom."""

    title: str
    low: str
    high: str
    bars: list[Bar]


def write_report(
    path: str | os.PathLike[str],
    summary: RunSummary,
    config: RunConfig,
    sources: Iterable[str | os.PathLike[str]],
    options: Mapping[str, Any],
    changes: Sequence[Change] = (),
) -> Path:
    """Write the page.

    The worst photos are opened again for their pictures, so the dumps must still be there.
    ``options`` is the record of thresholds and choices; ``changes`` come from the history.
    """
    template = _template()
    path = Path(path)
    rows = sorted(summary.rows, key=lambda r: _WORST_FIRST.index(r.verdict))
    page = template.render(
        version=__version__,
        summary=summary,
        counts=summary.counts,
        groups=[g.to_json() for g in summary.groups.values()],
        cards=_cards(rows[:REPORT_PHOTOS], config, sources),
        trends=_trends(summary.rows),
        rows=rows[:MAX_ROWS],
        omitted=max(0, len(rows) - MAX_ROWS),
        options=options,
        changes=list(changes)[:MAX_ROWS],
        percent=floor_percent,
    )
    with replacing(path) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))
    return path


def _template() -> Template:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("`panokit validate --report`", "report") from error
    environment = Environment(
        loader=PackageLoader("panokit_validation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _cards(
    rows: Sequence[Row], config: RunConfig, sources: Iterable[str | os.PathLike[str]]
) -> list[Card]:
    wanted = {r.dump: i for i, r in enumerate(rows)}
    cards: dict[int, Card] = {}
    with Worker(config) as worker:
        for ref in find_dumps(sources):
            if ref.label not in wanted or wanted[ref.label] in cards:
                continue
            outcome = worker.judge(ref)
            classes = [c.name for c in worker.bundle.manifest.taxonomy]
            if outcome.photo is None:  # it has changed since
                continue
            try:
                reference = ReferenceStages(*worker.open(ref))
                pictures = pictures_of(reference, compare_dump(reference))
            except PanokitError as error:
                _log.warning("no pictures of %s: %s", ref.label, error)
                pictures = []
            cards[wanted[ref.label]] = Card(outcome.photo, pictures, classes)
            if len(cards) == len(wanted):
                break
    return [cards[i] for i in sorted(cards)]


def _trends(rows: Sequence[Row]) -> list[Trend]:
    pixels = [None if r.equal_pixels is None else 100 * r.equal_pixels for r in rows]
    chain = [None if r.chain_pixels is None else 100 * r.chain_pixels for r in rows]
    sqnr = [None if r.sqnr_db is None else min(r.sqnr_db, 100.0) for r in rows]
    out = []
    for title, values, unit, top in (
        ("Equal pixels of the map, from photo to map", chain, "%", 100.0),
        ("Equal pixels of the map, given the device's heads", pixels, "%", 100.0),
        ("Worst head, signal to difference (100: equal)", sqnr, "dB", 100.0),
    ):
        known = [v for v in values if v is not None]
        if len(known) < 2:
            continue
        low = min(known) - 0.05 * (top - min(known)) - 1e-9
        bars = _bars(rows, values, low, top, unit)
        out.append(Trend(title, f"{low:.4g} {unit}", f"{top:.4g} {unit}", bars))
    return out


def _bars(
    rows: Sequence[Row], values: Sequence[float | None], low: float, top: float, unit: str
) -> list[Bar]:
    """A bar a photo; where there are too many, one for the worst of each stretch."""
    count = min(len(rows), MAX_BARS)
    slot = min(1000 / count, WIDEST_BAR) if count else 0.0
    bars = []
    for i in range(count):
        start, stop = i * len(rows) // count, (i + 1) * len(rows) // count
        known = [(v, k) for k in range(start, stop) if (v := values[k]) is not None]
        if not known:
            continue
        value, k = min(known)
        verdict = max((rows[j].verdict for j in range(start, stop)), key=list(Verdict).index)
        shown = floor_percent(value / 100) if unit == "%" else f"{value:.2f} {unit}"
        title = f"{rows[k].photo}: {shown}, {rows[k].verdict.value}"
        if stop - start > 1:
            title = f"worst of {stop - start} photos: {title}"
        height = 100 * (value - low) / (top - low)
        bars.append(Bar(slot * i, height, slot, verdict.value, title))
    return bars
