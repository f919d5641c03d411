"""Write `requirements.lock`, `requirements-docs.lock` and `sbom.cdx.json`: what `make` installs,
with hashes (`make lock`).

The lock holds every package that the extras train, export, demo and dev need, for every platform
and each Python that Panokit runs on, with the hashes of all its files. PyTorch is left out: which
build of it (CPU or GPU) suits a machine its owner knows; the Makefile pins its version. The SBOM
(CycloneDX 1.6) lists the packages of the lock, and PyTorch; the hashes are in the lock alone.

Needs uv and cyclonedx-bom, which `make lock` puts into an environment of their own.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK, SBOM = ROOT / "requirements.lock", ROOT / "sbom.cdx.json"
DOCS_LOCK = ROOT / "requirements-docs.lock"
EXTRAS = ("train", "export", "demo", "dev")
HEADER = """\
# Made by `make lock` from pyproject.toml; installed by `make setup`. PyTorch comes before it.
"""
DOCS_HEADER = "# Made by `make lock`; installed by `make docs` into an environment of its own.\n"
# What the resolver must not take: it does not heed a package's upper bound of Python, and pip does.
BOUNDS = ("backports-strenum<1.3",)
# What PyTorch needs of other people's packages beside those for GPUs.
TORCH_NEEDS = ("filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec")


def main() -> None:
    """Resolve and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--docs", type=Path, default=DOCS_LOCK)
    parser.add_argument("--sbom", type=Path, default=SBOM)
    given = parser.parse_args()
    torch = torch_version()
    given.lock.write_text(HEADER + resolve(torch), encoding="utf-8")
    given.docs.write_text(DOCS_HEADER + resolve_docs(), encoding="utf-8")
    given.sbom.write_text(bill_of_materials(given.lock, torch), encoding="utf-8")
    sys.stdout.write(f"{given.lock.name}: {len(locked(given.lock))} packages\n")


def torch_version() -> str:
    """The version that pyproject.toml pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    (pin,) = {r for extra in extras for r in extra if r.startswith("torch==")}
    return str(pin.removeprefix("torch=="))


def resolve(torch: str) -> str:
    """The lock's lines."""
    needs = ", ".join(f'"{name}"' for name in TORCH_NEEDS)
    known = f'{{ name = "torch", version = "{torch}", requires-dist = [{needs}] }}'
    config = f"dependency-metadata = [{known}]\n"
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "uv.toml"
        settings.write_text(config, encoding="utf-8")
        bounds = Path(folder) / "bounds.txt"
        bounds.write_text("\n".join(BOUNDS), encoding="utf-8")
        extras = [part for extra in EXTRAS for part in ("--extra", extra)]
        return _output(
            ["uv", "pip", "compile", "pyproject.toml", *extras, "--config-file", str(settings),
             "--universal", "--generate-hashes", "--no-header", "--no-annotate", "--upgrade",
             "--no-emit-package", "torch", "--constraint", str(bounds), "--quiet"]
        )  # fmt: skip


def resolve_docs() -> str:
    """The lines of the manual's lock."""
    return _output(
        ["uv", "pip", "compile", "--group", "pyproject.toml:docs", "--universal",
         "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
         "--upgrade", "--quiet"]
    )  # fmt: skip


def bill_of_materials(lock: Path, torch: str) -> str:
    """CycloneDX JSON; the same lock gives the same text. A package that the lock has twice, for two
    ranges of Python, is two components."""
    lines = [f"{name}=={version}" for name, version in locked(lock)] + [f"torch=={torch}"]
    made = json.loads(
        _output(
            ["cyclonedx-py", "requirements", "-", "--output-reproducible", "--of", "JSON",
             "--pyproject", "pyproject.toml", "--mc-type", "library"],
            "\n".join(sorted(lines)),
        )
    )  # fmt: skip
    return json.dumps(made, indent=1) + "\n"


def locked(lock: Path) -> dict[tuple[str, str], list[str]]:
    """SHA-256 of the files of each (package, version) of a lock."""
    found: dict[tuple[str, str], list[str]] = {}
    at: list[str] = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if package := re.match(r"([\w.-]+)==([^\s;\\]+)", line):
            at = found.setdefault((package[1], package[2]), [])
        elif content := re.match(r" +--hash=sha256:([0-9a-f]{64})", line):
            at.append(content[1])
    return found


def _output(command: list[str], given: str | None = None) -> str:
    program = Path(sys.executable).with_name(command[0])
    made: Any = subprocess.run(
        [str(program), *command[1:]],
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if made.returncode:
        sys.exit(f"{command[0]}: {made.stderr.strip()}")
    return str(made.stdout)


if __name__ == "__main__":
    main()
