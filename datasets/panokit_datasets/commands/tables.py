"""Tables that the commands of this package share."""

from __future__ import annotations

from collections.abc import Mapping

from panokit.cli.console import Grid
from panokit_datasets.quality import ClassQuality

__all__ = ["class_table", "figure"]


def figure(value: float | None, digits: int = 1) -> str:
    """A figure, or a dash where there is nothing to judge."""
    return "-" if value is None else f"{value:.{digits}f}"


def class_table(classes: Mapping[str, ClassQuality], title: str) -> Grid:
    """Panoptic quality of each class, and how many segments were matched, invented and missed."""
    figures = ("PQ", "SQ", "RQ", "TP", "FP", "FN")
    table = Grid(("class", *figures), title=title, right=figures)
    for name, c in classes.items():
        counts = map(str, (c.tp, c.fp, c.fn))
        table.add(name, figure(c.pq), figure(c.sq), figure(c.rq), *counts)
    return table
