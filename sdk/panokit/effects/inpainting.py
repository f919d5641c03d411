"""Filling a hole with what lies around it: patches of the photo, found coarse to fine.

The completion is the one of Wexler, Shechtman and Irani (CVPR 2004, TPAMI 2007): every pixel of the
hole is the mean of the pixels that the best-matching patches around it propose, in turn with the
search for the patches. The search is PatchMatch (Barnes et al., SIGGRAPH 2009), all pixels at once.
It runs on a small picture; the full photo takes smooth colour from it and fine detail from the
places where the patches were found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panokit.effects._grid import (
    box_sum,
    each_part,
    each_stripe,
    reduce_mean,
    sample_bilinear,
    upsample_rows,
)
from panokit.effects.morphology import dilate
from panokit.photo import Photo, Pixels

__all__ = ["inpaint"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

WORK_CELLS = 20_000
"""About so many cells has the hole on the finest grid that patches are sought on."""

WORK_SIDE = 640
"""That grid's longest side."""

HALF = 3
"""Patches are 7 × 7."""

SMALLEST = 24
"""The coarsest picture's shorter side, at least."""

SEED = 7

DIRECTIONS, ALIKE = 16, 0.03
"""Directions that lines are continued in, and how far (of 1) the colours at both ends of one may be
apart."""

HOLD = 0.6
"""How much of the first guess is kept in the first round on the coarsest grid; then ever less."""

SEAM, STEP = 2, 0.08
"""Cells on both sides of the hole's border whose light is compared, and the step of light (of 1)
from which on it is an edge of the picture."""


def inpaint(
    photo: Photo,
    hole: NDArray[np.bool_],
    avoid: NDArray[np.bool_] | None = None,
    *,
    draft: bool = False,
) -> Photo:
    """The photo with the ``hole`` bool ``[H,W]`` filled; the rest stays bit for bit. Pixels in
    ``avoid`` are not taken as a source, unless nothing else is left. A ``draft`` is filled on a
    quarter of the cells: sooner and coarser."""
    if not hole.any():
        return photo
    window = _window(hole)
    full = photo.pixels_hwc[window]
    own = hole[window]
    barred = own if avoid is None else own | avoid[window]
    if (~barred).mean() < 0.05:
        barred = own
    h, w = own.shape
    most = WORK_CELLS // 4 if draft else WORK_CELLS
    cells = max(1.0, float(np.sqrt(own.sum() / most)), max(h, w) / WORK_SIDE)
    factor = int(np.ceil(cells)) if cells > 1 else 1
    tones = _tones(full, own, factor)
    coarse_hole, coarse_barred = _coarse(own, factor), _coarse(barred, factor)
    filled, offsets = _complete(tones, coarse_hole, coarse_barred)
    filled = _without_seam(filled, coarse_hole)
    out = photo.pixels_hwc.copy()
    _draw(out[window], own, barred, filled, offsets, factor)
    return photo.with_pixels(out)


def _coarse(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Cells that hold any of ``mask``; those that hold nothing else, if that were all cells."""
    share = reduce_mean(mask.astype(np.float32), factor)
    touched = share > 0
    return np.asarray(share >= 1 if touched.all() else touched)


def _window(hole: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part of the photo that matters: the hole and as much again on each side."""
    slices = []
    for axis in (0, 1):
        where = np.nonzero(hole.any(axis=1 - axis))[0]
        low, high = int(where[0]), int(where[-1]) + 1
        around = max(32, high - low)
        slices.append(slice(max(0, low - around), min(hole.shape[axis], high + around)))
    return slices[0], slices[1]


def _tones(full: Pixels, own: NDArray[np.bool_], factor: int) -> FloatArray:
    """Codes 0..1 on the coarse grid, of the pixels outside the hole alone; float32 ``[h,w,3]``."""
    top = np.float32(np.iinfo(full.dtype).max)
    out = np.empty((-(-own.shape[0] // factor), -(-own.shape[1] // factor), 3), np.float32)

    def do(rows: slice) -> None:
        known = (~own[rows]).astype(np.float32)[..., None]
        sums = reduce_mean(np.concatenate([full[rows] / top * known, known], axis=-1), factor)
        part = slice(rows.start // factor, -(-rows.stop // factor))
        out[part] = sums[..., :3] / np.maximum(sums[..., 3:], 1e-6)

    each_stripe(do, (own.shape[0], own.shape[1]), factor)
    return out


@dataclass
class _Level:
    """One picture of the pyramid. ``image`` float32 ``[h,w,3]``; ``hole`` and ``barred`` bool."""

    image: FloatArray
    hole: NDArray[np.bool_]
    barred: NDArray[np.bool_]


def _complete(
    image: FloatArray, hole: NDArray[np.bool_], barred: NDArray[np.bool_]
) -> tuple[FloatArray, IntArray]:
    """The filled picture and, for every pixel, how far away its source lies: ``[h,w,2]`` (dy, dx),
    zeros outside the hole."""
    if not _sources(barred).any():  # no patch to take from: a smooth filling has to do
        return _diffuse(image, hole), np.zeros((*hole.shape, 2), np.int64)
    levels = [_Level(image, hole, barred)]
    while min(levels[-1].hole.shape) >= 2 * SMALLEST and levels[-1].hole.sum() > 60:
        last = levels[-1]
        known = (~last.hole).astype(np.float32)[..., None]
        sums = reduce_mean(np.concatenate([last.image * known, known], axis=-1), 2)
        coarser = _Level(
            sums[..., :3] / np.maximum(sums[..., 3:], 1e-6),
            reduce_mean(last.hole.astype(np.float32), 2) > 0.5,
            reduce_mean(last.barred.astype(np.float32), 2) > 0,
        )
        if not _sources(coarser.barred).any():
            break
        levels.append(coarser)
    rng = np.random.default_rng(SEED)
    guess, offsets = _continued(levels[-1].image, levels[-1].hole), None
    for k, level in enumerate(reversed(levels)):
        if offsets is not None:
            guess, offsets = _grow(guess, offsets, level)
        rounds = max(2, 10 - 2 * k)
        guess, offsets = _solve(level, guess, offsets, rounds, rng, last=level is levels[0])
    return guess, offsets  # type: ignore[return-value]


def _continued(image: FloatArray, hole: NDArray[np.bool_]) -> FloatArray:
    """The hole filled along straight lines: in every direction a pixel lies between two known ones,
    and the more alike those are, and the nearer, the more it takes from them. So a horizon or the
    edge of a wall goes on across the hole, where a smooth filling would blur it."""
    smooth = _diffuse(image, hole)
    y, x = np.nonzero(hole)
    if not len(y):
        return smooth
    total = np.zeros((len(y), 4), np.float32)
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        step = np.array([np.sin(angle), np.cos(angle)])
        step /= np.abs(step).max()
        ends = [_first_known(image, hole, y, x, way * step) for way in (1, -1)]
        (one, far, met), (two, away, also) = ends
        both = met & also
        unlike = ((one - two) ** 2).sum(-1)
        weight = np.where(both, np.exp(-unlike / (2 * ALIKE**2)) / (far + away), 0)
        between = (one * away[:, None] + two * far[:, None]) / (far + away)[:, None]
        total[:, :3] += between * weight[:, None]
        total[:, 3] += weight
    out = smooth.copy()
    got = total[:, 3] > 1e-6
    out[y[got], x[got]] = total[got, :3] / total[got, 3:]
    return out


def _first_known(
    image: FloatArray,
    hole: NDArray[np.bool_],
    y: NDArray[np.intp],
    x: NDArray[np.intp],
    step: NDArray[np.float64],
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """The first known pixel from each of some pixels in a direction: its value, how many steps away
    it lies, and whether there is one."""
    h, w = hole.shape
    value = np.zeros((len(y), 3), np.float32)
    far = np.ones(len(y), np.float32)
    met = np.zeros(len(y), bool)
    todo = np.arange(len(y))
    for n in range(1, max(h, w)):
        py = np.rint(y[todo] + n * step[0]).astype(np.intp)
        px = np.rint(x[todo] + n * step[1]).astype(np.intp)
        inside = (py >= 0) & (py < h) & (px >= 0) & (px < w)
        todo, py, px = todo[inside], py[inside], px[inside]
        known = ~hole[py, px]
        value[todo[known]] = image[py[known], px[known]]
        far[todo[known]], met[todo[known]] = n, True
        todo = todo[~known]
        if not len(todo):
            break
    return value, far, met


def _without_seam(filled: FloatArray, hole: NDArray[np.bool_]) -> FloatArray:
    """The filling with its light brought to that of the surroundings: what differs across the
    hole's border, but for texture and edges, fades into the hole."""
    near = dilate(hole, SEAM + 1) & ~dilate(hole, 1)  # what lies at the rim may be tinged by it
    rim = hole & dilate(~hole, SEAM)
    if not near.any() or not rim.any():
        return filled
    outside, inside = (_local_mean(filled, where, SEAM) for where in (near, rim))
    border = hole & dilate(~hole, 1)
    step = np.where(border[..., None], outside - inside, 0)
    weight = np.exp(-((step / STEP) ** 2).sum(-1, keepdims=True)) * border[..., None]
    fields = np.concatenate([step * weight, weight], -1, dtype=np.float32)
    out = filled.copy()
    total = np.zeros_like(fields)
    radius = SEAM
    while radius < max(hole.shape):
        share = box_sum(fields, radius) / (2 * radius + 1) ** 2
        total += (share / (4.0 * radius)).astype(np.float32)
        radius *= 2
    change = total[..., :3] / np.maximum(total[..., 3:], 1e-9)
    out[hole] = np.clip(filled[hole] + change[hole], 0, 1)
    return out


def _local_mean(values: FloatArray, where: NDArray[np.bool_], radius: int) -> FloatArray:
    """The mean around each cell of the values in ``where`` alone."""
    weight = where.astype(np.float32)[..., None]
    sums = box_sum(np.concatenate([values * weight, weight], -1), 2 * radius)
    return np.asarray(sums[..., :3] / np.maximum(sums[..., 3:], 1e-6), np.float32)


def _diffuse(image: FloatArray, hole: NDArray[np.bool_]) -> FloatArray:
    """The hole filled smoothly: means of ever larger cells."""
    known = (~hole).astype(np.float32)[..., None]
    levels = [np.concatenate([image * known, known], axis=-1)]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(reduce_mean(levels[-1], 2))
    value = levels[-1][..., :3] / np.maximum(levels[-1][..., 3:], 1e-6)
    for level in reversed(levels[:-1]):
        h, w = level.shape[:2]
        rows, cols = (np.arange(n) for n in (h, w))
        y, x = np.repeat(rows, w), np.tile(cols, h)
        up = sample_bilinear(value, 2, y, x).reshape(h, w, 3)
        weight = level[..., 3:]
        value = np.where(weight > 0, level[..., :3] / np.maximum(weight, 1e-6), up)
    return np.asarray(value, np.float32)


def _grow(guess: FloatArray, offsets: IntArray, level: _Level) -> tuple[FloatArray, IntArray]:
    """Guess and offsets of the level below, from those of the coarser one."""
    h, w = level.hole.shape
    grown = np.repeat(np.repeat(offsets * 2, 2, 0), 2, 1)[:h, :w]
    y, x = np.nonzero(level.hole)
    out = level.image.copy()
    out[y, x] = sample_bilinear(guess, 2, y, x)
    return out, grown


def _solve(
    level: _Level,
    guess: FloatArray,
    offsets: IntArray | None,
    rounds: int,
    rng: np.random.Generator,
    *,
    last: bool,
) -> tuple[FloatArray, IntArray]:
    """Search and vote in turn."""
    search = _Search(level, offsets, rng)
    first = guess
    for r in range(rounds):
        search.improve(guess, propagations=2 if r else 3)
        guess = search.vote(guess, sharp=r >= rounds - 1 and last)
        if offsets is None:  # the first guess holds on for a while: it knows how lines go on
            hold = np.float32(HOLD * max(0.0, 1 - (r + 1) / (rounds - 1)))
            guess = (1 - hold) * guess + hold * first
    return guess, search.offsets()


def _inside(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels whose patch lies wholly inside the picture."""
    inside = np.zeros(shape, bool)
    inside[HALF : shape[0] - HALF, HALF : shape[1] - HALF] = True
    return inside


def _sources(barred: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where patches may be taken: whole ones outside what is barred, or else those whose centre
    is; there may be none."""
    inside = _inside(barred.shape)
    whole = inside & ~dilate(barred, HALF)
    return whole if whole.any() else inside & ~barred


class _Search:
    """Nearest patches of the patches that touch the hole."""

    def __init__(self, level: _Level, offsets: IntArray | None, rng: np.random.Generator) -> None:
        self.level, self.rng = level, rng
        h, w = level.hole.shape
        inside = _inside(level.hole.shape)
        self.allowed = _sources(level.barred)
        self.sources = np.flatnonzero(self.allowed)
        self.target = dilate(level.hole, HALF) & inside
        self.rows, self.cols = np.nonzero(self.target)
        self.index = np.full((h, w), -1, np.int64)
        self.index[self.rows, self.cols] = np.arange(len(self.rows))
        dy, dx = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
        self.steps = (dy * w + dx).ravel()
        self.taps = list(zip(dy.ravel().tolist(), dx.ravel().tolist(), strict=True))
        self.width = w
        # Known pixels of a patch say more than guessed ones.
        self.trust = np.where(level.hole, np.float32(0.6), np.float32(1.3)).ravel()
        self.best = self._first(offsets)

    def _first(self, offsets: IntArray | None) -> IntArray:
        """Flat index of the first source of every target."""
        random = self.rng.choice(self.sources, len(self.rows))
        if offsets is None:
            return random
        h, w = self.level.hole.shape
        off = offsets[self.rows, self.cols]
        y, x = np.clip(self.rows + off[:, 0], 0, h - 1), np.clip(self.cols + off[:, 1], 0, w - 1)
        good = self.allowed[y, x] & (off != 0).any(axis=1)
        return np.where(good, y * w + x, random)

    def _cost(self, where: IntArray, sources: IntArray) -> FloatArray:
        """Weighted squared difference of patches; ``where`` indexes the targets."""
        out = np.empty(len(where), np.float32)

        def do(part: slice) -> None:
            at = where[part]
            theirs = self.flat.take(sources[part, None] + self.steps, axis=0)
            theirs = theirs.reshape(len(at), -1)  # [n,49·3]
            theirs -= self.mine[at]
            theirs *= theirs
            np.einsum("np,np->n", theirs, self.weights[at], out=out[part])

        each_part(do, len(where), 2000)
        return out

    def improve(self, guess: FloatArray, propagations: int) -> None:
        """One round of PatchMatch, all targets at once."""
        h, w = self.level.hole.shape
        self.flat = np.ascontiguousarray(guess.reshape(-1, 3))
        center = self.rows * w + self.cols
        patches = center[:, None] + self.steps
        self.mine = self.flat.take(patches, axis=0).reshape(len(center), -1)
        self.weights = np.repeat(self.trust.take(patches), 3, axis=1)
        everyone = np.arange(len(center))
        self.cost = self._cost(everyone, self.best)
        for n in range(propagations):
            jump = 1 if n % 2 == 0 else 4
            for dy, dx in ((0, jump), (jump, 0), (0, -jump), (-jump, 0)):
                self._propagate(dy, dx)
        reach = max(h, w) / 2
        while reach >= 1:
            self._jitter(everyone, reach)
            reach /= 4

    def _propagate(self, dy: int, dx: int) -> None:
        h, w = self.level.hole.shape
        y, x = self.rows - dy, self.cols - dx
        inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
        neighbour = np.where(inside, self.index[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)], -1)
        has = np.nonzero(neighbour >= 0)[0]
        from_ = self.best[neighbour[has]]
        self._offer(has, from_ // w + dy, from_ % w + dx)

    def _jitter(self, everyone: IntArray, reach: float) -> None:
        w = self.width
        shift = self.rng.uniform(-reach, reach, (len(everyone), 2)).round().astype(np.int64)
        self._offer(everyone, self.best // w + shift[:, 0], self.best % w + shift[:, 1])

    def _offer(self, where: IntArray, y: IntArray, x: IntArray) -> None:
        """Try sources (row, column) for some targets; keep the better ones."""
        h, w = self.level.hole.shape
        fits = (y >= 0) & (y < h) & (x >= 0) & (x < w)
        fits &= self.allowed[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)]
        sources = y * w + x
        fits &= sources != self.best[where]
        where, sources = where[fits], sources[fits]
        if not len(where):
            return
        cost = self._cost(where, sources)
        better = cost < self.cost[where]
        self.best[where[better]] = sources[better]
        self.cost[where[better]] = cost[better]

    def vote(self, guess: FloatArray, *, sharp: bool) -> FloatArray:
        """Every pixel of the hole becomes the mean of what the patches over it propose, good
        matches first; ``sharp`` takes what the patch around the pixel itself proposes most."""
        y, x = np.nonzero(self.level.hole)
        sigma = np.quantile(self.cost, 0.75) + 1e-6
        weight = np.exp(-self.cost / sigma).astype(np.float32) + np.float32(1e-4)
        total = np.zeros((len(y), 4), np.float32)
        each_part(lambda part: self._collect(y[part], x[part], weight, total[part], sharp), len(y))
        out = guess.copy()
        got = total[:, 3] > 0
        out[y[got], x[got]] = total[got, :3] / total[got, 3:]
        return out

    def _collect(
        self, y: IntArray, x: IntArray, weight: FloatArray, total: FloatArray, sharp: bool
    ) -> None:
        """Add to ``total`` ``[n,4]`` what the patches over some pixels propose, and its weight."""
        h, w = self.level.hole.shape
        for dy, dx in self.taps:
            if sharp and abs(dy) + abs(dx) > 2:
                continue
            py, px = y - dy, x - dx
            ok = (py >= 0) & (py < h) & (px >= 0) & (px < w)
            near = np.where(ok, self.index[np.clip(py, 0, h - 1), np.clip(px, 0, w - 1)], -1)
            has = np.nonzero(near >= 0)[0]
            who = near[has]
            share = weight[who] * np.float32(np.exp(-(dy * dy + dx * dx) / 8.0))
            total[has, :3] += self.flat[self.best[who] + dy * w + dx] * share[:, None]
            total[has, 3] += share

    def offsets(self) -> IntArray:
        """How far each pixel's source lies, ``[h,w,2]``; zeros where there is none."""
        h, w = self.level.hole.shape
        out = np.zeros((h, w, 2), np.int64)
        out[self.rows, self.cols, 0] = self.best // w - self.rows
        out[self.rows, self.cols, 1] = self.best % w - self.cols
        return out


def _draw(
    full: Pixels,
    own: NDArray[np.bool_],
    barred: NDArray[np.bool_],
    filled: FloatArray,
    offsets: IntArray,
    factor: int,
) -> None:
    """Fill the hole at full size, in place: smooth colour of the coarse picture plus the fine
    detail at the pixel's source (its code less the coarse picture there)."""
    top = np.float32(np.iinfo(full.dtype).max)
    h, w = own.shape
    detail = np.zeros(full.shape, np.int16 if full.dtype == np.uint8 else np.int32)

    def find_detail(rows: slice) -> None:
        smooth = upsample_rows(filled, factor, (h, w), rows) * top
        detail[rows] = full[rows] - smooth

    def fill(rows: slice) -> None:
        y, x = np.nonzero(own[rows])
        if not len(y):
            return
        y += rows.start
        value = sample_bilinear(filled, factor, y, x) * top
        if factor > 1:
            value += _borrowed(detail, barred, offsets, factor, y, x)
        full[y, x] = np.clip(value + np.float32(0.5), 0, top).astype(full.dtype)

    if factor > 1:
        each_stripe(find_detail, (h, w))
    each_stripe(fill, (h, w))


def _borrowed(
    detail: NDArray[np.integer],
    barred: NDArray[np.bool_],
    offsets: IntArray,
    factor: int,
    y: NDArray[np.intp],
    x: NDArray[np.intp],
) -> FloatArray:
    """Detail for some pixels, float32 ``[n,3]``: the sources of the four cells around each fade
    into one another, or the cells' borders would show."""
    h, w = barred.shape
    total = np.zeros((len(y), 3), np.float32)
    power = np.zeros(len(y), np.float32)
    cell_y, cell_x = (y + 0.5) / factor - 0.5, (x + 0.5) / factor - 0.5
    low_y, low_x = np.floor(cell_y).astype(np.intp), np.floor(cell_x).astype(np.intp)
    part_y, part_x = (cell_y - low_y).astype(np.float32), (cell_x - low_x).astype(np.float32)
    for step_y in (0, 1):
        for step_x in (0, 1):
            cy = np.clip(low_y + step_y, 0, offsets.shape[0] - 1)
            cx = np.clip(low_x + step_x, 0, offsets.shape[1] - 1)
            share = (part_y if step_y else 1 - part_y) * (part_x if step_x else 1 - part_x)
            shift = offsets[cy, cx] * factor
            sy = np.clip(y + shift[:, 0], 0, h - 1)
            sx = np.clip(x + shift[:, 1], 0, w - 1)
            share[barred[sy, sx]] = 0
            total += detail[sy, sx] * share[:, None]
            power += share * share
    # Means of unlike details are weaker than each; this gives their strength back.
    return np.asarray(total / np.sqrt(np.maximum(power, 0.25))[:, None], np.float32)
