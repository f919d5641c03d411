"""Nothing that only POSIX has is needed: by no import, and by no code that is not guarded."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from panokit._files import link_folder
from tests.toys.scripts import load_script

structure = load_script("structure")

POSIX_MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd",
    "syslog", "termios", "tty",
}  # fmt: skip
POSIX_NAMES = {
    "os": {
        "O_DIRECTORY", "O_NOFOLLOW", "WNOHANG", "chown", "chroot", "fchmod", "fork", "forkpty",
        "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getsid",
        "getuid", "initgroups", "killpg", "lchown", "major", "minor", "mkfifo", "mknod", "nice",
        "openpty", "posix_spawn", "pread", "pwrite", "register_at_fork", "sched_getaffinity",
        "sched_setaffinity", "sendfile", "setgid", "setpgid", "setsid", "setuid", "statvfs",
        "sysconf", "ttyname", "uname", "wait", "wait3", "wait4",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP",
        "SIGTSTP", "SIGUSR1", "SIGUSR2", "alarm", "getitimer", "pause", "pthread_kill",
        "pthread_sigmask", "setitimer", "sigwait",
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT", "socketpair"},
    "time": {"tzset"},
}  # fmt: skip

# Everything of ours is imported twice: first to load what others wrote (they may need POSIX), then
# anew with the modules blocked and the names taken away, for our own code alone.
IMPORT_ALL = """
import builtins, importlib, json, os, pkgutil, signal, socket, sys, time, warnings
warnings.simplefilter("ignore")
packages, modules, names = json.loads(sys.argv[1])

def ours(name):
    return name.partition(".")[0] in packages

def import_all():
    found = []
    for package in packages:
        paths = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(paths, package + "."):
            importlib.import_module(module.name)
            found.append(module.name)
    return found

import_all()
for name in [n for n in sys.modules if ours(n)]:
    del sys.modules[name]
real = builtins.__import__

def blocking(name, globals=None, locals=None, fromlist=(), level=0):
    if ours((globals or {}).get("__name__", "")) and name.partition(".")[0] in modules:
        raise ImportError(f"{name} is not on this system")
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = blocking
for module, gone in names.items():
    for name in gone:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
sys.platform = "win32"  # os.name stays: pathlib makes no Windows paths here
print(len(import_all()))
"""

THIN = ["panokit", "panokit_datasets", "panokit_validation"]
HEAVY = [package for package, _ in structure.ROOMS.values() if package not in THIN]


@pytest.mark.parametrize(
    "packages", [THIN, pytest.param(HEAVY, marks=pytest.mark.slow)], ids=["thin", "heavy"]
)
def test_every_module_is_imported_without_what_windows_lacks(packages: list[str]) -> None:
    names = {module: sorted(gone) for module, gone in POSIX_NAMES.items()}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps([packages, sorted(POSIX_MODULES), names])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60


class _Uses(ast.NodeVisitor):
    """Places that need POSIX and stand under no guard (``except``, ``hasattr``, the system's
    name)."""

    def __init__(self) -> None:
        self.guards = 0
        self.found: list[tuple[int, str]] = []

    def note(self, node: ast.expr | ast.stmt, what: str) -> None:
        if not self.guards:
            self.found.append((node.lineno, what))

    def visit_Try(self, node: ast.Try) -> None:
        self.guards += 1
        for child in node.body:
            self.visit(child)
        self.guards -= 1
        for other in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(other)

    def visit_If(self, node: ast.If) -> None:
        words = ("hasattr(", "os.name", "sys.platform", "WINDOWS")
        guarded = any(word in ast.unparse(node.test) for word in words)
        self.guards += guarded
        self.generic_visit(node)
        self.guards -= guarded

    def visit_Import(self, node: ast.Import) -> None:
        for name in {a.name.partition(".")[0] for a in node.names} & POSIX_MODULES:
            self.note(node, f"import {name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = (node.module or "").partition(".")[0]
        if module in POSIX_MODULES:
            self.note(node, f"import {module}")
        for name in {a.name for a in node.names} & POSIX_NAMES.get(module, set()):
            self.note(node, f"{module}.{name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            module = node.value.id
            if node.attr in POSIX_NAMES.get(module, set()) or (module, node.attr) == (
                "os",
                "symlink",
            ):
                self.note(node, f"{module}.{node.attr}")
        if node.attr in {"symlink_to", "hardlink_to", "add_signal_handler"}:
            self.note(node, node.attr)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and (
            node.value in {"fork", "forkserver"} or node.value.startswith(("/tmp", "/dev/"))
        ):
            self.note(node, repr(node.value))


def uses(text: str) -> list[tuple[int, str]]:
    """Line and name of everything in ``text`` that needs POSIX without a guard."""
    visitor = _Uses()
    visitor.visit(ast.parse(text))
    return visitor.found


def sources(root: Path) -> Iterator[Path]:
    yield from structure.python_files(root).values()
    for folder in ("scripts", "benchmarks"):
        yield from sorted((root / folder).glob("*.py"))


def test_what_needs_posix_is_guarded(root: Path) -> None:
    assert {p.name: found for p in sources(root) if (found := uses(p.read_text("utf-8")))} == {}


def test_the_reading_sees_what_it_guards_against() -> None:
    bad = (
        "import os, signal\n"
        "import fcntl\n"
        "from pwd import getpwall\n"
        "from signal import SIGKILL\n"
        "def f():\n"
        "    return os.fork()\n"
        "os.symlink('a', 'b')\n"
        "pool = get_context('fork')\n"
        "path = '/tmp/x'\n"
        "try:\n"
        "    import resource\n"
        "except ImportError:\n"
        "    os.getuid()\n"
        "if hasattr(os, 'nice'):\n"
        "    os.nice(1)\n"
    )
    assert uses(bad) == [
        (2, "import fcntl"),
        (3, "import pwd"),
        (4, "signal.SIGKILL"),
        (6, "os.fork"),
        (7, "os.symlink"),
        (8, "'fork'"),
        (9, "'/tmp/x'"),
        (13, "os.getuid"),
    ]


@pytest.mark.parametrize("links", ["links", "hard links", "copies"])
def test_a_folder_is_shown_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str
) -> None:
    def refused(*args: object, **options: object) -> None:
        raise OSError("A required privilege is not held by the client")

    if links != "links":
        monkeypatch.setattr(Path, "symlink_to", refused)
    if links == "copies":
        monkeypatch.setattr(os, "link", refused)
    folder, name = tmp_path / "images", tmp_path / "there"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.txt").write_text("found")
    link_folder(folder, name)
    assert (name / "a" / "b.txt").read_text() == "found"
    assert name.is_symlink() == (links == "links")
    assert (name / "a" / "b.txt").samefile(folder / "a" / "b.txt") == (links != "copies")


def test_a_folder_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError):
        link_folder(tmp_path, tmp_path / "there")


def test_a_narrow_console_gets_what_it_can_show() -> None:
    """A Windows console that knows no arrow must not end the program."""
    code = (
        "from panokit.cli import main, shell\n"
        "shell.app = lambda *arguments, **options: print('a → b, \u6f22, é')\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, check=False,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    said = done.stdout.decode("cp1252").strip()
    assert (done.returncode, said) == (0, "a -> b, \\u6f22, é"), done.stderr
