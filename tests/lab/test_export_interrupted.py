"""An export that fails or is interrupted, anywhere, leaves no half bundle and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from panokit.bundle import Bundle, hash_path
from panokit.errors import OutputError
from panokit.taxonomy import Taxonomy
from panokit_converters.onnx import convert_onnx
from panokit_lab import artifacts, bundle_writer, export
from panokit_lab.export import ExportRequest, export_bundle
from panokit_network.source import NetworkSource
from tests.toys.network import ToyNetwork, toy_photos

ONNX_ONLY = ("onnx",)  # the quickest to convert

# Where it stops: a function, and whether before or after it has done its work.
PLACES: dict[str, tuple[object, str]] = {
    "converting": (artifacts, "convert_onnx"),
    "finishing the file": (artifacts, "finish_onnx"),
    "running the artifact": (export, "measure"),
    "copying it": (bundle_writer, "_place"),
    "writing a vector": (bundle_writer, "_write_vector"),
    "writing the manifest": (bundle_writer, "write_json"),
}


@pytest.fixture(scope="module")
def source() -> NetworkSource:
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(4)]
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": categories})
    return NetworkSource.from_module(ToyNetwork(), taxonomy, licence="test only")


@pytest.fixture(scope="module")
def converted(source: NetworkSource) -> bytes:
    """The slow part, done once."""
    return convert_onnx(source.module, (32, 32))


@pytest.fixture
def request_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted: bytes
) -> ExportRequest:
    monkeypatch.setattr(artifacts, "convert_onnx", lambda module, size_wh, heads: converted)
    (tmp_path / "photos").mkdir()
    for name, photo in toy_photos(3, (32, 32)).items():
        Image.fromarray(photo.rgb_hwc).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "out").mkdir()
    return ExportRequest(
        weights=None, out=tmp_path / "out" / "toy.panokit", recipes=("float32",),
        formats=ONNX_ONLY, size=32, photos=(tmp_path / "photos",),
    )  # fmt: skip


def stopping(function: Callable[..., object], error: BaseException) -> Callable[..., object]:
    def stop(*arguments: object, **named: object) -> object:
        function(*arguments, **named)
        raise error

    return stop


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")],
                         ids=["interrupted", "disk-full"])  # fmt: skip
@pytest.mark.parametrize(("module", "name"), PLACES.values(), ids=PLACES.keys())
def test_nothing_is_left_behind(
    request_onnx: ExportRequest,
    source: NetworkSource,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    error: BaseException,
) -> None:
    monkeypatch.setattr(module, name, stopping(getattr(module, name), error))
    with pytest.raises((type(error), OutputError)):  # a full disk where the bundle is written
        export_bundle(request_onnx, source=source)
    assert list(request_onnx.out.parent.iterdir()) == []
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


def test_the_old_bundle_stays_and_its_successor_replaces_it(
    request_onnx: ExportRequest, source: NetworkSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hash_path(export_bundle(request_onnx, source=source).root)
    real = os.replace
    moved: list[str] = []

    def replace_once(old: Path, new: Path) -> None:
        real(old, new)
        moved.append(str(new))
        if str(new).endswith(".old"):
            raise KeyboardInterrupt  # the worst moment: the old one is out of the way

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_once)
        with pytest.raises(KeyboardInterrupt):
            export_bundle(request_onnx, source=source)
    assert any(name.endswith(".old") for name in moved)
    assert [p.name for p in request_onnx.out.parent.iterdir()] == ["toy.panokit"]
    assert hash_path(request_onnx.out) == before
    assert hash_path(export_bundle(request_onnx, source=source).root) == before  # same bytes again


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_process_that_gets_a_signal(
    request_onnx: ExportRequest, converted: bytes, tmp_path: Path, number: signal.Signals
) -> None:
    """The command itself, stopped by a real signal while it writes golden vectors."""
    (tmp_path / "m.onnx").write_bytes(converted)
    script = f"""
import os, signal, sys, tempfile
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # background shells ignore it
from panokit_lab import artifacts, bundle_writer, export
from panokit_lab.commands import export as cli
made = Path({str(tmp_path / "m.onnx")!r})
artifacts.convert_onnx = lambda module, size_wh, heads: made.read_bytes()
tempfile.tempdir = {str(tmp_path / "temporary")!r}
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from panokit.taxonomy import Taxonomy
from tests.toys.network import ToyNetwork
categories = [{{"id": i + 1, "name": str(i), "isthing": i % 2}} for i in range(4)]
taxonomy = Taxonomy.from_json({{"name": "toy", "categories": categories}})
from panokit_network.source import NetworkSource
NetworkSource.from_weights = lambda path: NetworkSource.from_module(ToyNetwork(), taxonomy)
write = bundle_writer._write_vector
def writing(*arguments):
    write(*arguments)
    os.kill(os.getpid(), {int(number)})
    return write(*arguments)
bundle_writer._write_vector = writing
from typer import Typer
app = Typer()
app.command()(cli.export)
app()
"""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", script, "--weights", "w", "--size", "32"),
            *("--recipe", "float32", "--formats", "onnx", "--out", str(request_onnx.out)),
            *("--photos", str(request_onnx.photos[0])),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr
    assert list(request_onnx.out.parent.iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_was_exported_opens(request_onnx: ExportRequest, source: NetworkSource) -> None:
    export_bundle(request_onnx, source=source)
    bundle = Bundle.open(request_onnx.out)
    assert bundle.manifest.artifact().name == "onnx-float32"
    assert bundle.manifest.quality["artifacts"]["onnx-float32"]["heads"]["center"]["sqnr_db"] > 60
