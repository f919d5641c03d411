"""Our own network through pruning, labelled fine-tuning and QAT, and back from its weight file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from panokit.errors import ArgumentError, DataError, UsageError
from panokit.taxonomy import Taxonomy
from panokit_compression.recipes import Finetune, Prune, Qat, Recipe
from panokit_lab.pipeline import compress_network
from panokit_lab.setup import ExperimentRequest, LabelledStream
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.weights import load_weights, save_weights
from tests.toys.data_folder import CATEGORIES, make_folder

pytestmark = pytest.mark.slow

SIZE = 64
PRUNE = Prune(0.93, "taylor", rounds=1)
FINETUNE = Finetune(samples=4, size=SIZE, batch=2, learning_rate=1e-3, distil=0.5)
QAT = Qat(samples=4, size=SIZE, batch=2, learning_rate=1e-4, distil=0.5)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> ExperimentRequest:
    folder = tmp_path_factory.mktemp("ours")
    make_folder(folder / "data", "toy_train", photos=16)
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": CATEGORIES})
    # PanopticFolder reads the taxonomy of the folder: the same one, under the same name
    import json

    (folder / "data" / "taxonomy.json").write_text(
        json.dumps({"name": "toy", "categories": CATEGORIES})
    )
    config = NetworkConfig(3, 16, 16, 16, 8, (1,))
    torch.manual_seed(0)
    network = PanopticNetwork(config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # keeps signals alive through random layers
            nn.init.uniform_(module.bias, 0, 1)
    save_weights(folder / "w.safetensors", network.state_dict(), config, taxonomy, {}, "test only")
    return ExperimentRequest(
        out=folder / "runs", weights=folder / "w.safetensors", data=folder / "data", size=SIZE
    )


def test_training_on_draws_photos_as_the_network_was_trained(
    wanted: ExperimentRequest, tmp_path: Path
) -> None:
    assert wanted.data is not None
    assert wanted.weights is not None
    make_folder(tmp_path / "data", "a_train", photos=8, seed=1)
    make_folder(tmp_path / "data", "b_train", photos=8, seed=2)
    for split in ("a_train", "b_train"):
        path = tmp_path / "data" / "annotations" / f"{split}.json"
        text = path.read_text().replace('"source": "toy"', f'"source": "{split[0]}"')
        path.write_text(text)
    taxonomy = (wanted.data / "taxonomy.json").read_text()
    (tmp_path / "data" / "taxonomy.json").write_text(taxonomy)
    network, info = load_weights(wanted.weights)
    recorded = {"config": {"source_weights": {"a": 0, "b": 1}, "class_weight_power": 0}}
    save_weights(tmp_path / "w.safetensors", network.state_dict(), info.network, info.taxonomy,
                 recorded, "test only")  # fmt: skip
    setup = ExperimentRequest(out=tmp_path / "runs", weights=tmp_path / "w.safetensors",
                  data=tmp_path / "data", size=SIZE).open([Recipe("f", (FINETUNE,))])  # fmt: skip
    assert isinstance(setup.stream, LabelledStream)
    scenes = setup.stream.scenes(SIZE, 2)
    drawn = {scenes.cache.records[scenes._draw(scenes.cumulative, np.random.default_rng(i))].source
             for i in range(40)}  # fmt: skip
    assert drawn == {"b"}
    torch.testing.assert_close(setup.class_weight, torch.ones(3))


def test_pruned_trained_quantized_and_reloaded(wanted: ExperimentRequest) -> None:
    recipe = Recipe("all", (PRUNE, FINETUNE, QAT))
    setup = wanted.open([recipe])
    network = compress_network(setup, setup.source, recipe)
    assert network.folded
    assert network.steps_done == ("prune", "finetune", "qat")
    done = ["prune", "finetune", "qat"]
    files = (wanted.out / "cache" / "networks").glob("*.safetensors")
    (path,) = [p for p in files if load_weights(p)[1].training["steps_done"] == done]
    reloaded, info = load_weights(path)
    assert info.licence == "test only"
    assert not any(isinstance(m, nn.BatchNorm2d) for m in reloaded.modules())
    image = torch.rand(1, 3, SIZE, SIZE) * 255
    with torch.no_grad():
        first, second = network.module(image), reloaded(image)
        dense = setup.source.module(image)
    for head in first:
        torch.testing.assert_close(first[head], second[head])
        assert first[head].shape == dense[head].shape
    narrower = sum(p.numel() for p in reloaded.parameters())
    assert narrower < sum(p.numel() for p in setup.source.module.parameters())


def test_damaged_widths_are_a_data_error(wanted: ExperimentRequest, tmp_path: Path) -> None:
    network, info = load_weights(wanted.weights or "")
    widths = {"reduce32.conv": {"in": 320, "out": 8, "groups": 1}}
    save_weights(tmp_path / "w.safetensors", network.state_dict(), info.network, info.taxonomy,
                 {}, "test only", widths)  # fmt: skip
    with pytest.raises(DataError, match="do not fit the network"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"size": 0}, "at least 1", id="size"),
        pytest.param({"module": "a:b"}, "--module needs --taxonomy", id="no-taxonomy"),
        pytest.param({"data": None, "split": "x"}, "needs --data", id="no-data"),
    ],
)
def test_options_that_do_not_fit(
    wanted: ExperimentRequest, change: dict[str, object], message: str
) -> None:
    from dataclasses import replace

    with pytest.raises((ArgumentError, UsageError), match=message):
        replace(wanted, **change)  # type: ignore[arg-type]
