"""COCO formats: panoptic PNG + JSON, and run-length encoded masks.

Formats as described at https://cocodataset.org/#format-results (panoptic) and by the COCO API
(run lengths in column-major order, beginning with zeros).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import replacing
from panokit.errors import ArgumentError
from panokit.result import PanopticResult

__all__ = ["ids_to_rgb", "panoptic_annotation", "rle_decode", "rle_encode", "rle_string", "save"]


def ids_to_rgb(ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Ids ``[H,W]`` to the COCO panoptic PNG's pixels, uint8 ``[H,W,3]``: R + 256·G + 65536·B."""
    if ids.size and (ids.min() < 0 or ids.max() >= 2**24):
        raise ArgumentError("ids", "from 0 to 2^24 - 1", (int(ids.min()), int(ids.max())))
    return np.stack([ids & 255, (ids >> 8) & 255, ids >> 16], -1).astype(np.uint8)


def panoptic_annotation(
    result: PanopticResult, image_id: int | str, file_name: str
) -> dict[str, Any]:
    """The COCO panoptic annotation of a result; ``file_name`` is that of its PNG."""
    return {
        "image_id": image_id,
        "file_name": file_name,
        "segments_info": [
            {
                "id": s.id,
                "category_id": s.category.id,
                "area": s.area,
                "bbox": list(s.box_xywh),
                "iscrowd": 0,
                "score": round(s.score, 4),
            }
            for s in result
        ],
    }


def rle_encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Uncompressed COCO RLE of a mask ``[H,W]``: ``size`` and the ``counts`` of zeros, ones, …"""
    if mask.ndim != 2:
        raise ArgumentError("mask", "two-dimensional [H,W]", mask.shape)
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
        raise ArgumentError("rle", f"counts from 0 that sum to {h}·{w}", int(counts.sum()))
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((w, h)).T


def save(result: PanopticResult, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write ``NAME.png`` (ids) and ``NAME.json`` (annotation and categories) as COCO does."""
    from PIL import Image

    folder = Path(folder)
    png, annotation = folder / f"{name}.png", folder / f"{name}.json"
    data = {
        "annotations": [panoptic_annotation(result, name, png.name)],
        "categories": [c.to_json() for c in result.taxonomy],
    }
    with replacing(png) as partial:
        Image.fromarray(ids_to_rgb(result.id_map)).save(partial)
    with replacing(annotation) as partial:
        partial.write_text(json.dumps(data), encoding="utf-8")
    return png, annotation
