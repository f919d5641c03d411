"""One way to open an ONNX file with onnxruntime: in this process and in the one that tries it."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["onnx_session"]


def onnx_session(path: str | os.PathLike[str], threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file; what it raises if it cannot, whatever that is.

    Without VNNI, x86 kernels clip the sums of int8 products to 16 bits unless told not to.
    onnxruntime 1.32 cannot do what it is told with a weight that several layers share; then
    operators are not joined, which is slower and as exact.
    """
    import onnxruntime

    def opened(level: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.graph_optimization_level = level
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )

    levels = onnxruntime.GraphOptimizationLevel
    try:
        return opened(levels.ORT_ENABLE_ALL)
    except Exception as error:  # its errors have no base of their own
        try:
            return opened(levels.ORT_ENABLE_BASIC)
        except Exception:
            raise error from None
