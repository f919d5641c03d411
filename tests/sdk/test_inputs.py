"""Pipes and devices as inputs: they may never end, and are refused at once."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from panokit.bundle import MANIFEST, Bundle, shipped_bundle_path
from panokit.config import read_settings_file
from panokit.decoding import DecodingSettings, PostprocessConfig
from panokit.dump import read_dump
from panokit.effects import EditList
from panokit.errors import BundleError, PanokitError
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from panokit.vectors.suite import read_index
from panokit_datasets.id_png import read_id_png
from panokit_datasets.packs import _opened
from panokit_datasets.pseudo import read_map

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "photo": ("a.jpg", Photo.open),
    "dump": ("a.npz", read_dump),
    "edits": ("edits.json", EditList.load),
    "taxonomy": ("taxonomy.json", Taxonomy.load),
    "decoding": ("d.json", DecodingSettings.load),
    "settings": ("s.json", lambda p: read_settings_file(PostprocessConfig, p)),
    "vectors": ("suite.json", lambda p: read_index(p.parent)),
    "label map": ("a.png", lambda p: read_map(p, (1, 1))),
    "ids": ("a.png", read_id_png),
    "pack": ("000.pack", _opened),
    "bundle": (MANIFEST, lambda p: Bundle.open(p.parent)),
}


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """A read that does not end becomes an error."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("still reading")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(15)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("name", "read"), READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_may_never_end_is_refused(
    tmp_path: Path, name: str, read: Callable[[Path], object], kind: str
) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(PanokitError):
        read(path)


@pytest.mark.skipif(not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built")
def test_a_pipe_in_place_of_a_model_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shipped_bundle_path(), tmp_path / "b.panokit"))
    (folder / "model.tflite").unlink()
    os.mkfifo(folder / "model.tflite")
    with pytest.raises(BundleError, match=r"model\.tflite: is a pipe or a device"):
        Bundle.open(folder)
