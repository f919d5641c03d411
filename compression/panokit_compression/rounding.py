"""Weights moved to a grid so that each layer's output changes least.

Rounding every weight to the nearest step ignores that inputs are correlated and seldom zero on
average, and in a mobile network that costs more than all activation quantization together. Here
the weights of an output channel are rounded one after the other, and each error is passed on to
the weights still to come by the inputs' covariance (optimal brain quantization; Frantar et al.,
GPTQ, https://arxiv.org/abs/2210.17323); what the inputs' mean makes of the rest goes into the
bias (Nagel et al., https://arxiv.org/abs/1906.04721). The result is a float file whose weights lie
on the grid that the quantizer will choose, so that its own rounding changes nothing.

Where a covariance says too little (an input that never varies, numbers beyond float32), or passing
errors on helps a channel less than the nearest step, the nearest step is taken.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit._quiet import quiet
from panokit_compression.calibration import CalibrationSet
from panokit_compression.grids import INT8, Fitted, Grid
from panokit_compression.layers import layer_name
from panokit_compression.moments import WeightedLayer, layers_of, uncompensated
from panokit_compression.noted import NotedFile

__all__ = ["GridOf", "round_module", "round_rows", "round_weights"]

log = logging.getLogger(__name__)

REFITS = 2
# Shares of the mean variance that are added to every input's own, so that inputs that are dead or
# say the same do not make the covariance singular: the first that lets it be factored is taken.
DAMPINGS = (0.01, 0.1, 1.0, 10.0)
STILL = 1e-12  # the variance that inputs which never vary count with
MAX_TAPS = 8192  # inputs of one output number; their covariance takes the square of it

Floats = NDArray[np.float64]
GridOf = Callable[[tuple[int, ...]], Grid | None]


def round_weights(
    float_tflite: bytes, calibration: CalibrationSet, grid_of: GridOf = lambda shape: INT8
) -> NotedFile:
    """The float file with the weights of its layers on a grid, symmetric int8 by default.

    ``float_tflite`` is the content of a float file with one input ``[1,H,W,3]`` of the
    calibration images' size. ``grid_of`` takes the shape of a layer's weights,
    ``[out,in/groups,kh,kw]`` or ``[out,in]``, and returns its grid or None. Layers without a grid
    stay as they are, and so do those that no moments are measured of. Notes say which layers were
    rounded to the nearest value instead, and why.
    """
    content = bytearray(float_tflite)
    layers = [
        layer for layer in layers_of(content) if grid_of(_torch_layout(layer).shape) is not None
    ]
    notes = [f"{name}: {reason}" for name, reason in uncompensated(float_tflite).items()]
    small = [layer for layer in layers if layer.taps <= MAX_TAPS]
    _observe(float_tflite, small, calibration)
    done: set[int] = set()
    for layer in layers:
        grid = grid_of(_torch_layout(layer).shape)
        if grid is None or id(layer.moments) in done:  # two operators may share their weights
            continue
        done.add(id(layer.moments))
        if (reason := _round(layer, grid)) is not None:
            notes.append(f"{layer_name(layer.name)}: {reason}")
    log.debug("rounded %d layers over %d inputs", len(layers), len(calibration))
    return NotedFile(bytes(content), tuple(f"rounded to the nearest step: {n}" for n in notes))


def _observe(float_tflite: bytes, layers: list[WeightedLayer], calibration: CalibrationSet) -> None:
    """Measure the moments of the layers' inputs."""
    interpreter = _interpreter(float_tflite)
    input_index = interpreter.get_input_details()[0]["index"]
    for x in calibration.inputs():
        interpreter.set_tensor(input_index, x)
        interpreter.invoke()
        for layer in layers:
            layer.observe(interpreter.get_tensor(layer.input_index))


def _round(layer: WeightedLayer, grid: Grid) -> str | None:
    """Replace weights and bias by the rounded ones, in place. Why they were not, if not."""
    if layer.taps > MAX_TAPS:
        return f"it sums {layer.taps} inputs, more than the {MAX_TAPS} that are weighed"
    moments = layer.moments
    if not moments.finite:
        return "its inputs hold numbers that are not finite"
    if not np.isfinite(layer.weight).all():
        return "its weights hold numbers that are not finite"
    covariance = moments.second_moment if layer.bias is None else moments.covariance
    before = layer.rows.astype(np.float64)
    after, failed = _round_rows(before, covariance, grid)
    layer.set_rows(after)
    if layer.bias is not None:
        shift = np.einsum("grt,gt->gr", after - before, moments.mean).reshape(-1)
        layer.bias -= shift.astype(np.float32)
    if not failed:
        return None
    part = "" if failed == len(before) else f" in {failed} of its {len(before)} groups"
    return f"the covariance of its inputs cannot be factored{part}"


def round_module(
    module: nn.Module,
    float_tflite: bytes,
    calibration: CalibrationSet,
    grid_of: GridOf = lambda shape: INT8,
) -> tuple[nn.Module, int]:
    """A copy of ``module`` with its layers rounded as :func:`round_weights` does, and how many were
    found; ``float_tflite`` is the file converted from it.

    For formats whose tools round to the nearest value themselves. A layer is found in the file by
    its weights, so one that the converter changed (a batch norm that was not folded before) stays
    as it is.
    """
    before = layers_of(bytearray(float_tflite))
    after = layers_of(bytearray(round_weights(float_tflite, calibration, grid_of).content))
    changed = copy.deepcopy(module)
    rounded = 0
    open_ = list(zip(before, after, strict=True))
    for layer in (m for m in changed.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        ours = layer.weight.detach().numpy()
        for pair in open_:
            theirs = _torch_layout(pair[0])
            if theirs.shape == ours.shape and np.allclose(theirs, ours, rtol=1e-5, atol=1e-9):
                _copy_rounded(layer, *pair)
                open_ = [p for p in open_ if p is not pair]
                rounded += 1
                break
    log.debug("rounded %d of %d layers of the module", rounded, len(before))
    return changed, rounded


@torch.no_grad()
def _copy_rounded(
    layer: nn.Conv2d | nn.Linear, before: WeightedLayer, after: WeightedLayer
) -> None:
    layer.weight.copy_(torch.from_numpy(_torch_layout(after).copy()))
    if layer.bias is not None and before.bias is not None and after.bias is not None:
        layer.bias.add_(torch.from_numpy(after.bias - before.bias))


def _torch_layout(layer: WeightedLayer) -> NDArray[np.float32]:
    """``[out,in/groups,kh,kw]``, or ``[out,in]``."""
    if layer.weight.ndim == 2:
        return layer.weight
    axes = (3, 0, 1, 2) if layer.depthwise else (0, 3, 1, 2)
    return np.ascontiguousarray(layer.weight.transpose(axes))


def round_rows(rows: Floats, covariance: Floats, grid: Grid = INT8) -> Floats:
    """Round ``rows`` ``[groups,rows,taps]`` to ``grid``, given ``covariance`` ``[groups,t,t]``.

    A grid that can move (a palette) is fitted again to what was chosen, and chosen from once more.
    """
    return _round_rows(rows, covariance, grid)[0]


def _round_rows(rows: Floats, covariance: Floats, grid: Grid) -> tuple[Floats, int]:
    """Also how many groups went to the nearest value, because nothing made them factor."""
    mean = np.einsum("gtt->g", covariance)[:, None, None] / rows.shape[2]
    # In units of a group's own mean variance, so that damping is as strong for a gate that hardly
    # moves as for any other. Inputs that never vary are left to themselves.
    unit = np.where(mean > 0, mean, STILL)
    scaled = np.where(mean > 0, covariance / unit, np.eye(rows.shape[2]))
    variance = np.maximum(np.einsum("gtt->gt", scaled), 0)
    # Weights go in order of falling input variance: the heavy ones first, while there is still
    # something left to make up for them.
    order = np.argsort(-variance, axis=1, kind="stable")  # [groups,taps]
    damped, upper, failed = _factored(scaled, order)
    fitted = grid.fit(rows, (variance + DAMPINGS[0]) * unit[:, :, 0])
    rounded = _compensated(rows, order, upper, fitted)
    for _ in range(REFITS):
        moved = fitted.refit(rows, rounded, damped * unit)
        if moved is None:
            break
        fitted, rounded = moved, _compensated(rows, order, upper, moved)
    rounded, nearest = fitted.finish(rounded), fitted.finish(fitted.nearest(rows))
    better = _error(rounded - rows, damped) <= _error(nearest - rows, damped)  # [groups,rows]
    return np.where(better[:, :, None], rounded, nearest), failed


def _factored(covariance: Floats, order: NDArray[np.intp]) -> tuple[Floats, Floats, int]:
    """``covariance`` with as much damping as lets it be factored, the upper Cholesky factor of the
    inverse (taps in ``order``), and how many groups none is enough for: their errors go nowhere.

    Row i of the factor says how an error at i is made up by i+1….
    """
    groups, taps = order.shape
    identity = np.eye(taps)
    damped = covariance + DAMPINGS[0] * identity
    upper = np.broadcast_to(identity, covariance.shape).copy()
    open_ = np.arange(groups)
    for damping in DAMPINGS:
        tried = covariance[open_] + damping * identity
        at = order[open_]
        group = np.arange(len(open_))[:, None, None]
        ordered = torch.from_numpy(tried[group, at[:, :, None], at[:, None, :]])
        inverse, singular = torch.linalg.inv_ex(ordered)
        factor, bad = torch.linalg.cholesky_ex(inverse, upper=True)
        fine = ((singular == 0) & (bad == 0)).numpy() & np.isfinite(factor.numpy()).all((1, 2))
        damped[open_[fine]], upper[open_[fine]] = tried[fine], factor.numpy()[fine]
        open_ = open_[~fine]
        if not len(open_):
            break
    damped[open_] = identity
    return damped, upper, len(open_)


def _error(change: Floats, covariance: Floats) -> Floats:
    """What a ``change`` of weights ``[groups,rows,taps]`` does to the mean square of the output,
    ``[groups,rows]``."""
    found: Floats = (change @ covariance * change).sum(-1)
    return found


def _compensated(rows: Floats, order: NDArray[np.intp], upper: Floats, fitted: Fitted) -> Floats:
    """``rows`` on the grid, tap by tap in ``order``, each error passed on by ``upper``."""
    w = np.take_along_axis(rows, order[:, None, :], 2).copy()
    rounded = np.empty_like(w)
    for i in range(rows.shape[2]):
        rounded[:, :, i] = fitted.nearest(w[:, :, i])
        error = (w[:, :, i] - rounded[:, :, i]) / upper[:, None, i, i]
        w[:, :, i + 1 :] -= error[:, :, None] * upper[:, None, i, i + 1 :]
    out = np.empty_like(rounded)
    np.put_along_axis(out, order[:, None, :].repeat(rows.shape[1], 1), rounded, 2)
    return out


def _interpreter(tflite: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with quiet(log):  # it warns that keeping all tensors takes memory: that is the purpose
        interpreter = Interpreter(
            model_content=tflite, num_threads=1, experimental_preserve_all_tensors=True
        )
    interpreter.allocate_tensors()
    return interpreter
