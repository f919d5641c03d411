"""Weight files as training loops leave them, and files that are none."""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from panokit.errors import DataError
from panokit_network.checkpoint import read_checkpoint
from panokit_network.source import load_state
from panokit_network.weights import load_weights
from tests.toys.user_network import TinyPanoptic

IMAGE = torch.linspace(0, 255, 3 * 64 * 64).reshape(1, 3, 64, 64)
State = dict[str, Tensor]


def trained(seed: int = 3) -> TinyPanoptic:
    torch.manual_seed(seed)
    network = TinyPanoptic().eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return network


def named(state: State, change: Callable[[str], str]) -> State:
    return {change(name): value.clone() for name, value in state.items()}


def assert_loads(path: Path, expected: nn.Module, fresh: nn.Module | None = None) -> None:
    torch.manual_seed(77)
    module = load_state(path, TinyPanoptic() if fresh is None else fresh)
    with torch.inference_mode():
        for head, values in expected(IMAGE).items():
            torch.testing.assert_close(module(IMAGE)[head], values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda n: n, id="plain"),
        pytest.param(lambda n: f"module.{n}", id="parallel"),
        pytest.param(lambda n: f"_orig_mod.{n}", id="compiled"),
        pytest.param(lambda n: f"module._orig_mod.model.{n}", id="three-wrappers"),
        pytest.param(lambda n: f"student.net.{n}", id="attributes-of-a-loop"),
        pytest.param(
            lambda n: n.replace(".", "._checkpoint_wrapped_module.", 1), id="wrapped-inside"
        ),
        pytest.param(lambda n: n.replace(".", ".module.", 1), id="parallel-inside"),
    ],
)
@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_names_that_wrappers_leave(tmp_path: Path, change: Callable[[str], str], kind: str) -> None:
    network = trained()
    path = tmp_path / "weights.bin"
    state = named(network.state_dict(), change)
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    assert_loads(path, network)


class Holder(nn.Module):
    """A network inside the module that is built."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TinyPanoptic()

    def forward(self, image: Tensor) -> State:
        found: State = self.inner(image)
        return found


def test_a_file_without_the_prefix_of_the_module(tmp_path: Path) -> None:
    network = trained()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", network, Holder())


@pytest.mark.parametrize(
    "place", [("state_dict",), ("model",), ("ema", "module"), ("a", "b", "weights")]
)
def test_weights_deeper_in_a_checkpoint(tmp_path: Path, place: tuple[str, ...]) -> None:
    network = trained()
    optimizer = torch.optim.AdamW(network.parameters())
    network(IMAGE)["semantic"].sum().backward()
    optimizer.step()
    content: Any = dict(network.state_dict())
    for name in reversed(place):
        content = {name: content}
    content |= {
        "optimizer": optimizer.state_dict(),
        "epoch": 7,
        "best": np.float64(0.5),
        "history": np.arange(3),
        "args": argparse.Namespace(out=Path("runs"), rate=0.1),
    }
    torch.save(content, tmp_path / "last.pt")
    assert_loads(tmp_path / "last.pt", network.eval())


def test_averaged_weights_go_before_others_and_it_can_be_seen(tmp_path: Path) -> None:
    content = {"model": trained(1).state_dict(), "model_ema": trained(2).state_dict()}
    torch.save(content, tmp_path / "both.pt")
    assert list(read_checkpoint(tmp_path / "both.pt").states) == ["model_ema", "model"]
    assert_loads(tmp_path / "both.pt", trained(2))


def test_an_averaged_model_of_torch(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(trained())
    torch.save(averaged.state_dict(), tmp_path / "swa.pt")
    assert_loads(tmp_path / "swa.pt", trained())


def test_other_tensors_beside_the_network_are_left(tmp_path: Path) -> None:
    state = named(trained().state_dict(), lambda n: f"model.{n}") | {"loss.weight": torch.ones(4)}
    torch.save({"state_dict": state}, tmp_path / "lightning.ckpt")
    assert_loads(tmp_path / "lightning.ckpt", trained())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = {
        n: v.to(dtype) if v.is_floating_point() else v for n, v in trained().state_dict().items()
    }
    torch.save(stored, tmp_path / "half.pth")
    expected = trained()
    expected.load_state_dict({n: v.float() for n, v in stored.items()})
    assert_loads(tmp_path / "half.pth", expected)


class Tied(TinyPanoptic):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = nn.Conv2d(3, 3, 1)
        self.copy = nn.Conv2d(3, 3, 1)
        self.copy.weight = self.twin.weight

    def forward(self, image: Tensor) -> State:
        heads = dict(super().forward(image))
        heads["semantic"] = self.copy(self.twin(heads["semantic"]))
        return heads


@pytest.mark.parametrize("kept", ["twin.weight", "copy.weight"])
def test_shared_weights_lie_in_a_file_once(tmp_path: Path, kept: str) -> None:
    torch.manual_seed(5)
    network = Tied().eval()
    dropped = {"twin.weight", "copy.weight"} - {kept}
    state = {n: v.clone() for n, v in network.state_dict().items() if n not in dropped}
    save_file(state, tmp_path / "tied.safetensors")
    assert_loads(tmp_path / "tied.safetensors", network, Tied())


def first_conv(network: nn.Module) -> nn.Conv2d:
    return next(m for m in network.modules() if isinstance(m, nn.Conv2d))


def normed(network: TinyPanoptic) -> TinyPanoptic:
    parametrizations.weight_norm(first_conv(network))
    return network.eval()


def test_weight_norm_by_every_name(tmp_path: Path) -> None:
    network = normed(trained())
    today = network.state_dict()
    old = {
        n.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): v
        for n, v in today.items()
    }
    expected = trained()
    for name, state in {"today": today, "old": old, "plain": expected.state_dict()}.items():
        torch.save(state, tmp_path / f"{name}.pt")
        assert_loads(tmp_path / f"{name}.pt", expected, normed(TinyPanoptic()))
    assert_loads(tmp_path / "old.pt", expected)  # into a module without weight norm


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda s: {n: v for n, v in s.items() if "where" not in n}, "missing", id="missing"
        ),
        pytest.param(lambda s: {**s, "extra.weight": torch.ones(1)}, "unknown", id="unknown"),
        pytest.param(
            lambda s: {n: v[:1] if "classes" in n else v for n, v in s.items()},
            "another shape", id="shape",
        ),
        pytest.param(lambda s: {"other": torch.ones(2)}, "missing", id="another-network"),
    ],
)  # fmt: skip
def test_weights_of_another_network(
    tmp_path: Path, change: Callable[[State], State], message: str
) -> None:
    torch.save(change(trained().state_dict()), tmp_path / "w.pt")
    with pytest.raises(DataError, match=f"do not fit the module.*{message}"):
        load_state(tmp_path / "w.pt", TinyPanoptic())


class Runs:
    """A pickle that makes a file where it is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["raw", "torch", "nested"])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, kind: str) -> None:
    bad, mark = tmp_path / "bad.pt", tmp_path / "mark"
    content: Any = (
        Runs(mark) if kind != "nested" else {"state_dict": {"w": torch.ones(1)}, "x": Runs(mark)}
    )
    if kind == "raw":
        bad.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, bad)
    with pytest.raises(DataError, match="run code"):
        read_checkpoint(bad)
    assert not mark.exists()


def test_a_whole_pickled_module_says_what_to_save(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "whole.pt")
    with pytest.raises(DataError, match=r"run code \(tests\.toys.*state_dict"):
        read_checkpoint(tmp_path / "whole.pt")


def zipped(path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 10)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "lfs": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid x\nsize 77\n"),
        "Git LFS pointer to a file of 77 bytes",
    ),
    "html": (lambda p: p.write_text("\n <!doctype HTML><html><body>403"), "HTML page"),
    "xml": (lambda p: p.write_text("<?xml version='1.0'?><Error>AccessDenied</Error>"), "XML text"),
    "json": (lambda p: p.write_text(json.dumps({"message": "Not Found"})), "JSON text"),
    "text": (lambda p: p.write_text("Entry not found"), "a text that begins 'Entry not found'"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "zeros": (lambda p: p.write_bytes(bytes(5000)), "file of zeros"),
    "folder": (lambda p: p.mkdir(), "is a folder"),
    "hdf5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
    "gzip": (lambda p: p.write_bytes(b"\x1f\x8b\x08" + bytes(99)), "gzip archive"),
    "tflite": (lambda p: p.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(99)), "TFLite model"),
    "image": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "an image"),
    "npz": (lambda p: zipped(p, ["a.npy", "b.npy"]), r"NumPy arrays \(.npz\)"),
    "zip": (lambda p: zipped(p, ["readme.txt"]), "zip archive without weights"),
    "exported": (lambda p: zipped(p, ["m/archive_format", "m/models/model.json"]), "torch.export"),
    "half-zip": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(900)), "incomplete"),
    "noise": (lambda p: p.write_bytes(bytes(range(128, 256)) * 9), "this pickle"),
    "list": (lambda p: torch.save([torch.ones(1)], p), "it holds a list"),
    "figures": (lambda p: torch.save({"loss": 0.1, "at": 3}, p), "{'loss', 'at'} without tensors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_weight_file_is_called_what_it_is(tmp_path: Path, kind: str) -> None:
    make, message = WRONG[kind]
    make(tmp_path / "weights.pt")
    with pytest.raises(DataError, match=message):
        read_checkpoint(tmp_path / "weights.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_a_file_that_was_cut_off(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "w.pt"
    if kind == "torch":
        torch.save(trained().state_dict(), path)
        whole = path.read_bytes()
    else:
        whole = save({n: v.clone() for n, v in trained().state_dict().items()})
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"incomplete|expected a safetensors file, but"):
        read_checkpoint(path)


def test_a_torchscript_archive(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(trained(), IMAGE, strict=False), tmp_path / "s.pt")
    with pytest.raises(DataError, match="TorchScript"):
        read_checkpoint(tmp_path / "s.pt")


def test_an_archive_that_unpacks_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": torch.zeros(100_000)}, tmp_path / "w.pt")
    monkeypatch.setattr("panokit_network.checkpoint.MAX_FILE_BYTES", 200_000)
    with pytest.raises(DataError, match="at most 200000"):
        read_checkpoint(tmp_path / "w.pt")


def test_another_network_where_ours_is_expected(tmp_path: Path) -> None:
    save_file(trained().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"--module package\.module:function"):
        load_weights(tmp_path / "w.safetensors")
