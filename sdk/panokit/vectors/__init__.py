"""Golden vectors: cases with every intermediate and result, for ports to prove themselves.

A suite is a folder: ``suite.json`` describes the cases, ``NAME.safetensors`` holds each one's
tensors. ``docs/port.md`` explains the algorithm and the suite; ``panokit vectors`` writes and
checks it.
"""

from __future__ import annotations

from panokit.vectors.check import CaseCheck, check_suite
from panokit.vectors.golden import FRAMEWORKS, GoldenLimits, write_golden_tests
from panokit.vectors.suite import (
    CONTRACTS,
    FORMAT,
    all_cases,
    compute,
    read_case,
    write_suite,
)

__all__ = [
    "CONTRACTS",
    "FORMAT",
    "FRAMEWORKS",
    "CaseCheck",
    "GoldenLimits",
    "all_cases",
    "check_suite",
    "compute",
    "read_case",
    "write_golden_tests",
    "write_suite",
]
