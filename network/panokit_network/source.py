"""What is compressed: a network of the head contract, ours or a user's own, and what is known
about it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from panokit._files import replacing
from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_network.deploy import fuse
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.modules import (
    fold_batch_norms,
    import_network,
    load_state,
    save_state,
    steps_done,
)
from panokit_network.weights import load_weights, save_weights
from panokit_network.widths import record_widths

__all__ = ["Subject"]

LICENCE = "not stated"


@dataclass(frozen=True)
class Subject:
    """A network and what goes with it.

    ``module`` keeps the head contract and is in eval mode. ``config`` and ``training`` are of our
    own network (None and empty for a user's module). ``folded``: its batch norms are in its
    convolutions. ``steps_done``: kinds of network steps it has been through.
    """

    name: str
    module: nn.Module
    taxonomy: Taxonomy
    licence: str = LICENCE
    postprocessing: PostprocessConfig = field(default_factory=PostprocessConfig)
    config: NetworkConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)
    folded: bool = False
    steps_done: tuple[str, ...] = ()

    @classmethod
    def from_weights(cls, path: str | Path) -> Subject:
        """The network of one of our weight files."""
        network, info = load_weights(path)
        return cls(
            name=Path(path).stem,
            module=network,
            taxonomy=info.taxonomy,
            licence=info.licence,
            postprocessing=info.postprocessing,
            config=info.network,
            training=info.training,
            folded=not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()),
            steps_done=tuple(info.training.get("steps_done", ())),
        )

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        taxonomy: Taxonomy,
        name: str = "module",
        licence: str = LICENCE,
        postprocessing: PostprocessConfig | None = None,
    ) -> Subject:
        """A user's own module of the head contract; see ``docs/compression.md``."""
        if not isinstance(module, nn.Module):
            raise ArgumentError("module", "a torch.nn.Module", type(module).__name__)
        config = postprocessing or PostprocessConfig()
        return cls(name, module.eval(), taxonomy, licence, config)

    @classmethod
    def from_import(cls, where: str, weights: Path | None, taxonomy: Taxonomy) -> Subject:
        """What ``package.module:function`` returns, a module; with ``weights`` (safetensors)
        loaded into it. Modules of the current folder are found."""
        subject = cls.from_module(import_network(where), taxonomy, name=where.partition(":")[2])
        if weights is None:
            return subject
        return replace(
            subject,
            module=load_state(weights, subject.module),
            steps_done=steps_done(weights),
        )

    def checked(self) -> Subject:
        """Itself, if all weights are finite; ``ArgumentError`` names those that are not."""
        bad = [n for n, v in self.module.state_dict().items()
               if v.is_floating_point() and not torch.isfinite(v).all()]  # fmt: skip
        if bad:
            raise ArgumentError("weights", "finite numbers", f"NaN or infinity in {bad[:3]}")
        return self

    def with_folded(self) -> Subject:
        """The same network with batch norms (and our normalisation) folded into convolutions."""
        if isinstance(self.module, PanopticNetwork):
            return replace(self, module=fuse(self.module), folded=True)
        return replace(self, module=fold_batch_norms(self.module), folded=True)

    def digest(self) -> str:
        """SHA-256 of all weights and their names."""
        digest = hashlib.sha256()
        for name, value in self.module.state_dict().items():
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the network; our own can be read wherever a weight file can."""
        if self.config is None:
            save_state(path, self.module, self.folded, self.steps_done)
            return
        training = {**self.training, "steps_done": list(self.steps_done)}
        with replacing(path) as partial:
            save_weights(partial, self.module.state_dict(), self.config, self.taxonomy, training,
                         self.licence, record_widths(self.module), self.folded)  # fmt: skip
