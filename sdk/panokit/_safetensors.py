"""The same content gives the same safetensors file, to the byte.

The library writes the texts of a header in an order that differs from process to process, so that
two files of the same weights have different hashes.
"""

from __future__ import annotations

import json
import struct

__all__ = ["in_order"]


def in_order(data: bytes) -> bytes:
    """A safetensors file of the library's, with the texts of its header sorted by name."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    texts = header.pop("__metadata__", None)
    if texts is None:
        return data
    ordered = {"__metadata__": dict(sorted(texts.items())), **header}
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # what follows stays aligned
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
