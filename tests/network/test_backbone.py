"""Both backbones: their features, folding, files, and what a detector's weights become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from panokit_network.backbone import BACKBONES, Backbone
from panokit_network.deploy import count_macs, count_parameters, fuse
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.weights import load_weights, save_weights
from tests.toys.data_folder import CATEGORIES
from tests.toys.network import toy_photos
from tests.toys.scripts import load_script

TAXONOMY = Taxonomy.from_json({"name": "toy", "categories": CATEGORIES})


def small(name: str) -> PanopticNetwork:
    torch.manual_seed(0)
    return PanopticNetwork(NetworkConfig(3, 16, 16, 16, 8, (1,), backbone=name)).eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_features_have_the_strides_and_channels_that_are_told(name: str) -> None:
    backbone = Backbone(name).eval()
    with torch.inference_mode():
        features = backbone(torch.rand(1, 3, 64, 96))
    shapes = [tuple(f.shape[1:]) for f in features]
    assert shapes == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("name", BACKBONES)
def test_folded_it_computes_the_same(name: str) -> None:
    network = small(name)
    for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
        torch.nn.init.normal_(norm.running_mean, 0, 0.3)  # type: ignore[arg-type]
    image = torch.randint(0, 256, (1, 3, 64, 96)).float()
    with torch.inference_mode():
        expected, found = network(image), fuse(network)(image)
    for head, values in expected.items():
        torch.testing.assert_close(found[head], values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_weight_file_names_its_backbone(name: str, tmp_path: Path) -> None:
    network = small(name)
    path = tmp_path / "w.safetensors"
    save_weights(path, network.state_dict(), network.config, TAXONOMY, {})
    loaded, info = load_weights(path)
    assert info.network.backbone == loaded.backbone.name == name


def test_a_configuration_without_a_backbone_is_that_of_older_files() -> None:
    data = {k: v for k, v in NetworkConfig().to_json().items() if k != "backbone"}
    assert NetworkConfig.from_json(data) == NetworkConfig()
    assert NetworkConfig().backbone == "efficientnet-lite0"


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(ArgumentError, match="there is no backbone 'resnet'"):
        NetworkConfig(backbone="resnet")
    with pytest.raises(
        ArgumentError, match=r"no ImageNet weights of mobilenet-v2; expected --init"
    ):
        Backbone("mobilenet-v2").load_imagenet({})


def test_both_are_small() -> None:
    sizes = {n: PanopticNetwork(NetworkConfig(backbone=n)).eval() for n in BACKBONES}
    assert {n: round(count_parameters(m) / 1e6, 1) for n, m in sizes.items()} == {
        "efficientnet-lite0": 3.2, "mobilenet-v2": 2.7,
    }  # fmt: skip
    assert {n: round(count_macs(fuse(m), (320, 320)) / 1e9, 2) for n, m in sizes.items()} == {
        "efficientnet-lite0": 1.31, "mobilenet-v2": 1.22,
    }  # fmt: skip


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """A TensorFlow.js model with the names of a detector's backbone, in two files."""
    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {}

    def layer(name: str, shape: tuple[int, ...], depthwise: bool = False) -> None:
        place = f"FeatureExtractor/MobilenetV2/{name}"
        kernel = "depthwise_weights" if depthwise else "Conv2D/merged_input"
        out = shape[2] if depthwise else shape[3]
        arrays[f"{place}/{kernel}"] = random.normal(0, 0.05, shape).astype(np.float32)
        if depthwise:
            arrays[f"{place}/BatchNorm/batchnorm/mul"] = random.uniform(0.5, 2, out)
        arrays[f"{place}/BatchNorm/batchnorm/sub"] = random.normal(0, 0.1, out)

    layer("Conv", (3, 3, 3, 32))
    blocks: list[Any] = list(Backbone("mobilenet-v2").blocks)
    for index, block in enumerate(blocks):
        name = f"expanded_conv_{index}" if index else "expanded_conv"
        hidden, out = block.project.conv.in_channels, block.project.conv.out_channels
        if index:
            layer(f"{name}/expand", (1, 1, block.expand.conv.in_channels, hidden))
        layer(f"{name}/depthwise", (3, 3, hidden, 1), depthwise=True)
        layer(f"{name}/project", (1, 1, hidden, out))
    layer("Conv_1", (1, 1, 320, 1280))
    data = b"".join(a.astype(np.float32).tobytes() for a in arrays.values())
    (tmp_path / "shard1").write_bytes(data[:1000])
    (tmp_path / "shard2").write_bytes(data[1000:])
    weights = [{"name": n, "shape": a.shape, "dtype": "float32"} for n, a in arrays.items()]
    manifest = [{"paths": ["shard1", "shard2"], "weights": weights}]
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    return tmp_path


def test_a_detectors_weights_become_the_backbones(detector: Path) -> None:
    script = load_script("detector_backbone")
    weights = script.read_tfjs(detector)
    backbone = script.detector_backbone(weights)
    name = "FeatureExtractor/MobilenetV2/Conv_1"
    x = torch.rand(1, 320, 2, 3)
    with torch.inference_mode():
        found = backbone.top(x)[0, :, 1, 2].numpy()
    kernel = weights[f"{name}/Conv2D/merged_input"][0, 0]
    expected = x[0, :, 1, 2].numpy() @ kernel + weights[f"{name}/BatchNorm/batchnorm/sub"]
    np.testing.assert_allclose(found, np.clip(expected, 0, 6), atol=1e-4)


def test_the_layers_to_a_foreign_decoder_are_fitted(detector: Path, tmp_path: Path) -> None:
    """What they give it is nearer to what it was trained with than nothing is."""
    script = load_script("detector_backbone")
    backbone = script.detector_backbone(script.read_tfjs(detector))
    paths = []
    for name, photo in toy_photos(3).items():
        paths.append(tmp_path / f"{name}.png")
        photo.save(paths[-1])
    donor = small("efficientnet-lite0")
    with torch.inference_mode():
        network = script.with_decoder(backbone, donor, paths)
        image = torch.from_numpy(Photo.open(paths[0]).rgb_hwc[:64, :64].copy())
        x = image.permute(2, 0, 1)[None].float()
        ours = network.semantic_lateral.normalized(network.features(x)[0])
        theirs = donor.semantic_lateral.normalized(donor.features(x)[0])
    assert (ours - theirs).square().mean() < 0.5 * theirs.square().mean()
    assert torch.equal(network.semantic_head.weight, donor.semantic_head.weight)
