"""One network through one format, judged against the module as given."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panokit.errors import PanokitError
from panokit.taxonomy import Taxonomy
from panokit_compression.recipes import Recipe, load_recipe
from panokit_converters.contract import check_contract
from panokit_converters.runners import real_heads
from panokit_lab.artifacts import Maker, artifact_runtime
from panokit_network.source import NetworkSource
from tests.networks.kinds import KINDS
from tests.networks.parts import CLASSES, SIDE, Net
from tests.toys.network import toy_photos

__all__ = ["FLOOR_DB", "Outcome", "convert_kind"]

FLOOR_DB = 60.0  # of the worst head, float32 against torch

_TAXONOMY = Taxonomy.from_json(
    {"name": "kinds", "categories": [{"id": i + 1, "name": f"c{i}"} for i in range(CLASSES)]}
)


@dataclass(frozen=True)
class Outcome:
    """``word`` is ok, unchecked, sentence (a clear refusal), wrong (other heads) or traceback;
    ``text`` says more."""

    word: str
    text: str = ""
    seconds: float = 0.0


def convert_kind(name: str, format: str, folder: Path) -> Outcome:
    """Make the float32 artifact of a kind as export does, run it on pictures and compare."""
    started = time.monotonic()
    word, text = _outcome(Net(KINDS[name]).eval(), format, folder)
    return Outcome(word, text, time.monotonic() - started)


def _outcome(module: nn.Module, format: str, folder: Path) -> tuple[str, str]:
    pictures = [p.rgb_hwc for p in toy_photos(2, (SIDE, SIDE)).values()]
    given = [_heads(module, picture) for picture in pictures]
    recipe: Recipe = load_recipe("float32")
    try:
        source = NetworkSource.from_module(module, _TAXONOMY)
        network = source.with_folded()
        contract = check_contract(network.module, (SIDE, SIDE), CLASSES)
        made = Maker.of(network, contract, "kinds", folder).make(format, recipe)
        runtime = artifact_runtime(made.path, made.artifact)
        found = [real_heads(runtime.run(picture), made.artifact) for picture in pictures]
    except PanokitError as error:
        return "sentence", str(error)
    except Exception as error:  # what the matrix is there to find
        return "traceback", f"{type(error).__name__}: {error}"
    worst = min(_decibels([g[k] for g in given], [f[k] for f in found]) for k in given[0])
    return ("ok" if worst >= FLOOR_DB else "wrong"), f"{worst:.0f} dB"


def _heads(module: nn.Module, picture: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        heads = module(image)
    return {name: value[0].permute(1, 2, 0).numpy() for name, value in heads.items()}


def _decibels(given: list[NDArray[np.float32]], found: list[NDArray[np.float32]]) -> float:
    a, b = np.stack(given).astype(np.float64), np.stack(found).astype(np.float64)
    noise = float(((a - b) ** 2).sum())
    return 200.0 if noise == 0 else float(10 * np.log10((a**2).sum() / noise))
