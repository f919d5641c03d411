"""From what a user names on the command line to what recipes are run with.

A :class:`Setup` is plain data, so that a worker in another process or on another machine can open
the same things.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from panokit.errors import ArgumentError
from panokit.photo import Photo, photo_paths
from panokit.preprocessing import PreprocessConfig
from panokit.samples import sample_photos
from panokit.taxonomy import Taxonomy
from panokit_compression.calibration import (
    CalibrationSet,
    calibration_from_data,
    calibration_from_photos,
)
from panokit_compression.distil import PhotoStream, Sample, Stream
from panokit_compression.recipes import Finetune, Qat, Recipe
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_lab.pipeline import Bench, photos_needed
from panokit_lab.quality import Split
from panokit_network.cache import PhotoCache
from panokit_network.config import Phase, TrainConfig
from panokit_network.scenes import SceneStream
from panokit_network.source import NetworkSource
from panokit_network.train import class_weights
from panokit_network.weights import shipped_weights_path

__all__ = ["LabelledStream", "Setup"]

TRAIN_SUFFIX = "_train"
PHOTO_STREAM_LIMIT = 2000


@dataclass(frozen=True)
class Setup:
    """Names of everything: see the options of ``panokit compress run``."""

    out: Path
    weights: Path | None = None
    module: str = ""
    taxonomy: Path | None = None
    data: Path | None = None
    split: str = ""
    limit: int = 0
    coreml_photos: int = 0
    photos: tuple[Path, ...] = ()
    size: int = 320
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32:
            raise ArgumentError("size", "a multiple of 32", self.size)
        if self.module and self.taxonomy is None:
            raise ArgumentError("taxonomy", "given for a module of one's own", None)
        if self.split and self.data is None:
            raise ArgumentError("data", "given with a split", None)
        if self.limit < 0 or self.coreml_photos < 0:
            raise ArgumentError("photos to measure on", "0 or more", self.limit)

    def open(self, recipes: list[Recipe]) -> Bench:
        """Load the network and choose the photos that ``recipes`` need."""
        source = self._source()
        training = [s for r in recipes for s in r.network_steps if isinstance(s, Finetune | Qat)]
        stream, weight = self._stream(training, source) if training else (None, None)
        return Bench(
            source=source,
            size=self.size,
            cache=self.cache or self.out / "cache",
            calibration=self._calibration(photos_needed(recipes)),
            stream=stream,
            split=Split(self.data, self.split, self.limit) if self.data and self.split else None,
            coreml_photos=self.coreml_photos,
            class_weight=weight,
        )

    def _source(self) -> NetworkSource:
        if self.module and self.taxonomy is not None:
            return NetworkSource.from_import(
                self.module, self.weights, Taxonomy.load(self.taxonomy)
            )
        if self.weights is None:
            return NetworkSource.from_weights(shipped_weights_path())
        return NetworkSource.from_weights(self.weights)

    def _calibration(self, count: int) -> CalibrationSet:
        config = PreprocessConfig((self.size, self.size))
        if self.data is not None and not self.photos:
            return calibration_from_data(self.data, count, config)
        paths = photo_paths(self.photos) if self.photos else sample_photos()
        photos = {name: Photo.open(path) for name, path in paths.items()}
        return calibration_from_photos(photos, count, config)

    def _stream(
        self, steps: list[Any], source: NetworkSource
    ) -> tuple[Stream, torch.Tensor | None]:
        if self.data is not None:
            recorded = source.training.get("config")
            return LabelledStream.open(self.data, source.taxonomy, self.cache or self.out, recorded)
        if any(step.distil < 1 for step in steps):
            expected = "given for training with labels (or distil 1 in the recipe)"
            raise ArgumentError("data", expected, None)
        paths = list((photo_paths(self.photos) if self.photos else sample_photos()).values())
        images = [np.asarray(Photo.open(p).rgb_hwc) for p in paths[:PHOTO_STREAM_LIMIT]]
        return PhotoStream(images), None


class LabelledStream:
    """Augmented, labelled scenes of the training splits of a COCO-panoptic folder, drawn and
    shaken as ``config`` says."""

    def __init__(self, cache: PhotoCache, taxonomy: Taxonomy, config: TrainConfig) -> None:
        self.cache, self.taxonomy, self.config = cache, taxonomy, config
        self._streams: dict[tuple[int, int], SceneStream] = {}

    @classmethod
    def open(
        cls,
        data: Path,
        taxonomy: Taxonomy,
        cache: Path,
        recorded: dict[str, Any] | None = None,
    ) -> tuple[LabelledStream, torch.Tensor]:
        """The stream, and the weights of classes in the label loss, float32 ``[C]``.

        ``recorded`` is the configuration that the network was trained with, as its weight file
        tells it: how often each source is drawn, augmentation, class weights; defaults without.
        """

        folder = PanopticFolder.open(data)
        if folder.taxonomy != taxonomy:
            raise ArgumentError("data", "labelled in the network's own taxonomy", str(data))
        names = [n for n in folder.splits() if n.endswith(TRAIN_SUFFIX)]
        records = [record for n in names for record in load_split(folder, n)]
        if not records:
            raise ArgumentError("data", f"with splits named *{TRAIN_SUFFIX}", folder.splits())
        photos = PhotoCache.build(records, taxonomy, cache / "photos")
        config = TrainConfig.from_json(recorded or {})
        weights = class_weights(photos, len(taxonomy), config.class_weight_power)
        return cls(photos, taxonomy, config), weights

    def batch(self, step: int, size: int, count: int) -> Sample:
        """See :class:`panokit_compression.distil.Stream`."""
        scenes = self.scenes(size, count)
        labels = scenes[step]
        return Sample(labels.image, labels, self.config.loss, scenes.weights.person)

    def scenes(self, size: int, count: int) -> SceneStream:
        """The stream that batches of ``count`` scenes of side ``size`` come from."""

        key = (size, count)
        if key not in self._streams:
            config = replace(self.config, phases=(Phase(size, count, 10**9),))
            self._streams[key] = SceneStream(self.cache, self.taxonomy, config)
        return self._streams[key]
