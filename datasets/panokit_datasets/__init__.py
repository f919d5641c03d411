"""Labelled photos: reading them, what partial labels and teachers say, and how good a result is.

::

    readers        data sets as their makers lay them out; writer writes them, conversion joins both
    classes        class lists of the sets; mapping turns the classes of one into those of another
    inspection     what a set holds and what is wrong with it (problems)
    coco_panoptic  true labels in our own folders
    pseudo         labels made by networks; labelling makes them
    labelled       both merged, for training; records is what a photo's labels say
    packs          photos and merged labels in a few files; photo_source opens either
    quality        panoptic quality, IoU of classes and boundaries, whole data sets
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panokit._lazy import lazy

if TYPE_CHECKING:
    from panokit_datasets.classes import ClassList
    from panokit_datasets.coco_panoptic import PanopticFolder, TruthPhoto, TruthSegment, load_truth
    from panokit_datasets.conversion import convert
    from panokit_datasets.inspection import inspect
    from panokit_datasets.labelled import FolderPhoto, load_split
    from panokit_datasets.labelling import Ensemble, LabelSettings
    from panokit_datasets.mapping import ClassMapping
    from panokit_datasets.packs import PackFolder, write_packs
    from panokit_datasets.photo_source import PhotoSource
    from panokit_datasets.pseudo import PseudoLabels, read_pseudo_labels
    from panokit_datasets.quality import PanopticQuality, SemanticQuality, evaluate, predictor
    from panokit_datasets.reader import Options, Reader, Truth
    from panokit_datasets.readers import find_datasets, open_dataset
    from panokit_datasets.records import DecodedPhoto, PhotoRecord, SegmentRecord

__getattr__ = lazy(
    __name__,
    {
        "classes": ("ClassList",),
        "conversion": ("convert",),
        "inspection": ("inspect",),
        "mapping": ("ClassMapping",),
        "reader": (
            "Options",
            "Reader",
            "Truth",
        ),
        "readers": (
            "find_datasets",
            "open_dataset",
        ),
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
    "ClassList",
    "ClassMapping",
    "DecodedPhoto",
    "Ensemble",
    "FolderPhoto",
    "LabelSettings",
    "Options",
    "PackFolder",
    "PanopticFolder",
    "PanopticQuality",
    "PhotoRecord",
    "PhotoSource",
    "PseudoLabels",
    "Reader",
    "SegmentRecord",
    "SemanticQuality",
    "Truth",
    "TruthPhoto",
    "TruthSegment",
    "convert",
    "evaluate",
    "find_datasets",
    "inspect",
    "load_split",
    "load_truth",
    "open_dataset",
    "predictor",
    "read_pseudo_labels",
    "write_packs",
]
