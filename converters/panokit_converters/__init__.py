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
