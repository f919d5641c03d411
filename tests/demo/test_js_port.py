"""The JavaScript port against the golden vectors, the shipped bundle's dumps, and NumPy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from panokit.decoding.settings import DEFAULT_CONTRACT
from panokit.dump import dump_stages, read_dump, write_dump
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit.vectors import CONTRACTS, all_cases, check_suite, read_case, write_suite
from tests.toys.chromium import find_chromium

JS = Path(__file__).parents[2] / "demo_app" / "panokit_demo" / "static" / "js"

OTHERS = [name for name in CONTRACTS if name != DEFAULT_CONTRACT]

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


def node(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["node", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def run(code: str, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a module; ``port/NAME`` in it is a module of the port."""
    script = folder / "run.mjs"
    head = 'import { readFileSync, writeFileSync } from "node:fs";\n'
    head += "const args = process.argv.slice(2);\n"
    script.write_text(head + re.sub(r'"port/(\w+)"', rf'"{JS.as_uri()}/\1.js"', code))
    return node(script, *arguments)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("js") / "suite"
    write_suite(folder)
    return folder


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of each other contract, in folders by its name."""
    folder = tmp_path_factory.mktemp("contracts")
    for contract in OTHERS:
        write_suite(folder / contract, contract)
    return folder


@pytest.mark.parametrize("contract", OTHERS)
def test_ports_of_other_contracts_pass_their_suites(
    suites: Path, tmp_path: Path, contract: str
) -> None:
    done = node(JS / "check_vectors.js", suites / contract, tmp_path)
    count = len(all_cases(contract))
    assert done.stdout.strip() == f"{count} of {count} cases agree", done.stdout + done.stderr
    assert done.returncode == 0
    assert [c for c in check_suite(suites / contract, tmp_path) if not c.good] == []
    for path in tmp_path.iterdir():  # with every intermediate
        expected = {k for k in read_case(suites / contract / path.name)[0] if k[:3] != "in."}
        assert read_case(path)[0].keys() == expected, path.name


@pytest.mark.parametrize("contract", OTHERS)
def test_the_checker_of_other_contracts_can_fail(
    suites: Path, tmp_path: Path, contract: str
) -> None:
    shutil.copytree(suites / contract, tmp_path / "suite")
    index = json.loads((tmp_path / "suite" / "suite.json").read_text())
    found, error = (
        next(e for e in index["cases"] if ("error" in e["expected"]) == is_error)
        for is_error in (False, True)
    )
    tensors = load_file(tmp_path / "suite" / found["file"])
    tensors["ids"][0, 0] += 5
    save_file(tensors, tmp_path / "suite" / found["file"])
    error["expected"]["error"]["position"] += [7]
    (tmp_path / "suite" / "suite.json").write_text(json.dumps(index))
    done = node(JS / "check_vectors.js", tmp_path / "suite")
    assert done.returncode == 1
    assert f"{found['name']}: ids: at 0 expected " in done.stdout
    assert f"{error['name']}: error: another or none" in done.stdout


def test_the_port_passes_the_suite_by_both_checkers(suite: Path, tmp_path: Path) -> None:
    done = node(JS / "check_vectors.js", suite, tmp_path)
    count = len(all_cases())
    assert done.stdout.strip() == f"{count} of {count} cases agree", done.stdout + done.stderr
    assert done.returncode == 0
    checks = check_suite(suite, tmp_path)
    assert [c for c in checks if not c.good] == []
    assert len(checks) == count


def test_the_ports_checker_can_fail(suite: Path, tmp_path: Path) -> None:
    changed = tmp_path / "suite"
    shutil.copytree(suite, changed)
    tensors = load_file(changed / "vote-tie.safetensors")
    tensors["votes"][0, 0] += 1
    save_file(tensors, changed / "vote-tie.safetensors")
    done = node(JS / "check_vectors.js", changed)
    assert done.returncode == 1
    assert "vote-tie: votes: at 0 expected 2, got 1" in done.stdout


def test_the_port_is_short_and_needs_nothing() -> None:
    source = re.sub(r"/\*\*.*?\*/", "", (JS / "postprocessing.js").read_text("utf-8"), flags=re.S)
    lines = [line.strip() for line in source.splitlines()]
    assert len([line for line in lines if line and not line.startswith("//")]) <= 256
    for name in ("postprocessing.js", "preprocessing.js", "safetensors.js"):
        source = (JS / name).read_text()
        assert not re.search(r"^import|require\(|process\.|document\.|window\.", source, re.M), name
    for name in ("kernels.js", *CONTRACT_FILES):
        source = (JS / name).read_text()
        assert not re.search(r"require\(|process\.|document\.|window\.", source), name
        imported = set(re.findall(r'from "\./([\w.]+)"', source))
        assert imported <= {"kernels.js", *CONTRACT_FILES}, name


CONTRACT_FILES = ("instances.js", "mask_queries.js", "merge.js", "semantic.js")

SEGMENT = """
import { makeHeads, postprocess } from "port/postprocessing";
import { preprocess } from "port/preprocessing";
import { readSafetensors, writeSafetensors } from "port/safetensors";
const [path, spec, out] = args;
const { taxonomy, config, quantization } = JSON.parse(readFileSync(spec, "utf-8"));
const { tensors, metadata } = readSafetensors(readFileSync(path));
const transform = JSON.parse(metadata.transform);
const { input } = preprocess(tensors.photo.data, transform.photo_wh, transform.input_wh);
const found = postprocess(makeHeads(tensors, quantization), taxonomy, transform, config);
const [w, h] = transform.input_wh;
writeFileSync(out, writeSafetensors({
  input: { dtype: "U8", shape: [h, w, 3], data: input },
  panoptic: { dtype: "I32", shape: found.shape, data: found.ids },
}, { format: "panokit-dump/1", device: "node" }));
"""


@pytest.mark.parametrize("name", ["astronaut", "chelsea"])
def test_real_photos_through_the_port_equal_the_reference(tmp_path: Path, name: str) -> None:
    segmenter = Segmenter.open(threads=1)
    manifest, artifact = segmenter.bundle.manifest, segmenter.artifact
    stages = segmenter.stages(sample_photos()[name])
    file = write_dump(dump_stages(stages, artifact, "litert"), tmp_path / "in.safetensors")
    spec = {
        "taxonomy": [{"id": c.id, "isthing": int(c.is_thing)} for c in manifest.taxonomy],
        "config": manifest.postprocessing.to_json(),
        "quantization": {
            name: {"scale": s.scale, "zero_point": s.zero_point}
            for name, s in artifact.outputs.items()
        },
    }
    described, out = tmp_path / "spec.json", tmp_path / "out.safetensors"
    described.write_text(json.dumps(spec))
    done = run(SEGMENT, tmp_path, file, described, out)
    assert done.returncode == 0, done.stderr
    found = read_dump(out)  # our own reader takes the port's file
    assert (found.tensors["input"] == stages.input_hwc).all()
    assert (found.tensors["panoptic"] == stages.panoptic.ids).all()
    assert len(np.unique(stages.panoptic.ids)) > 1
    assert found.metadata["device"] == "node"


def test_resizing_is_pillows_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for case in range(6):
        w0, h0, w, h = (int(v) for v in rng.integers(1, 90, 4))
        rgba = rng.integers(0, 256, (h0, w0, 4), dtype=np.uint8)
        (tmp_path / "in.bin").write_bytes(rgba.tobytes())
        code = (
            'import { resize } from "port/preprocessing";'
            "const [from, to, ...n] = args;"
            "const [w0, h0, w, h] = n.map(Number);"
            "writeFileSync(to, resize(readFileSync(from), [w0, h0], 4, [w, h]));"
        )
        numbers = [str(v) for v in (w0, h0, w, h)]
        done = run(code, tmp_path, tmp_path / "in.bin", tmp_path / "out.bin", *numbers)
        assert done.returncode == 0, done.stderr
        found = np.frombuffer((tmp_path / "out.bin").read_bytes(), np.uint8).reshape(h, w, 3)
        image = Image.fromarray(np.ascontiguousarray(rgba[..., :3]))
        for size in ((w, h0), (w, h)):
            if image.size != size:
                image = image.resize(size, Image.Resampling.BILINEAR)
        assert (found == np.asarray(image)).all(), case


def test_half_floats_and_all_types_go_there_and_back(tmp_path: Path) -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    tensors = {
        "halves": halves,
        "b": np.array([True, False]),
        "i64": np.array([[-(2**60)], [7]], np.int64),
        **{t: np.arange(3, dtype=t) for t in ("uint8", "int8", "int16", "int32", "float64")},
        "empty": np.zeros((0, 2), np.int32),
    }
    save_file(tensors, tmp_path / "in.safetensors", {"photo": "Grüße"})
    code = (
        'import { readSafetensors, writeSafetensors } from "port/safetensors";'
        "const [from, to] = args;"
        "const { tensors, metadata } = readSafetensors(readFileSync(from));"
        "writeFileSync(to, writeSafetensors(tensors, metadata));"
    )
    paths = str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors")
    done = run(code, tmp_path, *paths)
    assert done.returncode == 0, done.stderr
    again = load_file(tmp_path / "out.safetensors")
    assert {k: (v.dtype, v.shape) for k, v in again.items()} == {
        k: (v.dtype, v.shape) for k, v in tensors.items()
    }
    for name, values in tensors.items():
        assert values.tobytes() == again[name].tobytes(), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc", "shorter than its header length"),
        (b"\xff" * 16, "header is longer than the file"),
        (b'\x4e' + b"\0" * 7 + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(78),
         "does not fit the file"),
        (b'\x4e' + b"\0" * 7 + b'{"a":{"dtype":"Q4","shape":[9],"data_offsets":[0,36]}}'.ljust(78),
         "unknown type Q4"),
    ],
    ids=["short", "header", "tensor", "type"],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    code = (
        'import { readSafetensors } from "port/safetensors";readSafetensors(readFileSync(args[0]));'
    )
    done = run(code, tmp_path, path)
    assert done.returncode == 1
    assert message in done.stderr


PAGE = """<!doctype html><meta charset="utf-8"><pre id="out">running</pre><script type="module">
import { makeHeads, postprocess } from "/js/postprocessing.js";
import { preprocess } from "/js/preprocessing.js";
import { readSafetensors } from "/js/safetensors.js";
const { cases } = await (await fetch("/suite/suite.json")).json();
const wrong = [];
for (const entry of cases.filter((c) => !c.expected.error)) {
  const file = await (await fetch(`/suite/${entry.file}`)).arrayBuffer();
  const { tensors } = readSafetensors(file);
  let found, truth;
  if (entry.kind === "preprocess") {
    const [h, w] = tensors["in.photo"].shape;
    found = preprocess(tensors["in.photo"].data, [w, h], entry.size_wh).input;
    truth = tensors.input.data;
  } else {
    const raw = Object.fromEntries(
      ["semantic", "center", "offset"].map((name) => [name, tensors[`in.${name}`]])
    );
    const heads = makeHeads(raw, entry.quantization);
    found = postprocess(heads, entry.taxonomy, entry.transform, entry.postprocessing).ids;
    truth = tensors.ids.data;
  }
  if (found.length !== truth.length || found.some((v, i) => v !== truth[i])) wrong.push(entry.name);
}
document.getElementById("out").textContent = `done: ${wrong.length} wrong ${wrong}`;
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def run_in_chromium(page: str, folder: Path) -> str:
    """What ``page`` writes, served from a site with the port and ``folder`` as its suite."""
    browser = find_chromium()
    tmp_path = folder.parent / f"{folder.name}-browser"
    site = tmp_path / "site"
    site.mkdir(parents=True)
    shutil.copytree(JS, site / "js")
    shutil.copytree(folder, site / "suite")
    (site / "index.html").write_text(page, encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=60000", "--dump-dom",
            f"http://127.0.0.1:{server.server_port}/index.html",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        server.shutdown()
        server.server_close()
    return done.stdout + done.stderr[-500:]


def test_the_same_files_run_in_a_browser(suite: Path) -> None:
    shown = run_in_chromium(PAGE, suite)
    assert "done: 0 wrong" in shown, shown[-1000:]


CONTRACT_PAGE = """<!doctype html><meta charset="utf-8"><pre id="out">running</pre>
<script type="module">
import { DECODINGS } from "/js/decodings.js";
import { readSafetensors } from "/js/safetensors.js";
const wrong = [];
let count = 0;
for (const contract of Object.keys(DECODINGS)) {
  const { cases } = await (await fetch(`/suite/${contract}/suite.json`)).json();
  for (const entry of cases.filter((c) => !c.expected.error)) {
    const file = await (await fetch(`/suite/${contract}/${entry.file}`)).arrayBuffer();
    const { tensors } = readSafetensors(file);
    const raw = Object.fromEntries(
      Object.entries(tensors).filter(([k]) => k.startsWith("in.")).map(([k, t]) => [k.slice(3), t])
    );
    const found = DECODINGS[contract](raw, entry.taxonomy, entry.transform, entry.settings).ids;
    const truth = tensors.ids.data;
    count++;
    if (found.length !== truth.length || found.some((v, i) => v !== truth[i])) {
      wrong.push(entry.name);
    }
  }
}
document.getElementById("out").textContent = `done: ${wrong.length} of ${count} wrong ${wrong}`;
</script>"""


def test_ports_of_other_contracts_run_in_a_browser(suites: Path) -> None:
    shown = run_in_chromium(CONTRACT_PAGE, suites)
    cases = [c for contract in OTHERS for c in all_cases(contract)]
    count = len([c for c in cases if not c.name.startswith("error-")])
    assert f"done: 0 of {count} wrong" in shown, shown[-1000:]
