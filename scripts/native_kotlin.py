"""Build and test the Kotlin library of native/kotlin on the JVM: the core through JNI.

    python scripts/native_kotlin.py --install    # once: the compiler (npm) and JUnit 4 (Debian)
    python scripts/native_kotlin.py              # build, golden vectors, JUnit tests

The compiler lies in the folder that PANOKIT_KOTLIN names (default: out/toolchains/kotlin). Without
it, or without a C compiler or JDK, a line says what is missing and the exit code is 0. Gradle
builds the Android library from the same files (native/kotlin); it is not needed here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from panokit.bundle import shipped_bundle_path
from panokit.vectors import check_suite, write_suite

ROOT = Path(__file__).resolve().parent.parent
CORE, LIBRARY = ROOT / "native" / "core", ROOT / "native" / "kotlin" / "panokit" / "src"
COMPILER = "kotlin-compiler@2.4.20"
JARS = {"junit4": "junit4.jar", "libhamcrest-java": "hamcrest-all.jar"}
DOWNLOAD, UNPACK = ("apt-get", "download"), ("dpkg-deb", "-x")
SECONDS = 600
# A class of android.jar that Bitmaps.kt names; the real one comes with the Android SDK.
BITMAP_STUB = """package android.graphics
class Bitmap(val config: Config, val width: Int, val height: Int, val rowBytes: Int) {
    enum class Config { ARGB_8888 }
    fun copyPixelsToBuffer(buffer: java.nio.Buffer) { buffer.position(0) }
}
"""


def toolchain() -> Path:
    """The folder of the Kotlin compiler and JUnit."""
    return Path(os.environ.get("PANOKIT_KOTLIN", ROOT / "out" / "toolchains" / "kotlin"))


def kotlinc() -> Path:
    """The Kotlin compiler."""
    return toolchain() / "node_modules" / "kotlin-compiler" / "bin" / "kotlinc"


def java_home() -> Path | None:
    """The JDK, if there is one with JNI's header."""
    javac = shutil.which("javac")
    home = Path(javac).resolve().parent.parent if javac else None
    return home if home and (home / "include" / "jni.h").is_file() else None


def missing() -> str:
    """What is not installed, as a sentence; empty if nothing is."""
    if shutil.which("gcc") is None:
        return "gcc is not installed."
    if java_home() is None:
        return "There is no JDK with jni.h (Debian: openjdk-17-jdk-headless)."
    jars = [toolchain() / "jars" / jar for jar in JARS.values()]
    if not kotlinc().is_file() or not all(jar.is_file() for jar in jars):
        return f"No Kotlin compiler is in {toolchain()}. Run: scripts/native_kotlin.py --install"
    return ""


def install() -> None:
    """Fetch the compiler from npm and JUnit from Debian's archive into the toolchain's folder."""
    folder = toolchain()
    (folder / "jars").mkdir(parents=True, exist_ok=True)
    npm = ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), COMPILER]
    subprocess.run(npm, check=True, timeout=SECONDS)
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([*DOWNLOAD, *JARS], cwd=name, check=True, timeout=SECONDS)
        for package in Path(name).glob("*.deb"):
            subprocess.run([*UNPACK, str(package), name], check=True)
        for jar in JARS.values():
            shutil.copy(Path(name) / "usr" / "share" / "java" / jar, folder / "jars" / jar)


@dataclass(frozen=True)
class Built:
    """A compiled library with its tests."""

    folder: Path

    @property
    def classpath(self) -> str:
        """Library, tests, Kotlin's own library, JUnit."""
        own = [self.folder / "panokit.jar", self.folder / "test.jar"]
        standard = kotlinc().parent.parent / "lib" / "kotlin-stdlib.jar"
        return ":".join(map(str, [*own, standard, *_jars()]))

    def java(
        self, *words: str | Path, classpath: Sequence[Path] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a class, with JNI's own checks; ``classpath`` is where else classes lie."""
        options = ["-Xcheck:jni", f"-Djava.library.path={self.folder}"]
        options += [
            f"-Dpanokit.bundle={shipped_bundle_path()}",
            "-cp",
            ":".join([self.classpath, *map(str, classpath)]),
        ]
        command = ["java", *options, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def _jars() -> list[Path]:
    return [toolchain() / "jars" / jar for jar in JARS.values()]


def build(folder: Path) -> Built:
    """Compile the core with its JNI layer, the Kotlin library, Android's part of it against a stub,
    and the tests; raises ``CalledProcessError``."""
    home = java_home()
    if home is None:
        raise FileNotFoundError(missing())
    sources = [*sorted((CORE / "src").glob("*.c")), LIBRARY / "main" / "cpp" / "panokit_jni.c"]
    includes = [home / "include", home / "include" / "linux", CORE / "include", CORE / "src"]
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-ffp-contract=off"]
    flags += ["-fPIC", "-shared", "-Wl,-z,max-page-size=16384"]
    library = folder / "libpanokit_jni.so"
    command = ["gcc", *flags, *(f"-I{i}" for i in includes), *map(str, sources), "-o", str(library)]
    subprocess.run(command, check=True, timeout=SECONDS)
    jar, stub = folder / "panokit.jar", folder / "Bitmap.kt"
    compile_kotlin(LIBRARY / "main" / "kotlin", jar, "-Werror")
    stub.write_text(BITMAP_STUB, encoding="utf-8")
    android = [LIBRARY / "android" / "kotlin", stub]
    compile_kotlin(android[0], folder / "android.jar", str(android[1]), "-cp", str(jar))
    classpath = ":".join(map(str, [jar, *_jars()]))
    options = [f"-Xfriend-paths={jar}", "-cp", classpath]
    compile_kotlin(LIBRARY / "test" / "kotlin", folder / "test.jar", *options)
    return Built(folder)


def compile_kotlin(sources: Path, jar: Path, *options: str) -> None:
    """A jar of a folder of Kotlin; raises ``CalledProcessError``."""
    command = [str(kotlinc()), "-jvm-target", "11", *options, str(sources), "-d", str(jar)]
    subprocess.run(command, check=True, timeout=SECONDS)


def prove(built: Built, folder: Path) -> str:
    """All golden vectors through JNI; what is wrong, or an empty text."""
    suite, results = folder / "suite", folder / "results"
    count = write_suite(suite)
    results.mkdir()
    done = built.java("panokit.VectorsKt", "vectors", suite, results)
    if done.returncode:
        return done.stderr or done.stdout
    wrong = [c for c in check_suite(suite, results) if not c.good]
    if wrong:
        first = wrong[0]
        return (
            f"{len(wrong)} of {count} vectors differ; {first.name}: {first.stage}: {first.reason}"
        )
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Build, prove, test."""
    parser = argparse.ArgumentParser(description="Test the Kotlin library on the JVM.")
    parser.add_argument("--install", action="store_true", help="Fetch the compiler and JUnit.")
    chosen = parser.parse_args(arguments)
    console = Console()
    if chosen.install:
        install()
    if reason := missing():
        console.print(f"skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="panokit-kotlin-") as name:
        built = build(Path(name))
        wrong = prove(built, Path(name))
        console.print(f"golden vectors: {wrong or 'pass'}")
        done = built.java("org.junit.runner.JUnitCore", "panokit.PanokitTest")
        console.print(done.stdout.strip())
        return int(bool(wrong) or done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
