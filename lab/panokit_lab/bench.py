"""Latency of TFLite files side by side.

The files take turns, one inference each per round, so that a machine that slows down slows all of
them; the median over the rounds counts, and ratios to the first file count more than
milliseconds. Preprocessing and postprocessing are not in it.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from panokit.bundle import Bundle
from panokit.errors import ArgumentError, BundleError
from panokit_lab.results import Latency

__all__ = ["Machine", "bench", "bench_paths", "machine"]

WARM_UP = 3


@dataclass(frozen=True)
class Machine:
    """What figures were measured with: the ``runtime`` and the ``system``."""

    runtime: str
    system: str

    def __str__(self) -> str:
        return f"{self.runtime}, {self.system}"

    def to_json(self) -> dict[str, str]:
        """A JSON-ready dict."""
        return {"runtime": self.runtime, "machine": self.system}


def bench(
    files: Mapping[str, Path],
    threads: Sequence[int] = (1, 2),
    seconds: float = 10.0,
    max_runs: int = 200,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Latency]:
    """Time one inference of each TFLite file in ``files`` (by name), in turns.

    About ``seconds`` per number of threads for all files together, at least 5 rounds. Inputs are
    random pixels.
    """
    if not files:
        raise ArgumentError(
            "artifacts", "there are no artifacts; expected at least one TFLite file"
        )
    if not threads or min(threads) < 1 or not seconds > 0 or max_runs < 1:
        raise ArgumentError(
            "threads",
            f"threads, seconds and runs are {(threads, seconds, max_runs)}; "
            "expected positive numbers",
        )
    results: list[Latency] = []
    for count in threads:
        progress(f"{count} thread{'s' if count > 1 else ''}, {len(files)} files in turns")
        runners = {name: _Runner(path, count) for name, path in files.items()}
        times: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(WARM_UP):
            for runner in runners.values():
                runner.run()
        until = time.perf_counter() + seconds
        for number in range(max_runs):
            if number >= 5 and time.perf_counter() > until:
                break
            for name, runner in runners.items():
                times[name].append(runner.run())
        first = statistics.median(next(iter(times.values())))
        for name, values in times.items():
            middle = statistics.median(values)
            low, high = np.percentile(values, (25, 75))
            results.append(
                Latency(
                    name=name,
                    threads=count,
                    median_ms=1e3 * middle,
                    quartiles_ms=(1e3 * float(low), 1e3 * float(high)),
                    runs=len(values),
                    megapixels=runners[name].pixels / 1e6,
                    ratio=middle / first,
                )
            )
    return results


def bench_paths(paths: Sequence[Path]) -> dict[str, Path]:
    """TFLite files by name: files themselves, and all TFLite artifacts of bundles."""
    files: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            bundle = Bundle.open(path)
            found = {
                f"{path.stem}:{a.name}": bundle.path(a)
                for a in bundle.manifest.artifacts
                if a.format == "tflite"
            }
            if not found:
                raise BundleError(path, "holds no TFLite artifact, and only those run here")
        else:
            found = {path.stem: path}
        for name, file in found.items():
            files[name if name not in files else str(file)] = file
    return files


def machine() -> Machine:
    """What the figures are measured with here."""
    return Machine(
        runtime=f"LiteRT {version('ai-edge-litert')} (XNNPACK)",
        system=f"{platform.system()} {platform.machine()}",
    )


class _Runner:
    """A loaded file with random pixels as its input."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        if not path.is_file():
            raise BundleError(path, "no such file")
        try:
            self._interpreter: Any = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(path, f"LiteRT cannot load it: {error}") from None
        details = self._interpreter.get_input_details()
        if len(details) != 1 or len(details[0]["shape"]) != 4:
            raise BundleError(path, "expected one image input [N,H,W,C]")
        shape, dtype = [int(v) for v in details[0]["shape"]], np.dtype(details[0]["dtype"])
        self.pixels = float(np.prod(shape)) / min(shape[1], shape[3])
        pixels = np.random.default_rng(0).integers(0, 256, shape)
        if dtype == np.int8:
            pixels = pixels - 128
        elif dtype == np.int16:
            pixels = pixels * 128
        self._interpreter.set_tensor(details[0]["index"], pixels.astype(dtype))

    def run(self) -> float:
        """One inference; its seconds."""
        started = time.perf_counter()
        self._interpreter.invoke()
        return time.perf_counter() - started
