"""Everything from a network to a checked bundle, as a list of stages.

::

    ExportRequest
      → NetworkSource        open_network      the network as given        network
                             adapt             as one of a contract        converters
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from panokit.bundle import Bundle, Manifest
from panokit.decoding import DecodingSettings
from panokit.errors import ArgumentError, ExportError, OutputError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, Size, sides
from panokit.samples import calibration_photos
from panokit_compression import (
    CalibrationSet,
    Recipe,
    calibration_from_data,
    calibration_from_photos,
    load_recipe,
)
from panokit_compression.recipes import Quantize, Sparsify
from panokit_compression.variety import look_at, split_photos, unlike
from panokit_converters.adapt import KnownOfModule
from panokit_converters.contract import ContractSpec, check_contract, head_arrays, run_heads
from panokit_converters.interface import INPUT_TYPES, InputType
from panokit_converters.measure import (
    ArtifactCheck,
    Inputs,
    judge,
    load_photos,
    measure,
    prepare,
    thresholds_for,
)
from panokit_converters.runners import NotRunHereError, channels_last
from panokit_lab.adapted import adapted_source
from panokit_lab.artifacts import (
    FORMATS,
    DescribedArtifact,
    Maker,
    artifact_name,
    artifact_runtime,
    why_not,
)
from panokit_lab.bundle_writer import MIN_VECTORS, BundlePart, write_bundle
from panokit_lab.failures import reason_of
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
LARGEST_GOLDEN = 1024  # pixels of their longest side, unless the input is larger

RawHeads = dict[str, NDArray[Any]]
Progress = Callable[[str], None]
Wanted = list[tuple[str, Recipe]]


@dataclass(frozen=True)
class ExportRequest:
    """What to export: ``weights`` (a weight file; None where a source is given), ``recipes``
    (names or paths), ``formats``, ``size`` (the input's side, or its width and height, in
    pixels), ``out`` (the bundle), and where photos come from.

    ``input`` is the type of image that TFLite and ONNX files take: ``uint8`` camera bytes,
    ``float32`` 0..255, or ``native``: int8 for a recipe that quantizes activations, else float32.
    ``photos`` (files or folders; sample photos without any) are what every artifact is judged on,
    and the first three become golden vectors. ``calibration_data`` is a COCO-panoptic folder whose
    training photos calibrate int8, or a folder of photos alone; without it some of ``photos`` do,
    and those judge nothing. With ``strict`` an artifact that misses its thresholds is left out of
    the bundle; otherwise it is written, and the manifest says what it misses. ``licence`` is what
    manifest and artifacts say of the weights, ``decoding`` how heads become a map (`panokit tune`
    chooses it); both are the source's own by default. ``known`` is what is said of a network of
    another kind than ours: its family, its heads, its input.
    """

    weights: Path | None
    out: Path
    recipes: tuple[str, ...] = ("float32", "float16", "int8")
    formats: tuple[str, ...] = ("tflite", "coreml")
    size: Size = 320
    input: InputType = "native"
    calibration_data: Path | None = None
    photos: tuple[Path, ...] = ()
    strict: bool = True
    licence: str = ""
    decoding: DecodingSettings | None = None
    known: KnownOfModule = field(default_factory=KnownOfModule)

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
        sides(self.size)
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
        return sides(self.size)


@dataclass(frozen=True)
class ExportResult:
    """The bundle, how each artifact compares with torch and the seconds it took, and the process's
    peak memory (``peak_memory``) in bytes.

    ``skipped`` says by name what there is no form of and why, ``failed`` what could not be made or
    missed its thresholds; neither is in the bundle. ``unchecked`` says of what is in it why nothing
    here can run it. ``warnings`` are sentences about photos that are too few or too alike,
    ``remarks`` about what was read of the network and its weights.
    """

    bundle: Bundle
    checks: dict[str, ArtifactCheck]
    seconds: dict[str, float]
    skipped: dict[str, str]
    failed: dict[str, str]
    unchecked: dict[str, str]
    warnings: tuple[str, ...]
    peak_memory: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChosenPhotos:
    """Which photos do what: ``golden`` become golden vectors, ``judging`` is what artifacts are
    compared with torch on, ``calibration`` measures ranges (None where no recipe does) and has none
    of ``judging``. ``warnings`` are sentences about what is less than is wanted."""

    golden: dict[str, Photo]
    judging: dict[str, Photo]
    calibration: CalibrationSet | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """What artifacts are checked against: ``inputs`` of the network, of all photos that it is run
    on, and ``heads`` float32 ``[h,w,C]`` by torch of those that it is judged on, both by the
    photo's name; ``golden`` names those whose heads become golden vectors."""

    inputs: Inputs
    heads: dict[str, RawHeads]
    golden: tuple[str, ...]


@dataclass(frozen=True)
class CheckedArtifact:
    """An artifact that was run on photos: how it compares with torch, and ``golden``, the heads
    ``[h,w,C]`` by photo that become its golden vectors (quantised ones stay so). Of one that
    nothing here can run, ``unchecked`` says why."""

    made: DescribedArtifact
    check: ArtifactCheck | None
    golden: dict[str, RawHeads]
    unchecked: str = ""


def export_bundle(
    request: ExportRequest,
    progress: Progress | None = None,
    *,
    source: NetworkSource | None = None,
) -> Bundle:
    """As :func:`run_export`, for who wants the bundle alone. An artifact that failed is an
    ``ExportError`` here, when the others are written."""
    result = run_export(request, progress, source=source)
    for name, reason in result.failed.items():
        raise ExportError(name, f"{reason} (the other artifacts are in {result.bundle.root})")
    return result.bundle


def run_export(
    request: ExportRequest,
    progress: Progress | None = None,
    *,
    source: NetworkSource | None = None,
) -> ExportResult:
    """Make the bundle of ``request``, of its weights or of a ``source`` of one's own.

    Every artifact is run on photos that calibrated nothing and compared with torch; the figures go
    into the manifest. One that cannot be made or misses its thresholds costs none of the others: it
    is named in the result; if there is no other, its error is raised. Nothing is left behind by an
    export that fails or is interrupted; an older bundle of the same name stays as it was. A recipe
    that a format has no form of is left out and named in the result. ``progress`` is told in a few
    words what is being done.
    """
    say = progress or log.info
    recipes = tuple(load_recipe(name) for name in request.recipes)
    say("reading the network and photos")
    source = _as_asked(source or open_network(request), request)
    wanted, skipped = _choose_artifacts(request, recipes, source)
    network = source.with_folded()
    contract = check_contract(
        network.module, request.size_wh, network.taxonomy, network.postprocessing
    )
    config = network.input_of(request.size_wh)
    photos = _choose_photos(request, wanted, config, say)
    reference = _run_reference(source, config, photos)  # as it was given
    manifest = _manifest(request, network, contract, recipes, photos)
    with tempfile.TemporaryDirectory(prefix="panokit-export-") as folder:
        maker = Maker.of(network, contract, request.out.stem, Path(folder),
                         input=request.input, calibration=photos.calibration)  # fmt: skip
        made = _make_all(maker, wanted, manifest, reference, strict=request.strict, say=say)
        say("writing the bundle")
        parts = [_part(artifact) for artifact in made.checked]
        bundle = write_bundle(request.out, manifest, parts, photos.golden)
    checks = {a.made.artifact.name: a.check for a in made.checked if a.check is not None}
    unchecked = {a.made.artifact.name: a.unchecked for a in made.checked if a.unchecked}
    warnings = (*photos.warnings, *_trivial(network, reference))
    remarks = (*source.remarks, *_unheeded(wanted), _who_judged(photos))
    return ExportResult(
        bundle, checks, made.seconds, skipped, made.failed, unchecked, warnings, _peak_memory(),
        remarks,
    )  # fmt: skip


def _trivial(network: NetworkSource, reference: Reference) -> tuple[str, ...]:
    """A warning if maps would agree whatever an artifact computes."""
    settings = network.postprocessing
    found = [
        settings.decode(settings.read_heads(heads), network.taxonomy, reference.inputs[name][1])
        for name, heads in reference.heads.items()
    ]
    classes = {s.channel for one in found for s in one.segments}
    if len(classes) > 1 or {len(one.segments) for one in found} not in ({0}, {1}):
        return ()
    what = "one segment of one class" if classes else "nothing"
    return (f"the network finds {what} in each photo that judges: equal pixels and PQ say nothing",)


def _unheeded(wanted: Wanted) -> tuple[str, ...]:
    """What a recipe asks for and a format has no form of, though it has one of the rest."""
    return tuple(
        f"{artifact_name(format, recipe)}: keep is for TFLite; all layers are stored alike"
        for format, recipe in wanted
        if format != "tflite" and (step := recipe.step(Quantize)) is not None and step.keep
    )


def _who_judged(photos: ChosenPhotos) -> str:
    judged = f"{len(photos.judging)} photos judged"
    if photos.calibration is None:
        return judged
    originals = {name.partition("+")[0] for name in photos.calibration.names}  # not "photo+mirror"
    return f"{judged}, {len(originals)} others calibrated"


@dataclass(frozen=True)
class _Made:
    """Artifacts that were made, the seconds each took, and why others could not be, by name."""

    checked: list[CheckedArtifact]
    seconds: dict[str, float]
    failed: dict[str, str]


def _make_all(
    maker: Maker,
    wanted: Wanted,
    manifest: Manifest,
    reference: Reference,
    *,
    strict: bool,
    say: Progress,
) -> _Made:
    """Each artifact through all its stages; the error of the first one if none comes through."""
    made = _Made([], {}, {})
    errors: list[Exception] = []
    for format, recipe in wanted:
        started = time.monotonic()
        name = artifact_name(format, recipe)
        try:
            say(f"making {name}")
            described = maker.describe(maker.compress(maker.convert(format, recipe)))
            say(f"checking {name} on {len(reference.heads)} photos")
            made.checked.append(check_artifact(described, manifest, reference, strict=strict))
        except (OSError, OutputError, MemoryError):  # a full disk is no fault of one artifact
            raise
        except Exception as error:  # libraries raise many kinds, and none may cost the others
            log.debug("%s failed", name, exc_info=True)
            errors.append(error)
            made.failed[name] = reason_of(error).removeprefix(f"{name}: ")
        made.seconds[name] = round(time.monotonic() - started, 1)
    if not made.checked:
        if len(errors) == 1:
            raise errors[0]
        each = "; ".join(f"{name}: {reason}" for name, reason in made.failed.items())
        raise ExportError(manifest.name, f"none of its artifacts could be made. {each}")
    return made


def open_network(request: ExportRequest) -> NetworkSource:
    """The network of the request's weight file, as it was given."""
    if request.weights is None:
        raise ArgumentError("weights", "there is no network: give a weight file or a source")
    return NetworkSource.from_weights(request.weights)


def _as_asked(source: NetworkSource, request: ExportRequest) -> NetworkSource:
    """The network under the licence, of the contract and with the decoding that are asked for."""
    licensed = replace(source, licence=request.licence or source.licence)
    known = replace(request.known, decoding=request.decoding or request.known.decoding)
    return adapted_source(licensed, request.size_wh, known)


def check_artifact(
    made: DescribedArtifact, manifest: Manifest, reference: Reference, *, strict: bool = True
) -> CheckedArtifact:
    """Run an artifact on the photos and judge it against torch. With ``strict`` one that misses
    its thresholds is an ``ExportError``. One that cannot be run here is not judged."""
    artifact = made.artifact
    try:
        runtime = artifact_runtime(made.path, artifact)
        found = measure(runtime, artifact, manifest, reference.inputs, reference.heads)
    except NotRunHereError as error:  # what coremltools writes and the interpreter does not know
        return CheckedArtifact(made, None, {}, str(error))
    thresholds = thresholds_for(artifact)
    failures = judge(found.agreement, thresholds, artifact.precision)
    if failures and strict:
        raise ExportError(artifact.name, f"differs too much from torch: {'; '.join(failures)}")
    return CheckedArtifact(
        made,
        ArtifactCheck(runtime.name, found.agreement, thresholds, failures),
        {name: channels_last(found.raw[name], artifact) for name in reference.golden},
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


def _choose_photos(
    request: ExportRequest, wanted: Wanted, config: PreprocessConfig, say: Progress
) -> ChosenPhotos:
    """Which photos become vectors, which judge, and which calibrate; none does the last two."""
    photos = load_photos(request.photos)
    if len(photos) < MIN_VECTORS:
        expected = f"at least {MIN_VECTORS}, for golden vectors"
        raise ArgumentError("photos", f"there are {len(photos)} photos; expected {expected}")
    largest = max(LARGEST_GOLDEN, *request.size_wh)
    golden = {n: _at_most(p, largest) for n, p in list(photos.items())[:GOLDEN_PHOTOS]}
    photos |= golden
    count = max((recipe.calibration_photos for _, recipe in wanted), default=0)
    judging, calibration = photos, None
    if count:
        say(f"choosing {count} calibration photos")
        judging, calibration = _choose_calibration(request, photos, count, config)
    seen = look_at(judging)
    warnings = calibration.warnings if calibration else ()
    if seen.none:
        said = f"figures say nothing: of the photos that artifacts are judged on, {seen.none}"
        warnings = (*warnings, said)
    return ChosenPhotos(golden, judging, calibration, warnings)


def _at_most(photo: Photo, side: int) -> Photo:
    """The upright pixels of a photo, at most ``side`` of them a side, as they go into a bundle."""
    width, height = photo.size_wh
    scale = min(1.0, side / max(width, height))
    image = Image.fromarray(np.ascontiguousarray(photo.rgb_hwc))
    wh = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.asarray(image.resize(wh, Image.Resampling.LANCZOS)) if scale < 1 else photo.rgb_hwc
    return Photo(pixels, name=photo.name)


def _choose_calibration(
    request: ExportRequest, photos: dict[str, Photo], count: int, config: PreprocessConfig
) -> tuple[dict[str, Photo], CalibrationSet]:
    """The photos left to judge with, and ``count`` inputs to measure ranges on."""
    if (data := request.calibration_data) is not None:
        if (data / "annotations").is_dir():
            calibration = calibration_from_data(data, count, config)
        else:
            calibration = calibration_from_photos(load_photos([data]), count, config)
        inputs = {name: image for name, (image, _) in prepare(photos, config).items()}
        others = unlike(inputs, calibration.images)
        if not others:
            raise ArgumentError(
                "photos",
                f"all {len(photos)} photos to judge with are among the {len(calibration)} that "
                "calibrate; expected others: name them with --photos",
            )
        return {name: photos[name] for name in others}, calibration
    if not request.photos:
        calibration = calibration_from_photos(
            load_photos(calibration_photos().values()), count, config
        )
        made = "photos of scikit-image and scikit-learn, also mirrored and cropped: "
        advice = "a makeshift, calibrate with training photos for release"
        told = (
            f"int8 is calibrated on {len(calibration_photos())} photos of installed packages, a "
            "makeshift; --calibration-data FOLDER calibrates on yours"
        )
        return photos, replace(calibration, source=made + advice, warnings=(told,))
    calibrating, judging = split_photos(photos, count)
    return judging, calibration_from_photos(calibrating or photos, count, config)


def _run_reference(
    source: NetworkSource, config: PreprocessConfig, photos: ChosenPhotos
) -> Reference:
    """The inputs of photos, and what the network as it was given computes of those that judge."""
    inputs = prepare({**photos.golden, **photos.judging}, config)
    heads = {name: _torch_heads(source, inputs[name][0]) for name in photos.judging}
    return Reference(inputs, heads, tuple(photos.golden))


def _torch_heads(source: NetworkSource, image_hwc: NDArray[np.uint8]) -> RawHeads:
    """Heads float32 ``[h,w,C]``, or rows as they are, by torch."""
    image = torch.from_numpy(np.array(image_hwc)).permute(2, 0, 1)[None].float()
    return head_arrays(run_heads(source.module, image, source.postprocessing.head_names()))


def _manifest(
    request: ExportRequest,
    network: NetworkSource,
    contract: ContractSpec,
    recipes: tuple[Recipe, ...],
    photos: ChosenPhotos,
) -> Manifest:
    """All that is known before an artifact is made."""
    recipe: dict[str, Any] = {"recipes": [r.to_json() for r in recipes]}
    if photos.calibration is not None:
        recipe["calibration"] = photos.calibration.to_json()
    return Manifest(
        name=request.out.stem,
        taxonomy=network.taxonomy,
        preprocessing=network.input_of(request.size_wh),
        postprocessing=network.postprocessing,
        stride=contract.stride,
        artifacts=(),
        recipe=recipe,
        quality={
            "against": "torch float32",
            "photos": list(photos.judging),
            "warnings": list(photos.warnings),
            "artifacts": {},
            "parameters": count_parameters(network.module),
            "macs": count_macs(network.module, request.size_wh),
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
        origin=checked.check.runtime if checked.check else "",
        raw=checked.golden,
        minimum_os=artifact.minimum_os,
        tools=artifact.tools,
        quality=_quality(checked),
    )


def _quality(checked: CheckedArtifact) -> dict[str, Any]:
    """What the manifest says of an artifact's quality, and of layers that needed care."""
    data = checked.check.to_json() if checked.check else {"not_checked": checked.unchecked}
    return {**data, "notes": list(checked.made.notes)} if checked.made.notes else data


def _peak_memory() -> int:
    """The most memory that this process ever had, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
