"""From a torch network to what phones run, and the bundle around it.

::

    contract       does a torch module obey the head contract?
    tflite         → TFLite file, by litert-torch; tflite_file, tflite_metadata: its borders, labels
    coreml         → Core ML package, by coremltools; coreml_forms: how it stores weights
    onnx           → ONNX file, by torch and onnxruntime
    coreai         → Core AI asset, by coreai-torch (experimental)
    artifacts      one recipe in one format, and how it is run here
    agreement      how close are two sets of heads?
    bundle_writer  artifacts + manifest + golden vectors → NAME.panokit
    export         all of it, from a weight file or a module of one's own
    verify         golden vectors and the float artifact again, without torch; runners
    bisect         the first operator that is wrong: trace, diagnose
    lint           what is known to hurt on devices; lint_graph
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panokit_converters.agreement import Agreement, HeadAgreement, compare_heads
    from panokit_converters.bisect import bisect_traces
    from panokit_converters.bundle_writer import BundlePart, write_bundle
    from panokit_converters.contract import HEADS, HeadContract, check_contract
    from panokit_converters.coreml import coreml_specs, write_coreml
    from panokit_converters.coreml_forms import CoreMlForm, coreml_form
    from panokit_converters.export import (
        ExportRequest,
        ExportResult,
        ExportSource,
        export_bundle,
        run_export,
        source_from_weights,
    )
    from panokit_converters.lint import lint_path
    from panokit_converters.onnx import convert_onnx, onnx_operators, quantize_onnx
    from panokit_converters.tflite import convert_tflite, tflite_operators, tflite_specs
    from panokit_converters.tflite_file import with_input
    from panokit_converters.tflite_metadata import ModelInfo, with_metadata
    from panokit_converters.trace import trace_artifact
    from panokit_converters.verify import Thresholds, verify_bundle

__all__ = [
    "HEADS",
    "Agreement",
    "BundlePart",
    "CoreMlForm",
    "ExportRequest",
    "ExportResult",
    "ExportSource",
    "HeadAgreement",
    "HeadContract",
    "ModelInfo",
    "Thresholds",
    "bisect_traces",
    "check_contract",
    "compare_heads",
    "convert_onnx",
    "convert_tflite",
    "coreml_form",
    "coreml_specs",
    "export_bundle",
    "lint_path",
    "onnx_operators",
    "quantize_onnx",
    "run_export",
    "source_from_weights",
    "tflite_operators",
    "tflite_specs",
    "trace_artifact",
    "verify_bundle",
    "with_input",
    "with_metadata",
    "write_bundle",
    "write_coreml",
]

# Loaded when first used: the Core ML interpreter beside these needs no torch.
_MODULE_OF = {
    "bisect_traces": "bisect",
    "lint_path": "lint",
    "trace_artifact": "trace",
    "Thresholds": "verify",
    "verify_bundle": "verify",
    "with_metadata": "tflite_metadata",
    "ModelInfo": "tflite_metadata",
    "with_input": "tflite_file",
    "quantize_onnx": "onnx",
    "onnx_operators": "onnx",
    "convert_onnx": "onnx",
    "source_from_weights": "export",
    "run_export": "export",
    "ExportSource": "export",
    "ExportResult": "export",
    "coreml_form": "coreml_forms",
    "CoreMlForm": "coreml_forms",
    "Agreement": "agreement",
    "HeadAgreement": "agreement",
    "compare_heads": "agreement",
    "BundlePart": "bundle_writer",
    "write_bundle": "bundle_writer",
    "HEADS": "contract",
    "HeadContract": "contract",
    "check_contract": "contract",
    "coreml_specs": "coreml",
    "write_coreml": "coreml",
    "ExportRequest": "export",
    "export_bundle": "export",
    "convert_tflite": "tflite",
    "tflite_operators": "tflite",
    "tflite_specs": "tflite",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'panokit_converters' has no attribute {name!r}")
    return getattr(import_module(f"panokit_converters.{_MODULE_OF[name]}"), name)
