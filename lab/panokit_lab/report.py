"""One page of what recipes cost: HTML for people, JSON for machines, PNG for slides."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panokit._files import make_folder, write_json, write_text
from panokit.errors import ArgumentError, DataError, MissingExtraError
from panokit_lab.bench import Machine, bench_paths, machine
from panokit_lab.comparison import ComparedArtifact, compare
from panokit_lab.pictures import draw_worst
from panokit_lab.plots import plot_front
from panokit_lab.results import Latency, QualityFigures, RecipeResult, Results
from panokit_lab.search import collect, pareto_front, timed

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["Report", "write_report"]

log = logging.getLogger(__name__)

THREADS = (1, 2)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What a report says: the recipes' ``results``, a row for each artifact, the recipes that no
    other beats (``front``), and the latency of the files ``beside`` them."""

    machine: Machine
    front: tuple[str, ...]
    rows: tuple[ComparedArtifact, ...]
    beside: tuple[Latency, ...]
    results: Results

    @property
    def first(self) -> RecipeResult:
        """Any of the results: network, weights and input size are those of all."""
        return next(iter(self.results.values()))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What recipes could not do to a layer, or not in a format, a sentence each."""
        return tuple(
            f"{name}: {remark}"
            for name, result in self.results.items()
            for remark in (
                *result.remarks,
                *(f"{format} failed: {why}" for format, why in result.failures.items()),
            )
        )

    @property
    def latencies(self) -> dict[str, dict[int, Latency]]:
        """All that was timed, by name and number of threads."""
        ours = [latency for row in self.rows for latency in row.figures.latency.values()]
        by_name: dict[str, dict[int, Latency]] = {}
        for latency in (*ours, *self.beside):
            by_name.setdefault(latency.name, {})[latency.threads] = latency
        return by_name

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict: the content of ``report.json``."""
        return {
            "machine": self.machine.to_json(),
            "front": list(self.front),
            **({"remarks": list(self.remarks)} if self.remarks else {}),
            "rows": [row.to_json() for row in self.rows],
            "beside": [timed.to_json() for timed in self.beside],
            "results": {name: result.to_json() for name, result in self.results.items()},
        }


def write_report(
    runs: Path,
    out: Path,
    data: Path | None = None,
    seconds: float = 20,
    say: Progress = log.info,
    beside: Sequence[Path] = (),
) -> Report:
    """Write ``report.html``, ``report.json``, ``report.md`` and ``pareto.png`` of the recipes under
    ``runs``.

    The TFLite artifacts are timed here, in turns, and so are the files and bundles ``beside``
    (networks of others, say). With ``data`` (the folder that quality was measured on) the photos
    that lost most are shown beside the float network. Differences are to the recipe ``float32``,
    if it is among them.
    """
    template = _template()
    results = collect(runs)
    if not results:
        raise DataError(runs, "holds no finished recipe; run `panokit compress run` first")
    kinds = {(r.weights, r.size_wh) for r in results.values()}
    if len(kinds) > 1:
        raise ArgumentError(
            "runs", f"the runs are of {sorted(kinds)}; expected one network and one input size"
        )
    timing = timed(runs, results, seconds, say, bench_paths(beside))
    results = timing.results
    make_folder(out)
    front = pareto_front(results)
    plot_front({n: r.objectives for n, r in results.items()}, front, out / "pareto.png")
    report = Report(machine(), tuple(front), compare(results), timing.beside, results)
    write_json(out / "report.json", report.to_json())
    write_text(out / "report.md", markdown(report))
    say("drawing the photos that lost most")
    pictures = draw_worst(runs, report.rows, results, data) if data else {}
    page = template.render(
        report=report,
        artifacts=artifact_table(report),
        latencies=latency_table(report),
        front_png=base64.b64encode((out / "pareto.png").read_bytes()).decode(),
        pictures=pictures,
    )
    write_text(out / "report.html", page)
    return report


def _template() -> Template:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("`panokit compress report`", "export") from None
    environment = Environment(
        loader=PackageLoader("panokit_lab", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


@dataclass(frozen=True)
class Table:
    """A table as text: headings, and rows of as many cells."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """For a pull request or a document."""
        lines = [self.headings, ("---",) * len(self.headings), *self.rows]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def artifact_table(report: Report) -> Table:
    """Every artifact with its size, work, memory, latency, quality."""
    return Table(
        tuple(heading for heading, _ in COLUMNS),
        tuple(tuple(cell(row) for _, cell in COLUMNS) for row in report.rows),
    )


def latency_table(report: Report) -> Table:
    """All that was timed, absolute and per megapixel of input."""
    headings = ["file", "input, megapixels"]
    for threads in THREADS:
        on = f"{threads} thread{'s' * (threads > 1)}"
        headings += [f"ms, {on}", f"ms/megapixel, {on}"]
    rows = []
    for name, by_threads in report.latencies.items():
        cells = [name, _number(by_threads[1].megapixels, 3)]
        for threads in THREADS:
            found = by_threads[threads]
            cells += [_number(found.median_ms, 1), _number(found.ms_per_megapixel, 1)]
        rows.append(tuple(cells))
    return Table(tuple(headings), tuple(rows))


def markdown(report: Report) -> str:
    """The tables alone, as Markdown."""
    tables = [artifact_table(report)]
    if report.beside:
        tables.append(latency_table(report))
    text = [table.markdown() for table in tables]
    if report.remarks:
        text.append("".join(f"- {remark}\n" for remark in report.remarks))
    return "\n".join(text)


def _number(value: float | None, digits: int = 1, scale: float = 1.0, sign: bool = False) -> str:
    """A figure as text, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value * scale:{'+' if sign else ''}.{digits}f}"


def _latency(row: ComparedArtifact, threads: int) -> tuple[str, str]:
    """Median and ratio."""
    found = row.figures.latency.get(threads)
    if found is None:
        return _number(None), _number(None)
    return _number(found.median_ms, 2), _number(found.ratio, 2)


def _sqnr(row: ComparedArtifact, head: str) -> str:
    return _number((row.figures.sqnr_db or {}).get(head))


def _quality(
    row: ComparedArtifact, pick: Callable[[QualityFigures], float | None], digits: int
) -> str:
    quality = row.figures.quality
    return _number(pick(quality) if quality else None, digits)


COLUMNS: tuple[tuple[str, Callable[[ComparedArtifact], str]], ...] = (
    ("recipe", lambda row: row.recipe),
    ("format", lambda row: row.format),
    ("runtime", lambda row: row.figures.runtime),
    ("MB", lambda row: _number(row.figures.bytes, 2, 1e-6)),
    ("MMACs", lambda row: _number(row.macs, 0, 1e-6)),
    ("arena MB", lambda row: _number(row.figures.arena_bytes, 2, 1e-6)),
    ("ms, 1 thread", lambda row: _latency(row, 1)[0]),
    ("ratio", lambda row: _latency(row, 1)[1]),
    ("ms, 2 threads", lambda row: _latency(row, 2)[0]),
    ("ratio", lambda row: _latency(row, 2)[1]),
    ("SQNR dB: semantic", lambda row: _sqnr(row, "semantic")),
    ("center", lambda row: _sqnr(row, "center")),
    ("offset", lambda row: _sqnr(row, "offset")),
    ("PQ", lambda row: _quality(row, lambda q: q.pq, 2)),
    ("change", lambda row: _number(row.pq_change, 2, sign=True)),
    ("person IoU", lambda row: _quality(row, lambda q: q.person_iou, 3)),
    ("boundary IoU", lambda row: _quality(row, lambda q: q.person_boundary_iou, 3)),
    ("photos", lambda row: row.figures.quality.split if row.figures.quality else "–"),
)
