"""Checking a port's results against the suite: which case differs, and at which stage first."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import DataError
from panokit.vectors.suite import (
    Tensors,
    all_cases,
    compute,
    contract_of,
    read_case,
    read_index,
)

__all__ = ["STAGES", "CaseCheck", "check_suite"]

STAGES = (
    "input", "quantized", "real.semantic", "real.center", "real.offset", "semantic", "offset",
    "queries", "query_scores", "detections", "columns", "class_map", "unmapped", "probability",
    "scores", "boxes", "centers", "center_scores", "votes", "kept", "kept_columns", "instances",
    "areas", "order", "painted", "ranks", "owners", "owned", "held", "both", "ids", "photo_ids",
)  # fmt: skip
"""Tensors of a result in the order of the computation: the first that differs is the cause."""

ROUNDED = ("probability",)
"""Tensors that may lie off as far as scores may: they go through an exponential in float32."""

REQUIRED = {"decode": ("ids",), "preprocess": ("input",)}


@dataclass(frozen=True)
class CaseCheck:
    """One case: whether it agrees, and if not at which ``stage`` first and how."""

    name: str
    stage: str = ""
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing differs."""
        return not self.stage

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"name": self.name, "good": self.good, "stage": self.stage, "reason": self.reason}


def check_suite(
    suite: str | os.PathLike[str], results: str | os.PathLike[str] | None = None
) -> list[CaseCheck]:
    """Check results against a suite, case by case.

    ``results`` holds a ``NAME.safetensors`` for each case with any of the tensors in
    :data:`STAGES` (``ids`` or ``input`` at least), and as metadata ``segments``, ``transform`` or
    ``error`` the JSON of what the suite's ``expected`` holds. Without it, this installation's
    reference is checked.
    """
    index = read_index(suite)
    own = {c.name: c for c in all_cases(contract_of(index, suite))} if results is None else {}
    tolerance = float(index["score_tolerance"])
    checks = []
    for entry in index["cases"]:
        name = str(entry["name"])
        if name != Path(name).name:
            raise DataError(Path(suite), f"expected plain case names, got {name!r}")
        expected, _ = read_case(Path(suite) / f"{name}.safetensors")
        try:
            if results is None:
                found, described = compute(own[name])
            else:
                found, metadata = read_case(Path(results) / f"{name}.safetensors")
                described = {k: json.loads(v) for k, v in metadata.items() if k in _DESCRIBED}
        except KeyError:
            checks.append(CaseCheck(name, "case", "this version does not know the case"))
            continue
        except (DataError, ValueError) as error:
            checks.append(CaseCheck(name, "file", str(error)))
            continue
        stage, reason = _compare(entry, expected, found, described, tolerance)
        checks.append(CaseCheck(name, stage, reason))
    return checks


_DESCRIBED = ("segments", "transform", "error")


def _compare(
    entry: Mapping[str, Any],
    expected: Tensors,
    found: Tensors,
    described: Mapping[str, Any],
    tolerance: float,
) -> tuple[str, str]:
    """Stage and reason of the first difference; two empty texts if there is none."""
    wanted = entry["expected"]
    if "error" in wanted:
        got = described.get("error")
        return ("", "") if got == wanted["error"] else ("error", _differs(wanted["error"], got))
    missing = [n for n in REQUIRED[entry["kind"]] if n not in found]
    if missing:
        return missing[0], "is missing"
    for stage in STAGES:
        if stage in found and stage in expected:
            allowed = tolerance if stage in ROUNDED else 0.0
            reason = _difference(expected[stage], found[stage], allowed)
            if reason:
                return stage, reason
    if "transform" in described and "transform" in wanted:
        keys = ("photo_wh", "input_wh", "content_wh", "left", "top")
        pair = [{k: d.get(k) for k in keys} for d in (wanted["transform"], described["transform"])]
        if pair[0] != pair[1]:
            return "transform", _differs(*pair)
    if "segments" in described and "segments" in wanted:
        return _compare_segments(wanted["segments"], described["segments"], tolerance)
    return "", ""


def _compare_segments(wanted: list[Any], got: list[Any], tolerance: float) -> tuple[str, str]:
    if len(wanted) != len(got):
        return "segments", _differs(f"{len(wanted)} segments", f"{len(got)}")
    for a, b in zip(wanted, got, strict=True):
        for key, value in a.items():
            other = b.get(key)
            if key == "score" and isinstance(other, int | float):
                if math.isfinite(other) and abs(other - value) <= tolerance:
                    continue
            elif other == value:
                continue
            return "segments", f"segment {a['id']}, {key}: {_differs(value, other)}"
    return "", ""


def _squeezed(values: NDArray[Any]) -> tuple[int, ...]:
    return tuple(side for side in values.shape if side != 1)


def _differs(expected: Any, got: Any) -> str:
    return f"expected {expected}, got {got}"


def _difference(expected: NDArray[Any], found: NDArray[Any], allowed: float) -> str:
    """How a tensor differs by more than is allowed; values alone count, not the width of whole
    numbers, nor axes of one."""
    if expected.shape != found.shape and _squeezed(expected) == _squeezed(found):
        found = found.reshape(expected.shape)  # a batch of one, a single channel
    if expected.shape != found.shape:
        if expected.size == found.size == 0:
            return ""
        return _differs(f"shape {expected.shape}", found.shape)
    wrong = np.asarray(expected != found)
    if allowed:
        wrong = ~(np.abs(expected.astype(np.float64) - found) <= allowed)  # NaN differs
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    first = _differs(expected[at], found[at])
    return f"{int(wrong.sum())} of {wrong.size} values differ, first at {at}: {first}"
