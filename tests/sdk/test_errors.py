"""Errors travel between processes with their fields."""

from __future__ import annotations

import pickle

import pytest

from panokit import errors

MADE = [
    errors.ArgumentError("size", "size is 0; expected at least 1"),
    errors.DataError("a.json", "is empty"),
    errors.HeadError("offset", "holds NaN", (1, 2)),
    errors.MissingExtraError("plots", "report"),
]


@pytest.mark.parametrize("error", MADE, ids=lambda e: type(e).__name__)
def test_errors_are_the_same_in_another_process(error: errors.PanokitError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_unknown_name_suggests_the_nearest() -> None:
    error = errors.ArgumentError.unknown("fault", "brg", ("rotated", "bgr"))
    wanted = "there is no fault 'brg' (did you mean 'bgr'?); expected one of: rotated, bgr"
    assert (error.name, str(error)) == ("fault", wanted)
    assert str(errors.ArgumentError.unknown("class", 7, ())) == (
        "there is no class 7; expected one of: none"
    )
