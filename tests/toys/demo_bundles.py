"""Bundles for the demo's tests: the shipped network with each kind of input, and a float toy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from panokit._files import write_json
from panokit.bundle import MANIFEST, Artifact, Bundle, Manifest, TensorSpec, hash_path
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy
from panokit_converters.tflite.inputs import with_input

TOY = Path(__file__).with_name("toy.tflite")
"""``convert_tflite(ToyNetwork().eval(), (64, 64))`` of tests/toys/network.py; float32.
The conversion takes longer than all tests of the page."""

TOY_SIZE, CLASSES = 64, 4


def write(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> Path:
    """A bundle of TFLite files by artifact name."""
    folder.mkdir(parents=True)
    artifacts = []
    for name, data in files.items():
        path = folder / f"{name}.tflite"
        path.write_bytes(data)
        image, heads = specs(path)
        precision = "int8" if heads["semantic"].scale is not None else "float32"
        artifacts.append(
            Artifact(name, "tflite", path.name, hash_path(path), len(data), precision, image, heads)
        )
    whole = replace(manifest, artifacts=tuple(artifacts), vectors=())
    write_json(folder / MANIFEST, json.loads(json.dumps(whole.to_json())))
    return folder


def specs(path: Path) -> tuple[TensorSpec, dict[str, TensorSpec]]:
    """The tensors of a file, as it states them itself."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()

    def spec(name: str, detail: dict[str, Any]) -> TensorSpec:
        dtype = np.dtype(detail["dtype"]).name
        scale, zero = detail["quantization"]
        real = dtype == "float32"
        shape = tuple(int(v) for v in detail["shape"])
        return TensorSpec(
            name, shape, dtype, "nhwc", None if real else float(scale), None if real else int(zero)
        )

    (image,) = (spec(n, d) for n, d in runner.get_input_details().items())
    return image, {n: spec(n, d) for n, d in runner.get_output_details().items()}


def camera_bundle(folder: Path) -> Path:
    """The shipped int8 network: as it is, with float and with uint8 input."""
    shipped = Bundle.open()
    artifact = shipped.manifest.artifact()
    data = shipped.path(artifact).read_bytes()
    kinds = {"int8": "native", "int8-float-in": "float32", "int8-uint8-in": "uint8"}
    files = {name: with_input(data, kind) for name, kind in kinds.items()}  # type: ignore[arg-type]
    return write(folder / "camera.panokit", shipped.manifest, files)


def toy_bundle(folder: Path) -> Path:
    """A float network that was never trained: what it finds means nothing, but it runs."""
    manifest = Bundle.open().manifest
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(CLASSES)]
    toy = replace(
        manifest,
        name="toy",
        taxonomy=Taxonomy.from_json({"name": "toy", "categories": categories}),
        preprocessing=PreprocessConfig((TOY_SIZE, TOY_SIZE)),
        postprocessing=replace(
            manifest.center_offset, window=7, min_thing_area=4, min_stuff_area=4
        ),
    )
    return write(folder / "toy.panokit", toy, {"float32": TOY.read_bytes()})
