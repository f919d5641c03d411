"""Trained weights as a segmenter: what `panokit evaluate --weights` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit.bundle import Artifact, Bundle, Manifest, TensorSpec
from panokit.decoding import PostprocessConfig
from panokit.preprocessing import PreprocessConfig, Size, sides
from panokit.segmenter import Segmenter
from panokit_network.model import HEAD_NAMES, PanopticNetwork
from panokit_network.source import NetworkSource

__all__ = ["TorchRuntime", "open_weights"]


class TorchRuntime:
    """The network in PyTorch, float32, channels last out."""

    name = "torch"

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Raw heads ``[h,w,C]`` float32 of an image uint8 ``[H,W,3]``."""
        image = torch.from_numpy(image_hwc.copy()).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            heads = self.network(image)
        return {n: heads[n][0].permute(1, 2, 0).contiguous().numpy() for n in HEAD_NAMES}


def open_weights(
    path: str | Path, size: Size = 320, config: PostprocessConfig | None = None
) -> Segmenter:
    """A segmenter that runs a weight file at ``size``."""
    source = NetworkSource.from_weights(path)
    stride = PanopticNetwork.stride
    width, height = sides(size, stride)
    channels = {"semantic": len(source.taxonomy), "center": 1, "offset": 2}
    artifact = Artifact(
        name=f"torch:{Path(path).name}",
        format="torch",
        file=str(path),
        sha256="",
        bytes=0,
        precision="float32",
        input=TensorSpec("image", (1, height, width, 3), "float32", "nhwc"),
        outputs={
            n: TensorSpec(n, (1, height // stride, width // stride, channels[n]), "float32", "nhwc")
            for n in HEAD_NAMES
        },
    )
    manifest = Manifest(
        name=source.name,
        taxonomy=source.taxonomy,
        preprocessing=PreprocessConfig((width, height)),
        postprocessing=config or source.postprocessing,
        stride=stride,
        artifacts=(artifact,),
    )
    return Segmenter(Bundle(Path(path).parent, manifest), artifact, TorchRuntime(source.module))
