"""A segmenter whose heads are simple functions of the picture, and a dump that it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact, Bundle, Manifest, TensorSpec
from panokit.decoding import PostprocessConfig
from panokit.dump import Dump, dump_stages
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy

SIZE = 32


class ToyRuntime:
    """Heads that are simple functions of the picture: red is person, blue is sky, else road."""

    name = "toy"

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        cells = image_hwc.reshape(SIZE // 4, 4, SIZE // 4, 4, 3).mean((1, 3)).astype(np.float32)
        red, green, blue = np.moveaxis(cells, -1, 0) / 25
        center = np.full(red.shape, -9, np.float32)
        center[4, 2] = 4
        offset = np.zeros((*red.shape, 2), np.float32)
        return {
            "semantic": np.stack([red, blue, red * 0, green], -1),
            "center": center[..., None],
            "offset": offset,
        }


def toy_segmenter(taxonomy: Taxonomy, threshold: float = 0.25, **recipe: Any) -> Segmenter:
    """Red is a person, blue is sky, green is road; ``recipe`` goes into the manifest."""
    cells = SIZE // 4
    artifact = Artifact(
        name="toy",
        format="tflite",
        file="model.tflite",
        sha256="ab" * 32,
        bytes=1,
        precision="float32",
        input=TensorSpec("image", (1, SIZE, SIZE, 3), "float32", "nhwc"),
        outputs={
            n: TensorSpec(n, (1, cells, cells, c), "float32", "nhwc")
            for n, c in (("semantic", 4), ("center", 1), ("offset", 2))
        },
    )
    manifest = Manifest(
        name="toy",
        taxonomy=taxonomy,
        preprocessing=PreprocessConfig((SIZE, SIZE)),
        postprocessing=PostprocessConfig(threshold, min_thing_area=4, min_stuff_area=4),
        stride=4,
        artifacts=(artifact,),
        recipe=recipe,
    )
    return Segmenter(Bundle(Path("toy.panokit"), manifest), artifact, ToyRuntime())


def toy_dump(segmenter: Segmenter) -> Dump:
    """A person before sky and road, 64 × 48 pixels."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24] = 10, 40, 220
    pixels[24:] = 30, 160, 30
    pixels[16:44, 8:28] = 230, 30, 20
    pixels += np.random.default_rng(0).integers(0, 20, pixels.shape).astype(np.uint8)
    stages = segmenter.stages(Photo.from_array(pixels, "toy"))
    assert len(stages.panoptic.segments) == 3
    return dump_stages(stages, segmenter.artifact, "toy", {"device": "test"})
