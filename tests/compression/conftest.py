"""The toy network as a float TFLite file, converted once, and inputs to calibrate with."""

from __future__ import annotations

import pytest

from panokit.preprocessing import PreprocessConfig
from panokit_compression import CalibrationSet, calibration_from_photos
from panokit_converters.tflite.convert import convert_tflite
from tests.toys.network import ToyNetwork, toy_photos

SIZE = 32


@pytest.fixture(scope="session")
def float_tflite() -> bytes:
    return convert_tflite(ToyNetwork().eval(), (SIZE, SIZE))


@pytest.fixture(scope="session")
def calibration() -> CalibrationSet:
    return calibration_from_photos(toy_photos(16), 16, PreprocessConfig((SIZE, SIZE)))
