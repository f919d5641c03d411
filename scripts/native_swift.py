"""Build and test the Swift package of native/ on Linux: XCTest, and the Apple-only file by stubs.

    python scripts/native_swift.py

Swift 5.9 or newer is taken from the PATH; or PANOKIT_SWIFT names a program that is called as
`PROGRAM FOLDER COMMAND…` and runs the command in the folder (a chroot, a container). Without either
a line says so and the exit code is 0.

What only Apple's systems have (native/swift/Sources/Panokit/Apple.swift) is parsed by the compiler,
also inside `#if canImport(…)`, and its types are checked against stubs of the frameworks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from panokit.vectors import check_suite, write_suite

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
SECONDS = 900
SOURCES = "swift/Sources/Panokit"
STUBS = ("CoreVideo", "CoreGraphics", "CoreML", "Vision")  # in the order they need each other


def missing() -> str:
    """What is not installed, as a sentence; empty if nothing is."""
    program = os.environ.get("PANOKIT_SWIFT", "swift")
    if shutil.which(program) is None:
        return f"{program} is not installed (https://swift.org), nor named by PANOKIT_SWIFT."
    return ""


@dataclass(frozen=True)
class Package:
    """A copy of the package with a suite of golden vectors beside it."""

    folder: Path

    @classmethod
    def copied(cls, folder: Path) -> Package:
        """Copy what the package needs into an empty folder."""
        for name in ("core", "swift"):
            shutil.copytree(NATIVE / name, folder / name)
        shutil.copy(NATIVE / "Package.swift", folder)
        write_suite(folder / "suite")
        (folder / "results").mkdir()
        return cls(folder)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Swift's in the folder."""
        inside = os.environ.get("PANOKIT_SWIFT")
        words = [inside, str(self.folder), *command] if inside else list(command)
        return subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, timeout=SECONDS
        )

    def test(self) -> str:
        """XCTest, and the vectors that it computed; what is wrong, or an empty text."""
        done = self.run("swift", "test")
        if done.returncode:
            return (done.stdout + done.stderr)[-3000:]
        wrong = [
            c for c in check_suite(self.folder / "suite", self.folder / "results") if not c.good
        ]
        return f"{wrong[0].name}: {wrong[0].stage}: {wrong[0].reason}" if wrong else ""

    def parse(self, file: str = f"{SOURCES}/Apple.swift") -> str:
        """The syntax of a file, also of what this system leaves out."""
        done = self.run("swiftc", "-frontend", "-parse", file)
        return done.stderr if done.returncode else ""

    def check_types(self) -> str:
        """The types of the Apple-only file, with stubs for Apple's frameworks."""
        (self.folder / "modules").mkdir(exist_ok=True)
        shutil.copy(self.folder / "core" / "include" / "panokit.h", self.folder / "modules")
        text = 'module CPanokit {\n  header "panokit.h"\n  export *\n}\n'
        (self.folder / "modules" / "module.modulemap").write_text(text, encoding="utf-8")
        for name in STUBS:
            made = ("-module-name", name, "-o", f"modules/{name}.swiftmodule", "-I", "modules")
            emit = ("swiftc", "-emit-module", "-parse-as-library", *made)
            done = self.run(*emit, f"swift/stubs/{name}.swift")
            if done.returncode:
                return done.stderr
        files = [f"{SOURCES}/{path.name}" for path in sorted((NATIVE / SOURCES).glob("*.swift"))]
        check = ("swiftc", "-typecheck", "-swift-version", "5", "-module-name", "Panokit")
        done = self.run(*check, "-I", "modules", *files)
        return done.stderr if done.returncode else ""


def main() -> int:
    """Test, parse, check."""
    console = Console()
    if reason := missing():
        console.print(f"skipped: {reason}")
        return 0
    failed = False
    with tempfile.TemporaryDirectory(prefix="panokit-swift-") as name:
        package = Package.copied(Path(name))
        for what, wrong in (
            ("XCTest and golden vectors", package.test()),
            ("syntax of the Apple-only file", package.parse()),
            ("its types, by stubs", package.check_types()),
        ):
            console.print(f"{what}: {wrong or 'pass'}")
            failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
