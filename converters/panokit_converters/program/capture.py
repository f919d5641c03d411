"""A torch module as a plain list of operators for one image of a fixed size.

torch.export runs the module once: loops, branches and sizes become constants, and every operator
knows the layer it came from. Operators that a converter has no form of are rewritten, exactly, into
ones that it has; what depends on weights alone is computed at once.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._functorch import config as functorch_config
from torch.fx.experimental.proxy_tensor import make_fx

from panokit._quiet import hushed, quiet
from panokit_converters.contract import TupleHeads
from panokit_converters.interface import HEADS
from panokit_converters.program.rewrites import REWRITES

__all__ = [
    "OperatorCall",
    "Wanted",
    "capture",
    "export_program",
    "flat_module",
    "operator_name",
    "operators_of",
]

log = logging.getLogger(__name__)

Wanted = Callable[[fx.Node], bool]
"""Whether a converter wants an operator rewritten."""

_ROUNDS = 4  # a rewrite may bring operators that are rewritten as well


def capture(module: nn.Module, size_wh: tuple[int, int], heads: Sequence[str] = HEADS) -> Any:
    """The ``torch.export.ExportedProgram`` of a module in eval mode that returns named ``heads``;
    they come in this order. Raises what torch raises."""
    width, height = size_wh
    return export_program(TupleHeads(module, heads).eval(), (torch.zeros(1, 3, height, width),))


def export_program(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """``module`` for inputs of these shapes.

    Where the module asks a tensor whether it is true (EoMT does: whether its masks are annealed),
    what weights and buffers answer becomes part of the program. Where the image answers, torch's
    error stays: no file of one program can hold that.
    """
    with quiet(log), torch.no_grad():
        try:
            return torch.export.export(module, inputs, strict=False)
        except Exception as error:
            if "data-dependent" not in str(error):
                raise
            log.debug("answers of weights are taken as they are: %s", error)
            return _decided_by_weights(module, inputs, error)


def _decided_by_weights(
    module: nn.Module, inputs: tuple[Tensor, ...], error: Exception
) -> torch.export.ExportedProgram:
    """The program of the way that the module takes, if no input has a say in that."""
    with hushed(logging.getLogger("torch"), logging.CRITICAL), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Tensors carry their values along, and whoever asks for one is answered.
        with functorch_config.patch(fake_tensor_propagate_real_tensors=True):
            program = torch.export.export(module, inputs, strict=False)
    pixels = set(program.graph_signature.user_inputs)
    waiting = [n for n in program.graph.nodes if operator_name(n) in _ASKED]
    seen: set[fx.Node] = set()
    if not waiting:  # it cannot be told who was asked
        raise error
    while waiting:
        node = waiting.pop()
        if node.name in pixels:
            raise error
        if node not in seen:
            seen.add(node)
            waiting += node.all_input_nodes
    return program


_ASKED = {"_local_scalar_dense", "item", "is_nonzero"}


def flat_module(program: Any, wanted: Wanted) -> fx.GraphModule:
    """The program as one flat module whose operators are pure functions, those that are ``wanted``
    rewritten, and what depends on weights alone folded into constants."""
    with quiet(log), torch.no_grad():
        module = program.run_decompositions({}).module(check_guards=False)
        _clean(module)
        for _ in range(_ROUNDS):
            _fold(module)
            found = [node for node in operators_of(module.graph) if wanted(node)]
            rewritten = [_rewrite(module, node) for node in found]
            if not any(rewritten):
                break
        _fold(module)
    # What torch.export makes refuses train() and eval(), which converters call.
    return fx.GraphModule(module, module.graph)


def _rewrite(module: fx.GraphModule, node: fx.Node) -> bool:
    """Put what a rewrite (ours first, then torch's own) makes of ``node`` in its place."""
    call = OperatorCall(module, node)
    target: Any = node.target
    table: dict[Any, Any] | None = None
    if str(target) in REWRITES:
        call.function = REWRITES[str(target)]
    else:
        defaults = torch.export.default_decompositions()
        if target not in defaults:
            return False
        table = {target: defaults[target]}
    # Far faster than an export; it keeps the same operators with pre_dispatch.
    try:
        body = make_fx(
            call, table, tracing_mode="fake", pre_dispatch=not table, _allow_non_fake_inputs=True
        )(*call.examples)
    except NotImplementedError:
        return False  # the rewrite has no form of these operands
    _clean(body)
    _fold(body)  # a rewrite may use the operator itself on constants
    if any(inner.target is target for inner in body.graph.nodes):
        return False
    _inline(module, node, call.tensors, body)
    return True


class OperatorCall(nn.Module):
    """One operator of a flat module as a module of its own, with its weights inside.

    ``tensors`` are the nodes that it takes, ``examples`` zeros of their shapes.
    """

    def __init__(self, module: fx.GraphModule, node: fx.Node) -> None:
        super().__init__()
        self.function: Any = node.target
        self.constants: dict[fx.Node, str] = {}
        self.tensors: list[fx.Node] = []
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                self.constants[source] = f"constant_{len(self.constants)}"
                value = _attribute(module, str(source.target)).detach()
                self.register_buffer(self.constants[source], value)
            else:
                self.tensors.append(source)
        self._args, self._kwargs = node.args, node.kwargs
        shown = [source.meta["val"] for source in self.tensors]
        self.examples = tuple(torch.zeros(tuple(v.shape), dtype=v.dtype) for v in shown)

    def forward(self, *tensors: Tensor) -> Any:
        given: dict[fx.Node, Any] = dict(zip(self.tensors, tensors, strict=True))
        given |= {node: self.get_buffer(name) for node, name in self.constants.items()}
        args = fx.node.map_arg(self._args, given.__getitem__)
        kwargs = fx.node.map_arg(self._kwargs, given.__getitem__)
        return self.function(*args, **kwargs)


def _inline(
    module: fx.GraphModule, node: fx.Node, sources: list[fx.Node], body: fx.GraphModule
) -> None:
    """Copy the operators of ``body`` before ``node``, and let them take its place."""
    places: dict[fx.Node, Any] = {}
    given = iter(sources)
    with module.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                places[inner] = next(given)
            elif inner.op == "output":
                result = fx.node.map_arg(inner.args[0], places.__getitem__)
            elif inner.op == "get_attr":
                name = f"made_{len(list(module.buffers()))}_{node.name}"
                module.register_buffer(name, _attribute(body, str(inner.target)))
                places[inner] = module.graph.get_attr(name)
                places[inner].meta = dict(inner.meta)
            else:
                places[inner] = module.graph.node_copy(inner, places.__getitem__)
            if inner in places and inner.op != "placeholder":
                places[inner].meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
    _replace(module.graph, node, result)


def _replace(graph: fx.Graph, node: fx.Node, result: Any) -> None:
    single = isinstance(node.meta.get("val"), Tensor)
    if single:
        node.replace_all_uses_with(result[0] if isinstance(result, tuple | list) else result)
    else:
        for user in list(node.users):  # each takes one of several results
            user.replace_all_uses_with(result[user.args[1]])
            graph.erase_node(user)
    graph.erase_node(node)


def operators_of(graph: fx.Graph) -> list[fx.Node]:
    """The calls of torch's operators, but for assertions."""
    return [
        node for node in graph.nodes
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)
        and "_assert" not in str(node.target)
    ]  # fmt: skip


def operator_name(node: fx.Node) -> str:
    """``conv_transpose2d`` of ``aten.conv_transpose2d.input``."""
    parts = str(node.target).split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _clean(module: fx.GraphModule) -> None:
    """Without assertions and names for the same tensor, which compute nothing, and without copies
    of what broadcasts anyway. A view of what lies otherwise in memory needs a copy: a reshape."""
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        if "_assert" in str(node.target) and not node.users:
            module.graph.erase_node(node)
        elif str(node.target) in _SAME or (str(node.target) in _EXPANDS and _broadcasts(node)):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif str(node.target) in ("aten.view.default", "aten._unsafe_view.default"):
            node.target = torch.ops.aten.reshape.default
    module.graph.eliminate_dead_code()
    module.recompile()


_SAME = {f"aten.{name}.default" for name in ("alias", "detach", "clone", "lift_fresh_copy",
                                             "lift_fresh", "contiguous", "detach_")}  # fmt: skip
_EXPANDS = {"aten.expand.default", "aten.expand_as.default"}
_BROADCASTING = {"add", "sub", "mul", "div", "maximum", "minimum"}


def _broadcasts(node: fx.Node) -> bool:
    """Whether all that take an expanded tensor would expand it by themselves, to the same size."""
    source, shape = node.args[0], node.meta["val"].shape
    if not isinstance(source, fx.Node) or len(source.meta["val"].shape) != len(shape):
        return False
    return all(
        operator_name(user) in _BROADCASTING
        and any(
            other is not node and tuple(other.meta["val"].shape) == tuple(shape)
            for other in user.all_input_nodes
        )
        for user in node.users
    )


def _fold(module: fx.GraphModule) -> None:
    """What depends on constants alone is computed here, once."""
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = _attribute(module, str(node.target))
        elif (
            node.op == "call_function"
            and _is_pure(node)
            and all(source in values for source in node.all_input_nodes)
        ):
            args = fx.node.map_arg(node.args, values.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    for node, value in values.items():
        outside = any(user not in values for user in node.users)
        if node.op == "get_attr" or not outside or not isinstance(value, Tensor):
            continue
        name = f"folded_{node.name}"
        module.register_buffer(name, value.detach().clone().contiguous())
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


def _is_pure(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded not in tags


def _attribute(module: nn.Module, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found
