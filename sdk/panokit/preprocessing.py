"""From a photo to the network's input, and the record that leads back.

The steps are normative (see ``docs/port.md``): a port computes exactly this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.config import read_settings, write_settings
from panokit.errors import ArgumentError
from panokit.photo import Photo

__all__ = [
    "PreprocessConfig",
    "Size",
    "TransformRecord",
    "letterbox",
    "parse_size",
    "preprocess",
    "sides",
]

Size = int | tuple[int, int]
"""An input's size in pixels: the side of a square, or width and height."""

KERNEL = "pillow-bilinear"
"""Name of the resize kernel: Pillow's BILINEAR, a triangle filter that widens when it shrinks."""


def sides(size: Size, step: int = 1, name: str = "size") -> tuple[int, int]:
    """Width and height of a :data:`Size`; ``ArgumentError`` unless both are multiples of
    ``step``."""
    both = (size, size) if isinstance(size, int) else tuple(size)
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in both)
    if len(both) != 2 or not whole or any(v < step or v % step for v in both):
        expected = f"a multiple of {step}" if step > 1 else "at least 1"
        raise ArgumentError(
            name, f"{name} is {size!r}; expected {expected}, or a width and height that are both"
        )
    return both[0], both[1]


def parse_size(text: str, name: str = "size") -> Size:
    """``320`` (a square) or ``256x192`` (width x height), as people write a size."""
    parts = text.lower().replace("×", "x").split("x")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ArgumentError(
            name, f"{name} is {text!r}; expected a side such as 320, or width x height: 256x192"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


Fit = Literal["letterbox", "top-left", "stretch"]
"""Where the photo lies in the input: centred, in the corner (both with its proportions and padding
beside it), or over all of it."""


@dataclass(frozen=True)
class PreprocessConfig:
    """The network's input: ``size_wh`` in pixels, the resize kernel, and where the photo lies.

    ``padding`` is the RGB colour beside the photo, 0..255. Artifacts with a float or quantized
    input get (value - ``mean``) / ``std`` of each channel, both in 0..255; a uint8 input without a
    scale gets the pixels. ``order``: ``"bgr"`` turns the channels round.
    """

    size_wh: tuple[int, int] = (320, 320)
    kernel: str = KERNEL
    fit: Fit = "letterbox"
    padding: tuple[int, int, int] = (0, 0, 0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if not all(0 <= v <= 255 for v in self.padding):
            raise ArgumentError(
                "padding", f"padding is {self.padding!r}; expected three numbers from 0 to 255"
            )
        if not all(-1e4 <= v <= 1e4 for v in self.mean):
            raise ArgumentError("mean", f"mean is {self.mean!r}; expected values of 0..255")
        if not all(1e-6 <= v <= 1e6 for v in self.std):
            raise ArgumentError("std", f"std is {self.std!r}; expected numbers above zero")
        if len(self.size_wh) != 2 or not all(
            isinstance(v, int) and 1 <= v <= 8192 for v in self.size_wh
        ):
            raise ArgumentError(
                "size_wh", f"size_wh is {self.size_wh!r}; expected two whole numbers from 1 to 8192"
            )
        if self.kernel != KERNEL:
            raise ArgumentError("kernel", f"kernel is {self.kernel!r}; expected {KERNEL!r}")

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict. What is as in our own networks is left out, so that readers which know
        no other inputs (the native core, older versions) read it, and refuse others."""
        usual = PreprocessConfig()
        return {
            name: value
            for name, value in write_settings(self).items()
            if name in ("size_wh", "kernel") or getattr(self, name) != getattr(usual, name)
        }

    @property
    def is_scaled(self) -> bool:
        """Whether the network's values are other than 0..255."""
        return self.mean != (0, 0, 0) or self.std != (1, 1, 1)


@dataclass(frozen=True)
class TransformRecord:
    """How a photo was laid into the input; the only thing needed to map results back.

    ``photo_wh`` and ``input_wh`` are sizes in pixels, ``content_wh`` the resized photo inside the
    input and ``left``, ``top`` its corner; what lies outside is padding. ``scale`` is the nominal
    scale min(W/w0, H/h0); mappings use ``content_wh / photo_wh`` per axis, which rounding makes
    slightly different. ``orientation``, ``color`` and ``kernel`` tell what was done to the pixels.
    """

    photo_wh: tuple[int, int]
    input_wh: tuple[int, int]
    content_wh: tuple[int, int]
    left: int
    top: int
    scale: float
    orientation: int = 1
    color: str = "srgb"
    kernel: str = KERNEL

    @property
    def content_slices(self) -> tuple[slice, slice]:
        """Rows and columns of the photo inside the input grid."""
        w, h = self.content_wh
        return slice(self.top, self.top + h), slice(self.left, self.left + w)

    def padding_mask(self) -> NDArray[np.bool_]:
        """True where the input is padding, bool ``[H,W]``."""
        mask = np.ones(self.input_wh[::-1], bool)
        mask[self.content_slices] = False
        return mask

    def point_to_photo(self, x: float, y: float) -> tuple[float, float]:
        """An input point to photo coordinates (continuous: pixel i covers i..i+1)."""
        (w0, h0), (w, h) = self.photo_wh, self.content_wh
        return (x - self.left) * w0 / w, (y - self.top) * h0 / h

    def point_to_input(self, x: float, y: float) -> tuple[float, float]:
        """A photo point to input coordinates (continuous: pixel i covers i..i+1)."""
        (w0, h0), (w, h) = self.photo_wh, self.content_wh
        return x * w / w0 + self.left, y * h / h0 + self.top

    def box_to_photo(self, xyxy: tuple[float, float, float, float]) -> tuple[float, ...]:
        """An input box (x0, y0, x1, y1; ends exclusive) to photo coordinates."""
        return (*self.point_to_photo(*xyxy[:2]), *self.point_to_photo(*xyxy[2:]))

    def rows_cols(
        self, grid_hw: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """For each photo row and column, the input row ``[h0]`` and column ``[w0]`` (0 the first)
        whose pixel holds its centre; or those of a coarser grid over the input (the head grid),
        ``grid_hw`` cells high and wide."""
        (w0, h0), (w, h) = self.photo_wh, self.content_wh
        # floor((i + 1/2)·h/h0) in whole numbers, so that no rounding can differ between ports.
        rows = (2 * np.arange(h0, dtype=np.int64) + 1) * h // (2 * h0)
        cols = (2 * np.arange(w0, dtype=np.int64) + 1) * w // (2 * w0)
        rows, cols = rows + self.top, cols + self.left
        (w_in, h_in), (gh, gw) = self.input_wh, grid_hw or self.input_wh[::-1]
        if (gh, gw) != (h_in, w_in):
            rows, cols = (2 * rows + 1) * gh // (2 * h_in), (2 * cols + 1) * gw // (2 * w_in)
        return rows, cols

    def map_to_photo(self, values: NDArray[Any]) -> NDArray[Any]:
        """Nearest neighbour on the photo, ``[h0,w0,…]``, of ``values`` ``[H,W,…]`` of any type.
        They lie on the input grid or on a coarser one over it (the head grid), whose sides divide
        the input's; else ``ArgumentError``."""
        (h, w), (w_in, h_in) = values.shape[:2], self.input_wh
        if not h or not w or h_in % h or w_in % w:
            raise ArgumentError(
                "values",
                f"values have the shape {values.shape}; "
                f"expected {(h_in, w_in)} or a whole part of it",
            )
        rows, cols = self.rows_cols((h, w))
        return np.asarray(values[rows[:, None], cols])

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TransformRecord:
        """Read what :meth:`to_json` wrote."""
        return read_settings(cls, data, "transform record")


def letterbox(
    photo_wh: tuple[int, int],
    input_wh: tuple[int, int],
    orientation: int = 1,
    color: str = "srgb",
    fit: Fit = "letterbox",
) -> TransformRecord:
    """Where a photo of ``photo_wh`` lies in an input of ``input_wh``.

    scale = min(W/w0, H/h0); each side is round-half-up(side·scale), at least 1; centred, with the
    odd pixel of padding at the right and bottom. ``fit`` ``"top-left"``: not centred;
    ``"stretch"``: both sides are the input's.
    """
    (w0, h0), (w_in, h_in) = photo_wh, input_wh
    if w_in * h0 <= h_in * w0:  # the width limits: exact fractions, no float comparison
        content = w_in, _round_half_up(h0 * w_in, w0)
    else:
        content = _round_half_up(w0 * h_in, h0), h_in
    content = max(1, content[0]), max(1, content[1])
    if fit == "stretch":
        content = w_in, h_in
    centred = fit == "letterbox"
    return TransformRecord(
        photo_wh=(w0, h0),
        input_wh=(w_in, h_in),
        content_wh=content,
        left=(w_in - content[0]) // 2 if centred else 0,
        top=(h_in - content[1]) // 2 if centred else 0,
        scale=min(w_in / w0, h_in / h0),
        orientation=orientation,
        color=color,
    )


def preprocess(
    photo: Photo, config: PreprocessConfig | None = None
) -> tuple[NDArray[np.uint8], TransformRecord]:
    """The network's input, uint8 ``[H,W,3]`` RGB 0..255, and the record that leads back."""
    from PIL import Image

    config = config or PreprocessConfig()
    record = letterbox(photo.size_wh, config.size_wh, photo.orientation, photo.color, config.fit)
    image = Image.fromarray(photo.rgb_hwc)
    # One axis after the other, x first: Pillow 13 may choose the other order by itself, and older
    # ones do not, so that the pixels would depend on the version.
    w, h = record.content_wh
    for size in ((w, image.height), (w, h)):
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
    out = np.full((*config.size_wh[::-1], 3), config.padding, np.uint8)
    out[record.content_slices] = np.asarray(image)
    return out, record


def _round_half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
