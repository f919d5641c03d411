"""Plots of the compression report, by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panokit._files import replacing
from panokit.errors import MissingExtraError

__all__ = ["plot_front", "plot_layers"]

INK, FRONT, REST = "#222222", "#0b6e4f", "#9aa5b1"


def plot_front(results: dict[str, dict[str, Any]], front: Sequence[str], path: Path) -> None:
    """Three panels: PQ against size, multiply-accumulates and latency; the front is green.

    Recipes without PQ or latency are left out of the panels that need them.
    """
    from panokit_compression.search import objectives

    points = {name: objectives(figures) for name, figures in results.items()}
    axes_of = (("bytes", "size, MB", 1e-6), ("macs", "million multiply-accumulates", 1e-6),
               ("ms", "ms per inference, 1 thread", 1.0))  # fmt: skip
    figure = _figure((15, 5.2))
    for number, (key, label, scale) in enumerate(axes_of, 1):
        axes = figure.add_subplot(1, 3, number)
        shown = {n: p for n, p in points.items() if key in p and "pq" in p}
        for name, point in shown.items():
            color = FRONT if name in front else REST
            x, y = point[key] * scale, -point["pq"]
            axes.scatter([x], [y], color=color, s=34, zorder=3)
            axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7,
                          color=color)  # fmt: skip
        line = _steps([(p[key] * scale, -p["pq"]) for p in shown.values()])
        axes.plot(*zip(*line, strict=True), color=FRONT, lw=1, alpha=0.5) if line else None
        axes.set_xlabel(label)
        axes.set_ylabel("PQ" if number == 1 else "")
        axes.set_xscale("log")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Green: no other recipe is as good or better in size, MACs, latency and PQ",
                    fontsize=10, color=INK)  # fmt: skip
    figure.tight_layout()
    _save(figure, path)


def _steps(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that have the highest PQ up to their x, from left to right."""
    line: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not line or y > line[-1][1]:
            line.append((x, y))
    return line


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
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
