"""Dumps and photos with changed bytes, texts and numbers are refused with a sentence, or read."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from panokit.dump import Dump, dump_stages, write_dump
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from tests.fuzz.changes import HOSTILE_VALUES, changed_files, changed_json, places
from tests.fuzz.children import use_all
from tests.fuzz.rounds import rounds
from tests.toys.demo_bundles import toy_bundle
from tests.toys.photo_files import encoded, exif, orientation, picture

pytestmark = pytest.mark.slow

NUMBERS = (0, 1, -1, 1e9, 1e38, float("nan"), float("inf"), float("-inf"))


@pytest.fixture
def dump(tmp_path: Path) -> Dump:
    segmenter = Segmenter.open(toy_bundle(tmp_path), threads=1)
    rng = np.random.default_rng(0)
    photo = Photo.from_array(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), "fuzz")
    return dump_stages(segmenter.stages(photo), segmenter.artifact, "litert")


def test_fields_of_dumps(dump: Dump, tmp_path: Path) -> None:
    """The header of safetensors, the description of raw numbers, and the JSON inside both."""
    raw = write_dump(dump, tmp_path / "sound.dump.json")
    whole = write_dump(dump, tmp_path / "sound.safetensors").read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    headers = {".dump.json": json.loads(raw.read_text()),
               ".safetensors": json.loads(whole[8 : 8 + length])}  # fmt: skip
    files = [raw, tmp_path / "sound.safetensors"]
    rng = np.random.default_rng(3)
    values = [json.dumps(v) for v in HOSTILE_VALUES.values() if v != 10**400]
    for suffix, header in headers.items():
        for number, text in enumerate(_changed(header, rng, values)):
            path = tmp_path / f"{number}{suffix}"
            data = text.encode(errors="surrogatepass")
            if suffix == ".safetensors":
                data = struct.pack("<Q", len(data)) + data + whole[8 + length :]
            path.write_bytes(data)
            files.append(path)
    report = use_all("dump", files)
    report.check()
    assert not {str(f) for f in files[:2]} & set(report.refused)
    assert len(report.refused) > len(files) // 4


def _changed(header: Any, rng: np.random.Generator, values: list[str]) -> list[str]:
    """The header with a hostile value in each field, also inside texts that are JSON."""
    found = []
    metadata = header.get("metadata", header.get("__metadata__"))
    wheres: list[tuple[Any, Callable[[Any], Any]]] = [(header, lambda made: made)]
    for name, text in metadata.items():
        if text.startswith(("{", "[")):

            def within(made: Any, name: str = name) -> Any:
                key = "metadata" if "metadata" in header else "__metadata__"
                return {**header, key: {**metadata, name: made}}

            wheres.append((json.loads(text), within))
    for number, (data, put) in enumerate(wheres):
        for place in places(data):
            inside = json.dumps(changed_json(data, place, "@@"))
            for value in rng.choice(values, rounds(2, len(values)), replace=False):
                text = inside.replace('"@@"', value)
                found.append(json.dumps(put(text)) if number else text)
    return found


def test_numbers_of_dumps(dump: Dump, tmp_path: Path) -> None:
    """Tensors that are missing, turned, cut, of other types, or hold numbers that are none."""
    rng = np.random.default_rng(4)
    files = []
    for number in range(rounds(60, 1500)):
        tensors = dict(dump.tensors)
        for _ in range(int(rng.integers(1, 3))):
            name = str(rng.choice(sorted(tensors)))
            values = tensors[name].copy()
            kind = int(rng.integers(6))
            if kind == 0 and len(tensors) > 1:
                del tensors[name]
                continue
            if kind == 1:
                values = np.moveaxis(values, 0, -1)
            elif kind == 2:
                values = values[: max(1, len(values) // 2)]
            elif kind == 3:
                kinds = ("float32", "float16", "int8", "uint8", "int64")
                with np.errstate(invalid="ignore", over="ignore"):
                    values = values.astype(str(rng.choice(kinds)))
            else:
                at = rng.random(values.shape) < rng.choice([0.001, 0.5, 1])
                with np.errstate(invalid="ignore", over="ignore"):
                    values[at] = np.array(rng.choice(NUMBERS)).astype(values.dtype)
            tensors[name] = np.ascontiguousarray(values)
        suffix = (".safetensors", ".npz", ".dump.json")[number % 3]
        files.append(write_dump(replace(dump, tensors=tensors), tmp_path / f"{number}{suffix}"))
    report = use_all("dump", files)
    report.check()
    assert report.ran + len(report.refused) == len(files)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".dump.json"])
def test_bytes_of_dumps(dump: Dump, tmp_path: Path, suffix: str) -> None:
    sound = write_dump(dump, tmp_path / f"sound{suffix}")
    files = changed_files(sound, 3000, rounds(40, 600), np.random.default_rng(5), 2)
    report = use_all("dump", files)
    report.check()
    assert report.ran > 0
    assert len(report.refused) > 0


def _photos() -> dict[str, bytes]:
    small, tags = picture(), exif([orientation(6)])
    kinds: dict[str, bytes] = {
        "png": encoded(small, "PNG", exif=tags[6:]),
        "palette.png": encoded(small.convert("P"), "PNG"),
        "jpg": encoded(small, "JPEG", exif=tags),
        "progressive.jpg": encoded(small, "JPEG", progressive=True, exif=tags),
        "webp": encoded(small, "WEBP", exif=tags),
        "gif": encoded(small.convert("P"), "GIF"),
        "tif": encoded(small, "TIFF"),
        "packed.tif": encoded(small, "TIFF", compression="tiff_lzw"),
        "bmp": encoded(small, "BMP"),
    }
    if features.check("avif"):
        kinds["avif"] = encoded(small, "AVIF")
    try:
        from pillow_heif import from_pillow
    except ImportError:
        return kinds
    from_pillow(small).save(out := io.BytesIO())
    return kinds | {"heic": out.getvalue()}


@pytest.mark.parametrize("kind", sorted(_photos()))
def test_photos(kind: str, tmp_path: Path) -> None:
    sound = tmp_path / f"sound.{kind}"
    sound.write_bytes(_photos()[kind])
    files = changed_files(sound, 400, rounds(25, 1000), np.random.default_rng(6), 3)
    report = use_all("photo", files)
    report.check()
    assert str(files[0]) not in report.refused
    assert report.ran + len(report.refused) == len(files)


def test_a_picture_that_claims_to_be_huge(tmp_path: Path) -> None:
    """The header alone says so: no memory is taken for it."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    path = tmp_path / "huge.png"
    path.write_bytes(bytes(data))
    report = use_all("photo", [path])
    report.check()
    assert report.refused
