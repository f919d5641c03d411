"""What experiments are run with: the network, photos, training data, and where to keep things.

An :class:`ExperimentRequest` names all of that as a user does on the command line. It is plain
data, so that a worker in another process or on another machine can open the same things. Opened,
it is an :class:`ExperimentSetup`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panokit.errors import ArgumentError, UsageError
from panokit.photo import Photo, photo_paths
from panokit.preprocessing import PreprocessConfig, Size, preprocess, sides
from panokit.samples import calibration_photos, sample_photos
from panokit.taxonomy import Taxonomy
from panokit_compression.calibration import (
    CalibrationSet,
    calibration_from_data,
    calibration_from_photos,
    training_photos,
)
from panokit_compression.distil import PhotoStream, Sample, Stream
from panokit_compression.recipes import Finetune, Prune, Qat, Recipe
from panokit_compression.variety import split_photos
from panokit_converters.adapt import KnownOfModule
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_lab.adapted import adapted_source
from panokit_lab.quality import Split
from panokit_network.source import NetworkSource
from panokit_network.training.cache import PhotoCache
from panokit_network.training.config import Phase, TrainConfig
from panokit_network.training.scenes import SceneStream
from panokit_network.training.trainer import class_weights
from panokit_network.weights import shipped_weights_path

__all__ = [
    "SQNR_IMAGES",
    "TAYLOR_IMAGES",
    "ExperimentRequest",
    "ExperimentSetup",
    "Images",
    "LabelledStream",
    "photos_needed",
]

TRAIN_SUFFIX = "_train"
PHOTO_STREAM_LIMIT = 2000
TAYLOR_IMAGES = 16  # calibration images that the importance of channels is measured on
SQNR_IMAGES = 8  # images that heads are compared on

Images = Mapping[str, NDArray[np.uint8]]
"""Inputs uint8 ``[H,W,3]`` by the photo's name."""


@dataclass(frozen=True)
class ExperimentSetup:
    """What recipes are run with: the network, its input size, photos, and where to keep things.

    ``size_wh`` is the size of the input in pixels. ``calibration`` measures ranges and importance;
    ``judging`` are other photos, on which artifacts are compared with the network as it was given;
    ``stream`` is what fine-tuning and QAT train on; ``split`` the labelled photos that quality is
    measured on (None: not measured); ``coreml_photos`` how many of them Core ML packages are run
    on. ``class_weight`` float32 ``[C]`` weighs classes in the label loss. ``cache`` may be shared
    by runs of different recipes and by processes.
    """

    source: NetworkSource
    size_wh: tuple[int, int]
    cache: Path
    calibration: CalibrationSet | None = None
    judging: Images = field(default_factory=dict)
    stream: Stream | None = None
    split: Split | None = None
    coreml_photos: int = 0
    class_weight: torch.Tensor | None = None

    def images(self, count: int) -> Images:
        """The first calibration images by name, uint8 ``[H,W,3]``."""
        if self.calibration is None:
            return {}
        pairs = zip(self.calibration.names, self.calibration.images, strict=True)
        return dict(list(pairs)[:count])


def photos_needed(recipes: Sequence[Recipe]) -> int:
    """How many calibration photos all of ``recipes`` together take."""
    return max([TAYLOR_IMAGES, SQNR_IMAGES, *(r.calibration_photos for r in recipes)])


@dataclass(frozen=True)
class ExperimentRequest:
    """Names of everything: see the options of ``panokit compress run``. ``limit`` is the number of
    photos that quality is measured on (0: all), ``coreml_photos`` that of Core ML packages, which
    run slowly (0: as many)."""

    out: Path
    weights: Path | None = None
    module: str = ""
    taxonomy: Path | None = None
    data: Path | None = None
    split: str = ""
    limit: int = 0
    coreml_photos: int = 0
    photos: tuple[Path, ...] = ()
    size: Size = 320
    cache: Path | None = None
    known: KnownOfModule = field(default_factory=KnownOfModule)

    def __post_init__(self) -> None:
        sides(self.size)
        if self.module and self.taxonomy is None:
            raise UsageError("--module needs --taxonomy: a JSON file of the network's classes.")
        if self.split and self.data is None:
            raise UsageError("A split needs --data: the labelled photos that it is part of.")
        for name in ("limit", "coreml_photos"):
            if getattr(self, name) < 0:
                raise ArgumentError(
                    name,
                    f"{name} is {getattr(self, name)!r}; expected a number of photos, 0 or more",
                )

    def open(self, recipes: Sequence[Recipe]) -> ExperimentSetup:
        """Load the network and choose the photos that ``recipes`` need."""
        source = self._source()
        training = [s for r in recipes for s in r.network_steps if isinstance(s, Finetune | Qat)]
        stream, weight = self._stream(training, source) if training else (None, None)
        measured = any(r.needs_calibration or r.step(Prune) for r in recipes)
        config = source.input_of(sides(self.size))
        calibration, judging = self._photos(photos_needed(recipes) if measured else 0, config)
        return ExperimentSetup(
            source=source,
            size_wh=sides(self.size),
            cache=self.cache or self.out / "cache",
            calibration=calibration,
            judging=judging,
            stream=stream,
            split=Split(self.data, self.split, self.limit) if self.data and self.split else None,
            coreml_photos=self.coreml_photos,
            class_weight=weight,
        )

    def _source(self) -> NetworkSource:
        if self.module and self.taxonomy is not None:
            source = NetworkSource.from_import(
                self.module, self.weights, Taxonomy.load(self.taxonomy)
            )
        else:
            source = NetworkSource.from_weights(self.weights or shipped_weights_path())
        return adapted_source(source, sides(self.size), self.known)

    def _photos(self, count: int, config: PreprocessConfig) -> tuple[CalibrationSet | None, Images]:
        """``count`` inputs to calibrate with (none without), and other photos to judge with."""
        calibration: CalibrationSet | None = None
        if self.data is not None and not self.photos:
            calibration = calibration_from_data(self.data, count, config) if count else None
            paths = training_photos(self.data, count + SQNR_IMAGES, at_least=count)
            judging = _read(dict(list(paths.items())[count:]))
        elif self.photos:
            judging = photos = _read(photo_paths(self.photos))
            if count:
                calibrating, judging = split_photos(photos, count)
                calibration = calibration_from_photos(calibrating or photos, count, config)
                judging = judging if calibrating else {}
        else:
            judging = _read(sample_photos())
            if count:
                calibration = calibration_from_photos(_read(calibration_photos()), count, config)
        first = list(judging.items())[:SQNR_IMAGES]
        return calibration, {name: preprocess(photo, config)[0] for name, photo in first}

    def _stream(
        self, steps: Sequence[Finetune | Qat], source: NetworkSource
    ) -> tuple[Stream, torch.Tensor | None]:
        if self.data is not None:
            recorded = source.training.get("config")
            return LabelledStream.open(self.data, source.taxonomy, self.cache or self.out, recorded)
        if any(step.distil < 1 for step in steps):
            raise UsageError("Training with labels needs --data, or distil 1 in the recipe.")
        paths = list((photo_paths(self.photos) if self.photos else sample_photos()).values())
        images = [np.asarray(Photo.open(p).rgb_hwc) for p in paths[:PHOTO_STREAM_LIMIT]]
        return PhotoStream(images), None


def _read(paths: Mapping[str, Path]) -> dict[str, Photo]:
    return {name: Photo.open(path) for name, path in paths.items()}


class LabelledStream:
    """Augmented, labelled scenes of the training splits of a COCO-panoptic folder, drawn and
    shaken as ``config`` says."""

    def __init__(self, cache: PhotoCache, taxonomy: Taxonomy, config: TrainConfig) -> None:
        self.cache, self.taxonomy, self.config = cache, taxonomy, config
        self._streams: dict[tuple[Size, int], SceneStream] = {}

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
            raise ArgumentError(
                "data",
                f"the labels of {str(data)!r} have another taxonomy; expected the network's own",
            )
        names = [n for n in folder.splits() if n.endswith(TRAIN_SUFFIX)]
        records = [record for n in names for record in load_split(folder, n)]
        if not records:
            raise ArgumentError(
                "data",
                f"the data has the splits {folder.splits()}; expected splits named *{TRAIN_SUFFIX}",
            )
        photos = PhotoCache.build(records, taxonomy, cache / "photos")
        config = TrainConfig.from_json(recorded or {})
        weights = class_weights(photos, len(taxonomy), config.class_weight_power)
        return cls(photos, taxonomy, config), weights

    def batch(self, step: int, size: Size, count: int) -> Sample:
        """See :class:`panokit_compression.distil.Stream`."""
        scenes = self.scenes(size, count)
        labels = scenes[step]
        return Sample(labels.image, labels, self.config.loss, scenes.weights.person)

    def scenes(self, size: Size, count: int) -> SceneStream:
        """The stream that batches of ``count`` scenes of ``size`` come from."""

        key = (size, count)
        if key not in self._streams:
            config = replace(self.config, phases=(Phase(size, count, 10**9),))
            self._streams[key] = SceneStream(self.cache, self.taxonomy, config)
        return self._streams[key]
