"""Damaged and hostile TFLite files: a clear BundleError before LiteRT sees them, never a crash."""

from __future__ import annotations

import json
import mmap
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from panokit.bundle import Bundle, shipped_bundle_path
from panokit.errors import BundleError
from panokit.runtime import open_runtime
from panokit.tflite.check import check_tflite, check_tflite_bytes
from tests.toys.artifacts import toy_tflite
from tests.toys.tflite_edit import edit_tflite, operators


def refused(content: Any, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        check_tflite_bytes(content)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("recipe", ["float32", "float16", "int8"])
def test_sound_files_pass_and_are_read_right(recipe: str) -> None:
    graph = check_tflite_bytes(toy_tflite(recipe)).main
    names = [op.name for op in graph.operators]
    assert names.count("CONV_2D") == 6
    (source,) = graph.inputs
    assert graph.tensors[source].shape == (1, 64, 64, 3)
    first = next(op for op in graph.operators if op.name == "CONV_2D")
    assert (first.options["stride_h"], first.activation) == (2, "RELU6")
    model = schema.ModelT.InitFromPackedBuf(toy_tflite(recipe), 0)
    for ours, theirs in zip(graph.tensors, model.subgraphs[0].tensors, strict=True):
        assert ours.name == theirs.name.decode()
        assert ours.shape == tuple(theirs.shape)
        scale = theirs.quantization.scale if theirs.quantization is not None else None
        np.testing.assert_array_equal(ours.scale, [] if scale is None else scale)
        data = model.buffers[theirs.buffer].data
        assert (ours.data is None) == (data is None)
        if ours.data is not None:
            assert ours.data.tobytes() == bytes(bytearray(data))


def test_the_shipped_file_cut_at_every_kilobyte() -> None:
    """3,500 files; each is refused, and quickly: nothing is read twice.

    The label list lies behind the model as a zip archive; the model is whole without it.
    """
    path = Bundle.open().path(Bundle.open().manifest.artifact("tflite-int8"))
    with zipfile.ZipFile(path) as archive:
        end = min(entry.header_offset for entry in archive.infolist())
    assert path.stat().st_size - end < 4096
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        sound = 0
        for size in range(0, end, 1024):
            part = view[:size]
            try:
                check_tflite_bytes(part)
                sound += 1
            except BundleError:
                pass
            finally:
                part.release()
        view.release()
    assert sound == 0


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_the_toy_file_cut_at_every_byte(recipe: str) -> None:
    content = toy_tflite(recipe)
    for size in range(0, len(content) - 1, 7):
        refused(content[:size])


def test_a_cut_file_in_a_bundle(tmp_path: Path) -> None:
    """Even with a manifest that agrees with the cut file, LiteRT never sees it."""
    import shutil

    from panokit.bundle import hash_path

    copy = Path(shutil.copytree(shipped_bundle_path(), tmp_path / "cut.panokit"))
    file = copy / "model.tflite"
    file.write_bytes(file.read_bytes()[: 1 << 20])
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["artifacts"][0] |= {"bytes": 1 << 20, "sha256": hash_path(file)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    bundle = Bundle.open(copy)
    with pytest.raises(BundleError, match=r"model\.tflite: is damaged or not made for LiteRT"):
        open_runtime(bundle, bundle.manifest.artifact())


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", bytes(64), b"\xff" * 64, b"\x08\0\0\0TFL3" + bytes(8), b"PK\3\4" + bytes(60)],
    ids=["empty", "short", "zeros", "ones", "no-table", "zip"],
)
def test_no_model(content: bytes, tmp_path: Path) -> None:
    refused(content)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="model"):
        check_tflite(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such"):
        check_tflite(tmp_path / "absent.tflite")
    with pytest.raises(BundleError, match="no such"):
        check_tflite(tmp_path)


def _tensor(model: Any, index: int) -> Any:
    return model.subgraphs[0].tensors[index]


def _conv(model: Any) -> Any:
    return operators(model, schema.BuiltinOperator.CONV_2D)[0]


def _ten_gigabytes(model: Any) -> None:
    _tensor(model, model.subgraphs[0].inputs[0]).shape = [1, 50_000, 50_000, 1]


def _ten_gigabytes_constant(model: Any) -> None:
    _tensor(model, _conv(model).inputs[1]).shape = [50_000, 50_000, 1, 1]


def _huge_resize(model: Any) -> None:
    (resize,) = operators(model, schema.BuiltinOperator.RESIZE_BILINEAR)
    size = model.buffers[_tensor(model, resize.inputs[1]).buffer]
    size.data = np.frombuffer(struct.pack("<ii", 40_000, 40_000), np.uint8)


def _weights_outside(model: Any) -> None:
    buffer = model.buffers[_tensor(model, _conv(model).inputs[1]).buffer]
    buffer.data, buffer.offset, buffer.size = None, 1 << 40, 864


def _short_weights(model: Any) -> None:
    buffer = model.buffers[_tensor(model, _conv(model).inputs[1]).buffer]
    buffer.data = buffer.data[:100]


def _tensor_out_of_list(model: Any) -> None:
    _conv(model).inputs = [9999, *_conv(model).inputs[1:]]


def _buffer_out_of_list(model: Any) -> None:
    _tensor(model, 0).buffer = 9999


def _writes_a_constant(model: Any) -> None:
    conv = _conv(model)
    conv.outputs = [conv.inputs[1]]


def _cycle(model: Any) -> None:
    conv = _conv(model)
    conv.inputs = [conv.outputs[0], *conv.inputs[1:]]


def _no_stride(model: Any) -> None:
    _conv(model).builtinOptions.strideH = 0


def _no_options(model: Any) -> None:
    _conv(model).builtinOptions = None
    _conv(model).builtinOptionsType = 0


def _missing_operand(model: Any) -> None:
    conv = _conv(model)
    conv.inputs = conv.inputs[:1]


def _unknown_type(model: Any) -> None:
    _tensor(model, 0).type = 99


def _custom_while(model: Any) -> None:
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.WHILE
    model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.WHILE


def _nan_scale(model: Any) -> None:
    quantization = _tensor(model, _conv(model).inputs[0]).quantization
    quantization.scale = np.array([np.nan], np.float32)


def _few_scales(model: Any) -> None:
    quantization = _tensor(model, _conv(model).inputs[1]).quantization
    quantization.scale = np.array([1, 1], np.float32)


def _wrong_shape(model: Any) -> None:
    _tensor(model, _conv(model).outputs[0]).shape = [1, 32, 32, 9]


def _signature_elsewhere(model: Any) -> None:
    model.signatureDefs[0].outputs[0].tensorIndex = 3


def _no_inputs(model: Any) -> None:
    model.subgraphs[0].inputs = []


CHANGES: list[tuple[Callable[[Any], None], str]] = [
    (_ten_gigabytes, "10000000000 bytes, the limit"),
    (_ten_gigabytes_constant, "the limit"),
    (_huge_resize, "computes the shape (1, 40000, 40000, 16)"),
    (_weights_outside, f"weights up to byte {(1 << 40) + 864}"),
    (_short_weights, "it has 100"),
    (_tensor_out_of_list, "number 9999 of"),
    (_buffer_out_of_list, "number 9999 of"),
    (_writes_a_constant, "has a value already"),
    (_cycle, "before it is computed"),
    (_no_stride, "stride 0"),
    (_no_options, "options are missing"),
    (_missing_operand, "has 1 operands instead of 2 to 3"),
    (_unknown_type, "number 99"),
    (_custom_while, "control flow"),
    (_nan_scale, "a scale that is not above zero"),
    (_few_scales, "2 scales and"),
    (_wrong_shape, "declares (1, 32, 32, 9)"),
    (_signature_elsewhere, "no output of the graph"),
    (_no_inputs, "no input of the graph"),
]


@pytest.mark.parametrize(
    ("change", "words"), CHANGES, ids=[change.__name__[1:] for change, _ in CHANGES]
)
def test_a_hostile_model(change: Callable[[Any], None], words: str) -> None:
    recipe = "int8" if change in (_nan_scale, _few_scales) else "float32"
    refused(edit_tflite(toy_tflite(recipe), change), words)
