"""The Core ML interpreter against torch: operators one by one, and our network."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from panokit._quiet import quiet
from panokit.errors import ArgumentError
from panokit_converters.coreml_interpreter import CoreMLProgram
from panokit_network.deploy import fuse
from panokit_network.model import NetworkConfig, PanopticNetwork

log = logging.getLogger(__name__)

# Largest difference to torch, relative to the range of the output.
TOLERANCE = {"FLOAT32": 1e-4, "FLOAT16": 1e-2}


def convert(
    module: nn.Module,
    path: Path,
    shape: tuple[int, ...] = (1, 3, 13, 18),
    precision: str = "FLOAT32",
    target: str = "iOS16",
    compress: Callable[[Any], Any] = lambda model: model,
    **image: Any,
) -> Path:
    """``module`` (one input x, one output y) as a package; with ``image`` given, x is an image."""
    with quiet(log), torch.no_grad():
        import coremltools as ct

        logging.getLogger("coremltools").setLevel(logging.CRITICAL)
        kind = ct.ImageType if image else ct.TensorType
        if image:
            image["color_layout"] = getattr(ct.colorlayout, image["color_layout"])
        model = ct.convert(
            torch.jit.trace(module.eval(), torch.zeros(shape)),
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, target),
            inputs=[kind(name="x", shape=shape, **image)],
            outputs=[ct.TensorType(name="y")],
            compute_precision=getattr(ct.precision, precision),
            skip_model_load=True,
        )
        compress(model).save(str(path))
    return path


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def torch_says(module: nn.Module, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.asarray(module.eval()(torch.from_numpy(x)).numpy())


def difference(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    assert got.shape == wanted.shape
    return float(np.abs(got.astype(np.float64) - wanted).max() / np.ptp(wanted))


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.stem(x)))
        gate = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.excite(gate))


def _resize(**options: Any) -> nn.Module:
    return Function(lambda x: F.interpolate(x, **options))


def _modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    conv = nn.Conv2d
    return {
        "pointwise": conv(3, 8, 1),
        "pointwise_grouped_stride": conv(3, 9, 1, stride=2, groups=3, bias=False),
        "conv_valid": conv(3, 8, 3),
        "conv_custom_pad": conv(3, 8, (3, 5), padding=(1, 2)),
        "conv_stride": conv(3, 8, 3, stride=2, padding=1),
        "conv_uneven": conv(3, 8, (5, 2), stride=(3, 2), padding=(2, 0), dilation=(1, 3)),
        "conv_same": conv(3, 8, 4, padding="same"),
        "conv_dilated": conv(3, 8, 3, padding=2, dilation=2),
        "conv_grouped": nn.Sequential(conv(3, 8, 1), conv(8, 12, 3, groups=4, padding=1)),
        "depthwise": conv(3, 3, 5, padding=2, groups=3),
        "depthwise_stride_dilated": conv(3, 3, 3, stride=2, dilation=2, groups=3),
        "depthwise_multiplier": conv(3, 6, 3, groups=3),
        "pad_then_conv": nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv(3, 8, 3, stride=2)),
        "pad_reflect": nn.ReflectionPad2d((1, 2, 3, 0)),
        "pad_replicate": nn.ReplicationPad2d((1, 2, 3, 0)),
        "clip": Function(lambda x: x.clamp(-0.5, 1)),
        "relu6": nn.Sequential(Function(lambda x: x * 6), nn.ReLU6()),
        "activations": Function(
            lambda x: torch.cat([F.relu(x), F.silu(x), torch.tanh(x), F.leaky_relu(x, 0.1)], 1)
        ),
        "arithmetic": Function(lambda x: (x + 1) * x[:, :1] - x / 3 + x.abs().sqrt()),
        "maximum": Function(lambda x: torch.maximum(x, -x[:, :1]) + torch.minimum(x, x * 2)),
        "sigmoid": nn.Sigmoid(),
        "softmax": nn.Softmax(1),
        "hardswish": nn.Hardswish(),
        "squeeze_excite": SqueezeExcite(),
        "batch_norm_alone": nn.BatchNorm2d(3),
        "max_pool": nn.MaxPool2d(3, 2, padding=1),
        "avg_pool": nn.AvgPool2d(3, 2, padding=1),
        "avg_pool_without_padding": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        "concat": Function(lambda x: torch.cat([x, x * 2, x[:, :1]], 1)),
        "split": Function(lambda x: torch.cat(list(torch.split(x, [1, 2], 1))[::-1], 1)),
        "reshape": Function(lambda x: x.permute(0, 2, 3, 1).reshape(1, 39, 18).unsqueeze(0)),
        "linear": nn.Linear(18, 7),
        "upsample_2": _resize(scale_factor=2, mode="bilinear", align_corners=False),
        "upsample_2_corners": _resize(scale_factor=2, mode="bilinear", align_corners=True),
        "resize_down": _resize(size=(7, 31), mode="bilinear", align_corners=False),
        "resize_corners": _resize(size=(29, 11), mode="bilinear", align_corners=True),
        "nearest": _resize(scale_factor=3, mode="nearest"),
    }


MODULES = _modules()


@pytest.mark.parametrize("name", MODULES)
def test_agrees_with_torch(name: str, tmp_path: Path) -> None:
    program = CoreMLProgram.open(convert(MODULES[name], tmp_path / "net.mlpackage"))
    x = noise((1, 3, 13, 18))
    wanted = torch_says(MODULES[name], x)
    assert difference(program.run({"x": x})["y"], wanted) <= TOLERANCE["FLOAT32"]


@pytest.mark.parametrize(
    "name", ["conv_stride", "depthwise", "squeeze_excite", "resize_down", "linear", "softmax"]
)
def test_float16_is_close_and_rounded(name: str, tmp_path: Path) -> None:
    path = convert(MODULES[name], tmp_path / "net.mlpackage", precision="FLOAT16")
    program = CoreMLProgram.open(path)
    x = noise((1, 3, 13, 18))
    y = program.run({"x": x})["y"]
    assert y.dtype == np.float16
    assert difference(y, torch_says(MODULES[name], x)) <= TOLERANCE["FLOAT16"]


def test_float16_sums_are_kept_in_float32(tmp_path: Path) -> None:
    """4096 ones and one: in float16 4096 + 1 is 4096, so that a float16 sum would stay there."""
    conv = nn.Conv2d(4104, 1, 1, bias=False)
    nn.init.ones_(conv.weight)
    shape = (1, 4104, 1, 2)
    path = convert(conv, tmp_path / "net.mlpackage", shape, precision="FLOAT16")
    y = CoreMLProgram.open(path).run({"x": np.ones(shape, np.float32)})["y"]
    assert y.ravel().tolist() == [4104, 4104]


@pytest.mark.parametrize("layout", ["RGB", "BGR", "GRAYSCALE"])
def test_image_input(layout: str, tmp_path: Path) -> None:
    """x·scale + bias per channel, in the channel order of the program."""
    channels = 1 if layout == "GRAYSCALE" else 3
    bias = [-1.0] if channels == 1 else [-1.0, -2.0, 0.5]
    shape = (1, channels, 4, 6)
    path = convert(
        Function(lambda x: x * 1.5),
        tmp_path / "net.mlpackage",
        shape,
        scale=0.5,
        bias=bias if channels == 3 else bias[0],
        color_layout=layout,
    )
    program = CoreMLProgram.open(path)
    assert program.inputs[0].color == layout.lower()
    photo = np.arange(24 * channels, dtype=np.uint8).reshape(4, 6, channels)
    ordered = photo[:, :, ::-1] if layout == "BGR" else photo
    wanted = ordered.transpose(2, 0, 1)[None] * 0.5 + np.reshape(bias, (1, channels, 1, 1))
    wanted = wanted * 1.5
    given = photo[:, :, 0] if channels == 1 else photo
    y = program.run({"x": given})["y"]
    np.testing.assert_allclose(y, wanted, rtol=1e-6)
    # The tensor the program sees can be given as well.
    tensor = ordered.transpose(2, 0, 1)[None].astype(np.float32)
    np.testing.assert_array_equal(program.run({"x": tensor})["y"], y)


def test_keep_all_and_operators(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    program = CoreMLProgram.open(convert(net, tmp_path / "net.mlpackage"))
    computed = [o for o in program.operators if o.type != "const"]
    assert [o.type for o in computed] == ["conv", "relu", "conv"]
    assert all(o.location == f"main[{i}]" for i, o in enumerate(program.operators))
    assert [(f.name, f.type.element) for f in program.outputs] == [("y", "fp32")]
    x = noise((1, 3, 13, 18))
    kept = program.run({"x": x}, keep="all")
    assert list(kept) == [o.name for o in computed]
    np.testing.assert_array_equal(np.maximum(kept[computed[0].name], 0), kept[computed[1].name])
    np.testing.assert_array_equal(kept["y"], program.run({"x": x})["y"])


def test_wrong_inputs_are_refused(tmp_path: Path) -> None:
    program = CoreMLProgram.open(convert(nn.Conv2d(3, 1, 1), tmp_path / "net.mlpackage"))
    with pytest.raises(ArgumentError, match=r"arrays named \['x'\]"):
        program.run({"image": noise((1, 3, 13, 18))})
    with pytest.raises(ArgumentError, match=r"fp32\[1, 3, 13, 18\]"):
        program.run({"x": noise((1, 3, 13, 17))})
    with pytest.raises(ArgumentError, match="keep"):
        program.run({"x": noise((1, 3, 13, 18))}, keep="some")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_our_network(precision: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = PanopticNetwork(NetworkConfig())
    with torch.no_grad():  # random statistics, so that activations neither vanish nor explode
        network.train()(torch.rand(4, 3, 64, 64) * 255)
    fused = fuse(network.eval())
    heads = Function(lambda x: torch.cat(list(fused(x).values()), 1))
    shape = (1, 3, 64, 64)
    path = convert(heads, tmp_path / "net.mlpackage", shape, precision, color_layout="RGB")
    program = CoreMLProgram.open(path)
    photo = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    wanted = torch_says(heads, photo.transpose(2, 0, 1)[None].astype(np.float32))
    y = program.run({"x": photo})["y"]
    assert difference(y, wanted) <= TOLERANCE[precision]


def test_neither_torch_nor_coremltools_is_needed(tmp_path: Path, root: Path) -> None:
    """The package above brings torch with its converters, so that it is left out here."""
    path = convert(nn.Conv2d(3, 1, 1), tmp_path / "net.mlpackage")
    script = f"""
import sys, types
sys.path[:0] = [{str(root / "sdk")!r}]
parent = types.ModuleType("panokit_converters")
parent.__path__ = [{str(root / "converters" / "panokit_converters")!r}]
sys.modules["panokit_converters"] = parent
for name in ("torch", "coremltools", "google.protobuf"):
    sys.modules[name] = None
import numpy as np
from panokit_converters.coreml_interpreter import CoreMLProgram
program = CoreMLProgram.open({str(path)!r})
assert program.run({{"x": np.ones((1, 3, 13, 18), np.float32)}})["y"].shape == (1, 1, 13, 18)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
