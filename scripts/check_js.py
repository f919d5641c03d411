"""Check the JavaScript of the demo and of the manual: types (tsc, by JSDoc) and ESLint.

    python scripts/check_js.py --install    # once: the tools of tools/js/, with npm
    python scripts/check_js.py              # what `make lint` runs

Without Node.js, npm or the tools it says what is missing and ends with exit code 0.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools" / "js"
MODULES = TOOLS / "node_modules"
STAMP = MODULES / ".panokit-lock"  # the hash of the lock that was installed
CHECKED = (
    "demo_app/panokit_demo/static/js",
    "docs/writers",
    "docs/javascripts",
    "tools/js/eslint.config.js",
)
COMMANDS = (
    ("typescript/bin/tsc", "--project", str(TOOLS)),
    ("eslint/bin/eslint.js", "--config", str(TOOLS / "eslint.config.js"), *CHECKED),
)
INSTALL_SECONDS = 300


def missing() -> str:
    """What the checks lack, as a sentence; empty where nothing is."""
    if shutil.which("node") is None:
        return "Node.js is not installed (https://nodejs.org)."
    if not all((MODULES / command[0]).is_file() for command in COMMANDS):
        return "Their tools are not installed. Run: python scripts/check_js.py --install"
    return ""


def install() -> str:
    """Install what package-lock.json names, unless it is there; what happened, as a sentence."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed, so `make lint` leaves out the JavaScript."
    lock = hashlib.sha256((TOOLS / "package-lock.json").read_bytes()).hexdigest()
    if STAMP.is_file() and STAMP.read_text(encoding="utf-8") == lock:
        return f"The tools that check the JavaScript are in {MODULES}"
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=TOOLS, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"npm did not finish within {INSTALL_SECONDS} seconds."
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return f"npm could not install them: {' '.join(lines[:3])[:500]}"
    STAMP.write_text(lock, encoding="utf-8")
    return f"The tools that check the JavaScript are in {MODULES}"


def check() -> int:
    """Run both; the exit code."""
    node = shutil.which("node") or "node"
    codes = []
    for tool, *arguments in COMMANDS:
        command = [node, str(MODULES / tool), *arguments]
        codes.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
    return int(any(codes))


def main() -> None:
    """Install, or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--install", action="store_true", help="install the tools with npm")
    args = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if args.install:
        console.print(install())
    elif sentence := missing():
        console.print(f"The JavaScript was not checked. {sentence}")
    else:
        sys.exit(check())


if __name__ == "__main__":
    main()
