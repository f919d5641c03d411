"""Other people's model files to a bundle: what is in them, which contract that is, and a trial."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._reading import parse_json
from panokit.agreement import compare_tensors
from panokit.bundle import (
    FLAT_LAYOUTS,
    Artifact,
    Bundle,
    Manifest,
    TensorSpec,
    hash_path,
    path_bytes,
)
from panokit.decoding import DecodingSettings, InstancesConfig, MaskQueriesConfig, SemanticConfig
from panokit.errors import ArgumentError, BundleError, DataError, MissingExtraError, UsageError
from panokit.families import FAMILIES, Family
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit.runtime import RUNTIMES, channels_last, dequantize
from panokit.taxonomy import Taxonomy
from panokit.tflite.check import check_tflite
from panokit_lab.bundle_writer import BundlePart, write_bundle

__all__ = [
    "AdoptRequest",
    "Adopted",
    "Guess",
    "ModelTensors",
    "adopt",
    "guess_family",
    "read_model",
]

FORMATS = {".tflite": "tflite", ".onnx": "onnx"}
STRIDES = (8, 16, 32)
MAX_METADATA_BYTES = 1_000_000

Notice = Callable[[str], None]


@dataclass(frozen=True)
class FileTensor:
    """One tensor at a file's border; ``shape`` with the batch axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class ModelTensors:
    """What a model file says of itself: its input, its outputs, and the class names, if any."""

    path: Path
    format: str
    input: FileTensor
    outputs: tuple[FileTensor, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guess:
    """A family, which tensor is which head and how it lies, and why."""

    family: str
    heads: dict[str, tuple[str, str]]  # head: tensor, layout
    why: str


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
            raise UsageError("there is no file to adopt: name a .tflite or .onnx file.")
        if self.family is not None and self.family not in FAMILIES:
            raise ArgumentError.unknown("contract", self.family, FAMILIES)


@dataclass(frozen=True)
class Adopted:
    """The bundle, what was guessed of each file, and how far the heads of further files lie from
    those of the first, in dB."""

    bundle: Bundle
    guesses: dict[str, Guess]
    agreement: dict[str, dict[str, float]]


def read_model(path: str | os.PathLike[str]) -> ModelTensors:
    """The tensors of a ``.tflite`` or ``.onnx`` file. ``BundleError`` if it is damaged or cannot be
    run here, ``ArgumentError`` if its input is no picture of a fixed size."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        expected = f"expected a file that ends in {' or '.join(FORMATS)}"
        raise ArgumentError("file", f"file is {str(path)!r}; {expected}")
    if not path.is_file():
        raise DataError(path, "there is no such file")
    model = _read_tflite(path) if path.suffix.lower() == ".tflite" else _read_onnx(path)
    for tensor in (model.input, *model.outputs):
        if any(n < 1 for n in tensor.shape):
            told = f"tensor {tensor.name!r} has the shape {tensor.shape}"
            raise BundleError(
                path, f"{told}; expected fixed sizes: export it with a fixed input size"
            )
    if len(model.input.shape) != 4 or model.input.shape[0] != 1 or 3 not in model.input.shape[1:]:
        told = f"its input {model.input.name!r} has the shape {model.input.shape}"
        raise BundleError(path, f"{told}; expected one picture of 3 channels")
    return model


def _read_tflite(path: Path) -> ModelTensors:
    file = check_tflite(path)
    graph = file.main
    signature = file.signatures[0] if file.signatures else None
    if len(file.signatures) > 1:
        keys = ", ".join(repr(s.key) for s in file.signatures)
        raise BundleError(path, f"has the signatures {keys}; expected one: export the one to run")
    inputs = signature.inputs if signature else {graph.tensors[i].name: i for i in graph.inputs}
    outputs = signature.outputs if signature else {graph.tensors[i].name: i for i in graph.outputs}
    if len(inputs) != 1:
        raise BundleError(path, f"has the inputs {sorted(inputs)}; expected one, the picture")

    def tensor(name: str, index: int) -> FileTensor:
        found = graph.tensors[index]
        one = found.scale.size == 1
        scale = float(found.scale[0]) if one else None
        zero = int(found.zero_point[0]) if one and found.zero_point.size else None
        return FileTensor(name, tuple(int(n) for n in found.shape), found.dtype, scale, zero)

    ((name, index),) = inputs.items()
    return ModelTensors(
        path,
        "tflite",
        tensor(name, index),
        tuple(tensor(n, i) for n, i in outputs.items()),
        _names_beside(path),
    )


def _names_beside(path: Path) -> tuple[str, ...]:
    """Class names from a ``metadata.json`` appended to a TFLite file, as Ultralytics writes it."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("metadata.json")
            if info.file_size > MAX_METADATA_BYTES:
                return ()
            data = parse_json(archive.read(info))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RuntimeError, NotImplementedError):
        return ()
    return _class_names(data.get("names") if isinstance(data, dict) else None)


def _class_names(names: Any) -> tuple[str, ...]:
    """``{"0": "person", …}`` or a list, as names in order; nothing else."""
    if isinstance(names, dict):
        try:
            names = [names[key] for key in sorted(names, key=int)]
        except (TypeError, ValueError):
            return ()
    if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
        return ()
    return tuple(names)


def _read_onnx(path: Path) -> ModelTensors:
    from panokit._trial import try_onnx
    from panokit.onnx_check import check_onnx
    from panokit.tflite.check import is_trusted

    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("reading ONNX files", "onnx") from None
    if not is_trusted():
        check_onnx(path)
        try_onnx(path)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise BundleError(path, f"onnxruntime cannot load it: {error}") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        found = sorted(n.name for n in inputs)
        raise BundleError(path, f"has the inputs {found}; expected one, the picture")

    def tensor(node: Any) -> FileTensor:
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        shape = tuple(n if isinstance(n, int) else 0 for n in node.shape)
        return FileTensor(node.name, shape, {"float": "float32"}.get(kind, kind))

    names = _python_names(session.get_modelmeta().custom_metadata_map.get("names", ""))
    return ModelTensors(path, "onnx", tensor(inputs[0]), tuple(map(tensor, outputs)), names)


def _python_names(text: str) -> tuple[str, ...]:
    """``{0: 'person', …}`` as Ultralytics writes it, or the same as JSON."""
    import ast

    if len(text) > MAX_METADATA_BYTES:
        return ()
    try:
        data = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    return _class_names({str(k): v for k, v in data.items()} if isinstance(data, dict) else data)


def _sides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:])


def _input_wh(tensor: FileTensor) -> tuple[tuple[int, int], str]:
    """Width and height of an input, and its layout."""
    a, b, c = _sides(tensor.shape)
    return ((b, a), "nhwc") if c == 3 else ((c, b), "nchw")


def _picture_layout(shape: Sequence[int], channels: int | None = None) -> str:
    """Whether a tensor of rows, columns and channels has the channels first or last."""
    first, middle, last = _sides(shape)
    if channels is not None and (first == channels) != (last == channels):
        return "nchw" if first == channels else "nhwc"
    return "nchw" if middle == last and first != middle else "nhwc"


def _channels(shape: Sequence[int]) -> int:
    return shape[1] if _picture_layout(shape) == "nchw" else shape[3]


def guess_family(model: ModelTensors) -> Guess:
    """The family by the shapes of the outputs; ``BundleError`` with what was found if none fits."""
    (width, height), _ = _input_wh(model.input)
    anchors = sum((width // s) * (height // s) for s in STRIDES)
    pictures = [t for t in model.outputs if len(t.shape) == 4]
    rows = [t for t in model.outputs if len(t.shape) == 3]
    whole = [t for t in rows if t.dtype in ("int32", "int64")]
    if len(model.outputs) == 1 and pictures:
        (one,) = pictures
        heads = {"semantic": (one.name, _picture_layout(one.shape))}
        why = f"one output of {_channels(one.shape)} channels"
        return Guess("semantic", heads, why)
    if len(model.outputs) == 1 and whole:
        heads = {"semantic": (whole[0].name, "rows")}
        why = "one output of whole numbers, a class for each pixel"
        return Guess("semantic-labels", heads, why)
    if len(pictures) == 3 and not rows:
        counts = {_channels(t.shape): t for t in pictures}
        if {1, 2} < counts.keys() and len(counts) == 3:
            names = {1: "center", 2: "offset"}
            heads = {
                names.get(n, "semantic"): (t.name, _picture_layout(t.shape, n))
                for n, t in counts.items()
            }
            return Guess("center-offset", heads, "three outputs, of 1, 2 and more channels")
    if rows and len(pictures) == 1:
        found = _guess_queries(rows, pictures[0], (width, height))
        if found is None and len(rows) == 1:
            found = _guess_yolo(rows[0], pictures[0], anchors)
        if found:
            return found
    shapes = ", ".join(f"{t.name} {t.shape}" for t in model.outputs)
    known = ", ".join(FAMILIES)
    raise BundleError(
        model.path,
        f"has the outputs {shapes}, which are those of no network known here; "
        f"say which it is with --contract ({known}) and --map HEAD=TENSOR",
    )


def _guess_yolo(rows: FileTensor, prototypes: FileTensor, anchors: int) -> Guess | None:
    a, b = _sides(rows.shape)
    mixed = min(prototypes.shape[1], prototypes.shape[3])
    layout = _picture_layout(prototypes.shape, mixed)
    for count, numbers, way in ((b, a, "columns"), (a, b, "rows")):
        heads = {"detections": (rows.name, way), "prototypes": (prototypes.name, layout)}
        if count == anchors and numbers > 4 + mixed:
            why = f"{count} anchors of {numbers} numbers, and {mixed} prototypes"
            return Guess("yolo-seg", heads, why)
        if count == 3 * anchors and numbers > 5 + mixed:
            why = f"3 x {anchors} anchors of {numbers} numbers, and {mixed} prototypes"
            return Guess("yolo-seg-v5", heads, why)
    if b == 6 + mixed and a <= 1000:
        heads = {"detections": (rows.name, "rows"), "prototypes": (prototypes.name, layout)}
        why = f"{a} finished detections of {b} numbers, and {mixed} prototypes"
        return Guess("yolo-seg-end2end", heads, why)
    return None


def _guess_queries(
    rows: Sequence[FileTensor], masks: FileTensor, input_wh: tuple[int, int]
) -> Guess | None:
    # Of a single tensor four columns are classes.
    boxes = [t for t in rows if t.shape[-1] == 4 and len(rows) > 1]
    others = [t for t in rows if t not in boxes]
    if len(others) != 1:
        return None
    queries, columns = _sides(others[0].shape)
    if queries not in (masks.shape[1], masks.shape[3]):
        return None
    layout = _picture_layout(masks.shape, queries)
    if boxes:
        heads = {"boxes": (boxes[0].name, "rows"), "scores": (others[0].name, "rows"),
                 "masks": (masks.name, layout)}  # fmt: skip
        why = f"{queries} queries with boxes, {columns} classes and masks"
        return Guess("rf-detr-seg", heads, why)
    heads = {"classes": (others[0].name, "rows"), "masks": (masks.name, layout)}
    side = masks.shape[2]
    odd = side == (input_wh[0] - 1) // 4 + 1 and input_wh[0] % 2 == 1
    family = "kmax" if odd or queries == 128 else "mask2former"
    why = f"{queries} queries of {columns} classes with masks; say which with --contract"
    return Guess(family, heads, why)


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
        size_wh, layout = _input_wh(model.input)
        preprocessing = _preprocessing(request, family, model.input, size_wh)
        spec = _input_spec(model.input, layout, preprocessing)
        outputs = {head: _spec(model, name, way) for head, (name, way) in guess.heads.items()}
        taxonomy = _taxonomy(request, model)
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
            stride=_stride(outputs, size_wh),
            artifacts=(),
            licence={"model": request.licence or "not stated; that of its makers holds"},
            recipe={"adopted": [p.name for p in request.files]},
        )
        if manifest is not None and (manifest.preprocessing, manifest.taxonomy) != (
            own.preprocessing, own.taxonomy,
        ):  # fmt: skip
            raise ArgumentError(
                "files",
                f"{path.name} has another input or other classes than {request.files[0].name}",
            )
        manifest = manifest or own
        parts.append(_part(model, spec, outputs, raw, parts))
    assert manifest is not None
    bundle = write_bundle(request.out, manifest, parts, photos)
    return Adopted(bundle, guesses, _agreement(parts))


def _settled(request: AdoptRequest, model: ModelTensors) -> Guess:
    """The guess, with what the user says put in its place."""
    if request.family is None and not request.heads:
        guess = guess_family(model)
    else:
        guess = _told(request, model)
    decoding = request.decoding or FAMILIES[guess.family].decoding
    missing = [h for h in decoding.head_names() if h not in guess.heads]
    if missing:
        names = ", ".join(f"{t.name} {t.shape}" for t in model.outputs)
        raise UsageError(f"--map lacks {', '.join(missing)}; {model.path.name} has {names}.")
    return guess


def _told(request: AdoptRequest, model: ModelTensors) -> Guess:
    """The family that the user names; its tensors by --map, or by a guess that fits it."""
    by_name = {t.name: t for t in model.outputs}
    unknown = [n for n in request.heads.values() if n not in by_name]
    if unknown:
        raise ArgumentError.unknown("tensor", unknown[0], by_name)
    try:
        guess: Guess | None = guess_family(model)
    except BundleError:
        if not request.heads:
            raise
        guess = None
    family = request.family or (guess.family if guess else "")
    if not family:
        raise UsageError("--map needs --contract: it cannot be seen which network this is.")
    settings = FAMILIES[family].decoding
    heads = dict(guess.heads) if guess and set(settings.head_names()) == set(guess.heads) else {}
    for head, name in request.heads.items():
        tensor = by_name[name]
        flat = len(tensor.shape) == 3
        heads[head] = (name, "rows" if flat else _picture_layout(tensor.shape))
    return Guess(family, heads, "as told")


def _preprocessing(
    request: AdoptRequest, family: Family, tensor: FileTensor, size_wh: tuple[int, int]
) -> PreprocessConfig:
    config = family.preprocessing(size_wh)
    if tensor.dtype == "uint8" and "mean" not in request.changes and "std" not in request.changes:
        # Bytes in: the network has the scale inside.
        config = replace(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return replace(config, **request.changes)


def _input_spec(tensor: FileTensor, layout: str, config: PreprocessConfig) -> TensorSpec:
    bytes_in = tensor.dtype == "uint8" and not config.is_scaled
    scale, zero = (None, None) if bytes_in else (tensor.scale, tensor.zero_point)
    return TensorSpec(tensor.name, tensor.shape, tensor.dtype, layout, scale, zero)


def _spec(model: ModelTensors, name: str, layout: str) -> TensorSpec:
    tensor = next(t for t in model.outputs if t.name == name)
    quantized = tensor.dtype in ("int8", "uint8", "int16")
    scale, zero = (tensor.scale, tensor.zero_point) if quantized else (None, None)
    return TensorSpec(tensor.name, tensor.shape, tensor.dtype, layout, scale, zero)


def _stride(outputs: Mapping[str, TensorSpec], size_wh: tuple[int, int]) -> int:
    """Input pixels per cell of the finest head, at least 1."""
    widths = [s.channels_last[1] for s in outputs.values() if s.layout not in FLAT_LAYOUTS]
    return max(1, round(size_wh[0] / max(widths))) if widths else 1


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
    name = f"{model.format}-{kind}"
    taken = {part.name for part in others}
    name = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 99))) if n not in taken)
    return BundlePart(
        name=name,
        format=model.format,
        file=f"{name}.{model.format}",
        source=model.path,
        precision=kind,
        input=spec,
        outputs=outputs,
        origin={"tflite": "litert", "onnx": "onnxruntime"}[model.format],
        raw=raw,
        quality={"adopted_sha256": hash_path(model.path)},
    )


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
