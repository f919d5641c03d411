"""Memory that a training on a processor keeps."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt, and what they are set to.
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
_SETTINGS = {
    _MMAP_MAX: 0,  # large tensors come from the heap as well,
    _TRIM_THRESHOLD: -1,  # whose end is not given back,
    _TOP_PAD: 64 << 20,  # and which grows by so many bytes
}


@cache
def keep_freed_memory() -> bool:
    """Have this process keep what it frees for its next tensors; whether the C library can.

    A training step frees what the next one asks for. To hand it to the system and get it back page
    by page takes a fifth of a step. What is kept is given back when the process ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(*pair) for pair in _SETTINGS.items())
