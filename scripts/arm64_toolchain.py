"""An ARM64 Python with LiteRT in a folder, for `panokit device arm64`; nothing is installed.

    python scripts/arm64_toolchain.py [--out out/toolchains/arm64]

Packages are fetched by an apt of its own and unpacked: qemu of Debian 13, which shows ARM's
/proc/cpuinfo (LiteRT reads it; older ones end in a segmentation fault), Python of Debian 12 for
arm64, and wheels for it. About 200 MB and half a minute. Where something is missing, a line says
what.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIBRARIES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgcc-s1")
WHEELS = ("ai-edge-litert==2.3.0", "numpy==2.4.6")
PLATFORMS = ("any", "manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64",
             "manylinux_2_28_aarch64")  # fmt: skip
START = """#!/bin/sh
# QEMU_CPU names the processor; PYTHONPATH of the caller is another machine's.
exec env -u LD_LIBRARY_PATH -u LD_PRELOAD QEMU_CPU="${{QEMU_CPU:-cortex-a76}}" \\
    PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH="{out}/site" \\
    "{out}/qemu-aarch64" -L "{out}/root" "{out}/root/usr/bin/python3.11" "$@"
"""


def _program(name: str, package: str) -> str:
    """Where a program is; it ends with a line if there is none."""
    return shutil.which(name) or sys.exit(f"missing: {name} (package {package}) of Debian")


def archive() -> str:
    """The Debian archive that this system uses, or DEBIAN_MIRROR."""
    named = os.environ.get("DEBIAN_MIRROR")
    if named:
        return named
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        text = path.read_text(errors="replace") if path.is_file() else ""
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        found = re.search(r"\w+://\S*/debian/?(?=\s|$)", "\n".join(lines))
        if found:
            return found[0]
    sys.exit("missing: a Debian archive among apt's sources; DEBIAN_MIRROR names one")


def fetch(folder: Path, architecture: str, release: str, packages: tuple[str, ...]) -> list[Path]:
    """Packages of another architecture or release with all they need, as files."""
    for name in ("etc/preferences.d", "etc/apt.conf.d", "state/lists/partial",
                 "cache/archives/partial"):  # fmt: skip
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    source = f"deb [arch={architecture} signed-by={KEYS}] {archive()} {release} main\n"
    (folder / "etc" / "sources.list").write_text(source)
    settings = {
        "Dir::Etc": folder / "etc",
        "Dir::Etc::sourcelist": folder / "etc/sources.list",
        "Dir::Etc::sourceparts": os.devnull,
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
    }
    config = folder / "apt.conf"
    config.write_text("".join(f'{k} "{v}";\n' for k, v in settings.items()))
    for command in (["update"], ["--yes", "--download-only", "install", *packages]):
        done = subprocess.run(
            [_program("apt-get", "apt"), "-qq", *command], capture_output=True, text=True,
            check=False, env={**os.environ, "APT_CONFIG": str(config)},
        )  # fmt: skip
        if done.returncode:
            why = " ".join(done.stderr.split())[-300:]
            sys.exit(f"missing: {', '.join(packages)} of Debian {release} ({architecture}): {why}")
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def unpack(package: Path, folder: Path) -> None:
    """The files of a package, without its scripts."""
    folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [_program("dpkg-deb", "dpkg"), "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
    ) as files:
        command = [_program("tar", "tar"), "-x", "-C", str(folder), "--keep-directory-symlink"]
        subprocess.run(command, stdin=files.stdout, check=True)


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "toolchains" / "arm64")
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "qemu-aarch64").exists():
        packages = fetch(out / "fetched-qemu", "amd64", "trixie", ("qemu-user",))
        (emulator,) = [p for p in packages if p.name.startswith("qemu-user_")]
        unpack(emulator, out / "fetched-qemu" / "files")
        shutil.copy2(out / "fetched-qemu/files/usr/bin/qemu-aarch64", out / "qemu-aarch64")
    if not (out / "root/usr/bin/python3.11").exists():
        for package in fetch(out / "fetched-root", "arm64", "bookworm", LIBRARIES):
            unpack(package, out / "root")
    if not (out / "site").exists():
        platforms = [word for p in PLATFORMS for word in ("--platform", p)]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts"]
        pip += ["--target", str(out / "site.part"), "--only-binary=:all:", "--python-version",
                "3.11", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]  # fmt: skip
        subprocess.run([*pip, *platforms, *WHEELS], check=True)
        # It aborts on processors before ARMv8.1.
        (out / "site.part/ai_edge_litert/libLiteRtWebGpuAccelerator.so").unlink(missing_ok=True)
        (out / "site.part").rename(out / "site")
    start = out / "python-arm64"
    start.write_text(START.format(out=out))
    start.chmod(0o755)
    for folder in ("fetched-qemu", "fetched-root"):
        shutil.rmtree(out / folder, ignore_errors=True)
    code = "import platform, ai_edge_litert.interpreter as _; print(platform.machine())"
    done = subprocess.run([str(start), "-c", code], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "aarch64":
        sys.exit(f"the emulated Python does not run: {done.stderr[-300:]}")
    Console().print(f"{start} is ready", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
