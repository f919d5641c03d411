"""Torch → Core ML package (ML Program) by coremltools.

The package takes an RGB image as it is (scale 1, no bias: normalisation is in the graph) and
computes in float16. Writing works on any system; running one needs an Apple one.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from panokit.bundle import TensorSpec
from panokit.errors import ExportError, MissingExtraError
from panokit.taxonomy import Taxonomy
from panokit_compression.quiet import quiet
from panokit_converters.contract import HEADS, HeadContract, TupleHeads

__all__ = ["MINIMUM_OS", "CoreMlInfo", "coreml_specs", "write_coreml"]

log = logging.getLogger(__name__)

INPUT = "image"
MINIMUM_OS = "iOS 16, macOS 13"


@dataclass(frozen=True)
class CoreMlInfo:
    """What the package says about itself: shown by Xcode, readable by apps."""

    name: str
    taxonomy: Taxonomy
    licence: str
    version: str
    author: str = "Panokit"


def write_coreml(module: nn.Module, contract: HeadContract, info: CoreMlInfo, path: Path) -> None:
    """Write ``module`` (head contract, eval mode) as the folder ``path`` (``….mlpackage``).

    The same weights give the same bytes: the conversion date is left out, identifiers come from
    names.
    """
    width, height = contract.size_wh
    with _tool() as ct, quiet(log), torch.no_grad():
        trace: Any = torch.jit.trace  # without types of its own
        traced = trace(TupleHeads(module).eval(), torch.zeros(1, 3, height, width))
        try:
            model = ct.convert(
                traced,
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS16,
                inputs=[
                    ct.ImageType(
                        name=INPUT,
                        shape=(1, 3, height, width),
                        scale=1.0,
                        color_layout=ct.colorlayout.RGB,
                    )
                ],
                outputs=[ct.TensorType(name=name) for name in HEADS],
                compute_precision=ct.precision.FLOAT16,
                skip_model_load=True,
            )
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = f"coremltools cannot convert the module ({type(error).__name__}: {error})"
            raise ExportError(path, reason) from error
        _describe(model, contract, info)
        model.save(str(path))
    _make_reproducible(path)


def coreml_specs(contract: HeadContract) -> tuple[TensorSpec, dict[str, TensorSpec]]:
    """The input (an image) and the heads (float16, NCHW) of a package written here."""
    width, height = contract.size_wh
    image = TensorSpec(INPUT, (1, height, width, 3), "uint8", "image")
    heads = {
        name: TensorSpec(name, (1, *contract.shape(name)), "float16", "nchw") for name in HEADS
    }
    return image, heads


def _describe(model: Any, contract: HeadContract, info: CoreMlInfo) -> None:
    width, height = contract.size_wh
    model.author = info.author
    model.license = info.licence
    model.version = info.version
    model.short_description = (
        f"{info.name}: panoptic segmentation, raw heads. Decode them as Panokit's postprocessing "
        "says; the manifest of the bundle holds its parameters."
    )
    model.input_description[INPUT] = (
        f"Photo, RGB, scaled to fit {width}x{height} and centred on black (Vision: scaleFit)."
    )
    model.output_description["semantic"] = "Logits per category, in the order of the labels."
    model.output_description["center"] = "Logit of an object's centre; apply the sigmoid."
    model.output_description["offset"] = "(dy, dx) in input pixels to the object's centre."
    labels = [category.name for category in info.taxonomy]
    model.user_defined_metadata.update(
        {
            "panokit.labels": json.dumps(labels, ensure_ascii=False),
            "panokit.taxonomy": json.dumps(info.taxonomy.to_json(), ensure_ascii=False),
            "panokit.stride": str(contract.stride),
        }
    )
    del model.user_defined_metadata["com.github.apple.coremltools.conversion_date"]


def _make_reproducible(path: Path) -> None:
    """Random identifiers of the package become ones made of the items' names."""
    manifest = path / "Manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    entries = data["itemInfoEntries"]
    renamed = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, f"panokit:{entry['path']}"))
        for old, entry in entries.items()
    }
    data["itemInfoEntries"] = dict(sorted((renamed[k], v) for k, v in entries.items()))
    data["rootModelIdentifier"] = renamed[data["rootModelIdentifier"]]
    manifest.write_text(json.dumps(data, indent=4) + "\n", encoding="utf-8")
    _rewrite_specification(path)
    for file in path.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def _rewrite_specification(path: Path) -> None:
    """Protobuf maps have no order of their own; written again they have that of their keys."""
    from coremltools.proto import Model_pb2

    file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    specification = Model_pb2.Model()
    specification.ParseFromString(file.read_bytes())
    file.write_bytes(specification.SerializeToString(deterministic=True))


@contextmanager
def _tool() -> Iterator[Any]:
    """coremltools without its word on the versions of torch and scikit-learn."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        try:
            with quiet(log):
                import coremltools
        except ImportError as error:
            if error.name == "coremltools":
                raise MissingExtraError("exporting to Core ML", "export") from None
            raise
        yield coremltools
    finally:
        logger.setLevel(level)
