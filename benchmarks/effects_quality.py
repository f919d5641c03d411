"""Mattes and portraits against synthetic truth, beside the usual pipelines.

    python -m benchmarks.effects_quality

SAD: sum of absolute differences of the mattes, in thousands; gradient: the gradient error of
Rhemann et al. (CVPR 2009; σ = 1.4), in thousands; blur: mean absolute difference in sRGB codes from
the portrait made of the true layers, within two disc radii of the figure's edge.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.synthetic import Scene, scenes
from panokit._icc import SRGB
from panokit.effects import portrait_blur
from panokit.effects.lens import disc_half_widths

FloatArray = NDArray[np.float32]
STRENGTH = 0.35

REPORTED = range(12)
"""Scenes of the table. Parameters were chosen on TUNED alone."""
TUNED = range(100, 112)

Pipeline = Callable[[Scene, int], tuple[FloatArray, NDArray[np.uint8]]]


def disc(radius: int) -> FloatArray:
    """The kernel of a disc."""
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    for row, width in zip(kernel, disc_half_widths(radius), strict=True):
        row[radius - width : radius + width + 1] = 1
    return _float(kernel / kernel.sum())


def ours(scene: Scene, radius: int, quality: str = "good") -> tuple[FloatArray, NDArray[np.uint8]]:
    """panokit.portrait_blur."""
    done = portrait_blur(scene.photo, scene.result, strength=STRENGTH, quality=quality)
    return done.alpha_hw, done.image_hwc


def ours_best(scene: Scene, radius: int) -> tuple[FloatArray, NDArray[np.uint8]]:
    """panokit.portrait_blur, closed-form matting."""
    return ours(scene, radius, "best")


def _float(values: ArrayLike) -> FloatArray:
    """The same values as float32: OpenCV's types leave open what they are."""
    return np.asarray(values, np.float32)


def _mix(rgb: NDArray[np.uint8], alpha: FloatArray, blurred: FloatArray) -> NDArray[np.uint8]:
    a = alpha[..., None]
    return np.clip(a * rgb + (1 - a) * blurred + 0.5, 0, 255).astype(np.uint8)


def naive(scene: Scene, radius: int) -> tuple[FloatArray, NDArray[np.uint8]]:
    """The mask with an edge softened by a Gaussian, the photo blurred by a Gaussian."""
    rgb = scene.photo.rgb_hwc
    cell = max(scene.photo.size_wh) / 320
    alpha = _float(cv2.GaussianBlur(_float(scene.result.mask(1)), (0, 0), cell))
    return alpha, _mix(rgb, alpha, _float(cv2.GaussianBlur(rgb, (0, 0), radius / 2)))


def guided(scene: Scene, radius: int) -> tuple[FloatArray, NDArray[np.uint8]]:
    """The grey guided filter of boxFilter at full resolution, a disc by filter2D."""
    rgb = scene.photo.rgb_hwc
    grey = _float(_float(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)) / 255)
    mask = _float(scene.result.mask(1))
    side = 2 * round(4 * max(scene.photo.size_wh) / 320) + 1

    def mean(x: FloatArray) -> FloatArray:
        return _float(cv2.boxFilter(x, -1, (side, side)))

    m_i, m_p = mean(grey), mean(mask)
    a = _float((mean(grey * mask) - m_i * m_p) / (mean(grey * grey) - m_i * m_i + 1e-4))
    b = m_p - a * m_i
    alpha = _float(np.clip(mean(a) * grey + mean(b), 0, 1))
    return alpha, _mix(rgb, alpha, _float(cv2.filter2D(_float(rgb), -1, disc(radius))))


def grabcut(scene: Scene, radius: int) -> tuple[FloatArray, NDArray[np.uint8]]:
    """grabCut in a band around the mask's edge, softened, and a disc by filter2D."""
    rgb = scene.photo.rgb_hwc
    cell = max(scene.photo.size_wh) / 320
    mask = scene.result.mask(1).astype(np.uint8)
    kernel = np.ones((2 * round(5 * cell) + 1,) * 2, np.uint8)
    known = np.full(mask.shape, cv2.GC_PR_BGD, np.uint8)
    known[mask > 0] = cv2.GC_PR_FGD
    known[cv2.erode(mask, kernel) > 0] = cv2.GC_FGD
    known[cv2.dilate(mask, kernel) == 0] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(rgb, known, (0, 0, 1, 1), *models, 4, cv2.GC_INIT_WITH_MASK)
    cut = np.isin(known, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    alpha = _float(cv2.GaussianBlur(cut, (0, 0), 1.0))
    return alpha, _mix(rgb, alpha, _float(cv2.filter2D(_float(rgb), -1, disc(radius))))


PIPELINES: dict[str, Pipeline] = {
    "mask + Gaussian": naive,
    "OpenCV: guided filter, disc": guided,
    "OpenCV: grabCut, disc": grabcut,
    "panokit": ours,
    "panokit, quality=best": ours_best,
}


def gradient_error(alpha: FloatArray, truth: FloatArray) -> float:
    """Sum of squared differences of the gradient magnitudes under a Gaussian of σ = 1.4."""

    def magnitude(x: FloatArray) -> FloatArray:
        smooth = cv2.GaussianBlur(x, (0, 0), 1.4)
        gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1) / 2
        gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1) / 2
        return np.hypot(gx, gy)

    return float(((magnitude(alpha) - magnitude(truth)) ** 2).sum())


def true_portrait(scene: Scene, radius: int) -> NDArray[np.uint8]:
    """α·F over the whole background's disc blur, lamps at their true brightness."""
    blurred = cv2.filter2D(scene.background, -1, disc(radius))
    a = scene.alpha_hw[..., None]
    light = a * scene.foreground + (1 - a) * np.clip(blurred, 0, 1)
    return SRGB.to_codes(light.astype(np.float32), np.uint8)  # type: ignore[return-value]


def measure(pipeline: Pipeline, scene: Scene) -> tuple[float, float, float]:
    """SAD and gradient error in thousands, blur error in codes."""
    radius = round(STRENGTH * 0.04 * float(np.sqrt(scene.alpha_hw.size)))
    alpha, image = pipeline(scene, radius)
    edge = ((scene.alpha_hw > 0) & (scene.alpha_hw < 1)).astype(np.uint8)
    zone = cv2.dilate(edge, np.ones((4 * radius + 1,) * 2, np.uint8)) > 0
    off = np.abs(image.astype(np.float32) - true_portrait(scene, radius))[zone].mean()
    sad = float(np.abs(alpha - scene.alpha_hw).sum()) / 1e3
    return sad, gradient_error(alpha, scene.alpha_hw) / 1e3, float(off)


def table(seeds: range, names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Figures ``[scenes,3]`` by pipeline."""
    made = scenes(seeds)
    return {n: np.array([measure(PIPELINES[n], s) for s in made]) for n in names}


def main() -> None:
    """Print the table of means, and in how many scenes ours is better."""
    tuned = "--tuned" in sys.argv
    fast = "--fast" in sys.argv
    names = [n for n in PIPELINES if not (fast and "best" in n)]
    found = table(TUNED if tuned else REPORTED, names)
    print(f"{'pipeline':30} {'SAD':>7} {'gradient':>9} {'blur':>6}   ours better in (of each)")
    for name, figures in found.items():
        means = figures.mean(axis=0)
        wins = (found["panokit"] < figures).sum(axis=0)
        note = (
            "" if name.startswith("panokit") else f"   {'/'.join(map(str, wins))} of {len(figures)}"
        )
        print(f"{name:30} {means[0]:7.2f} {means[1]:9.3f} {means[2]:6.2f}{note}")


if __name__ == "__main__":
    main()
