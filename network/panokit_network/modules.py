"""Networks of a user's own: any torch module of the head contract, found by name, saved and loaded.

A compressed module's file records the channels of every layer, whether batch norms are folded in
and which steps it has been through, so that a freshly made module takes all of that on.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from panokit._files import replacing
from panokit.errors import ArgumentError, DataError
from panokit_network.widths import apply_widths, record_widths

__all__ = ["fold_batch_norms", "import_network", "load_state", "save_state", "steps_done"]

FORMAT = "panokit-module/1"


def import_network(where: str) -> nn.Module:
    """What ``package.module:function`` returns, a module, in eval mode. Modules of the current
    folder are found. This runs the named code: only name code you trust."""
    module_name, _, function = where.partition(":")
    if not module_name or not function:
        raise ArgumentError("module", "written as package.module:function", where)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        build = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise ArgumentError("module", f"one that can be imported ({error})", where) from None
    module = build()
    if not isinstance(module, nn.Module):
        raise ArgumentError("module", "a torch.nn.Module", type(module).__name__)
    return module.eval()


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy of ``module`` with its batch norms folded into its convolutions; itself if it has
    none. ``ArgumentError`` if it cannot be traced."""
    if not any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
        return module
    from torch.fx.experimental.optimization import fuse

    try:
        return fuse(copy.deepcopy(module).eval())
    except Exception as error:  # tracing runs the user's code, which may raise anything
        expected = "one whose batch norms can be folded by torch.fx; fold them yourself"
        raise ArgumentError("module", expected, f"{type(error).__name__}: {error}") from None


def save_state(
    path: Path, module: nn.Module, folded: bool = False, steps: Sequence[str] = ()
) -> None:
    """Write a module's weights (float32) and the widths of its layers as safetensors.

    ``folded`` says that batch norms were folded in, ``steps`` which network steps of a recipe
    (prune, finetune, …) the module has been through.
    """
    state = {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "widths": json.dumps(record_widths(module)),
        "folded": json.dumps(folded),
        "steps_done": json.dumps(list(steps)),
    }
    with replacing(path) as partial:
        save_file(state, partial, metadata)


def load_state(path: Path, module: nn.Module) -> nn.Module:
    """Load a safetensors file into a freshly made ``module``; the module, in eval mode.

    Layers take on the recorded widths first, in place. Of a file without batch norms a folded
    copy is returned. ``DataError`` says what does not fit.
    """
    metadata, state = _read(path)
    if metadata.get("folded") == "true":
        module = fold_batch_norms(module)
    try:
        if "widths" in metadata:
            apply_widths(module, json.loads(metadata["widths"]))
        module.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise DataError(path, f"weights do not fit the module: {str(error)[:300]}") from None
    return module.eval()


def steps_done(path: Path) -> tuple[str, ...]:
    """The network steps that the module in a file has been through; none for a plain file."""
    try:
        return tuple(str(s) for s in json.loads(_read(path)[0].get("steps_done", "[]")))
    except (ValueError, TypeError) as error:
        raise DataError(path, f"expected a list of steps in its metadata, but {error}") from None


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise DataError(path, f"expected a safetensors file, but {error}") from None
