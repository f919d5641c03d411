"""Checkpoints of a running training: one safetensors file, no pickle, replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from panokit._files import write_bytes
from panokit._places import plain_file
from panokit._safetensors import in_order
from panokit.errors import DataError

__all__ = ["load_checkpoint", "save_checkpoint"]

FORMAT = "panokit-checkpoint/1"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    config: dict[str, Any],
) -> None:
    """Write everything that the next step depends on."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    names = {id(p): n for n, p in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{key}.{names[id(parameter)]}"] = value
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    metadata = {"format": FORMAT, "step": str(step), "config": json.dumps(config)}
    write_bytes(path, in_order(save(tensors, metadata)))


def load_checkpoint(
    path: Path, model: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> int:
    """Restore model, EMA and optimizer in place and return the number of steps done."""
    try:
        with safe_open(plain_file(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(path, f"expected a training checkpoint, but {error}") from None
    if metadata.get("format") != FORMAT:
        got = metadata.get("format", "none")
        raise DataError(path, f"expected a checkpoint in format {FORMAT!r}, got {got!r}")
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    try:
        model.load_state_dict(groups["model"])
    except RuntimeError as error:
        raise DataError(path, f"is of another network: {str(error)[:300]}") from None
    for name, tensor in groups["ema"].items():
        ema[name].copy_(tensor)
    parameters = dict(model.named_parameters())
    for name, tensor in groups["optimizer"].items():
        key, _, parameter = name.partition(".")
        weight = parameters[parameter]
        if tensor.shape == weight.shape:
            # Fused optimizers walk through memory: moments must lie there as their weights do.
            tensor = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
        optimizer.state[weight][key] = tensor.to(weight.device)
    return int(metadata["step"])
