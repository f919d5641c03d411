"""Pictures of results: the photo with its segments in colour, outlined and named."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import VOID

if TYPE_CHECKING:
    from PIL import Image

    from panokit.result import PanopticResult, Segment

__all__ = ["instance_view", "overlay", "segment_colors", "semantic_view"]


def segment_colors(result: PanopticResult) -> dict[int, tuple[int, int, int]]:
    """An sRGB colour for every segment id: its category's, turned a little from instance to
    instance so that neighbours of one class can be told apart."""
    colors: dict[int, tuple[int, int, int]] = {}
    seen: dict[int, int] = {}
    for segment in result:
        nth = seen.get(segment.category.id, 0)
        seen[segment.category.id] = nth + 1
        h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in segment.category.color))
        if nth:
            h += 0.055 * ((nth + 1) // 2) * (1 if nth % 2 else -1)
            v = min(1.0, max(0.55, v * (0.8 if nth % 3 == 2 else 1.15)))
            s = max(s, 0.6)  # a grey has no hue to turn
        r, g, b = colorsys.hsv_to_rgb(h % 1.0, s, v)
        colors[segment.id] = (round(r * 255), round(g * 255), round(b * 255))
    return colors


def overlay(
    result: PanopticResult,
    *,
    opacity: float = 0.5,
    labels: bool = True,
    scores: bool = True,
    highlight: Sequence[int] = (),
) -> Image.Image:
    """The photo under its segments.

    ``opacity`` 0..1 of the colours; ``labels`` writes names, with ``scores`` of things;
    ``highlight`` are segment ids to show alone. Returns an RGB image of the photo's size.
    """
    from PIL import Image

    if not 0 <= opacity <= 1:
        raise ArgumentError("opacity", f"opacity is {opacity!r}; expected a number from 0 to 1")
    shown = [result.get(i) for i in highlight] if highlight else list(result)
    table = np.zeros((max((s.id for s in result), default=0) + 1, 3), np.float32)
    weight = np.zeros(len(table), np.float32)
    for segment_id, color in segment_colors(result).items():
        table[segment_id] = color
    for segment in shown:
        weight[segment.id] = opacity
    image = Image.fromarray(_paint(result, table, weight, min(1.0, opacity + 0.35)))
    if labels:
        _draw_labels(image, result, shown, scores)
    return image


def _paint(
    result: PanopticResult, colors: NDArray[np.float32], weight: NDArray[np.float32], edge: float
) -> NDArray[np.uint8]:
    """The photo blended with ``colors`` ``[ids,3]`` by ``weight`` ``[ids]``, and where a coloured
    segment ends with a darker one by ``edge``. By tables and in bands: no float photo is made."""
    value = np.arange(256, dtype=np.float32)
    color = colors[..., None]  # [ids,3,1]
    inside = value + (color - value) * weight[:, None, None]
    border = inside + (color * np.float32(0.55) - inside) * np.float32(edge)
    tables = np.stack([inside, np.where(weight[:, None, None] > 0, border, inside)])
    tables = np.clip(tables + 0.5, 0, 255).astype(np.uint8)  # [2,ids,3,256]
    ids, rgb = result.id_map, result.photo.rgb_hwc
    edges = _edges(ids, max(1, round(min(ids.shape) / 400)))
    out = np.empty_like(rgb)
    step = max(1, (1 << 18) // ids.shape[1])
    for start in range(0, ids.shape[0], step):
        rows = slice(start, start + step)
        at = (ids[rows] + edges[rows] * np.intp(len(weight))) * 768
        for channel in range(3):
            at += rgb[rows, :, channel]
            tables.take(at, out=out[rows, :, channel])
            at -= rgb[rows, :, channel]
            at += 256
    return out


def semantic_view(result: PanopticResult) -> Image.Image:
    """Every class in its category's colour, void black; RGB of the photo's size."""
    return _flat(result, {s.id: s.category.color for s in result})


def instance_view(result: PanopticResult) -> Image.Image:
    """Every object in a colour of its own, parted by a thin black line; stuff and void black."""
    return _flat(result, {s.id: c for s, c in _far_apart(result)}, parted=True)


def _far_apart(result: PanopticResult) -> list[tuple[Segment, tuple[int, int, int]]]:
    """Colours of golden-ratio steps round the hue circle: neighbours in number lie far apart."""
    colors = []
    for n, segment in enumerate(s for s in result if s.is_thing):
        r, g, b = colorsys.hsv_to_rgb(n * 0.618033988749895 % 1, (0.75, 0.5)[n // 5 % 2], 0.95)
        colors.append((segment, (round(r * 255), round(g * 255), round(b * 255))))
    return colors


def _flat(
    result: PanopticResult, colors: dict[int, tuple[int, int, int]], *, parted: bool = False
) -> Image.Image:
    from PIL import Image

    table = np.zeros((max((s.id for s in result), default=0) + 1, 3), np.uint8)
    for segment_id, color in colors.items():
        table[segment_id] = color
    pixels = np.empty((*result.id_map.shape, 3), np.uint8)
    for channel in range(3):
        pixels[..., channel] = table[:, channel].take(result.id_map)
    if parted:
        pixels[_edges(result.id_map, max(1, round(min(result.id_map.shape) / 800)))] = 0
    return Image.fromarray(pixels)


def _edges(ids: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour at ``width`` belongs to another segment."""
    edge = np.zeros(ids.shape, bool)
    ids = ids.astype(np.min_scalar_type(int(ids.max(initial=0))))  # narrow: quick to compare
    for step in range(1, width + 1):
        edge[:, :-step] |= ids[:, :-step] != ids[:, step:]
        edge[:-step] |= ids[:-step] != ids[step:]
    return np.asarray(edge & (ids != VOID))


def _draw_labels(
    image: Image.Image, result: PanopticResult, shown: Sequence[Segment], scores: bool
) -> None:
    from PIL import ImageDraw, ImageFont

    size = max(10, round(min(image.size) / 32))
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(image, "RGBA")
    colors = segment_colors(result)
    taken: list[tuple[float, float, float, float]] = []
    least = 0.003 * image.width * image.height
    for segment in sorted(shown, key=lambda s: -s.area):
        if segment.area < least:
            continue
        text = (
            f"{segment.category.name} {segment.score:.0%}"
            if segment.is_thing and scores
            else segment.category.name
        )
        x, y = _inside_point(result, segment)
        x0, y0, x1, y1 = draw.textbbox((x, y), text, font=font, anchor="mm")
        pad = size * 0.25
        dx = max(pad - x0, 0) + min(image.width - pad - x1, 0)
        dy = max(pad - y0, 0) + min(image.height - pad - y1, 0)
        box = (x0 + dx - pad, y0 + dy - pad, x1 + dx + pad, y1 + dy + pad)
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        r, g, b = colors[segment.id]
        draw.rounded_rectangle(box, radius=pad, fill=(r // 2, g // 2, b // 2, 215))
        draw.text((x + dx, y + dy), text, font=font, anchor="mm", fill=(255, 255, 255, 255))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside_point(result: PanopticResult, segment: Segment) -> tuple[float, float]:
    """The pixel of the segment that is nearest to its centroid, on a coarse raster."""
    x0, y0, x1, y1 = segment.box_xyxy
    step = max(1, round(max(x1 - x0, y1 - y0) / 64))
    ys, xs = np.nonzero(result.id_map[y0:y1:step, x0:x1:step] == segment.id)
    if not len(xs):
        return (x0 + x1) / 2, (y0 + y1) / 2
    nearest = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)
    return float(x0 + step * xs[nearest]), float(y0 + step * ys[nearest])
