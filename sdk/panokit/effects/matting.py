"""From the network's coarse mask to a soft matte that follows the photo's own edges.

The filter is the guided filter (He, Sun, Tang 2010, https://doi.org/10.1007/978-3-642-15549-9_1)
with a colour guide; its linear coefficients are found on a coarser grid and applied to the full
photo ("fast guided filter", https://arxiv.org/abs/1505.00996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panokit.effects._checks import one_of
from panokit.effects._grid import reduce_mean, stripes, upsample_rows
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.picking import Pick, found_nothing, names_of
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = [
    "Matte",
    "box_sum",
    "cell_of",
    "dilate",
    "guided_coefficients",
    "matte",
    "matte_of",
    "soft_matte",
]

if TYPE_CHECKING:
    from panokit.effects.compose import Layers

DoubleArray = NDArray[np.float64]

GUIDE_SIDE = 512
"""Longest side of the grid the coefficients are found on: finer than the network's own input."""

RADIUS_CELLS = 6.0
"""Window radius in pixels of the network's input: more than a cell of the heads, so that the window
reaches the true edge wherever the mask can be wrong."""

EPSILON = 2e-4
"""Colour variance (guide 0..1) below which the matte is smoothed instead of following the guide."""

SNAP = 0.15
"""Matte values this near to 0 or 1 become 0 or 1: the filter's faint halo must not show."""


def box_sum(values: NDArray[Any], radius: int) -> DoubleArray:
    """Sum over the (2·radius+1)² window, cut off at the borders; ``[H,W,…]`` to float64."""
    out = np.asarray(values, np.float64)
    for axis in (0, 1):
        n = out.shape[axis]
        total = np.cumsum(out, axis=axis)
        total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis=axis)
        i = np.arange(n)
        out = total.take(np.minimum(i + radius + 1, n), axis)
        out -= total.take(np.maximum(i - radius, 0), axis)
    return out


def guided_coefficients(
    guide_hwc: NDArray[Any], values_hw: NDArray[Any], radius: int, epsilon: float
) -> DoubleArray:
    """The guided filter's averaged coefficients, float64 ``[H,W,4]``: the filtered value at a pixel
    is ``coefficients[:3] · guide + coefficients[3]``.

    ``guide_hwc`` ``[H,W,3]`` and ``values_hw`` ``[H,W]`` in 0..1; ``epsilon`` is a variance.
    """
    guide = np.asarray(guide_hwc, np.float64)
    values = np.asarray(values_hw, np.float64)
    count = box_sum(np.ones(values.shape), radius)[..., None]
    mean_i = box_sum(guide, radius) / count  # [H,W,3]
    mean_p = box_sum(values[..., None], radius) / count  # [H,W,1]
    covariance = box_sum(guide * values[..., None], radius) / count - mean_i * mean_p  # [H,W,3]
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    squares = np.stack([guide[..., i] * guide[..., j] for i, j in pairs], axis=-1)
    squares = box_sum(squares, radius) / count
    variance = [
        squares[..., n] - mean_i[..., i] * mean_i[..., j] + (epsilon if i == j else 0.0)
        for n, (i, j) in enumerate(pairs)
    ]
    a = _solve_symmetric(variance, covariance)  # [H,W,3]
    b = mean_p - (a * mean_i).sum(axis=-1, keepdims=True)
    return box_sum(np.concatenate([a, b], axis=-1), radius) / count


def _solve_symmetric(matrix: list[DoubleArray], right: DoubleArray) -> DoubleArray:
    """Solve a symmetric 3×3 system at every pixel; ``matrix`` is its upper triangle by rows."""
    rr, rg, rb, gg, gb, bb = matrix
    # The adjugate: NumPy's batched solver is ten times slower on such small systems.
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * i_rr + rg * i_rg + rb * i_rb  # at least epsilon³
    r, g, b = right[..., 0], right[..., 1], right[..., 2]
    solved = (
        i_rr * r + i_rg * g + i_rb * b,
        i_rg * r + i_gg * g + i_gb * b,
        i_rb * r + i_gb * g + i_bb * b,
    )
    return np.stack([s / determinant for s in solved], axis=-1)


def soft_matte(photo: Photo, mask_hw: NDArray[np.bool_], cell: float) -> NDArray[np.float32]:
    """A matte from a mask: float32 ``[H,W]``, exactly 1 well inside and exactly 0 well outside.

    ``mask_hw`` bool ``[H,W]`` on the photo; ``cell`` is the side in photo pixels of one pixel of
    the network's input, so that the filter knows how coarse the mask is.
    """
    size_hw = mask_hw.shape[0], mask_hw.shape[1]
    factor = max(1, round(max(size_hw) / GUIDE_SIDE))
    parts = []
    for rows in stripes(size_hw, factor):
        guide = photo.rgb_hwc[rows].astype(np.float32) / np.float32(255)
        layers = np.concatenate([guide, mask_hw[rows, :, None].astype(np.float32)], axis=-1)
        parts.append(reduce_mean(layers, factor))
    coarse = np.concatenate(parts)
    radius = max(1, round(RADIUS_CELLS * cell / factor))
    coefficients = guided_coefficients(coarse[..., :3], coarse[..., 3], radius, EPSILON)
    coefficients = coefficients.astype(np.float32)
    matte = np.empty(size_hw, np.float32)
    for rows in stripes(size_hw):
        local = upsample_rows(coefficients, factor, size_hw, rows)
        guide = photo.rgb_hwc[rows].astype(np.float32) / np.float32(255)
        value = np.einsum("hwc,hwc->hw", local[..., :3], guide) + local[..., 3]
        matte[rows] = np.clip((value - SNAP) / (1 - 2 * SNAP), 0, 1)
    return matte


@dataclass(frozen=True, eq=False)
class Matte:
    """A matte with the width of its soft band: ``alpha_hw`` float32 ``[H,W]`` 0..1, ``reach`` in
    photo pixels."""

    alpha_hw: NDArray[np.float32]
    reach: float

    def layers(self, photo: Photo) -> Layers:
        """Foreground and background colours along the edge."""
        from panokit.effects.compose import split_layers

        return split_layers(photo, self.alpha_hw, self.reach)


def cell_of(photo: Photo, result: PanopticResult) -> float:
    """Side in photo pixels of one pixel of the network's input: how coarse the masks are."""
    pairs = zip(photo.size_wh, result.transform.content_wh, strict=True)
    return max(1.0, *(side / content for side, content in pairs))


def dilate(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """The mask widened by ``radius`` pixels each way (a square)."""
    out = mask
    for axis in (0, 1):
        total = np.cumsum(out, axis=axis, dtype=np.int32)
        total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis=axis)
        i, n = np.arange(mask.shape[axis]), mask.shape[axis]
        upper = total.take(np.minimum(i + radius + 1, n), axis)
        out = upper > total.take(np.maximum(i - radius, 0), axis)
    return np.asarray(out)


def matte_of(
    photo: Photo, result: PanopticResult, ids: Sequence[int], quality: str = "fast"
) -> Matte:
    """The matte of some segments together."""
    one_of("quality", quality, ("fast", "best"))
    cell = cell_of(photo, result)
    return Matte(soft_matte(photo, result.mask(*ids), cell), RADIUS_CELLS * cell)


def matte(
    photo: Photo, result: PanopticResult, pick: Pick, *, quality: str = "fast"
) -> EffectResult:
    """The soft matte of the picked objects: ``alpha_hw`` of what comes back; the photo itself is
    unchanged.

    ``quality="fast"`` filters the mask along the photo's own edges; ``"best"`` solves closed-form
    matting (Levin et al. 2008) with PyMatting, extra ``matting``, and takes seconds.
    """
    check_same_photo(photo, result)
    segments = pick.find(result)
    if not segments:
        return unchanged(photo, found_nothing(pick))
    made = matte_of(photo, result, [s.id for s in segments], quality)
    return EffectResult(photo, True, f"The matte of {names_of(segments)}.", made.alpha_hw)
