"""How good a segmentation is: panoptic quality, IoU of classes and boundaries, whole data sets."""

from panokit.quality.evaluate import EvaluationResult, PhotoQuality, Segmenter, evaluate
from panokit.quality.panoptic_quality import (
    ClassQuality,
    PanopticQuality,
    PanopticQualityResult,
)
from panokit.quality.semantic import SemanticQuality, SemanticResult, boundary, boundary_counts
from panokit.quality.truth import TruthPhoto, TruthSegment, decode_ids, load_truth, open_photo

__all__ = [
    "ClassQuality",
    "EvaluationResult",
    "PanopticQuality",
    "PanopticQualityResult",
    "PhotoQuality",
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
]
