"""The program: its name, its exit codes, and how it finds its commands.

Commands are plain functions (or a Typer group) that the entry-point group ``panokit.commands``
names; pyproject.toml holds the one table of ours. A command's module is loaded when it is called:
``panokit --help`` reads the first lines of help from the sources and loads none.
"""

from __future__ import annotations

import ast
import sys
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from panokit import __version__
from panokit.errors import MissingExtraError, PanokitError

__all__ = ["app", "main"]

GROUP = "panokit.commands"

# What a package's commands need beyond the thin SDK.
_EXTRA_OF_PACKAGE = {
    "panokit_network": "train",
    "panokit_compression": "export",
    "panokit_converters": "export",
    "panokit_lab": "export",
    "panokit_demo": "demo",
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
        return _load(entry) if help is None else _Command(entry, help)


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


def _load(entry: EntryPoint) -> Any:
    """The command behind an entry point; without its extra, one that says how to get it."""
    package = entry.value.partition(".")[0]
    extra = _EXTRA_OF_PACKAGE.get(package, package)
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
            help=f"(not installed: {missing.command})",
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
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and end."
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the program; every deliberate error becomes one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a Windows console may know no arrow: print "?"
            stream.reconfigure(errors="replace")
    try:
        app()
    except PanokitError as error:
        typer.echo(f"panokit: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
