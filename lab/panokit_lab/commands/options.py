"""Options that the commands of this package share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit.cli.options import DO, INPUT
from panokit.decoding import DecodingSettings
from panokit.errors import UsageError
from panokit.families import FAMILIES
from panokit_converters.adapt import KnownOfModule

__all__ = [
    "NOTHING_KNOWN",
    "ContractOption",
    "DecodingOption",
    "FitOption",
    "MapOption",
    "MeanOption",
    "ModuleOption",
    "SizeOption",
    "StdOption",
    "TaxonomyOption",
    "describes_module",
    "input_changes",
    "known_of",
    "named_heads",
    "read_decoding",
]

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
        help="Input in pixels: a side, or WIDTHxHEIGHT (256x192); of our networks multiples of 32.",
        rich_help_panel=INPUT,
    ),
]
ContractOption = Annotated[
    str,
    typer.Option(
        "--contract",
        help=f"What the network is: {', '.join(FAMILIES)}. Default: guessed from its outputs.",
        rich_help_panel=INPUT,
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", help="HEAD=OUTPUT; once for each.", rich_help_panel=INPUT),
]
MeanOption = Annotated[
    str,
    typer.Option("--mean", help="Taken off each channel, 0..255: R,G,B.", rich_help_panel=INPUT),
]
StdOption = Annotated[
    str,
    typer.Option("--std", help="Divides each channel after it: R,G,B.", rich_help_panel=INPUT),
]
FitOption = Annotated[
    str,
    typer.Option(
        "--fit",
        help="Where the photo lies in the input: letterbox, top-left or stretch.",
        rich_help_panel=INPUT,
    ),
]
DecodingOption = Annotated[
    Path | None,
    typer.Option(
        "--decoding",
        help="JSON of decoding settings instead of the network's or family's.",
        rich_help_panel=DO,
    ),
]


def input_changes(mean: str, std: str, fit: str) -> dict[str, Any]:
    """What of a family's input is to be otherwise; ``UsageError`` names an option that cannot be
    read."""
    changes: dict[str, Any] = {}
    for name, text in (("mean", mean), ("std", std)):
        if text:
            changes[name] = _triple(name, text)
    return changes | ({"fit": fit} if fit else {})


def _triple(name: str, text: str) -> tuple[float, float, float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise UsageError(f"--{name} is {text!r}; expected one number or three with commas.")
    return numbers[0], numbers[1], numbers[2]


def named_heads(given: Sequence[str] | None) -> dict[str, str]:
    """Tensors by head, of ``--map``."""
    pairs: dict[str, str] = {}
    for text in given or ():
        head, equals, tensor = text.partition("=")
        if not equals or not head or not tensor:
            raise UsageError(
                f"--map is {text!r}; expected HEAD=TENSOR, such as semantic=Identity_2."
            )
        pairs[head] = tensor
    return pairs


NOTHING_KNOWN = KnownOfModule()


def describes_module(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options of :func:`known_of` in place of its parameter ``known``."""
    own = inspect.signature(command, eval_str=True).parameters
    told = inspect.signature(known_of, eval_str=True).parameters
    parameters = []
    for name, parameter in own.items():
        added = [p for n, p in told.items() if n not in own] if name == "known" else [parameter]
        parameters += added

    def with_known(**given: Any) -> None:
        known = known_of(**{name: given[name] for name in told})
        command(known=known, **{name: given[name] for name in own if name != "known"})

    found = functools.update_wrapper(with_known, command)
    found.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    found.__annotations__ = {p.name: p.annotation for p in parameters}
    return found


def known_of(
    module: ModuleOption = "",
    contract: ContractOption = "",
    map: MapOption = None,
    mean: MeanOption = "",
    std: StdOption = "",
    fit: FitOption = "",
    decoding: DecodingOption = None,
) -> KnownOfModule:
    """What these options say of ``--module``; of a weight file of ours, its decoding alone."""
    if not module and (contract or map or mean or std or fit):
        raise UsageError("--contract, --map, --mean, --std and --fit describe a --module.")
    return KnownOfModule(
        contract or None, named_heads(map), read_decoding(decoding), input_changes(mean, std, fit)
    )


def read_decoding(path: Path | None) -> DecodingSettings | None:
    """The settings of a file, of whatever contract it names."""
    return DecodingSettings.load(path) if path else None
