"""LiteRT.js, which runs a TFLite artifact in the browser: where it lies, and how to get it.

It comes from npm by its own client, pinned by ``litertjs/package-lock.json``, and is never part of
Panokit's files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

from panokit._files import replacing_folder
from panokit.errors import PanokitError

__all__ = [
    "VERSION",
    "core_module",
    "find_litertjs",
    "install_litertjs",
    "litertjs_folder",
    "missing_sentence",
]

VERSION = "2.5.3"
_NEEDED = (
    "@litertjs/core/dist/index.js",
    "@litertjs/core/wasm/litert_wasm_internal.wasm",
    "@litertjs/wasm-utils/dist/index.js",
)
INSTALL_SECONDS = 300


def litertjs_folder() -> Path:
    """Where it is installed: ``PANOKIT_LITERTJS`` if that is set, else in the user's cache."""
    own = os.environ.get("PANOKIT_LITERTJS")
    if own:
        return Path(own)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "panokit" / f"litertjs-{VERSION}"


def find_litertjs() -> Path | None:
    """Its ``node_modules`` folder, or None where it is not whole."""
    modules = litertjs_folder() / "node_modules"
    return modules if all((modules / name).is_file() for name in _NEEDED) else None


def core_module(modules: Path) -> str:
    """The text of its module, which asks for another by that one's place and not by its name: a
    page could map names to places, a worker cannot."""
    text = (modules / "@litertjs/core/dist/index.js").read_text("utf-8")
    return text.replace('"@litertjs/wasm-utils"', '"../../wasm-utils/dist/index.js"')


def missing_sentence() -> str:
    """What to do to get it, for people."""
    if shutil.which("npm") is None:
        return (
            "LiteRT.js is not installed, and neither is npm, which brings it. Install Node.js "
            "(https://nodejs.org), then run: panokit demo --install-litertjs"
        )
    return "LiteRT.js is not installed. Run: panokit demo --install-litertjs"


def install_litertjs() -> Path:
    """Install it with npm, unless it is there; its ``node_modules`` folder."""
    found = find_litertjs()
    if found is not None:
        return found
    npm = shutil.which("npm")
    if npm is None:
        raise PanokitError(missing_sentence())
    folder = litertjs_folder()
    with replacing_folder(folder) as partial:
        for name in ("package.json", "package-lock.json"):
            text = resources.files("panokit_demo").joinpath("litertjs", name).read_text("utf-8")
            (partial / name).write_text(text, encoding="utf-8")
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(  # noqa: S603 - npm by its full path, arguments of our own
                command, cwd=partial, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise PanokitError(f"npm did not finish within {INSTALL_SECONDS} seconds.") from None
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise PanokitError(f"npm could not install LiteRT.js: {' '.join(lines[:3])[:500]}")
    found = find_litertjs()
    if found is None:
        raise PanokitError(f"npm left no LiteRT.js in {folder}.")
    return found
