"""Whether LiteRT survives a file, tried in a process of its own.

LiteRT trusts the files it is given. One with numbers that it did not expect can end the process,
which no caller can catch; so what a tool has just written is loaded and run elsewhere first.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from panokit._trial import run_elsewhere

__all__ = ["Trial", "try_elsewhere"]

log = logging.getLogger(__name__)

SECONDS = 600
_CHILD = """
import sys
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
"""


@dataclass(frozen=True)
class Trial:
    """What became of a process that ran a file: whether it ``died``, or the ``error`` it ended in
    (empty if it ended well, or could not be started)."""

    died: bool = False
    error: str = ""

    @property
    def fatal(self) -> bool:
        """Whether the file as a whole is at fault, by what its numbers are: the process died, or
        the kernels of the whole file refused them."""
        return self.died or "elegate" in self.error


def try_elsewhere(tflite: bytes) -> Trial:
    """Load ``tflite`` and run it on nothing but zeros, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="panokit-run-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(tflite)
        try:
            ended = run_elsewhere(_CHILD, path, SECONDS)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            log.debug("the file was not tried elsewhere: %s", error)
            return Trial()
    log.debug("ended with %d: %s", ended.code, ended.error[-500:])
    if ended.crashed:
        return Trial(died=True)
    return Trial(error=ended.error.splitlines()[-1] if ended.code and ended.error else "")
