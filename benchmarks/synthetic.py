"""Composites whose truth is known: a drawn figure with hair before a photo or a drawn pattern.

Light is added as light: photo = α·F + (1 − α)·B in linear light, then sRGB codes with the noise of
a phone's sensor. The mask is what a network with heads of 80 × 80 would give: the matte averaged to
that grid, disturbed, enlarged and cut at one half.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from panokit import Category, PanopticResult, Photo, Segment, Taxonomy
from panokit._icc import SRGB
from panokit.preprocessing import letterbox
from panokit.samples import sample_photos

FloatArray = NDArray[np.float32]
TAXONOMY = Taxonomy(
    "synthetic",
    (Category(1, "person", True, (220, 20, 60)), Category(2, "wall", False, (70, 70, 70))),
)
ARM = ((0.8, 0.35), (2.3, 1.7), (0.9, 3.0))
"""Shoulder, elbow and hand, in radii of the head from the middle of the shoulders."""
FINER = 4
"""The matte is drawn this many times larger and averaged."""


@dataclass(frozen=True, eq=False)
class Scene:
    """``photo`` and ``result`` as a user has them; the truth: ``alpha_hw`` 0..1, ``foreground`` and
    ``background`` ``[H,W,3]`` in linear light (lamps in the background are brighter than 1)."""

    name: str
    photo: Photo
    result: PanopticResult
    alpha_hw: FloatArray
    foreground: FloatArray
    background: FloatArray


def scenes(seeds: range, size_wh: tuple[int, int] = (720, 960), arms: bool = False) -> list[Scene]:
    """One scene a seed. ``arms``: hands on the hips, and one sees through the gaps beside them."""
    return [_scene(seed, size_wh, arms) for seed in seeds]


def animal_scenes(folder: Path, seeds: range, scale: float = 1.5) -> list[Scene]:
    """The lemur of PyMatting's examples (its folder data/lemur) before other backgrounds: real fur
    and whiskers, whose matte is known."""
    with Image.open(folder / "lemur_alpha.png") as image:
        size_wh = round(image.width * scale), round(image.height * scale)
        alpha = np.asarray(image.convert("L").resize(size_wh), np.float32) / np.float32(255)
    with Image.open(folder / "lemur_foreground.png") as image:
        foreground = SRGB.to_linear(np.asarray(image.convert("RGB").resize(size_wh)))
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        name, background = _background(seed, size_wh, rng)
        found.append(_composite(f"{name}-{seed}", foreground, alpha, background, rng))
    return found


def _scene(seed: int, size_wh: tuple[int, int], arms: bool) -> Scene:
    rng = np.random.default_rng(seed)
    w, h = size_wh
    names = list(sample_photos())
    name, background = _background(seed, size_wh, rng)
    if seed % 2:
        background = _with_lamps(background, rng)
    body, alpha = _figure(size_wh, rng, arms)
    cloth = _photo_light(names[(seed * 3 + 1) % len(names)], size_wh, rng)
    shades = ([0.010, 0.006, 0.004], [0.10, 0.055, 0.025], [0.45, 0.30, 0.13], [0.30, 0.30, 0.32])
    shade = np.array(shades[seed % 4], np.float32)
    sheen = 0.6 + 0.8 * _smooth_noise((h, w), 12, rng)[..., None]
    foreground = np.where(body[..., None] > 0.5, cloth, shade * sheen).astype(np.float32)
    return _composite(f"{name}-{seed}", foreground, alpha, background, rng)


def _background(
    seed: int, size_wh: tuple[int, int], rng: np.random.Generator
) -> tuple[str, FloatArray]:
    """A sample photo or a drawn pattern, by turns, and its name."""
    names = list(sample_photos())
    kind = seed % (len(names) + 2)
    if kind < len(names):
        return names[kind], _photo_light(names[kind], size_wh, rng)
    name = ("gradient", "stripes")[kind - len(names)]
    return name, _drawn(name, size_wh, rng)


def _composite(
    name: str,
    foreground: FloatArray,
    alpha: FloatArray,
    background: FloatArray,
    rng: np.random.Generator,
) -> Scene:
    """The photo that a camera would take of both, and what a network would find."""
    a = alpha[..., None]
    light = a * foreground + (1 - a) * np.minimum(background, 1)
    codes = SRGB.to_codes(light, np.uint16).astype(np.float32) / 257
    codes += rng.normal(0, 1.2, codes.shape).astype(np.float32)
    photo = Photo.from_array(np.clip(codes + 0.5, 0, 255).astype(np.uint8), name)
    return Scene(photo.name, photo, _result(photo, alpha, rng), alpha, foreground, background)


def _photo_light(name: str, size_wh: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A random cut of a sample photo, in linear light."""
    with Image.open(sample_photos()[name]) as image:
        rgb = image.convert("RGB")
    w, h = size_wh
    scale = max(w / rgb.width, h / rgb.height) * rng.uniform(1, 1.5)
    grown = rgb.resize((round(rgb.width * scale) + 1, round(rgb.height * scale) + 1))
    x, y = int(rng.integers(0, grown.width - w + 1)), int(rng.integers(0, grown.height - h + 1))
    cut = np.asarray(grown.crop((x, y, x + w, y + h)))
    return SRGB.to_linear(cut[:, ::-1] if rng.random() < 0.5 else cut)


def _drawn(kind: str, size_wh: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    w, h = size_wh
    one, two = rng.uniform(0.05, 0.9, (2, 3))
    y, x = np.mgrid[0:h, 0:w]
    if kind == "gradient":
        t = (y / h)[..., None]
    else:
        t = ((x + 0.4 * y) % 90 < 45)[..., None].astype(float)
    return np.asarray(one + (two - one) * t, np.float32)


def _with_lamps(light: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Small lights, six times brighter than white; in the photo they are cut off at white."""
    out = light * np.float32(0.6)
    h, w = light.shape[:2]
    y, x = np.mgrid[0:h, 0:w]
    for _ in range(14):
        cy, cx, r = rng.uniform(0, h), rng.uniform(0, w), rng.uniform(2, 5)
        tint = np.array([1, rng.uniform(0.6, 1), rng.uniform(0.4, 1)], np.float32)
        out[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = 6 * tint
    return out


def _figure(
    size_wh: tuple[int, int], rng: np.random.Generator, arms: bool
) -> tuple[FloatArray, FloatArray]:
    """The body, and body and hair together, each float32 ``[H,W]`` 0..1."""
    w, h = size_wh[0] * FINER, size_wh[1] * FINER
    hair, body = Image.new("L", (w, h)), Image.new("L", (w, h))
    cx, cy = w * rng.uniform(0.42, 0.58), h * rng.uniform(0.36, 0.44)
    rx, ry = w * rng.uniform(0.13, 0.16), h * rng.uniform(0.14, 0.17)
    draw = ImageDraw.Draw(body)
    draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=255)
    draw.rectangle((cx - rx * 0.5, cy, cx + rx * 0.5, h), fill=255)
    shoulder = cy + ry * 1.35
    if arms:
        _draw_akimbo(draw, (cx, shoulder), rx, h)
    else:
        draw.ellipse((cx - rx * 2.4, shoulder, cx + rx * 2.4, shoulder + h), fill=255)
    draw = ImageDraw.Draw(hair)
    draw.pieslice((cx - rx * 1.15, cy - ry * 1.2, cx + rx * 1.15, cy + ry), 160, 380, fill=255)
    for _ in range(260):
        angle = rng.uniform(np.pi * 0.95, np.pi * 2.05)
        x, y = cx + rx * 1.1 * np.cos(angle), cy + ry * 1.12 * np.sin(angle)
        length, bend = rng.uniform(0.15, 0.75) * rx, rng.uniform(-1.2, 1.2)
        points = []
        for t in np.linspace(0, 1, 24):
            points.append((x + length * t * np.cos(angle), y + length * t * np.sin(angle)))
            angle += bend / 24
        draw.line(points, fill=255, width=int(rng.integers(3, 9)), joint="curve")
    strands, trunk = (
        np.asarray(i.reduce(FINER), np.float32) / np.float32(255) for i in (hair, body)
    )
    return trunk, np.maximum(strands, trunk)


def _draw_akimbo(
    draw: ImageDraw.ImageDraw, top: tuple[float, float], unit: float, bottom: int
) -> None:
    """A trunk with the hands on its hips."""
    x, y = top
    draw.rounded_rectangle((x - 1.1 * unit, y, x + 1.1 * unit, bottom), unit / 2, fill=255)
    for side in (-1, 1):
        points = [(x + side * dx * unit, y + dy * unit) for dx, dy in ARM]
        draw.line(points, fill=255, width=round(0.55 * unit), joint="curve")


def _smooth_noise(size_hw: tuple[int, int], cells: int, rng: np.random.Generator) -> FloatArray:
    """Noise 0..1 of about ``cells`` waves along each side."""
    noise = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.asarray(noise.resize(size_hw[::-1], Image.Resampling.BICUBIC))


def _result(photo: Photo, alpha: FloatArray, rng: np.random.Generator) -> PanopticResult:
    transform = letterbox(photo.size_wh, (320, 320))
    w, h = transform.content_wh
    heads = Image.fromarray(alpha).resize((w // 4, h // 4), Image.Resampling.BOX)
    logits = np.asarray(heads) - 0.5 + 0.35 * (_smooth_noise((h // 4, w // 4), 16, rng) - 0.5)
    fine = np.asarray(Image.fromarray(logits).resize((w, h), Image.Resampling.BILINEAR)) > 0
    mask = np.asarray(Image.fromarray(fine).resize(photo.size_wh, Image.Resampling.NEAREST))
    ids = np.where(mask, 1, 2).astype(np.int32)
    size = photo.size_wh
    segments = tuple(
        Segment(i, TAXONOMY.categories[i - 1], 0.9, int((ids == i).sum()), (0, 0, *size))
        for i in (1, 2)
    )
    return PanopticResult(photo, ids, segments, TAXONOMY, transform)
