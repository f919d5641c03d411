"""Which layer of the user's module a converter stops at, and a sentence about it.

A converter's own message is about its inner language. Each operator of the module is converted
alone until one fails, those first that the message seems to be about; torch.export knows the layer
that every operator came from.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from panokit._quiet import quiet
from panokit.errors import ExportError, PanokitError
from panokit_converters.contract import TupleHeads
from panokit_converters.interface import HEADS
from panokit_converters.program.capture import (
    OperatorCall,
    capture,
    operator_name,
    operators_of,
)

__all__ = ["Place", "Probe", "explained"]

log = logging.getLogger(__name__)

Probe = Callable[[nn.Module, tuple[Tensor, ...]], object]
"""Converts a small module of tensors, as the converter does; raises what the converter raises."""

SEARCH_SECONDS = 60.0  # for one refusal
_BY_LINE = 4  # of interest, if the message names the line of the user's file
_BY_NAME = 2  # if it names the operator
_SCRIPT = "torch.jit.script"
_FOREIGN = re.compile(
    r"mhlo|stablehlo|tfl\.|dense<|tensor<|memref|%\w+|site-packages|\.py\b|::|\n|https?:|\x1b|0x"
)


@dataclass(frozen=True)
class Place:
    """An operator of torch and the layer that calls it; an empty path is the module itself."""

    operator: str
    path: str = ""
    kind: str = ""

    def __str__(self) -> str:
        where = f"the layer {self.path!r} ({self.kind})" if self.path else "the module itself"
        return f"the operator {self.operator!r} of {where}"


@contextmanager
def explained(
    format: str,
    tool: str,
    module: nn.Module,
    size_wh: tuple[int, int],
    probe: Probe,
    heads: Sequence[str] = HEADS,
) -> Iterator[None]:
    """Whatever a converter raises in the block becomes an ``ExportError`` that names the layer."""
    try:
        yield
    except PanokitError:
        raise
    except Exception as error:
        # Converters are large: any kind of exception comes out of them.
        sentence = _sentence(tool, error, _place(module, size_wh, probe, error, heads))
        raise ExportError(format, sentence) from error


def _sentence(tool: str, error: Exception, place: Place | None) -> str:
    said = _reason(error)
    if place is not None and place.operator == _SCRIPT:
        return (
            f"{tool} cannot look into the layer {place.path!r} ({place.kind}), which torch.jit "
            "scripted; give the module as it was before scripting"
        )
    do = (
        "write it with other operators, or leave this format out (--formats); "
        "--debug shows what the tool said"
    )
    if place is None:
        return f"{tool} cannot convert the module{said}; {do}"
    return f"{tool} cannot convert {place}{said}; {do}"


def _reason(error: Exception) -> str:
    """The tool's own words, where they are words."""
    text = str(error).strip().partition("\n")[0].rstrip(".")
    if "not implemented" in text or "Lowering not found" in text:
        return ": it has no form of it"
    return f": {text}" if 0 < len(text) <= 160 and not _FOREIGN.search(text) else ""


def _place(
    module: nn.Module,
    size_wh: tuple[int, int],
    probe: Probe,
    error: Exception,
    heads: Sequence[str],
) -> Place | None:
    for path, layer in module.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            return Place(_SCRIPT, path, str(layer.original_name))
    with quiet(log):
        try:
            program = capture(module, size_wh, heads)
        except Exception:  # the module cannot even be listed
            return _stopped_at(module, size_wh, heads)
        flat = program.module(check_guards=False)
        ranked = _ranked(flat, str(error))
        found = _first_that_fails(flat, ranked, probe)
        if found is None and ranked and _interest(ranked[0], str(error)) >= _BY_NAME:
            found = ranked[0]  # what fails is what the compiler makes of several
    return None if found is None else _described(found)


def _ranked(flat: fx.GraphModule, said: str) -> list[fx.Node]:
    """The operators, one of each kind, those first that the message may be about."""
    kinds: dict[str, fx.Node] = {}
    for node in operators_of(flat.graph):
        shapes = [getattr(s.meta.get("val"), "shape", ()) for s in node.all_input_nodes]
        plain = [a for a in (*node.args, *node.kwargs.values()) if not isinstance(a, fx.Node)]
        kinds.setdefault(f"{node.target}{list(map(tuple, shapes))}{plain}", node)
    return sorted(kinds.values(), key=lambda node: -_interest(node, said))


def _interest(node: fx.Node, said: str) -> int:
    """How much of a message names the operator: by the line of the user's file, by its name."""
    trace = str(node.meta.get("stack_trace", ""))
    lines = [
        f'File "{file}", line {line},'
        for file, line in re.findall(r"([^\s\"']+\.py)(?::|\", line )(\d+)", said)
        if "site-packages" not in file  # one line there serves many layers
    ]
    words = set(re.findall(r"[a-z][a-z0-9]{3,}", operator_name(node)))
    name, text = operator_name(node).strip("_"), said.lower()
    named = re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text) is not None
    return (
        _BY_LINE * any(line in trace for line in lines)
        + _BY_NAME * named
        + any(w in text for w in words)
    )


def _first_that_fails(flat: fx.GraphModule, ranked: list[fx.Node], probe: Probe) -> fx.Node | None:
    end = time.monotonic() + SEARCH_SECONDS
    for node in ranked:
        call = OperatorCall(flat, node)
        if not call.examples:
            continue  # a constant
        if time.monotonic() > end:
            return None
        try:
            probe(call, call.examples)
        except Exception as error:  # that is what is looked for
            log.debug("%s alone: %s", node, error)
            return node
    return None


def _described(node: fx.Node) -> Place:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return Place(operator_name(node), *_named(path, kind))


def _named(path: str, kind: Any) -> tuple[str, str]:
    """The path in the user's own module, and the name of the class."""
    path = re.sub(r"@\d+", "", path)
    path = path.removeprefix("module").removeprefix(".")
    return path, str(kind).rpartition(".")[2]


class _Last(TorchFunctionMode):
    """Remembers the call of torch that failed, or the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.failed = "?", False

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not self.failed:
            self.name = getattr(function, "__name__", str(function)).strip("_")
        try:
            return function(*args, **(kwargs or {}))
        except Exception:
            self.failed = True
            raise


def _stopped_at(module: nn.Module, size_wh: tuple[int, int], heads: Sequence[str]) -> Place | None:
    """Where torch.export itself stops: the layer that was running, and its last call."""
    entered: list[tuple[str, str]] = []
    hooks = []

    def enter(name: str, layer: nn.Module) -> Callable[..., None]:
        return lambda *_: entered.append((name, type(layer).__name__))

    def leave(*_: object) -> None:
        entered.pop()

    last = _Last()
    try:
        for name, layer in module.named_modules():
            hooks.append(layer.register_forward_pre_hook(enter(name, layer)))
            hooks.append(layer.register_forward_hook(leave))
        width, height = size_wh
        with last:
            torch.export.export(
                TupleHeads(module, heads).eval(), (torch.zeros(1, 3, height, width),), strict=False
            )
    except Exception:  # the same again
        path, kind = entered[-1] if entered else ("", type(module).__name__)
        return Place(last.name, path, kind)
    finally:
        for hook in hooks:
            hook.remove()
    return None
