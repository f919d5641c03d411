"""Plots of the compression report, by matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from panokit._files import write_bytes
from panokit.errors import MissingExtraError
from panokit_lab.results import Objectives

__all__ = ["plot_front", "plot_layers"]

INK, FRONT, REST = "#222222", "#0b6e4f", "#9aa5b1"
SHOWN_FROM = 0.75  # of the best PQ; what is worse is listed, not drawn


def plot_front(points: Mapping[str, Objectives], front: Sequence[str], path: Path) -> None:
    """Three panels: PQ against size, multiply-accumulates and latency; the front is green.

    ``points`` are by recipe. Those without PQ or latency are left out of the panels that need
    them; those far below the best PQ are listed, not drawn. Named are the best at their size, work
    or time.
    """
    panels: tuple[tuple[str, Callable[[Objectives], float | None]], ...] = (
        ("size, MB", lambda p: p.bytes * 1e-6),
        ("million multiply-accumulates", lambda p: p.macs * 1e-6),
        ("ms per inference, 1 thread", lambda p: p.ms),
    )
    figure = _figure((15, 5.2))
    values = [p.pq for p in points.values() if p.pq is not None]
    floor = max(values) * SHOWN_FROM if values else 0.0
    for number, (label, cost) in enumerate(panels, 1):
        axes = figure.add_subplot(1, 3, number)
        shown: dict[str, tuple[float, float]] = {}
        for name, point in points.items():
            x, y = cost(point), point.pq
            if x is not None and y is not None:
                shown[name] = (x, y)
        _draw_points(axes, shown, front, floor)
        axes.set_xlabel(label)
        axes.set_ylabel("PQ" if number == 1 else "")
    figure.suptitle("Green: no other recipe is as good or better in size, MACs, latency and PQ",
                    fontsize=10, color=INK)  # fmt: skip
    figure.tight_layout()
    _save(figure, path)


def _draw_points(
    axes: Any, shown: dict[str, tuple[float, float]], front: Sequence[str], floor: float
) -> None:
    """Recipes at (cost, PQ); those below ``floor`` are listed in a corner."""
    best = _steps(shown)
    for name, (x, y) in shown.items():
        if y < floor:
            continue
        color = FRONT if name in front else REST
        axes.scatter([x], [y], color=color, s=34, zorder=3)
        if name in best:
            axes.annotate(name, (x, y), xytext=(-5, 5), textcoords="offset points",
                          ha="right", fontsize=7, color=color)  # fmt: skip
    if line := [shown[name] for name in best if shown[name][1] >= floor]:
        axes.plot(*zip(*line, strict=True), color=FRONT, lw=1, alpha=0.5)
    if below := [f"{n} {y:.1f}" for n, (_, y) in shown.items() if y < floor]:
        axes.set_ylim(bottom=floor)
        axes.text(0.02, 0.02, "below:\n" + "\n".join(below), transform=axes.transAxes,
                  fontsize=6, color=REST)  # fmt: skip
    _plain_log(axes, [x for x, y in shown.values() if y >= floor])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _steps(points: dict[str, tuple[float, float]]) -> list[str]:
    """Those with the highest PQ up to their x, from left to right; of those at the same x (to 3 %)
    the best."""
    line: list[str] = []
    for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
        if line and points[name][1] <= points[line[-1]][1]:
            continue
        if line and points[name][0] < 1.03 * points[line[-1]][0]:
            line.pop()
        line.append(name)
    return line


def _plain_log(axes: Any, xs: Sequence[float]) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5, and room for names on the left."""
    axes.set_xscale("log")
    if not xs:
        return
    low, high = min(xs) / 3.5, max(xs) * 1.2
    axes.set_xlim(low, high)
    ticks = [m * 10**e for e in range(-3, 7) for m in (1, 2, 5) if low <= m * 10**e <= high]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)


def plot_layers(names: Sequence[str], worst_db: Sequence[float], path: Path, title: str) -> None:
    """Horizontal bars: what quantizing one layer alone leaves of the worst head, in dB."""
    figure = _figure((9, 0.22 * len(names) + 1.2))
    axes = figure.add_subplot()
    rows = list(range(len(names)))
    axes.barh(rows, worst_db, color=FRONT, height=0.7)
    axes.set_yticks(rows, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("SQNR of the worst head, dB; lower costs more")
    axes.set_title(title, fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    _save(figure, path)


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("plots", "export") from None
    return Figure(figsize=size)


def _save(figure: Any, path: Path) -> None:
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format="png")
    write_bytes(path, drawn.getvalue())
