"""The one way to open a network: a weight file of ours, or a torch module of a user's own.

A user's module is found by the name of the function that builds it. Its file records the channels
of every layer, whether batch norms are folded in and which network steps it has been through, so
that a freshly made module takes all of that on.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from panokit._files import write_bytes
from panokit._safetensors import in_order
from panokit.bundle import hash_path
from panokit.decoding import DecodingSettings, PostprocessConfig
from panokit.errors import ArgumentError, DataError
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy
from panokit_network.checkpoint import Checkpoint, read_checkpoint
from panokit_network.deploy import fold_batch_norms, fuse
from panokit_network.fitting import Fit, fit_names
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.plain import plain_module
from panokit_network.weights import load_weights, save_weights
from panokit_network.widths import apply_widths, record_widths

__all__ = ["NetworkSource", "import_network", "load_state", "save_state", "steps_done"]

LICENCE = "not stated"
MODULE_FORMAT = "panokit-module/1"
WRAPPED = "network."
"""What names of weights begin with in files of a network that was put into another, which scales
its input and names its heads."""

# What people call the folders beside their code, and some packages install by mistake.
_NAMES_OF_MANY = frozenset({"examples", "model", "models", "scripts", "test", "tests", "utils"})


@dataclass(frozen=True)
class NetworkSource:
    """A network to compress, export or run, and what is known about it.

    ``module`` is in eval mode; it is the module as it was given, batch norms included.
    ``postprocessing`` says which contract it keeps and how its heads are decoded, and
    ``preprocessing`` how its input is made (its size is the exporter's to say).
    ``weights_sha256`` is the hash of the file that its weights come from (empty
    without a file). ``steps_done`` are the kinds of network steps (prune, finetune, …) that it has
    been through. ``config`` and ``training`` are of our own network (None and empty for a user's
    module). ``folded``: what can be folded of its batch norms is in its convolutions. ``remarks``
    are sentences about how its weights were found in their file.
    """

    name: str
    module: nn.Module
    taxonomy: Taxonomy
    licence: str = LICENCE
    postprocessing: DecodingSettings = field(default_factory=PostprocessConfig)
    preprocessing: PreprocessConfig = field(default_factory=PreprocessConfig)
    weights_sha256: str = ""
    steps_done: tuple[str, ...] = ()
    config: NetworkConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)
    folded: bool = False
    remarks: tuple[str, ...] = ()

    @classmethod
    def from_weights(cls, path: str | Path) -> NetworkSource:
        """The network of one of our weight files; ``DataError`` says what is wrong with it."""
        network, info = load_weights(path)
        return cls(
            name=Path(path).stem,
            module=network,
            taxonomy=info.taxonomy,
            licence=info.licence,
            postprocessing=info.postprocessing,
            weights_sha256=hash_path(Path(path)),
            steps_done=tuple(info.training.get("steps_done", ())),
            config=info.network,
            training=info.training,
            folded=not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()),
        )

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        taxonomy: Taxonomy,
        name: str = "module",
        licence: str = LICENCE,
        postprocessing: DecodingSettings | None = None,
        *,
        folded: bool = False,
    ) -> NetworkSource:
        """A user's own module of the head contract; see ``docs/compression.md``.

        Wrappers are taken off (``DataParallel``, ``torch.compile``), and weights that are computed
        on the way (weight norm, spectral norm, parametrizations) become plain numbers, in a copy.
        ``folded`` says that there is nothing to fold, or that batch norms are to stay as they are:
        :meth:`with_folded` then leaves the module alone.
        """
        if not isinstance(module, nn.Module):
            raise ArgumentError(
                "module", f"module is a {type(module).__name__}; expected a torch.nn.Module"
            )
        config = postprocessing or PostprocessConfig()
        return cls(name, plain_module(module), taxonomy, licence, config, folded=folded)

    @classmethod
    def from_import(cls, where: str, weights: Path | None, taxonomy: Taxonomy) -> NetworkSource:
        """What ``package.module:function`` returns, a module, with ``weights`` loaded into it: a
        safetensors file or a torch checkpoint, as training loops leave them. Those of
        `panokit compress run` bring pruned widths along. Modules of the current folder are found.
        """
        module, name = import_network(where), where.partition(":")[2]
        if weights is None:
            return cls.from_module(module, taxonomy, name)
        stored = _StoredModule.read(weights)
        loaded, remarks = stored.load_into(module)
        return replace(
            cls.from_module(loaded, taxonomy, name),
            weights_sha256=hash_path(weights),
            steps_done=stored.steps_done,
            folded=stored.folded,
            remarks=remarks,
        )

    def input_of(self, size_wh: tuple[int, int]) -> PreprocessConfig:
        """How its input of this size is made."""
        return replace(self.preprocessing, size_wh=size_wh)

    def checked(self) -> NetworkSource:
        """Itself, if all weights are finite; ``ArgumentError`` names those that are not."""
        bad = [n for n, v in self.module.state_dict().items()
               if v.is_floating_point() and not torch.isfinite(v).all()]  # fmt: skip
        if bad:
            raise ArgumentError(
                "weights", f"the weights hold NaN or infinity in {bad[:3]}; expected finite numbers"
            )
        return self

    def with_folded(self) -> NetworkSource:
        """The same network with batch norms (and our normalisation) folded into convolutions,
        where that is safe; see :func:`panokit_network.deploy.fold_batch_norms`."""
        if self.folded:
            return self
        if isinstance(self.module, PanopticNetwork):
            return replace(self, module=fuse(self.module), folded=True)
        return replace(self, module=fold_batch_norms(self.module), folded=True)

    def after_step(self, kind: str) -> NetworkSource:
        """What is known after one more network step; its weights are in no file yet. The step
        itself replaces ``module``."""
        return replace(self, steps_done=(*self.steps_done, kind), weights_sha256="")

    def reloaded(self, path: Path, original: NetworkSource) -> NetworkSource:
        """This network as :meth:`save` wrote it to ``path``. ``original`` is the network before any
        step; a user's module is made anew from it."""
        if self.config is not None:
            loaded = NetworkSource.from_weights(path)
            return replace(loaded, name=original.name, postprocessing=original.postprocessing,
                           weights_sha256="")  # fmt: skip
        stored = _StoredModule.read(path)
        module, _ = stored.load_into(copy.deepcopy(original.module))
        return replace(self, module=module, folded=stored.folded)

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
        save_weights(path, self.module.state_dict(), self.config, self.taxonomy, training,
                     self.licence, record_widths(self.module), self.folded)  # fmt: skip


def import_network(where: str) -> nn.Module:
    """What ``package.module:function`` returns, a module, in eval mode. Modules of the current
    folder are found. This runs the named code: only name code you trust."""
    module_name, _, function = where.partition(":")
    if not module_name or not function:
        raise ArgumentError("module", f"module is {where!r}; expected package.module:function")
    try:
        with _found_here(module_name.partition(".")[0]):
            build = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise ArgumentError("module", f"module {where!r} cannot be imported: {error}") from None
    module = build()
    if not isinstance(module, nn.Module):
        raise ArgumentError(
            "module", f"{where} returns a {type(module).__name__}; expected a torch.nn.Module"
        )
    return module.eval()


class _Here(MetaPathFinder):
    """Finds one module of the current folder before an installed one of the same name."""

    def __init__(self, name: str, folder: str) -> None:
        self._name, self._folder = name, folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        wanted = fullname == self._name and path is None
        return PathFinder.find_spec(fullname, [self._folder]) if wanted else None


@contextmanager
def _found_here(name: str) -> Iterator[None]:
    """Let the module ``name`` be found in the current folder, and what lies beside it behind
    everything that is installed: a script of the user's that is named as a package (``onnx.py``)
    never stands in for it."""
    here = str(Path.cwd())
    if here not in map(os.path.abspath, sys.path):
        sys.path.append(here)  # at the end; processes that are started later look there as well
    own = PathFinder.find_spec(name, [here])
    if own is not None and _is_needed(name, own, here):
        file = Path(own.origin or name).name
        raise ArgumentError(
            "module",
            f"module {name!r} would be {file} of this folder, which has the name of an installed "
            "package; rename it",
        )
    finder = _Here(name, here)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _is_needed(name: str, own: ModuleSpec, here: str) -> bool:
    """Whether a module of this name belongs to Python or to an installed package."""
    if name in sys.stdlib_module_names:
        return True
    elsewhere = [path for path in sys.path if os.path.abspath(path) != here]
    other = PathFinder.find_spec(name, elsewhere)
    return other is not None and other.origin != own.origin and name not in _NAMES_OF_MANY


def save_state(
    path: Path, module: nn.Module, folded: bool = False, steps: Sequence[str] = ()
) -> None:
    """Write a module's weights (float32) and the widths of its layers as safetensors.

    ``folded`` says that batch norms were folded in, ``steps`` which network steps of a recipe
    (prune, finetune, …) the module has been through.
    """
    state = {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}
    metadata = {
        "format": MODULE_FORMAT,
        "widths": json.dumps(record_widths(module)),
        "folded": json.dumps(folded),
        "steps_done": json.dumps(list(steps)),
    }
    write_bytes(path, in_order(save(state, metadata)))


def load_state(path: Path, module: nn.Module) -> nn.Module:
    """Load a weight file into a freshly made ``module``; the module, in eval mode.

    Layers take on the recorded widths first, in place. Of a file without batch norms a folded
    copy is returned. ``DataError`` says what does not fit.
    """
    return _StoredModule.read(path).load_into(module)[0]


def steps_done(path: Path) -> tuple[str, ...]:
    """The network steps that the module in a file has been through; none for a plain file."""
    return _StoredModule.read(path).steps_done


@dataclass(frozen=True)
class _StoredModule:
    """A user's module in its file: its weights, and what the file says about them."""

    checkpoint: Checkpoint
    widths: dict[str, dict[str, int]] | None
    folded: bool
    steps_done: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> _StoredModule:
        checkpoint = read_checkpoint(path)
        metadata = checkpoint.metadata if checkpoint.metadata.get("format") == MODULE_FORMAT else {}
        try:
            steps = tuple(str(s) for s in json.loads(metadata.get("steps_done", "[]")))
        except (ValueError, TypeError) as error:
            expected = "expected a list of steps in its metadata"
            raise DataError(path, f"{expected}, but {error}") from None
        try:
            widths = json.loads(metadata["widths"]) if "widths" in metadata else None
        except ValueError as error:
            raise DataError(path, f"expected widths in its metadata, but {error}") from None
        return cls(checkpoint, widths, metadata.get("folded") == "true", steps)

    def load_into(self, module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
        """The module with these weights, in eval mode, and remarks on where they lay."""
        path = self.checkpoint.path
        if self.checkpoint.metadata.get("format") == MODULE_FORMAT:  # names as we wrote them
            module = plain_module(module)
            if self.folded:
                module = fold_batch_norms(module)
            inside = not hasattr(module, WRAPPED.rstrip("."))
            try:
                if self.widths is not None:
                    named = self.widths.items()
                    apply_widths(
                        module, {k.removeprefix(WRAPPED) if inside else k: v for k, v in named}
                    )
            except (RuntimeError, ValueError) as error:
                reason = f"weights do not fit the module: {str(error)[:300]}"
                raise DataError(path, reason) from None
        place, module, fit = self._best(module)
        if not fit.good:
            fitting = f"{len(fit.state)} of its weights are there, {fit.trouble}"
            raise DataError(path, f"weights do not fit the module: {fitting}")
        module.load_state_dict(fit.state, strict=False)
        return module.eval(), self._remarks(place, fit)

    def _best(self, module: nn.Module) -> tuple[str, nn.Module, Fit]:
        """The place in the file whose weights fit best; as the module was built, or with its
        computed weights (weight norm) made plain."""
        plain = plain_module(module)
        modules = [module] if plain is module else [module, plain]
        tried = [
            (place, candidate, fit_names(state, candidate))
            for place, state in self.checkpoint.states.items()
            for candidate in modules
        ]
        for found in tried:
            if found[2].good:
                return found
        return min(tried, key=lambda t: len(t[2].missing) + len(t[2].unknown) + len(t[2].reshaped))

    def _remarks(self, place: str, fit: Fit) -> tuple[str, ...]:
        name, others = self.checkpoint.path.name, [p for p in self.checkpoint.states if p != place]
        said = []
        if place:
            rest = f", not from {', '.join(others)}" if others else ""
            said.append(f"{name}: weights are taken from {place!r}{rest}")
        if fit.prefix and not fit.aside:
            said.append(f"{name}: the prefix {fit.prefix!r} of their names is taken off")
        if fit.aside:
            count = len(fit.aside)
            said.append(
                f"{name}: {count} tensors outside {fit.prefix!r} are left ({fit.aside[0]} …)"
            )
        return tuple(said)
