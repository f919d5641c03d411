"""Weights moved to a grid so that each layer's output changes least.

Rounding every weight to the nearest step ignores that inputs are correlated and seldom zero on
average, and in a mobile network that costs more than all activation quantization together. Here
the weights of an output channel are rounded one after the other, and each error is passed on to
the weights still to come by the inputs' covariance (optimal brain quantization; Frantar et al.,
GPTQ, https://arxiv.org/abs/2210.17323); what the inputs' mean makes of the rest goes into the
bias (Nagel et al., https://arxiv.org/abs/1906.04721). The result is a float file whose weights lie
on the grid that the quantizer will choose, so that its own rounding changes nothing.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit._quiet import quiet
from panokit.tflite.read import PADDING_SAME, TfliteSubgraph, read_tflite
from panokit_compression.calibration import CalibrationSet
from panokit_compression.grids import INT8, Fitted, Grid

__all__ = ["GridOf", "layers_of", "round_module", "round_weights"]

log = logging.getLogger(__name__)

STEPS = INT8.levels  # symmetric int8: -127..127
REFITS = 2
DAMPING = 0.01  # of the mean variance, so that dead inputs do not make the covariance singular
# Positions looked at per photo and layer; neighbours say much the same.
DENSE_POSITIONS = 256
DEPTHWISE_POSITIONS = 64

Floats = NDArray[np.float64]
GridOf = Callable[[tuple[int, ...]], Grid | None]


@dataclass
class _Layer:
    """A convolution: where its constants lie, its geometry, and the moments of its inputs.

    ``weight`` float32 view ``[out,kh,kw,in]``, depthwise ``[1,kh,kw,C]``; ``bias`` view ``[out]``.
    The moments are over ``groups`` × ``taps``: one group for a dense layer, C for a depthwise one.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    input_index: int
    input_name: str
    depthwise: bool
    same: bool
    stride: tuple[int, int]
    dilation: tuple[int, int]
    count: int = 0
    total: Floats | None = None  # [groups,taps]
    second: Floats | None = None  # [groups,taps,taps]

    def observe(self, x: NDArray[np.float32]) -> None:
        """Add one input ``[H,W,C]`` to the moments."""
        limit = DEPTHWISE_POSITIONS if self.depthwise else DENSE_POSITIONS
        patches = self._patches(x, limit)  # [P,kh·kw,C]
        sums = patches.sum(0, dtype=np.float32).astype(np.float64)  # [kh·kw,C]
        if self.depthwise:
            grouped = torch.from_numpy(patches).permute(2, 1, 0).contiguous()  # [C,taps,P]
            total = np.ascontiguousarray(sums.T)
        else:
            grouped = torch.from_numpy(patches.reshape(len(patches), -1).T)[None]  # [1,taps,P]
            total = sums.reshape(1, -1)
        second = (grouped @ grouped.transpose(1, 2)).numpy()
        if self.total is None or self.second is None:
            self.total, self.second = total, second.astype(np.float64)
        else:
            self.total += total
            self.second += second
        self.count += len(patches)

    def _patches(self, x: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
        (h, w), (kh, kw) = x.shape[:2], self.weight.shape[1:3]
        (sy, sx), (dy, dx) = self.stride, self.dilation
        span_y, span_x = dy * (kh - 1) + 1, dx * (kw - 1) + 1
        if self.same:
            out_h, out_w = -(-h // sy), -(-w // sx)
            pad_y = max(0, (out_h - 1) * sy + span_y - h)
            pad_x = max(0, (out_w - 1) * sx + span_x - w)
            before_y, before_x = pad_y // 2, pad_x // 2
            pads = ((before_y, pad_y - before_y), (before_x, pad_x - before_x), (0, 0))
            x = np.pad(x, pads) if pad_y or pad_x else x
        else:
            out_h, out_w = (h - span_y) // sy + 1, (w - span_x) // sx + 1
        at = np.linspace(0, out_h * out_w - 1, min(limit, out_h * out_w)).astype(np.intp)
        rows, cols = at // out_w * sy, at % out_w * sx
        taps = [x[rows + i * dy, cols + j * dx] for i in range(kh) for j in range(kw)]
        return np.stack(taps, 1)

    def round(self, grid: Grid) -> None:
        """Replace weights and bias by the rounded ones, in place."""
        if self.total is None or self.second is None:
            return
        mean = self.total / self.count  # [groups,taps]
        covariance = self.second / self.count - mean[:, :, None] * mean[:, None, :]
        kh, kw, channels = self.weight.shape[1:]
        if self.depthwise:
            rows = self.weight.reshape(kh * kw, channels).T[:, None]  # [C,1,taps]
        else:
            rows = self.weight.reshape(1, len(self.weight), -1)  # [1,out,taps]
        before = rows.astype(np.float64)
        after = round_rows(before, covariance, grid)
        shift = np.einsum("grt,gt->gr", after - before, mean).reshape(-1)
        if self.depthwise:
            self.weight[...] = after[:, 0].T.reshape(self.weight.shape)
        else:
            self.weight[...] = after.reshape(self.weight.shape)
        self.bias -= shift.astype(np.float32)


def round_weights(
    float_tflite: bytes, calibration: CalibrationSet, grid_of: GridOf = lambda shape: INT8
) -> bytes:
    """The float file with the weights of all convolutions on a grid, symmetric int8 by default.

    ``float_tflite`` is the content of a float file with one input ``[1,H,W,3]`` of the
    calibration images' size. ``grid_of`` takes the shape of a convolution's weights,
    ``[out,in/groups,kh,kw]``, and returns its grid or None. Layers without a grid or a bias stay as
    they are.
    """
    content = bytearray(float_tflite)
    layers = layers_of(content)
    interpreter = _interpreter(float_tflite)
    input_index = interpreter.get_input_details()[0]["index"]
    for x in calibration.inputs():
        interpreter.set_tensor(input_index, x)
        interpreter.invoke()
        for layer in layers:
            layer.observe(interpreter.get_tensor(layer.input_index)[0])
    for layer in layers:
        if (grid := grid_of(_torch_layout(layer).shape)) is not None:
            layer.round(grid)
    log.debug("rounded %d convolutions over %d inputs", len(layers), len(calibration))
    return bytes(content)


def round_module(
    module: nn.Module,
    float_tflite: bytes,
    calibration: CalibrationSet,
    grid_of: GridOf = lambda shape: INT8,
) -> tuple[nn.Module, int]:
    """A copy of ``module`` with its convolutions rounded as :func:`round_weights` does, and how
    many were found; ``float_tflite`` is the file converted from it.

    For formats whose tools round to the nearest value themselves. A convolution is
    found in the file by its weights, so one that the converter changed (a batch norm that was not
    folded before) stays as it is.
    """
    before = layers_of(bytearray(float_tflite))
    after = layers_of(bytearray(round_weights(float_tflite, calibration, grid_of)))
    changed = copy.deepcopy(module)
    rounded = 0
    open_ = list(zip(before, after, strict=True))
    for conv in (m for m in changed.modules() if isinstance(m, nn.Conv2d)):
        ours = conv.weight.detach().numpy()
        for pair in open_:
            theirs = _torch_layout(pair[0])
            if theirs.shape == ours.shape and np.allclose(theirs, ours, rtol=1e-5, atol=1e-9):
                with torch.no_grad():
                    conv.weight.copy_(torch.from_numpy(_torch_layout(pair[1]).copy()))
                    if conv.bias is not None:
                        shift = pair[1].bias - pair[0].bias
                        conv.bias.add_(torch.from_numpy(shift.copy()))
                open_ = [p for p in open_ if p is not pair]
                rounded += 1
                break
    log.debug("rounded %d of %d convolutions of the module", rounded, len(before))
    return changed, rounded


def _torch_layout(layer: _Layer) -> NDArray[np.float32]:
    """``[out,in/groups,kh,kw]``."""
    axes = (3, 0, 1, 2) if layer.depthwise else (0, 3, 1, 2)
    return np.ascontiguousarray(layer.weight.transpose(axes))


def round_rows(rows: Floats, covariance: Floats, grid: Grid = INT8) -> Floats:
    """Round ``rows`` ``[groups,rows,taps]`` to ``grid``, given ``covariance`` ``[groups,t,t]``.

    A grid that can move (a palette) is fitted again to what was chosen, and chosen from once more.
    """
    variance = np.einsum("gtt->gt", covariance)
    damping = DAMPING * variance.mean(1) + 1e-12
    damped = covariance + damping[:, None, None] * np.eye(rows.shape[2])
    # Weights go in order of falling input variance: the heavy ones first, while there is still
    # something left to make up for them.
    order = np.argsort(-np.einsum("gtt->gt", damped), axis=1, kind="stable")  # [groups,taps]
    group = np.arange(len(rows))
    ordered = damped[group[:, None, None], order[:, :, None], order[:, None, :]]
    # Row i of the upper Cholesky factor of the inverse says how an error at i is made up by i+1….
    upper = torch.linalg.cholesky(torch.linalg.inv(torch.from_numpy(ordered)), upper=True).numpy()
    fitted = grid.fit(rows, variance + damping[:, None])
    rounded = _compensated(rows, order, upper, fitted)
    for _ in range(REFITS):
        moved = fitted.refit(rows, rounded, damped)
        if moved is None:
            break
        fitted, rounded = moved, _compensated(rows, order, upper, moved)
    return fitted.finish(rounded)


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


def layers_of(content: bytearray) -> list[_Layer]:
    """The convolutions of a file; the arrays are views that write through to ``content``."""
    graph = read_tflite(content).main
    layers: list[_Layer] = []
    for operator in graph.operators:
        if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D") or len(operator.inputs) < 3:
            continue
        image, *constants = operator.inputs[:3]
        weight, bias = (_constant(graph, index) for index in constants)
        if weight is None or bias is None:
            continue
        options = operator.options
        layers.append(
            _Layer(
                weight=weight,
                bias=bias,
                input_index=image,
                input_name=graph.tensors[image].name,
                depthwise=operator.name == "DEPTHWISE_CONV_2D",
                same=options["padding"] == PADDING_SAME,
                stride=(options["stride_h"], options["stride_w"]),
                dilation=(options["dilation_h"], options["dilation_w"]),
            )
        )
    return layers


def _constant(graph: TfliteSubgraph, index: int) -> NDArray[np.float32] | None:
    """The values of a constant; None for a tensor that is computed or left out (-1)."""
    if index < 0:
        return None
    tensor = graph.tensors[index]
    return None if tensor.data is None else tensor.data.view(np.float32).reshape(tensor.shape)
