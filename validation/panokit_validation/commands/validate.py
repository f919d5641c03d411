"""`panokit validate`: do device dumps agree with the reference, and if not, where and why?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from panokit.bundle import MANIFEST, Bundle, hash_path
from panokit.cli.console import Grid, bars, note, say, show
from panokit.cli.options import (
    DO,
    INPUT,
    OUTPUT,
    ArtifactOption,
    BundleOption,
    JsonOption,
    output_file,
)
from panokit.errors import ArgumentError, UsageError
from panokit_validation import Verdict
from panokit_validation.commands.latency import show_speed
from panokit_validation.history import Change, History, RunRecorder
from panokit_validation.output import JsonWriter, JunitWriter, OutcomeWriter, github_annotation
from panokit_validation.report import require_report, write_report
from panokit_validation.run import validate_dumps
from panokit_validation.summary import RunSummary
from panokit_validation.thresholds import thresholds_for
from panokit_validation.verdict import floor_percent
from panokit_validation.watch import watch_dumps
from panokit_validation.worker import Outcome, RunConfig

__all__ = ["validate"]

SENTENCES = 8
"""Different verdicts that are told in words."""
SHOWN = 40
"""Photos in the table of the terminal; the worst come first."""

_COLORS = {Verdict.PASS: "green", Verdict.ROUNDING: "cyan", Verdict.FAIL: "red"}


Dumps = Annotated[
    list[str],
    typer.Argument(help="Dumps: files, folders, .zip archives, or URLs such as s3://…"),
]
PhotosOption = Annotated[
    Path | None,
    typer.Option(
        "--photos",
        help="Folder of the photos, found by name: for dumps that hold none, and to see whether "
        "those of the others are the files upright.",
        rich_help_panel=INPUT,
    ),
]
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        help="NAME=VALUE instead of the bundle's. Repeatable.",
        rich_help_panel=DO,
    ),
]
Diagnose = Annotated[
    bool,
    typer.Option(
        "--diagnose/--no-diagnose", help="Look for the cause of failures.", rich_help_panel=DO
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Processes at once.", rich_help_panel=DO)]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", help="Run on a Ray cluster: its address, or local.", rich_help_panel=DO),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="File of what is finished. A stopped run goes on from it.",
        callback=output_file,
        rich_help_panel=DO,
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Write one self-contained HTML page.",
        callback=output_file,
        rich_help_panel=OUTPUT,
    ),
]
JunitOption = Annotated[
    Path | None,
    typer.Option(
        "--junit", help="Write JUnit XML for CI.", callback=output_file, rich_help_panel=OUTPUT
    ),
]
HistoryOption = Annotated[
    str | None,
    typer.Option(
        "--history",
        help="Database of runs: an SQLite file, or postgresql://…",
        rich_help_panel=OUTPUT,
    ),
]
BuildOption = Annotated[
    str,
    typer.Option(
        "--build", help="Name of the app's build, for the history.", rich_help_panel=OUTPUT
    ),
]


AnnotationsOption = Annotated[
    bool,
    typer.Option(
        "--github", help="Print GitHub Actions annotations of what fails.", rich_help_panel=OUTPUT
    ),
]
WatchOption = Annotated[
    bool,
    typer.Option(
        "--watch",
        help="Go on: judge each dump that comes or changes, until Ctrl-C.",
        rich_help_panel=DO,
    ),
]


def validate(
    dumps: Dumps,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    photos: PhotosOption = None,
    threshold: ThresholdOption = None,
    diagnose: Diagnose = True,
    jobs: Jobs = 1,
    ray: RayOption = None,
    state: StateOption = None,
    report: ReportOption = None,
    junit: JunitOption = None,
    history: HistoryOption = None,
    build: BuildOption = "",
    github: AnnotationsOption = False,
    watch: WatchOption = False,
    json: JsonOption = None,
) -> None:
    """Tell whether device dumps agree with the reference, and if not, where and why they differ.

    Example: panokit validate dumps/ --bundle my.panokit --report page.html

    Exit code 0: all agree. 1: one fails. 2: a dump was refused, or wrong use.
    """
    config = RunConfig(
        bundle=None if bundle is None else str(bundle),
        artifact=artifact,
        photos=None if photos is None else str(photos),
        thresholds=_thresholds(threshold or []),
        diagnose=diagnose,
    )
    if report:
        require_report()
    if watch:
        _refuse_beside_watch({"--report": report, "--junit": junit, "--json": json,
                              "--history": history, "--state": state, "--ray": ray})  # fmt: skip
        _watch(dumps, config)
    opened = Bundle.open(bundle)
    options = {**config.to_json(), **_stated(opened, artifact, config)}
    summary = RunSummary()
    outcomes = _progress(validate_dumps(dumps, config, jobs=jobs, state=state, ray=ray), summary)
    with ExitStack() as stack:
        writers = _writers(stack, json, junit)
        record = _Record(opened, build, options)
        if history:
            record.history = stack.enter_context(History(history))
        for outcome in outcomes:
            _take(outcome, summary, record, writers, github)
        _require_some(summary, dumps)
        changes = record.finish(summary)
        speed = record.history.latencies(opened.manifest.name) if record.history else []
        extra: dict[str, Any] = {"options": options}
        if history:
            extra["changes"] = [c.to_json() for c in changes]
            extra["speed"] = [row.to_json() for row in speed]
        for writer in writers:
            writer.finish(summary, extra)
    if report:
        write_report(report, summary, config, dumps, options, changes)
    _print(summary, changes if history else None)
    show_speed(speed)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _writers(stack: ExitStack, json: Path | None, junit: Path | None) -> list[OutcomeWriter]:
    """The files that outcomes go into as they come."""
    writers: list[OutcomeWriter] = []
    if json:
        writers.append(stack.enter_context(JsonWriter(json)))
    if junit:
        writers.append(stack.enter_context(JunitWriter(junit)))
    return writers


def _refuse_beside_watch(given: dict[str, object]) -> None:
    """``UsageError`` if an option is given that needs an end."""
    if taken := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"--watch has no end, so {' and '.join(taken)} cannot go with it.")


def _take(
    outcome: Outcome,
    summary: RunSummary,
    record: _Record,
    writers: list[OutcomeWriter],
    github: bool,
) -> None:
    """Count an outcome and write it wherever it is wanted."""
    summary.add(outcome)
    record.add(outcome)
    for writer in writers:
        writer.add(outcome)
    line = github_annotation(outcome) if github else None
    if line is not None:
        say(line)


def _watch(dumps: list[str], config: RunConfig) -> None:
    """Judge dumps as they come; Ctrl-C ends it with the exit code of all."""
    summary = RunSummary()
    say("watching for dumps; Ctrl-C ends it", style="dim")
    try:
        for outcome in watch_dumps(dumps, config):
            summary.add(outcome)
            if outcome.photo is None:
                say(f"{outcome.dump}: {outcome.reason}", label="refused", style="red")
            else:
                row = summary.rows[-1]
                text = f"{outcome.dump}: {row.sentence}"
                say(text, label=row.verdict.value, style=_COLORS[row.verdict])
    except KeyboardInterrupt:
        _print(summary, None)
    raise typer.Exit(summary.exit_code)


def _require_some(summary: RunSummary, dumps: list[str]) -> None:
    if not summary.rows and not summary.refusals:
        where = ", ".join(dumps)
        sentence = f"there are no dumps in {where}; expected files or folders that hold dumps"
        raise ArgumentError("dumps", sentence)


class _Record:
    """The run in the history, if there is one: begun when a first result is there."""

    def __init__(self, bundle: Bundle, build: str, options: dict[str, Any]) -> None:
        self._bundle, self._build, self._options = bundle, build, options
        self.history: History | None = None
        self._recorder: RunRecorder | None = None

    def add(self, outcome: Outcome) -> None:
        """Record an outcome."""
        if self.history is None:
            return
        if self._recorder is None:
            manifest = hash_path(self._bundle.root / MANIFEST)
            name = self._bundle.manifest.name
            self._recorder = self.history.start(name, manifest, self._build, self._options)
        self._recorder.add(outcome)

    def finish(self, summary: RunSummary) -> list[Change]:
        """Close the record; what changed since the run before."""
        if self.history is None or self._recorder is None:
            return []
        self._recorder.finish(summary)
        return self.history.changes(self._recorder.run)


def _thresholds(given: list[str]) -> dict[str, float]:
    out = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            out[name.strip()] = float(value)
        except ValueError:
            raise ArgumentError(
                "--threshold", f"--threshold is {text!r}; expected NAME=VALUE with a number"
            ) from None
    return out


def _stated(bundle: Bundle, artifact: str | None, config: RunConfig) -> dict[str, Any]:
    """The limits in force, for the record."""
    chosen = bundle.manifest.artifact(artifact)
    limits, sources = thresholds_for(bundle.manifest, chosen, config.thresholds)
    return {
        "thresholds": limits.to_json(),
        "threshold_sources": sources,
        "thresholds_of": chosen.name,
        "bundle_name": bundle.manifest.name,
        "artifacts": {a.name: a.sha256 for a in bundle.manifest.artifacts},
    }


def _progress(outcomes: Iterator[Outcome], summary: RunSummary) -> Iterator[Outcome]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=bars(), transient=True) as progress:
        task = progress.add_task("validating")
        for outcome in outcomes:
            yield outcome
            done = len(summary.rows) + summary.refusals
            failed = summary.counts["fail"] if done % 50 == 0 else None
            text = f"validated {done}" + (f", {failed} fail" if failed else "")
            progress.update(task, description=text)


def _print(summary: RunSummary, changes: list[Change] | None) -> None:
    rows = sorted(summary.rows, key=lambda r: list(Verdict)[::-1].index(r.verdict))
    table = Grid(
        ("dump", "verdict", "first bad stage", "cause", "why"), wraps=("first bad stage", "why")
    )
    for r in rows[:SHOWN]:
        why = r.message or _agreeing(r.sqnr_db, r.equal_pixels)
        verdict = (r.verdict.value, _COLORS[r.verdict])
        table.add(r.dump, verdict, r.first_bad_stage or "-", r.cause or "-", why)
    if rows:
        show(table)
    if len(rows) > SHOWN:
        say(f"… and {len(rows) - SHOWN} more, none worse")
    failed = Counter(r.sentence for r in rows if r.verdict is Verdict.FAIL)
    for sentence, count in failed.most_common(SENTENCES):
        say(sentence, label="1 dump:" if count == 1 else f"{count} dumps:", style="red")
    for finding in summary.votes[:SENTENCES]:
        say(finding, label="all together:", style="bold")
    for finding in summary.unit_findings[:SENTENCES]:
        say(finding, label="compute units:", style="bold")
    for text, count in summary.warnings.most_common(5):
        say(text, label=f"note ({count} ×):", style="yellow")
    for dump, reason in summary.refused[:SHOWN]:
        note(f"{dump}: {reason}", label="refused", style="red")
    if changes is not None:
        _print_changes(changes)
    counts = ", ".join(f"{n} {name}" for name, n in summary.counts.items() if n)
    say(f"{summary.verdict.value}: {counts}")


def _print_changes(changes: list[Change]) -> None:
    if not changes:
        say("history: nothing changed since the run before (or there is none)")
        return
    table = Grid(("change", "photo", "device", "before", "now"), title="since the run before",
                 wraps=("before", "now"))  # fmt: skip
    for c in changes[:SHOWN]:
        table.add(c.kind, c.photo, c.group, c.before, c.after)
    show(table)
    if len(changes) > SHOWN:
        say(f"… and {len(changes) - SHOWN} more changes")


def _agreeing(sqnr_db: float | None, equal_pixels: float | None) -> str:
    parts = []
    if sqnr_db is not None:
        parts.append("heads equal" if sqnr_db >= 200 else f"heads at {sqnr_db:.1f} dB")
    if equal_pixels is not None:
        parts.append(f"{floor_percent(equal_pixels)} of the pixels agree")
    return ", ".join(parts) or "agrees"
