"""COCO's panoptic format: a PNG of ids, and JSON (https://cocodataset.org/#format-results)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import write_json, write_picture
from panokit.errors import ArgumentError
from panokit.result import PanopticResult, Segment
from panokit.taxonomy import Taxonomy

__all__ = ["ids_to_rgb", "panoptic_annotation", "save", "write_annotation"]


def ids_to_rgb(ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Ids ``[H,W]`` to the COCO panoptic PNG's pixels, uint8 ``[H,W,3]``: R + 256·G + 65536·B."""
    if ids.size and (ids.min() < 0 or ids.max() >= 2**24):
        raise ArgumentError(
            "ids", f"ids go from {int(ids.min())} to {int(ids.max())}; expected 0 to 2^24 - 1"
        )
    rgb = np.empty((*ids.shape, 3), np.uint8)
    for channel in range(3):  # one by one: a large map is in memory only twice
        rgb[..., channel] = ids >> (8 * channel) & 255
    return rgb


def panoptic_annotation(
    result: Iterable[Segment], image_id: int | str, file_name: str
) -> dict[str, Any]:
    """The COCO panoptic annotation of a result, or of its segments; ``file_name`` is that of its
    PNG."""
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
    """Write ``NAME.ids.png`` and ``NAME.json`` (annotation and categories) as COCO does."""
    from PIL import Image

    folder = Path(folder)
    png, annotation = folder / f"{name}.ids.png", folder / f"{name}.json"
    write_picture(png, Image.fromarray(ids_to_rgb(result.id_map)), "PNG")
    write_annotation(annotation, result, result.taxonomy, name, png.name)
    return png, annotation


def write_annotation(
    path: Path, segments: Iterable[Segment], taxonomy: Taxonomy, name: str, file_name: str
) -> None:
    """Write the JSON of one photo: its annotation, and the categories."""
    data = {
        "annotations": [panoptic_annotation(segments, name, file_name)],
        "categories": [c.to_json() for c in taxonomy],
    }
    write_json(path, data, indent=None)
