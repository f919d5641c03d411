"""How much a fuzzer draws: a short round in `make test`, a long one in `make fuzz`."""

from __future__ import annotations

import os

__all__ = ["IS_LONG", "rounds"]

IS_LONG = os.environ.get("PANOKIT_FUZZ") == "1"


def rounds(short: int, long: int) -> int:
    """``long`` where `make fuzz` runs, else ``short``."""
    return long if IS_LONG else short
