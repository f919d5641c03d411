"""`panokit vectors`: golden vectors for ports, and golden tests for apps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panokit._files import write_json
from panokit.bundle import Bundle
from panokit.cli.console import Grid, note, show
from panokit.cli.options import (
    DO,
    INPUT,
    ArtifactOption,
    BundleOption,
    JsonOption,
    output_folder,
)
from panokit.decoding.settings import DEFAULT_CONTRACT
from panokit.vectors import (
    CONTRACTS,
    FRAMEWORKS,
    GoldenLimits,
    check_suite,
    write_golden_tests,
    write_suite,
)

__all__ = ["vectors"]

vectors = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Golden vectors: prove that a port of pre- and postprocessing is right.",
)


@vectors.command()
def write(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder for the vectors.",
            callback=output_folder,
        ),
    ],
    contract: Annotated[
        str,
        typer.Option(
            "--contract",
            help=f"Contract of the network's heads: {', '.join(CONTRACTS)}.",
            rich_help_panel=DO,
        ),
    ] = DEFAULT_CONTRACT,
    json: JsonOption = None,
) -> None:
    """Write the vectors: suite.json, and a safetensors file for every case.

    Example: panokit vectors write vectors
    """
    count = write_suite(folder, contract)
    note(f"{count} cases → {folder}")
    if json is not None:
        write_json(json, {"folder": str(folder), "cases": count})


@vectors.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder that `vectors write` wrote.")],
    results: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with the port's NAME.safetensors. Default: check Panokit itself."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Check what a port computed: the first stage that differs, case by case.

    Example: panokit vectors check vectors results

    Exit code 1: a case differs.
    """
    checks = check_suite(folder, results)
    wrong = [c for c in checks if not c.good]
    if wrong:
        table = Grid(("case", "first wrong stage", "how"), wraps=("how",))
        for c in wrong:
            table.add(c.name, c.stage, c.reason)
        show(table, error=True)
    note(f"{len(checks) - len(wrong)} of {len(checks)} cases agree")
    if json is not None:
        write_json(
            json,
            {
                "verdict": "fail" if wrong else "pass",
                "cases": [c.to_json() for c in checks],
            },
        )
    if wrong:
        raise typer.Exit(1)


@vectors.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder for the test target.")],
    framework: Annotated[
        str,
        typer.Option("--for", help=f"Test framework: {', '.join(FRAMEWORKS)}.", rich_help_panel=DO),
    ],
    photo: Annotated[
        list[Path] | None,
        typer.Option(
            "--photo",
            help="Photo to run here, also several times. Default: the bundle's own vectors.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    head_sqnr_db: Annotated[
        float | None,
        typer.Option(
            help="Least agreement of a head in dB. Default: 25 for int8, 35 for others.",
            rich_help_panel=DO,
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Write a test target with its data for an app: input, heads and map as they should be.

    Example: panokit vectors export PanokitGoldenTests --for xctest

    The app's team adds an adapter of three functions; the files say which.
    """
    opened = Bundle.open(bundle)
    limits = GoldenLimits(head_sqnr_db=head_sqnr_db)
    count = write_golden_tests(folder, framework, opened, artifact, photo or (), limits)
    note(f"{count} cases → {folder}")
    if json is not None:
        write_json(json, {"folder": str(folder), "framework": framework, "cases": count})
