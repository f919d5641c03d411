"""The rules of the lint: what each is about, what to do, and who says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

__all__ = ["RULES", "Finding", "Rule", "Severity", "found_at"]


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
class Rule:
    """What can be found: ``message``, ``advice`` and ``source`` as in a :class:`Finding`. Names in
    braces in the message stand for what is found."""

    name: str
    severity: Severity
    message: str
    advice: str
    source: str


_RULES = (
    Rule(
        "custom-operator", Severity.ERROR,
        "operators that the plain runtime does not have (Flex or custom)",
        "express them with built-in operators, or move them behind the heads",
        "https://ai.google.dev/edge/litert/models/ops_custom",
    ),
    Rule(
        "dynamic-shape", Severity.ERROR,
        "sizes that are known only when it runs: LiteRT's GPU delegate refuses them, Core ML "
        "then stays on the CPU",
        "export with a fixed input size; one artifact per size",
        "https://github.com/apple/coremltools/issues/1764",
    ),
    Rule(
        "rank-5", Severity.WARNING,
        "tensors of five or more axes, which LiteRT's GPU delegate and the Neural Engine do not"
        " take: the graph is cut there",
        "fold axes together: an image has batch, rows, columns and channels",
        "https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md",
    ),
    Rule(
        "batch", Severity.WARNING,
        "more than one image at a time; on the Neural Engine this has given overflow where one "
        "image did not",
        "export with a batch of one",
        "https://github.com/apple/coremltools/issues/1229",
    ),
    Rule(
        "selection-in-graph", Severity.WARNING,
        "choices inside the graph: ties and order differ between devices, top-k leaves the "
        "Neural Engine, and the GPU delegate has none of them",
        "end the graph at the raw heads and decode them in the app",
        "https://github.com/roboflow/rf-detr/pull/1495",
    ),
    Rule(
        "resize-corners", Severity.WARNING,
        "resizes that do not sample with half-pixel centres ({kinds}): delegates have ignored "
        "the flag, and the result lies shifted by up to half a cell",
        "resize with align_corners=False (half-pixel centres)",
        "https://github.com/intel/webml-polyfill/issues/468",
    ),
    Rule(
        "resize-nnapi", Severity.INFO,
        "half-pixel centres, which NNAPI has from Android 11 on only: before, these operators "
        "run on the CPU",
        "use the GPU delegate or XNNPACK rather than NNAPI (which Android 15 deprecates)",
        "https://github.com/tensorflow/tensorflow/issues/45207",
    ),
    Rule(
        "softplus", Severity.ERROR,
        "on the Neural Engine softplus falls from 10.4 to 0 where its operand exceeds 10.4, as "
        "exp overflows float16",
        "use ReLU6, or max(x, 0) + log(1 + exp(-|x|))",
        "https://github.com/apple/coremltools/issues/2687",
    ),
    Rule(
        "exponential", Severity.WARNING,
        "overflows float16 early: exp from 11.09 on, sums of exponentials before",
        "subtract the maximum first, or leave it to the app",
        "https://developer.apple.com/forums/thread/831370",
    ),
    Rule(
        "hard-swish", Severity.WARNING,
        "hard-swish and hard-sigmoid beside depthwise convolutions: three to four times the "
        "error on the Neural Engine than on the CPU, and wide ranges for int8",
        "train with ReLU6 instead",
        "https://github.com/apple/coremltools/issues/2625",
    ),
    Rule(
        "squeeze-excite", Severity.WARNING,
        "a mean over the whole map, as in squeeze-and-excite: LiteRT's GPU delegate adds up in "
        "float16, and a sum beyond 65504 becomes infinite",
        "leave squeeze-and-excite out, pool in steps, or forbid float16 on the GPU; the range "
        "check says how near the sums are",
        "https://github.com/google-ai-edge/LiteRT/issues/9249",
    ),
    Rule(
        "transpose", Severity.WARNING,
        "transpositions, most often left over from a change of layout: each moves a whole map "
        "through memory, and few delegates run it",
        "pad by the convolution (asymmetric 'same'), convert channels last",
        "measured at conversion: a padding in channels-first order leaves two of them",
    ),
    Rule(
        "pad", Severity.INFO,
        "paddings of their own: one more pass over the map each",
        "use 'same' padding (odd pixel behind), which belongs to the convolution",
        "measured at conversion: symmetric padding at stride 2 leaves a PAD, 'same' none",
    ),
    Rule(
        "float-island", Severity.WARNING,
        "quantised and float operators take turns: each change is a pass over the map, and an "
        "integer-only accelerator stops there",
        "quantise the operators between as well, or keep the whole part in float",
        "https://ai.google.dev/edge/litert/models/quantization_spec",
    ),
    Rule(
        "odd-channels", Severity.INFO,
        "channel counts that are no multiple of 4: GPU delegates keep channels in fours and "
        "compute the missing ones for nothing",
        "round channel counts to 8 (prune to multiples of 8)",
        "https://www.tensorflow.org/lite/performance/gpu",
    ),
    Rule(
        "wide-type", Severity.WARNING,
        "64-bit numbers, which no mobile accelerator computes with",
        "cast to float32 or int32 before export",
        "https://www.tensorflow.org/lite/performance/gpu",
    ),
    Rule(
        "last-axis-one", Severity.WARNING,
        "a last axis of 1: the Neural Engine pads it to 64 bytes, so that such a tensor takes "
        "32 times its memory in float16",
        "keep rows and columns last ([1, channels, rows, columns]); squeeze in the app",
        "https://machinelearning.apple.com/research/neural-engine-transformers",
    ),
    Rule(
        "float32-program", Severity.INFO,
        "computes in float32, and the Neural Engine has float16 only: it runs on CPU and GPU",
        "export float16 for the Neural Engine; keep float32 as the reference",
        "https://apple.github.io/coremltools/docs-guides/source/typed-execution.html",
    ),
    Rule(
        "int16-activations", Severity.WARNING,
        "16-bit activations: LiteRT's GPU delegate takes none, XNNPACK few, and some operators "
        "have no such kernel at all",
        "use int8, or float16 where int8 loses too much",
        "https://github.com/google-ai-edge/LiteRT/issues/4383",
    ),
    Rule(
        "gpu-delegate", Severity.WARNING,
        "operators that LiteRT's GPU delegate does not list: the graph is cut there, and both "
        "sides wait for each other",
        "replace them, or run on XNNPACK",
        "https://www.tensorflow.org/lite/performance/gpu",
    ),
    Rule(
        "bias-overflow", Severity.WARNING,
        "a bias cut off at the end of int32: its channel's weights are so small that the bias "
        "does not fit their scale, and the channel computes something else",
        "raise the scale of such channels before quantising (their weights then round to 0), or"
        " prune them",
        "https://ai.google.dev/edge/litert/models/quantization_spec",
    ),
    Rule(
        "float16-range", Severity.ERROR,
        "activations {where} float16's largest number, 65504",
        "scale the weights before it down and those behind it up, or keep this part in float32",
        "measured on {photos} photos",
    ),
    Rule(
        "float16-sum", Severity.ERROR,
        "sums of a mean over the map {where} float16's largest number, 65504",
        "pool in steps, or leave squeeze-and-excite out",
        "measured on {photos} photos",
    ),
)  # fmt: skip
RULES: dict[str, Rule] = {rule.name: rule for rule in _RULES}
"""Every rule by name."""


def found_at(
    name: str, place: str, *, severity: Severity | None = None, **facts: object
) -> Finding:
    """A rule's finding at a place; ``severity`` where it is another than the rule's."""
    rule = RULES[name]
    message, source = (text.format(**facts) for text in (rule.message, rule.source))
    return Finding(name, severity or rule.severity, place, message, rule.advice, source)
