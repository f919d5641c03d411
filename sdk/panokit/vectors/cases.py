"""What a case of the golden vectors is, and the parts that cases are made from.

Every number is made from whole numbers (raw bits of PCG64, which NumPy keeps stable), so that the
suite is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import TensorSpec
from panokit.decoding import DecodingSettings, PostprocessConfig
from panokit.preprocessing import TransformRecord, letterbox
from panokit.taxonomy import Category, Taxonomy

__all__ = ["Case", "ContractCase", "DecodeCase", "PreprocessCase"]

PERSON, SKY, DOG, ROAD = range(4)

# Category ids are out of channel order on purpose: each tie must go by the right one of the two.
TOY = Taxonomy(
    "toy",
    (
        Category(5, "person", True, (255, 0, 0)),
        Category(9, "sky", False, (0, 0, 255)),
        Category(3, "dog", True, (0, 255, 0)),
        Category(7, "road", False, (128, 128, 128)),
    ),
)
MANY = Taxonomy("many", tuple(Category(26 - i, f"c{i}", i % 2 == 0, (i, 0, 0)) for i in range(26)))
ONLY_STUFF = Taxonomy("stuff", (TOY.categories[SKY], TOY.categories[ROAD]))
ONLY_PERSON = Taxonomy("person", (TOY.categories[PERSON],))
ONLY_THINGS = Taxonomy("things", (TOY.categories[PERSON], TOY.categories[DOG]))

Array = NDArray[Any]


@dataclass(frozen=True)
class DecodeCase:
    """Raw heads (``semantic`` ``[h,w,C]``, ``center`` ``[h,w,1]``, ``offset`` ``[h,w,2]``) and all
    that decoding them takes. ``quantization`` has (scale, zero point) for whole-number heads."""

    name: str
    about: str
    raw: dict[str, Array]
    transform: TransformRecord
    config: PostprocessConfig
    taxonomy: Taxonomy = TOY
    quantization: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """The heads as a manifest describes them."""
        specs = {}
        for name, values in self.raw.items():
            scale, zero = self.quantization.get(name, (None, None))
            shape = (1, *values.shape)
            specs[name] = TensorSpec(name, shape, values.dtype.name, "nhwc", scale, zero)
        return specs


@dataclass(frozen=True)
class PreprocessCase:
    """A photo (uint8 ``[h0,w0,3]``, upright sRGB), the input's size, and the quantised input."""

    name: str
    about: str
    photo_hwc: NDArray[np.uint8]
    size_wh: tuple[int, int]
    quantization: tuple[str, float, int] = ("int8", 1.0, -128)


@dataclass(frozen=True)
class ContractCase:
    """Raw heads of another contract than ``center-offset``, and all that decoding them takes.

    ``raw``: tensors by the names of ``settings.head_names()``, channels last, anchors first, with
    or without a batch axis.
    """

    name: str
    about: str
    raw: dict[str, Array]
    transform: TransformRecord
    settings: DecodingSettings
    taxonomy: Taxonomy = TOY


Case = DecodeCase | PreprocessCase | ContractCase


def raw_bits(seed: int, shape: tuple[int, ...], bits: int) -> NDArray[np.int64]:
    """Whole numbers from 0 below 2^bits."""
    n = int(np.prod(shape))
    values = np.asarray(np.random.PCG64(seed).random_raw(n)) >> np.uint64(64 - bits)
    return values.astype(np.int64).reshape(shape)


def noise(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> Array:
    """Bell-shaped numbers of about ``scale``, exact in float32: sums of four uniform ones."""
    total = sum(raw_bits(seed * 4 + i, shape, 10) for i in range(4)) - 2046
    return (np.asarray(total) / 512 * scale).astype(np.float32)


def heads(h: int, w: int | None = None, channels: int = 4) -> dict[str, Array]:
    """Heads that find nothing: equal logits, no centre, no offset."""
    w = w or h
    return {
        "semantic": np.zeros((h, w, channels), np.float32),
        "center": np.full((h, w, 1), -9, np.float32),
        "offset": np.zeros((h, w, 2), np.float32),
    }


def random_heads(seed: int, h: int, w: int, channels: int = 4, kind: str = "") -> dict[str, Array]:
    """Heads of noise, of the ``kind`` "tied", "saturated", "huge" or plain."""
    semantic, center = noise(seed, (h, w, channels), 2), noise(seed + 1, (h, w, 1), 2) - 1
    offset = noise(seed + 2, (h, w, 2), 8)
    if kind == "tied":
        semantic, center, offset = np.round(semantic), np.round(center), np.round(offset / 4) * 4
    elif kind == "saturated":
        semantic, center = semantic * 1024, np.where(center > 0, 40, -40)
    elif kind == "huge":
        semantic, center, offset = semantic * 2.0**120, center * 2.0**120, offset * 2.0**120
    raw = {"semantic": semantic, "center": center, "offset": offset}
    return {k: v.astype(np.float32) for k, v in raw.items()}


def full_frame(h: int, w: int | None = None, stride: int = 4) -> TransformRecord:
    """A photo that fills the input of an h×w head."""
    size = (w or h) * stride, h * stride
    return letterbox(size, size)


def whole_input(w: int, h: int) -> TransformRecord:
    """A photo of the input's own size: no resize, no padding."""
    return letterbox((w, h), (w, h))


def config(**changes: Any) -> PostprocessConfig:
    """Parameters that suit small heads."""
    values: dict[str, Any] = {
        "threshold": 0.3, "window": 3, "top_k": 20, "min_thing_area": 0, "min_stuff_area": 0,
        "grid": "head",
    }  # fmt: skip
    return PostprocessConfig(**(values | changes))
