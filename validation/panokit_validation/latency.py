"""How fast phones were: what their tools report, in one form.

A phone is slow the first time (weights are loaded, kernels compiled), then fast, then, when it is
warm, slower again. So three figures are kept apart: the ``first`` call, the ``burst`` (the median
of up to fifty calls after it) and, where the run is long enough, the ``sustained`` one (the median
of the last quarter of at least 200 calls). A mean over all of them is none of these.

Read are: the output of LiteRT's ``benchmark_model``; profiles of Qualcomm AI Hub (JSON); traces as
JSON (Perfetto, Chrome) and as text (atrace), whose spans are named ``panokit.preprocess``,
``panokit.inference``, ``panokit.postprocess``, or as told; performance reports of Xcode, as far as
they are JSON; and our own ``panokit-latency/1``, which any app can write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from panokit._reading import parse_json
from panokit.errors import DataError

__all__ = ["LATENCY_FORMAT", "STAGES", "Latency", "Timing", "described", "read_latency"]

LATENCY_FORMAT = "panokit-latency/1"
STAGES = ("load", "preprocess", "inference", "postprocess")

MAX_BYTES = 500_000_000
MAX_CALLS = 1_000_000
BURST_CALLS, SUSTAINED_CALLS = 50, 200
LONGEST_MS = 3_600_000.0


@dataclass(frozen=True)
class Timing:
    """One stage's milliseconds: the ``first`` call, the ``burst`` and the ``sustained`` median
    (None where the run does not tell), ``p95`` of all calls after the first, and how many
    ``calls``."""

    first: float | None = None
    burst: float | None = None
    sustained: float | None = None
    p95: float | None = None
    calls: int = 0

    @classmethod
    def of(cls, calls_ms: Sequence[float]) -> Timing:
        """Of calls in the order in which they were made."""
        after = list(calls_ms[1:]) or list(calls_ms)
        ordered = sorted(after)
        enough = len(calls_ms) >= SUSTAINED_CALLS
        return cls(
            first=calls_ms[0],
            burst=median(after[:BURST_CALLS]),
            sustained=median(after[-(len(after) // 4) :]) if enough else None,
            p95=ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
            calls=len(calls_ms),
        )


@dataclass(frozen=True)
class Latency:
    """What one file reports: ``source`` is the tool, ``stages`` the timings by stage of
    :data:`STAGES`; ``device``, ``os``, ``compute_unit`` and ``artifact`` as far as it tells;
    ``remarks`` are sentences on what it does not."""

    source: str
    stages: dict[str, Timing]
    device: str = ""
    os: str = ""
    compute_unit: str = ""
    artifact: str = ""
    build: str = ""
    remarks: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def read_latency(path: str | Path, spans: Mapping[str, str] | None = None) -> Latency:
    """Read a report; ``DataError`` says what it is not. ``spans`` names the spans of traces by
    stage, where they are not called ``panokit.STAGE``."""
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(path, f"expected at most {MAX_BYTES} bytes")
    content = path.read_bytes()
    wanted = {stage: f"panokit.{stage}" for stage in STAGES} | dict(spans or {})
    if content.lstrip()[:1] in (b"{", b"["):
        try:
            data = parse_json(content)
        except ValueError as error:
            raise DataError(path, f"expected JSON, but {error}") from None
        found = _from_json(path, data, wanted)
    else:
        found = _from_text(path, content.decode("utf-8", "replace"), wanted)
    if not found.stages:
        raise DataError(path, f"holds no times; {_EXPECTED}")
    return found


_EXPECTED = (
    "expected the output of benchmark_model, an AI Hub profile, a trace with spans such as "
    f"panokit.inference (name others with --span), or {LATENCY_FORMAT}"
)


def _from_json(path: Path, data: Any, spans: Mapping[str, str]) -> Latency:
    if isinstance(data, list):
        return _trace(path, data, spans)
    if not isinstance(data, dict):
        raise DataError(path, f"expected a JSON object; {_EXPECTED}")
    if data.get("format") == LATENCY_FORMAT:
        return _own(path, data)
    if isinstance(data.get("execution_summary"), dict):
        return _ai_hub(path, data)
    if isinstance(data.get("traceEvents"), list):
        return _trace(path, data["traceEvents"], spans)
    if path.suffix == ".mlperf":
        return _xcode(path, data)
    raise DataError(path, f"is JSON of no known tool; {_EXPECTED}")


def _numbers(path: Path, what: str, values: Any, scale: float) -> list[float]:
    """Milliseconds of a list of numbers."""
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_CALLS:
        raise DataError(path, f"{what}: expected a list of 1 to {MAX_CALLS} numbers")
    return [_number(path, what, value, scale) for value in values]


def _number(path: Path, what: str, value: Any, scale: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 <= value * scale <= LONGEST_MS:
        raise DataError(path, f"{what} is {value!r:.60}; expected a time of at most an hour")
    return float(value) * scale


def _text(data: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = data.get(name)
        if isinstance(value, str) and value:
            return value[:200]
    return ""


def _own(path: Path, data: Mapping[str, Any]) -> Latency:
    """``{"format": "panokit-latency/1", "stages_ms": {"inference": [12.1, …]}, "device": …}``."""
    given = data.get("stages_ms")
    if not isinstance(given, dict) or not set(given) <= set(STAGES):
        expected = f"expected stages_ms, an object whose names are of: {', '.join(STAGES)}"
        raise DataError(path, expected)
    stages = {s: Timing.of(_numbers(path, s, v, 1.0)) for s, v in given.items()}
    return Latency(
        "app", stages, _text(data, "device"), _text(data, "os"), _text(data, "compute_unit"),
        _text(data, "artifact"), _text(data, "build"),
    )  # fmt: skip


def _ai_hub(path: Path, data: Mapping[str, Any]) -> Latency:
    """A profile job's result: microseconds."""
    summary = data["execution_summary"]
    stages: dict[str, Timing] = {}
    remarks = []
    if summary.get("all_inference_times"):
        times = _numbers(path, "all_inference_times", summary["all_inference_times"], 1e-3)
        stages["inference"] = Timing.of(times)
    elif "estimated_inference_time" in summary:
        value = _number(path, "estimated_inference_time", summary["estimated_inference_time"], 1e-3)
        stages["inference"] = Timing(burst=value)
        remarks.append("estimated_inference_time is the least of all calls, not their median")
    for name in ("first_load_time", "cold_load_time"):
        if name in summary and "load" not in stages:
            first = _number(path, name, summary[name], 1e-3)
            warm = summary.get("warm_load_time")
            again = None if warm is None else _number(path, "warm_load_time", warm, 1e-3)
            stages["load"] = Timing(first=first, burst=again)
    units: dict[str, int] = {}
    detail = data.get("execution_detail")
    for layer in detail if isinstance(detail, list) else []:
        if isinstance(layer, dict) and isinstance(layer.get("compute_unit"), str):
            units[layer["compute_unit"]] = units.get(layer["compute_unit"], 0) + 1
    shown = ", ".join(f"{unit} {n}" for unit, n in sorted(units.items(), key=lambda u: -u[1]))
    return Latency("ai-hub", stages, _text(data, "device", "device_name"), _text(data, "os"),
                   shown[:200], remarks=tuple(remarks))  # fmt: skip


def _xcode(path: Path, data: Mapping[str, Any]) -> Latency:
    """A performance report: the medians that are named so, wherever they lie. Its layout is not
    published, hence the remark."""
    found: dict[str, list[float]] = {"load": [], "inference": []}
    for names, value in _leaves(data, ()):
        words = "".join(names).lower()
        stage = "load" if "load" in words else "inference" if "predict" in words else ""
        if stage and "median" in words and isinstance(value, int | float) and value >= 0:
            scale = 1.0 if "millis" in words or words.endswith("ms") else 1e3
            found[stage].append(_number(path, names[-1], value, scale))
    stages = {stage: Timing(burst=min(v)) for stage, v in found.items() if v}
    remark = "the layout of Xcode's reports is not published: compare these figures with Xcode's"
    unit = _text(data, "computeUnit", "computeUnits")
    return Latency("xcode", stages, _text(data, "deviceName", "device"),
                   _text(data, "osVersion", "os"), unit, remarks=(remark,))  # fmt: skip


def _leaves(value: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(names) > 12:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*names, str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, names)
    else:
        yield names, value


def _trace(path: Path, events: list[Any], spans: Mapping[str, str]) -> Latency:
    """Complete events (``X``, microseconds) and pairs (``B``, ``E``) of one thread."""
    calls = _Calls(spans)
    for event in events:
        if not isinstance(event, dict):
            continue
        phase, name = event.get("ph"), str(event.get("name", ""))
        thread = (event.get("pid"), event.get("tid"))
        at = event.get("ts", 0)
        if phase == "X" and isinstance(event.get("dur"), int | float):
            calls.span(name, float(at), float(event["dur"]) * 1e-3)
        elif phase == "B" and isinstance(at, int | float):
            calls.begin(thread, name, at * 1e-3)
        elif phase == "E" and isinstance(at, int | float):
            calls.end(thread, at * 1e-3)
    return Latency("trace", calls.timings(path))


class _Calls:
    """Spans of a trace, by stage; begins and ends of a thread are nested."""

    def __init__(self, spans: Mapping[str, str]) -> None:
        self._stages = {name: stage for stage, name in spans.items()}
        self._found: dict[str, list[tuple[float, float]]] = {}
        self._open: dict[Any, list[tuple[str, float]]] = {}

    def span(self, name: str, at: float, lasted_ms: float) -> None:
        if name in self._stages:
            self._found.setdefault(self._stages[name], []).append((at, lasted_ms))

    def begin(self, thread: Any, name: str, at_ms: float) -> None:
        self._open.setdefault(thread, []).append((name, at_ms))

    def end(self, thread: Any, at_ms: float) -> None:
        if self._open.get(thread):
            name, began = self._open[thread].pop()
            self.span(name, began, at_ms - began)

    def timings(self, path: Path) -> dict[str, Timing]:
        found = {}
        for stage, spans in self._found.items():
            times = [lasted for _, lasted in sorted(spans)]
            found[stage] = Timing.of(_numbers(path, stage, times, 1.0))
        return found


_ATRACE = re.compile(
    r"-(?P<tid>\d+)\s.*?\s(?P<seconds>\d+\.\d+): tracing_mark_write: "
    r"(?P<phase>[BE])(?:\|(?P<pid>\d+)(?:\|(?P<name>[^\n|]*))?)?"
)


def _from_text(path: Path, text: str, spans: Mapping[str, str]) -> Latency:
    if "Inference timings in us" in text:
        return _benchmark_model(path, text)
    calls = _Calls(spans)
    seen = False
    for match in _ATRACE.finditer(text):
        seen = True
        at = float(match["seconds"]) * 1e3
        if match["phase"] == "B":
            calls.begin(match["tid"], match["name"] or "", at)
        else:
            calls.end(match["tid"], at)
    if not seen:
        raise DataError(path, f"is text of no known tool; {_EXPECTED}")
    return Latency("atrace", calls.timings(path))


_RUN = re.compile(r"\bcount=(\d+)((?: \w+=[-+.\de]+)*)")
_SUMMARY = re.compile(
    r"Inference timings in us: Init: ([-+.\de]+), First inference: ([-+.\de]+), "
    r"Warmup \(avg\): ([-+.\de]+), Inference \(avg\): ([-+.\de]+)"
)
_UNITS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("GPU", lambda t: "Use gpu: [1]" in t or "GPU delegate created" in t),
    ("NNAPI", lambda t: "Use NNAPI: [1]" in t),
    ("Core ML", lambda t: "Use CoreML: [1]" in t),
    ("Hexagon", lambda t: "Use Hexagon: [1]" in t),
)


def _benchmark_model(path: Path, text: str) -> Latency:
    """LiteRT's own tool: microseconds; of two runs the first warms up."""
    summary = _SUMMARY.search(text)
    if summary is None:
        raise DataError(path, "its line of inference timings is cut off; run it to the end")
    init, first, _, mean = (_number(path, "a time", float(v), 1e-3) for v in summary.groups())
    runs = [(int(m[1]), dict(p.split("=") for p in m[2].split())) for m in _RUN.finditer(text)]
    calls, figures = runs[-1] if runs else (0, {})
    remarks = []

    def figure(name: str) -> float | None:
        return _number(path, name, float(figures[name]), 1e-3) if name in figures else None

    burst = figure("median")
    if burst is None:
        burst = mean
        remarks.append("this version of benchmark_model gives a mean, no median")
    unit = next((name for name, is_it in _UNITS if is_it(text)), "")
    if unit and re.search(r"will not be executed by the delegate|falling back to CPU", text, re.I):
        remarks.append(f"the delegate for {unit} refused the graph: these are times of the CPU")
        unit = "CPU"
    threads = re.search(r"(?:Num threads|#threads used for CPU inference): \[(\d+)\]", text)
    graph = re.search(r"Graph: \[([^\]]*)\]", text)
    unit = unit or (f"CPU, {threads[1]} threads" if threads else "CPU")
    name = re.split(r"[/\\]", graph[1])[-1] if graph else ""
    stages = {
        "load": Timing(first=init),
        "inference": Timing(first, burst, None, figure("p95"), calls),
    }
    return Latency("benchmark_model", stages, compute_unit=unit, artifact=name[:200],
                   remarks=tuple(remarks))  # fmt: skip


def described(
    latency: Latency,
    device: str = "",
    os: str = "",
    compute_unit: str = "",
    artifact: str = "",
    build: str = "",
) -> Latency:
    """``latency`` with what the user says of it in place of what the file says, or lacks."""
    return replace(
        latency,
        device=device or latency.device,
        os=os or latency.os,
        compute_unit=compute_unit or latency.compute_unit,
        artifact=artifact or latency.artifact,
        build=build or latency.build,
    )
