"""What is the same in two maps, and which integers are labels."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.bundle import TensorSpec
from panokit.decoding.comparing import matched_ids
from panokit.errors import HeadError
from panokit.runtime import dequantize

A = np.array([[1, 1, 1, 2], [1, 1, 0, 2]])


def test_segments_match_by_class_and_overlap() -> None:
    b = np.array([[2, 2, 2, 1], [2, 0, 0, 1]])
    same = matched_ids(A, b, [5, 7], [7, 5])
    assert same.tolist() == [[True, True, True, True], [True, False, True, True]]
    assert matched_ids(A, b, [5, 7], [7, 6]).sum() == 3  # the second segment, and void
    assert matched_ids(A, b, None, [7, 6]).sum() == 7
    assert matched_ids(A, 0 * A, [5, 7], []).sum() == 1


def test_bytes_are_labels_where_the_artifact_says_so() -> None:
    raw = {"semantic": np.array([[3, 200]], np.uint8)}
    labels = TensorSpec("out", (1, 1, 2), "uint8", "rows")
    assert dequantize(raw, {"semantic": labels})["semantic"].tolist() == [[3, 200]]
    with pytest.raises(HeadError, match="has no scale"):
        dequantize(raw, {"semantic": TensorSpec("out", (1, 1, 2), "float32", "rows")})
