"""Kinds of networks through one format, each judged against the module as given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit.errors import PanokitError
from panokit.taxonomy import Taxonomy
from panokit_compression.recipes import load_recipe
from panokit_converters.contract import check_contract
from panokit_converters.runners import NotRunHereError, real_heads
from panokit_lab.artifacts import Maker, artifact_runtime
from panokit_network.source import NetworkSource
from tests.networks.kinds import KINDS
from tests.networks.parts import CLASSES, SIDE, Net
from tests.toys.network import toy_photos

__all__ = ["FLOOR_DB", "Outcome", "convert_kinds"]

FLOOR_DB = 60.0  # of the worst head, float32 against torch

Heads = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Outcome:
    """``word`` is ok, unchecked (made, and not run here), sentence (a clear refusal), wrong (other
    heads) or traceback; ``text`` says more."""

    word: str
    text: str = ""


def convert_kinds(names: Sequence[str], format: str, folder: Path) -> dict[str, Outcome]:
    """The float32 artifact of a network of these kinds, made as export makes it, run on pictures;
    what became of each kind."""
    module = Net({name: KINDS[name] for name in names}).eval()
    pictures = [photo.rgb_hwc for photo in toy_photos(2, (SIDE, SIDE)).values()]
    given = [_torch_heads(module, picture) for picture in pictures]
    try:
        found = _artifact_heads(module, len(names), format, folder, pictures)
    except NotRunHereError as error:
        return dict.fromkeys(names, Outcome("unchecked", str(error)))
    except PanokitError as error:
        return dict.fromkeys(names, Outcome("sentence", str(error)))
    except Exception as error:  # what the matrix is there to find
        return dict.fromkeys(names, Outcome("traceback", f"{type(error).__name__}: {error}"))
    rest = min(_decibels(given, found, head, slice(None)) for head in ("center", "offset"))
    outcomes = {}
    for index, name in enumerate(names):
        own = slice(index * CLASSES, (index + 1) * CLASSES)
        worst = min(_decibels(given, found, "semantic", own), rest)
        outcomes[name] = Outcome("ok" if worst >= FLOOR_DB else "wrong", f"{worst:.0f} dB")
    return outcomes


def _artifact_heads(
    module: nn.Module, parts: int, format: str, folder: Path, pictures: list[NDArray[np.uint8]]
) -> list[Heads]:
    classes = [{"id": i + 1, "name": f"c{i}"} for i in range(parts * CLASSES)]
    taxonomy = Taxonomy.from_json({"name": "kinds", "categories": classes})
    network = NetworkSource.from_module(module, taxonomy).with_folded()
    contract = check_contract(network.module, (SIDE, SIDE), len(classes))
    made = Maker.of(network, contract, "kinds", folder).make(format, load_recipe("float32"))
    runtime = artifact_runtime(made.path, made.artifact)
    return [real_heads(runtime.run(picture), made.artifact) for picture in pictures]


def _torch_heads(module: nn.Module, picture: NDArray[np.uint8]) -> Heads:
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        heads = module(image)
    return {name: value[0].permute(1, 2, 0).numpy() for name, value in heads.items()}


def _decibels(given: list[Heads], found: list[Heads], head: str, channels: slice) -> float:
    a = np.stack([heads[head][..., channels] for heads in given]).astype(np.float64)
    b = np.stack([heads[head][..., channels] for heads in found]).astype(np.float64)
    noise = float(((a - b) ** 2).sum())
    return 200.0 if noise == 0 else float(10 * np.log10((a**2).sum() / noise))
