"""The module as given first, and what it can be made into where a converter cannot take it so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import fx, nn

from panokit_converters.contract import NamedHeads
from panokit_converters.interface import HEADS
from panokit_converters.program.capture import (
    Wanted,
    capture,
    flat_module,
    operator_name,
    operators_of,
)
from panokit_converters.program.rewrites import REWRITES

__all__ = ["argument", "asks_for_places", "first_that_works", "has_rewrite", "resizes_unevenly"]

log = logging.getLogger(__name__)

T = TypeVar("T")


def has_rewrite(node: fx.Node) -> bool:
    """Whether there is a rewrite of an operator."""
    return str(node.target) in REWRITES


def resizes_unevenly(node: fx.Node) -> bool:
    """Whether it is a nearest-neighbour resize by no whole number, which runtimes round otherwise
    than torch."""
    if operator_name(node) != "upsample_nearest2d":
        return False
    source: Any = node.args[0]
    before, after = source.meta["val"].shape[2:], node.meta["val"].shape[2:]
    return any(new % old for old, new in zip(before, after, strict=True))


def asks_for_places(node: fx.Node) -> bool:
    """Whether it is a pool whose indices are used, which converters count in their own way."""
    return operator_name(node) == "max_pool2d_with_indices" and any(
        user.args[1] == 1 and user.users for user in node.users
    )


def argument(node: fx.Node, index: int, default: list[int]) -> list[int]:
    """A list of numbers that an operator is given, or the default."""
    value: Any = node.args[index] if len(node.args) > index else default
    return [value] if isinstance(value, int) else list(value)


def first_that_works(
    module: nn.Module,
    size_wh: tuple[int, int],
    wanted: Wanted,
    convert: Callable[[nn.Module], T],
    heads: Sequence[str] = HEADS,
) -> T:
    """What ``convert`` makes of the first version of ``module`` that it takes.

    Versions, each of which returns named ``heads``: the module as it is, unless it has operators
    that are ``wanted`` rewritten; with these rewritten; with all rewritten that can be. If none
    works, the first error is raised.
    """
    first: Exception | None = None
    for version in _versions(module, size_wh, wanted, heads):
        try:
            return convert(version)
        except Exception as error:  # converters raise all kinds
            log.debug("another version is tried: %s: %s", type(error).__name__, error)
            first = first or error
    assert first is not None
    raise first


def _versions(
    module: nn.Module, size_wh: tuple[int, int], wanted: Wanted, heads: Sequence[str]
) -> Iterator[nn.Module]:
    try:
        program = capture(module, size_wh, heads)
    except Exception as error:  # the user's code is run, which may raise anything
        log.debug("the module cannot be listed: %s: %s", type(error).__name__, error)
        yield module
        return
    if not any(wanted(node) for node in operators_of(program.graph)):
        yield module
    yield NamedHeads(flat_module(program, wanted), heads)
    yield NamedHeads(flat_module(program, lambda node: wanted(node) or has_rewrite(node)), heads)
