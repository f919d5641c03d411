"""Build the native core with every compiler that is there, and prove each build by the vectors.

    python scripts/native.py                    # all builds
    python scripts/native.py gcc-O3 arm64-gcc   # some
    python scripts/native.py --fuzz 150         # each fuzz target for so many seconds

A build whose compiler or emulator is not installed is skipped, and a line says what is missing.
Exit code 1: a build fails, or a vector differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from panokit._files import write_json
from panokit.vectors import check_suite, write_suite

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
CORE = NATIVE / "core"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wshadow", "-Werror")
EXACT = ("-ffp-contract=off",)
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RUN_SECONDS = 600
FUZZ_TARGETS = ("manifest", "heads", "picture", "dump")


@dataclass(frozen=True)
class Build:
    """One way to build the core: ``compile`` command, and what runs the result (``run``).
    ``needs`` are files beside the programs, with the Debian package that brings them."""

    name: str
    compile: tuple[str, ...]
    run: tuple[str, ...] = ()
    needs: tuple[tuple[str, str], ...] = ()
    exact: bool = True

    def missing(self) -> str:
        """What is not installed, as a sentence; empty if nothing is."""
        for program in (self.compile[0], *self.run[:1]):
            if shutil.which(program) is None:
                return f"{program} is not installed."
        for path, package in self.needs:
            if not Path(path).exists():
                return f"{path} is missing (Debian: {package})."
        return ""


ARM64 = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")
ARM32 = ("qemu-arm", "-L", "/usr/arm-linux-gnueabihf")
ARM64_LIBC = (("/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-dev-arm64-cross"),)
ARM32_LIBC = (("/usr/arm-linux-gnueabihf/lib/libc.so.6", "libc6-dev-armhf-cross"),)
WASI_LIBC = (("/usr/lib/wasm32-wasi/libc.a", "wasi-libc"),)
V7 = ("-march=armv7-a", "-mfpu=neon-vfpv4")
CLANG_ARM64 = ("clang", "--target=aarch64-linux-gnu", "-fuse-ld=lld", "-O3")
CLANG_ARM32 = ("clang", "--target=arm-linux-gnueabihf", "-fuse-ld=lld", "-O3", *V7)
# Memory that never grows: Node.js 20 may crash when it does while a file is read.
MEMORY = ("-Wl,-z,stack-size=1048576", "-Wl,--initial-memory=134217728")
WASM = ("clang", "--target=wasm32-wasi", "-O3", *MEMORY)
NODE = ("node", "--no-warnings", str(NATIVE / "wasm" / "run_wasi.mjs"))
BUILDS = (
    Build("gcc-O0", ("gcc", "-O0")),
    Build("gcc-O3", ("gcc", "-O3")),
    Build("gcc-O3-fma", ("gcc", "-O3", "-march=x86-64-v3")),
    Build("gcc-sanitized", ("gcc", "-O1", *SANITIZE)),
    Build("plain-loops", ("gcc", "-O3", "-DPANOKIT_PLAIN")),
    Build("clang-O0", ("clang", "-O0")),
    Build("clang-O3", ("clang", "-O3")),
    Build("clang-sanitized", ("clang", "-O1", *SANITIZE)),
    Build("clang-plain-sanitized", ("clang", "-O1", "-DPANOKIT_PLAIN", *SANITIZE)),
    Build("arm64-gcc", ("aarch64-linux-gnu-gcc", "-O3"), ARM64, ARM64_LIBC),
    Build("arm64-clang", CLANG_ARM64, ARM64, ARM64_LIBC),
    Build("armv7-gcc", ("arm-linux-gnueabihf-gcc", "-O3", *V7), ARM32, ARM32_LIBC),
    Build("armv7-clang", CLANG_ARM32, ARM32, ARM32_LIBC),
    Build("wasm", WASM, NODE, WASI_LIBC),
    Build("wasm-simd", (*WASM, "-msimd128"), NODE, WASI_LIBC),
    # Multiply-adds fused: the core must refuse to open, and without that check vectors must fail.
    Build("fused", ("gcc", "-O3", "-std=gnu99", "-march=x86-64-v3"), exact=False),
)


@dataclass(frozen=True)
class Outcome:
    """``verdict`` of a build: pass, fail or skipped, and how many vectors agree of how many."""

    name: str
    verdict: str
    reason: str = ""
    agree: int = 0
    cases: int = 0


def main(arguments: list[str] | None = None) -> int:
    """Build, run and print one line for each."""
    parser = argparse.ArgumentParser(description="Prove the native core by the golden vectors.")
    parser.add_argument("builds", nargs="*", help=f"Some of: {', '.join(b.name for b in BUILDS)}")
    parser.add_argument("--json", type=Path, help="Write the outcomes to this JSON file.")
    parser.add_argument("--fuzz", type=int, metavar="SECONDS", help="Fuzz instead, each target.")
    chosen = parser.parse_args(arguments)
    known = {b.name for b in BUILDS}
    if strange := sorted(set(chosen.builds) - known):
        parser.error(
            f"there is no build {strange[0]!r}; expected some of {', '.join(sorted(known))}"
        )
    console = Console()
    with tempfile.TemporaryDirectory(prefix="panokit-native-") as name:
        folder = Path(name)
        if chosen.fuzz:
            outcomes = list(fuzz_all(folder, chosen.fuzz, console))
        else:
            outcomes = list(prove_all(folder, chosen.builds, console))
    if chosen.json:
        write_json(chosen.json, {"builds": [vars(o) for o in outcomes]})
    return int(any(o.verdict == "fail" for o in outcomes))


def prove_all(folder: Path, names: list[str], console: Console) -> Iterator[Outcome]:
    """Each build in turn, told as it ends."""
    suite = folder / "suite"
    write_suite(suite)
    for build in BUILDS:
        if names and build.name not in names:
            continue
        outcome = prove(build, suite, folder / build.name)
        count = f" ({outcome.agree} of {outcome.cases} vectors)" if outcome.cases else ""
        console.print(f"{build.name}: {outcome.verdict}{count} {outcome.reason}".rstrip())
        yield outcome


def prove(build: Build, suite: Path, folder: Path) -> Outcome:
    """Compile the core with the vectors' program, run it, and check what it computed."""
    if reason := build.missing():
        return Outcome(build.name, "skipped", reason)
    folder.mkdir()
    program = folder / "vectors"
    if not build.exact:
        return prove_fused(build, suite, folder, program)
    if reason := compile_core(build, program, ("tests/vectors.c",), (*WARNINGS, *EXACT)):
        return Outcome(build.name, "fail", reason)
    return run_vectors(build, suite, folder / "results", program)


def prove_fused(build: Build, suite: Path, folder: Path, program: Path) -> Outcome:
    """A build that fuses multiply-adds refuses to work; forced to, it fails some vectors."""
    if reason := compile_core(build, program, ("tests/vectors.c",), ()):
        return Outcome(build.name, "fail", reason)
    refused = run_vectors(build, suite, folder / "results", program)
    if "-ffp-contract=off" not in refused.reason:
        return Outcome(build.name, "fail", "the core did not refuse a build that fuses")
    compile_core(build, program, ("tests/vectors.c",), ("-DPANOKIT_ANY_BUILD",))
    forced = run_vectors(build, suite, folder / "forced", program)
    wrong = forced.cases - forced.agree
    said = f"the core refuses this build; forced to work, {wrong} of {forced.cases} vectors differ"
    return Outcome(build.name, "pass" if wrong else "fail", said)


def compile_core(
    build: Build, program: Path, extra: tuple[str, ...], options: tuple[str, ...]
) -> str:
    """Compile; the compiler's first words if it fails, else nothing."""
    sources = sorted((CORE / "src").glob("*.c")) + [CORE / name for name in extra]
    includes = (f"-I{CORE / 'include'}", f"-I{CORE / 'src'}")
    command = [*build.compile, *options, *includes, *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
    return "" if done.returncode == 0 else f"it does not compile: {done.stderr.strip()[:500]}"


def run_vectors(build: Build, suite: Path, results: Path, program: Path) -> Outcome:
    """Run the program on the suite and check its results."""
    results.mkdir()
    command = [*build.run, str(program), str(suite), str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
    if done.returncode:
        return Outcome(build.name, "fail", (done.stderr or done.stdout).strip()[:500])
    checks = check_suite(suite, results)
    wrong = [c for c in checks if not c.good]
    reason = f"{wrong[0].name}: {wrong[0].stage}: {wrong[0].reason}" if wrong else ""
    verdict = "fail" if wrong else "pass"
    return Outcome(build.name, verdict, reason, len(checks) - len(wrong), len(checks))


def fuzz_all(folder: Path, seconds: int, console: Console) -> Iterator[Outcome]:
    """Each libFuzzer target for some seconds, with address and undefined-behaviour checks."""
    for target in FUZZ_TARGETS:
        outcome = fuzz(target, folder, seconds)
        console.print(f"{target}: {outcome.verdict} {outcome.reason}".rstrip())
        yield outcome


def fuzz(target: str, folder: Path, seconds: int) -> Outcome:
    """One target; a crash, leak, overflow or hang fails, and the input is kept in the folder that
    the message names."""
    options = ("-O2", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    build = Build(target, ("clang", *options))
    if reason := build.missing():
        return Outcome(target, "skipped", reason)
    program, kept = folder / target, Path(tempfile.gettempdir()) / "panokit-fuzz"
    if reason := compile_core(build, program, (f"fuzz/{target}.c",), EXACT):
        return Outcome(target, "fail", reason)
    kept.mkdir(exist_ok=True)
    corpus = CORE / "fuzz" / "corpus" / target
    found = folder / f"{target}-corpus"
    found.mkdir()
    limits = (f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=20000")
    command = [str(program), *limits, f"-artifact_prefix={kept}/{target}-", str(found)]
    command += [str(corpus)] if corpus.is_dir() else []
    environment = {**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1"}
    # A process takes over the peak memory of the one it is split from, and libFuzzer counts that:
    # a small shell stands between it and whatever runs this.
    command = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=seconds + RUN_SECONDS
    )
    lines = [line for line in done.stderr.splitlines() if line]
    runs = next((line for line in reversed(lines) if line.startswith("Done ")), "")
    if done.returncode == 0:
        return Outcome(target, "pass", runs)
    said = next((line for line in lines if "ERROR" in line or "runtime error" in line), lines[-1])
    return Outcome(target, "fail", f"{said[:300]}; the input is in {kept}")


if __name__ == "__main__":
    sys.exit(main())
