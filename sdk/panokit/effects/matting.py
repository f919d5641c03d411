"""From the network's coarse mask to a soft matte that follows the photo's own edges.

The filter is the guided filter (He, Sun, Tang 2010, https://doi.org/10.1007/978-3-642-15549-9_1)
with a colour guide; its linear coefficients are found on a coarser grid and applied to the full
photo ("fast guided filter", https://arxiv.org/abs/1505.00996).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.effects._checks import one_of
from panokit.effects._grid import box_sum, each_stripe, reduce_mean, sample_bilinear, upsample_rows
from panokit.effects.morphology import dilate, erode
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.parameters import about
from panokit.effects.picking import Pick, found_nothing, names_of
from panokit.effects.refining import picked
from panokit.effects.whole import whole_mask
from panokit.errors import MissingExtraError
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = [
    "QUALITY",
    "Matte",
    "cell_of",
    "guided_coefficients",
    "matte",
    "matte_of",
    "soft_matte",
]

_log = logging.getLogger(__name__)

DoubleArray = NDArray[np.float64]
FloatArray = NDArray[np.float32]

QUALITIES = ("draft", "good", "best")
QUALITY = about("How fine the soft edge is; best needs the extra 'matting'.", choices=QUALITIES)
"""Metadata of the field ``quality`` of an edit."""

GUIDE_SIDES = {"draft": 128, "good": 384, "best": 512}
"""Longest side of the grid the coefficients are found on, by quality."""

WIDE_FACTOR = 2
"""The wide filter works on a grid this much coarser still."""

WIDE_CELLS = 10.0
"""Window radius of the wide filter in pixels of the network's input: it must reach beyond hair."""

RADIUS_CELLS = 6.0
"""Window radius of the narrow filter in pixels of the network's input: more than a cell of the
heads, so that the window reaches the true edge wherever the mask can be wrong."""

INNER_CELLS, OUTER_CELLS = 5.0, 12.0
"""So deep inside the mask the matte is 1, and so far outside it is 0, whatever the colours."""

EPSILON = 2e-5
"""Colour variance (guide 0..1) below which the matte is smoothed instead of following the guide."""

BAND_CELLS, HOLD = 2.0, 3e-3
"""The closed-form matte: how far around the soft edge it is solved for, in pixels of the network's
input, and how much it holds there to what the filters found."""

SHIFTS = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.5)
"""What is added to the system's diagonal until it can be factored."""

SNAPS = {"draft": 0.15, "good": 0.15, "best": 0.1}
"""Matte values this near to 0 or 1 become 0 or 1: the filter's faint halo must not show."""

FIRST_SNAP = 0.05
"""The same, after the wide filter."""

BEST_SNAP = 0.03
"""As SNAPS, for the closed-form matte, which has hardly any halo."""


def guided_coefficients(
    guide_hwc: NDArray[Any],
    values_hw: NDArray[Any],
    radius: int,
    epsilon: float,
    averaging: int | None = None,
) -> DoubleArray:
    """The guided filter's averaged coefficients, float64 ``[H,W,4]``: the filtered value at a pixel
    is ``coefficients[:3] · guide + coefficients[3]``.

    ``guide_hwc`` ``[H,W,3]`` and ``values_hw`` ``[H,W]`` in 0..1; ``epsilon`` is a variance;
    ``averaging`` is the radius over which coefficients are averaged (None: ``radius``).
    """
    guide = np.asarray(guide_hwc, np.float64)
    values = np.asarray(values_hw, np.float64)[..., None]
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    squares = np.stack([guide[..., i] * guide[..., j] for i, j in pairs], axis=-1)
    moments = np.concatenate([guide, values, guide * values, squares], axis=-1)  # [H,W,13]
    ones = np.ones((*values.shape[:2], 1))
    moments = box_sum(moments, radius) / box_sum(ones, radius)
    mean_i, mean_p = moments[..., :3], moments[..., 3:4]
    covariance = moments[..., 4:7] - mean_i * mean_p  # [H,W,3]
    variance = [
        moments[..., 7 + n] - mean_i[..., i] * mean_i[..., j] + (epsilon if i == j else 0.0)
        for n, (i, j) in enumerate(pairs)
    ]
    a = _solve_symmetric(variance, covariance)  # [H,W,3]
    b = mean_p - (a * mean_i).sum(axis=-1, keepdims=True)
    averaging = radius if averaging is None else averaging
    return box_sum(np.concatenate([a, b], axis=-1), averaging) / box_sum(ones, averaging)


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


def soft_matte(
    photo: Photo, mask_hw: NDArray[np.bool_], cell: float, quality: str = "good"
) -> FloatArray:
    """A matte from a mask: float32 ``[H,W]``, exactly 1 well inside and exactly 0 well outside.

    ``mask_hw`` bool ``[H,W]`` on the photo; ``cell`` is the side in photo pixels of one pixel of
    the network's input, so that the filter knows how coarse the mask is.

    Two guided filters, one after the other: a wide one that learns from both sides what the object
    looks like, so that hair outside the mask is found; then a narrow one on a finer grid that
    follows the edge.
    """
    size_hw = mask_hw.shape[0], mask_hw.shape[1]
    factor, snap = -(-max(size_hw) // GUIDE_SIDES[quality]), SNAPS[quality]
    coarse = _coarse_guide(photo, mask_hw, factor)
    guide, mask = coarse[..., :3], coarse[..., 3]
    side = cell / factor
    wide = reduce_mean(coarse, WIDE_FACTOR)
    radius = max(1, round(WIDE_CELLS * side / WIDE_FACTOR))
    coefficients = guided_coefficients(
        wide[..., :3], wide[..., 3], radius, EPSILON, max(1, radius // 2)
    )
    rows = slice(0, len(coarse))
    h, w = coarse.shape[:2]
    first = _snap(_apply(upsample_rows(coefficients, WIDE_FACTOR, (h, w), rows), guide), FIRST_SNAP)
    radius = max(1, round(RADIUS_CELLS * side))
    coefficients = guided_coefficients(guide, first, radius, EPSILON, max(1, radius // 2))
    inner, outer = _fences(mask > 0.5, side)
    found = np.clip(_snap(_apply(coefficients, guide), snap), inner, outer)
    if quality == "best":
        coefficients = _closed_form(guide, found, inner, outer, side)
        snap = BEST_SNAP
        found = np.clip(_snap(_apply(coefficients, guide), snap), inner, outer)
    fences = np.stack([inner, outer], axis=-1)
    fields = np.concatenate([coefficients, fences], axis=-1, dtype=np.float32)
    return _refine(photo, fields, found, factor, snap)


def _coarse_guide(photo: Photo, mask_hw: NDArray[np.bool_], factor: int) -> FloatArray:
    """The photo 0..1 and the mask on the coarse grid, float32 ``[h,w,4]``."""
    size_hw = mask_hw.shape[0], mask_hw.shape[1]
    out = np.empty((-(-size_hw[0] // factor), -(-size_hw[1] // factor), 4), np.float32)

    def do(rows: slice) -> None:
        part = slice(rows.start // factor, -(-rows.stop // factor))
        out[part, :, :3] = reduce_mean(photo.rgb_hwc[rows].astype(np.float32), factor)
        out[part, :, 3] = reduce_mean(mask_hw[rows].astype(np.float32), factor)

    each_stripe(do, size_hw, factor)
    out[..., :3] /= 255
    return out


def _fences(mask: NDArray[np.bool_], side: float) -> tuple[FloatArray, FloatArray]:
    """The least and the most the matte may be: deep inside the mask it is 1, far outside 0."""
    inner = erode(mask, max(1, round(INNER_CELLS * side))).astype(np.float32)
    outer = dilate(mask, max(1, round(OUTER_CELLS * side))).astype(np.float32)
    radius = max(1, round(2 * side))
    count = box_sum(np.ones(mask.shape), radius)
    inner, outer = (np.asarray(box_sum(x, radius) / count, np.float32) for x in (inner, outer))
    return np.where(inner > 1 - 1e-6, np.float32(1), inner), outer


def _apply(coefficients: NDArray[Any], guide: NDArray[Any]) -> FloatArray:
    value = np.einsum("...c,...c->...", coefficients[..., :3], guide) + coefficients[..., 3]
    return np.asarray(value, np.float32)


def _snap(value: FloatArray, snap: float) -> FloatArray:
    scaled = (value - np.float32(snap)) / np.float32(1 - 2 * snap)
    return np.asarray(np.clip(scaled, 0, 1), np.float32)


def _refine(
    photo: Photo, fields: FloatArray, found: FloatArray, factor: int, snap: float
) -> FloatArray:
    """The matte at full size: where the coarse one is decided it holds, elsewhere the coefficients
    meet the photo's own pixels. ``fields`` float32 ``[h,w,6]``: coefficients and fences."""
    size_hw = photo.rgb_hwc.shape[0], photo.rgb_hwc.shape[1]
    open_cells = dilate((found > 0.02) & (found < 0.98), 2)
    decided = (found >= 0.5).astype(np.float32)
    if factor == 1:
        open_cells[:] = True
    matte = np.empty(size_hw, np.float32)

    def do(rows: slice) -> None:
        part = slice(rows.start // factor, -(-rows.stop // factor))
        h, w = rows.stop - rows.start, size_hw[1]
        matte[rows] = np.repeat(np.repeat(decided[part], factor, 0), factor, 1)[:h, :w]
        todo = np.repeat(np.repeat(open_cells[part], factor, 0), factor, 1)[:h, :w]
        y, x = np.nonzero(todo)
        y += rows.start
        local = sample_bilinear(fields, factor, y, x)
        value = _apply(local, photo.rgb_hwc[y, x] / np.float32(255))
        matte[y, x] = np.clip(_snap(value, snap), local[:, 4], local[:, 5])

    each_stripe(do, size_hw, factor)
    # What a bilinear fence leaves of a thousandth is no soft edge.
    matte[matte < 2e-3] = 0
    matte[matte > 1 - 2e-3] = 1
    return matte


def _closed_form(
    guide: FloatArray, found: FloatArray, inner: FloatArray, outer: FloatArray, side: float
) -> DoubleArray:
    """Coefficients that carry the closed-form matte of the coarse photo to its full size.

    The matte minimises Levin's cost with two more terms: it is what was found where that is
    decided, and holds a little to it along the edge (:data:`HOLD`). A trimap alone, as the method
    is mostly used with, throws away what the filters found there.
    """
    try:
        from pymatting import cf_laplacian, cg, ichol
        from scipy.sparse import diags
    except ImportError:
        raise MissingExtraError('quality="best"', "matting") from None
    band = dilate((found > 0.05) & (found < 0.95), max(1, round(BAND_CELLS * side)))
    decided = ~band | (inner >= 1) | (outer <= 0)
    solved = found.astype(np.float64)
    if not decided.all():
        weight = np.where(decided, 100.0, HOLD).ravel()
        wanted = np.where(decided, np.round(solved), solved).ravel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                system = cf_laplacian(guide.astype(np.float64), epsilon=1e-6) + diags(weight)
                near = ichol(system.tocsc(), discard_threshold=1e-4, shifts=SHIFTS)
                x = cg(system, weight * wanted, M=near, rtol=1e-6, maxiter=2000)
                solved = np.clip(x, 0, 1).reshape(found.shape)
            except ValueError as error:  # on flat photos its solver may not converge
                _log.warning("closed-form matting gave up (%s); the good matte is used", error)
    return guided_coefficients(guide, solved, 2, 1e-6)


@dataclass(frozen=True, eq=False)
class Matte:
    """A matte with the width of its soft band: ``alpha_hw`` float32 ``[H,W]`` 0..1, ``reach`` in
    photo pixels."""

    alpha_hw: NDArray[np.float32]
    reach: float


def cell_of(photo: Photo, result: PanopticResult) -> float:
    """Side in photo pixels of one pixel of the network's input: how coarse the masks are."""
    pairs = zip(photo.size_wh, result.transform.content_wh, strict=True)
    return max(1.0, *(side / content for side, content in pairs))


def matte_of(
    photo: Photo, result: PanopticResult, ids: Sequence[int], quality: str = "good"
) -> Matte:
    """The matte of some segments together, each whole."""
    one_of("quality", quality, QUALITIES)
    cell = cell_of(photo, result)
    alpha = soft_matte(photo, whole_mask(photo, result, ids), cell, quality)
    if result.steady is not None:
        alpha = result.steady.matte(ids, alpha)
    return Matte(alpha, RADIUS_CELLS * cell)


def matte(
    photo: Photo, result: PanopticResult, pick: Pick, *, quality: str = "good"
) -> EffectResult:
    """The soft matte of the picked objects: ``alpha_hw`` of what comes back; the photo itself is
    unchanged.

    ``quality="good"`` filters the mask along the photo's own edges, ``"draft"`` does so on a
    coarser grid, in a quarter of the time; ``"best"`` solves closed-form matting (Levin et al.
    2008) with PyMatting, extra ``matting``, and takes about a second.
    """
    check_same_photo(photo, result)
    result, segments = picked(photo, result, pick)
    if not segments:
        return unchanged(photo, found_nothing(pick))
    made = matte_of(photo, result, [s.id for s in segments], quality)
    return EffectResult(photo, True, f"The matte of {names_of(segments)}.", made.alpha_hw)
