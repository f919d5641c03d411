"""Everything from a weight file to a checked bundle."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit import __version__
from panokit.bundle import Artifact, Bundle, Manifest, hash_path
from panokit.errors import ArgumentError, ExportError
from panokit.photo import Photo, photo_paths
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit.runtime import LiteRtRuntime, dequantize
from panokit.samples import sample_photos
from panokit_compression import (
    CalibrationSet,
    Recipe,
    calibration_from_data,
    calibration_from_photos,
    load_recipe,
    quantize,
)
from panokit_converters.agreement import Agreement, compare_heads
from panokit_converters.bundle_writer import MIN_VECTORS, BundlePart, write_bundle
from panokit_converters.contract import HEADS, HeadContract, check_contract, run_heads
from panokit_converters.coreml import MINIMUM_OS, CoreMlInfo, coreml_specs, write_coreml
from panokit_converters.tflite import convert_tflite, tflite_specs
from panokit_network.deploy import count_macs, count_parameters, fuse
from panokit_network.weights import WeightsInfo, load_weights

__all__ = ["FORMATS", "MIN_FLOAT_SQNR_DB", "ExportRequest", "export_bundle"]

log = logging.getLogger(__name__)

FORMATS = ("tflite", "coreml")
MIN_FLOAT_SQNR_DB = 60.0
"""A float artifact whose heads are further than this from torch is wrong, not imprecise."""

GOLDEN_PHOTOS = 3  # photos that become golden vectors
SIZE_STEP = 32  # the network's largest stride

RawHeads = dict[str, NDArray[Any]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportRequest:
    """What to export: ``weights`` (a weight file), ``recipes`` (names or paths), ``formats``,
    ``size`` (input side in pixels), ``out`` (the bundle), and where photos come from.

    ``calibration_data`` is a COCO-panoptic folder whose training photos calibrate int8; without
    it ``photos`` do. ``photos`` (files or folders; sample photos without any) are also what every
    artifact is checked on, and the first three become golden vectors.
    """

    weights: Path
    out: Path
    recipes: tuple[str, ...] = ("float32", "int8")
    formats: tuple[str, ...] = FORMATS
    size: int = 320
    calibration_data: Path | None = None
    photos: tuple[Path, ...] = ()

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

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the input."""
        return self.size, self.size


@dataclass(frozen=True)
class _Scene:
    """What all artifacts are made from and checked against."""

    request: ExportRequest
    module: nn.Module
    info: WeightsInfo
    contract: HeadContract
    photos: dict[str, Photo]
    inputs: dict[str, NDArray[np.uint8]]  # [H,W,3]
    reference: dict[str, RawHeads]  # float32 [h,w,C], by torch
    say: Progress


def export_bundle(request: ExportRequest, progress: Progress | None = None) -> Bundle:
    """Make the bundle of ``request`` and return it opened.

    Every TFLite artifact is run on the photos and compared with torch; the figures go into the
    manifest, and a float artifact below 60 dB on any head is an ``ExportError``.
    ``progress`` is told in a few words what is being done.
    """
    say = progress or log.info
    recipes = [load_recipe(name) for name in request.recipes]
    scene = _scene(request, say)
    with tempfile.TemporaryDirectory(prefix="panokit-export-") as folder:
        parts: list[BundlePart] = []
        quality: dict[str, Any] = {}
        calibration = None
        if "tflite" in request.formats:
            calibration = _calibration(scene, recipes)
            say("converting to TFLite")
            float_tflite = convert_tflite(scene.module, request.size_wh)
            for recipe in recipes:
                part, agreement = _tflite_part(
                    scene, recipe, float_tflite, calibration, Path(folder)
                )
                parts.append(part)
                quality[part.name] = agreement.to_json()
        if "coreml" in request.formats:
            parts.append(_coreml_part(scene, Path(folder)))
            quality[parts[-1].name] = {"not_measured": "Core ML models run on Apple systems only"}
        say("writing the bundle")
        manifest = _manifest(scene, recipes, calibration, quality)
        return write_bundle(request.out, manifest, parts, scene.photos)


def _scene(request: ExportRequest, say: Progress) -> _Scene:
    say("reading weights")
    network, info = load_weights(request.weights)
    module = fuse(network)
    contract = check_contract(module, request.size_wh, len(info.taxonomy))
    files = photo_paths(request.photos) if request.photos else sample_photos()
    photos = {name: Photo.open(path) for name, path in files.items()}
    if len(photos) < MIN_VECTORS:
        expected = f"at least {MIN_VECTORS}, for golden vectors"
        raise ArgumentError("photos", expected, sorted(photos))
    config = PreprocessConfig(request.size_wh)
    inputs = {name: preprocess(photo, config)[0] for name, photo in photos.items()}
    reference = {name: _torch_heads(module, image) for name, image in inputs.items()}
    return _Scene(request, module, info, contract, photos, inputs, reference, say)


def _torch_heads(module: nn.Module, image_hwc: NDArray[np.uint8]) -> RawHeads:
    """Heads float32 ``[h,w,C]`` by torch."""
    image = torch.from_numpy(image_hwc).permute(2, 0, 1)[None].float()
    heads = run_heads(module, image)
    return {n: np.ascontiguousarray(heads[n][0].permute(1, 2, 0).numpy()) for n in HEADS}


def _calibration(scene: _Scene, recipes: list[Recipe]) -> CalibrationSet | None:
    count = max(recipe.calibration_photos for recipe in recipes)
    if not count:
        return None
    scene.say(f"choosing {count} calibration photos")
    config = PreprocessConfig(scene.request.size_wh)
    if scene.request.calibration_data is not None:
        return calibration_from_data(scene.request.calibration_data, count, config)
    return calibration_from_photos(scene.photos, count, config)


def _tflite_part(
    scene: _Scene,
    recipe: Recipe,
    float_tflite: bytes,
    calibration: CalibrationSet | None,
    folder: Path,
) -> tuple[BundlePart, Agreement]:
    scene.say(f"TFLite {recipe.name}: quantizing" if recipe.needs_calibration
              else f"TFLite {recipe.name}")  # fmt: skip
    content = quantize(float_tflite, recipe, calibration)
    file = "model.tflite" if recipe.precision == "int8" else f"model-{recipe.name}.tflite"
    path = folder / file
    path.write_bytes(content)
    image_spec, head_specs = tflite_specs(content)
    name = f"tflite-{recipe.name}"
    artifact = Artifact(
        name, "tflite", file, "", len(content), recipe.precision, image_spec, head_specs
    )
    runtime = LiteRtRuntime(path, artifact)
    raw = {photo: runtime.run(image) for photo, image in scene.inputs.items()}
    agreement = compare_heads(
        (scene.reference[photo], dequantize(raw[photo], head_specs)) for photo in raw
    )
    for head, figures in agreement.heads.items():
        if recipe.precision == "float32" and figures.sqnr_db < MIN_FLOAT_SQNR_DB:
            reason = f"head {head!r}: expected at least {MIN_FLOAT_SQNR_DB:.0f} dB against torch"
            raise ExportError(
                name, f"{reason}, got {figures.sqnr_db:.1f} dB; the conversion is wrong"
            )
    part = BundlePart(
        name=name,
        format="tflite",
        file=file,
        source=path,
        precision=recipe.precision,
        input=image_spec,
        outputs=head_specs,
        origin=runtime.name,
        raw=_golden(raw),
        tools=_versions("torch", "litert-torch", "litert-converter", "ai-edge-quantizer",
                        "ai-edge-litert"),
    )  # fmt: skip
    return part, agreement


def _coreml_part(scene: _Scene, folder: Path) -> BundlePart:
    scene.say("converting to Core ML")
    path = folder / "Model.mlpackage"
    info = CoreMlInfo(scene.request.out.stem, scene.info.taxonomy, scene.info.licence, __version__)
    write_coreml(scene.module, scene.contract, info, path)
    image_spec, head_specs = coreml_specs(scene.contract)
    return BundlePart(
        name="coreml-float16",
        format="coreml",
        file=path.name,
        source=path,
        precision="float16",
        input=image_spec,
        outputs=head_specs,
        origin="torch-fp32",  # what the package should compute; only Apple systems can run it
        raw=_golden(scene.reference),
        minimum_os=MINIMUM_OS,
        tools=_versions("torch", "coremltools"),
    )


def _golden(raw: Mapping[str, RawHeads]) -> dict[str, RawHeads]:
    return dict(list(raw.items())[:GOLDEN_PHOTOS])


def _manifest(
    scene: _Scene,
    recipes: list[Recipe],
    calibration: CalibrationSet | None,
    quality: dict[str, Any],
) -> Manifest:
    request = scene.request
    used = recipes if "tflite" in request.formats else []
    recipe: dict[str, Any] = {"recipes": [r.to_json() for r in used]}
    if calibration is not None:
        recipe["calibration"] = calibration.to_json()
        if request.calibration_data is None and not request.photos:
            recipe["calibration"]["source"] = (
                "sample photos of scikit-image and matplotlib, also mirrored and cropped: "
                "a makeshift, calibrate with training photos for release"
            )
    return Manifest(
        name=request.out.stem,
        taxonomy=scene.info.taxonomy,
        preprocessing=PreprocessConfig(request.size_wh),
        postprocessing=scene.info.postprocessing,
        stride=scene.contract.stride,
        artifacts=(),
        recipe=recipe,
        quality={
            "against": "torch float32",
            "photos": list(scene.inputs),
            "artifacts": quality,
            "parameters": count_parameters(scene.module),
            "macs": count_macs(scene.module, request.size),
        },
        licence={"code": "Apache-2.0", "weights": scene.info.licence},
        weights_sha256=hash_path(request.weights),
    )


def _versions(*packages: str) -> dict[str, str]:
    found: dict[str, str] = {"panokit": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
