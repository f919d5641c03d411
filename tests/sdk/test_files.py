"""Results take their place whole or not at all, and never change what the place is."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit import _files, _places
from panokit._files import (
    replacing,
    replacing_folder,
    write_bytes,
    write_json,
    write_picture,
    write_text,
)
from panokit._places import check_output_file, check_output_folder, make_folder
from panokit.errors import OutputError

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="this system locks no files so")
no_root = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere"
)


def temporary(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if ".part" in p.name or ".old" in p.name)


def fail_midway(path: Path, error: Exception) -> None:
    with replacing(path) as partial:
        partial.write_text("half")
        raise error


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError):
        fail_midway(path, KeyError())
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["a.txt"])


def test_temporary_names_cannot_be_guessed_and_are_short_enough(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 120 + ".json")  # 245 bytes: as long as names may be
    names = []
    for _ in range(2):
        with replacing(path) as partial:
            names.append(partial.name)
            partial.write_text("x")
    assert names[0] != names[1]
    assert str(os.getpid()) not in names[0]
    assert path.read_text() == "x"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_mode_also_while_it_is_written(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "private.json"
    path.write_text("old")
    path.chmod(mode)
    with replacing(path) as partial:
        partial.write_text("new")
        assert stat.S_IMODE(partial.stat().st_mode) == mode
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


def test_a_chain_of_links_leads_where_it_led(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "result.json"
    target.write_text("old")
    (tmp_path / "middle").symlink_to("far/result.json")
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "middle")
    write_json(link, {"new": 1})
    assert link.is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert json.loads(target.read_text()) == {"new": 1}
    assert temporary(tmp_path) == []


def test_a_link_to_nothing_yet_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to("later/made.txt")
    write_text(link, "made")
    assert link.is_symlink()
    assert (tmp_path / "later" / "made.txt").read_text() == "made"


def test_a_link_that_leads_to_itself_is_told(tmp_path: Path) -> None:
    link = tmp_path / "loop.json"
    link.symlink_to("loop.json")
    with pytest.raises(OutputError, match=r"loop\.json: is a link that leads back to itself"):
        write_json(link, {})
    assert link.is_symlink()


def test_a_linked_folder_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "disk" / "b.panokit"
    real.mkdir(parents=True)
    (real / "old.txt").write_text("old")
    link = tmp_path / "b.panokit"
    link.symlink_to(real, target_is_directory=True)
    with replacing_folder(link) as folder:
        (folder / "new.txt").write_text("new")
    assert link.is_symlink()
    assert os.listdir(real) == ["new.txt"]
    assert temporary(tmp_path) == []


@needs_pipes
def test_a_pipe_gets_the_whole_result_also_when_its_reader_comes_late(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    read: list[bytes] = []

    def reader() -> None:
        time.sleep(0.3)
        read.append(pipe.read_bytes())

    thread = threading.Thread(target=reader)
    thread.start()
    write_json(pipe, {"much": "x" * 300_000})  # more than a pipe holds
    thread.join(10)
    assert len(json.loads(read[0])["much"]) == 300_000
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe.json"]


@needs_pipes
def test_a_pipe_that_nobody_reads_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_places, "READER_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe: is read by nobody"):
        write_text(tmp_path / "pipe", "x")


@needs_pipes
def test_a_reader_that_goes_away_is_told(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def reader() -> None:
        with pipe.open("rb") as file:
            file.read(10)

    thread = threading.Thread(target=reader)
    thread.start()
    with pytest.raises(OutputError, match="was closed by its reader"):
        write_bytes(pipe, bytes(2_000_000))
    thread.join(10)


OPEN_FILES = pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])


@OPEN_FILES
@pytest.mark.parametrize("through", ["pipe", "file", "appended file"])
def test_an_open_file_is_written_where_it_stands(tmp_path: Path, name: str, through: str) -> None:
    """A name of standard output never replaces it, and keeps what is in the file behind it."""
    if not os.path.exists(name):
        pytest.skip(f"this system has no {name}")
    link = tmp_path / "to-output.json"
    link.symlink_to(name)
    code = (
        "import sys; from panokit._files import write_text\n"
        "print('before')\n"
        f"write_text({str(link)!r}, 'result\\n')\n"
        "print('after')\n"
    )
    log = tmp_path / "log"
    log.write_text("kept\n")
    with log.open("ab" if through == "appended file" else "wb") as file:
        piped = subprocess.PIPE if through == "pipe" else file
        done = subprocess.run([sys.executable, "-c", code], stdout=piped, text=True, check=True)
    said = done.stdout if through == "pipe" else log.read_text()
    kept = "kept\n" if through == "appended file" else ""
    assert said == kept + "before\nresult\nafter\n"
    assert link.is_symlink()


def test_another_name_of_the_same_file_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text("old")
    os.link(one, two)
    with pytest.raises(OutputError, match=r"one\.json: is one of 2 names of the same file"):
        write_json(one, {})
    assert (one.read_text(), two.read_text()) == ("old", "old")


Write = Callable[[Path], object]
WRITERS: dict[str, Write] = {
    "text": lambda p: write_text(p, "x"),
    "json": lambda p: write_json(p, {}),
    "picture": lambda p: write_picture(p, Image.new("RGB", (4, 4)), "PNG"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_above_the_place_is_named(tmp_path: Path, write: Write) -> None:
    notes = tmp_path / "notes"
    notes.write_text("mine")
    for path in (notes / "new.json", notes / "deep" / "er" / "new.json"):
        with pytest.raises(OutputError, match="notes is a file; expected a folder"):
            write(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: is a folder; expected the name of a file"):
        write(tmp_path / "folder")
    assert notes.read_text() == "mine"
    assert temporary(tmp_path) == []


def test_folders_that_are_files(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("mine")
    for call in (make_folder, check_output_folder):
        with pytest.raises(OutputError, match="notes: is a file; expected a folder"):
            call(notes)
        with pytest.raises(OutputError, match="notes is a file; expected a folder"):
            call(notes / "below")
    with pytest.raises(OutputError, match="notes: is a file"), replacing_folder(notes):
        pass
    assert notes.read_text() == "mine"


def test_checks_make_nothing(tmp_path: Path) -> None:
    check_output_file(tmp_path / "new" / "deep.json")
    check_output_folder(tmp_path / "new" / "deep")
    assert os.listdir(tmp_path) == []


@no_root
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for call in (check_output_file, check_output_folder, make_folder):
        with pytest.raises(OutputError, match="locked"):
            call(locked / "new")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_midway_is_a_sentence_about_the_result(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"a\.json: ") as caught:
        fail_midway(path, OSError(number, os.strerror(number)))
    assert ".part" not in str(caught.value)
    assert (path.read_text(), temporary(tmp_path)) == ("old", [])


def test_errors_of_other_files_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="input"), replacing(tmp_path / "a.json"):
        (tmp_path / "input").read_bytes()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from types import FrameType
from typing import Any
import numpy as np
from PIL import Image
from panokit.errors import OutputError
from panokit._files import write_picture
from panokit.photo import Photo
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = int(sys.argv[2])
pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
for write in (lambda p: write_picture(p, Image.fromarray(pixels), "PNG"),
              lambda p: Photo.from_array(pixels).save(p)):
    try:
        write(Path(sys.argv[1]))
        print("written")
    except OutputError as error:
        print("refused")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system limits no files so")
@pytest.mark.parametrize("size", [1, 4000, 12000])
def test_a_picture_is_whole_or_refused_where_the_disk_is_full(tmp_path: Path, size: int) -> None:
    """Pillow takes no notice where the last piece of a picture does not fit."""
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path), str(size)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout.split() == ["refused", "refused"], done.stderr
    assert path.read_bytes() == b"old"
    assert temporary(tmp_path) == []


KILLED = """
import os, signal, sys
from panokit._files import replacing, replacing_folder
with replacing("a.json") as a, replacing_folder("b.panokit") as b:
    a.write_text("half")
    (b / "model").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_locks
def test_what_a_killed_run_left_is_gone_after_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.panokit").mkdir()
    (tmp_path / "b.panokit" / "model").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    left = temporary(tmp_path)
    assert len(left) == 2
    assert (tmp_path / "b.panokit" / "model").read_text() == "old"
    for name in (".mine.part", ".a.part.json", "x.part"):  # others' files
        (tmp_path / name).write_text("not ours")
    monkeypatch.setattr(_files, "UNLOCKED_SECONDS", -1.0)
    _files._sweep.cache_clear()
    with replacing(tmp_path / "other.txt") as partial:
        partial.write_text("x")
        _files._sweep.cache_clear()
        write_text(tmp_path / "third.txt", "y")  # what is in use is left alone
        assert partial.exists()
    assert temporary(tmp_path) == [".a.part.json", ".mine.part", "x.part"]


@needs_locks
def test_a_folder_whose_run_was_killed_between_the_two_names_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / f".b.panokit.{'0' * 16}.old"
    old.mkdir()
    (old / "model").write_text("old")
    monkeypatch.setattr(_files, "UNLOCKED_SECONDS", -1.0)
    _files._sweep.cache_clear()
    write_text(tmp_path / "x", "x")
    assert (tmp_path / "b.panokit" / "model").read_text() == "old"
    assert temporary(tmp_path) == []


def test_names_that_are_no_utf8_are_readable_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \\x41.png")
    path = tmp_path / "a.json"
    write_json(path, {"photo": name, "ü": "\ud800"})
    data = json.loads(path.read_bytes().decode("utf-8"))
    assert data == {"photo": "caf\\xe9 \\x41.png", "ü": "\\ud800"}
    write_text(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_bytes() == b"caf\\xe9 \\x41.png"


def test_a_picture_comes_back(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    write_picture(tmp_path / "a.png", Image.fromarray(pixels), "PNG", optimize=True)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_an_interrupt_at_any_line_leaves_old_or_new_and_nothing_else(
    tmp_path: Path, is_folder: bool
) -> None:
    place = tmp_path / "result"
    texts: dict[str, int] = {}
    for line in itertools.count(1):
        _put(place, is_folder, "old")
        seen = 0

        def interrupt(frame: FrameType, event: str, argument: object, line: int = line) -> Any:
            nonlocal seen
            if frame.f_code.co_filename != _files.__file__:
                return None
            seen += event == "line"
            if seen == line and event == "line":
                raise KeyboardInterrupt
            return interrupt

        sys.settrace(interrupt)
        try:
            _put(place, is_folder, "new")
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        _files._clear_all()  # what happens at the end of the process
        assert os.listdir(tmp_path) == ["result"], f"line {line}"
        text = (place / "a" if is_folder else place).read_text()
        assert text in ("old", "new"), f"line {line}"
        texts[text] = texts.get(text, 0) + 1
        if seen < line:
            break
    assert texts["old"] > 10
    assert texts["new"] >= 1


def _put(place: Path, is_folder: bool, text: str) -> None:
    if not is_folder:
        _files.write_text(place, text)
        return
    with _files.replacing_folder(place) as partial:
        (partial / "a").write_text(text)
