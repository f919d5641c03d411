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
from pathlib import Path

__all__ = ["survives"]

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
print({ALIVE!r})
"""


def survives(tflite: bytes) -> bool:
    """Whether a process that loads ``tflite`` and runs it on nothing but zeros lives on. An error
    that can be caught, or a process that cannot be started, is for the caller's own run to meet."""
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
            return True
    code = ended.returncode
    if code < 0 or code in WINDOWS_CRASHES:
        log.debug("ended with %d: %s", code, ended.stderr[-500:])
        return False
    return True
