"""Dumps are found in folders, archives and at URLs; archives cannot lead astray."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from panokit.dump import Dump, write_dump
from panokit.errors import DumpError
from panokit_validation.sources import DumpOpener, DumpRef, find_dumps

FORMS = (".safetensors", ".npz", ".dump.json")


def small(value: int) -> Dump:
    return Dump({"input": np.full((2, 3, 3), value, np.uint8)}, {"device": f"d{value}"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three dumps in a folder with a subfolder, and files that are none."""
    root = tmp_path / "dumps"
    for value, form in enumerate(FORMS):
        write_dump(small(value), root / ("b" if value else "") / f"p{value}{form}")
    (root / "notes.txt").write_text("no dump")
    (root / "results.json").write_text("{}")
    return root


def archive_of(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def values(*sources: str | Path) -> list[int]:
    """What the dumps hold, in the order in which they are found."""
    with DumpOpener() as opener:
        return [int(opener.open(ref).tensors["input"][0, 0, 0]) for ref in find_dumps(sources)]


def reasons(*sources: str | Path) -> list[str]:
    """Why dumps are refused ("" if not)."""
    out = []
    with DumpOpener() as opener:
        for ref in find_dumps(sources):
            try:
                opener.open(ref)
                out.append("")
            except DumpError as error:
                out.append(error.reason)
    return out


def test_folders_with_subfolders(folder: Path) -> None:
    assert values(folder) == [0, 1, 2]
    assert values(folder / "b", folder / "p0.safetensors") == [1, 2, 0]


def test_archives(folder: Path, tmp_path: Path) -> None:
    path = archive_of(folder, tmp_path / "dumps.zip")
    assert sorted(values(path)) == [0, 1, 2]
    archive_of(folder, folder / "again.zip")  # archives in folders count as well
    assert sorted(values(folder)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("scheme", ["memory", "file"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_urls(folder: Path, tmp_path: Path, scheme: str, packed: bool) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    source = archive_of(folder, tmp_path / "d.zip") if packed else folder
    url = f"file://{source}"
    if scheme == "memory":
        fs, url = fsspec.filesystem("memory"), f"memory://{tmp_path.name}/{source.name}"
        for file in [source] if packed else source.rglob("*"):
            if file.is_file():
                inner = url if packed else f"{url}/{file.relative_to(source).as_posix()}"
                fs.pipe(inner, file.read_bytes())
    assert sorted(values(url)) == [0, 1, 2]


def test_missing_urls_are_refused() -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    assert reasons("memory://nowhere/x.safetensors") == ["no such dump file"]
    (reason,) = reasons("nonsense://x")
    assert "cannot be listed" in reason


def test_what_is_missing_or_no_archive_is_refused_and_the_rest_read(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.zip").write_text("no zip")
    found = reasons(tmp_path / "nowhere.safetensors", tmp_path / "x.zip", folder)
    assert found[0] == "no such dump file"
    assert "is no zip archive" in found[1]
    assert found[2:] == ["", "", ""]


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.safetensors",
        "/abs/evil.safetensors",
        "a\\..\\evil.npz",
        "C:evil.npz",
        "../run.sh",
    ],
)
def test_members_that_lead_out_of_an_archive_are_refused(
    folder: Path, tmp_path: Path, name: str
) -> None:
    path = archive_of(folder, tmp_path / "d.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, (folder / "p0.safetensors").read_bytes())
    found = reasons(path)
    assert len([r for r in found if "leads out of the archive" in r]) == 1
    assert found.count("") == 3
    assert not (tmp_path.parent / "evil.safetensors").exists()


def test_bombs_are_refused_and_the_rest_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panokit.dump.read.MAX_DUMP_BYTES", 50_000_000)
    path = archive_of(folder, tmp_path / "d.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.safetensors", bytes(60_000_000))
        archive.writestr("zeros.safetensors", bytes(40_000_000))
    found = [r for r in reasons(path) if r]
    assert found == [
        "unpacks to 60000000 bytes, expected at most 50000000",
        "expected a safetensors dump, but its header is not readable: "
        "JSONDecodeError('Expecting value: line 1 column 1 (char 0)')",
    ]
    assert len(values(folder)) == 3


def test_a_member_longer_than_it_says_is_refused(folder: Path, tmp_path: Path) -> None:
    path = archive_of(folder, tmp_path / "d.zip")
    size = (folder / "p0.safetensors").stat().st_size.to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (8).to_bytes(4, "little")))
    assert [bool(r) for r in reasons(path)] == [False, False, True]


def test_overlapping_members_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.safetensors", bytes(1000))
        first = archive.infolist()[0]
        for i in range(20):
            info = zipfile.ZipInfo(f"b{i}.safetensors")
            info.file_size = info.compress_size = first.file_size
            info.header_offset, info.CRC = first.header_offset, first.CRC
            archive.filelist.append(info)
    assert reasons(path) == ["its members overlap: a zip bomb"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_other_packings_are_refused(folder: Path, tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w", packing) as archive:
        archive.write(folder / "p0.safetensors", "p0.safetensors")
    assert reasons(tmp_path / "d.zip") == ["is packed in a way other than stored or deflate"]


def test_a_raw_dump_in_an_archive_needs_its_numbers(tmp_path: Path) -> None:
    tensors = {"input": {"dtype": "uint8", "shape": [1, 1, 3], "file": "gone.bin"}}
    described = json.dumps({"format": "panokit-dump/1", "tensors": tensors})
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a.dump.json", described)
        archive.writestr("b.dump.json", described.replace("gone.bin", "../../etc/passwd"))
    assert reasons(tmp_path / "d.zip") == [
        "file 'gone.bin' is not in the archive",
        "tensor 'input': expected a file beside it, got '../../etc/passwd'",
    ]


def test_a_link_out_of_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    write_dump(small(9), tmp_path / "outside.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    assert reasons(folder) == ["leads out of the folder through a link", "", "", ""]


def test_references_travel_between_processes() -> None:
    ref = DumpRef("a.zip", "b/c.npz")
    assert ref.label == "a.zip/b/c.npz"


def test_archives_of_windows_have_folders_behind_backslashes(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "D.ZIP", "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                info = zipfile.ZipInfo("x")
                info.filename = f"farm\\{file.relative_to(folder)}".replace("/", "\\")
                archive.writestr(info, file.read_bytes())
    refs = list(find_dumps([tmp_path / "D.ZIP"]))
    assert [r.member for r in refs] == [
        "farm/b/p1.npz", "farm/b/p2.dump.json", "farm/p0.safetensors"
    ]  # fmt: skip
    assert sorted(values(tmp_path / "D.ZIP")) == [0, 1, 2]


def test_the_numbers_of_a_raw_dump_are_found_as_windows_would(tmp_path: Path) -> None:
    tensors = {"input": {"dtype": "uint8", "shape": [1, 1, 3], "file": "raw\\F\u00fcr.bin"}}
    described = json.dumps({"format": "panokit-dump/1", "tensors": tensors})
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/one.DUMP.JSON", described)
        archive.writestr("a/raw/fu\u0308r.BIN", b"\5\6\7")  # decomposed, as macOS writes names
    assert values(path) == [5]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/raw/f\u00fcR.bin", b"\1\1\1")
    assert reasons(path) == ["file 'raw/F\u00fcr.bin' is not in the archive"]  # two are alike


@pytest.mark.parametrize("name", ["\\\\server\\x.npz", "a\\..\\..\\x.npz", "D:\\x.npz", "\\x.npz"])
def test_backslashes_do_not_lead_out(folder: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr(name, (folder / "p0.safetensors").read_bytes())
    assert reasons(tmp_path / "d.zip") == ["has a name that leads out of the archive"]


def test_a_path_with_both_separators_is_one_path(folder: Path, tmp_path: Path) -> None:
    content = (folder / "p0.safetensors").read_bytes()
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a/x.safetensors", content)
        archive.writestr("a\\x.safetensors", content)
    assert reasons(tmp_path / "d.zip").count("is there twice") == 1


def test_files_of_systems_are_no_dumps(folder: Path, tmp_path: Path) -> None:
    apple = b"\0\5\x16\7\0\2\0\0"
    for name in ("._p0.safetensors", "b/._p1.npz", "__MACOSX/p0.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(apple)
    assert values(folder) == [0, 1, 2]
    assert sorted(values(archive_of(folder, tmp_path / "d.zip"))) == [0, 1, 2]


def test_dumps_may_end_in_capitals(folder: Path) -> None:
    (folder / "p0.safetensors").rename(folder / "P0.SAFETENSORS")
    (folder / "b" / "p1.npz").rename(folder / "b" / "P1.NPZ")
    assert sorted(values(folder)) == [0, 1, 2]


def test_names_hold_nobodys_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("phone/a.safetensors", "phone/more/b.npz", "tablet/c.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [r.label for r in find_dumps([tmp_path / "phone"])]
    assert found == ["phone/a.safetensors", "phone/more/b.npz"]
    found = [r.label for r in find_dumps([tmp_path / "phone" / "a.safetensors"])]
    assert found == ["a.safetensors"]
    two = [tmp_path / "phone" / "more", tmp_path / "tablet"]
    assert [r.label for r in find_dumps(two)] == ["phone/more/b.npz", "tablet/c.npz"]
    monkeypatch.chdir(tmp_path)
    assert [r.label for r in find_dumps(["tablet"])] == ["tablet/c.npz"]
