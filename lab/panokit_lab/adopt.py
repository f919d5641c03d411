"""Other people's model files to a bundle: what is in them, which contract that is, and a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.agreement import compare_tensors
from panokit.bundle import (
    Artifact,
    Bundle,
    Manifest,
    TensorSpec,
    hash_path,
    path_bytes,
)
from panokit.decoding import DecodingSettings, InstancesConfig, MaskQueriesConfig, SemanticConfig
from panokit.errors import ArgumentError, BundleError, UsageError
from panokit.families import FAMILIES, Family
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit.runtime import RUNTIMES, channels_last, dequantize
from panokit.taxonomy import Taxonomy
from panokit_converters.contract import finest_stride
from panokit_converters.guess import Guess, NoFamilyError, input_wh, settle
from panokit_converters.model_file import FileTensor, ModelTensors, read_model
from panokit_converters.runners import CoreMlInterpreter
from panokit_lab.bundle_writer import BundlePart, write_bundle

__all__ = ["AdoptRequest", "Adopted", "adopt"]

Notice = Callable[[str], None]


@dataclass(frozen=True)
class AdoptRequest:
    """What to adopt: ``files`` of one network, and what is known of it. ``family`` of
    :data:`FAMILIES` and ``heads`` (head to tensor name) are guessed if they are left out;
    ``taxonomy`` may come from the file; ``decoding`` replaces the family's settings; ``changes``
    those of the input (``mean``, ``std``, ``fit``, ``padding``, ``order``)."""

    files: tuple[Path, ...]
    out: Path
    family: str | None = None
    taxonomy: Taxonomy | None = None
    heads: Mapping[str, str] = field(default_factory=dict)
    decoding: DecodingSettings | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""

    def __post_init__(self) -> None:
        if not self.files:
            raise UsageError(
                "there is no file to adopt: name a .tflite or .onnx file, or an .mlpackage."
            )
        if self.family is not None and self.family not in FAMILIES:
            raise ArgumentError.unknown("contract", self.family, FAMILIES)


@dataclass(frozen=True)
class Adopted:
    """The bundle, what was guessed of each file, and how far the heads of further files lie from
    those of the first, in dB."""

    bundle: Bundle
    guesses: dict[str, Guess]
    agreement: dict[str, dict[str, float]]


def adopt(request: AdoptRequest, photos: Mapping[str, Photo], notice: Notice) -> Adopted:
    """Make the bundle. ``photos`` (at least three) are run for golden vectors; ``notice`` is told
    what was guessed and why."""
    guesses: dict[str, Guess] = {}
    parts: list[BundlePart] = []
    manifest: Manifest | None = None
    for path in request.files:
        model = read_model(path)
        guess = _settled(request, model)
        guesses[path.name] = guess
        notice(f"{path.name}: {guess.family}: {guess.why}")
        family = FAMILIES[guess.family]
        size_wh, layout = input_wh(model.input)
        layout = "image" if model.format == "coreml" else layout
        preprocessing = _preprocessing(request, family, model.input, size_wh)
        spec = _input_spec(model.input, layout, preprocessing)
        outputs = {head: _spec(model, name, way) for head, (name, way) in guess.heads.items()}
        taxonomy = _taxonomy(request, model)
        stride = finest_stride({h: s.channels_last for h, s in outputs.items()}, size_wh)
        _check_shapes(
            model, outputs, size_wh, stride, taxonomy, request.decoding or family.decoding
        )
        runner = _open(model, spec, outputs, preprocessing)
        raw = {
            name: channels_last(runner.run(preprocess(photo, preprocessing)[0]), outputs)
            for name, photo in photos.items()
        }
        decoding = request.decoding or _seen(family.decoding, raw, outputs, notice)
        own = Manifest(
            name=request.out.stem,
            taxonomy=taxonomy,
            preprocessing=preprocessing,
            postprocessing=decoding,
            stride=stride,
            artifacts=(),
            licence={"model": request.licence or "not stated; that of its makers holds"},
            recipe={"adopted": [p.name for p in request.files]},
        )
        manifest = own if manifest is None else _together(manifest, own)
        if manifest is None:
            raise ArgumentError(
                "files",
                f"{path.name} has another input or other classes than {request.files[0].name}",
            )
        parts.append(_part(model, spec, outputs, raw, parts))
    assert manifest is not None
    bundle = write_bundle(request.out, manifest, parts, photos)
    return Adopted(bundle, guesses, _agreement(parts))


def _settled(request: AdoptRequest, model: ModelTensors) -> Guess:
    """What the file's tensors are; the error names the file."""
    size_wh, _ = input_wh(model.input)
    try:
        return settle(model.outputs, size_wh, request.family, request.heads, request.decoding)
    except NoFamilyError as error:
        raise BundleError(model.path, str(error)) from None


def _preprocessing(
    request: AdoptRequest, family: Family, tensor: FileTensor, size_wh: tuple[int, int]
) -> PreprocessConfig:
    config = family.preprocessing(size_wh)
    if tensor.dtype == "uint8" and "mean" not in request.changes and "std" not in request.changes:
        config = _without_scale(config)  # bytes in: the network has the scale inside
    return replace(config, **request.changes)


def _without_scale(config: PreprocessConfig) -> PreprocessConfig:
    return replace(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _input_spec(tensor: FileTensor, layout: str, config: PreprocessConfig) -> TensorSpec:
    bytes_in = tensor.dtype == "uint8" and not config.is_scaled
    scale, zero = (None, None) if bytes_in else (tensor.scale, tensor.zero_point)
    return TensorSpec(tensor.name, tensor.shape, tensor.dtype, layout, scale, zero)


def _spec(model: ModelTensors, name: str, layout: str) -> TensorSpec:
    tensor = next(t for t in model.outputs if t.name == name)
    quantized = tensor.dtype in ("int8", "uint8", "int16")
    scale, zero = (tensor.scale, tensor.zero_point) if quantized else (None, None)
    return TensorSpec(tensor.name, tensor.shape, tensor.dtype, layout, scale, zero)


def _together(one: Manifest, other: Manifest) -> Manifest | None:
    """What both manifests say, or None if they contradict each other. A file that takes bytes has
    the scale of its input inside, and says nothing about that of others."""
    inputs = [m.preprocessing for m in (one, other)]
    if len({_without_scale(i) for i in inputs}) > 1 or one.taxonomy != other.taxonomy:
        return None
    scaled = {i for i in inputs if i.is_scaled}
    return None if len(scaled) > 1 else replace(one, preprocessing=(*scaled, inputs[0])[0])


def _check_shapes(
    model: ModelTensors,
    outputs: Mapping[str, TensorSpec],
    size_wh: tuple[int, int],
    stride: int,
    taxonomy: Taxonomy,
    decoding: DecodingSettings,
) -> None:
    """The file's heads are those of the taxonomy, or a sentence before anything is run."""
    shapes = {head: spec.channels_last for head, spec in outputs.items()}
    try:
        decoding.check_shapes(shapes, size_wh, stride, taxonomy)
    except ArgumentError as error:
        names = ", ".join(c.name for c in taxonomy.categories[:3])
        told = f"the taxonomy has {len(taxonomy)} classes ({names} …)"
        way = "name others with --taxonomy, or the channel of each column (columns in --decoding)"
        raise ArgumentError("taxonomy", f"{model.path.name}: {error}; {told}: {way}") from None


def _taxonomy(request: AdoptRequest, model: ModelTensors) -> Taxonomy:
    if request.taxonomy is not None:
        return request.taxonomy
    if model.names:
        return Taxonomy.from_json({"name": request.out.stem, "categories": list(model.names)})
    raise UsageError(
        f"{model.path.name} does not name its classes: give --taxonomy, a JSON file of them in the "
        'order of the network\'s columns: {"things": ["person", …], "stuff": ["sky", …]}.'
    )


def _open(
    model: ModelTensors,
    spec: TensorSpec,
    outputs: dict[str, TensorSpec],
    preprocessing: PreprocessConfig,
) -> Any:
    artifact = Artifact(
        name="trial",
        format=model.format,
        file=model.path.name,
        sha256="",
        bytes=path_bytes(model.path),
        precision="float32",
        input=spec,
        outputs=outputs,
    )
    if model.format == "coreml":
        return CoreMlInterpreter(model.path, artifact)
    return RUNTIMES[model.format](model.path, artifact, 2, preprocessing)


def _seen(
    decoding: DecodingSettings,
    raw: Mapping[str, Mapping[str, NDArray[Any]]],
    outputs: Mapping[str, TensorSpec],
    notice: Notice,
) -> DecodingSettings:
    """Settings that shapes do not show but numbers do: whether boxes are shares of the input, and
    whether scores are probabilities already."""
    real = [dequantize(r, outputs) for r in raw.values()]
    if isinstance(decoding, InstancesConfig) and decoding.box != "distances":
        head = "detections" if "detections" in outputs else "boxes"
        largest = max(float(np.abs(r[head][:, :4]).max()) for r in real)
        unit = "input" if largest <= 4 else "pixels"
        if unit != decoding.box_unit:
            what = "shares of the input" if unit == "input" else "pixels"
            notice(f"boxes reach {largest:.3g}: they are {what}")
        decoding = replace(decoding, box_unit=unit)  # type: ignore[arg-type]
    if isinstance(decoding, SemanticConfig) and decoding.input == "logits":
        values = np.concatenate([r["semantic"].reshape(-1, r["semantic"].shape[-1]) for r in real])
        sums = values.sum(-1)
        if values.shape[1] > 1 and values.min() >= 0 and np.abs(sums - 1).max() < 0.02:
            notice("the channels of each pixel add up to 1: they are probabilities")
            decoding = replace(decoding, input="probabilities")
    if isinstance(decoding, MaskQueriesConfig) and decoding.classes == "softmax":
        values = np.concatenate([r["classes"] for r in real])
        if values.min() >= 0 and np.abs(values.sum(-1) - 1).max() < 0.02:
            notice("the classes of each query add up to 1: they are probabilities")
            decoding = replace(decoding, classes="probabilities")
    return decoding


def _part(
    model: ModelTensors,
    spec: TensorSpec,
    outputs: dict[str, TensorSpec],
    raw: Mapping[str, Mapping[str, NDArray[Any]]],
    others: Sequence[BundlePart],
) -> BundlePart:
    kind = spec.dtype if spec.dtype.startswith("float") else "int8"
    if model.format == "coreml":  # its heads have the type that it computes in
        kind = next((o.dtype for o in outputs.values() if o.dtype.startswith("float")), "float32")
    name = f"{model.format}-{kind}"
    taken = {part.name for part in others}
    name = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 99))) if n not in taken)
    return BundlePart(
        name=name,
        format=model.format,
        file=f"{name}{model.path.suffix.lower()}",
        source=model.path,
        precision=kind,
        input=spec,
        outputs=outputs,
        origin=_ORIGINS[model.format],
        raw=raw,
        quality={"adopted_sha256": hash_path(model.path)},
    )


_ORIGINS = {"tflite": "litert", "onnx": "onnxruntime", "coreml": CoreMlInterpreter.name}


def _agreement(parts: Sequence[BundlePart]) -> dict[str, dict[str, float]]:
    """SQNR of each head of further files against the first, over all photos, dB."""
    if not parts:
        return {}
    first = parts[0]
    found: dict[str, dict[str, float]] = {}
    for part in parts[1:]:
        found[part.name] = {}
        for head in set(first.outputs) & set(part.outputs):
            pairs = [
                (
                    dequantize(first.raw[n], first.outputs)[head],
                    dequantize(part.raw[n], part.outputs)[head],
                )
                for n in first.raw
            ]
            if all(a.shape == b.shape for a, b in pairs):
                expected = np.concatenate([a.ravel() for a, _ in pairs])
                got = np.concatenate([b.ravel() for _, b in pairs])
                found[part.name][head] = compare_tensors(got, expected).sqnr_db
    return found
