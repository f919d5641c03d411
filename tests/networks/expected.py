"""The kinds that a format does not take (``sentence``), or that nothing here can run
(``unchecked``). All others are ``ok``."""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, dict[str, str]] = {
    "onnx": {"scripted": "sentence"},
    "tflite": {"fourier": "sentence", "sort": "sentence", "scripted": "sentence"},
    "coreml": {
        "convolution_with_computed_filters": "sentence",  # six axes
        "unfold_by_slices": "sentence",  # six axes
        "involution": "sentence",  # six axes
        "fourier": "sentence",
        "recurrent_rows": "unchecked",  # a loop
    },
}
