"""The program: what it writes, what it says, and its exit codes."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit.bundle import shipped_bundle_path
from panokit.cli import shell
from panokit.dump import read_dump, write_dump

needs_bundle = pytest.mark.skipif(
    not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built"
)


def panokit(*arguments: str | Path | bytes) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, as a user does."""
    code = "from panokit.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(os.fsencode, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "photos" / "noise.png"
    path.parent.mkdir()
    Image.fromarray(rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(path)
    return path


def test_help_and_version() -> None:
    done = panokit("--help")
    assert done.returncode == 0
    for command in ("segment", "blur", "dump", "validate", "evaluate", "train", "export", "demo"):
        assert command in done.stdout
    assert panokit("--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize(
    "command", ["segment", "blur", "dump", "validate", "evaluate", "train", "export", "demo"]
)
def test_every_command_has_help(command: str) -> None:
    done = panokit(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"]], ids=" ".join)
def test_help_loads_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from panokit.cli import app\n"
        f"try: app({arguments})\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'coremltools', 'panokit_lab.export') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(shell._installed()))
def test_help_in_the_list_is_that_of_the_command(name: str) -> None:
    entry = shell._installed()[name]
    listed, loaded = shell._help(entry), shell._load(entry).help
    assert listed
    assert inspect.cleandoc(listed) == inspect.cleandoc(loaded)


def test_a_command_whose_help_cannot_be_read_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_elsewhere.py").write_text("def make():\n    return print\nsay = make()\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("say", "made_elsewhere:say", shell.GROUP)
    assert shell._help(entry) is None
    assert shell._help(EntryPoint("gone", "no.such.module:gone", shell.GROUP)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "No such command"),
        (("segment",), "Missing"),
        (("segment", "x.jpg", "--out", "o", "--bundle", "nowhere"), "no such bundle folder"),
        (("validate", "nowhere.safetensors"), "no such dump file"),
    ],
    ids=["unknown command", "missing argument", "missing bundle", "missing dump"],
)
def test_wrong_use_is_exit_code_2_and_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    done = panokit(*arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_use_is_said_on_one_line_that_names_the_help() -> None:
    done = panokit("validate", "x", "--threshold")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--threshold" in line
    assert line.endswith("Try: panokit validate --help")


@pytest.fixture
def failing() -> Callable[..., subprocess.Popen[str]]:
    """A program whose only command raises what is given, in a process of its own."""

    def run(statement: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        code = (
            "import os, signal, sys, time\n"
            "from panokit.cli import main, shell\n"
            "def app(arguments, standalone_mode):\n"
            f"    {statement}\n"
            "shell.app = app\n"
            "main()\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
        )

    return run


FOREIGN = [
    ("raise TypeError('a [bold]b[/bold]\\n  c')", "panokit: TypeError: a [bold]b[/bold] c. "),
    ("open('/no/such/[red]file')", "panokit: /no/such/[red]file: No such file or directory"),
    ("os.rename('/no/a', '/no/b')", "panokit: /no/a: /no/b: No such file or directory"),
    ("raise MemoryError", "panokit: there is not enough memory for this"),
    ("raise RuntimeError", "panokit: RuntimeError: no reason is given. "),
    ("raise OSError(28, os.strerror(28))", "panokit: No space left on device"),
    ("raise ValueError('\\x1b[2J' + 'x' * 5000)", "panokit: ValueError: \ufffd[2Jxxx"),
]


@pytest.mark.parametrize(("statement", "said"), FOREIGN, ids=[s for s, _ in FOREIGN])
def test_no_error_ends_in_a_traceback(
    failing: Callable[..., subprocess.Popen[str]], statement: str, said: str
) -> None:
    process = failing(statement)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(said)
    assert len(line) < 1000


def test_debug_shows_where_an_error_comes_from(
    failing: Callable[..., subprocess.Popen[str]],
) -> None:
    process = failing("raise TypeError('odd')", "--debug")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("panokit: TypeError: odd")


@pytest.mark.parametrize(
    "statement",
    [
        "raise KeyboardInterrupt",
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
        "raise SystemExit(130)",
        # as a library does that is just being loaded
        "try: os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "    except KeyboardInterrupt: raise ImportError('init failed')",
        "return 130",
    ],
)
def test_ctrl_c_is_130_without_a_word(
    failing: Callable[..., subprocess.Popen[str]], statement: str
) -> None:
    process = failing(statement)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="POSIX only")
@pytest.mark.parametrize("module", ["panokit.cli.shell", "typer", "rich.table", "panokit.bundle"])
def test_ctrl_c_while_the_program_is_loaded(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Key:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Key())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "from panokit.cli import main; main()",
         "segment", "nothing.jpg", "--out", str(tmp_path / "o")],
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [tmp_path, *sys.path]))},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_told(
    failing: Callable[..., subprocess.Popen[str]],
) -> None:
    with open("/dev/full", "w") as full:
        process = failing("print('x')", stdout=full)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, "panokit: No space left on device\n")


def test_a_reader_that_goes_away_is_no_verdict(
    failing: Callable[..., subprocess.Popen[str]],
) -> None:
    process = failing("from panokit.cli.console import say; [say('x' * 80) for _ in range(9999)]")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(60) == 2


OUTPUTS = {
    "segment": ("segment", "{photo}", "--out", "{bad}"),
    "segment --json": ("segment", "{photo}", "--out", "o", "--json", "{bad}/x.json"),
    "dump": ("dump", "{photo}", "--out", "{bad}/below"),
    "blur": ("blur", "{photo}", "--out", "{bad}/x.png"),
    "edit --edits": ("edit", "{photo}", "--out", "o.png", "--do", "lift", "--edits", "{bad}/e"),
    "simulate": ("simulate", "{photo}", "--out", "{bad}"),
    "validate --json": ("validate", "nothing", "--json", "{bad}/v.json"),
    "validate --junit": ("validate", "nothing", "--junit", "{bad}/v.xml"),
    "validate --report": ("validate", "nothing", "--report", "{bad}/v.html"),
    "validate --state": ("validate", "nothing", "--state", "{bad}/state"),
    "validate --history": ("validate", "nothing", "--history", "{bad}/runs.db"),
    "evaluate --sheet": ("evaluate", "--data", "d", "--split", "s", "--sheet", "{bad}/s.png"),
    "evaluate --breakdown": (
        "evaluate",
        "--data",
        "d",
        "--split",
        "s",
        "--breakdown",
        "{bad}/b.png",
    ),
    "vectors write": ("vectors", "write", "{bad}"),
    "dataset pack": ("dataset", "pack", "d", "--out", "{bad}"),
    "label": ("label", "d", "--out", "{bad}"),
    "train": ("train", "--data", "d", "--out", "{bad}"),
    "train --cache": ("train", "--data", "d", "--out", "o", "--cache", "{bad}"),
    "export": ("export", "--out", "{bad}"),
    "compress run": ("compress", "run", "int8", "--out", "{bad}"),
    "compress search": ("compress", "search", "int8", "--out", "{bad}"),
    "compress report": ("compress", "report", "runs", "--out", "{bad}"),
    "demo --gallery": ("demo", "--gallery", "{photo}", "{bad}/g.html"),
}


@pytest.mark.parametrize("arguments", OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_below_a_file_is_told_before_the_work(
    photo: Path, tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "no[t]es"
    bad.write_text("mine")
    done = panokit(*(a.format(photo=photo, bad=bad) for a in arguments))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"panokit: {bad}")
    assert "file" in line
    assert bad.read_text() == "mine"
    assert not (tmp_path / "o").exists()


@needs_bundle
def test_segment_writes_map_annotation_overlay_and_json(photo: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "r.json"
    done = panokit("segment", photo.parent, "--out", out, "--json", report)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        "noise.ids.png",
        "noise.json",
        "noise.overlay.png",
    ]
    (result,) = json.loads(report.read_text())["results"]
    assert result["size_wh"] == [60, 40]
    ids = np.asarray(Image.open(out / "noise.ids.png")).astype(int) @ [1, 256, 65536]
    assert set(np.unique(ids)) - {0} == {s["id"] for s in result["segments"]}


@needs_bundle
def test_a_bad_photo_is_skipped_and_the_rest_done(photo: Path, tmp_path: Path) -> None:
    bad = photo.parent / "bad.jpg"
    bad.write_text("no photo")
    report = tmp_path / "r.json"
    done = panokit("segment", photo, bad, "--out", tmp_path / "out", "--json", report)
    assert done.returncode == 2
    assert "bad.jpg: is not a photo" in done.stderr
    data: dict[str, Any] = json.loads(report.read_text())
    assert len(data["results"]) == 1
    assert len(data["skipped"]) == 1


@needs_bundle
def test_a_card_is_walked_and_what_is_left_out_is_named(photo: Path, tmp_path: Path) -> None:
    card = photo.parent
    (card / "2026").mkdir()
    (card / "2026" / photo.name).write_bytes(photo.read_bytes())
    (card / f"._{photo.name}").write_bytes(b"\0\5\x16\7")
    out = tmp_path / "out"
    done = panokit("segment", card, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.glob("*.json")) == ["noise-2.json", "noise.json"]
    (card / "2026" / "raw.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(64))
    done = panokit("segment", card, "--out", out)
    assert done.returncode == 2
    assert "raw.CR2: is a raw file (CR2)" in done.stderr


@needs_bundle
def test_results_do_not_take_the_place_of_photos(photo: Path) -> None:
    before = photo.read_bytes()
    done = panokit("segment", photo, "--out", photo.parent)
    assert done.returncode == 0, done.stderr
    assert (photo.parent / "noise.ids.png").is_file()
    assert photo.read_bytes() == before
    done = panokit("segment", photo, photo.parent / "noise.ids.png", "--out", photo.parent)
    assert done.returncode == 2
    assert "would replace the photo noise.ids.png" in done.stderr


@needs_bundle
@pytest.mark.parametrize("words", [["blur"], ["edit", "--do", "pixelate", "--class", "person"]])
def test_an_edit_takes_the_place_of_its_photo_only_when_told(words: list[str], photo: Path) -> None:
    before = photo.read_bytes()
    link = photo.with_name("link.png")
    link.symlink_to(photo)
    for out in (photo, link, photo.parent / "." / photo.name):
        done = panokit(words[0], photo, *words[1:], "--out", out)
        assert done.returncode == 2
        assert "say --overwrite" in done.stderr
        assert photo.read_bytes() == before
    done = panokit(words[0], photo, *words[1:], "--out", photo, "--overwrite")
    assert done.returncode == 0, done.stderr


@needs_bundle
def test_dump_validates_and_a_tampered_one_fails(photo: Path, tmp_path: Path) -> None:
    dumps, report = tmp_path / "dumps", tmp_path / "v.json"
    assert panokit("dump", photo, "--out", dumps).returncode == 0
    done = panokit("validate", dumps, "--json", report)
    assert done.returncode == 0, done.stdout
    assert json.loads(report.read_text())["verdict"] == "pass"
    path = dumps / "noise.safetensors"
    dump = read_dump(path)
    dump.tensors["input"] = dump.tensors["input"][..., ::-1].copy()
    write_dump(dump, path)
    done = panokit("validate", dumps, "--json", report)
    assert done.returncode == 1
    (verdict,) = json.loads(report.read_text())["photos"]
    assert (verdict["verdict"], verdict["first_bad_stage"]) == ("fail", "input")
    path.write_bytes(b"junk")
    assert panokit("validate", dumps).returncode == 2


@needs_bundle
def test_blur_without_a_person_leaves_the_photo(tmp_path: Path) -> None:
    photo, out = tmp_path / "grey.png", tmp_path / "out.png"
    Image.new("RGB", (64, 48), (90, 90, 90)).save(photo)
    done = panokit("blur", photo, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (np.asarray(Image.open(out)) == 90).all()
    assert panokit("blur", photo, "--out", tmp_path / "out.xyz").returncode == 2


ODD = os.fsdecode(b"caf\xe9 [bold]\xff.png")  # Latin-1, and no letter at all; read as markup


@needs_bundle
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no such names")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_names_that_are_no_utf8_go_through_everything(
    photo: Path, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    monkeypatch.setenv("PYTHONUTF8", "0")
    folder = tmp_path / os.fsdecode(b"alt\xe4 [x]")
    folder.mkdir()
    photo.rename(folder / ODD)
    report = tmp_path / "r.json"
    for arguments in (
        ("segment", folder, "--out", tmp_path / "o", "--json", report),
        ("blur", folder / ODD, "--out", tmp_path / ODD, "--json", report),
        ("simulate", folder, "--out", folder / "s", "--fault", "bgr", "--json", report),
        ("dump", folder, "--out", folder / "d", "--json", report),
        ("validate", folder / "d", "--json", report, "--junit", tmp_path / "j.xml",
         "--state", tmp_path / "s", "--github", "--no-diagnose"),
    ):  # fmt: skip
        done = panokit(*arguments)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        if arguments[0] != "blur":
            assert "caf\\xe9 [bold]\\xff" in report.read_text("utf-8").replace("\\\\", "\\")
    assert "caf\\xe9 [bold]\\xff" in done.stdout


HIDDEN = """
import sys
HIDDEN = {"torch", "litert_torch", "coremltools", "onnx", "onnxruntime", "fastapi", "uvicorn",
          "jinja2", "matplotlib", "sqlalchemy", "fsspec", "ray", "skimage", "torchao"}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
"""


@pytest.fixture
def thin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed without extras, for programs that are started."""
    (tmp_path / "thin").mkdir()
    (tmp_path / "thin" / "sitecustomize.py").write_text(HIDDEN)
    path = os.pathsep.join(map(str, [tmp_path / "thin", *sys.path]))
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_without_extras_every_command_is_listed_with_a_sentence(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    done = panokit("--help")
    assert done.returncode == 0, done.stderr
    listed = " ".join(done.stdout.replace("│", " ").split())
    for name, entry in shell._installed().items():
        if entry.module.startswith("panokit") and (help := shell._help(entry)):
            sentence = " ".join(help.split("\n\n")[0].split())
            assert f"{name} {sentence}" in listed
    assert "(Needs the extra [train].)" in listed
    assert "(Needs the extra [demo].)" in listed
    assert "validate Tell whether device dumps agree with the reference" in listed


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train",), "train"),
        (("train", "--data", "d", "--out", "o"), "train"),
        (("compress",), "export"),
        (("compress", "run", "int8", "--out", "o"), "export"),
        (("export", "--out", "b.panokit"), "export"),
        (("bench",), "export"),
        (("demo",), "demo"),
        (("demo", "--gallery", "p.png", "out.html"), "demo"),
        (("validate", "d", "--report", "r.html"), "report"),
        (("validate", "d", "--history", "h.db"), "history"),
        (("validate", "s3://b/d"), "remote"),
    ],
    ids=lambda v: v if isinstance(v, str) else " ".join(v),
)
def test_without_its_extra_a_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], extra: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30)).save("p.png")
    done = panokit(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"needs the {extra!r} extra" in line
    assert "pip install" in line
    assert f"[{extra}]" in line


@pytest.mark.usefixtures("thin")
def test_help_of_a_command_without_its_extra_names_it() -> None:
    done = panokit("compress", "--help")
    said = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert "Make a network smaller and faster" in said
    assert "Not installed." in said
    assert "[export]" in said


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize(
    "command", ["segment", "edit", "validate", "simulate", "evaluate", "label", "demo", "verify"]
)
def test_help_cuts_no_name_and_no_word(
    command: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    loaded = shell._load(shell._installed()[command])
    done = panokit(command, "--help")
    for parameter in loaded.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert name in done.stdout or not name.startswith("-")
    written = " ".join([loaded.help, *(str(p.help) for p in loaded.params), "[[PHOTOS… OUT]]"])
    ends = [w for line in done.stdout.splitlines() for w in line.split() if w.endswith("…")]
    assert [w for w in ends if w not in written] == []
