"""A device as validation sees it: any input values, other threads and kernels, rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact, TensorSpec
from panokit.errors import ArgumentError, BundleError
from panokit.runtime import dequantize
from panokit.segmenter import Segmenter

__all__ = ["Device", "DeviceNoise", "device_of", "half_precision", "parse_noise", "real_heads"]

FloatArray = NDArray[np.float32]
RawHeads = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class DeviceNoise:
    """How a healthy device differs from the reference.

    ``threads`` of the runtime; ``xnnpack=False`` uses the runtime's own kernels, which round
    quantised sums differently; ``fp16`` gives heads with the rounding of a network that computes
    in half precision: a relative error of 2^-11 per layer, adding up over ``DEPTH`` layers.
    """

    threads: int = 2
    xnnpack: bool = True
    fp16: bool = False

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ArgumentError("threads", f"threads is {self.threads!r}; expected at least 1")

    @property
    def label(self) -> str:
        """The text that :func:`parse_noise` reads."""
        parts = [f"threads={self.threads}"]
        parts += ["xnnpack=off"] if not self.xnnpack else []
        parts += ["fp16"] if self.fp16 else []
        return ",".join(parts)


DEPTH = 60
"""Layers in a row whose roundings add up (their squares do, as for independent errors)."""


def parse_noise(text: str) -> DeviceNoise:
    """``threads=N``, ``xnnpack=off`` and ``fp16``, separated by commas; empty is none."""
    values: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        if name == "threads" and value.isdigit():
            values["threads"] = int(value)
        elif name == "xnnpack" and value in ("on", "off"):
            values["xnnpack"] = value == "on"
        elif part == "fp16":
            values["fp16"] = True
        elif part != "none":
            expected = "threads=N, xnnpack=on|off or fp16, separated by commas"
            raise ArgumentError(
                "--device-noise", f"--device-noise is {part!r}; expected {expected}"
            )
    return DeviceNoise(**values)


class Device:
    """One artifact of a segmenter's bundle, run as a device with this noise does: heads for the
    real values of an input.

    A TFLite artifact gets an interpreter of its own; any other runtime is asked for whole numbers
    0..255, because that is what a :class:`~panokit.runtime.Runtime` takes.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        artifact: Artifact | None = None,
        noise: DeviceNoise | None = None,
    ) -> None:
        self.artifact = artifact or segmenter.artifact
        self.noise = noise or DeviceNoise()
        self._runtime = segmenter.runtime
        self._runner: Any = None
        path = segmenter.bundle.path(self.artifact)
        if self.artifact.format == "tflite" and path.is_file():
            self._runner = _runner(str(path), self.noise)

    @property
    def own_kernels(self) -> bool:
        """Whether threads and kernels are what :attr:`noise` asks for."""
        return self._runner is not None

    def run(self, values_hwc: FloatArray, seed: int = 0) -> RawHeads:
        """Raw heads ``[h,w,C]`` by name from the input's real values float32 ``[H,W,3]``; floats
        that were rounded if the noise says so (``seed`` chooses the rounding errors)."""
        if self._runner is None:
            image = np.clip(np.round(values_hwc), 0, 255).astype(np.uint8)
            raw = self._runtime.run(image)
        else:
            spec = self.artifact.input
            outputs = self._runner(**{spec.name: _stored(values_hwc, spec)})
            raw = {head: outputs[s.name][0] for head, s in self.artifact.outputs.items()}
        if not self.noise.fp16:
            return raw
        return half_precision(dequantize(raw, self.artifact.outputs), seed)


_DEVICES: WeakKeyDictionary[Segmenter, dict[tuple[str, DeviceNoise], Device]] = WeakKeyDictionary()


def device_of(
    segmenter: Segmenter, artifact: Artifact | None = None, noise: DeviceNoise | None = None
) -> Device:
    """A device that is opened once for all dumps of a segmenter, and goes when the segmenter does.
    ``artifact`` is the segmenter's own by default."""
    key = ((artifact or segmenter.artifact).name, noise or DeviceNoise())
    opened = _DEVICES.setdefault(segmenter, {})
    if key not in opened:
        opened[key] = Device(segmenter, artifact, noise)
    return opened[key]


def half_precision(real: Mapping[str, FloatArray], seed: int = 0) -> RawHeads:
    """Heads float16 as a network gives that computes in half precision; ``seed`` chooses errors."""
    rng = np.random.default_rng(seed)
    out: RawHeads = {}
    for name, values in real.items():
        size = 2.0**-11 * np.sqrt(DEPTH / 3)
        spread = np.hypot(values, 0.1 * values.std())  # sums cancel: small values err too
        noisy = values + rng.normal(0, size, values.shape) * spread
        out[name] = noisy.astype(np.float16)
    return out


def _stored(values: FloatArray, spec: TensorSpec) -> NDArray[Any]:
    """The input tensor with its batch axis."""
    x = np.asarray(values)
    if spec.scale is not None:
        info = np.iinfo(spec.dtype)
        q = np.round(x / np.float32(spec.scale)) + (spec.zero_point or 0)
        x = np.clip(q, info.min, info.max)
    x = x.astype(spec.dtype)[None]
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if spec.layout == "nchw" else x


def real_heads(raw: Mapping[str, NDArray[Any]], artifact: Artifact) -> dict[str, FloatArray]:
    """Real values float32 ``[h,w,C]`` of raw heads; ``center`` gets its channel axis."""
    real = dequantize(raw, artifact.outputs)
    return {n: v[..., None] if v.ndim == 2 else v for n, v in real.items()}


def _runner(path: str, noise: DeviceNoise) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.AUTO if noise.xnnpack else (
        OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )  # fmt: skip
    try:
        interpreter = Interpreter(
            model_path=path, num_threads=noise.threads, experimental_op_resolver_type=kernels
        )
        interpreter.allocate_tensors()
        return interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    except (ValueError, RuntimeError, StopIteration) as error:
        raise BundleError(path, f"LiteRT cannot load it: {error}") from None
