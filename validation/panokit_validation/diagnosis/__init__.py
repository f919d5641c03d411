"""Why a device differs: causes from the bank of faults, replayed and ranked."""

from panokit_validation.diagnosis.cause import (
    UNKNOWN,
    Cause,
    Diagnosis,
    DiagnosisConfig,
    Finding,
)
from panokit_validation.diagnosis.diagnose import diagnose

__all__ = ["UNKNOWN", "Cause", "Diagnosis", "DiagnosisConfig", "Finding", "diagnose"]
