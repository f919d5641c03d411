"""The program: its name, its exit codes, and how it finds its commands.

Commands are plain functions (or a Typer group) that the entry-point group ``panokit.commands``
names; pyproject.toml holds the one table of ours. A command's module is loaded when it is called.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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


class _Commands(TyperGroup):
    """A group of the installed entry points, each loaded when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(_installed())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = _installed().get(cmd_name)
        return None if entry is None else _load(entry)


def _installed() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=GROUP)}


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
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
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
