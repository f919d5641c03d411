"""Bundles for the demo's tests: the shipped network with each kind of input, and a float toy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from panokit._files import write_json
from panokit.bundle import MANIFEST, Artifact, Bundle, Manifest, hash_path
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy
from panokit_converters.tflite import convert_tflite, tflite_specs
from panokit_converters.tflite_file import with_input
from tests.converters.toy_network import CLASSES, ToyNetwork

TOY_SIZE = 64


def write(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> Path:
    """A bundle of TFLite files by artifact name."""
    folder.mkdir(parents=True)
    artifacts = []
    for name, data in files.items():
        path = folder / f"{name}.tflite"
        path.write_bytes(data)
        image, heads = tflite_specs(data)
        precision = "int8" if heads["semantic"].scale is not None else "float32"
        artifacts.append(
            Artifact(name, "tflite", path.name, hash_path(path), len(data), precision, image, heads)
        )
    whole = replace(manifest, artifacts=tuple(artifacts), vectors=())
    write_json(folder / MANIFEST, json.loads(json.dumps(whole.to_json())))
    return folder


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
            manifest.postprocessing, window=7, min_thing_area=4, min_stuff_area=4
        ),
    )
    data = convert_tflite(ToyNetwork().eval(), (TOY_SIZE, TOY_SIZE))
    return write(folder / "toy.panokit", toy, {"float32": data})
