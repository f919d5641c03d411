"""Does a device agree with the reference, and if not, at which stage and why?

:func:`validate_dump` judges one dump, :func:`validate_dumps` a run of any size,
:func:`diagnose` names the cause.
"""

from panokit.agreement import TensorAgreement, compare_tensors, estimate_shift
from panokit_validation.compare import (
    Comparison,
    StageComparison,
    compare_dump,
)
from panokit_validation.diagnosis import (
    Cause,
    Diagnosis,
    DiagnosisConfig,
    Finding,
    diagnose,
)
from panokit_validation.maps import MapAgreement, SegmentAgreement, SegmentKind, compare_maps
from panokit_validation.reference import ReferenceStages
from panokit_validation.run import validate_dumps
from panokit_validation.summary import RunSummary
from panokit_validation.thresholds import ValidationConfig, thresholds_for
from panokit_validation.ties import PixelKinds
from panokit_validation.verdict import (
    PhotoVerdict,
    StageVerdict,
    Verdict,
    judge,
    validate_dump,
)
from panokit_validation.worker import Outcome, RunConfig

__all__ = [
    "Cause",
    "Comparison",
    "Diagnosis",
    "DiagnosisConfig",
    "Finding",
    "MapAgreement",
    "Outcome",
    "PhotoVerdict",
    "PixelKinds",
    "ReferenceStages",
    "RunConfig",
    "RunSummary",
    "SegmentAgreement",
    "SegmentKind",
    "StageComparison",
    "StageVerdict",
    "TensorAgreement",
    "ValidationConfig",
    "Verdict",
    "compare_dump",
    "compare_maps",
    "compare_tensors",
    "diagnose",
    "estimate_shift",
    "judge",
    "thresholds_for",
    "validate_dump",
    "validate_dumps",
]
