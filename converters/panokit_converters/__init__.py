"""From a torch network to what phones run, and the bundle around it.

::

    contract       does a torch module obey the head contract?
    tflite         → TFLite file, by litert-torch
    coreml         → Core ML package, by coremltools
    agreement      how close are two sets of heads?
    bundle_writer  artifacts + manifest + golden vectors → NAME.panokit
    export         all of it, from a weight file
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panokit_converters.agreement import Agreement, HeadAgreement, compare_heads
    from panokit_converters.bundle_writer import BundlePart, write_bundle
    from panokit_converters.contract import HEADS, HeadContract, check_contract
    from panokit_converters.coreml import coreml_specs, write_coreml
    from panokit_converters.export import ExportRequest, export_bundle
    from panokit_converters.tflite import convert_tflite, tflite_operators, tflite_specs

__all__ = [
    "HEADS",
    "Agreement",
    "BundlePart",
    "ExportRequest",
    "HeadAgreement",
    "HeadContract",
    "check_contract",
    "compare_heads",
    "convert_tflite",
    "coreml_specs",
    "export_bundle",
    "tflite_operators",
    "tflite_specs",
    "write_bundle",
    "write_coreml",
]

# Loaded when first used: the Core ML interpreter beside these needs no torch.
_MODULE_OF = {
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
