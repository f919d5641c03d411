"""The torch network, its training and its weight files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panokit._lazy import lazy

if TYPE_CHECKING:
    from panokit_network.deploy import count_macs, count_parameters, fuse
    from panokit_network.model import NetworkConfig, PanopticNetwork
    from panokit_network.segmenter import open_weights
    from panokit_network.source import NetworkSource
    from panokit_network.training.config import Phase, TrainConfig
    from panokit_network.training.trainer import Trainer, TrainResult
    from panokit_network.weights import load_weights, save_weights

__getattr__ = lazy(
    __name__,
    {
        "training.config": (
            "Phase",
            "TrainConfig",
        ),
        "deploy": (
            "count_macs",
            "count_parameters",
            "fuse",
        ),
        "model": (
            "NetworkConfig",
            "PanopticNetwork",
        ),
        "segmenter": ("open_weights",),
        "source": ("NetworkSource",),
        "training.trainer": (
            "TrainResult",
            "Trainer",
        ),
        "weights": (
            "load_weights",
            "save_weights",
        ),
    },
)

__all__ = [
    "NetworkConfig",
    "NetworkSource",
    "PanopticNetwork",
    "Phase",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "count_macs",
    "count_parameters",
    "fuse",
    "load_weights",
    "open_weights",
    "save_weights",
]
