"""Artifacts of the toy network, made once per test run, and bundles of them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact, Bundle, Manifest
from panokit.decoding import PostprocessConfig
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit.runtime import LiteRtRuntime
from panokit.taxonomy import Taxonomy
from panokit_compression import calibration_from_photos, load_recipe, quantize
from panokit_converters.contract import check_contract
from panokit_converters.coreml import coreml_specs, write_coreml
from panokit_converters.model_info import ModelInfo
from panokit_converters.runners import CoreMlInterpreter, channels_last
from panokit_converters.tflite.convert import convert_tflite
from panokit_converters.tflite.inspect import tflite_specs
from panokit_lab.bundle_writer import BundlePart, write_bundle
from tests.toys.network import ToyNetwork, toy_photos

SIZE = 64
CONFIG = PreprocessConfig((SIZE, SIZE))
PHOTOS = toy_photos(3)


def toy_taxonomy() -> Taxonomy:
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": int(i == 0)} for i in range(4)]
    return Taxonomy.from_json({"name": "toy", "categories": categories})


def toy_image(index: int = 0) -> NDArray[np.uint8]:
    return preprocess(PHOTOS[f"toy{index}"], CONFIG)[0]


@functools.cache
def toy_tflite(recipe: str = "float32") -> bytes:
    """The toy network as a TFLite file."""
    if recipe == "float32":
        return convert_tflite(ToyNetwork().eval(), (SIZE, SIZE))
    photos = calibration_from_photos(toy_photos(4), 32, CONFIG)
    return quantize(toy_tflite(), load_recipe(recipe), photos)


@functools.cache
def toy_coreml() -> Path:
    """The toy network as a float16 Core ML package; copy it before you change it."""
    module = ToyNetwork().eval()
    path = Path(tempfile.mkdtemp(prefix="panokit-toy-")) / "Model.mlpackage"
    info = ModelInfo("toy", toy_taxonomy(), "test only", "0")
    write_coreml(module, check_contract(module, (SIZE, SIZE), 4), info, path)
    return path


def tflite_part(folder: Path, recipe: str, content: bytes | None = None) -> BundlePart:
    """A TFLite artifact whose golden vectors are those of the sound file, whatever ``content``
    takes its place."""
    path = folder / f"sound-{recipe}.tflite"
    path.write_bytes(toy_tflite(recipe))
    image, heads = tflite_specs(toy_tflite(recipe))
    name, file = f"tflite-{recipe}", f"model-{recipe}.tflite"
    artifact = Artifact(name, "tflite", file, "", 0, recipe, image, heads)
    runtime = LiteRtRuntime(path, artifact)
    raw = {n: runtime.run(preprocess(photo, CONFIG)[0]) for n, photo in PHOTOS.items()}
    if content is not None:
        path.write_bytes(content)
    return BundlePart(name, "tflite", file, path, recipe, image, heads, "litert", raw)


def coreml_part(package: Path | None = None) -> BundlePart:
    """A Core ML artifact with golden vectors of the sound package."""
    module = ToyNetwork().eval()
    image, heads = coreml_specs(check_contract(module, (SIZE, SIZE), 4))
    name, file = "coreml-float16", "Model.mlpackage"
    artifact = Artifact(name, "coreml", file, "", 0, "float16", image, heads)
    runtime = CoreMlInterpreter(toy_coreml(), artifact)
    raw = {
        n: channels_last(runtime.run(preprocess(photo, CONFIG)[0]), artifact)
        for n, photo in PHOTOS.items()
    }
    source = package or toy_coreml()
    return BundlePart(name, "coreml", file, source, "float16", image, heads, runtime.name, raw)


def toy_bundle(folder: Path, *parts: BundlePart) -> Bundle:
    manifest = Manifest(
        name="toy",
        taxonomy=toy_taxonomy(),
        preprocessing=CONFIG,
        postprocessing=PostprocessConfig(),
        stride=4,
        artifacts=(),
    )
    return write_bundle(folder / "toy.panokit", manifest, list(parts), PHOTOS)
