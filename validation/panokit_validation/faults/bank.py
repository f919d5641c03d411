"""The bank: every fault that the simulator can inject and the diagnosis can name."""

from __future__ import annotations

from panokit.errors import ArgumentError
from panokit_validation.faults.bank_input import INPUT_FAULTS
from panokit_validation.faults.bank_output import OUTPUT_FAULTS
from panokit_validation.faults.model import Fault, Variant

__all__ = ["FAULTS", "fault", "fault_names"]

FAULTS: dict[str, Fault] = {f.name: f for f in (*INPUT_FAULTS, *OUTPUT_FAULTS)}
"""Every fault by name, in the order of the pipeline."""


def fault_names() -> tuple[str, ...]:
    """All names, in the order of the pipeline."""
    return tuple(FAULTS)


def fault(name: str) -> tuple[Fault, Variant]:
    """A fault and its variant from ``NAME`` or ``NAME:VARIANT``."""
    stem, _, label = name.partition(":")
    if stem not in FAULTS:
        raise ArgumentError.unknown("fault", name, FAULTS)
    return FAULTS[stem], FAULTS[stem].variant(label)
