"""bfloat16 where the processor has it; float32 elsewhere."""

from __future__ import annotations

import torch

__all__ = ["mixed_precision"]


def mixed_precision(device: torch.device, wanted: bool = True) -> torch.autocast:
    """A context in which ``device`` computes in bfloat16, if that is ``wanted`` and fast there.

    A processor without AVX-512 does bfloat16 in software, 50 times slower than float32. Graphics
    cards before Ampere have no bfloat16 either.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    else:
        fast = True
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and fast)
