"""Work for processes: importable by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

from panokit.errors import DataError


def double(number: int) -> int:
    """Twice the number; odd hundreds are refused."""
    if number % 200 == 100:
        raise DataError("numbers", f"{number} is refused")
    return 2 * number


def late_if_even(number: int) -> int:
    """The number; even ones take longer."""
    if number % 2 == 0:
        time.sleep(0.3)
    return number


def dies(number: int) -> int:
    """The number; 3 and 4 end their process."""
    if number in (3, 4):
        os._exit(9)
    return number


def dies_once(folder: Path, number: int) -> int:
    """The number; the first time that 3 is tried it ends its process."""
    mark = folder / str(number)
    if number == 3 and not mark.exists():
        mark.touch()
        os._exit(9)
    return number
