"""What is known to hurt on the Neural Engine, in LiteRT's delegates or in float16.

Each rule (``lint_rules``) states a fact with its source. A finding is advice about a place, not
proof of a fault: what an artifact computes is for `panokit verify` to say, how fast it is for a
phone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panokit.errors import BundleError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit_converters.lint_graph import LINTABLE, Graph, GraphOperator, GraphTensor, read_graph
from panokit_converters.lint_rules import Finding, Severity, found_at
from panokit_converters.trace import Trace, trace_coreml, trace_tflite

__all__ = ["LINTABLE", "Finding", "LintReport", "Severity", "lint_graph", "lint_path"]

FLOAT16_MAX = 65504.0
MAX_PHOTOS = 4  # whose activations are looked at
MANY = 6  # places that are named one by one


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
        yield found_at("custom-operator", _places(found))


def _dynamic(graph: Graph) -> Iterator[Finding]:
    found = [place for place, tensor in graph.tensors() if None in tensor.shape]
    if found:
        yield found_at("dynamic-shape", ", ".join(found[:MANY]))


def _rank(graph: Graph) -> Iterator[Finding]:
    found = [place for place, tensor in graph.tensors() if len(tensor.shape) > 4]
    if found:
        yield found_at("rank-5", ", ".join(found[:MANY]))


def _batch(graph: Graph) -> Iterator[Finding]:
    found = [t.name for t in graph.inputs if t.shape and t.shape[0] not in (1, None)]
    if found:
        yield found_at("batch", f"input {', '.join(found)}")


_SELECTION = ("argmax", "argmin", "topk", "non_max_suppression", "non_zero", "where", "unique",
              "sort", "argsort", "gather_nd", "gather_along_axis", "scatter", "scatter_nd",
              "scatter_along_axis")  # fmt: skip


def _selection(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, *_SELECTION)
    if found:
        yield found_at("selection-in-graph", _places(found))


def _sampling(graph: Graph) -> Iterator[Finding]:
    resizes = [o for o in graph.operators if "sampling" in o.options]
    odd = [o for o in resizes if o.options["sampling"] != "half_pixel"]
    if odd:
        kinds = ", ".join(sorted({str(o.options["sampling"]) for o in odd}))
        yield found_at("resize-corners", _places(odd), kinds=kinds)
    half = [o for o in resizes if o not in odd]
    if half and graph.format == "tflite":
        yield found_at("resize-nnapi", _places(half))


def _exponentials(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, "softplus", "mish", "softplus_parametric")
    if found:
        yield found_at("softplus", _places(found))
    found = _of(graph, "exp", "logsumexp", "log_softmax", "logsoftmax", "cumsum", "pow")
    if found:
        yield found_at("exponential", _places(found))


def _hard_swish(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, "hard_swish", "hard_sigmoid", "hardsigmoid", "sigmoid_hard")
    if found:
        yield found_at("hard-swish", _places(found))


def _is_global(operator: GraphOperator) -> bool:
    """Whether a pool or mean takes in a whole map of more than one pixel."""
    if operator.kind not in ("mean", "sum", "avg_pool") or not operator.inputs:
        return False
    pixels, result = operator.inputs[0].pixels, operator.outputs[0]
    return (pixels or 0) > 1 and (result.pixels == 1 or len(result.shape) < 4)


def _squeeze(graph: Graph) -> Iterator[Finding]:
    found = [o for o in graph.operators if _is_global(o)]
    if found:
        yield found_at("squeeze-excite", _places(found))


def _layout(graph: Graph) -> Iterator[Finding]:
    found = _of(graph, "transpose")
    if found:
        yield found_at("transpose", _places(found))
    found = _of(graph, "pad")
    if found and graph.format == "tflite":
        yield found_at("pad", _places(found))


def _islands(graph: Graph) -> Iterator[Finding]:
    """Where integers become floats or floats integers. (A QUANTIZE from integers to integers is a
    change of scale, before a concatenation say.)"""
    border = {t.name for t in (*graph.inputs, *graph.outputs)}
    found = [
        o for o in _of(graph, "quantize", "dequantize")
        if o.inputs and not border & {t.name for t in (*o.inputs, *o.outputs)}
        and any(t.dtype.startswith("float") for t in (o.inputs[0], *o.outputs))
    ]  # fmt: skip
    if found:
        yield found_at("float-island", _places(found))


def _channels(graph: Graph) -> Iterator[Finding]:
    ends = {t.name for t in graph.outputs}
    found = [
        o for o in _of(graph, "conv", "depthwise")
        for t in o.outputs if t.channels and t.channels % 4 and t.name not in ends
    ]  # fmt: skip
    if found:
        yield found_at("odd-channels", _places(found))


def _wide_types(graph: Graph) -> Iterator[Finding]:
    found = [
        place for place, t in graph.tensors() if t.dtype in ("float64", "int64", "uint64")
    ]  # fmt: skip
    if found:
        yield found_at("wide-type", ", ".join(found[:MANY]))


def _last_axis(graph: Graph) -> Iterator[Finding]:
    if graph.format != "coreml":
        return
    found = [
        place for place, t in graph.tensors()
        if len(t.shape) > 2 and t.shape[-1] == 1 and np.prod([s or 1 for s in t.shape]) >= 512
    ]  # fmt: skip
    if found:
        yield found_at("last-axis-one", ", ".join(found[:MANY]))


def _float32_program(graph: Graph) -> Iterator[Finding]:
    kinds = Counter(t.dtype for _, t in graph.tensors())
    if graph.format == "coreml" and kinds["float32"] > kinds["float16"]:
        yield found_at("float32-program", "the whole program")


def _int16(graph: Graph) -> Iterator[Finding]:
    found = [place for place, t in graph.tensors() if t.dtype == "int16"]
    if found and graph.format == "tflite":
        yield found_at("int16-activations", ", ".join(found[:MANY]))


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
        yield found_at("gpu-delegate", _places(found))


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
        yield found_at("bias-overflow", "; ".join(found[:MANY]))


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
    yield from _range_findings("float16-range", peaks, len(traces))
    yield from _range_findings("float16-sum", sums, len(traces))


def _range_findings(
    rule: str, peaks: Mapping[str, tuple[float, str]], photos: int
) -> Iterator[Finding]:
    for limit, severity in ((FLOAT16_MAX, Severity.ERROR), (FLOAT16_MAX / 4, Severity.WARNING)):
        upper = np.inf if severity is Severity.ERROR else FLOAT16_MAX
        found = sorted((p for p in peaks.values() if limit < p[0] <= upper), reverse=True)
        if found:
            place = ", ".join(f"{where} ({peak:.3g})" for peak, where in found[:MANY])
            text = "beyond" if severity is Severity.ERROR else "within a factor of 4 of"
            yield found_at(rule, place, severity=severity, where=text, photos=photos)
