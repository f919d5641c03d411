"""From a torch network to what phones run, and proving what came out.

::

    interface      names of input and heads, the same in every format
    contract       does a torch module obey the head contract?
    program/       the module as a flat list of operators, rewritten; who stops a converter
    tflite/        → TFLite file, by litert-torch; its layout, input and metadata
    coreml         → Core ML package, by coremltools
    onnx           → ONNX file, by torch
    coreai         → Core AI asset, by coreai-torch (experimental)
    agreement      how close are two sets of heads?
    measure        an artifact on photos: agreement with a reference, thresholds; runners
    verify         golden vectors and the float artifact again, without torch
    bisect         the first operator that is wrong: trace, diagnose
    lint           what is known to hurt on devices; lint_graph
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panokit._lazy import lazy

if TYPE_CHECKING:
    from panokit_converters.agreement import Agreement, HeadAgreement, compare_heads
    from panokit_converters.bisect import bisect_traces
    from panokit_converters.contract import ContractSpec, check_contract
    from panokit_converters.coreml import coreml_specs, write_coreml
    from panokit_converters.interface import HEADS
    from panokit_converters.lint import lint_path
    from panokit_converters.measure import Thresholds
    from panokit_converters.model_info import ModelInfo
    from panokit_converters.onnx import convert_onnx, onnx_operators
    from panokit_converters.tflite.convert import convert_tflite
    from panokit_converters.tflite.inputs import with_input
    from panokit_converters.tflite.inspect import tflite_operators, tflite_specs
    from panokit_converters.tflite.metadata import with_metadata
    from panokit_converters.trace import trace_artifact
    from panokit_converters.verify import verify_bundle

__all__ = [
    "HEADS",
    "Agreement",
    "ContractSpec",
    "HeadAgreement",
    "ModelInfo",
    "Thresholds",
    "bisect_traces",
    "check_contract",
    "compare_heads",
    "convert_onnx",
    "convert_tflite",
    "coreml_specs",
    "lint_path",
    "onnx_operators",
    "tflite_operators",
    "tflite_specs",
    "trace_artifact",
    "verify_bundle",
    "with_input",
    "with_metadata",
    "write_coreml",
]

# Loaded when first used: the Core ML interpreter beside these needs no torch.
__getattr__ = lazy(
    __name__,
    {
        "agreement": (
            "Agreement",
            "HeadAgreement",
            "compare_heads",
        ),
        "bisect": ("bisect_traces",),
        "contract": (
            "ContractSpec",
            "check_contract",
        ),
        "coreml": (
            "coreml_specs",
            "write_coreml",
        ),
        "interface": ("HEADS",),
        "lint": ("lint_path",),
        "measure": ("Thresholds",),
        "model_info": ("ModelInfo",),
        "onnx": (
            "convert_onnx",
            "onnx_operators",
        ),
        "tflite.convert": ("convert_tflite",),
        "tflite.inputs": ("with_input",),
        "tflite.inspect": (
            "tflite_operators",
            "tflite_specs",
        ),
        "tflite.metadata": ("with_metadata",),
        "trace": ("trace_artifact",),
        "verify": ("verify_bundle",),
    },
)
