"""Comparing what two runs of one network were decoded to, whatever the contract.

A map is an unsteady function of heads: where two answers are equally good, the last bit decides.
:func:`unsteady_pixels` finds where that is so by trying: heads are moved by as much as their number
format cannot tell, and what the map makes of it shows which pixels hang on so little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from panokit.decoding.instances import InstancesConfig
from panokit.decoding.panoptic_map import PanopticMap
from panokit.decoding.settings import DecodingSettings
from panokit.errors import HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

__all__ = [
    "aligned_rows",
    "channel_signs",
    "content_pixels",
    "matched_ids",
    "matched_pixels",
    "unsteady_pixels",
]

FloatArray = NDArray[np.float32]

DRAWS = 12
"""How often rows (of queries, anchors) are moved, each time to other sides."""

_PICTURES = frozenset({"semantic", "center", "offset", "masks", "prototypes"})


def matched_pixels(reference: PanopticMap, candidate: PanopticMap) -> NDArray[np.bool_]:
    """Pixels of segments that match (one class, IoU above one half), and those void in both; of two
    maps on one grid, bool ``[H,W]``."""
    channels = ([s.channel for s in decoded.segments] for decoded in (reference, candidate))
    return matched_ids(reference.ids, candidate.ids, *channels)


def matched_ids(
    a: NDArray[np.integer],
    b: NDArray[np.integer],
    channels_a: Sequence[int] | None,
    channels_b: Sequence[int],
) -> NDArray[np.bool_]:
    """As :func:`matched_pixels`, of ids ``[H,W]`` that count from 1 without a gap (0 = void), and
    the channel of each; None if those of ``a`` are not known."""
    n_a, n_b = int(a.max(initial=0)) + 1, len(channels_b) + 1
    pairs = a.astype(np.int64) * n_b + b
    joint = np.bincount(pairs.ravel(), minlength=n_a * n_b).reshape(n_a, n_b)
    union = joint.sum(1)[:, None] + joint.sum(0)[None, :] - joint
    match = 2 * joint > union
    if channels_a is not None:
        match[1:, 1:] &= np.array(channels_a[: n_a - 1])[:, None] == np.array(channels_b)[None, :]
    match[0], match[:, 0] = False, False
    match[0, 0] = True
    return np.asarray(match.ravel()[pairs])


def content_pixels(decoded: PanopticMap, transform: TransformRecord) -> NDArray[np.bool_]:
    """Pixels of a map that lie on the photo, bool ``[H,W]``."""
    (rows, cols), (width, height) = decoded.ids.shape, transform.input_wh
    if decoded.on_photo:
        return np.ones((rows, cols), bool)
    y = (np.arange(rows) + 0.5) * height / rows - transform.top
    x = (np.arange(cols) + 0.5) * width / cols - transform.left
    content_w, content_h = transform.content_wh
    inside = (y >= 0) & (y < content_h)
    return np.asarray(inside[:, None] & ((x >= 0) & (x < content_w)))


def channel_signs(channels: int) -> FloatArray:
    """Ways to move channels up (1) and down (-1), float32 ``[n,channels]``: all up, all down, and
    so few that of any two channels either is up while the other is down in one of them."""
    index = np.arange(channels)
    bits = [np.where(index >> bit & 1, 1, -1) for bit in range((channels - 1).bit_length())]
    both = [np.ones(channels, int), *bits]
    return np.array([*both, *(-way for way in both)], np.float32)


def unsteady_pixels(
    settings: DecodingSettings,
    heads: Mapping[str, FloatArray],
    taxonomy: Taxonomy,
    transform: TransformRecord,
    steps: Mapping[str, float],
    draws: int = DRAWS,
) -> NDArray[np.bool_]:
    """Pixels of the map of ``heads`` (channels last) that become another segment's, or void, where
    every number of a head moves up or down by its step; bool ``[H,W]``.

    ``steps`` are in the heads' units; heads without one stay. Channels of pictures move so that
    each is up once while any other is down; which rows go up is drawn, the same in every run.
    """
    own = settings.decode(settings.read_heads(heads), taxonomy, transform)
    unsteady = np.zeros(own.ids.shape, bool)
    random = np.random.default_rng(0)
    signs = {n: channel_signs(v.shape[-1]) for n, v in heads.items() if n in _PICTURES}
    for draw in range(max([draws, *map(len, signs.values())])):
        moved = {}
        for name, values in heads.items():
            if name in signs:
                way = signs[name][draw % len(signs[name])]
            else:
                way = random.choice(np.array([-1, 1], np.float32), values.shape)
            moved[name] = np.asarray(values + np.float32(steps.get(name, 0.0)) * way, np.float32)
        try:
            other = settings.decode(settings.read_heads(moved), taxonomy, transform)
        except HeadError:  # a step over the end of what is allowed
            continue
        unsteady |= ~matched_pixels(own, other)
    return unsteady


def aligned_rows(
    name: str, values: FloatArray, other: FloatArray, settings: DecodingSettings
) -> tuple[FloatArray, FloatArray]:
    """Two runs' head ``name`` in one order.

    Only finished detections have none of their own: a network that sorts swaps those with nearly
    equal scores between runtimes, and what lies under the threshold has no order at all. A row that
    the other side lacks is compared with zeros. Other heads come back as they are.
    """
    part = getattr(settings, "instances", settings)
    if name != "detections" or not isinstance(part, InstancesConfig) or part.tensors != "rows":
        return values, other
    least = 0.5 * part.threshold
    a, b = values[values[:, 4] >= least], other[other[:, 4] >= least]
    rows: list[tuple[FloatArray, FloatArray]] = []
    free = list(range(len(b)))
    empty = np.zeros(values.shape[1], np.float32)
    for row in a:
        near = [(float(np.abs(row[:5] - b[k][:5]).sum()), k) for k in free if row[5] == b[k][5]]
        found = min(near, default=None)
        if found is None:
            rows.append((row, empty))
        else:
            free.remove(found[1])
            rows.append((row, b[found[1]]))
    rows += [(empty, b[k]) for k in free]
    # A missing row near the threshold is a near-tie of scores, not a difference.
    rows = [r for r in rows if max(r[0][4], r[1][4]) >= part.threshold or (r[0][4] and r[1][4])]
    if not rows:
        return values[:0], other[:0]
    return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])
