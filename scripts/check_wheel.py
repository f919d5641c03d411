"""Build the sdist and the wheel, and check what is in them and that the wheel works alone.

    python scripts/check_wheel.py --out dist               # what `make wheel` runs
    python scripts/check_wheel.py --out dist --no-install  # without the fresh environment

The wheel is built from the unpacked sdist, so that both are proved whole. The install takes its
dependencies from the package index that pip is set to. Exit code 1: there is a problem, and a
sentence says which.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from panokit.errors import MissingExtraError
from panokit.samples import sample_photos

ROOT = Path(__file__).resolve().parent.parent

# At least one file of each; that no file is missing is seen by comparison with the checkout.
REQUIRED = (
    "panokit/assets/camera.panokit/manifest.json",
    "panokit/assets/camera.panokit/model.tflite",
    "panokit/assets/camera.panokit/vectors/*.safetensors",
    "panokit_network/assets/*.safetensors",
    "panokit_network/configs/*.json",
    "panokit_compression/recipes/*.json",
    "panokit_validation/templates/*.j2",
    "panokit_demo/templates/*.j2",
    "panokit_demo/static/*.html",
    "panokit_demo/static/*.css",
    "panokit_demo/static/js/*.js",
    "panokit_demo/litertjs/package-lock.json",
)
SDIST_REQUIRED = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO")
FORBIDDEN_FOLDERS = {"tests", "__pycache__", "node_modules"}
HEAVY = {"torch", "tensorflow", "opencv-python-headless", "coremltools"}
PROBED_EXTRA, PROBED_MODULE = "report", "jinja2"  # the lightest extra


@dataclass(frozen=True)
class Built:
    """The two files of a release."""

    sdist: Path
    wheel: Path


def packages(root: Path) -> dict[str, Path]:
    """Package → its folder, as pyproject.toml tells hatchling."""
    listed = _pyproject(root)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return {PurePosixPath(p).name: root / p for p in listed}


def build(root: Path, out: Path) -> Built:
    """Build both into ``out``: the sdist from the checkout, the wheel from the sdist."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        sdist = _hatchling(root, "sdist", Path(scratch) / "sdist", out)
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        unpacked = Path(scratch) / sdist.name.removesuffix(".tar.gz")
        return Built(sdist, _hatchling(unpacked, "wheel", Path(scratch) / "wheel", out))


def _hatchling(folder: Path, kind: str, made: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(made)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"hatchling could not build the {kind}: {done.stdout}{done.stderr}")
    (file,) = made.iterdir()
    return Path(shutil.move(file, out / file.name))


def sdist_problems(sdist: Path, root: Path) -> Iterator[str]:
    """What is wrong with the sdist: every file of the packages and of the project must be there."""
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    expected = {
        f.relative_to(root).as_posix() for p in packages(root).values() for f in _files(p)
    } | set(SDIST_REQUIRED)
    for name in sorted(expected - names):
        yield f"{sdist.name}: {name} is missing."
    for name in sorted(n for n in names if _is_rubbish(n, {"__pycache__", "node_modules"})):
        yield f"{sdist.name}: {name} does not belong there."


def wheel_problems(wheel: Path, root: Path) -> Iterator[str]:
    """What is wrong with the wheel: its contents, its metadata, its licence."""
    with zipfile.ZipFile(wheel) as archive:
        files = {n: archive.read(n) for n in archive.namelist() if not n.endswith("/")}
    info = next((n.partition("/")[0] for n in files if ".dist-info/" in n), "")
    own = {n for n in files if not n.startswith(f"{info}/")}
    for problem in (*_content_problems(own, root), *_metadata_problems(files, info, root)):
        yield f"{wheel.name}: {problem}"
    if not wheel.name.endswith("-py3-none-any.whl"):
        yield f"{wheel.name}: the wheel is not pure Python."


def _content_problems(names: set[str], root: Path) -> Iterator[str]:
    expected = {
        f"{package}/{file.relative_to(folder).as_posix()}"
        for package, folder in packages(root).items()
        for file in _files(folder)
    }
    for package in packages(root):
        expected |= {f"{package}/__init__.py", f"{package}/py.typed"}
    for name in sorted(expected - names):
        yield f"{name} is missing."
    for name in sorted(names - expected):
        yield f"{name} does not belong there."
    for name in sorted(n for n in names & expected if _is_rubbish(n, FORBIDDEN_FOLDERS)):
        yield f"{name} does not belong there."
    for pattern in REQUIRED:
        if not any(fnmatch(n, pattern) for n in names):
            yield f"no file is named {pattern}."


def _metadata_problems(files: dict[str, bytes], info: str, root: Path) -> Iterator[str]:
    if f"{info}/METADATA" not in files or f"{info}/entry_points.txt" not in files:
        yield "METADATA or entry_points.txt is missing."
        return
    found = Parser().parsestr(files[f"{info}/METADATA"].decode("utf-8"))
    project = _pyproject(root)["project"]
    requires = {
        _name(r)
        for r in found.get_all("Requires-Dist", [])
        if "extra ==" not in r.partition(";")[2]
    }
    for field, got, expected in (
        ("Name", found["Name"], project["name"]),
        ("Version", found["Version"], project["version"]),
        ("Summary", found["Summary"], project["description"]),
        ("License-Expression", found["License-Expression"], project["license"]),
        (
            "Requires-Python",
            set(str(found["Requires-Python"]).split(",")),
            set(project["requires-python"].split(",")),
        ),
        ("Requires-Dist", requires, {_name(r) for r in project["dependencies"]}),
        (
            "Provides-Extra",
            set(found.get_all("Provides-Extra", [])),
            set(project["optional-dependencies"]),
        ),
    ):
        if got != expected:
            yield f"METADATA: {field} is {got!r}, expected {expected!r}."
    code = (root / "sdk" / "panokit" / "__init__.py").read_text(encoding="utf-8")
    if f'__version__ = "{project["version"]}"' not in code:
        yield f"panokit.__version__ is not the version of pyproject.toml, {project['version']}."
    licence = files.get(f"{info}/licenses/LICENSE")
    if licence != (root / "LICENSE").read_bytes() or found["License-File"] != "LICENSE":
        yield "the file LICENSE is missing, or is not the checkout's."
    yield from _entry_point_problems(files[f"{info}/entry_points.txt"].decode("utf-8"), files)


def _entry_point_problems(text: str, files: dict[str, bytes]) -> Iterator[str]:
    table = configparser.ConfigParser(delimiters=("=",))
    table.read_string(text)
    if "panokit" not in table["console_scripts"]:
        yield "the program panokit is missing."
    for group in table.sections():
        for name, value in table[group].items():
            module = value.partition(":")[0].replace(".", "/")
            if f"{module}.py" not in files and f"{module}/__init__.py" not in files:
                yield f"entry point {name} of {group} names {value}, which is not in the wheel."


def twine_problems(built: Built) -> Iterator[str]:
    """What ``twine check`` says, where twine is installed."""
    command = [sys.executable, "-m", "twine", "check", "--strict"]
    done = subprocess.run(
        [*command, str(built.sdist), str(built.wheel)], capture_output=True, text=True
    )
    if done.returncode:
        yield f"twine check: {done.stdout}{done.stderr}"


def install_problems(target: Path, scratch: Path, command: str) -> Iterator[str]:
    """Install ``target`` (a wheel or a checkout) alone into a fresh environment in ``scratch`` and
    segment a photo there. ``command`` is what a missing extra (``{extra}`` in it) must name."""
    home = scratch / "environment"
    venv.create(home, with_pip=True)
    programs = home / ("Scripts" if sys.platform == "win32" else "bin")
    run = _Runner(programs, scratch)
    run(["pip", "install", "--quiet", "--disable-pip-version-check", str(target)])
    photo, person = _photo(scratch)
    run(["panokit", "segment", str(photo), "--out", "out", "--json", "found.json"])
    (found,) = json.loads((scratch / "found.json").read_text(encoding="utf-8"))["results"]
    if person and not any(s["category"] == "person" for s in found["segments"]):
        yield f"the installed network finds no person in {photo.name}."
    listed = json.loads(run(["pip", "list", "--format", "json"]))
    if heavy := HEAVY & {p["name"].lower() for p in listed}:
        yield f"a plain install brings {', '.join(sorted(heavy))}."
    said = run(["panokit", "export"], code=2)
    if command.format(extra="export") not in said:
        yield f"expected {command.format(extra='export')!r} in: {said}"
    code = "from panokit.errors import MissingExtraError as E; print(E('x', '{}').command)"
    told = run(["python", "-c", code.format(PROBED_EXTRA)]).strip()
    run(["python", "-c", f"import {PROBED_MODULE}"], code=1)
    run(told)
    run(["python", "-c", f"import {PROBED_MODULE}"])


class _Runner:
    """Runs programs of an environment; what is installed beside it is out of their sight."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self.variables["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"

    def __call__(self, command: list[str] | str, code: int = 0) -> str:
        """What a command (a text: in the system's shell) prints; raises if its exit code is not
        ``code``."""
        if not isinstance(command, str):
            command = [str(self.programs / command[0]), *command[1:]]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.variables, cwd=self.folder,
            shell=isinstance(command, str),
        )  # fmt: skip
        if done.returncode != code:
            raise RuntimeError(
                f"{command} ended with {done.returncode}, expected {code}: "
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout + done.stderr


def _photo(scratch: Path) -> tuple[Path, bool]:
    """A sample photo with a person; where the extra ``demo`` is missing, noise without one."""
    try:
        return sample_photos()["astronaut"], True
    except (MissingExtraError, KeyError):
        photo = scratch / "photo.png"
        pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(photo)
        return photo, False


def _pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".part":
            yield path


def _is_rubbish(name: str, folders: set[str]) -> bool:
    return name.endswith(".pyc") or bool(folders & set(PurePosixPath(name).parts))


def check(root: Path, out: Path, *, install: bool, console: Console) -> list[str]:
    """Build and check; the problems."""
    built = build(root, out)
    for path in (built.sdist, built.wheel):
        console.print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    problems = [*sdist_problems(built.sdist, root), *wheel_problems(built.wheel, root)]
    if find_spec("twine") is None:
        console.print("twine is not installed (extra dev): `twine check` was left out.")
    else:
        problems += twine_problems(built)
    if install:
        command = f"pip install 'panokit[{{extra}}] @ {built.wheel.as_uri()}'"
        with tempfile.TemporaryDirectory() as scratch:
            problems += install_problems(built.wheel, Path(scratch), command)
    return problems


def main() -> None:
    """Build, check, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for both files")
    parser.add_argument("--no-install", action="store_true", help="no fresh environment")
    args = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    problems = check(ROOT, args.out, install=not args.no_install, console=console)
    for problem in problems:
        console.print(problem)
    console.print("The wheel is not right." if problems else "The wheel is right.")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
