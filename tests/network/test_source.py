"""The one way to open a network: what is known of it, folding, and files that bring it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from panokit.bundle import hash_path
from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError, DataError
from panokit.taxonomy import Taxonomy
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.source import MODULE_FORMAT, NetworkSource, load_state
from panokit_network.weights import save_weights
from tests.toys.data_folder import CATEGORIES
from tests.toys.user_network import SIZE, TinyPanoptic

TAXONOMY = Taxonomy.from_json({"name": "toy", "categories": CATEGORIES})
BUILD = "tests.toys.user_network:build"
IMAGE = torch.full((1, 3, SIZE, SIZE), 100.0)


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    config = NetworkConfig(3, 16, 16, 16, 8, (1,))
    network = PanopticNetwork(config)
    training = {"steps_done": ["prune"], "postprocessing": {"min_thing_score": 0.25}}
    path = tmp_path / "mine.safetensors"
    save_weights(path, network.state_dict(), config, TAXONOMY, training, "test only")
    return path


def test_a_weight_file_tells_all_that_is_known(weights: Path) -> None:
    source = NetworkSource.from_weights(weights)
    assert (source.name, source.licence) == ("mine", "test only")
    assert source.taxonomy == TAXONOMY
    assert source.postprocessing == PostprocessConfig(min_thing_score=0.25)
    assert source.weights_sha256 == hash_path(weights)
    assert source.steps_done == ("prune",)
    assert batch_norms(source.module) > 0  # the module as it was given
    assert not source.folded


def test_folding_leaves_the_source_as_it_was_and_is_done_once(weights: Path) -> None:
    source = NetworkSource.from_weights(weights)
    folded = source.with_folded()
    assert folded.folded
    assert batch_norms(folded.module) == 0
    assert batch_norms(source.module) > 0
    assert folded.with_folded() is folded
    assert folded.weights_sha256 == source.weights_sha256
    with torch.no_grad():
        torch.testing.assert_close(folded.module(IMAGE), source.module(IMAGE))


def test_another_step_has_weights_that_are_in_no_file_yet(weights: Path) -> None:
    after = NetworkSource.from_weights(weights).after_step("finetune")
    assert after.steps_done == ("prune", "finetune")
    assert after.weights_sha256 == ""


def test_a_users_module_and_its_file(tmp_path: Path) -> None:
    plain = NetworkSource.from_import(BUILD, None, TAXONOMY)
    assert (plain.name, plain.licence, plain.weights_sha256) == ("build", "not stated", "")
    path = tmp_path / "module.safetensors"
    plain.with_folded().after_step("qat").save(path)
    source = NetworkSource.from_import(BUILD, path, TAXONOMY)
    assert source.weights_sha256 == hash_path(path)
    assert source.steps_done == ("qat",)
    assert source.folded
    again = tmp_path / "again.safetensors"
    source.save(again)  # says again that batch norms are folded in, or it could not be read
    with torch.no_grad():
        torch.testing.assert_close(load_state(again, TinyPanoptic())(IMAGE), plain.module(IMAGE))


def test_a_module_from_the_cache_is_as_folded_as_it_was_saved(tmp_path: Path) -> None:
    original = NetworkSource.from_module(TinyPanoptic(), TAXONOMY)
    path = tmp_path / "cached.safetensors"
    original.with_folded().save(path)
    found = original.after_step("qat").reloaded(path, original)
    assert found.folded
    assert batch_norms(found.module) == 0
    assert batch_norms(original.module) > 0


class Branching(TinyPanoptic):
    """torch.fx cannot trace it: its way depends on the pixels."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return super().forward(image if image.max() > 0 else image + 1)


def test_what_cannot_be_folded_stays_as_it_is() -> None:
    module = Branching()
    assert NetworkSource.from_module(module, TAXONOMY).with_folded().module is module
    kept = NetworkSource.from_module(module, TAXONOMY, folded=True)
    assert kept.with_folded().module is module


class Shared(nn.Module):
    """One convolution, called with a batch norm behind it and without; a norm called twice; and a
    result that the norm is not alone in reading."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.other = nn.Conv2d(8, 8, 3, padding=1)
        if way == "weights":
            self.other.weight = self.conv.weight
        self.heads = nn.ModuleList([nn.Conv2d(8, n, 1) for n in (4, 1, 2)])
        nn.init.uniform_(self.norm.running_mean, -1, 1)  # type: ignore[arg-type]
        nn.init.uniform_(self.norm.running_var, 0.5, 3)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image / 255)
        y = self.norm(self.conv(x))
        if self.way == "call":
            y = y + self.conv(x)
        elif self.way == "norm":
            y = self.norm(self.other(y))
        elif self.way == "reader":
            z = self.conv(x)
            y = self.norm(z) + z
        else:
            y = y + self.other(x)
        return {n: h(y) for n, h in zip(("semantic", "center", "offset"), self.heads, strict=True)}


@pytest.mark.parametrize("way", ["call", "norm", "reader", "weights"])
def test_folding_writes_into_nothing_that_is_used_elsewhere(way: str) -> None:
    torch.manual_seed(1)
    module = Shared(way).eval()
    expected = {n: v.clone() for n, v in module(IMAGE).items()}
    folded = NetworkSource.from_module(module, TAXONOMY).with_folded().module
    for found in (folded(IMAGE), module(IMAGE)):
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(nn.DataParallel, id="DataParallel"),
        pytest.param(lambda m: torch.compile(m, backend="eager"), id="torch.compile"),
        pytest.param(lambda m: _changed(m, nn.utils.weight_norm), id="weight_norm"),
        pytest.param(lambda m: _changed(m, nn.utils.spectral_norm), id="spectral_norm"),
        pytest.param(
            lambda m: _changed(m, nn.utils.parametrizations.weight_norm), id="parametrized"
        ),
        pytest.param(
            lambda m: _changed(m, nn.utils.parametrizations.spectral_norm), id="parametrized sn"
        ),
    ],
)
def test_wrappers_and_computed_weights_are_taken_off(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(2)
    given = wrap(Shared("none").eval()).eval()
    expected = {n: v.detach().clone() for n, v in given(IMAGE).items()}
    source = NetworkSource.from_module(given, TAXONOMY)
    assert not any(
        "parametriz" in n or n.endswith(("_g", "_orig")) for n in source.module.state_dict()
    )
    assert isinstance(source.module, Shared)
    for module in (source.module, source.with_folded().module, given):
        for name, values in expected.items():
            torch.testing.assert_close(module(IMAGE)[name], values, rtol=1e-4, atol=1e-4)
    assert batch_norms(source.with_folded().module) == 0


def _changed(module: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    assert isinstance(module, Shared)
    module.conv, module.other = change(module.conv), change(module.other)  # type: ignore[assignment]
    return module


@pytest.mark.parametrize("value", ["prune", "5"], ids=["no-json", "no-list"])
def test_a_file_with_damaged_steps(value: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file(TinyPanoptic().state_dict(), path, {"format": MODULE_FORMAT, "steps_done": value})
    with pytest.raises(DataError, match="expected a list of steps"):
        NetworkSource.from_import(BUILD, path, TAXONOMY)


def test_only_modules_are_sources() -> None:
    with pytest.raises(ArgumentError, match=r"a torch\.nn\.Module"):
        NetworkSource.from_module("module", TAXONOMY)  # type: ignore[arg-type]
