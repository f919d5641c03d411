"""A model file runs once in a process of its own before it runs in this one.

A runtime that is handed a hostile file may end the process, take all memory or never come back. In
a child with bounded memory and time that is a sentence.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from panokit.errors import BundleError

__all__ = ["try_onnx"]

LIMIT_BYTES = 6 << 30  # address space
SECONDS = 60

_ONNX = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
except (ImportError, ValueError, OSError):
    pass
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = options.inter_op_num_threads = 1
try:
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    kinds = {{"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8,
              "tensor(int8)": np.int8}}
    given = {{}}
    for node in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in node.shape]
        given[node.name] = np.full(shape, 100, kinds[node.type])
    session.run(None, given)
except Exception as error:
    sys.stdout.write(" ".join(str(error).split())[:400])
    sys.exit(3)
"""

_tried: set[tuple[str, int, int]] = set()


def try_onnx(path: Path) -> None:
    """Load and run an ONNX file on a grey image; ``BundleError`` if that does not end well."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key in _tried:
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - this Python and a file that stands for itself
            [sys.executable, "-P", "-c", _ONNX.format(limit=LIMIT_BYTES), str(path)],
            capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
            env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BundleError(path, f"did not run one image in {SECONDS} s") from None
    if done.returncode == 3:
        raise BundleError(path, f"onnxruntime cannot run it: {done.stdout.strip()}")
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        reason = f"ended the process that tried it ({how}): it is damaged or hostile"
        raise BundleError(path, reason)
    _tried.add(key)
