"""How a photo is laid into the network's input, right (the defaults) and wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.preprocessing import TransformRecord, letterbox

__all__ = ["KERNELS", "Layout", "lay_out"]

Pixels = NDArray[np.uint8]
Resize = Callable[[Pixels, tuple[int, int]], Pixels]
Taps = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Layout:
    """The geometry of preprocessing.

    ``kernel`` a name of :data:`KERNELS`; ``fit`` is ``"letterbox"``, ``"stretch"`` (the whole
    photo squeezed into the input) or ``"crop"`` (the middle fills the input); ``anchor`` of the
    letterbox ``"centre"``, ``"top-left"`` or ``"bottom-right"``; ``rounding`` of the photo's sides
    in it ``"nearest"``, ``"down"`` or ``"up"``; ``light`` is what is averaged, ``"codes"`` or
    ``"linear"`` light;
    ``padding`` its colour RGB 0..255; ``shift_yx`` moves the finished picture by whole pixels.
    ``buffer_side`` is that of a square buffer which the picture is laid into and the network reads
    as its own input; 0: its own.
    """

    kernel: str = "pillow-bilinear"
    fit: str = "letterbox"
    anchor: str = "centre"
    rounding: str = "nearest"
    light: str = "codes"
    padding: tuple[int, int, int] = (0, 0, 0)
    shift_yx: tuple[int, int] = (0, 0)
    buffer_side: int = 0


def lay_out(
    rgb_hwc: Pixels, size_wh: tuple[int, int], layout: Layout
) -> tuple[Pixels, TransformRecord]:
    """The input picture, uint8 ``[H,W,3]``, and the record of where the app believes it put the
    photo (a shift by a pixel is a slip, so the record does not know it)."""
    if layout.buffer_side:
        return _through_buffer(rgb_hwc, size_wh, layout)
    h0, w0 = rgb_hwc.shape[:2]
    record = _rounded(letterbox((w0, h0), size_wh), layout.rounding)
    if layout.fit == "stretch":
        record = replace(record, content_wh=size_wh, left=0, top=0)
    elif layout.fit == "crop":
        rgb_hwc, record = _middle(rgb_hwc, size_wh)
    elif layout.anchor == "top-left":
        record = replace(record, left=0, top=0)
    elif layout.anchor == "bottom-right":
        (w, h), (w_in, h_in) = record.content_wh, size_wh
        record = replace(record, left=w_in - w, top=h_in - h)
    content = rgb_hwc
    if (rgb_hwc.shape[1], rgb_hwc.shape[0]) != record.content_wh:
        resize = _in_linear_light if layout.light == "linear" else KERNELS[layout.kernel]
        content = resize(rgb_hwc, record.content_wh)
    canvas = np.empty((*size_wh[::-1], 3), np.uint8)
    canvas[:] = layout.padding
    dy, dx = layout.shift_yx
    rows, cols = record.content_slices
    clipped = content[max(0, -rows.start - dy) :, max(0, -cols.start - dx) :]
    top, left = max(0, rows.start + dy), max(0, cols.start + dx)
    clipped = clipped[: canvas.shape[0] - top, : canvas.shape[1] - left]
    canvas[top : top + clipped.shape[0], left : left + clipped.shape[1]] = clipped
    return canvas, record


def _through_buffer(
    rgb_hwc: Pixels, size_wh: tuple[int, int], layout: Layout
) -> tuple[Pixels, TransformRecord]:
    """The first bytes of a buffer of another size; what it lacks is 0. The app believes in its own
    size, so the record is the right one."""
    side = layout.buffer_side
    own, _ = lay_out(rgb_hwc, (side, side), replace(layout, buffer_side=0))
    canvas = np.zeros((*size_wh[::-1], 3), np.uint8)
    count = min(own.size, canvas.size)
    canvas.reshape(-1)[:count] = own.reshape(-1)[:count]
    return canvas, letterbox((rgb_hwc.shape[1], rgb_hwc.shape[0]), size_wh)


def _rounded(record: TransformRecord, rounding: str) -> TransformRecord:
    """The record of a letterbox whose sides were cut off or rounded up."""
    if rounding == "nearest":
        return record
    (w0, h0), (w_in, h_in) = record.photo_wh, record.input_wh
    if w_in * h0 <= h_in * w0:
        content = w_in, h0 * w_in // w0 if rounding == "down" else -(-h0 * w_in // w0)
    else:
        content = w0 * h_in // h0 if rounding == "down" else -(-w0 * h_in // h0), h_in
    content = max(1, content[0]), max(1, content[1])
    left, top = (w_in - content[0]) // 2, (h_in - content[1]) // 2
    return replace(record, content_wh=content, left=left, top=top)


def _in_linear_light(rgb_hwc: Pixels, size_wh: tuple[int, int]) -> Pixels:
    """Resized with Pillow's triangle after the sRGB curve was undone, as some GPU textures do."""
    from PIL import Image

    code = np.arange(256) / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    planes = []
    for channel in range(3):
        plane = Image.fromarray(light.astype(np.float32)[rgb_hwc[..., channel]])
        for size in ((size_wh[0], plane.height), size_wh):
            if plane.size != size:
                plane = plane.resize(size, Image.Resampling.BILINEAR)
        planes.append(np.asarray(plane))
    linear = np.clip(np.stack(planes, -1), 0, 1)
    codes = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.floor(codes * 255 + 0.5), np.uint8)


def _middle(rgb_hwc: Pixels, size_wh: tuple[int, int]) -> tuple[Pixels, TransformRecord]:
    """The largest middle part of the input's aspect, which then fills the input."""
    (h0, w0), (w, h) = rgb_hwc.shape[:2], size_wh
    cw = min(w0, max(1, round(h0 * w / h)))
    ch = min(h0, max(1, round(w0 * h / w)))
    x, y = (w0 - cw) // 2, (h0 - ch) // 2
    record = letterbox((cw, ch), size_wh)
    return rgb_hwc[y : y + ch, x : x + cw], replace(record, content_wh=size_wh, left=0, top=0)


def _pillow(name: str) -> Resize:
    def resize(rgb_hwc: Pixels, size_wh: tuple[int, int]) -> Pixels:
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(rgb_hwc))
        for size in ((size_wh[0], image.height), size_wh):  # x first, as the reference does
            if image.size != size:
                image = image.resize(size, Image.Resampling[name])
        return np.asarray(image)

    return resize


def _at(n_in: int, n_out: int, grid: str) -> NDArray[np.float64]:
    """Where each output pixel looks in the input (pixel ``i`` has its centre at ``i``)."""
    i = np.arange(n_out, dtype=np.float64)
    if grid == "corners":
        return i * ((n_in - 1) / max(1, n_out - 1))
    if grid == "asymmetric":
        return i * (n_in / n_out)
    return (i + 0.5) * (n_in / n_out) - 0.5


def _sampled(
    weight: Taps, reach: int, grid: str, rgb_hwc: Pixels, size_wh: tuple[int, int]
) -> Pixels:
    """Interpolation at single points, without the widening that avoids aliasing."""
    values: NDArray[Any] = rgb_hwc
    for axis, n_out in ((0, size_wh[1]), (1, size_wh[0])):
        n_in = rgb_hwc.shape[axis]
        at = _at(n_in, n_out, grid)
        first = np.floor(at).astype(np.intp) - reach + 1
        total, mass = np.zeros(1, np.float32), np.zeros(n_out)
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        for tap in range(2 * reach):
            w = weight(at - (first + tap))
            index = np.clip(first + tap, 0, n_in - 1)
            taken = np.take(values, index, axis).astype(np.float32)
            total = total + taken * w.astype(np.float32).reshape(shape)
            mass += w
        values = total / mass.astype(np.float32).reshape(shape)
    return np.asarray(np.clip(np.floor(values + 0.5), 0, 255), np.uint8)


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(0, 1 - np.abs(x)))


def _cubic(x: NDArray[np.float64], a: float = -0.75) -> NDArray[np.float64]:
    """Keys' kernel with the ``a`` of OpenCV and Core Image; Pillow has -0.5."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0)))


def _lanczos(x: NDArray[np.float64], reach: int = 4) -> NDArray[np.float64]:
    return np.asarray(np.where(np.abs(x) < reach, np.sinc(x) * np.sinc(x / reach), 0))


def _nearest(grid: str, rgb_hwc: Pixels, size_wh: tuple[int, int]) -> Pixels:
    """One pixel each: the one under the centre, or (OpenCV) under the top left corner."""
    index = []
    for n_in, n_out in ((rgb_hwc.shape[0], size_wh[1]), (rgb_hwc.shape[1], size_wh[0])):
        i = np.arange(n_out)
        at = (2 * i + 1) * n_in // (2 * n_out) if grid == "centre" else i * n_in // n_out
        index.append(np.minimum(at, n_in - 1))
    return np.asarray(rgb_hwc[index[0][:, None], index[1]])


def _area(rgb_hwc: Pixels, size_wh: tuple[int, int]) -> Pixels:
    """The mean over each output pixel's area, parts of pixels counting as parts."""
    down = _means(rgb_hwc, size_wh[1])
    both = _means(np.ascontiguousarray(down.transpose(1, 0, 2)), size_wh[0]).transpose(1, 0, 2)
    return np.asarray(np.clip(np.floor(both + 0.5), 0, 255), np.uint8)


def _means(values: NDArray[Any], n_out: int) -> NDArray[np.float32]:
    """Means over equal parts of the first axis."""
    n_in = values.shape[0]
    out = np.empty((n_out, *values.shape[1:]), np.float32)
    for i in range(n_out):
        start, end = i * n_in / n_out, (i + 1) * n_in / n_out
        first, last = int(start), min(n_in, int(np.ceil(end - 1e-9)))
        at = np.arange(first, last)
        share = np.minimum(at + 1, end) - np.maximum(at, start)
        weights = (share / share.sum()).astype(np.float32)
        out[i] = np.tensordot(weights, values[first:last].astype(np.float32), 1)
    return out


KERNELS: dict[str, Resize] = {
    "pillow-bilinear": _pillow("BILINEAR"),
    "nearest": partial(_nearest, "centre"),
    "nearest-corner": partial(_nearest, "corner"),
    "bilinear-plain": partial(_sampled, _triangle, 1, "half-pixel"),
    "bilinear-corners": partial(_sampled, _triangle, 1, "corners"),
    "bilinear-asymmetric": partial(_sampled, _triangle, 1, "asymmetric"),
    "bicubic": _pillow("BICUBIC"),
    "bicubic-plain": partial(_sampled, _cubic, 2, "half-pixel"),
    "lanczos": _pillow("LANCZOS"),
    "lanczos-plain": partial(_sampled, _lanczos, 4, "half-pixel"),
    "area": _area,
    "box": _pillow("BOX"),
}
"""Resize kernels by name: ``plain`` ones look at single points (no antialias)."""
