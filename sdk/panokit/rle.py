"""Masks as run lengths, as the COCO API has them: column by column, beginning with zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError

__all__ = ["rle_decode", "rle_encode", "rle_string"]


def rle_encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Uncompressed COCO RLE of a mask ``[H,W]``: ``size`` and the ``counts`` of zeros, ones, …"""
    if mask.ndim != 2:
        raise ArgumentError("mask", f"mask has the shape {mask.shape}; expected [H,W]")
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(bounds).tolist() if flat.size else []
    if flat.size and flat[0]:
        counts.insert(0, 0)
    return {"size": list(mask.shape), "counts": counts}


def rle_string(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Compressed COCO RLE of a mask: as :func:`rle_encode` with ``counts`` as ASCII text."""
    encoded = rle_encode(mask)
    counts = encoded["counts"]
    chars: list[str] = []
    for i, count in enumerate(counts):
        # From the fourth run on, COCO writes the difference to the run two before.
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            low = value & 0x1F
            value >>= 5
            more = value != -1 if low & 0x10 else value != 0
            chars.append(chr((low | 0x20 if more else low) + 48))
    return {"size": encoded["size"], "counts": "".join(chars)}


def rle_decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask ``[H,W]`` of an uncompressed RLE."""
    h, w = (int(v) for v in rle["size"])
    counts = np.asarray(rle["counts"], np.int64)
    if h < 0 or w < 0 or h * w > 2**31 or (counts < 0).any() or counts.sum() != h * w:
        raise ArgumentError(
            "rle",
            f"the counts sum to {int(counts.sum())}; "
            f"expected counts of at least 0 that sum to {h}·{w}",
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((w, h)).T
