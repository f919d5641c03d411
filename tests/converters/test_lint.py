"""Each rule of the lint finds what it is for, names the place, and is silent without it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from panokit.bundle import Bundle
from panokit.errors import ArgumentError, BundleError
from panokit.photo import Photo
from panokit.tflite.read import read_tflite
from panokit_compression import Recipe, calibration_from_photos, load_recipe, quantize
from panokit_converters.commands.verify import lint
from panokit_converters.lint import Finding, LintReport, Severity, lint_path
from panokit_converters.lint_graph import read_graph
from panokit_converters.tflite.convert import convert_tflite
from tests.converters.test_coreml_interpreter import Function, SqueezeExcite, convert
from tests.toys.artifacts import CONFIG, PHOTOS, SIZE, toy_coreml, toy_tflite
from tests.toys.network import ToyNetwork, toy_photos
from tests.toys.tflite_edit import edit_tflite, flip_align_corners, numbers, operators


def rules(report: LintReport, least: Severity = Severity.WARNING) -> set[str]:
    return {finding.rule for finding in report.at_least(least)}


def find(report: LintReport, rule: str) -> Finding:
    (found,) = (finding for finding in report.findings if finding.rule == rule)
    return found


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


def package(module: nn.Module, folder: Path, shape: tuple[int, ...] = (1, 3, 16, 16)) -> Path:
    return convert(module, folder / "net.mlpackage", shape)


def test_our_own_shapes_hurt_nowhere(tmp_path: Path) -> None:
    assert lint_path(toy_coreml(), PHOTOS).findings == ()
    report = lint_path(toy_coreml(), PHOTOS)
    assert report.photos == 3
    assert report.operators["conv"] == 8


@pytest.fixture(scope="module")
def with_transposes() -> bytes:
    """The toy network as litert-torch alone leaves it: padded in channels-first order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "panokit_converters.tflite.convert.without_transposes", lambda content: content
        )
        return convert_tflite(ToyNetwork().eval(), (SIZE, SIZE))


@pytest.mark.slow
def test_left_over_layout_changes(tmp_path: Path, with_transposes: bytes) -> None:
    report = lint_path(written(tmp_path, with_transposes), PHOTOS)
    assert rules(report) == {"transpose"}
    assert "operator 2 TRANSPOSE" in find(report, "transpose").place
    assert find(report, "pad").severity is Severity.INFO
    assert find(report, "resize-nnapi").place == "operator 7 RESIZE_BILINEAR"


def test_resize_with_corners(tmp_path: Path) -> None:
    bad = edit_tflite(toy_tflite(), flip_align_corners)
    found = find(lint_path(written(tmp_path, bad)), "resize-corners")
    assert found.place == "operator 5 RESIZE_BILINEAR"
    assert "align_corners" in found.message
    up = Function(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
    assert "resize-corners" in rules(lint_path(package(up, tmp_path)))


MODULES: dict[str, tuple[Callable[[Tensor], Tensor] | nn.Module, str, Severity]] = {
    "softplus": (F.softplus, "softplus", Severity.ERROR),
    "exp": (torch.exp, "exponential", Severity.WARNING),
    "hard-swish": (nn.Hardswish(), "hard-swish", Severity.WARNING),
    "argmax": (lambda x: x.argmax(1).float(), "selection-in-graph", Severity.WARNING),
    "topk": (lambda x: x.topk(2, 1).values, "selection-in-graph", Severity.WARNING),
    "squeeze-excite": (SqueezeExcite(), "squeeze-excite", Severity.WARNING),
    "rank-5": (lambda x: x.reshape(1, 3, 4, 4, 16).mean(4), "rank-5", Severity.WARNING),
    "last-axis-one": (lambda x: x.reshape(1, 3, 256, 1) * 2, "last-axis-one", Severity.WARNING),
    "channels": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1)), "odd-channels",
                 Severity.INFO),
}  # fmt: skip


@pytest.mark.parametrize("case", MODULES)
def test_a_hazard_in_a_package(case: str, tmp_path: Path) -> None:
    what, rule, severity = MODULES[case]
    module = what if isinstance(what, nn.Module) else Function(what)
    found = find(lint_path(package(module, tmp_path)), rule)
    assert found.severity is severity
    assert "main[" in found.place
    assert found.advice
    assert found.source


def test_more_than_one_image(tmp_path: Path) -> None:
    report = lint_path(package(nn.Conv2d(3, 4, 1), tmp_path, (2, 3, 8, 8)))
    assert rules(report) == {"batch"}


def _custom(model: Any) -> None:
    model.operatorCodes[-1].builtinCode = 32
    model.operatorCodes[-1].deprecatedBuiltinCode = 32
    model.operatorCodes[-1].customCode = b"FlexErf"


def _dynamic(model: Any) -> None:
    for tensor in model.subgraphs[0].tensors[:1]:
        tensor.shapeSignature = np.array([-1, 64, 64, 3], np.int32)


def _cut_off_bias(model: Any) -> None:
    conv = operators(model, 3)[0]
    numbers(model, conv.inputs[2], "int32")[4] = -(2**31)


TFLITE: dict[str, tuple[str, Callable[[Any], None], Severity]] = {
    "custom-operator": ("float32", _custom, Severity.ERROR),
    "dynamic-shape": ("float32", _dynamic, Severity.ERROR),
    "bias-overflow": ("int8", _cut_off_bias, Severity.WARNING),
}


@pytest.mark.parametrize("rule", TFLITE)
def test_a_hazard_in_a_tflite_file(rule: str, tmp_path: Path) -> None:
    recipe, change, severity = TFLITE[rule]
    sound = lint_path(written(tmp_path, toy_tflite(recipe)))
    assert rule not in rules(sound, Severity.INFO)
    report = lint_path(written(tmp_path, edit_tflite(toy_tflite(recipe), change)))
    assert find(report, rule).severity is severity
    assert (
        report.findings[0].severity is max(report.findings, key=lambda f: f.severity.rank).severity
    )


def test_sixteen_bit_activations(tmp_path: Path) -> None:
    report = lint_path(written(tmp_path, toy_tflite("int16x8")))
    assert find(report, "int16-activations").severity is Severity.WARNING
    assert "int16-activations" not in rules(lint_path(written(tmp_path, toy_tflite("int8"))))


def test_a_float_island(tmp_path: Path) -> None:
    """A file whose float weights are stored in float16 has none; quantised in parts has some."""
    assert "float-island" not in rules(lint_path(written(tmp_path, toy_tflite("float16"))))
    data = load_recipe("int8").to_json()
    data |= {"name": "kept", "steps": [{**data["steps"][0], "keep": ["depthwise"]}]}
    photos = calibration_from_photos(toy_photos(4), 32, CONFIG)
    recipe = Recipe.from_json(data)
    parts = written(tmp_path, quantize(toy_tflite(), recipe, photos))
    assert "float-island" in rules(lint_path(parts))


class Loud(nn.Module):
    """x·gain, and its mean over the map."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        nn.init.constant_(self.conv.weight, gain / 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.conv(x), 1)


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (0.001, set()),
        (1.0, {"float16-sum"}),  # 256 pixels of 128: 32768, within a factor of 4
        (3.0, {"float16-sum"}),  # beyond
        (1000.0, {"float16-sum", "float16-range"}),
    ],
)
def test_ranges_are_measured(gain: float, expected: set[str], tmp_path: Path) -> None:
    path = convert(
        Loud(gain), tmp_path / "net.mlpackage", (1, 3, 16, 16), scale=1.0, color_layout="RGB"
    )
    grey = {"grey": Photo.from_array(np.full((16, 16, 3), 128, np.uint8))}
    report = lint_path(path, grey)
    assert rules(report) - {"squeeze-excite"} == expected
    if gain == 3.0:
        assert find(report, "float16-sum").severity is Severity.ERROR
        assert "9.83e+04" in find(report, "float16-sum").place  # 256·384
    assert rules(lint_path(path)) == {"squeeze-excite"}  # nothing measured, nothing said


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, save

    def tensor(name: str, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weights = helper.make_tensor("w", TensorProto.FLOAT, [6, 3, 1, 1], [0.0] * 18)
    size = helper.make_tensor("size", TensorProto.INT64, [4], [1, 6, 16, 16])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Softplus", ["a"], ["b"]),
        helper.make_node(
            "Resize", ["b", "", "", "size"], ["c"], mode="linear",
            coordinate_transformation_mode="align_corners",
        ),
        helper.make_node("Strange", ["c"], ["y"], domain="com.example"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [tensor("x", "n", 3, 8, 8)], [tensor("y", 1, 6, 16, 16)], [weights, size]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    path = tmp_path / "net.onnx"
    save(helper.make_model(graph, opset_imports=opsets), str(path))
    report = lint_path(path, PHOTOS)
    expected = {"softplus", "resize-corners", "custom-operator", "dynamic-shape"}
    assert expected <= rules(report)
    assert find(report, "softplus").place == "node 1 Softplus"
    assert report.photos == 0


def test_what_the_interpreter_does_not_know_is_linted_all_the_same(tmp_path: Path) -> None:
    kinds = {op.kind for op in read_graph(package(Function(torch.erf), tmp_path)).operators}
    assert "erf" in kinds


@pytest.mark.parametrize("name", ["a.tflite", "a.onnx", "a.mlpackage"])
def test_what_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("mlpackage"):
        path.mkdir()
    else:
        path.write_bytes(b"\xff" * 100)
    with pytest.raises(BundleError):
        lint_path(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.tflite, \.mlpackage, \.onnx"):
        lint_path(tmp_path / "model.pt")


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(lint)
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return done.exit_code, done.output


def test_command_line(tmp_path: Path, with_transposes: bytes) -> None:
    path = written(tmp_path, with_transposes)
    result = tmp_path / "lint.json"
    code, output = run(str(path), "--no-ranges", "--json", str(result))
    assert code == 0, output
    assert "warning" in output
    (report,) = json.loads(result.read_text())["artifacts"]
    assert report["format"] == "tflite"
    assert {"rule", "severity", "place", "message", "advice", "source"} == set(
        report["findings"][0]
    )
    assert run(str(path), "--no-ranges", "--fail-on", "warning")[0] == 1
    assert run("--no-ranges")[0] == 0  # the bundle that ships
    logging.getLogger("coremltools").setLevel(logging.WARNING)


def test_the_bundle_that_ships_has_no_error() -> None:
    bundle = Bundle.open()
    report = lint_path(bundle.path(bundle.manifest.artifact()), PHOTOS)
    assert rules(report, Severity.ERROR) == set()


class Joined(ToyNetwork):
    """Maps of different ranges side by side, which others use as they are: each changes its scale
    first."""

    def __init__(self) -> None:
        super().__init__()
        self.semantic = nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = F.relu6(self.stem(F.pad(image, (0, 1, 0, 1))))
        x = F.relu6(self.depthwise(F.pad(x, (0, 1, 0, 1))))
        low, high = F.relu6(self.lateral(x)), torch.relu(50 * self.deep(x))
        joined = torch.cat([low, high], 1)
        return {
            "semantic": self.semantic(joined),
            "center": self.center(low),
            "offset": self.offset(high),
        }


@pytest.mark.slow
def test_a_change_of_scale_is_no_float_island(tmp_path: Path) -> None:
    photos = calibration_from_photos(toy_photos(4), 32, CONFIG)
    content = convert_tflite(Joined().eval(), (SIZE, SIZE))
    path = written(tmp_path, quantize(content, load_recipe("int8"), photos))
    kinds = [o.name for o in read_tflite(path.read_bytes()).main.operators]
    assert "QUANTIZE" in kinds[1:-1]
    assert "float-island" not in rules(lint_path(path))
