"""What is known to hurt on the Neural Engine, in LiteRT's delegates or in float16.

Each rule states a fact with its source. A finding is advice about a place, not proof of a fault:
what an artifact computes is for `panokit verify` to say, how fast it is for a phone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from panokit.errors import BundleError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit_converters.lint_graph import LINTABLE, Graph, GraphOperator, GraphTensor, read_graph
from panokit_converters.trace import Trace, trace_coreml, trace_tflite

__all__ = ["LINTABLE", "Finding", "LintReport", "Severity", "lint_graph", "lint_path"]

FLOAT16_MAX = 65504.0
MAX_PHOTOS = 4  # whose activations are looked at
MANY = 6  # places that are named one by one


class Severity(StrEnum):
    """``error``: known to give wrong results or not to run; ``warning``: known to leave the
    accelerator or to lose accuracy; ``info``: costs a little, or only on some devices."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """For comparing."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Finding:
    """``message`` says what and why, ``place`` where, ``advice`` what to do, ``source`` who says
    so (a link, or how it was measured)."""

    rule: str
    severity: Severity
    place: str
    message: str
    advice: str
    source: str

    def to_json(self) -> dict[str, str]:
        """A JSON-ready dict."""
        return {k: str(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class LintReport:
    """Findings of one artifact, worst first; ``operators`` counts them by the format's names."""

    artifact: str
    format: str
    operators: dict[str, int]
    findings: tuple[Finding, ...]
    photos: int = 0

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Findings of this severity and worse."""
        return tuple(f for f in self.findings if f.severity.rank >= severity.rank)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "artifact": self.artifact,
            "format": self.format,
            "operators": self.operators,
            "photos": self.photos,
            "findings": [finding.to_json() for finding in self.findings],
        }


def lint_path(
    path: Path, photos: Mapping[str, Photo] | None = None, name: str | None = None
) -> LintReport:
    """Lint a ``.tflite``, ``.mlpackage`` or ``.onnx``. With ``photos`` TFLite and Core ML artifacts
    are run too, and their activations held against the range of float16."""
    graph = read_graph(path)
    findings = list(lint_graph(graph))
    used = 0
    if photos and graph.format != "onnx":
        traces = _traces(graph, dict(list(photos.items())[:MAX_PHOTOS]))
        used = len(traces)
        findings += _ranges(graph, traces)
    findings.sort(key=lambda f: -f.severity.rank)
    counts = Counter(op.type for op in graph.operators)
    return LintReport(
        name or path.name, graph.format, dict(counts.most_common()), tuple(findings), used
    )


def lint_graph(graph: Graph) -> Iterator[Finding]:
    """What the file alone shows."""
    for rule in _RULES:
        yield from rule(graph)


def _places(operators: list[GraphOperator]) -> str:
    text = ", ".join(str(o) for o in operators[:MANY])
    return f"{text} and {len(operators) - MANY} more" if len(operators) > MANY else text


def _of(graph: Graph, *kinds: str) -> list[GraphOperator]:
    return [o for o in graph.operators if o.kind in kinds]


def _custom(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, "custom")
    if found:
        yield Finding(
            "custom-operator", Severity.ERROR, _places(found),
            "operators that the plain runtime does not have (Flex or custom)",
            "express them with built-in operators, or move them behind the heads",
            "https://ai.google.dev/edge/litert/models/ops_custom",
        )  # fmt: skip


def _dynamic(graph: Graph) -> Iterator[Finding]:
    found = [place for place, tensor in graph.tensors() if None in tensor.shape]
    if found:
        yield Finding(
            "dynamic-shape", Severity.ERROR, ", ".join(found[:MANY]),
            "sizes that are known only when it runs: LiteRT's GPU delegate refuses them, Core ML "
            "then stays on the CPU",
            "export with a fixed input size; one artifact per size",
            "https://github.com/apple/coremltools/issues/1764",
        )  # fmt: skip


def _rank(graph: Graph) -> Iterator[Finding]:
    found = [place for place, tensor in graph.tensors() if len(tensor.shape) > 4]
    if found:
        yield Finding(
            "rank-5", Severity.WARNING, ", ".join(found[:MANY]),
            "tensors of five or more axes, which LiteRT's GPU delegate and the Neural Engine do "
            "not take: the graph is cut there",
            "fold axes together: an image has batch, rows, columns and channels",
            "https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md",
        )  # fmt: skip


def _batch(graph: Graph) -> Iterator[Finding]:
    found = [t.name for t in graph.inputs if t.shape and t.shape[0] not in (1, None)]
    if found:
        yield Finding(
            "batch", Severity.WARNING, f"input {', '.join(found)}",
            "more than one image at a time; on the Neural Engine this has given overflow where "
            "one image did not",
            "export with a batch of one",
            "https://github.com/apple/coremltools/issues/1229",
        )  # fmt: skip


_SELECTION = ("argmax", "argmin", "topk", "non_max_suppression", "non_zero", "where", "unique",
              "sort", "argsort", "gather_nd", "gather_along_axis", "scatter", "scatter_nd",
              "scatter_along_axis")  # fmt: skip


def _selection(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, *_SELECTION)
    if found:
        yield Finding(
            "selection-in-graph", Severity.WARNING, _places(found),
            "choices inside the graph: ties and order differ between devices, top-k leaves the "
            "Neural Engine, and the GPU delegate has none of them",
            "end the graph at the raw heads and decode them in the app",
            "https://github.com/roboflow/rf-detr/pull/1495",
        )  # fmt: skip


def _sampling(graph: Graph) -> Iterator[Finding]:
    resizes = [o for o in graph.operators if "sampling" in o.options]
    odd = [o for o in resizes if o.options["sampling"] != "half_pixel"]
    if odd:
        kinds = ", ".join(sorted({str(o.options["sampling"]) for o in odd}))
        yield Finding(
            "resize-corners", Severity.WARNING, _places(odd),
            f"resizes that do not sample with half-pixel centres ({kinds}): delegates have "
            "ignored the flag, and the result lies shifted by up to half a cell",
            "resize with align_corners=False (half-pixel centres)",
            "https://github.com/intel/webml-polyfill/issues/468",
        )  # fmt: skip
    half = [o for o in resizes if o not in odd]
    if half and graph.format == "tflite":
        yield Finding(
            "resize-nnapi", Severity.INFO, _places(half),
            "half-pixel centres, which NNAPI has from Android 11 on only: before, these operators "
            "run on the CPU",
            "use the GPU delegate or XNNPACK rather than NNAPI (which Android 15 deprecates)",
            "https://github.com/tensorflow/tensorflow/issues/45207",
        )  # fmt: skip


def _exponentials(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, "softplus", "mish", "softplus_parametric")
    if found:
        yield Finding(
            "softplus", Severity.ERROR, _places(found),
            "on the Neural Engine softplus falls from 10.4 to 0 where its operand exceeds 10.4, "
            "as exp overflows float16",
            "use ReLU6, or max(x, 0) + log(1 + exp(-|x|))",
            "https://github.com/apple/coremltools/issues/2687",
        )  # fmt: skip
    found = _of(graph, "exp", "logsumexp", "log_softmax", "logsoftmax", "cumsum", "pow")
    if found:
        yield Finding(
            "exponential", Severity.WARNING, _places(found),
            "overflows float16 early: exp from 11.09 on, sums of exponentials before",
            "subtract the maximum first, or leave it to the app",
            "https://developer.apple.com/forums/thread/831370",
        )  # fmt: skip


def _hard_swish(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, "hard_swish", "hard_sigmoid", "hardsigmoid", "sigmoid_hard")
    if found:
        yield Finding(
            "hard-swish", Severity.WARNING, _places(found),
            "hard-swish and hard-sigmoid beside depthwise convolutions: three to four times the "
            "error on the Neural Engine than on the CPU, and wide ranges for int8",
            "train with ReLU6 instead",
            "https://github.com/apple/coremltools/issues/2625",
        )  # fmt: skip


def _is_global(operator: GraphOperator) -> bool:
    """Whether a pool or mean takes in a whole map of more than one pixel."""
    if operator.kind not in ("mean", "sum", "avg_pool") or not operator.inputs:
        return False
    pixels, result = operator.inputs[0].pixels, operator.outputs[0]
    return (pixels or 0) > 1 and (result.pixels == 1 or len(result.shape) < 4)


def _squeeze(graph: Graph) -> Iterator[Finding]:
    found = [o for o in graph.operators if _is_global(o)]
    if found:
        yield Finding(
            "squeeze-excite", Severity.WARNING, _places(found),
            "a mean over the whole map, as in squeeze-and-excite: LiteRT's GPU delegate adds up "
            "in float16, and a sum beyond 65504 becomes infinite",
            "leave squeeze-and-excite out, pool in steps, or forbid float16 on the GPU; the "
            "range check says how near the sums are",
            "https://github.com/google-ai-edge/LiteRT/issues/9249",
        )  # fmt: skip


def _layout(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, "transpose")
    if found:
        yield Finding(
            "transpose", Severity.WARNING, _places(found),
            "transpositions, most often left over from a change of layout: each moves a whole "
            "map through memory, and few delegates run it",
            "pad by the convolution (asymmetric 'same'), convert channels last",
            "measured at conversion: a padding in channels-first order leaves two of them",
        )  # fmt: skip
    found = _of(graph, "pad")
    if found and graph.format == "tflite":
        yield Finding(
            "pad", Severity.INFO, _places(found),
            "paddings of their own: one more pass over the map each",
            "use 'same' padding (odd pixel behind), which belongs to the convolution",
            "measured at conversion: symmetric padding at stride 2 leaves a PAD, 'same' none",
        )  # fmt: skip


def _islands(graph: Graph) -> Iterator[Finding]:
    border = {t.name for t in (*graph.inputs, *graph.outputs)}
    found = [
        o for o in _of(graph, "quantize", "dequantize")
        if o.inputs and not border & {t.name for t in (*o.inputs, *o.outputs)}
    ]  # fmt: skip
    if found:
        yield Finding(
            "float-island", Severity.WARNING, _places(found),
            "quantised and float operators take turns: each change is a pass over the map, and "
            "an integer-only accelerator stops there",
            "quantise the operators between as well, or keep the whole part in float",
            "https://ai.google.dev/edge/litert/models/quantization_spec",
        )  # fmt: skip


def _channels(graph: Graph) -> Iterator[Finding]:
    ends = {t.name for t in graph.outputs}
    found = [
        o for o in _of(graph, "conv", "depthwise")
        for t in o.outputs if t.channels and t.channels % 4 and t.name not in ends
    ]  # fmt: skip
    if found:
        yield Finding(
            "odd-channels", Severity.INFO, _places(found),
            "channel counts that are no multiple of 4: GPU delegates keep channels in fours and "
            "compute the missing ones for nothing",
            "round channel counts to 8 (prune to multiples of 8)",
            "https://www.tensorflow.org/lite/performance/gpu",
        )  # fmt: skip


def _wide_types(graph: Graph) -> Iterator[Finding]:
    found = [
        place for place, t in graph.tensors() if t.dtype in ("float64", "int64", "uint64")
    ]  # fmt: skip
    if found:
        yield Finding(
            "wide-type", Severity.WARNING, ", ".join(found[:MANY]),
            "64-bit numbers, which no mobile accelerator computes with",
            "cast to float32 or int32 before export",
            "https://www.tensorflow.org/lite/performance/gpu",
        )  # fmt: skip


def _last_axis(graph: Graph) -> Iterator[Finding]:
    if graph.format != "coreml":
        return
    found = [
        place for place, t in graph.tensors()
        if len(t.shape) > 2 and t.shape[-1] == 1 and np.prod([s or 1 for s in t.shape]) >= 512
    ]  # fmt: skip
    if found:
        yield Finding(
            "last-axis-one", Severity.WARNING, ", ".join(found[:MANY]),
            "a last axis of 1: the Neural Engine pads it to 64 bytes, so that such a tensor takes "
            "32 times its memory in float16",
            "keep rows and columns last ([1, channels, rows, columns]); squeeze in the app",
            "https://machinelearning.apple.com/research/neural-engine-transformers",
        )  # fmt: skip


def _float32_program(graph: Graph) -> Iterator[Finding]:
    kinds = Counter(t.dtype for _, t in graph.tensors())
    if graph.format == "coreml" and kinds["float32"] > kinds["float16"]:
        yield Finding(
            "float32-program", Severity.INFO, "the whole program",
            "computes in float32, and the Neural Engine has float16 only: it runs on CPU and GPU",
            "export float16 for the Neural Engine; keep float32 as the reference",
            "https://apple.github.io/coremltools/docs-guides/source/typed-execution.html",
        )  # fmt: skip


def _int16(graph: Graph) -> Iterator[Finding]:
    found = [place for place, t in graph.tensors() if t.dtype == "int16"]
    if found and graph.format == "tflite":
        yield Finding(
            "int16-activations", Severity.WARNING, ", ".join(found[:MANY]),
            "16-bit activations: LiteRT's GPU delegate takes none, XNNPACK few, and some operators "
            "have no such kernel at all",
            "use int8, or float16 where int8 loses too much",
            "https://github.com/google-ai-edge/LiteRT/issues/4383",
        )  # fmt: skip


_GPU = {
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "EXP",
    "FULLY_CONNECTED", "LOGISTIC", "MAX_POOL_2D", "MAXIMUM", "MINIMUM", "MUL", "PAD", "PRELU",
    "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "SOFTMAX", "STRIDED_SLICE", "SUB",
    "TRANSPOSE_CONV", "QUANTIZE", "DEQUANTIZE", "MEAN", "HARD_SWISH", "TANH", "SUM", "TRANSPOSE",
    "RESIZE_NEAREST_NEIGHBOR", "LEAKY_RELU", "SPLIT", "SLICE", "DIV", "SQRT", "RSQRT",
}  # fmt: skip


def _gpu(graph: Graph) -> Iterator[Finding]:
    if graph.format != "tflite":
        return
    found = [
        o for o in graph.operators
        if o.type not in _GPU and o.kind not in ("custom", *_SELECTION)
    ]  # fmt: skip
    if found:
        yield Finding(
            "gpu-delegate", Severity.WARNING, _places(found),
            "operators that LiteRT's GPU delegate does not list: the graph is cut there, and both "
            "sides wait for each other",
            "replace them, or run on XNNPACK",
            "https://www.tensorflow.org/lite/performance/gpu",
        )  # fmt: skip


def _bias(graph: Graph) -> Iterator[Finding]:
    found = []
    for operator in graph.operators:
        bias = operator.options.get("bias") if graph.format == "tflite" else None
        if bias is None or bias.dtype != "int32" or bias.data is None:
            continue
        numbers = np.frombuffer(bias.data, np.int32).astype(np.int64)
        cut = np.flatnonzero(np.abs(numbers) >= (1 << 31) - 1)
        if cut.size:
            found.append(f"{operator} channel {', '.join(map(str, cut[:4].tolist()))}")
    if found:
        yield Finding(
            "bias-overflow", Severity.WARNING, "; ".join(found[:MANY]),
            "a bias cut off at the end of int32: its channel's weights are so small that the "
            "bias does not fit their scale, and the channel computes something else",
            "raise the scale of such channels before quantising (their weights then round to 0), "
            "or prune them",
            "https://ai.google.dev/edge/litert/models/quantization_spec",
        )  # fmt: skip


_RULES: tuple[Callable[[Graph], Iterator[Finding]], ...] = (
    _custom, _dynamic, _rank, _batch, _selection, _sampling, _exponentials, _hard_swish, _squeeze,
    _layout, _islands, _channels, _wide_types, _gpu, _bias, _last_axis, _float32_program, _int16,
)  # fmt: skip


# --- Ranges -----------------------------------------------------------------------------------


def _traces(graph: Graph, photos: Mapping[str, Photo]) -> list[Trace]:
    (source,) = graph.inputs
    size = _size_wh(source)
    run = trace_tflite if graph.format == "tflite" else trace_coreml
    config = PreprocessConfig(size)
    return [run(graph.path, preprocess(photo, config)[0]) for photo in photos.values()]


def _size_wh(source: GraphTensor) -> tuple[int, int]:
    sizes = [s for i, s in enumerate(source.shape) if i not in (0, source.channel_axis % 4)]
    if len(source.shape) != 4 or None in sizes:
        raise BundleError(source.name, f"expected one image of a fixed size, got {source.shape}")
    return int(sizes[1] or 0), int(sizes[0] or 0)


def _ranges(graph: Graph, traces: list[Trace]) -> Iterator[Finding]:
    """Activations, and the sums of means over whole maps, against the range of float16."""
    peaks: dict[str, tuple[float, str]] = {}
    sums: dict[str, tuple[float, str]] = {}
    for trace in traces:
        for op in trace.operators:
            values = trace.values[op.output]
            peak = float(np.abs(values).max()) if np.isfinite(values).all() else float("inf")
            peaks[op.output] = max(peaks.get(op.output, (0.0, "")), (peak, str(op)))
            if op.kind in ("mean", "sum", "avg_pool") and op.inputs:
                before = trace.values[op.inputs[0]]
                total = float(np.abs(before.sum((0, 1))).max()) if before.ndim == 3 else 0.0
                if np.prod(values.shape[:-1]) == 1:
                    sums[op.output] = max(sums.get(op.output, (0.0, "")), (total, str(op)))
    yield from _range_finding(
        "float16-range", peaks, "activations", "scale the weights before it down and those behind "
        "it up, or keep this part in float32", len(traces),
    )  # fmt: skip
    yield from _range_finding(
        "float16-sum", sums, "sums of a mean over the map", "pool in steps, or leave "
        "squeeze-and-excite out", len(traces),
    )  # fmt: skip


def _range_finding(
    rule: str, peaks: Mapping[str, tuple[float, str]], what: str, advice: str, photos: int
) -> Iterator[Finding]:
    for limit, severity in ((FLOAT16_MAX, Severity.ERROR), (FLOAT16_MAX / 4, Severity.WARNING)):
        upper = np.inf if severity is Severity.ERROR else FLOAT16_MAX
        found = sorted((p for p in peaks.values() if limit < p[0] <= upper), reverse=True)
        if found:
            where = ", ".join(f"{place} ({peak:.3g})" for peak, place in found[:MANY])
            text = "beyond" if severity is Severity.ERROR else "within a factor of 4 of"
            yield Finding(
                rule, severity, where, f"{what} {text} float16's largest number, 65504", advice,
                f"measured on {photos} photos",
            )  # fmt: skip
