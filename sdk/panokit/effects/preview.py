"""Smaller photos with their results, for edits that answer while a finger moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult

__all__ = ["shrink"]


def shrink(photo: Photo, result: PanopticResult, pixels: int) -> tuple[Photo, PanopticResult]:
    """The photo, 8-bit sRGB, of at most about ``pixels`` pixels, and its result at that size.

    Segment ids stay; areas and boxes are those of the small photo. A photo that is small enough
    comes back as it is; a segment of which no pixel is left goes.
    """
    from PIL import Image

    if pixels < 1:
        raise ArgumentError("pixels", f"pixels is {pixels!r}; expected at least 1")
    w, h = photo.size_wh
    scale = (pixels / (w * h)) ** 0.5
    if scale >= 1:
        return photo, result
    size = max(1, round(w * scale)), max(1, round(h * scale))
    image = Image.fromarray(photo.rgb_hwc).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    small = Photo.from_array(np.asarray(image), photo.name)
    rows = np.minimum((np.arange(size[1]) + 0.5) * h / size[1], h - 1).astype(np.intp)
    cols = np.minimum((np.arange(size[0]) + 0.5) * w / size[0], w - 1).astype(np.intp)
    id_map = np.ascontiguousarray(result.id_map[rows[:, None], cols])
    areas = np.bincount(id_map.ravel())
    fx, fy = size[0] / w, size[1] / h
    segments = []
    for s in result:
        if s.id < len(areas) and areas[s.id]:
            x0, y0, x1, y1 = s.box_xyxy
            box = (int(x0 * fx), int(y0 * fy), -int(-x1 * fx // 1), -int(-y1 * fy // 1))
            center = None if s.center_xy is None else (s.center_xy[0] * fx, s.center_xy[1] * fy)
            segments.append(replace(s, area=int(areas[s.id]), box_xyxy=box, center_xy=center))
    transform = letterbox(size, result.transform.input_wh)
    return small, replace(
        result, photo=small, id_map=id_map, segments=tuple(segments), transform=transform
    )
