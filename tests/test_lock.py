"""`requirements.lock` and `sbom.cdx.json` fit each other and pyproject.toml."""

import json
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import lock

ROOT = Path(__file__).parent.parent


def test_the_lock_holds_what_the_project_asks_for_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(r) for r in project["dependencies"]]
    for extra in lock.EXTRAS:
        asked += [Requirement(r) for r in project["optional-dependencies"][extra]]
    packages = lock.locked(lock.LOCK)
    versions: dict[str, list[str]] = {}
    for name, version in packages:
        versions.setdefault(canonicalize_name(name), []).append(version)
    for requirement in asked:
        if requirement.name == "torch":  # its build is its owner's choice; the Makefile pins it
            continue
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement}: run `make lock`"
        assert all(v in requirement.specifier for v in found), f"{requirement}: run `make lock`"
    assert all(packages.values()), "each package has hashes"
    assert "torch" not in versions


def test_torch_is_pinned_alike() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"torch=={lock.torch_version()}\n" in makefile


def test_the_bill_of_materials_lists_the_lock() -> None:
    bill = json.loads(lock.SBOM.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    listed = {(canonicalize_name(c["name"]), c["version"]) for c in bill["components"]}
    packages = {(canonicalize_name(n), v) for n, v in lock.locked(lock.LOCK)}
    assert listed == packages | {("torch", lock.torch_version())}
    assert bill["metadata"]["component"]["name"] == "panokit"


def test_neither_names_an_index() -> None:
    for path in (lock.LOCK, lock.SBOM):
        text = path.read_text(encoding="utf-8")
        assert "index-url" not in text
        assert "find-links" not in text
