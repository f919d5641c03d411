"""The confusion table as Markdown between two marks of a document, as a picture, and as figures."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

from panokit._files import write_bytes, write_text
from panokit.errors import ArgumentError, MissingExtraError
from panokit_validation.confusion import CLEAN, VIEWS, Case, Confusion
from panokit_validation.diagnosis import UNKNOWN
from panokit_validation.faults import FAULTS

__all__ = ["BEGIN", "END", "markdown", "picture", "summary", "write_into"]

BEGIN = "<!-- confusion table: begin (written by scripts/diagnosis_table.py) -->"
END = "<!-- confusion table: end -->"
BANK_BEGIN, BANK_END = "<!-- bank: begin -->", "<!-- bank: end -->"
_VIEW_TITLES = {
    "all": "All stages in the dump",
    "heads": "Photo, heads and map (no input tensor)",
    "map": "Photo and map only",
}


def summary(confusion: Confusion) -> dict[str, Any]:
    """Figures by view: ``cases`` in which the fault acts, ``first`` and ``first_three`` as shares
    of them, ``tied`` (another fault, ranked first, gives exactly the same dump), and both shares
    without those; for clean devices ``quiet``, the share without an alarm."""
    out: dict[str, Any] = {}
    for view in VIEWS:
        cases = [c for c in confusion.injected(view) if c.acts]
        if cases:
            out[view] = {
                **_figures(cases),
                "artifacts": {
                    a: _figures([c for c in cases if c.artifact == a])
                    for a in sorted({c.artifact for c in cases})
                },
            }
    clean = confusion.clean()
    if clean:
        out["clean"] = {"dumps": len(clean), "alarms": sum(c.alarm for c in clean)}
        out["clean"]["quiet"] = 1 - out["clean"]["alarms"] / len(clean)
    return out


def _figures(cases: list[Case]) -> dict[str, Any]:
    apart = [c for c in cases if not c.tied]
    return {
        "cases": len(cases),
        "first": _share(cases, 1),
        "first_three": _share(cases, 3),
        "tied": len(cases) - len(apart),
        "first_without_ties": _share(apart, 1),
        "first_three_without_ties": _share(apart, 3),
    }


def _share(cases: list[Case], places: int) -> float:
    hits = sum(c.rank is not None and c.rank <= places for c in cases)
    return hits / len(cases) if cases else 0.0


def _percent(value: float) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{int(value * 1000 + 1e-9) / 10:.1f} %"


def markdown(confusion: Confusion, note: str = "") -> str:
    """The whole section, ``note`` before all."""
    figures = summary(confusion)
    lines = [
        "",
        *([note, ""] if note else []),
        "| dumps hold | cases | first | first three | tied | first without ties |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for view in (v for v in VIEWS if v in figures):
        f = figures[view]
        rows = [("", f), *((f", {a}", g) for a, g in f["artifacts"].items())]
        for label, g in rows:
            lines.append(
                f"| {_VIEW_TITLES[view]}{label} | {g['cases']} | {_percent(g['first'])} "
                f"| {_percent(g['first_three'])} | {g['tied']} "
                f"| {_percent(g['first_without_ties'])} |"
            )
    lines += ["", *_clean_lines(confusion), ""]
    for view in (v for v in VIEWS if v in figures):
        lines += [f"### {_VIEW_TITLES[view]}", "", *_table(confusion, view), ""]
    return "\n".join(lines)


def _clean_lines(confusion: Confusion) -> list[str]:
    lines = ["| clean devices | dumps | alarms | without alarm |", "|---|---|---|---|"]
    clean = confusion.clean()
    for artifact in sorted({c.artifact for c in clean}):
        for noise in dict.fromkeys(c.noise for c in clean):
            cases = [c for c in clean if (c.artifact, c.noise) == (artifact, noise)]
            alarms = sum(c.alarm for c in cases)
            quiet = _percent(1 - alarms / len(cases)) if cases else "-"
            lines.append(f"| {artifact}, {noise} | {len(cases)} | {alarms} | {quiet} |")
    alarms = sum(c.alarm for c in clean)
    if clean:
        lines.append(f"| all | {len(clean)} | {alarms} | {_percent(1 - alarms / len(clean))} |")
    return lines


def _table(confusion: Confusion, view: str) -> list[str]:
    lines = [
        "| injected | photos tried | acts on | first | first three | tied | named instead |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in FAULTS:
        tried = confusion.select(view, injected=name)
        if not tried:
            continue
        cases = [c for c in tried if c.acts]
        wrong = Counter(c.named[0] for c in cases if c.rank != 1)
        others = ", ".join(f"{n} × {k}" for k, n in wrong.most_common(3))
        first = sum(c.rank == 1 for c in cases)
        three = sum(c.rank is not None and c.rank <= 3 for c in cases)
        tied = sum(c.tied for c in cases)
        lines.append(
            f"| `{name}` | {len(tried)} | {len(cases)} | {first} | {three} | {tied} | {others} |"
        )
    return lines


def _with_bank(text: str) -> str:
    """The document with the bank listed between its own marks, if it has them."""
    if BANK_BEGIN not in text or BANK_END not in text:
        return text
    before, _, rest = text.partition(BANK_BEGIN)
    lines = ["| name | what | stage | variants | advice |", "|---|---|---|---|---|"]
    for f in FAULTS.values():
        only = {"any": "", "integer": " (quantised artifacts)", "float": " (float artifacts)"}
        labels = ", ".join(v.label for v in f.variants if v.label)
        title = f"{f.title}{only[f.precision]}"
        lines.append(f"| `{f.name}` | {title} | {f.step.stage} | {labels} | {f.advice} |")
    body = "\n".join(lines)
    return f"{before}{BANK_BEGIN}\n{body}\n{BANK_END}{rest.partition(BANK_END)[2]}"


def picture(confusion: Confusion, path: Path, view: str = "all") -> None:
    """A heat map: injected down, named first across, as shares of the cases that act (PNG)."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise MissingExtraError("The picture of the confusion table", "demo") from error
    names = [n for n in FAULTS if confusion.select(view, injected=n)]
    columns = [*names, UNKNOWN]
    shares = [[0.0] * len(columns) for _ in names]
    for row, name in enumerate(names):
        cases = [c for c in confusion.select(view, injected=name) if c.acts]
        for case in cases:
            first = case.named[0]
            if first in columns:
                shares[row][columns.index(first)] += 1 / len(cases)
    figure, axes = plt.subplots(figsize=(11, 10.5), layout="constrained")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("named first")
    axes.set_ylabel("injected")
    axes.set_xticks([i - 0.5 for i in range(1, len(columns))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(names))], minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    figure.colorbar(image, shrink=0.6, label="share of the cases in which the fault acts")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, metadata={"Software": None})
    write_bytes(path, drawn.getvalue())
    plt.close(figure)


def write_into(path: Path, confusion: Confusion, image: Path | None = None, note: str = "") -> None:
    """Put the section between the marks of a document, and the picture beside it; ``note`` says
    what a reader has to know of the run."""
    if not any(c.injected != CLEAN for c in confusion.cases):
        raise ArgumentError(
            "confusion", "the confusion has no cases with a fault; expected at least one"
        )
    text = path.read_text(encoding="utf-8") if path.is_file() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise ArgumentError("document", f"document {str(path)!r} lacks the lines {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    text = _with_bank(f"{before}{BEGIN}\n{markdown(confusion, note)}\n{END}{after}")
    write_text(path, text)
    if image is not None:
        picture(confusion, image)
