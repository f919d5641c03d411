"""Augmentation: one decoded photo (and a donor) to one training scene.

Geometry first (scale, aspect, crop or pad, flip), then copy-paste of objects from another photo
(Ghiasi et al., https://arxiv.org/abs/2012.07177), then what cameras do to light: exposure, white
balance, saturation, a wide-gamut display read as sRGB, blur, noise and JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError, MissingExtraError
from panokit.preprocessing import Size, sides
from panokit_datasets.records import NO_PERSON_MAP, DecodedPhoto, SegmentRecord

__all__ = ["AugmentConfig", "Scene", "letterboxed_scene", "opencv", "random_scene"]

PADDING = 65535
"""Segment index of letterbox padding in :class:`Scene`."""


def opencv() -> Any:
    """OpenCV, from when a scene is made: compression opens these modules and needs none."""
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("training", "train") from None
    return cv2


# Linear Display P3 → linear sRGB (D65 both; CSS Color 4). Values outside 0..1 are clipped.
_P3_TO_SRGB = np.array(
    [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32
)

_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class AugmentConfig:
    """How hard scenes are shaken. Each ``*_probability`` is per scene, 0..1."""

    scale_range: tuple[float, float] = (0.7, 2.2)  # relative to the letterboxed photo
    aspect_range: tuple[float, float] = (0.8, 1.25)  # stretch of width against height
    flip_probability: float = 0.5
    paste_probability: float = 0.3
    paste_limit: int = 3  # objects per scene
    paste_score: float = 0.6  # least score of a pseudo-labelled object that is pasted
    color_probability: float = 0.8
    gray_probability: float = 0.03
    gamut_probability: float = 0.1
    blur_probability: float = 0.15
    noise_probability: float = 0.15
    jpeg_probability: float = 0.2

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name.endswith("_probability") and not 0 <= value <= 1:
                raise ArgumentError(
                    name, f"{name} is {value!r}; expected a probability from 0 to 1"
                )
            if name.endswith("_range") and not 0 < value[0] <= value[1]:
                raise ArgumentError(
                    name, f"{name} is {value!r}; expected two positive numbers, the lower first"
                )


@dataclass
class Scene:
    """A training scene.

    ``image_hwc`` uint8 ``[H,W,3]``; ``segment_map`` uint16 ``[H,W]``, 0 = none, i = ``segments[i
    - 1]``, :data:`PADDING` in the padding; ``person`` uint8 ``[H,W]`` as in ``DecodedPhoto``,
    ``NO_PERSON_MAP`` where nothing is said.
    """

    image_hwc: NDArray[np.uint8]
    segment_map: NDArray[np.uint16]
    segments: list[SegmentRecord]
    person: NDArray[np.uint8]
    absent: tuple[int, ...]
    complete: bool


def letterboxed_scene(photo: DecodedPhoto, size: Size) -> Scene:
    """The whole photo, centred on black: what the network sees in use."""
    h, w = photo.segment_map.shape
    width, height = sides(size)
    scale = min(width / w, height / h)
    scaled_wh = max(1, round(w * scale)), max(1, round(h * scale))
    left, top = (width - scaled_wh[0]) // 2, (height - scaled_wh[1]) // 2
    return _place(photo, scaled_wh, left, top, (width, height), flip=False)


def random_scene(
    photo: DecodedPhoto,
    donor: DecodedPhoto | None,
    size: Size,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Scene:
    """A random view of ``photo`` with random objects of ``donor`` pasted in."""
    h, w = photo.segment_map.shape
    low, high = config.scale_range
    size_wh = sides(size)
    scale = min(size_wh[0] / w, size_wh[1] / h) * float(
        np.exp(rng.uniform(np.log(low), np.log(high)))
    )
    aspect = float(np.exp(rng.uniform(*np.log(config.aspect_range)) / 2))
    scaled_wh = max(8, round(w * scale * aspect)), max(8, round(h * scale / aspect))
    # Where the photo is smaller than the scene it lies anywhere in it; where it is larger the
    # scene lies anywhere in the photo.
    left, top = (
        int(rng.integers(min(0, room - side), max(0, room - side) + 1))
        for room, side in zip(size_wh, scaled_wh, strict=True)
    )
    scene = _place(photo, scaled_wh, left, top, size_wh, rng.random() < config.flip_probability)
    if donor is not None:
        _paste_objects(scene, donor, config, rng)
    scene.image_hwc = _camera(scene.image_hwc, config, rng)
    scene.image_hwc[scene.segment_map == PADDING] = 0
    return scene


def _place(
    photo: DecodedPhoto,
    scaled_wh: tuple[int, int],
    left: int,
    top: int,
    size_wh: tuple[int, int],
    flip: bool,
) -> Scene:
    """Resize to ``scaled_wh`` and put the top-left corner at (left, top) of a scene."""
    cv2 = opencv()
    h, w = photo.segment_map.shape
    sw, sh = scaled_wh
    x0, x1 = max(0, left), min(size_wh[0], left + sw)
    y0, y1 = max(0, top), min(size_wh[1], top + sh)
    # Resize only the part that is seen (plus a margin for the kernel).
    sx0, sx1 = max(0, int((x0 - left) * w / sw) - 2), min(w, int(np.ceil((x1 - left) * w / sw)) + 2)
    sy0, sy1 = max(0, int((y0 - top) * h / sh) - 2), min(h, int(np.ceil((y1 - top) * h / sh)) + 2)
    xs, ys = np.arange(x0, x1), np.arange(y0, y1)
    map_x = ((xs - left + 0.5) * (w / sw)).astype(np.int64).clip(0, w - 1)
    map_y = ((ys - top + 0.5) * (h / sh)).astype(np.int64).clip(0, h - 1)
    source = photo.image_hwc[sy0:sy1, sx0:sx1]
    if sw < w:  # shrinking: average over the area first, then sample exactly
        area_wh = max(1, round((sx1 - sx0) * sw / w)), max(1, round((sy1 - sy0) * sh / h))
        source = np.asarray(cv2.resize(source, area_wh, interpolation=cv2.INTER_AREA), np.uint8)
    rx, ry = source.shape[1] / (sx1 - sx0), source.shape[0] / (sy1 - sy0)
    fine_x = (((xs - left + 0.5) * (w / sw) - sx0) * rx - 0.5).astype(np.float32)
    fine_y = (((ys - top + 0.5) * (h / sh) - sy0) * ry - 0.5).astype(np.float32)
    part = cv2.remap(
        source,
        np.broadcast_to(fine_x, (len(ys), len(xs))).copy(),
        np.broadcast_to(fine_y[:, None], (len(ys), len(xs))).copy(),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    shape = size_wh[1], size_wh[0]
    image = np.zeros((*shape, 3), np.uint8)
    segment_map = np.full(shape, PADDING, np.uint16)
    person = np.full(shape, NO_PERSON_MAP, np.uint8)
    inner = np.s_[y0:y1, x0:x1]
    image[inner] = part
    segment_map[inner] = photo.segment_map[map_y[:, None], map_x]
    if photo.person is not None:
        person[inner] = photo.person[map_y[:, None], map_x]
    if flip:
        image, segment_map, person = image[:, ::-1], segment_map[:, ::-1], person[:, ::-1]
    record = photo.record
    return Scene(
        np.ascontiguousarray(image),
        np.ascontiguousarray(segment_map),
        list(record.segments),
        np.ascontiguousarray(person),
        record.absent,
        record.complete,
    )


def _paste_objects(
    scene: Scene, donor: DecodedPhoto, config: AugmentConfig, rng: np.random.Generator
) -> None:
    """Paste up to ``paste_limit`` objects of the donor, resized, over the scene."""
    cv2 = opencv()
    height, width = scene.segment_map.shape
    areas = np.bincount(donor.segment_map.ravel(), minlength=len(donor.record.segments) + 1)
    least = 0.004 * donor.segment_map.size
    clean = [
        i + 1
        for i, s in enumerate(donor.record.segments)
        if _is_pasteable(s, config.paste_score) and areas[i + 1] >= least
    ]
    count = int(rng.integers(1, config.paste_limit + 1))
    for index in rng.permutation(clean)[:count]:
        mask = donor.segment_map == index
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
        cut, alpha = donor.image_hwc[box], mask[box].astype(np.float32)
        longest = max(alpha.shape)
        side = min(width, height) * float(np.exp(rng.uniform(np.log(0.15), np.log(0.9))))
        scale = side / longest
        wh = max(4, round(alpha.shape[1] * scale)), max(4, round(alpha.shape[0] * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        cut = np.asarray(cv2.resize(cut, wh, interpolation=how), np.uint8)
        alpha = np.asarray(cv2.resize(alpha, wh, interpolation=how), np.float32)
        if rng.random() < 0.5:
            cut, alpha = cut[:, ::-1], alpha[:, ::-1]
        soft = cv2.GaussianBlur(np.ascontiguousarray(alpha), (3, 3), 0)
        alpha = np.asarray(soft, np.float32)
        left = int(rng.integers(-wh[0] // 3, max(1, width - wh[0] * 2 // 3)))
        top = int(rng.integers(-wh[1] // 3, max(1, height - wh[1] * 2 // 3)))
        _blend(scene, cut, alpha, left, top, donor.record.segments[index - 1])


def _is_pasteable(segment: SegmentRecord, least_score: float) -> bool:
    return segment.is_object and (segment.score is None or segment.score >= least_score)


def _blend(
    scene: Scene,
    cut: NDArray[np.uint8],
    alpha: NDArray[np.float32],
    left: int,
    top: int,
    segment: SegmentRecord,
) -> None:
    height, width = scene.segment_map.shape
    h, w = alpha.shape
    x0, x1, y0, y1 = max(0, left), min(width, left + w), max(0, top), min(height, top + h)
    if x0 >= x1 or y0 >= y1:
        return
    inner, outer = np.s_[y0 - top : y1 - top, x0 - left : x1 - left], np.s_[y0:y1, x0:x1]
    view = scene.segment_map[outer]
    alpha = alpha[inner] * (view != PADDING)
    a = alpha[..., None]
    mixed = scene.image_hwc[outer] * (1 - a) + cut[inner] * a
    scene.image_hwc[outer] = (mixed + 0.5).astype(np.uint8)
    scene.segments.append(segment)
    view[alpha >= 0.5] = len(scene.segments)
    scene.person[outer][alpha > 0] = NO_PERSON_MAP


def _camera(
    image: NDArray[np.uint8], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Photometric changes, sRGB uint8 in and out."""
    cv2 = opencv()
    x: NDArray[np.uint8] = image
    if rng.random() < config.color_probability:
        x = _shift_colors(x, rng)
    if rng.random() < config.gamut_probability:
        linear = (x.astype(np.float32) * np.float32(1 / 255)) ** np.float32(2.2)
        x = _to_uint8(255 * np.clip(linear @ _P3_TO_SRGB.T, 0, 1) ** np.float32(1 / 2.2))
    if rng.random() < config.gray_probability:
        x = np.asarray(cv2.transform(x, np.tile(_LUMA, (3, 1))), np.uint8)
    if rng.random() < config.blur_probability:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.4, 1.8))), np.uint8)
    if rng.random() < config.noise_probability:
        sigma = np.float32(255 * rng.uniform(0.005, 0.06))
        x = _to_uint8(x + sigma * rng.standard_normal(x.shape, np.float32))
    if rng.random() < config.jpeg_probability:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        encoded = cv2.imencode(".jpg", x, quality)[1]
        x = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return x


def _shift_colors(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, contrast, white balance and saturation at random as one matrix, then gamma as a
    table: four times as fast as one after the other in float32."""
    cv2 = opencv()
    gain = np.exp(rng.uniform(-0.4, 0.4)) * np.exp(rng.uniform(-0.12, 0.12, 3))  # [3]
    mean = float((np.array(cv2.mean(x)[:3]) * gain).mean())
    contrast, saturation = rng.uniform(0.7, 1.35), rng.uniform(0.5, 1.5)
    mix = saturation * np.eye(3) + (1 - saturation) * _LUMA
    offset = np.full((3, 1), (1 - contrast) * mean)
    x = np.asarray(cv2.transform(x, np.hstack([mix * (contrast * gain), offset])), np.uint8)
    table = 255 * np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.25, 0.25))
    return np.asarray(cv2.LUT(x, _to_uint8(table)), np.uint8)


def _to_uint8(x: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """0..255, rounded and cut."""
    rounded: NDArray[np.uint8] = (np.clip(x, 0, 255) + 0.5).astype(np.uint8)
    return rounded
