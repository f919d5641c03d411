"""The layers of a TFLite file with their weights, and the moments of what comes into them.

Compensated rounding asks how the inputs that one output number is summed up from go together: the
taps of a kernel times the channels that its group sees. Each group of channels has moments of its
own; a depthwise layer has as many groups as channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from panokit.tflite.read import PADDING_SAME, TfliteOperator, TfliteSubgraph, read_tflite
from panokit_compression.layers import layer_name

__all__ = ["Moments", "WeightedLayer", "layers_of", "uncompensated"]

# Positions looked at per photo and layer; neighbours say much the same.
DENSE_POSITIONS = 256
DEPTHWISE_POSITIONS = 64

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Moments:
    """First and second moments of inputs ``[groups,taps]``, in float64.

    They are of the distance from ``pivot``, the mean of the first photo: of inputs that hardly
    vary, the squares of the inputs themselves would leave no digit of the variance.
    """

    count: int = 0
    pivot: Floats | None = None  # [groups,taps]
    total: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # [groups,taps]
    second: Floats = field(default_factory=lambda: np.zeros((0, 0, 0)))  # [groups,taps,taps]
    finite: bool = True

    def add(self, samples: NDArray[np.float32]) -> None:
        """Add samples ``[groups,P,taps]``."""
        if not np.isfinite(samples).all():
            self.finite = False
        if not self.finite:
            return
        exact = samples.astype(np.float64)
        if self.pivot is None:
            groups, _, taps = samples.shape
            self.pivot = exact.mean(1)
            self.total, self.second = np.zeros((groups, taps)), np.zeros((groups, taps, taps))
        exact -= self.pivot[:, None]
        self.total += exact.sum(1)
        self.second += exact.transpose(0, 2, 1) @ exact
        self.count += samples.shape[1]

    @property
    def mean(self) -> Floats:
        """``[groups,taps]``."""
        if self.pivot is None:
            return self.total
        return self.pivot + self.total / self.count

    @property
    def covariance(self) -> Floats:
        """``[groups,taps,taps]``."""
        away = self.total / self.count
        return self.second / self.count - away[:, :, None] * away[:, None, :]

    @property
    def second_moment(self) -> Floats:
        """The mean of products, ``[groups,taps,taps]``: what counts where no bias takes up the
        mean."""
        mean = self.mean
        return self.covariance + mean[:, :, None] * mean[:, None, :]


@dataclass(eq=False)
class WeightedLayer:
    """A layer with constant weights: where its constants lie, its geometry, its inputs' moments.

    ``weight`` float32 view ``[out,kh,kw,in/groups]``, depthwise ``[1,kh,kw,out]``, linear
    ``[out,in]``; ``bias`` view ``[out]``, None without one. ``channels`` come in. Operators that
    share their weights share their ``moments``.
    """

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    input_index: int
    input_name: str
    output_name: str
    channels: int
    depthwise: bool = False
    same: bool = False
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    moments: Moments = field(default_factory=Moments)

    @property
    def groups(self) -> int:
        """Groups of input channels that output channels see apart from each other."""
        return self.channels if self.depthwise else self.channels // self.weight.shape[-1]

    @property
    def taps(self) -> int:
        """How many inputs an output number is summed up from."""
        kernel = int(np.prod(self.weight.shape[1:3])) if self.weight.ndim == 4 else 1
        return kernel * self.channels // self.groups

    @property
    def rows(self) -> NDArray[np.float32]:
        """The weights as ``[groups,out/groups,taps]``; a copy."""
        flat = self.weight.reshape(-1, self.weight.shape[-1])
        by_output = flat.T if self.depthwise else self.weight
        return by_output.reshape(self.groups, -1, self.taps).copy()

    def set_rows(self, rows: Floats) -> None:
        """Write weights ``[groups,out/groups,taps]`` in place."""
        by_output = rows.reshape(-1, self.taps)
        values = by_output.T if self.depthwise else by_output
        self.weight[...] = values.reshape(self.weight.shape)

    def observe(self, x: NDArray[np.float32]) -> None:
        """Add one input ``[1,H,W,C]`` (linear ``[...,C]``) to the moments."""
        if self.weight.ndim == 2:
            lines = x.reshape(-1, self.channels)
            at = _spread(len(lines), DENSE_POSITIONS)
            self.moments.add(lines[None, at])
            return
        limit = DEPTHWISE_POSITIONS if self.depthwise else DENSE_POSITIONS
        patches = self._patches(x[0], limit)  # [P,kh·kw,C]
        each = self.channels // self.groups
        grouped = patches.reshape(*patches.shape[:2], self.groups, each)  # [P,kh·kw,G,C/G]
        samples = grouped.transpose(2, 0, 1, 3).reshape(self.groups, len(patches), -1)
        self.moments.add(samples)

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
        at = _spread(out_h * out_w, limit)
        rows, cols = at // out_w * sy, at % out_w * sx
        taps = [x[rows + i * dy, cols + j * dx] for i in range(kh) for j in range(kw)]
        return np.stack(taps, 1)


def _spread(count: int, limit: int) -> NDArray[np.intp]:
    """At most ``limit`` of ``count`` positions, evenly."""
    return np.linspace(0, count - 1, min(limit, count)).astype(np.intp)


def layers_of(content: bytearray) -> list[WeightedLayer]:
    """The convolutions and linear layers of a float file whose weights are constants; the arrays
    are views that write through to ``content``."""
    graph = read_tflite(content).main
    layers: list[WeightedLayer] = []
    moments: dict[int, Moments] = {}
    for operator in graph.operators:
        if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        weight = _constant(graph, operator, 1)
        if weight is None or weight.ndim not in (2, 4):
            continue
        layer = _layer(graph, operator, weight)
        shared = moments.setdefault(weight.__array_interface__["data"][0], layer.moments)
        layer.moments = shared
        layers.append(layer)
    return layers


def _layer(
    graph: TfliteSubgraph, operator: TfliteOperator, weight: NDArray[np.float32]
) -> WeightedLayer:
    image, options = graph.tensors[operator.inputs[0]], operator.options
    bias = _constant(graph, operator, 2)
    linear = operator.name == "FULLY_CONNECTED"
    layer = WeightedLayer(
        name=graph.tensors[operator.inputs[1]].name,
        weight=weight,
        bias=bias,
        input_index=image.index,
        input_name=image.name,
        output_name=graph.tensors[operator.outputs[0]].name,
        channels=weight.shape[1] if linear else image.shape[3],
    )
    if linear:
        return layer
    return replace(
        layer,
        depthwise=operator.name == "DEPTHWISE_CONV_2D",
        same=options["padding"] == PADDING_SAME,
        stride=(options["stride_h"], options["stride_w"]),
        dilation=(options["dilation_h"], options["dilation_w"]),
    )


def uncompensated(tflite: bytes) -> dict[str, str]:
    """The layers whose inputs' moments are not measured, by name, and why."""
    graph = read_tflite(tflite).main
    found: dict[str, str] = {}
    for operator in graph.operators:
        at = {"TRANSPOSE_CONV": 1, "BATCH_MATMUL": 1, "CONV_3D": 1}.get(operator.name)
        if at is not None and graph.tensors[operator.inputs[at]].data is not None:
            name = layer_name(graph.tensors[operator.inputs[at]].name)
            found[name] = f"{operator.name} is not compensated"
    return found


def _constant(
    graph: TfliteSubgraph, operator: TfliteOperator, at: int
) -> NDArray[np.float32] | None:
    """The values of a float constant; None for an input that is computed or left out (-1)."""
    index = operator.inputs[at] if at < len(operator.inputs) else -1
    if index < 0:
        return None
    tensor = graph.tensors[index]
    if tensor.data is None or tensor.dtype != "float32":
        return None
    return tensor.data.view(np.float32).reshape(tensor.shape)
