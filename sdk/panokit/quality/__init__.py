"""How good a segmentation is: panoptic quality, IoU of classes and boundaries, whole data sets."""

from panokit.quality.evaluate import (
    EvaluationResult,
    PhotoQuality,
    Prediction,
    Segmenter,
    evaluate,
)
from panokit.quality.panoptic_quality import (
    ClassQuality,
    PanopticQuality,
    PanopticQualityResult,
)
from panokit.quality.predictor import predictor
from panokit.quality.semantic import SemanticQuality, SemanticResult, boundary, boundary_counts
from panokit.quality.sheet import write_sheet
from panokit.quality.truth import TruthPhoto, TruthSegment, decode_ids, load_truth, open_photo

__all__ = [
    "ClassQuality",
    "EvaluationResult",
    "PanopticQuality",
    "PanopticQualityResult",
    "PhotoQuality",
    "Prediction",
    "Segmenter",
    "SemanticQuality",
    "SemanticResult",
    "TruthPhoto",
    "TruthSegment",
    "boundary",
    "boundary_counts",
    "decode_ids",
    "evaluate",
    "load_truth",
    "open_photo",
    "predictor",
    "write_sheet",
]
