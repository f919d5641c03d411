"""Labelled photos: reading them, what partial labels and teachers say, and how good a result is.

::

    coco_panoptic  true labels in the COCO panoptic format
    pseudo         labels made by networks; labelling makes them
    labelled       both merged, for training; records is what a photo's labels say
    packs          photos and merged labels in a few files; photo_source opens either
    quality        panoptic quality, IoU of classes and boundaries, whole data sets
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panokit._lazy import lazy

if TYPE_CHECKING:
    from panokit_datasets.coco_panoptic import PanopticFolder, TruthPhoto, TruthSegment, load_truth
    from panokit_datasets.labelled import FolderPhoto, load_split
    from panokit_datasets.labelling import Ensemble, LabelSettings
    from panokit_datasets.packs import PackFolder, write_packs
    from panokit_datasets.photo_source import PhotoSource
    from panokit_datasets.pseudo import PseudoLabels, read_pseudo_labels
    from panokit_datasets.quality import PanopticQuality, SemanticQuality, evaluate, predictor
    from panokit_datasets.records import DecodedPhoto, PhotoRecord, SegmentRecord

__getattr__ = lazy(
    __name__,
    {
        "coco_panoptic": (
            "PanopticFolder",
            "TruthPhoto",
            "TruthSegment",
            "load_truth",
        ),
        "labelled": (
            "FolderPhoto",
            "load_split",
        ),
        "labelling": (
            "Ensemble",
            "LabelSettings",
        ),
        "packs": (
            "PackFolder",
            "write_packs",
        ),
        "photo_source": ("PhotoSource",),
        "pseudo": (
            "PseudoLabels",
            "read_pseudo_labels",
        ),
        "quality": (
            "PanopticQuality",
            "SemanticQuality",
            "evaluate",
            "predictor",
        ),
        "records": (
            "DecodedPhoto",
            "PhotoRecord",
            "SegmentRecord",
        ),
    },
)

__all__ = [
    "DecodedPhoto",
    "Ensemble",
    "FolderPhoto",
    "LabelSettings",
    "PackFolder",
    "PanopticFolder",
    "PanopticQuality",
    "PhotoRecord",
    "PhotoSource",
    "PseudoLabels",
    "SegmentRecord",
    "SemanticQuality",
    "TruthPhoto",
    "TruthSegment",
    "evaluate",
    "load_split",
    "load_truth",
    "predictor",
    "read_pseudo_labels",
    "write_packs",
]
