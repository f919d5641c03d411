"""The command that installs an extra of this copy of Panokit, wherever it came from.

Panokit is on no package index, so ``pip install panokit[extra]`` finds nothing. A checkout is
installed from its folder. A wheel is installed from where pip got it, which pip notes in
``direct_url.json`` (https://packaging.python.org/specifications/direct-url/) beside the package.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["install_advice", "install_command"]

WINDOWS = os.name == "nt"


def install_advice(extra: str) -> str:
    """A sentence with the command that installs ``extra``."""
    place = "Install it with" if _requirement(extra) else "In a checkout of Panokit, run"
    return f"{place}: {install_command(extra)}"


def install_command(extra: str) -> str:
    """The command; where this copy's origin is unknown or gone, the one to run in a checkout."""
    arguments = _requirement(extra) or [f".[{extra}]"]
    return " ".join([_pip(), "install", *map(_quoted, arguments)])


def _requirement(extra: str) -> list[str]:
    """What pip installs this copy with ``extra`` from; empty where the origin is unknown."""
    package = Path(__file__).resolve().parent
    checkout = package.parents[1]
    if package.parent.name == "sdk" and (checkout / "pyproject.toml").is_file():
        return ["-e", f"{checkout}[{extra}]"]
    for note in package.parent.glob("panokit-*.dist-info/direct_url.json"):
        try:
            return _requirement_of_origin(json.loads(note.read_text(encoding="utf-8")), extra)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return []


def _requirement_of_origin(origin: dict[str, Any], extra: str) -> list[str]:
    url = str(origin["url"])
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return [f"panokit[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}"]
    if urlsplit(url).scheme != "file":
        return [f"panokit[{extra}] @ {url}"]
    path = _path_of(url)
    if not path.exists():
        return []
    return [f"{path}[{extra}]" if path.is_dir() else f"panokit[{extra}] @ {url}"]


def _path_of(url: str) -> Path:
    path = unquote(urlsplit(url).path)
    return Path(path.lstrip("/") if WINDOWS else path)  # /C:/folder


def _pip() -> str:
    """``pip`` if that is the pip of this Python, else this Python's own by its full path."""
    found = shutil.which("pip")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "pip"
    return f"{_quoted(sys.executable)} -m pip"


def _quoted(argument: str) -> str:
    """Quoted for the system's shell (cmd.exe knows double quotes only)."""
    if WINDOWS:
        return f'"{argument}"' if set(argument) & set(" []&()^@") else argument
    return shlex.quote(argument)
