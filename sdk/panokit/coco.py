"""COCO's panoptic format: a PNG of ids, and JSON (https://cocodataset.org/#format-results)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import write_json, write_picture
from panokit.errors import ArgumentError
from panokit.result import PanopticResult

__all__ = ["ids_to_rgb", "panoptic_annotation", "save"]


def ids_to_rgb(ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Ids ``[H,W]`` to the COCO panoptic PNG's pixels, uint8 ``[H,W,3]``: R + 256·G + 65536·B."""
    if ids.size and (ids.min() < 0 or ids.max() >= 2**24):
        raise ArgumentError(
            "ids", f"ids go from {int(ids.min())} to {int(ids.max())}; expected 0 to 2^24 - 1"
        )
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


def save(result: PanopticResult, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write ``NAME.png`` (ids) and ``NAME.json`` (annotation and categories) as COCO does."""
    from PIL import Image

    folder = Path(folder)
    png, annotation = folder / f"{name}.png", folder / f"{name}.json"
    data = {
        "annotations": [panoptic_annotation(result, name, png.name)],
        "categories": [c.to_json() for c in result.taxonomy],
    }
    write_picture(png, Image.fromarray(ids_to_rgb(result.id_map)), "PNG")
    write_json(annotation, data, indent=None)
    return png, annotation
