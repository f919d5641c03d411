"""The streaming agreement of tensors, with figures that can be derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.agreement import INFINITE_DB, AgreementMeter, decibel
from panokit.errors import ArgumentError


def test_pooled_over_pairs_of_any_type() -> None:
    meter = AgreementMeter()
    meter.update(np.array([10, 0], np.int8), np.array([11, 0], np.uint8))
    meter.update(np.array([[0.0, 10.0]]), np.array([[0.0, 8.0]], np.float16))
    found = meter.compute()
    # signal 100 + 100, noise 1 + 4, candidate's power 121 + 64, product 110 + 80
    assert found.sqnr_db == pytest.approx(10 * np.log10(200 / 5))
    assert (found.max_abs, found.mean_abs) == (2, 3 / 4)
    assert found.cosine == pytest.approx(190 / np.sqrt(200 * 185))
    assert found.to_json()["sqnr_db"] == 16.02


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(1, 0, INFINITE_DB), (0, 1, -INFINITE_DB), (0, 0, INFINITE_DB), (100, 1, 20),
     (1, float("inf"), -INFINITE_DB)],
)  # fmt: skip
def test_decibel(signal: float, noise: float, expected: float) -> None:
    assert decibel(signal, noise) == pytest.approx(expected)


def test_silence() -> None:
    meter = AgreementMeter()
    meter.update(np.zeros(3), np.zeros(3))
    assert meter.compute().cosine == 1
    meter.update(np.zeros(3), np.ones(3))
    assert meter.compute().cosine == 0


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ArgumentError, match="there are no pairs"):
        AgreementMeter().compute()
    for candidate in (np.zeros(2), np.zeros((3, 1))):
        with pytest.raises(ArgumentError, match="candidate"):
            AgreementMeter().update(np.zeros(3), candidate)
    with pytest.raises(ArgumentError, match="not empty"):
        AgreementMeter().update(np.zeros(0), np.zeros(0))
