"""The native core beside the NumPy reference and the JavaScript port on the shipped bundle's heads.

All decode the same int8 heads of the sample photos on one thread, dequantising included, and take
turns in one run; the time is that of the processor, so that a busy machine spoils it less. Ratios
stand for other machines, milliseconds do not.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.native_core import (
    CORE,
    FLAGS,
    ROOT,
    Core,
    Picture,
    Session,
    build_library,
    compiler,
    sources,
)
from panokit.decoding import postprocess
from panokit.dump import dump_stages, write_dump
from panokit.preprocessing import preprocess
from panokit.runtime import heads_from_raw
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter, Stages

JS = ROOT / "demo_app" / "panokit_demo" / "static" / "js"
NODE = """
import { readFileSync } from "node:fs";
import { makeHeads, postprocess } from "%(js)s/postprocessing.js";
import { readSafetensors } from "%(js)s/safetensors.js";
const [path, spec] = process.argv.slice(2);
const { taxonomy, config, quantization } = JSON.parse(readFileSync(spec, "utf-8"));
const { tensors, metadata } = readSafetensors(readFileSync(path));
const transform = JSON.parse(metadata.transform);
const times = [];
for (let i = 0; i < 25; i++) {
  const start = process.cpuUsage();
  postprocess(makeHeads(tensors, quantization), taxonomy, transform, config);
  const { user, system } = process.cpuUsage(start);
  if (i >= 5) times.push((user + system) / 1000);
}
console.log(times.sort((a, b) => a - b)[times.length >> 1]);
"""


def in_turns(calls: list[Callable[[], Any]], rounds: int = 25) -> list[float]:
    """Median milliseconds of processor time of each call."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, kept in zip(calls, times, strict=True):
            call()
            for _ in range(3):
                started = time.thread_time()
                call()
                kept.append(time.thread_time() - started)
    return [1e3 * statistics.median(t) for t in times]


def javascript(segmenter: Segmenter, stages: Stages, folder: Path) -> float | None:
    """Milliseconds of the JavaScript port in Node.js; None without it."""
    node = shutil.which("node")
    if node is None:
        return None
    manifest, artifact = segmenter.bundle.manifest, segmenter.artifact
    file = write_dump(dump_stages(stages, artifact, "litert"), folder / "heads.safetensors")
    outputs = artifact.outputs.items()
    spec = {
        "taxonomy": [{"id": c.id, "isthing": int(c.is_thing)} for c in manifest.taxonomy],
        "config": manifest.center_offset.to_json(),
        "quantization": {n: {"scale": s.scale, "zero_point": s.zero_point} for n, s in outputs},
    }
    described, script = folder / "spec.json", folder / "time.mjs"
    described.write_text(json.dumps(spec))
    script.write_text(NODE % {"js": JS.as_uri()})
    done = subprocess.run([node, script, file, described], capture_output=True, check=True)
    return float(done.stdout)


# Memory that never grows: Node.js 20 may crash when it does while a file is read.
MEMORY = ("-Wl,-z,stack-size=1048576", "-Wl,--initial-memory=134217728")
WASM = ("clang", "--target=wasm32-wasi", "-O3", "-msimd128", *MEMORY)


def webassembly(segmenter: Segmenter, stages: Stages, folder: Path) -> float | None:
    """Milliseconds of the core as WebAssembly with SIMD in Node.js; None where that cannot be."""
    node, clang = shutil.which("node"), shutil.which("clang")
    if node is None or clang is None or not Path("/usr/lib/wasm32-wasi/libc.a").is_file():
        return None
    program, manifest = folder / "repeat.wasm", folder / "manifest.json"
    files = [*sources(), str(CORE / "tests" / "repeat.c")]
    subprocess.run([*WASM, *FLAGS, *files, "-o", str(program)], check=True)
    shutil.copy(segmenter.bundle.root / "manifest.json", manifest)
    for name, values in stages.raw.items():
        values.tofile(folder / f"{name}.bin")
    wasi = ROOT / "native" / "wasm" / "run_wasi.mjs"
    command = [node, "--no-warnings", *map(str, (wasi, program, manifest, folder))]
    size = [str(side) for side in stages.photo.size_wh]
    few, many = 20, 220
    took = []
    for times in (few, many):  # what starting takes falls out of the difference
        before = _children_seconds()
        subprocess.run([*command, *size, str(times)], check=True)
        took.append(_children_seconds() - before)
    return 1e3 * (took[1] - took[0]) / (many - few)


def _children_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


def decoding(core: Core, segmenter: Segmenter, folder: Path) -> None:
    """Heads to map, scores and boxes."""
    manifest = (segmenter.bundle.root / "manifest.json").read_bytes()
    session = core.open(manifest).session()
    settings = segmenter.bundle.manifest.center_offset
    print("decoding | core ms | NumPy ms | times | JavaScript ms | times | WebAssembly ms")
    ratios = []
    for name, path in sample_photos().items():
        stages = segmenter.stages(path)
        session.set_photo(stages.photo.size_wh)

        def ours(raw: Any = stages.raw) -> None:
            session.decode(raw)

        def reference(stages: Stages = stages) -> None:
            heads = heads_from_raw(stages.raw, segmenter.artifact)
            postprocess(heads, segmenter.taxonomy, stages.transform, settings)

        fast, slow = in_turns([ours, reference])
        ratios.append(slow / fast)
        script = javascript(segmenter, stages, folder)
        shown = "- | -" if script is None else f"{script:.1f} | {script / fast:.0f}"
        module = webassembly(segmenter, stages, folder)
        shown += " | -" if module is None else f" | {module:.1f}"
        print(f"{name} | {fast:.2f} | {slow:.2f} | {slow / fast:.1f} | {shown}")
    print(f"geometric mean against NumPy: {statistics.geometric_mean(ratios):.1f} times")


def preprocessing(core: Core, segmenter: Segmenter) -> None:
    """A photo of 12 megapixels to the input."""
    from panokit.photo import Photo

    manifest = (segmenter.bundle.root / "manifest.json").read_bytes()
    session = core.open(manifest).session()
    rng = np.random.default_rng(0)
    photo = Photo.from_array(rng.integers(0, 256, (3000, 4000, 3), dtype=np.uint8))
    picture = Picture.rgb(photo.rgb_hwc)
    calls: list[Callable[[], Any]] = [
        lambda: session.preprocess(picture, (320, 320)),
        lambda: preprocess(photo),
    ]
    fast, slow = in_turns(calls, 2)
    print(f"preprocessing 12 MP | core {fast:.0f} ms | Pillow {slow:.0f} ms | {slow / fast:.1f}")


def memory(core: Core, segmenter: Segmenter, library: Path) -> None:
    """What a whole segment call holds: all of it is taken when the session opens."""
    model = core.open((segmenter.bundle.root / "manifest.json").read_bytes())
    sizes: list[Session] = [model.session(), model.session(matte=True)]
    plain, matte = (s.bytes / 1e6 for s in sizes)
    print(f"memory of a session | {plain:.1f} MB | with the matte {matte:.1f} MB")
    print(f"stripped library | {os.path.getsize(library) / 1000:.0f} kB")


def main() -> None:
    """Print the tables."""
    if compiler() is None:
        print("native: there is no C compiler")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build_library(folder)
        core, segmenter = Core(library), Segmenter.open(threads=1)
        decoding(core, segmenter, folder)
        preprocessing(core, segmenter)
        memory(core, segmenter, library)


if __name__ == "__main__":
    main()
