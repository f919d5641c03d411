"""Running an artifact: LiteRT or onnxruntime, int8 and float, by the manifest's tensor specs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from panokit._onnx import onnx_session
from panokit._trial import try_onnx
from panokit.bundle import Artifact, Bundle, TensorSpec, is_plain
from panokit.decoding import DecodingSettings, Heads
from panokit.errors import ArgumentError, BundleError, HeadError, MissingExtraError
from panokit.onnx_check import check_onnx
from panokit.preprocessing import PreprocessConfig
from panokit.tflite.check import check_tflite, is_trusted

__all__ = [
    "LiteRtRuntime",
    "OnnxRuntime",
    "Runtime",
    "dequantize",
    "open_runtime",
    "quantize_image",
]


class Runtime(Protocol):
    """Anything that computes raw heads from an image."""

    name: str

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Raw heads by name, as the artifact gives them (quantised ones stay so) and in its
        layout, without the batch axis, from an image uint8 ``[H,W,3]`` RGB."""
        ...


def dequantize(
    raw: Mapping[str, NDArray[Any]], specs: Mapping[str, TensorSpec]
) -> dict[str, NDArray[np.float32]]:
    """Real values of raw heads: (q - zero_point)·scale in float32 for integers. Labels (int32,
    int64, and uint8 without a scale) are whole numbers as they are."""
    out: dict[str, NDArray[np.float32]] = {}
    for name, values in raw.items():
        if name not in specs:
            raise HeadError(name, f"is not an output of the artifact; it has {sorted(specs)}")
        spec = specs[name]
        if is_plain(spec.dtype, spec.scale):  # labels
            out[name] = values.astype(np.float32)
        elif np.issubdtype(values.dtype, np.integer):
            if spec.scale is None:
                raise HeadError(name, f"is {values.dtype}, but its spec has no scale")
            centred = values.astype(np.float32) - np.float32(spec.zero_point or 0)
            out[name] = centred * np.float32(spec.scale)
        else:
            out[name] = values.astype(np.float32)
    return out


def channels_last(
    raw: Mapping[str, NDArray[Any]], specs: Mapping[str, TensorSpec]
) -> dict[str, NDArray[Any]]:
    """Heads in the artifact's layout, without the batch axis, with their channels last."""
    return {
        name: np.moveaxis(values, 0, -1) if specs[name].is_channels_first else values
        for name, values in raw.items()
    }


def read_heads(
    raw: Mapping[str, NDArray[Any]], artifact: Artifact, settings: DecodingSettings
) -> Any:
    """The typed heads of an artifact's raw outputs, as the contract of ``settings`` has them."""
    return settings.read_heads(channels_last(dequantize(raw, artifact.outputs), artifact.outputs))


def heads_from_raw(raw: Mapping[str, NDArray[Any]], artifact: Artifact) -> Heads:
    """The :class:`Heads` of an artifact's raw outputs; of contract center-offset only."""
    return Heads.from_arrays(channels_last(dequantize(raw, artifact.outputs), artifact.outputs))


def quantize_image(
    image_hwc: NDArray[Any], spec: TensorSpec, config: PreprocessConfig | None = None
) -> NDArray[Any]:
    """The artifact's input tensor, with batch axis, from an image ``[H,W,3]`` RGB: uint8, or float
    in 0..255 (float32: what a device resized without rounding). ``config`` says what the values
    are to the network, and how its channels are ordered."""
    expected = spec.shape[1:] if spec.layout != "nchw" else (*spec.shape[2:], spec.shape[1])
    if image_hwc.dtype not in (np.uint8, np.float32) or image_hwc.shape != tuple(expected):
        got = f"{image_hwc.dtype} {image_hwc.shape}"
        raise ArgumentError(
            "image_hwc", f"image_hwc is {got}; expected uint8 of shape {tuple(expected)}"
        )
    x: NDArray[Any] = image_hwc
    takes_bytes = spec.scale is None and np.issubdtype(np.dtype(spec.dtype), np.integer)
    if config is not None and config.order == "bgr":
        x = x[..., ::-1]
    if config is not None and config.is_scaled and not takes_bytes:
        x = (x.astype(np.float32) - np.array(config.mean, np.float32)) / np.array(
            config.std, np.float32
        )
    if spec.scale is not None:
        info = np.iinfo(spec.dtype)
        q = np.round(x.astype(np.float32) / np.float32(spec.scale)) + (spec.zero_point or 0)
        x = np.clip(q, info.min, info.max)
    x = x.astype(spec.dtype)[None]
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if spec.layout == "nchw" else x


class LiteRtRuntime:
    """A TFLite artifact in LiteRT (XNNPACK on CPUs)."""

    name = "litert"

    def __init__(
        self,
        path: str | os.PathLike[str],
        artifact: Artifact,
        threads: int = 2,
        preprocessing: PreprocessConfig | None = None,
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter

        if threads < 1:
            raise ArgumentError("threads", f"threads is {threads!r}; expected at least 1")
        self.artifact, self._path, self._preprocessing = artifact, Path(path), preprocessing
        check_tflite(path)  # LiteRT itself would crash on a damaged file
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            signatures = self._interpreter.get_signature_list()
            self._runner: Any = (
                self._interpreter.get_signature_runner(next(iter(signatures)))
                if signatures
                else _Unsigned(self._interpreter)
            )
        except (ValueError, RuntimeError) as error:
            raise BundleError(Path(path), f"LiteRT cannot load it: {error}") from None
        self._check(Path(path))

    def _check(self, path: Path) -> None:
        """The file's own tensors must be the ones that the manifest describes."""
        for details, specs in (
            (self._runner.get_input_details(), [self.artifact.input]),
            (self._runner.get_output_details(), self.artifact.outputs.values()),
        ):
            found = {
                name: (np.dtype(d["dtype"]).name, tuple(int(v) for v in d["shape"]))
                for name, d in details.items()
            }
            _check_tensors(path, found, specs)
            for spec in specs:
                _check_scale(path, spec, details[spec.name]["quantization_parameters"])

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Raw heads ``[h,w,C]`` by name; see :class:`Runtime`."""
        spec = self.artifact.input
        image = quantize_image(image_hwc, spec, self._preprocessing)
        try:
            outputs = self._runner(**{spec.name: image})
        except (ValueError, RuntimeError) as error:
            raise BundleError(self._path, f"LiteRT cannot run it: {error}") from None
        return {head: outputs[s.name][0] for head, s in self.artifact.outputs.items()}


class _Unsigned:
    """Runs a TFLite file without a signature as LiteRT's signature runner runs others: by name."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs = {d["name"]: d for d in interpreter.get_input_details()}
        self._outputs = {d["name"]: d for d in interpreter.get_output_details()}

    def get_input_details(self) -> dict[str, Any]:
        return self._inputs

    def get_output_details(self) -> dict[str, Any]:
        return self._outputs

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        for name, values in inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], values)
        self._interpreter.invoke()
        return {n: self._interpreter.get_tensor(d["index"]) for n, d in self._outputs.items()}


class OnnxRuntime:
    """An ONNX artifact in onnxruntime on the CPU; needs the ``onnx`` extra."""

    name = "onnxruntime"

    def __init__(
        self,
        path: str | os.PathLike[str],
        artifact: Artifact,
        threads: int = 2,
        preprocessing: PreprocessConfig | None = None,
    ) -> None:
        if threads < 1:
            raise ArgumentError("threads", f"threads is {threads!r}; expected at least 1")
        try:
            import onnxruntime  # noqa: F401 - opened below
        except ImportError:
            raise MissingExtraError("running ONNX artifacts", "onnx") from None
        self.artifact, self._path, self._preprocessing = artifact, Path(path), preprocessing
        if not is_trusted():
            check_onnx(path)
            try_onnx(self._path)
        try:
            self._session: Any = onnx_session(path, threads)
        except Exception as error:  # its errors have no base of their own
            raise BundleError(Path(path), f"onnxruntime cannot load it: {error}") from None
        for nodes, specs in (
            (self._session.get_inputs(), [artifact.input]),
            (self._session.get_outputs(), artifact.outputs.values()),
        ):
            found = {n.name: (_ONNX_TYPES.get(n.type, n.type), tuple(n.shape)) for n in nodes}
            _check_tensors(Path(path), found, specs)

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Raw heads by name, ``[C,h,w]`` where their specs say ``nchw``; see :class:`Runtime`."""
        specs = self.artifact.outputs
        image = quantize_image(image_hwc, self.artifact.input, self._preprocessing)
        try:
            outputs = self._session.run(
                [spec.name for spec in specs.values()], {self.artifact.input.name: image}
            )
        except Exception as error:  # its errors have no base of their own
            raise BundleError(self._path, f"onnxruntime cannot run it: {error}") from None
        return {head: values[0] for head, values in zip(specs, outputs, strict=True)}


_ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def _check_tensors(
    path: Path, found: Mapping[str, tuple[str, tuple[Any, ...]]], specs: Iterable[TensorSpec]
) -> None:
    """``found`` (dtype and shape by name, as the file states them) has what ``specs`` describe."""
    for spec in specs:
        if spec.name not in found:
            raise BundleError(path, f"has no tensor {spec.name!r}; it has {sorted(found)}")
        dtype, shape = found[spec.name]
        if (dtype, shape) != (spec.dtype, spec.shape):
            expected = f"expected {spec.dtype} {spec.shape} as in the manifest"
            raise BundleError(path, f"tensor {spec.name!r}: {expected}, got {dtype} {shape}")


def _check_scale(path: Path, spec: TensorSpec, stored: Mapping[str, NDArray[Any]]) -> None:
    """The numbers that whole ones stand for are the file's own, not what a manifest says."""
    if spec.scale is None:
        return
    scales, zeros = stored["scales"], stored["zero_points"]
    own = (np.float32(scales[0]), int(zeros[0])) if len(scales) == len(zeros) == 1 else None
    if own != (np.float32(spec.scale), spec.zero_point):
        told = "no scale" if own is None else f"scale {own[0]:.9g} and zero point {own[1]}"
        expected = f"scale {spec.scale:.9g} and zero point {spec.zero_point} as in the manifest"
        raise BundleError(path, f"tensor {spec.name!r}: expected {expected}, got {told}")


RUNTIMES: dict[str, type[LiteRtRuntime] | type[OnnxRuntime]] = {
    "tflite": LiteRtRuntime,
    "onnx": OnnxRuntime,
}


def open_runtime(bundle: Bundle, artifact: Artifact, threads: int = 2) -> Runtime:
    """The runtime that can run ``artifact`` here; ``ArgumentError`` if there is none."""
    if artifact.format in RUNTIMES:
        kind, preprocessing = RUNTIMES[artifact.format], bundle.manifest.preprocessing
        return kind(bundle.path(artifact), artifact, threads, preprocessing)
    runnable = ", ".join(a.name for a in bundle.manifest.artifacts if a.format in RUNTIMES)
    raise ArgumentError(
        "artifact",
        f"artifact {artifact.name!r} does not run here; "
        f"of this bundle these do: {runnable or 'none'}",
    )
