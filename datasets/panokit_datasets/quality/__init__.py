"""How good a segmentation is: panoptic quality, IoU of classes and boundaries, whole data sets."""

from panokit_datasets.coco_panoptic import (
    TruthPhoto,
    TruthSegment,
    decode_ids,
    load_truth,
    open_photo,
)
from panokit_datasets.quality.breakdown import (
    Breakdown,
    BreakdownResult,
    ScoreBin,
    SizeQuality,
    write_breakdown,
)
from panokit_datasets.quality.evaluate import (
    EvaluationPhoto,
    EvaluationResult,
    PhotoQuality,
    Prediction,
    Segmenter,
    evaluate,
)
from panokit_datasets.quality.panoptic_quality import (
    ClassQuality,
    PanopticQuality,
    PanopticQualityResult,
)
from panokit_datasets.quality.predictor import predictor
from panokit_datasets.quality.semantic import (
    SemanticQuality,
    SemanticResult,
    boundary,
    boundary_counts,
)
from panokit_datasets.quality.sheet import write_sheet

__all__ = [
    "Breakdown",
    "BreakdownResult",
    "ClassQuality",
    "EvaluationPhoto",
    "EvaluationResult",
    "PanopticQuality",
    "PanopticQualityResult",
    "PhotoQuality",
    "Prediction",
    "ScoreBin",
    "Segmenter",
    "SemanticQuality",
    "SemanticResult",
    "SizeQuality",
    "TruthPhoto",
    "TruthSegment",
    "boundary",
    "boundary_counts",
    "decode_ids",
    "evaluate",
    "load_truth",
    "open_photo",
    "predictor",
    "write_breakdown",
    "write_sheet",
]
