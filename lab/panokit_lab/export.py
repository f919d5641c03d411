"""Everything from a network to a checked bundle, as a list of stages.

::

    ExportRequest
      → NetworkSource        open_network      the network as given        network
      → ContractSpec         check_contract    what its heads are          converters
      → FloatArtifact        Maker.convert     in a format, in float       converters
      → CompressedArtifact   Maker.compress    stored as a recipe says     compression
      → DescribedArtifact    Maker.describe    on disk, with its labels    converters
      → CheckedArtifact      check_artifact    compared with torch         converters
      → Bundle               write_bundle      with golden vectors         lab

The last column is the room that knows how. The stages of artifacts run once for each recipe and
format.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit.bundle import Bundle, Manifest
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
from panokit_converters.contract import ContractSpec, check_contract, run_heads
from panokit_converters.interface import HEADS, INPUT_TYPES, InputType
from panokit_converters.measure import (
    ArtifactCheck,
    Inputs,
    judge,
    load_photos,
    measure,
    prepare,
    thresholds_for,
)
from panokit_converters.runners import channels_last
from panokit_lab.artifacts import (
    FORMATS,
    DescribedArtifact,
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
    "CheckedArtifact",
    "ExportRequest",
    "ExportResult",
    "check_artifact",
    "export_bundle",
    "open_network",
    "run_export",
]

log = logging.getLogger(__name__)

GOLDEN_PHOTOS = 3  # photos that become golden vectors
SIZE_STEP = 32  # the network's largest stride

RawHeads = dict[str, NDArray[Any]]
Progress = Callable[[str], None]
Wanted = list[tuple[str, Recipe]]


@dataclass(frozen=True)
class ExportRequest:
    """What to export: ``weights`` (a weight file; None where a source is given), ``recipes``
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
            raise ArgumentError(
                "formats",
                f"formats are {list(self.formats)!r}; expected some of: {', '.join(FORMATS)}",
            )
        if not self.recipes:
            raise ArgumentError("recipes", "there are no recipes; expected at least one")
        for what in ("recipes", "formats"):
            values = getattr(self, what)
            if len(set(values)) != len(values):
                raise ArgumentError(what, f"{what} are {list(values)}; expected each once")
        if self.size < SIZE_STEP or self.size % SIZE_STEP:
            raise ArgumentError(
                "size", f"size is {self.size!r}; expected a multiple of {SIZE_STEP}"
            )
        if self.input not in INPUT_TYPES:
            raise ArgumentError(
                "input", f"input is {self.input!r}; expected one of: {', '.join(INPUT_TYPES)}"
            )
        if self.out.suffix != ".panokit":  # said before minutes of work, not after
            raise ArgumentError(
                "out", f"out is {str(self.out)!r}; expected a path that ends in .panokit"
            )

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the input."""
        return self.size, self.size


@dataclass(frozen=True)
class ExportResult:
    """The bundle, how each artifact compares with torch and the seconds it took, what was left out
    and why, and the process's peak memory in bytes."""

    bundle: Bundle
    checks: dict[str, ArtifactCheck]
    seconds: dict[str, float]
    skipped: dict[str, str]
    peak_memory: int


@dataclass(frozen=True)
class Reference:
    """What artifacts are checked against: ``photos``, the network's ``inputs`` of them, and its
    ``heads`` float32 ``[h,w,C]`` by torch; all by the photo's name."""

    photos: dict[str, Photo]
    inputs: Inputs
    heads: dict[str, RawHeads]


@dataclass(frozen=True)
class CheckedArtifact:
    """An artifact that was run on photos: how it compares with torch, and ``golden``, the heads
    ``[h,w,C]`` by photo that become its golden vectors (quantised ones stay so)."""

    made: DescribedArtifact
    check: ArtifactCheck
    golden: dict[str, RawHeads]


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
    say = progress or log.info
    recipes = tuple(load_recipe(name) for name in request.recipes)
    source = source or open_network(request)
    wanted, skipped = _choose_artifacts(request, recipes, source)
    say("reading the network and photos")
    network = source.with_folded()
    contract = check_contract(network.module, request.size_wh, len(network.taxonomy))
    reference = _run_reference(source.module, request)  # as it was given
    calibration = _choose_calibration(request, reference.photos, wanted, say)
    manifest = _manifest(request, network, contract, recipes, reference, calibration)
    with tempfile.TemporaryDirectory(prefix="panokit-export-") as folder:
        maker = Maker.of(network, contract, request.out.stem, Path(folder),
                         input=request.input, calibration=calibration)  # fmt: skip
        checked: list[CheckedArtifact] = []
        seconds: dict[str, float] = {}
        for format, recipe in wanted:
            started = time.monotonic()
            name = artifact_name(format, recipe)
            say(f"making {name}")
            described = maker.describe(maker.compress(maker.convert(format, recipe)))
            say(f"checking {name} on {len(reference.inputs)} photos")
            checked.append(check_artifact(described, manifest, reference, strict=request.strict))
            seconds[name] = round(time.monotonic() - started, 1)
        say("writing the bundle")
        parts = [_part(artifact) for artifact in checked]
        bundle = write_bundle(request.out, manifest, parts, reference.photos)
    checks = {artifact.made.artifact.name: artifact.check for artifact in checked}
    return ExportResult(bundle, checks, seconds, skipped, _peak_memory())


def open_network(request: ExportRequest) -> NetworkSource:
    """The network of the request's weight file, as it was given."""
    if request.weights is None:
        raise ArgumentError("weights", "there is no network: give a weight file or a source")
    return NetworkSource.from_weights(request.weights)


def check_artifact(
    made: DescribedArtifact, manifest: Manifest, reference: Reference, *, strict: bool = True
) -> CheckedArtifact:
    """Run an artifact on the photos and judge it against torch. With ``strict`` one that misses
    its thresholds is an ``ExportError``."""
    artifact = made.artifact
    runtime = artifact_runtime(made.path, artifact)
    found = measure(runtime, artifact, manifest, reference.inputs, reference.heads)
    thresholds = thresholds_for(artifact)
    failures = judge(found.agreement, thresholds)
    if failures and strict:
        raise ExportError(artifact.name, f"differs too much from torch: {'; '.join(failures)}")
    golden = list(found.raw.items())[:GOLDEN_PHOTOS]
    return CheckedArtifact(
        made,
        ArtifactCheck(runtime.name, found.agreement, thresholds, failures),
        {photo: channels_last(raw, artifact) for photo, raw in golden},
    )


def _choose_artifacts(
    request: ExportRequest, recipes: Iterable[Recipe], source: NetworkSource
) -> tuple[Wanted, dict[str, str]]:
    """What is made, and what is not with the reason."""
    wanted: Wanted = []
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
            raise ArgumentError("recipe", f"recipe is {do}; expected {expected}")
    for format in request.formats:
        for recipe in recipes:
            reason = why_not(format, recipe, source.steps_done)
            if reason is None:
                wanted.append((format, recipe))
            else:
                skipped[artifact_name(format, recipe)] = reason
    names = [artifact_name(format, recipe) for format, recipe in wanted]
    if len(set(names)) != len(names):
        raise ArgumentError(
            "recipes",
            f"the recipes would make artifacts of the names {names}; expected different names",
        )
    if not wanted:
        raise ArgumentError(
            "formats", f"no recipe has a form in the formats asked for; left out: {skipped}"
        )
    return wanted, skipped


def _run_reference(module: nn.Module, request: ExportRequest) -> Reference:
    """The photos of a request, and what the network as it was given computes of them."""
    photos = load_photos(request.photos)
    if len(photos) < MIN_VECTORS:
        expected = f"at least {MIN_VECTORS}, for golden vectors"
        raise ArgumentError("photos", f"there are {len(photos)} photos; expected {expected}")
    inputs = prepare(photos, PreprocessConfig(request.size_wh))
    heads = {name: _torch_heads(module, image) for name, (image, _) in inputs.items()}
    return Reference(photos, inputs, heads)


def _torch_heads(module: nn.Module, image_hwc: NDArray[np.uint8]) -> RawHeads:
    """Heads float32 ``[h,w,C]`` by torch."""
    image = torch.from_numpy(np.array(image_hwc)).permute(2, 0, 1)[None].float()
    heads = run_heads(module, image)
    return {n: np.ascontiguousarray(heads[n][0].permute(1, 2, 0).numpy()) for n in HEADS}


def _choose_calibration(
    request: ExportRequest, photos: dict[str, Photo], wanted: Wanted, say: Progress
) -> CalibrationSet | None:
    """The photos that the recipes measure ranges on; None if none of them does."""
    count = max((recipe.calibration_photos for _, recipe in wanted), default=0)
    if not count:
        return None
    say(f"choosing {count} calibration photos")
    config = PreprocessConfig(request.size_wh)
    if request.calibration_data is not None:
        return calibration_from_data(request.calibration_data, count, config)
    return calibration_from_photos(photos, count, config)


def _manifest(
    request: ExportRequest,
    network: NetworkSource,
    contract: ContractSpec,
    recipes: tuple[Recipe, ...],
    reference: Reference,
    calibration: CalibrationSet | None,
) -> Manifest:
    """All that is known before an artifact is made."""
    recipe: dict[str, Any] = {"recipes": [r.to_json() for r in recipes]}
    if calibration is not None:
        recipe["calibration"] = calibration.to_json()
        if request.calibration_data is None and not request.photos:
            recipe["calibration"]["source"] = (
                "sample photos of scikit-image and matplotlib, also mirrored and cropped: "
                "a makeshift, calibrate with training photos for release"
            )
    return Manifest(
        name=request.out.stem,
        taxonomy=network.taxonomy,
        preprocessing=PreprocessConfig(request.size_wh),
        postprocessing=network.postprocessing,
        stride=contract.stride,
        artifacts=(),
        recipe=recipe,
        quality={
            "against": "torch float32",
            "photos": list(reference.inputs),
            "artifacts": {},
            "parameters": count_parameters(network.module),
            "macs": count_macs(network.module, request.size),
        },
        licence={"code": "Apache-2.0", "weights": network.licence},
        weights_sha256=network.weights_sha256,
    )


def _part(checked: CheckedArtifact) -> BundlePart:
    """A checked artifact as the bundle takes it."""
    artifact = checked.made.artifact
    return BundlePart(
        name=artifact.name,
        format=artifact.format,
        file=artifact.file,
        source=checked.made.path,
        precision=artifact.precision,
        input=artifact.input,
        outputs=artifact.outputs,
        origin=checked.check.runtime,
        raw=checked.golden,
        minimum_os=artifact.minimum_os,
        tools=artifact.tools,
        quality=_quality(checked),
    )


def _quality(checked: CheckedArtifact) -> dict[str, Any]:
    """What the manifest says of an artifact's quality, and of layers that needed care."""
    data = checked.check.to_json()
    return {**data, "notes": list(checked.made.notes)} if checked.made.notes else data


def _peak_memory() -> int:
    """The most memory that this process ever had, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
