"""What phones report of their speed: read, kept in the bundle and the history, shown by build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from panokit.bundle import Bundle, shipped_bundle_path
from panokit.errors import DataError, PanokitError
from panokit_validation.history import History
from panokit_validation.latency import LATENCY_FORMAT, Latency, Timing, read_latency

BENCHMARK = """\
INFO: STARTING!
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/model.tflite]
INFO: Use gpu: [{gpu}]
INFO: Loaded model /data/local/tmp/model.tflite
INFO: Initialized session in 92.318ms.
{said}INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds
INFO: count=4 first=20100 curr=13000 min=13000 max=20100 avg=14900 std=2000

INFO: Running benchmark for at least 50 iterations and at least 1 seconds
INFO: count=80 first=12600 curr=12550 min=12010 max=1.45e+04 avg=12620.5 std=300{percentiles}

INFO: Inference timings in us: Init: 92318, First inference: 20100, Warmup (avg): 14900, \
Inference (avg): 12620.5
INFO: Memory footprint delta from the start of the tool (MB): init=5.1 overall=12.3
"""
PERCENTILES = " p5=12050 median=12500 p95=13900"


def benchmark(gpu: int = 0, said: str = "", percentiles: str = PERCENTILES) -> str:
    return BENCHMARK.format(gpu=gpu, said=said, percentiles=percentiles)


def read(folder: Path, name: str, content: Any, **options: Any) -> Latency:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_latency(path, **options)


def test_benchmark_model(tmp_path: Path) -> None:
    found = read(tmp_path, "b.txt", benchmark())
    assert (found.source, found.artifact, found.compute_unit) == (
        "benchmark_model", "model.tflite", "CPU, 4 threads",
    )  # fmt: skip
    assert found.stages["load"].first == pytest.approx(92.318)
    assert found.stages["inference"] == Timing(20.1, 12.5, None, 13.9, 80)
    old = read(tmp_path, "old.txt", benchmark(percentiles=""))
    assert old.stages["inference"].burst == pytest.approx(12.6205)
    assert "a mean, no median" in old.remarks[0]


def test_a_delegate_that_refused_is_the_cpu(tmp_path: Path) -> None:
    assert read(tmp_path, "g.txt", benchmark(gpu=1)).compute_unit == "GPU"
    said = "WARN: the model graph will not be executed by the delegate.\n"
    found = read(tmp_path, "c.txt", benchmark(gpu=1, said=said))
    assert found.compute_unit == "CPU"
    assert "refused the graph" in found.remarks[0]


def test_ai_hub(tmp_path: Path) -> None:
    times = [9000, *[2000] * 60, *[3000] * 200]
    found = read(tmp_path, "p.json", {
        "execution_summary": {"estimated_inference_time": 1990, "all_inference_times": times,
                              "first_load_time": 400_000, "warm_load_time": 90_000},
        "execution_detail": [{"compute_unit": "NPU"}] * 5 + [{"compute_unit": "CPU"}],
    })  # fmt: skip
    inference = found.stages["inference"]
    assert (inference.first, inference.burst, inference.sustained) == (9, 2, 3)
    assert (found.stages["load"].first, found.stages["load"].burst) == (400, 90)
    assert found.compute_unit == "NPU 5, CPU 1"
    least = read(tmp_path, "l.json", {"execution_summary": {"estimated_inference_time": 1990}})
    assert least.stages["inference"].burst == pytest.approx(1.99)
    assert "the least of all calls" in least.remarks[0]


def test_traces(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [
        {"ph": "X", "name": "panokit.inference", "ts": 50_000, "dur": 12_000},
        {"ph": "X", "name": "panokit.inference", "ts": 10_000, "dur": 30_000},
        {"ph": "B", "name": "panokit.postprocess", "ts": 62_000, "pid": 1, "tid": 2},
        {"ph": "B", "name": "other", "ts": 62_500, "pid": 1, "tid": 2},
        {"ph": "B", "name": "panokit.preprocess", "ts": 62_600, "pid": 1, "tid": 3},
        {"ph": "E", "ts": 63_000, "pid": 1, "tid": 2},
        {"ph": "E", "ts": 64_000, "pid": 1, "tid": 2},
        {"ph": "E", "ts": 65_000, "pid": 9, "tid": 9},
    ]
    for content in ({"traceEvents": events}, events):
        found = read(tmp_path, "t.json", content)
        assert found.stages["inference"].first == 30  # the earlier one
        assert found.stages["inference"].burst == 12
        assert found.stages["postprocess"].first == 2
        assert "preprocess" not in found.stages  # it never ended
    named = read(tmp_path, "t.json", {"traceEvents": events}, spans={"inference": "other"})
    assert named.stages["inference"].first == pytest.approx(0.5)


def test_atrace(tmp_path: Path) -> None:
    lines = [
        "app-42 (  42) [003] .... 100.000000: tracing_mark_write: B|42|panokit.inference",
        "app-42 (  42) [003] .... 100.001000: tracing_mark_write: B|42|inner",
        "app-43 (  42) [003] .... 100.001500: tracing_mark_write: E",
        "app-42 (  42) [003] .... 100.002000: tracing_mark_write: E|42",
        "app-42 (  42) [003] .... 100.012500: tracing_mark_write: E|42",
    ]
    found = read(tmp_path, "a.txt", "\n".join(lines))
    assert found.source == "atrace"
    assert found.stages["inference"].first == pytest.approx(12.5)


def test_an_app_s_own_report_and_xcode(tmp_path: Path) -> None:
    found = read(tmp_path, "o.json", {
        "format": LATENCY_FORMAT, "device": "Pixel 8", "os": "Android 15", "build": "7",
        "compute_unit": "GPU", "stages_ms": {"inference": [30, 10, 11, 12], "preprocess": [2]},
    })  # fmt: skip
    assert (found.device, found.build) == ("Pixel 8", "7")
    assert found.stages["inference"] == Timing(30, 11, None, 12, 4)
    assert found.stages["preprocess"] == Timing(2, 2, None, 2, 1)
    report = {"deviceName": "iPhone", "prediction": {"medianMilliseconds": 4.5},
              "load": {"median": 0.08}}  # fmt: skip
    xcode = read(tmp_path, "r.mlperf", report)
    assert xcode.stages["inference"].burst == 4.5
    assert xcode.stages["load"].burst == 80
    assert "not published" in xcode.remarks[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "expected JSON"),
        ("a.json", {"a": 1}, "of no known tool"),
        ("a.txt", "hello", "text of no known tool"),
        ("a.json", {"traceEvents": []}, "holds no times"),
        ("a.json", {"format": LATENCY_FORMAT, "stages_ms": {"render": [1]}}, "names are of"),
        ("a.json", {"format": LATENCY_FORMAT, "stages_ms": {"load": []}}, "list of 1 to"),
        ("a.json", {"format": LATENCY_FORMAT, "stages_ms": {"load": [-1]}}, "at most an hour"),
        ("a.json", {"format": LATENCY_FORMAT, "stages_ms": {"load": [True]}}, "at most an hour"),
        ("a.json", {"execution_summary": {"all_inference_times": "x"}}, "list of 1 to"),
        ("a.txt", "Inference timings in us: Init: 5", "cut off"),
    ],
)
def test_what_is_no_report_is_told(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, content)


def run(command: str, *arguments: str) -> Any:
    from panokit.cli.shell import app

    return CliRunner().invoke(app, [command, *arguments])


def test_the_history_shows_speed_beside_correctness(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed (extra history)")
    bundle = tmp_path / "camera.panokit"
    shutil.copytree(shipped_bundle_path(), bundle)
    own = {"format": LATENCY_FORMAT, "device": "Pixel 8", "artifact": "model.tflite"}
    database = tmp_path / "runs.db"
    for build, burst in (("1", 10.0), ("2", 15.0)):
        report = tmp_path / f"{build}.json"
        stages = {"stages_ms": {"inference": [40.0, *[burst] * 9]}}
        report.write_text(json.dumps({**own, **stages}))
        done = run("latency", str(report), "--bundle", str(bundle), "--build", build,
                   "--history", str(database), "--save")  # fmt: skip
        assert done.exit_code == 0, done.output
    assert "+50%" in done.output
    saved = Bundle.open(bundle).manifest.quality["latency"]
    assert [(e["build"], e["artifact"]) for e in saved] == [
        ("1", "tflite-int8"), ("2", "tflite-int8"),
    ]  # fmt: skip
    with History(str(database)) as history:
        rows = history.latencies("camera")
    assert [(r.build, r.burst, r.change) for r in rows] == [("1", 10, None), ("2", 15, 0.5)]
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    made = run("simulate", str(tmp_path / "photo.png"), "--bundle", str(bundle),
               "--out", str(tmp_path / "dumps"))  # fmt: skip
    assert made.exit_code == 0, made.output
    page = tmp_path / "r.json"
    done = run("validate", str(tmp_path / "dumps"), "--bundle", str(bundle),
               "--history", str(database), "--json", str(page))  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "speed by device and build" in done.output
    assert [r["build"] for r in json.loads(page.read_text())["speed"]] == ["1", "2"]


def test_wrong_use(tmp_path: Path) -> None:
    report = tmp_path / "b.txt"
    report.write_text(benchmark())
    for span, word in (("inference", "STAGE=NAME"), ("infer=x", "did you mean")):
        done = run("latency", str(report), "--span", span)
        assert isinstance(done.exception, PanokitError) or done.exit_code == 2
        assert word in f"{done.exception} {' '.join(done.output.split())}"
