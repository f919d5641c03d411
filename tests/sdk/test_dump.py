"""Dumps go there and back in every form; hostile and damaged ones are refused with the reason."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from panokit.dump import Dump, read_dump, write_dump
from panokit.errors import ArgumentError, DumpError
from panokit.taxonomy import Taxonomy
from tests.toys.segmenter import toy_dump, toy_segmenter

FORMS = (".safetensors", ".npz", ".dump.json")


@pytest.fixture
def dump(taxonomy: Taxonomy) -> Dump:
    return toy_dump(toy_segmenter(taxonomy))


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(dump: Dump, tmp_path: Path, form: str) -> None:
    again = read_dump(write_dump(dump, tmp_path / f"a{form}"))
    assert again.name == "toy"
    assert again.metadata["device"] == "test"
    assert again.transform == dump.transform
    assert again.tensors.keys() == dump.tensors.keys()
    for name, values in dump.tensors.items():
        assert (again.tensors[name] == values).all()
        assert again.tensors[name].dtype == values.dtype


@pytest.mark.parametrize("form", FORMS)
def test_the_file_names_the_photo_if_nothing_else_does(tmp_path: Path, form: str) -> None:
    path = write_dump(Dump({"input": np.zeros((2, 2, 3), np.uint8)}), tmp_path / f"IMG.7{form}")
    assert read_dump(path).name == "IMG.7"


def test_the_same_dump_is_the_same_file(tmp_path: Path) -> None:
    metadata = dict.fromkeys("qwertyuiop", "x")
    dump = Dump({"input": np.zeros((2, 3, 3), np.uint8)}, metadata)
    data = write_dump(dump, tmp_path / "a.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    texts = json.loads(data[8 : 8 + length])["__metadata__"]
    assert list(texts) == sorted(texts)
    assert (length % 8, len(data)) == (0, 8 + length + 18)
    read = read_dump(tmp_path / "a.safetensors").metadata
    assert read == {**metadata, "format": texts["format"]}


def test_big_endian_arrays_are_written_little(tmp_path: Path) -> None:
    values = np.arange(8, dtype=">f4").reshape(2, 2, 2)
    for form in FORMS:
        again = read_dump(write_dump(Dump({"offset": values}), tmp_path / f"a{form}"))
        assert (again.tensors["offset"] == values).all()


def test_what_no_stage_has_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="tensors"):
        write_dump(Dump({"nonsense": np.zeros(1)}), tmp_path / "a.safetensors")
    with pytest.raises(ArgumentError, match="a name ending in"):
        write_dump(Dump({"input": np.zeros((1, 1, 3))}), tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_npz_metadata_may_be_bytes(tmp_path: Path) -> None:
    text = np.frombuffer(json.dumps({"device": "x"}).encode(), np.uint8)
    np.savez(tmp_path / "a.npz", input=np.zeros((1, 1, 3), np.uint8), metadata=text)
    assert read_dump(tmp_path / "a.npz").metadata == {"device": "x"}


def test_raw_form_fits_its_schema(dump: Dump, tmp_path: Path, root: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((root / "docs" / "dump.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    described = json.loads(write_dump(dump, tmp_path / "a.dump.json").read_text())
    jsonschema.validate(described, schema)
    described["tensors"]["evil"] = described["tensors"]["input"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(described, schema)


TENSORS: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "unknown tensor": ({"evil": np.zeros(3, np.uint8)}, "unknown tensor 'evil'"),
    "wrong rank": ({"panoptic": np.zeros(3, np.int32)}, "expected 2 axes"),
    "wrong type": ({"panoptic": np.zeros((3, 3), np.float32)}, "expected one of .*got float32"),
    "negative id": ({"panoptic": np.full((2, 2), -1, np.int32)}, r"from 0, got -1 at \(0, 0\)"),
    "picture of four channels": ({"effect.x": np.zeros((2, 2, 4), np.uint8)}, r"expected \[h,w,3"),
    "no tensor": ({}, "holds no tensor"),
}


def written(folder: Path, form: str, tensors: dict[str, NDArray[Any]]) -> Path:
    """A file of tensors as another program may write it."""
    path = folder / f"x{form}"
    if form == ".safetensors":
        save_file(tensors, path)
    elif form == ".npz":
        np.savez(path, **tensors)  # type: ignore[arg-type]
    else:
        listed = {}
        for i, (name, values) in enumerate(tensors.items()):
            (folder / f"{i}.bin").write_bytes(values.tobytes())
            shape = list(values.shape)
            listed[name] = {"dtype": values.dtype.name, "shape": shape, "file": f"{i}.bin"}
        path.write_text(json.dumps({"format": "panokit-dump/1", "tensors": listed}))
    return path


ODD = {
    "NaN": (
        {"offset": np.array([[[1, np.nan], [-3, 2]]], np.float32)},
        "not-finite",
        r"holds nan at \(0, 0, 1\); 1 of 4 numbers are not finite",
        [1, 0, -3, 2],
    ),
    "infinity": (
        {"semantic": np.array([[[1, -np.inf, 4, 2]]], np.float16)},
        "not-finite",
        "holds -inf",
        [1, -4, 4, 2],
    ),
    "other byte order": (
        {"offset": np.linspace(-9, 9, 64, dtype=np.float32).byteswap().reshape(4, 8, 2)},
        "big-endian",
        "big-endian order only",
        np.linspace(-9, 9, 64, dtype=np.float32).tolist(),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("tensors", "kind", "words", "usable"), ODD.values(), ids=ODD.keys())
def test_odd_numbers_are_kept_as_findings(
    form: str, tensors: dict[str, Any], kind: str, words: str, usable: list[float], tmp_path: Path
) -> None:
    dump = read_dump(written(tmp_path, form, tensors))
    (name,) = tensors
    assert dump.defects[name].kind == kind
    assert re.search(words, dump.defects[name].reason)
    assert dump.tensors[name].ravel().tolist() == usable


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("tensors", "message"), TENSORS.values(), ids=TENSORS.keys())
def test_bad_tensors_are_refused(
    tmp_path: Path, tensors: dict[str, NDArray[Any]], message: str, form: str
) -> None:
    path = written(tmp_path, form, tensors)
    with pytest.raises(DumpError, match=message):
        read_dump(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, 5, 8, 100, 3000])
def test_truncated_dumps_are_refused(dump: Dump, tmp_path: Path, size: int, form: str) -> None:
    path = write_dump(dump, tmp_path / f"a{form}")
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DumpError, match=r"truncated|damaged|expected"):
        read_dump(path)


def test_every_flipped_byte_of_a_header_is_refused_or_read(tmp_path: Path) -> None:
    path = write_dump(Dump({"offset": np.ones((2, 2, 2), np.float32)}), tmp_path / "a.safetensors")
    good = path.read_bytes()
    refused = 0
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 0x15]) + good[i + 1 :])
        try:
            read_dump(path)
        except DumpError:
            refused += 1
    assert refused > 100


def safetensors(header: object, numbers: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def tensor(shape: list[int], end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "billion elements": (safetensors({"input": tensor([10**9, 1, 1], 4)}, bytes(4)), "declares"),
    "billions that fit": (
        safetensors({"input": tensor([1000, 1000, 100], 4)}, bytes(4)),
        "expected a safetensors dump",
    ),
    "overflowing shape": (
        safetensors({"input": tensor([2**62, 2**62, 4], 4)}, bytes(4)),
        "declares",
    ),
    "giant header": (safetensors({}, length=2**63), "does not fit"),
    "header length big-endian": (struct.pack(">Q", 2) + b"{}", "big-endian"),
    "not JSON": (struct.pack("<Q", 4) + b"\xff\xfe{}", "not readable"),
    "deep JSON": (struct.pack("<Q", 100000) + b"[" * 100000, "not readable"),
    "a list": (safetensors([1, 2]), "not readable"),
    "negative shape": (safetensors({"input": tensor([-1, 2, 3], 4)}, bytes(4)), "axes"),
    "text for a shape": (safetensors({"input": tensor(["a", 2, 3], 4)}, bytes(4)), "axes"),  # type: ignore[list-item]
    "unknown type": (safetensors({"input": tensor([1, 1, 1], 4, "X9")}, bytes(4)), "got X9"),
    "a pickle": (pickle.dumps([1, 2, 3]), "expected a safetensors dump"),
    "many tensors": (
        safetensors({f"effect.{i}": tensor([1, 1, 3], 3, "U8") for i in range(100)}, bytes(3)),
        "at most 64 tensors",
    ),
}


@pytest.mark.parametrize(("data", "message"), SAFETENSORS.values(), ids=SAFETENSORS.keys())
def test_hostile_safetensors_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(DumpError, match=message):
        read_dump(path)


def npy(header: str, numbers: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + numbers


def npz(members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, input=np.array([[[{"a": 1}]]], dtype=object))
    return file.getvalue()


F4 = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
NPZ: dict[str, tuple[Callable[[], bytes], str]] = {
    "pickle": (pickled, "pickled objects"),
    "billion elements": (lambda: npz({"input.npy": npy(F4 % "(1000000000, 1, 1)")}), "declares"),
    "more than it holds": (lambda: npz({"input.npy": npy(F4 % "(9, 9, 3)", bytes(4))}), "holds 4"),
    "big-endian": (
        lambda: npz({"input.npy": npy(F4.replace("<", ">") % "(1, 1, 1)", bytes(4))}),
        "big-endian",
    ),
    "code for a header": (
        lambda: npz({"input.npy": npy("__import__('os').system('true')")}),
        "is not an npz file",
    ),
    "other compression": (
        lambda: npz({"input.npy": npy(F4 % "(1, 1, 1)", bytes(4))}, zipfile.ZIP_LZMA),
        "packed in a way",
    ),
    "no zip": (lambda: b"PK nonsense", "is not an npz file"),
    "metadata as numbers": (
        lambda: npz({"metadata.npy": npy(F4 % "(1,)", bytes(4))}),
        "metadata: expected JSON",
    ),
    "pickled metadata": (
        lambda: npz({"metadata.npy": npy("{'descr':'|O','fortran_order':False,'shape':()}")}),
        "pickled objects",
    ),
}


@pytest.mark.parametrize(("data", "message"), NPZ.values(), ids=NPZ.keys())
def test_hostile_npz_is_refused(tmp_path: Path, data: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(data())
    with pytest.raises(DumpError, match=message):
        read_dump(path)


def test_a_zip_bomb_as_npz_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panokit.dump.read.MAX_DUMP_BYTES", 50_000_000)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input.npy", bytes(60_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(DumpError, match="unpacks to"):
        read_dump(path)


RAW: dict[str, tuple[dict[str, Any], str]] = {
    "outside": ({"file": "../x.bin"}, "a file beside it"),
    "absolute": ({"file": "/etc/passwd"}, "a file beside it"),
    "a drive": ({"file": "C:x.bin"}, "a file beside it"),
    "backslash": ({"file": "..\\x.bin"}, "a file beside it"),
    "missing": ({"file": "y.bin"}, "cannot be read"),
    "too short": ({"shape": [5, 5, 3]}, "truncated"),
    "negative offset": ({"offset": -4}, "truncated"),
    "billion elements": ({"shape": [10**9, 1, 3]}, "declares"),
    "object type": ({"dtype": "object"}, "expected one of"),
    "expression for a type": ({"dtype": "(10000000,)i4"}, "expected one of"),
    "no shape": ({"shape": 7}, "expected dtype, shape and file"),
}


@pytest.mark.parametrize(("entry", "message"), RAW.values(), ids=RAW.keys())
def test_hostile_raw_dumps_are_refused(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(12))
    listed = {"input": {"dtype": "uint8", "shape": [2, 2, 3], "file": "x.bin", **entry}}
    path = tmp_path / "x.dump.json"
    path.write_text(json.dumps({"format": "panokit-dump/1", "tensors": listed}))
    with pytest.raises(DumpError, match=message):
        read_dump(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "expected JSON"),
        ("[1]", "got 'list'"),
        ('{"format": "other/9"}', "got 'other/9'"),
        ('{"format": "panokit-dump/1", "byte_order": "big", "tensors": {}}', "little-endian"),
        ('{"format": "panokit-dump/1", "tensors": []}', "'tensors', an object"),
        ("[" * 100000, "expected JSON"),
    ],
    ids=["no JSON", "a list", "other format", "byte order", "tensors a list", "deep"],
)
def test_bad_descriptions_are_refused(tmp_path: Path, data: str, message: str) -> None:
    path = tmp_path / "x.dump.json"
    path.write_text(data)
    with pytest.raises(DumpError, match=message):
        read_dump(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(12))
    inside = tmp_path / "dumps"
    inside.mkdir()
    (inside / "x.bin").symlink_to(tmp_path / "secret")
    listed = {"input": {"dtype": "uint8", "shape": [2, 2, 3], "file": "x.bin"}}
    path = inside / "x.dump.json"
    path.write_text(json.dumps({"format": "panokit-dump/1", "tensors": listed}))
    with pytest.raises(DumpError, match="leads out of the folder"):
        read_dump(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "panokit-dump/9"}, "expected the format 'panokit-dump/1'"),
        ({"transform": "{"}, "transform record is not readable"),
        ({"transform": "[" * 50000}, "transform record is not readable"),
        ({"transform": "{}"}, "transform record is not readable"),
    ],
    ids=["format", "no JSON", "deep", "empty"],
)
def test_bad_metadata_is_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    save_file({"input": np.zeros((1, 1, 3), np.uint8)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(DumpError, match=message):
        read_dump(tmp_path / "x.safetensors")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_descriptions_as_windows_writes_them_are_read(tmp_path: Path, encoding: str) -> None:
    tensors = {"input": {"dtype": "uint8", "shape": [1, 1, 3], "file": "raw\\Numbers.bin"}}
    described = json.dumps({"format": "panokit-dump/1", "tensors": tensors})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "numbers.BIN").write_bytes(b"\5\6\7")
    (tmp_path / "a.dump.json").write_text(described, encoding=encoding)
    assert read_dump(tmp_path / "a.dump.json").tensors["input"].ravel().tolist() == [5, 6, 7]
    np.savez(tmp_path / "a.npz", input=np.zeros((1, 1, 3), np.uint8),
             metadata=np.array('\ufeff{"device": "x"}'))  # fmt: skip
    assert read_dump(tmp_path / "a.npz").metadata["device"] == "x"
