"""Panokit: panoptic segmentation for phone cameras.

>>> from panokit import Segmenter  # doctest: +SKIP
>>> result = Segmenter.open().segment("photo.jpg")  # doctest: +SKIP
>>> result.overlay().save("overlay.png")  # doctest: +SKIP

Names are loaded when first used, so that ``import panokit`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panokit._lazy import lazy

if TYPE_CHECKING:
    from panokit.bundle import Artifact, Bundle, Manifest, TensorSpec
    from panokit.decoding import Heads, PanopticMap, PostprocessConfig, postprocess
    from panokit.detections import Detections
    from panokit.dump import Dump, read_dump, write_dump
    from panokit.effects import portrait_blur
    from panokit.errors import (
        ArgumentError,
        BundleError,
        DataError,
        DumpError,
        ExportError,
        HeadError,
        MissingExtraError,
        PanokitError,
        PhotoError,
    )
    from panokit.outlines import Outline
    from panokit.photo import Photo
    from panokit.preprocessing import PreprocessConfig, TransformRecord, preprocess
    from panokit.result import PanopticResult, Segment
    from panokit.segmenter import Segmenter, Stages
    from panokit.taxonomy import Category, Taxonomy

__version__ = "0.1.0"

__getattr__ = lazy(
    __name__,
    {
        "bundle": ("Artifact", "Bundle", "Manifest", "TensorSpec"),
        "detections": ("Detections",),
        "dump": ("Dump", "read_dump", "write_dump"),
        "effects": ("portrait_blur",),
        "errors": (
            "ArgumentError",
            "BundleError",
            "DataError",
            "DumpError",
            "ExportError",
            "HeadError",
            "MissingExtraError",
            "PanokitError",
            "PhotoError",
        ),
        "outlines": ("Outline",),
        "photo": ("Photo",),
        "decoding": ("Heads", "PanopticMap", "PostprocessConfig", "postprocess"),
        "preprocessing": ("PreprocessConfig", "TransformRecord", "preprocess"),
        "result": ("PanopticResult", "Segment"),
        "segmenter": ("Segmenter", "Stages"),
        "taxonomy": ("Category", "Taxonomy"),
    },
)

__all__ = [
    "ArgumentError",
    "Artifact",
    "Bundle",
    "BundleError",
    "Category",
    "DataError",
    "Detections",
    "Dump",
    "DumpError",
    "ExportError",
    "HeadError",
    "Heads",
    "Manifest",
    "MissingExtraError",
    "Outline",
    "PanokitError",
    "PanopticMap",
    "PanopticResult",
    "Photo",
    "PhotoError",
    "PostprocessConfig",
    "PreprocessConfig",
    "Segment",
    "Segmenter",
    "Stages",
    "Taxonomy",
    "TensorSpec",
    "TransformRecord",
    "__version__",
    "portrait_blur",
    "postprocess",
    "preprocess",
    "read_dump",
    "write_dump",
]


def __dir__() -> list[str]:
    return sorted(__all__)
