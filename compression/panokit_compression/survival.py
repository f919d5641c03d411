"""Whether LiteRT survives a file, tried in a process of its own.

LiteRT trusts the files it is given. One with numbers that it did not expect can end the process,
which no caller can catch; so what a tool has just written is loaded and run elsewhere first.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Trial", "try_elsewhere"]

log = logging.getLogger(__name__)

SECONDS = 600
ALIVE = "alive"
# What Windows ends a process with that crashed.
WINDOWS_CRASHES = (0xC0000005, 0xC0000374, 0xC0000409, 3)
_CHILD = f"""
import sys
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
sys.stdout.write({ALIVE!r})
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
            ended = subprocess.run(  # noqa: S603 - this Python, with a file of our own
                [sys.executable, "-c", _CHILD, str(path)],
                capture_output=True,
                check=False,
                timeout=SECONDS,
                env={**os.environ, "PYTHONSAFEPATH": "1"},
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            log.debug("the file was not tried elsewhere: %s", error)
            return Trial()
    code, said = ended.returncode, ended.stderr.decode(errors="replace").strip()
    log.debug("ended with %d: %s", code, said[-500:])
    if code < 0 or code in WINDOWS_CRASHES:
        return Trial(died=True)
    return Trial(error=said.splitlines()[-1] if code and said else "")
