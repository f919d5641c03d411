"""The program: its name, its exit codes, and how it finds its commands.

Commands are plain functions (or a Typer group) that the entry-point group ``panokit.commands``
names; pyproject.toml holds the one table of ours. A command's module is loaded when it is called:
``panokit --help`` reads the first lines of help from the sources and loads none.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from panokit import __version__
from panokit._text import CONSOLE_ERRORS
from panokit.cli.console import HelpTable, note, say
from panokit.cli.noise import our_log
from panokit.errors import MissingExtraError, PanokitError
from panokit.tflite.check import trust_files

__all__ = ["app", "run"]

GROUP = "panokit.commands"

MOST_REASON = 600
"""Most characters of a foreign error that are shown."""

# What a package's commands need beyond the thin SDK, and a module of it without which none runs.
_EXTRA_OF_PACKAGE = {
    "panokit_network": ("train", "torch"),
    "panokit_compression": ("export", "torch"),
    "panokit_converters": ("export", "numpy"),
    "panokit_lab": ("export", "torch"),
    "panokit_demo": ("demo", "fastapi"),
}


class _Command(TyperCommand):
    """A command that is loaded when it is called; ``help`` is known before."""

    def __init__(self, entry: EntryPoint, help: str) -> None:
        super().__init__(entry.name, help=help)
        self._entry = entry

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        return _load(self._entry).make_context(info_name, args, parent, **extra)


class _Commands(TyperGroup):
    """A group of the installed entry points."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(_installed())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = _installed().get(cmd_name)
        if entry is None:
            return None
        help = _help(entry)
        return _load(entry) if help is None else _Command(entry, _with_extra(entry, help))


def _installed() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=GROUP)}


def _help(entry: EntryPoint) -> str | None:
    """The help of a command as its source says it: a function's docstring, or a Typer's
    ``help=``. None if it cannot be read there."""
    try:
        spec = find_spec(entry.module)
        tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError):
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return ast.get_docstring(node)
        if isinstance(node, ast.Assign) and entry.attr in map(ast.unparse, node.targets):
            options = node.value.keywords if isinstance(node.value, ast.Call) else []
            texts = [o.value.value for o in options
                     if o.arg == "help" and isinstance(o.value, ast.Constant)]  # fmt: skip
            return str(texts[0]) if texts else None
    return None


def _with_extra(entry: EntryPoint, help: str) -> str:
    """Help for the list of commands: it names the extra that is missing, in brackets as pip does.
    What help holds is no markup."""
    extra, module = _EXTRA_OF_PACKAGE.get(entry.value.partition(".")[0], ("", ""))
    first, *rest = help.split("\n\n")
    if extra and not _is_there(module):
        first = f"{first.strip()} (Needs the extra [{extra}].)"
    return escape("\n\n".join([first, *rest]))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def _without_markup(command: Any) -> Any:
    """The command, with help that is shown as it is written: brackets are no markup."""
    for described in (command, *command.params):
        if getattr(described, "help", None):
            described.help = escape(described.help)
    for below in getattr(command, "commands", {}).values():
        _without_markup(below)
    return command


def _with_manual(command: Any, words: tuple[str, ...]) -> Any:
    """The command, with its place in the manual; those below it have places of their own."""
    command.epilog = f"In the manual: commands.html#{'-'.join(('panokit', *words))}"
    for name, below in getattr(command, "commands", {}).items():
        _with_manual(below, (*words, name))
    return command


def _load(entry: EntryPoint) -> Any:
    """The command behind an entry point; without its extra, one that says how to get it."""
    command = _without_markup(_loaded(entry))
    ours = entry.value.startswith("panokit")
    return _with_manual(command, (entry.name,)) if ours else command


def _loaded(entry: EntryPoint) -> Any:
    package = entry.value.partition(".")[0]
    extra, _ = _EXTRA_OF_PACKAGE.get(package, (package, ""))
    sub = typer.Typer(add_completion=False)
    try:
        loaded = entry.load()
    except ImportError as error:
        missing = MissingExtraError(f"`panokit {entry.name}`", extra)
        missing.__cause__ = error

        def absent(ctx: typer.Context) -> None:
            raise missing

        sub.command(
            entry.name,
            help=f"{_help(entry) or ''}\n\nNot installed. {missing}".strip(),
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(absent)
        return typer.main.get_command(sub)
    if isinstance(loaded, typer.Typer):
        return typer.main.get_command(loaded)
    sub.command(entry.name)(loaded)
    return typer.main.get_command(sub)


app = typer.Typer(
    name="panokit",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Panoptic segmentation for phone cameras: segment, compress, convert, validate.",
)


def _print_version(value: bool) -> None:
    if value:
        say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and end."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error comes from, and what the libraries say."),
    ] = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Run model files of your own whose operators are not known to be safe. A hostile "
            "or damaged one may end the program.",
        ),
    ] = False,
) -> None:
    """Options of the program itself."""
    if trust:
        trust_files()


def run(
    arguments: Sequence[str], debug: bool = False, pressed: threading.Event | None = None
) -> int:
    """Run the program; its exit code. Every deliberate error becomes one sentence and 2, and so
    does what the system refuses. ``debug`` shows the traceback as well; an error after Ctrl-C was
    ``pressed`` is its work."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console may know no arrow, and no name of a file
            stream.reconfigure(errors=CONSOLE_ERRORS)
    setattr(import_module("typer.rich_utils"), "Table", HelpTable)  # noqa: B010 - no name of ours
    our_log(logging.DEBUG if debug else logging.WARNING)
    try:
        code = app(list(arguments), standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:  # a reader of the output went away, which is no verdict
        return end.code if end.code in (0, 130) else 2
    except Exception as error:
        if debug:
            traceback.print_exc()
        if pressed is not None and pressed.is_set():
            return 130
        return _told(error, arguments)
    return code if isinstance(code, int) else 0


def _told(error: Exception, arguments: Sequence[str]) -> int:
    """Say what went wrong in a sentence; the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is there already
        return 2
    if type(error).__name__ == "Abort":
        return 130
    with contextlib.suppress(OSError):
        note(f"panokit: {_sentence(error, arguments)}")
    if isinstance(error, BrokenPipeError) or getattr(error, "errno", None) == errno.ENOSPC:
        _drop_output()
    return 2


def _sentence(error: Exception, arguments: Sequence[str]) -> str:
    if isinstance(error, PanokitError):
        return str(error)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # wrong use of options
        context = getattr(error, "ctx", None)
        known = _installed()
        path = " ".join(["panokit", *[a for a in arguments[:1] if a in known]])
        if context is not None and len(context.command_path) > len(path):
            path = context.command_path
        return f"{str(error.format_message()).rstrip('.')}. Try: {path} --help"
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; use smaller input, or fewer at once"
    if isinstance(error, OSError):
        names = [os.fsdecode(n) for n in (error.filename, error.filename2) if n is not None]
        return ": ".join([*map(str, names), error.strerror or str(error) or type(error).__name__])
    reason = " ".join(str(error).split()) or "no reason is given"
    return (
        f"{type(error).__name__}: {reason[:MOST_REASON]}. This is a fault of the program; the same "
        "line with --debug shows where"
    )


def _drop_output() -> None:
    """What is still waiting for a reader that is gone, or for a full disk, is let go quietly."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
