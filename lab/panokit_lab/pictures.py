"""The photos on which recipes lose most, drawn beside the float network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from panokit.bundle import Artifact, Bundle
from panokit.errors import DataError
from panokit.photo import Photo
from panokit.runtime import LiteRtRuntime
from panokit.segmenter import Segmenter
from panokit_converters.tflite.inspect import tflite_specs
from panokit_lab.comparison import BASELINE, ComparedArtifact
from panokit_lab.quality import manifest_around
from panokit_lab.results import RecipeResult, Results

__all__ = ["Picture", "draw_worst"]

THUMBNAIL = 300  # pixels wide


@dataclass(frozen=True)
class Picture:
    """A photo, the float network's segments and a recipe's, side by side as one JPEG."""

    caption: str
    jpeg: bytes

    @property
    def base64(self) -> str:
        """The file as a page holds it."""
        return base64.b64encode(self.jpeg).decode()


def draw_worst(
    runs: Path, rows: Sequence[ComparedArtifact], results: Results, data: Path
) -> dict[str, list[Picture]]:
    """For each TFLite recipe the photos that lost most. ``data`` is the folder that quality was
    measured on; ``DataError`` if a photo is not there."""
    if BASELINE not in results or "tflite" not in results[BASELINE].artifacts:
        return {}
    reference = _segmenter(runs, results[BASELINE])
    pictures: dict[str, list[Picture]] = {}
    for row in rows:
        if row.recipe == BASELINE or row.format != "tflite":
            continue
        segmenter = _segmenter(runs, results[row.recipe])
        pictures[row.recipe] = []
        for worst in row.worst_photos:
            path = data / "images" / worst.photo
            if not path.is_file():
                raise DataError(path, "no such photo; give the folder quality was measured on")
            photo = Photo.open(path)
            maps = [s.segment(photo).overlay() for s in (reference, segmenter)]
            caption = f"{worst.photo}: PQ {worst.before:.1f} → {worst.after:.1f}"
            pictures[row.recipe].append(
                Picture(caption, _jpeg([Image.fromarray(photo.rgb_hwc), *maps]))
            )
    return pictures


def _segmenter(runs: Path, result: RecipeResult) -> Segmenter:
    """What runs the TFLite artifact of a recipe."""
    path = runs / result.name / result.artifacts["tflite"].file
    content = path.read_bytes()
    image, heads = tflite_specs(content)
    artifact = Artifact(result.name, "tflite", path.name, "", len(content), "", image, heads)
    manifest = manifest_around(
        artifact, result.name, result.taxonomy, result.size_wh, result.postprocessing
    )
    return Segmenter(Bundle(path.parent, manifest), artifact, LiteRtRuntime(path, artifact))


def _jpeg(pictures: list[Image.Image]) -> bytes:
    small = [p.convert("RGB") for p in pictures]
    small = [p.resize((THUMBNAIL, max(1, round(p.height * THUMBNAIL / p.width)))) for p in small]
    sheet = Image.fromarray(np.concatenate([np.asarray(p) for p in small], axis=1))
    memory = io.BytesIO()
    sheet.save(memory, "JPEG", quality=80)
    return memory.getvalue()
