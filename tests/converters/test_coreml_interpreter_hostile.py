"""Damaged and hostile Core ML packages: a clear ExportError, never anything else."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from panokit.errors import ExportError
from panokit_converters.coreml_interpreter import CoreMLProgram
from panokit_converters.coreml_interpreter.wire import WireError, parse_model
from tests.converters.test_coreml_interpreter import convert, noise

DATA = Path("Data/com.apple.CoreML")
MODEL, WEIGHTS = DATA / "model.mlmodel", DATA / "weights/weight.bin"


class Net(nn.Module):
    """Convolutions, a resize, a concat and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.third = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        small = nn.functional.interpolate(self.second(x), scale_factor=2, mode="bilinear")
        return self.third(torch.cat([x, small], 1)) + 1


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sound")
    return convert(Net(), folder / "net.mlpackage", (1, 3, 8, 8), "FLOAT16")


@pytest.fixture
def package(sound: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "net.mlpackage"))


def edit(package: Path, change: Callable[[Any, Any], None]) -> None:
    """Rewrite the model file after ``change`` of (the block's operations by type, the model)."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    change({op.type: op for op in block.operations}, model)
    (package / MODEL).write_bytes(model.SerializeToString())


def open_and_run(package: Path) -> None:
    """Whatever the program takes, it is given."""
    program = CoreMLProgram.open(package)
    program.run(
        {f.name: np.ones([size or 1 for size in f.type.shape], "f4") for f in program.inputs}
    )


def refused(package: Path, *words: str) -> None:
    with pytest.raises(ExportError) as caught:
        open_and_run(package)
    for word in words:
        assert word in str(caught.value)


def test_the_sound_one_runs(package: Path) -> None:
    assert CoreMLProgram.open(package).run({"x": noise((1, 3, 8, 8))})["y"].shape == (1, 4, 8, 8)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model(package: Path, share: float) -> None:
    data = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(data[: int(len(data) * share)])
    refused(package, "model.mlmodel")


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 40, b"not a model", b"\x0b"])
def test_no_model(package: Path, content: bytes) -> None:
    (package / MODEL).write_bytes(content)
    refused(package)


def test_deep_nesting_of_garbage_is_refused() -> None:
    data = b""
    for _ in range(1000):
        data = b"\x0a" + _varint(len(data)) + data
    with pytest.raises(WireError):
        parse_model(b"\xb2\x1f" + _varint(len(data)) + data + b"\x08")


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


@pytest.mark.parametrize("missing", ["Manifest.json", str(MODEL), str(WEIGHTS), ""])
def test_missing_files(package: Path, missing: str) -> None:
    path = package / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    refused(package)


@pytest.mark.parametrize("item", ["../../secret", "/etc/passwd", "a\0b", "x" * 5000, "", 7, None])
def test_a_manifest_that_leads_elsewhere(package: Path, item: Any) -> None:
    (package.parent / "secret").write_bytes((package / MODEL).read_bytes())
    manifest = json.loads((package / "Manifest.json").read_text())
    for entry in manifest["itemInfoEntries"].values():
        entry["path"] = item
    (package / "Manifest.json").write_text(json.dumps(manifest))
    refused(package)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rootModelIdentifier": []}', "[" * 100_000])
def test_no_manifest(package: Path, text: str) -> None:
    (package / "Manifest.json").write_text(text)
    refused(package, "Manifest.json")


def test_a_link_out_of_the_package(package: Path) -> None:
    outside = package.parent / "weight.bin"
    shutil.move(package / WEIGHTS, outside)
    (package / WEIGHTS).symlink_to(outside)
    refused(package, "outside the package")


def test_a_pipe_for_weights(package: Path) -> None:
    """Reading it would wait for ever."""
    (package / WEIGHTS).unlink()
    os.mkfifo(package / WEIGHTS)
    refused(package, "no such file")


def _weights(operation: Any) -> Any:
    """The blob value of a constant."""
    return operation.attributes["val"].blobFileValue


def _const(model: Any) -> Any:
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    return next(o for o in block.operations if o.attributes["val"].HasField("blobFileValue"))


@pytest.mark.parametrize("offset", [10**6, 2**64 - 1])
def test_a_weight_outside_the_file(package: Path, offset: int) -> None:
    edit(package, lambda _, model: setattr(_weights(_const(model)), "offset", offset))
    refused(package, "weight.bin", "(const) at main[", str(offset))


def test_a_wrong_sentinel(package: Path) -> None:
    edit(package, lambda _, model: setattr(_weights(_const(model)), "offset", 72))
    refused(package, "0xdeadbeef", "(const) at main[")


@pytest.mark.parametrize(
    ("at", "code", "value", "word"),
    [
        (4, "<I", 99, "unknown type 99"),
        (4, "<I", 3, "uint8"),
        (8, "<Q", 10**10, "10000000000 bytes"),
        (16, "<Q", 10**12, "the file ends at"),
    ],
    ids=["type unknown", "other type", "size", "offset"],
)
def test_a_wrong_record(package: Path, at: int, code: str, value: int, word: str) -> None:
    data = bytearray((package / WEIGHTS).read_bytes())
    struct.pack_into(code, data, data.index(struct.pack("<I", 0xDEADBEEF)) + at, value)
    (package / WEIGHTS).write_bytes(data)
    refused(package, word, "(const) at main[")


@pytest.mark.parametrize("name", ["@model_path/../../../secret", "/etc/passwd", "@model_path/no"])
def test_a_weight_file_elsewhere(package: Path, name: str) -> None:
    (package.parent / "secret").write_bytes((package / WEIGHTS).read_bytes())
    edit(package, lambda _, model: setattr(_weights(_const(model)), "fileName", name))
    refused(package, "(const) at main[")


def _unknown(ops: Any, _: Any) -> None:
    ops["relu"].type = "teleport"


def _misses(ops: Any, _: Any) -> None:
    ops["relu"].inputs["x"].arguments[0].name = "nowhere"


def _cycle(ops: Any, _: Any) -> None:
    ops["relu"].inputs["x"].arguments[0].name = ops["relu"].outputs[0].name


def _twice(ops: Any, _: Any) -> None:
    ops["concat"].outputs[0].name = ops["relu"].outputs[0].name


def _no_operand(ops: Any, _: Any) -> None:
    del ops["relu"].inputs["x"]


def _huge(ops: Any, _: Any) -> None:
    ops["relu"].outputs[0].type.tensorType.dimensions[3].constant.size = 10**10 // 4


def _huge_constant(_: Any, model: Any) -> None:
    tensor = _const(model).attributes["val"].type.tensorType
    tensor.dimensions[0].constant.size = 10**10


def _wrong_shape(ops: Any, _: Any) -> None:
    ops["relu"].outputs[0].type.tensorType.dimensions[1].constant.size = 7


def _upsamples_far(ops: Any, model: Any) -> None:
    _set_floats(ops, model, ops["upsample_bilinear"], "scale_factor_height", 9e5)


def _set_floats(_: Any, model: Any, op: Any, operand: str, value: float) -> None:
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    name = op.inputs[operand].arguments[0].name
    (const,) = (o for o in block.operations if o.outputs[0].name == name)
    const.attributes["val"].immediateValue.tensor.floats.values[:] = [value]


def _other_kind(_: Any, model: Any) -> None:
    model.ClearField("mlProgram")


def _other_opset(_: Any, model: Any) -> None:
    model.mlProgram.functions["main"].opset = "CoreML99"


def _no_output(_: Any, model: Any) -> None:
    del model.description.output[:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_unknown, ["(teleport) at main[", "not known"]),
        (_misses, ["(relu) at main[", "'nowhere'"]),
        (_cycle, ["(relu) at main[", "missing or made only later"]),
        (_twice, ["already the name"]),
        (_no_operand, ["(relu) at main[", "'x' is missing"]),
        (_huge, ["(relu) at main[", "elements, the limit"]),
        (_huge_constant, ["(const) at main[", "elements, the limit"]),
        (_wrong_shape, ["(relu) at main[", "declares fp16[1, 7, 8, 8]"]),
        (_upsamples_far, ["(upsample_bilinear) at main[", "elements, the limit"]),
        (_other_kind, ["no ML Program"]),
        (_other_opset, ["CoreML99"]),
        (_no_output, ["outputs"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_changed_program(
    package: Path, change: Callable[[Any, Any], None], words: list[str]
) -> None:
    edit(package, change)
    refused(package, *words)


@pytest.mark.parametrize("file", [MODEL, WEIGHTS], ids=["model", "weights"])
def test_random_bytes_raise_nothing_else(package: Path, file: Path) -> None:
    """One to eight bytes are changed at random: it opens and runs, or it is refused."""
    rng = np.random.default_rng(5)
    original = (package / file).read_bytes()
    outcomes = {"ran": 0, "refused": 0}
    for _ in range(150 if file == MODEL else 60):
        data = np.frombuffer(original, np.uint8).copy()
        places = rng.integers(0, len(data), rng.integers(1, 9))
        data[places] = rng.integers(0, 256, len(places))
        (package / file).write_bytes(data.tobytes())
        try:
            open_and_run(package)
            outcomes["ran"] += 1
        except ExportError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0, outcomes
