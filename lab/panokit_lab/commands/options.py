"""Options that the commands of this package share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ModuleOption", "SizeOption", "TaxonomyOption"]

ModuleOption = Annotated[
    str, typer.Option("--module", help="A network of your own: package.module:function.")
]
TaxonomyOption = Annotated[
    Path | None, typer.Option("--taxonomy", help="Taxonomy JSON of --module.")
]
SizeOption = Annotated[int, typer.Option("--size", help="Side of the input, a multiple of 32.")]
