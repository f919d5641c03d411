"""Does a device agree with the reference? Compare a dump stage by stage and give a verdict."""

from panokit.validation.compare import (
    HeadAgreement,
    PanopticAgreement,
    compare_maps,
    compare_tensors,
)
from panokit.validation.verdict import (
    PhotoVerdict,
    StageVerdict,
    ValidationConfig,
    Verdict,
    validate_dump,
)

__all__ = [
    "HeadAgreement",
    "PanopticAgreement",
    "PhotoVerdict",
    "StageVerdict",
    "ValidationConfig",
    "Verdict",
    "compare_maps",
    "compare_tensors",
    "validate_dump",
]
