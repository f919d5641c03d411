"""Workflows that join what compression and converters know: export, recipes, search, reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panokit._lazy import lazy

if TYPE_CHECKING:
    from panokit_lab.artifacts import FORMATS, Maker, artifact_runtime
    from panokit_lab.bundle_writer import BundlePart, write_bundle
    from panokit_lab.export import (
        ExportRequest,
        ExportResult,
        export_bundle,
        run_export,
    )
    from panokit_lab.pipeline import run_recipe
    from panokit_lab.results import RecipeResult
    from panokit_lab.setup import ExperimentRequest, ExperimentSetup

__getattr__ = lazy(
    __name__,
    {
        "artifacts": (
            "FORMATS",
            "Maker",
            "artifact_runtime",
        ),
        "bundle_writer": (
            "BundlePart",
            "write_bundle",
        ),
        "export": (
            "ExportRequest",
            "ExportResult",
            "export_bundle",
            "run_export",
        ),
        "pipeline": ("run_recipe",),
        "results": ("RecipeResult",),
        "setup": (
            "ExperimentRequest",
            "ExperimentSetup",
        ),
    },
)

__all__ = [
    "FORMATS",
    "BundlePart",
    "ExperimentRequest",
    "ExperimentSetup",
    "ExportRequest",
    "ExportResult",
    "Maker",
    "RecipeResult",
    "artifact_runtime",
    "export_bundle",
    "run_export",
    "run_recipe",
    "write_bundle",
]
