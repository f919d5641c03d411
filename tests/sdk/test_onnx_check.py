"""ONNX files with a right hash that are more than a plain network."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panokit import _trial
from panokit.errors import BundleError
from panokit.onnx_check import check_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

Change = Callable[[Any], None]


def model(nodes: list[Any], constants: dict[str, np.ndarray]) -> Any:
    helper = onnx.helper
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()]
    source = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    result = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [source], [result], tensors)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


def sound() -> Any:
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    node = onnx.helper.make_node("Conv", ["image", "w"], ["out"], pads=[1, 1, 1, 1])
    return model([node], {"w": weights})


def written(made: Any, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_a_plain_network_passes_and_runs(tmp_path: Path) -> None:
    path = written(sound(), tmp_path)
    check_onnx(path)
    _trial.try_onnx(path)


def test_a_trial_finds_panokit_where_this_process_has_it(tmp_path: Path) -> None:
    """Also if it is not installed: site-packages alone, without what its .pth files add."""
    path = written(sound(), tmp_path)
    site = Path(importlib.import_module("onnxruntime").__file__ or "").parent.parent
    codes = {}
    for home in (_trial.HOME, str(tmp_path)):
        program = _trial._ONNX.format(room=_trial.ROOM_BYTES, refused=_trial.REFUSED, home=home)
        codes[home] = subprocess.run(
            [sys.executable, "-S", "-P", "-c", program, str(path)],
            env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, timeout=60,
        ).returncode  # fmt: skip
    assert codes[_trial.HOME] == 0
    installed = (site / "panokit").is_dir()
    assert (codes[str(tmp_path)] == 0) is installed


def _external(made: Any) -> None:
    (tensor,) = made.graph.initializer
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    tensor.ClearField("raw_data")


def _foreign_domain(made: Any) -> None:
    made.graph.node[0].domain = "com.example"


def _unknown(made: Any) -> None:
    made.graph.node[0].op_type = "StringNormalizer"


def _subgraph(made: Any) -> None:
    inner = onnx.helper.make_graph([], "body", [], [])
    made.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))


def _function(made: Any) -> None:
    made.functions.append(onnx.helper.make_function("x", "F", [], [], [], []))


def _short(made: Any) -> None:
    (tensor,) = made.graph.initializer
    tensor.raw_data = tensor.raw_data[:-4]


def _petabytes(made: Any) -> None:
    (tensor,) = made.graph.initializer
    del tensor.dims[:]
    tensor.dims.extend([1 << 20, 1 << 20, 1 << 8])


def _sparse(made: Any) -> None:
    made.graph.sparse_initializer.add()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_external, "weights in another file"),
        (_foreign_domain, "com.example:Conv"),
        (_unknown, "StringNormalizer"),
        (_subgraph, "a graph inside"),
        (_function, "functions"),
        (_short, "needs 432 bytes, it has 428"),
        (_petabytes, "the limit is"),
        (_sparse, "sparse"),
    ],
)
def test_what_is_more_is_refused(change: Change, message: str, tmp_path: Path) -> None:
    made = sound()
    change(made)
    with pytest.raises(BundleError, match=message):
        check_onnx(written(made, tmp_path))


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    content = sound().SerializeToString()
    rng = np.random.default_rng(4)
    path = tmp_path / "m.onnx"
    refused = 0
    for _ in range(400):
        data = bytearray(content)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            data[place] = int(rng.integers(256))
        path.write_bytes(bytes(data[: int(rng.integers(1, len(data) + 1))]))
        try:
            check_onnx(path)
        except BundleError:
            refused += 1
    assert refused > 200


def test_what_fails_while_it_runs_is_a_sentence(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Gather", ["image", "at"], ["out"], axis=1)
    path = written(model([node], {"at": np.array([7], np.int64)}), tmp_path)
    check_onnx(path)
    with pytest.raises(BundleError, match="onnxruntime cannot run it"):
        _trial.try_onnx(path)


def test_what_ends_its_process_or_takes_too_long_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(sound(), tmp_path)
    monkeypatch.setattr(_trial, "_ONNX", "import os; os.abort()")
    with pytest.raises(BundleError, match=r"ended the process that tried it \(signal 6"):
        _trial.try_onnx(path)
    monkeypatch.setattr(_trial, "_ONNX", "import time; time.sleep(60)")
    monkeypatch.setattr(_trial, "SECONDS", 1)
    with pytest.raises(BundleError, match="did not run one image in 1 s"):
        _trial.try_onnx(path)
