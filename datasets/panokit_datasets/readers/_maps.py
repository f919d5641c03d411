"""Labels that lie as a map of class numbers and one of instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit_datasets.reader import Reader, Truth, segments_of_maps

__all__ = ["truth_of_labels"]


def truth_of_labels(
    reader: Reader,
    path: Path,
    labels: NDArray[np.integer],
    instances: NDArray[np.integer] | None,
    *,
    key: str = "source_id",
    crowds: bool = True,
    stable: bool = False,
) -> Truth:
    """The labels of a photo from the numbers that its files hold; ``key`` says which numbers of the
    class list those are. Numbers of no class are told, and void. ``stable``: segment ids stay the
    same from frame to frame."""
    size = int(labels.max(initial=0)) + 1
    table = reader.classes.table(key, max(size, 256))
    channels = table[labels]
    unknown = np.unique(labels[channels == -2])
    if unknown.size:
        few = ", ".join(map(str, unknown[:5].tolist()))
        reader.tell("unknown category", path, f"it holds {few}, which no class has")
        channels = np.maximum(channels, -1)
    void = None
    if key == "source_id" and reader.classes.void:
        void = reader.classes.void_table(max(size, 256))[labels]
    return segments_of_maps(
        channels, instances, reader.taxonomy, void, crowds=crowds, stable=stable
    )
