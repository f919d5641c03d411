"""The example writers: short, and the JavaScript one is run by Node and read back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from panokit.dump import read_dump

SCRIPT = """
import { encodeDump } from '%s';
import { writeFileSync } from 'node:fs';
const heads = Float32Array.from({ length: 24 }, (_, i) => i / 8 - 1);
const bytes = encodeDump({
  input: { dtype: 'U8', shape: [2, 3, 3], data: Uint8Array.from({ length: 18 }, (_, i) => 10 * i) },
  semantic: { dtype: 'F32', shape: [2, 3, 4], data: heads },
  center: { dtype: 'I8', shape: [2, 3, 1], data: Int8Array.from([-128, -1, 0, 1, 2, 127]) },
  panoptic: { dtype: 'I32', shape: [2, 3], data: Int32Array.from([0, 1, 1, 2, 2, 2]) },
}, { runtime: 'litert-web', device: 'Größe 😀 "x"', photo: 'p' });
writeFileSync('%s', bytes);
try {
  encodeDump({ input: { dtype: 'U8', shape: [9, 9, 3], data: new Uint8Array(3) } });
} catch (error) { console.log(error.message); }
"""


@pytest.mark.parametrize("name", ["Dump.swift", "Dump.kt", "dump.js"])
def test_writers_are_short(root: Path, name: str) -> None:
    lines = (root / "docs" / "writers" / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert any("panokit-dump/1" in line for line in lines)


def test_the_javascript_writer_is_read_back(root: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    module = tmp_path / "dump.mjs"  # a copy, so that Node takes it for a module
    shutil.copy(root / "docs" / "writers" / "dump.js", module)
    script, out = tmp_path / "run.mjs", tmp_path / "p.safetensors"
    script.write_text(SCRIPT % (module.as_posix(), out.as_posix()), encoding="utf-8")
    done = subprocess.run([node, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "3 numbers for 9,9,3" in done.stdout
    dump = read_dump(out)
    assert dump.metadata["device"] == 'Größe 😀 "x"'
    assert (dump.tensors["input"].ravel() == 10 * np.arange(18)).all()
    assert (dump.tensors["semantic"].ravel() == np.arange(24, dtype=np.float32) / 8 - 1).all()
    assert dump.tensors["center"].ravel().tolist() == [-128, -1, 0, 1, 2, 127]
    assert dump.tensors["panoptic"].tolist() == [[0, 1, 1], [2, 2, 2]]


def test_numpys_line_in_the_manual_is_read_back(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (root / "docs" / "dump.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"`(np\.savez\(.*\))`", text)
    monkeypatch.chdir(tmp_path)
    a, b, c = (np.full((2, 3, n), n, np.float32) for n in (4, 1, 2))
    exec(line, {"np": np, "json": json, "a": a, "b": b, "c": c})
    dump = read_dump(tmp_path / "cup.npz")
    assert dump.metadata == {"runtime": "litert"}
    assert {k: v.shape[-1] for k, v in dump.tensors.items()} == {
        "semantic": 4,
        "center": 1,
        "offset": 2,
    }
