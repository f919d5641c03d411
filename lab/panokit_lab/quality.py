"""How good an artifact is: heads against the float network, panoptic quality on labelled photos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import link_folder, replacing_folder
from panokit._reading import parse_json, read_json
from panokit.agreement import decibel
from panokit.bundle import Artifact, Bundle, Manifest
from panokit.decoding import DecodingSettings
from panokit.errors import ArgumentError, DataError
from panokit.preprocessing import PreprocessConfig
from panokit.runtime import Runtime, channels_last, dequantize
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_compression.variety import drawn_by
from panokit_converters.contract import finest_stride
from panokit_datasets.quality import evaluate, load_truth
from panokit_datasets.quality.predictor import predictor
from panokit_lab.results import QualityFigures

__all__ = ["Split", "first_photos", "head_sqnr", "manifest_around", "quality_figures"]


Image = NDArray[np.uint8]
Heads = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Split:
    """Which labelled photos: split ``name`` of the folder ``data``, the first ``limit`` of it in
    the order of hashed names (0: all)."""

    data: Path
    name: str
    limit: int = 0

    def open(self, taxonomy: Taxonomy, scratch: Path) -> Path:
        """The data set folder to evaluate on; a part of a split is written under ``scratch``."""
        if not self.limit:
            load_truth(self.data, self.name, taxonomy)
            return self.data
        return first_photos(self.data, self.name, self.limit, taxonomy, scratch)

    def digest(self) -> str:
        """SHA-256 of the annotation file, and of the photos and maps that it names."""
        path = self.data / "annotations" / f"{self.name}.json"
        try:
            content = path.read_bytes()
            data = parse_json(content)
            files = [self.data / "images" / i["file_name"] for i in data["images"]]
            files += [self.data / "panoptic" / a["file_name"] for a in data["annotations"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(path, f"expected COCO panoptic JSON, but {error}") from None
        digest = hashlib.sha256(content)
        for file in files:
            digest.update(file.read_bytes() if file.is_file() else b"missing")
        return digest.hexdigest()

    def describe(self, photos: int) -> str:
        """In words, for reports."""
        part = f"{photos} photos of " if self.limit else f"all {photos} photos of "
        return part + self.name


def first_photos(data: Path, split: str, count: int, taxonomy: Taxonomy, scratch: Path) -> Path:
    """A data set folder with ``count`` photos of a split, chosen by the hash of their names (as
    calibration photos are); images are links to the original ones."""
    truth = load_truth(data, split, taxonomy)
    if not 1 <= count <= len(truth):
        raise ArgumentError(
            "photos",
            f"photos is {count!r}; expected a number from 1 to the {len(truth)} of {split}",
        )
    chosen = sorted(truth, key=lambda t: drawn_by(t.name))[:count]
    ids = {t.image_id for t in chosen}
    stored = {t.image_id for t in chosen if t.turn != 1}  # found out on all photos of the split
    content = read_json(data / "annotations" / f"{split}.json")
    content["images"] = [i for i in content["images"] if i["id"] in ids]
    content["images"] = [
        i | {"drawn": "stored" if i["id"] in stored else "upright"} for i in content["images"]
    ]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    target = scratch / f"{split}-{count}"
    with replacing_folder(target) as folder:
        (folder / "annotations").mkdir()
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
        for name in ("images", "panoptic"):
            link_folder(data / name, folder / name)
    return target


def manifest_around(
    artifact: Artifact,
    name: str,
    taxonomy: Taxonomy,
    size_wh: tuple[int, int],
    postprocessing: DecodingSettings,
    preprocessing: PreprocessConfig | None = None,
) -> Manifest:
    """A manifest around one artifact, as much as segmenting takes. ``size_wh`` is the size
    of its input in pixels, ``preprocessing`` how that is made."""
    shapes = {head: spec.channels_last for head, spec in artifact.outputs.items()}
    return Manifest(
        name=name,
        taxonomy=taxonomy,
        preprocessing=replace(preprocessing or PreprocessConfig(), size_wh=size_wh),
        postprocessing=postprocessing,
        stride=finest_stride(shapes, size_wh),
        artifacts=(artifact,),
    )


def quality_figures(
    manifest: Manifest, artifact: Artifact, runtime: Runtime, split: Split, scratch: Path
) -> QualityFigures:
    """The figures of ``panokit evaluate``, of an artifact that is in no bundle yet. Photos are
    those of ``split``; a part of it is written under ``scratch``."""
    folder = split.open(manifest.taxonomy, scratch)
    segmenter = Segmenter(Bundle(Path(), manifest), artifact, runtime)
    found = evaluate(predictor(segmenter), folder, split.name, manifest.taxonomy)
    if found.complete < 1:
        raise DataError(split.data, f"split {split.name!r} is labelled in part only; PQ needs "
                        "photos that are labelled in full")  # fmt: skip
    return QualityFigures.of(split.describe(found.photos), found)


def head_sqnr(
    reference: Mapping[str, Heads],
    runtime: Runtime,
    artifact: Artifact,
    images: Mapping[str, Image],
) -> dict[str, float]:
    """Signal-to-quantization-noise ratio of each head over all images, in dB.

    ``reference`` holds the float network's heads ``[h,w,C]`` of each image by name.
    """
    signal, noise = dict.fromkeys(artifact.outputs, 0.0), dict.fromkeys(artifact.outputs, 0.0)
    for name, image in images.items():
        heads = channels_last(dequantize(runtime.run(image), artifact.outputs), artifact.outputs)
        for head in signal:
            values = heads[head].astype(np.float64)
            want = reference[name][head].astype(np.float64)
            signal[head] += float(np.sum(want * want))
            noise[head] += float(np.sum((values - want) ** 2))
    return {head: round(decibel(signal[head], noise[head]), 2) for head in signal}
