"""One self-contained HTML page about a run: no scripts, nothing from the net, all text escaped."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panokit import __version__
from panokit._files import write_text
from panokit.errors import MissingExtraError, PanokitError
from panokit_validation.compare import compare_dump
from panokit_validation.diagnosis import UNKNOWN
from panokit_validation.faults import FAULTS
from panokit_validation.pictures import Picture, pictures_of
from panokit_validation.reference import ReferenceStages
from panokit_validation.sources import find_dumps
from panokit_validation.summary import Row, RunSummary
from panokit_validation.verdict import Verdict, floor_percent
from panokit_validation.words import GLOSSARY
from panokit_validation.worker import RunConfig, Worker

if TYPE_CHECKING:
    from jinja2 import Template

    from panokit_validation.history import Change

__all__ = ["REPORT_PHOTOS", "require_report", "write_report"]

REPORT_PHOTOS = 24
"""Photos shown with pictures; the worst come first."""

MAX_ROWS = 5000

_log = logging.getLogger(__name__)
_WORST_FIRST = (Verdict.FAIL, Verdict.ROUNDING, Verdict.PASS)


@dataclass(frozen=True)
class Card:
    """One photo with pictures: its outcome as JSON, and the names of the classes."""

    photo: dict[str, Any]
    pictures: list[Picture]
    classes: list[str]


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
    cards = _cards(rows[:REPORT_PHOTOS], config, sources)
    page = template.render(
        version=__version__,
        summary=summary,
        counts=summary.counts,
        groups=[g.to_json() for g in summary.groups.values()],
        cards=cards,
        card_of={card.photo["dump"]: n for n, card in enumerate(cards)},
        rows=rows[:MAX_ROWS],
        omitted=max(0, len(rows) - MAX_ROWS),
        options=options,
        changes=list(changes)[:MAX_ROWS],
        facets=_facets(rows[:MAX_ROWS]),
        failures=_failures(summary),
        glossary=GLOSSARY,
        faults=_faults(summary, cards),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        percent=floor_percent,
    )
    write_text(path, page)
    return path


def require_report() -> None:
    """``MissingExtraError`` if the page cannot be written here."""
    _template()


def _facets(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the table of photos can be narrowed down by, and to which values."""
    columns = {
        "verdict": [r.verdict.value for r in rows],
        "stage": [r.first_bad_stage or "none" for r in rows],
        "cause": [r.cause or "none" for r in rows],
        "device": [r.group for r in rows],
    }
    return {name: sorted(set(values)) for name, values in columns.items()}


@dataclass(frozen=True)
class Failure:
    """How many photos failed for one cause at one stage, and their share of all, 0..100."""

    stage: str
    cause: str
    count: int
    share: float


def _failures(summary: RunSummary) -> list[Failure]:
    """Causes with their counts, the most frequent first."""
    counted = Counter(
        (r.first_bad_stage or "", r.cause or "not looked for")
        for r in summary.rows
        if r.verdict is Verdict.FAIL
    )
    total = max(1, len(summary.rows))
    return [Failure(*key, n, 100 * n / total) for key, n in counted.most_common(20)]


def _faults(summary: RunSummary, cards: Sequence[Card]) -> dict[str, dict[str, Any]]:
    """What is known of the causes on the page, by name: title, stage, forms, advice."""
    found = {
        c["name"]: {**c, "forms": [c["variant"]] if c["variant"] else []}
        for card in cards
        for c in card.photo["causes"]
        if c["name"] != UNKNOWN
    }
    named = {name for r in summary.rows for name in (r.cause or "").split(" + ")}
    for name in {*found, *named} & FAULTS.keys():
        data = FAULTS[name].to_json()
        found[name] = {**data, "forms": [v for v in data["variants"] if v]}
    return dict(sorted(found.items()))


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
