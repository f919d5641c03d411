"""Every build of the native core passes the golden vectors; what is not installed is skipped."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.native_core import compiler
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit.vectors import all_cases, write_suite
from panokit_validation.run import validate_dumps
from tests.toys.scripts import load_script
from tests.toys.shares import some

native = load_script("native")

pytestmark = pytest.mark.slow

ALLOCATING = {"manifest.c", "session.c"}  # what panokit_open and panokit_session_open call
LIBRARY = {
    "calloc", "free", "malloc", "memchr", "memcmp", "memcpy", "memset", "snprintf", "strchr",
    "strcmp", "strlen", "vsnprintf",
}  # fmt: skip


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native") / "suite"
    write_suite(folder)
    return folder


@pytest.fixture
def cc() -> str:
    found = compiler()
    if found is None:
        pytest.skip("there is no C compiler: install gcc or clang, or set CC")
    return found


@pytest.mark.parametrize("name", some([b.name for b in native.BUILDS], 5))
def test_a_build_passes_all_vectors(suite: Path, tmp_path: Path, name: str) -> None:
    build = next(b for b in native.BUILDS if b.name == name)
    outcome = native.prove(build, suite, tmp_path / "build")
    if outcome.verdict == "skipped":
        pytest.skip(outcome.reason)
    assert outcome.verdict == "pass", outcome.reason
    if build.exact:
        assert (outcome.agree, outcome.cases) == (len(all_cases()),) * 2
    else:
        assert "refuses this build" in outcome.reason


MISTAKES = {
    "last of equal channels": ("decode.c", "f4_more(value, peak[y])", "f4_most(value, peak[y])"),
    "later of equal centres": ("decode.c", "f4_more(best, distance)", "f4_most(best, distance)"),
    "weights are rounded down": ("image.c", "(int32_t)(0.5 + weight *", "(int32_t)(weight *"),
    "zero point is left out": ("heads.c", "- (float)spec->zero_point;", "- 0.0f;"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_core_is_found(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cc: str, mistake: str
) -> None:
    file, right, wrong = MISTAKES[mistake]
    changed = tmp_path / "core"
    shutil.copytree(native.CORE, changed)
    source = (changed / "src" / file).read_text(encoding="utf-8")
    assert right in source
    (changed / "src" / file).write_text(source.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(native, "CORE", changed)
    build = replace(native.BUILDS[0], compile=(cc, "-O1"))
    outcome = native.prove(build, suite, tmp_path / "build")
    assert outcome.verdict == "fail"
    assert 0 < outcome.agree < outcome.cases, outcome.reason


def test_a_missing_compiler_is_told(suite: Path, tmp_path: Path) -> None:
    build = native.Build("none", ("no-such-compiler",))
    outcome = native.prove(build, suite, tmp_path / "build")
    assert outcome.verdict == "skipped"
    assert outcome.reason == "no-such-compiler is not installed."


def test_the_core_needs_nothing_and_keeps_nothing(tmp_path: Path, cc: str) -> None:
    """No library but a little of C's own, no memory but when it opens, no global state."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    own = set()
    wanted: dict[str, set[str]] = {}
    for source in sorted((native.CORE / "src").glob("*.c")):
        made = tmp_path / f"{source.stem}.o"
        command = [cc, "-O2", "-fno-pie", "-fno-pic", "-fno-stack-protector", *native.EXACT]
        includes = [f"-I{native.CORE / 'include'}", f"-I{native.CORE / 'src'}"]
        subprocess.run([*command, *includes, "-c", str(source), "-o", str(made)], check=True)
        listed = subprocess.run([nm, str(made)], capture_output=True, text=True, check=True)
        symbols = [line.split()[-2:] for line in listed.stdout.splitlines()]
        assert [n for kind, n in symbols if kind in "DdBbC"] == [], source.name
        own |= {n for kind, n in symbols if kind in "TtRr"}
        wanted[source.name] = {n for kind, n in symbols if kind == "U"}
    for name, needed in wanted.items():
        foreign = needed - own - {"_GLOBAL_OFFSET_TABLE_"}
        assert foreign <= LIBRARY, name
        if name not in ALLOCATING:
            assert not foreign & {"malloc", "calloc", "realloc", "free"}, name


def test_the_header_is_right_in_c_and_in_cpp(tmp_path: Path) -> None:
    for program, options in (("gcc", ("-std=c99", "-xc")), ("g++", ("-std=c++11", "-xc++"))):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
        source = tmp_path / "only.h"
        source.write_text('#include "panokit.h"\nint version(void);\n')
        command = [program, *options, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
        include = f"-I{native.CORE / 'include'}"
        done = subprocess.run([*command, include, str(source)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_fuzz_targets_run(tmp_path: Path) -> None:
    """A second of each; ``scripts/native.py --fuzz`` takes longer."""
    for target in some(native.FUZZ_TARGETS, 4):
        outcome = native.fuzz(target, tmp_path, 1)
        if outcome.verdict == "skipped":
            pytest.skip(outcome.reason)
        assert outcome.verdict == "pass", f"{target}: {outcome.reason}"


def test_the_sample_of_a_page_runs(tmp_path: Path, cc: str) -> None:
    """As an app would: the library by CMake if it is there, the sample beside it."""
    page = native.CORE / "examples" / "segment.c"
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 85
    segmenter = Segmenter.open(threads=1)
    stages = segmenter.stages(sample_photos()["astronaut"])
    program, out = tmp_path / "segment", tmp_path / "one.safetensors"
    build = native.Build("sample", (cc, "-O2", *native.WARNINGS))
    assert native.compile_core(build, program, ("examples/segment.c",), native.EXACT) == ""
    files = {"photo": stages.photo.rgb_hwc, **stages.raw}
    for name, values in files.items():
        (tmp_path / name).write_bytes(values.tobytes())
    w, h = stages.photo.size_wh
    manifest = segmenter.bundle.root / "manifest.json"
    arguments = [manifest, tmp_path / "photo", w, h]
    arguments += [tmp_path / name for name in ("semantic", "center", "offset")]
    command = [str(a) for a in (program, *arguments, out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    named = [line.split()[1] for line in done.stdout.splitlines()]
    assert named == [
        segmenter.taxonomy.categories[s.channel].name for s in stages.panoptic.segments
    ]
    outcomes = list(validate_dumps([out]))
    assert [(o.photo or {}).get("verdict") for o in outcomes] == ["pass"], outcomes


def test_cmake_builds_the_library(tmp_path: Path, cc: str) -> None:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    folder = str(tmp_path / "build")
    for command in ((cmake, "-S", str(native.CORE), "-B", folder), (cmake, "--build", folder)):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "build" / "libpanokit.a").is_file()
