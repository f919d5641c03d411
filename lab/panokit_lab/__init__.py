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
    from panokit_lab.pipeline import Bench, RunResult, run_recipe

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
        "pipeline": (
            "Bench",
            "RunResult",
            "run_recipe",
        ),
    },
)

__all__ = [
    "FORMATS",
    "Bench",
    "BundlePart",
    "ExportRequest",
    "ExportResult",
    "Maker",
    "RunResult",
    "artifact_runtime",
    "export_bundle",
    "run_export",
    "run_recipe",
    "write_bundle",
]
