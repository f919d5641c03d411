"""Options that the commands of this package share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panokit.cli.options import INPUT

__all__ = ["ModuleOption", "SizeOption", "TaxonomyOption"]

ModuleOption = Annotated[
    str,
    typer.Option(
        "--module", help="A network of your own: package.module:function.", rich_help_panel=INPUT
    ),
]
TaxonomyOption = Annotated[
    Path | None,
    typer.Option("--taxonomy", help="Taxonomy JSON of --module.", rich_help_panel=INPUT),
]
SizeOption = Annotated[
    str,
    typer.Option(
        "--size",
        help="Input in pixels: a side, or WIDTHxHEIGHT (256x192); multiples of 32.",
        rich_help_panel=INPUT,
    ),
]
