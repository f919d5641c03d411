"""TensorBoard: the run's figures and pictures as they come. Needs the extra ``train``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import MissingExtraError

__all__ = ["Board", "open_board"]

log = logging.getLogger(__name__)


class Board:
    """Writes what ``tensorboard --logdir RUN`` shows."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def figures(self, figures: Mapping[str, Any], samples: int, prefix: str = "train") -> None:
        """Every number in ``figures`` (nested mappings become paths) over ``samples``."""
        for name, value in figures.items():
            if isinstance(value, Mapping):
                self.figures(value, samples, f"{prefix}/{name}")
            elif isinstance(value, (int, float)) and name not in ("step", "samples"):
                self._writer.add_scalar(f"{prefix}/{name}", value, samples)

    def pictures(self, pictures: Sequence[tuple[str, NDArray[np.uint8]]], samples: int) -> None:
        """Named pictures, uint8 ``[H,W,3]`` sRGB."""
        for name, picture in pictures:
            self._writer.add_image(f"validation/{name}", picture, samples, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


def open_board(folder: Path) -> Board | None:
    """A board in ``folder``, or None (and a line in the log) where TensorBoard is missing."""
    try:
        return Board(folder)
    except ImportError:
        missing = MissingExtraError("TensorBoard", "train")
        log.info("%s Until then figures go to metrics.jsonl alone.", missing)
        return None
