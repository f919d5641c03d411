"""Everything from a network to a checked bundle."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit import __version__
from panokit.bundle import Artifact, Bundle, Manifest
from panokit.errors import ArgumentError, ExportError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig
from panokit_compression import (
    CalibrationSet,
    Recipe,
    calibration_from_data,
    calibration_from_photos,
    load_recipe,
)
from panokit_compression.recipes import Sparsify
from panokit_converters.contract import HEADS, HeadContract, check_contract, run_heads
from panokit_converters.runners import channels_last
from panokit_converters.tflite_file import INPUT_TYPES, InputType
from panokit_converters.tflite_metadata import ModelInfo
from panokit_converters.verify import Inputs, judge, load_photos, measure, prepare, thresholds_for
from panokit_lab.artifacts import (
    FORMATS,
    Made,
    Maker,
    artifact_name,
    artifact_runtime,
    why_not,
)
from panokit_lab.bundle_writer import MIN_VECTORS, BundlePart, write_bundle
from panokit_network.deploy import count_macs, count_parameters
from panokit_network.source import NetworkSource

__all__ = [
    "FORMATS",
    "ExportRequest",
    "ExportResult",
    "artifact_outputs",
    "export_bundle",
    "run_export",
]

log = logging.getLogger(__name__)

GOLDEN_PHOTOS = 3  # photos that become golden vectors
SIZE_STEP = 32  # the network's largest stride

RawHeads = dict[str, NDArray[Any]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportRequest:
    """What to export: ``weights`` (a weight file; None where a module is given), ``recipes``
    (names or paths), ``formats``, ``size`` (input side in pixels), ``out`` (the bundle), and where
    photos come from.

    ``input`` is the type of image that TFLite and ONNX files take: ``uint8`` camera bytes,
    ``float32`` 0..255, or ``native``: int8 for a recipe that quantizes activations, else float32.
    ``calibration_data`` is a COCO-panoptic folder whose training photos calibrate int8; without
    it ``photos`` do. ``photos`` (files or folders; sample photos without any) are also what every
    artifact is checked on, and the first three become golden vectors. ``strict`` makes a missed
    threshold an error; otherwise the manifest states it.
    """

    weights: Path | None
    out: Path
    recipes: tuple[str, ...] = ("float32", "float16", "int8")
    formats: tuple[str, ...] = ("tflite", "coreml")
    size: int = 320
    input: InputType = "native"
    calibration_data: Path | None = None
    photos: tuple[Path, ...] = ()
    strict: bool = True

    def __post_init__(self) -> None:
        unknown = [f for f in self.formats if f not in FORMATS]
        if unknown or not self.formats:
            raise ArgumentError("formats", f"some of: {', '.join(FORMATS)}", list(self.formats))
        if not self.recipes:
            raise ArgumentError("recipes", "at least one", [])
        for what in ("recipes", "formats"):
            values = getattr(self, what)
            if len(set(values)) != len(values):
                raise ArgumentError(what, "each named once", list(values))
        if self.size < SIZE_STEP or self.size % SIZE_STEP:
            raise ArgumentError("size", f"a multiple of {SIZE_STEP}", self.size)
        if self.input not in INPUT_TYPES:
            raise ArgumentError("input", f"one of: {', '.join(INPUT_TYPES)}", self.input)
        if self.out.suffix != ".panokit":  # said before minutes of work, not after
            raise ArgumentError("out", "a path that ends in .panokit", str(self.out))

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the input."""
        return self.size, self.size


@dataclass(frozen=True)
class ExportResult:
    """The bundle, seconds per artifact, what was left out and why, and the process's peak memory
    in bytes."""

    bundle: Bundle
    seconds: dict[str, float]
    skipped: dict[str, str]
    peak_memory: int


@dataclass(frozen=True)
class _Scene:
    """What all artifacts are made from and checked against."""

    request: ExportRequest
    source: NetworkSource
    contract: HeadContract
    recipes: tuple[Recipe, ...]
    photos: dict[str, Photo]
    inputs: Inputs
    reference: dict[str, RawHeads]  # float32 [h,w,C], by torch
    calibration: CalibrationSet | None
    say: Progress


def export_bundle(
    request: ExportRequest,
    progress: Progress | None = None,
    *,
    source: NetworkSource | None = None,
) -> Bundle:
    """As :func:`run_export`, for who wants the bundle alone."""
    return run_export(request, progress, source=source).bundle


def run_export(
    request: ExportRequest,
    progress: Progress | None = None,
    *,
    source: NetworkSource | None = None,
) -> ExportResult:
    """Make the bundle of ``request``, of its weights or of a ``source`` of one's own.

    Every artifact is run on the photos and compared with torch; the figures go into the manifest,
    and one below its thresholds is an ``ExportError``. Nothing is left behind by an export that
    fails or is interrupted; an older bundle of the same name stays as it was. A recipe that a
    format has no form of is left out and named in the result; an export without any artifact is
    an error. ``progress`` is told in a few words what is being done.
    """
    recipes = tuple(load_recipe(name) for name in request.recipes)
    if source is None:
        if request.weights is None:
            raise ArgumentError("weights", "a weight file, or a source", None)
        source = NetworkSource.from_weights(request.weights)
    source = source.with_folded()
    wanted, skipped = _plan(request, recipes, source)
    scene = _scene(request, source, recipes, wanted, progress or log.info)
    with tempfile.TemporaryDirectory(prefix="panokit-export-") as folder:
        info = ModelInfo(
            request.out.stem, source.taxonomy, source.licence, __version__, scene.contract.stride
        )
        maker = Maker(source.module, scene.contract, info, Path(folder), request.input,
                      scene.calibration)  # fmt: skip
        manifest = _manifest(scene)
        parts: list[BundlePart] = []
        seconds: dict[str, float] = {}
        for format, recipe in wanted:
            started = time.monotonic()
            scene.say(f"making {artifact_name(format, recipe)}")
            made = maker.make(format, recipe)
            parts.append(_checked(scene, made, manifest))
            seconds[made.artifact.name] = round(time.monotonic() - started, 1)
        scene.say("writing the bundle")
        bundle = write_bundle(request.out, manifest, parts, scene.photos)
    return ExportResult(bundle, seconds, skipped, _peak_memory())


def artifact_outputs(
    path: Path, artifact: Artifact, images: Mapping[str, NDArray[np.uint8]]
) -> dict[str, RawHeads]:
    """Raw heads ``[h,w,C]`` of images uint8 ``[H,W,3]`` by name, as the artifact gives them."""
    runtime = artifact_runtime(path, artifact)
    return {name: channels_last(runtime.run(image), artifact) for name, image in images.items()}


def _plan(
    request: ExportRequest, recipes: Iterable[Recipe], source: NetworkSource
) -> tuple[list[tuple[str, Recipe]], dict[str, str]]:
    """What is made, and what is not with the reason."""
    wanted: list[tuple[str, Recipe]] = []
    skipped: dict[str, str] = {}
    for recipe in recipes:
        todo = [
            step.kind
            for step in recipe.network_steps
            if step.kind not in source.steps_done and not isinstance(step, Sparsify)
        ]
        if todo:
            expected = f"one whose training steps the weights have been through; {todo} are to do"
            do = f"{recipe.name} (run `panokit compress run {recipe.name}` first)"
            raise ArgumentError("recipe", expected, do)
    for format in request.formats:
        for recipe in recipes:
            reason = why_not(format, recipe, source.steps_done)
            if reason is None:
                wanted.append((format, recipe))
            else:
                skipped[artifact_name(format, recipe)] = reason
    names = [artifact_name(format, recipe) for format, recipe in wanted]
    if len(set(names)) != len(names):
        raise ArgumentError("recipes", "such that artifacts have different names", names)
    if not wanted:
        raise ArgumentError("formats", "ones that the recipes have a form in", skipped)
    return wanted, skipped


def _scene(
    request: ExportRequest,
    source: NetworkSource,
    recipes: tuple[Recipe, ...],
    wanted: list[tuple[str, Recipe]],
    say: Progress,
) -> _Scene:
    say("reading the network and photos")
    contract = check_contract(source.module, request.size_wh, len(source.taxonomy))
    photos = load_photos(request.photos)
    if len(photos) < MIN_VECTORS:
        expected = f"at least {MIN_VECTORS}, for golden vectors"
        raise ArgumentError("photos", expected, sorted(photos))
    inputs = prepare(photos, PreprocessConfig(request.size_wh))
    reference = {name: _torch_heads(source.module, image) for name, (image, _) in inputs.items()}
    calibration = _calibration(request, photos, [recipe for _, recipe in wanted], say)
    return _Scene(request, source, contract, recipes, photos, inputs, reference, calibration, say)


def _torch_heads(module: nn.Module, image_hwc: NDArray[np.uint8]) -> RawHeads:
    """Heads float32 ``[h,w,C]`` by torch."""
    image = torch.from_numpy(np.array(image_hwc)).permute(2, 0, 1)[None].float()
    heads = run_heads(module, image)
    return {n: np.ascontiguousarray(heads[n][0].permute(1, 2, 0).numpy()) for n in HEADS}


def _calibration(
    request: ExportRequest, photos: dict[str, Photo], recipes: list[Recipe], say: Progress
) -> CalibrationSet | None:
    count = max((recipe.calibration_photos for recipe in recipes), default=0)
    if not count:
        return None
    say(f"choosing {count} calibration photos")
    config = PreprocessConfig(request.size_wh)
    if request.calibration_data is not None:
        return calibration_from_data(request.calibration_data, count, config)
    return calibration_from_photos(photos, count, config)


def _checked(scene: _Scene, made: Made, manifest: Manifest) -> BundlePart:
    """Run an artifact on the photos and judge it against torch."""
    artifact = made.artifact
    scene.say(f"checking {artifact.name} on {len(scene.inputs)} photos")
    runtime = artifact_runtime(made.path, artifact)
    found = measure(runtime, artifact, manifest, scene.inputs, scene.reference)
    thresholds = thresholds_for(artifact)
    failures = judge(found.agreement, thresholds)
    if failures and scene.request.strict:
        raise ExportError(artifact.name, f"differs too much from torch: {'; '.join(failures)}")
    golden = list(found.raw.items())[:GOLDEN_PHOTOS]
    return BundlePart(
        name=artifact.name,
        format=artifact.format,
        file=artifact.file,
        source=made.path,
        precision=artifact.precision,
        input=artifact.input,
        outputs=artifact.outputs,
        origin=runtime.name,
        raw={photo: channels_last(raw, artifact) for photo, raw in golden},
        minimum_os=artifact.minimum_os,
        tools=artifact.tools,
        quality={
            **found.agreement.to_json(),
            "runtime": runtime.name,
            "thresholds": thresholds.to_json(),
            **({"failures": list(failures)} if failures else {}),
        },
    )


def _manifest(scene: _Scene) -> Manifest:
    request, source = scene.request, scene.source
    recipe: dict[str, Any] = {"recipes": [r.to_json() for r in scene.recipes]}
    if scene.calibration is not None:
        recipe["calibration"] = scene.calibration.to_json()
        if request.calibration_data is None and not request.photos:
            recipe["calibration"]["source"] = (
                "sample photos of scikit-image and matplotlib, also mirrored and cropped: "
                "a makeshift, calibrate with training photos for release"
            )
    return Manifest(
        name=request.out.stem,
        taxonomy=source.taxonomy,
        preprocessing=PreprocessConfig(request.size_wh),
        postprocessing=source.postprocessing,
        stride=scene.contract.stride,
        artifacts=(),
        recipe=recipe,
        quality={
            "against": "torch float32",
            "photos": list(scene.inputs),
            "artifacts": {},
            "parameters": count_parameters(source.module),
            "macs": count_macs(source.module, request.size),
        },
        licence={"code": "Apache-2.0", "weights": source.licence},
        weights_sha256=source.weights_sha256,
    )


def _peak_memory() -> int:
    """The most memory that this process ever had, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
