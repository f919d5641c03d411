"""Torch → TFLite by litert-torch.

The file takes NHWC images and gives NHWC heads: the layout of every mobile kernel, so that no
transposition is left in the graph. Outputs are named by a signature; match them by name, never by
position.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from panokit._quiet import quiet
from panokit.errors import ExportError, MissingExtraError
from panokit_converters.contract import run_heads
from panokit_converters.interface import HEADS, INPUT
from panokit_converters.tflite.layout import without_transposes

__all__ = ["convert_tflite"]

log = logging.getLogger(__name__)


class NhwcHeads(nn.Module):
    """A module of the head contract, channels last: ``[N,H,W,3]`` → three heads ``[N,h,w,C]``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        heads = self.module(image.permute(0, 3, 1, 2))
        # Sorted, as the signature will be: the order in the file then does not depend on ours.
        return {name: heads[name].permute(0, 2, 3, 1) for name in sorted(HEADS)}


# The converter writes this path into the names of tensors; artifacts must not change with files.
NhwcHeads.__module__ = "panokit_converters.tflite"


def convert_tflite(module: nn.Module, size_wh: tuple[int, int]) -> bytes:
    """A float32 TFLite file of ``module`` (head contract, eval mode) for one image of ``size_wh``.

    The same weights give the same bytes. Takes a quarter of a minute; for other precisions
    quantize the file.
    """
    width, height = size_wh
    run_heads(module, torch.zeros(1, 3, height, width))
    convert = _converter()
    image = torch.zeros(1, height, width, 3)
    try:
        with quiet(log), _without_progress():
            converted = convert(NhwcHeads(module).eval(), sample_kwargs={INPUT: image})
            content = bytes(converted.model_content())
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = f"litert-torch cannot convert the module ({type(error).__name__}: {error})"
        raise ExportError("TFLite", reason) from error
    return without_transposes(content)


def _converter() -> Any:
    try:
        with quiet(log):
            import litert_torch
    except ImportError as error:
        if error.name == "litert_torch":
            raise MissingExtraError("exporting to TFLite", "export") from None
        raise
    return litert_torch.convert


@contextmanager
def _without_progress() -> Iterator[None]:
    """litert-torch draws its progress unless this variable says no."""
    name = "LITERT_TORCH_SHOW_PROGRESS"
    before = os.environ.get(name)
    os.environ[name] = "n"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
