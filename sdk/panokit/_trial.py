"""A model file runs in a process of its own before it runs in this one.

A runtime that is handed a hostile file may end the process, take all memory or never come back. In
a child with bounded memory and time that is a sentence.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from panokit.errors import BundleError

__all__ = ["Ended", "run_elsewhere", "try_onnx"]

ROOM_BYTES = 3 << 29
"""What a network may take beside its file, which the runtime holds up to four times."""

SECONDS = 60
HOME = str(Path(__file__).resolve().parent.parent)  # the folder that holds panokit
REFUSED = 9  # exit code of a trial that the runtime ended with an error

_ONNX = """
import os, sys
import numpy as np
import onnxruntime
sys.path.append({home!r})  # where this process has us from, installed or not
from panokit._onnx import onnx_session
try:
    import resource
    with open("/proc/self/statm") as sizes:
        held = int(sizes.read().split()[0]) * resource.getpagesize()
    limit = held + {room} + 4 * os.path.getsize(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
except (ImportError, ValueError, OSError):
    pass
try:
    session = onnx_session(sys.argv[1], 1)
    kinds = {{"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8,
              "tensor(int8)": np.int8}}
    given = {{}}
    for node in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in node.shape]
        given[node.name] = np.full(shape, 100, kinds[node.type])
    session.run(None, given)
except Exception as error:
    sys.stdout.write(" ".join(str(error).split())[:400])
    sys.exit({refused})
"""

# What Windows ends a process with that crashed.
_WINDOWS_CRASHES = (0xC0000005, 0xC0000374, 0xC0000409, 3)

_tried: set[tuple[str, int, int]] = set()


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit ``code`` (below zero for a signal), and what it wrote to
    standard ``output`` and standard ``error``."""

    code: int
    output: str
    error: str

    @property
    def crashed(self) -> bool:
        """Whether a signal ended it, or what Windows has in its place."""
        return self.code < 0 or self.code in _WINDOWS_CRASHES


def run_elsewhere(program: str, path: Path, seconds: float) -> Ended:
    """Run a Python ``program`` that takes ``path`` as its argument, in a process of its own that
    imports nothing from the current folder. ``OSError`` or ``subprocess.TimeoutExpired`` if it
    cannot be started or does not end."""
    done = subprocess.run(  # noqa: S603 - this Python, a program of ours, and a file as data
        [sys.executable, "-P", "-c", program, str(path)],
        capture_output=True,
        check=False,
        timeout=seconds,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    output, error = (text.decode(errors="replace").strip() for text in (done.stdout, done.stderr))
    return Ended(done.returncode, output, error)


def try_onnx(path: Path) -> None:
    """Load and run an ONNX file on a grey image; ``BundleError`` if that does not end well."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key in _tried:
        return
    try:
        ended = run_elsewhere(
            _ONNX.format(room=ROOM_BYTES, refused=REFUSED, home=HOME), path, SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BundleError(path, f"did not run one image in {SECONDS} s") from None
    if ended.code == REFUSED:
        raise BundleError(path, f"onnxruntime cannot run it: {ended.output}")
    if ended.code:
        how = f"signal {-ended.code}" if ended.code < 0 else f"code {ended.code}"
        reason = f"ended the process that tried it ({how}): it is damaged or hostile"
        raise BundleError(path, reason)
    _tried.add(key)
