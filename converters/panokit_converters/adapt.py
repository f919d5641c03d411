"""A network of any kind as a module of a contract: bytes in, named heads out.

People's networks return tuples, dictionaries or objects, want their own range of values, and call
their heads what they like. :func:`adapt` runs one once, finds its heads by name or shape, and puts
a module around it that takes 0..255 RGB and returns the heads of its contract.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from panokit.decoding import DecodingSettings, InstancesConfig
from panokit.errors import ArgumentError
from panokit.families import FAMILIES, MODULES, Family
from panokit.preprocessing import PreprocessConfig
from panokit_converters.contract import run_module
from panokit_converters.guess import settle
from panokit_converters.interface import HEADS
from panokit_converters.model_file import FileTensor

__all__ = ["Adapted", "ContractModule", "KnownOfModule", "adapt"]

log = logging.getLogger(__name__)

_LABELS = (torch.int32, torch.int64)


@dataclass(frozen=True)
class KnownOfModule:
    """What a user says of a network: its ``family`` (of :data:`panokit.families.FAMILIES`), which
    output is which head (``heads``: names, or places in a tuple such as ``"0"``), ``decoding``
    settings other than the family's, and ``changes`` of its input (``mean``, ``std``, ``fit``,
    ``padding``, ``order``). What is left out is guessed, or the family's."""

    family: str | None = None
    heads: Mapping[str, str] = field(default_factory=dict)
    decoding: DecodingSettings | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.family is not None and self.family not in FAMILIES:
            raise ArgumentError.unknown("contract", self.family, FAMILIES)


@dataclass(frozen=True)
class Adapted:
    """A module of a contract. ``preprocessing`` is what its input is made by: values stay 0..255,
    for the scale is in the module. ``why`` says in a few words how the heads were found."""

    module: nn.Module
    decoding: DecodingSettings
    preprocessing: PreprocessConfig
    family: str
    why: str


class ContractModule(nn.Module):
    """``network`` with its input scaled and its outputs named.

    ``places`` lists for each head the path to its tensor in what the network returns and how it
    lies: ``"nchw"``, ``"nhwc"``, ``"rows"`` or ``"columns"``.
    """

    def __init__(
        self,
        network: nn.Module,
        places: Mapping[str, tuple[tuple[str | int, ...], str]],
        config: PreprocessConfig,
    ) -> None:
        super().__init__()
        self.network, self.places = network, dict(places)
        self.is_scaled, self.is_bgr = config.is_scaled, config.order == "bgr"
        if self.is_scaled:
            scale = 1 / torch.tensor(config.std)[:, None, None]
            self.register_buffer("input_scale", scale, persistent=False)
            shift = -torch.tensor(config.mean)[:, None, None] * scale
            self.register_buffer("input_shift", shift, persistent=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        if self.is_bgr:
            image = torch.cat([image[:, 2:], image[:, 1:2], image[:, :1]], 1)
        if self.is_scaled:
            image = image * self.get_buffer("input_scale") + self.get_buffer("input_shift")
        output = self.network(image)
        return {
            head: _laid_out(_at(output, path), layout)
            for head, (path, layout) in self.places.items()
        }


def adapt(module: nn.Module, size_wh: tuple[int, int], known: KnownOfModule) -> Adapted:
    """``module`` (eval mode) as one of a contract.

    A module that returns ``semantic``, ``center`` and ``offset`` by name is one already, and stays
    as it is. ``ArgumentError`` says what was found if it is none that is known.
    """
    family = known.family or MODULES.get(type(module).__name__)
    config = (FAMILIES[family] if family else _PLAIN).preprocessing(size_wh)
    output = _run(module, replace(config, **known.changes))
    tensors = _tensors(output)
    outputs = [_described(name, value) for name, (_, value) in tensors.items()]
    if all(len(t.shape) < 3 for t in outputs):
        raise ArgumentError("module", _nothing(output))
    named = {head: _whole_name(name, tensors) for head, name in known.heads.items()}
    guess = settle(outputs, size_wh, family, named, known.decoding)
    chosen = FAMILIES[guess.family]
    config = replace(chosen.preprocessing(size_wh), **known.changes)
    decoding = known.decoding or _settings(chosen)
    places = {
        head: (tensors[name][0], layout)
        for head, (name, layout) in guess.heads.items()
        if head in decoding.head_names()
    }
    as_it_is = all(path == (head,) for head, (path, _) in places.items())
    if tuple(places) == HEADS and as_it_is and not config.is_scaled and config.order == "rgb":
        return Adapted(module, decoding, config, guess.family, guess.why)
    why = guess.why
    if known.family is None and family:
        why = f"it is a {type(module).__name__}"
    wrapped = ContractModule(module, places, config).eval()
    plain = replace(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), order="rgb")
    return Adapted(wrapped, decoding, plain, guess.family, why)


_PLAIN = Family(FAMILIES["center-offset"].decoding)


def _settings(family: Family) -> DecodingSettings:
    """The family's settings as the module's tensors lie: anchors come first from here on."""
    settings = family.decoding
    if isinstance(settings, InstancesConfig):
        return replace(settings, anchors_last=False)
    return settings


def _run(module: nn.Module, config: PreprocessConfig) -> Any:
    """What the module returns for a grey picture of its own range."""
    width, height = config.size_wh
    grey = (127.0 - torch.tensor(config.mean)) / torch.tensor(config.std)
    return run_module(module, grey[None, :, None, None].expand(1, 3, height, width).contiguous())


def _tensors(output: Any) -> dict[str, tuple[tuple[str | int, ...], Tensor]]:
    """Every tensor in what a module returned, with the path to it; by the last name of the path
    where that is its alone, else by the whole."""
    found: list[tuple[tuple[str | int, ...], Tensor]] = []
    _walk(output, (), found)
    last = [str(path[-1]) if path else "output" for path, _ in found]
    names = [
        name if last.count(name) == 1 else ".".join(map(str, path))
        for name, (path, _) in zip(last, found, strict=True)
    ]
    return dict(zip(names, found, strict=True))


def _walk(
    value: Any, path: tuple[str | int, ...], found: list[tuple[tuple[str | int, ...], Tensor]]
) -> None:
    if isinstance(value, Tensor):
        if value.ndim in (2, 3, 4) and value.shape[0] == 1:
            found.append((path, value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _walk(inner, (*path, str(key)), found)
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            _walk(getattr(value, part.name), (*path, part.name), found)
    elif isinstance(value, list | tuple):
        names: Sequence[str | int] = getattr(value, "_fields", range(len(value)))
        for name, inner in zip(names, value, strict=True):
            _walk(inner, (*path, name), found)


def _at(output: Any, path: tuple[str | int, ...]) -> Tensor:
    for part in path:
        if isinstance(part, int) or isinstance(output, Mapping):
            output = output[part]
        else:
            output = getattr(output, part)
    return output  # type: ignore[no-any-return]


def _laid_out(head: Tensor, layout: str) -> Tensor:
    """Pictures channels first, one row for each anchor or query, labels as int32."""
    if layout == "nhwc":
        head = head.permute(0, 3, 1, 2)
    elif layout == "columns":
        head = head.transpose(1, 2)
    return head.to(torch.int32) if head.dtype in _LABELS else head.float()


def _described(name: str, value: Tensor) -> FileTensor:
    dtype = "int64" if value.dtype in _LABELS else "float32"
    return FileTensor(name, tuple(value.shape), dtype)


def _whole_name(given: str, tensors: Mapping[str, tuple[tuple[str | int, ...], Tensor]]) -> str:
    """The tensor that a user names by its name or by its whole path."""
    for name, (path, _) in tensors.items():
        if given == ".".join(map(str, path)):
            return name
    return given


def _nothing(output: Any) -> str:
    """Why what a module returned holds no heads."""
    inner = output[0] if isinstance(output, list | tuple) and output else output
    if isinstance(inner, Mapping) and {"boxes", "labels", "scores"} <= set(inner):
        return (
            "the module returns finished detections, as many as it finds: no file of a fixed size "
            "holds that (Mask R-CNN pastes its masks in a loop). Export its backbone and heads "
            "alone, or a network that gives prototypes and coefficients, such as YOLO-seg"
        )
    return (
        f"the module returns a {type(output).__name__} without tensors [1,C,h,w] or [1,n,k] for "
        "one image; expected those of its heads"
    )
