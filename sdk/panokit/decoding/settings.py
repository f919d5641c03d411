"""What every contract's settings are: they name the contract, and decode its heads.

A contract of heads is one file in this folder. Its settings class is the way in: it says which
tensors a network must give, makes the typed heads of them, and decodes those to a map.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from panokit._reading import read_json
from panokit.config import read_settings, write_settings
from panokit.decoding.panoptic_map import PanopticMap
from panokit.errors import ArgumentError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

S = TypeVar("S", bound="DecodingSettings")

__all__ = ["DEFAULT_CONTRACT", "Decoder", "DecodingSettings", "check_columns"]

DEFAULT_CONTRACT = "center-offset"
"""The contract of settings that name none: all there was before there were others."""

MAX_COLUMNS = 65_536

_CONTRACTS: dict[str, type[DecodingSettings]] = {}


class Decoder(Protocol):
    """Decodes the heads of one contract."""

    def decode(self, heads: Any, *, explain: bool = False) -> PanopticMap:
        """All stages; with ``explain`` the map carries every intermediate."""
        ...


class DecodingSettings:
    """Base of the settings of all contracts; each is a frozen dataclass.

    ``contract`` is its name in manifests; ``heads`` are the names of its tensors, and how many axes
    each may have without the batch.
    """

    contract: ClassVar[str]
    heads: ClassVar[Mapping[str, tuple[int, ...]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "contract" in cls.__dict__:
            _CONTRACTS[cls.contract] = cls

    @staticmethod
    def contracts() -> dict[str, type[DecodingSettings]]:
        """The settings classes by contract."""
        return dict(_CONTRACTS)

    def head_names(self) -> tuple[str, ...]:
        """The tensors that a network of these settings gives: all of ``heads``, or some."""
        return tuple(self.heads)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back; it names the contract."""
        named = {} if self.contract == DEFAULT_CONTRACT else {"contract": self.contract}
        return named | write_settings(self)

    @classmethod
    def load(cls: type[S], path: str | Path) -> S:
        """As :meth:`from_json`, of a file."""
        try:
            data = read_json(path, strict=True)
        except (OSError, ValueError) as error:
            reason = f"decoding cannot be read from {str(path)!r}: {error}"
            raise ArgumentError("decoding", reason) from None
        return cls.from_json(data)

    @classmethod
    def from_json(cls: type[S], data: object) -> S:
        """Read what :meth:`to_json` wrote; of the base class, settings of any contract. Unknown
        names and values out of range raise ``ArgumentError``."""
        if not isinstance(data, Mapping):
            given = f"postprocessing is {data!r:.80}"
            raise ArgumentError("postprocessing", f"{given}; expected a JSON object")
        name = data.get("contract", DEFAULT_CONTRACT)
        if not isinstance(name, str) or name not in _CONTRACTS:
            raise ArgumentError.unknown("contract", name, _CONTRACTS)
        kind = _CONTRACTS[name]
        if issubclass(cls, kind):  # settings of one contract, asked for by their own class
            kind = cls
        elif not issubclass(kind, cls):
            given = f"contract is {name!r}"
            raise ArgumentError("contract", f"{given}; expected {cls.contract!r}")
        rest = {k: v for k, v in data.items() if k != "contract"}
        return read_settings(kind, rest, "postprocessing")

    def check_shapes(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        input_wh: tuple[int, int],
        stride: int,
        taxonomy: Taxonomy,
    ) -> None:
        """``ArgumentError`` unless tensors of these shapes, channels last and without the batch
        axis, can be heads of an input of this size."""
        raise NotImplementedError

    def read_heads(self, arrays: Mapping[str, NDArray[np.float32]]) -> Any:
        """The typed heads of tensors by name, channels last (``[h,w,C]``, ``[Q,K]``), with or
        without a batch axis of 1, as real numbers; ``HeadError`` names what does not fit."""
        raise NotImplementedError

    def decoder(self, taxonomy: Taxonomy, transform: TransformRecord) -> Decoder:
        """What decodes heads of inputs that were made as ``transform`` says, stage by stage."""
        raise NotImplementedError

    def lenient(self: S, share: float) -> tuple[S, float]:
        """Settings that keep less sure things too, those of ``share`` (0..1) of the least score,
        and change nothing else in the map; and the least score. These settings and 0 where a
        contract has no such score."""
        return self, 0.0

    def decode(
        self, heads: Any, taxonomy: Taxonomy, transform: TransformRecord, *, explain: bool = False
    ) -> PanopticMap:
        """The map of heads of an input that was made as ``transform`` says."""
        return self.decoder(taxonomy, transform).decode(heads, explain=explain)


def check_columns(columns: tuple[int, ...]) -> None:
    """``ArgumentError`` unless these can be the taxonomy's channels of class columns."""
    if len(columns) > MAX_COLUMNS or any(not -1 <= c < MAX_COLUMNS for c in columns):
        expected = "channels of the taxonomy from 0, or -1"
        raise ArgumentError("columns", f"columns are {columns[:8]!r}…; expected {expected}")
