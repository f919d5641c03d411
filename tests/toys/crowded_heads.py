"""Heads drawn by hand in which every mistake of the decoding shows: objects of all sizes, sure and
unsure ones, near the threshold, close together, of a class that hardly wins, and a small patch of
stuff."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact
from panokit.taxonomy import Taxonomy

FloatArray = NDArray[np.float32]

# Centre (row, column) in head cells, radius, score of the centre, and how far the class leads.
OBJECTS = (
    (12, 12, 7, 0.95, 6.0),
    (12, 34, 6, 0.90, 6.0),
    (12, 54, 5, 0.80, 6.0),
    (14, 70, 4, 0.61, 6.0),  # between 0.6 and where a missing sigmoid puts the threshold, 0.62
    (34, 10, 5, 0.66, 6.0),
    (34, 28, 6, 0.56, 6.0),
    (34, 48, 5, 0.44, 6.0),  # below the threshold
    (34, 66, 5, 0.12, 6.0),
    (54, 14, 7, 0.85, 0.7),  # its class has half of the probability: a low score
    (54, 38, 3, 0.93, 6.0),
    (54, 44, 3, 0.88, 6.0),  # six cells from the one before
    (56, 62, 6, 0.75, 6.0),
    (56, 65, 3, 0.70, 6.0),  # three cells from the one before: within its window
    (74, 60, 1, 0.97, 6.0),  # a few pixels
)


def crowded_heads(taxonomy: Taxonomy, artifact: Artifact) -> dict[str, FloatArray]:
    """Real values ``[h,w,C]`` by name, such as the artifact's heads can hold."""
    h, w = artifact.outputs["semantic"].shape[1:3]
    stride = artifact.input.shape[1] / h
    y, x = np.mgrid[:h, :w].astype(np.float32)
    things, stuff = np.flatnonzero(taxonomy.thing_mask), np.flatnonzero(~taxonomy.thing_mask)
    semantic = np.zeros((h, w, len(taxonomy)), np.float32)
    semantic[..., stuff[0]] = 5
    semantic[70:, 76:, stuff[0]], semantic[70:, 76:, stuff[1]] = 0, 5  # a small patch
    center = np.full((h, w), -4, np.float32) + 0.02 * np.sin(y * 0.7) * np.cos(x * 0.9)
    offset = np.zeros((h, w, 2), np.float32)
    for number, (row, column, radius, score, lead) in enumerate(OBJECTS):
        dy, dx = y - row, x - column
        # Longer than wide, so that swapped axes show.
        inside = (dy / (1.3 * radius)) ** 2 + (dx / radius) ** 2 <= 1
        semantic[inside] = 0
        semantic[inside, things[number % len(things)]] = lead
        if lead < 1:
            semantic[inside, things[(number + 3) % len(things)]] = lead / 2
        logit = np.log(score / (1 - score))
        bump = (logit + 4) * np.exp(-(dy**2 + dx**2) / 4) - 4
        center = np.maximum(center, bump)
        offset[inside] = np.stack([-dy[inside], -dx[inside]], -1) * stride
    heads = {"semantic": semantic, "center": center[..., None], "offset": offset}
    return {n: _held(v, artifact, n) for n, v in heads.items()}


def _held(values: FloatArray, artifact: Artifact, name: str) -> FloatArray:
    spec = artifact.outputs[name]
    if spec.scale is None:
        return values.astype(np.float32)
    info = np.iinfo(spec.dtype)
    q = np.clip(np.round(values / spec.scale) + (spec.zero_point or 0), info.min, info.max)
    return ((q - (spec.zero_point or 0)) * np.float32(spec.scale)).astype(np.float32)
