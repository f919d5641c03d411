"""What is put behind an object: a colour, a gradient or another photo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._icc import SRGB, ColorSpace
from panokit._text import has_controls
from panokit.config import read_settings
from panokit.errors import ArgumentError
from panokit.photo import Photo

__all__ = ["Fill", "check_color", "parse_color"]

FloatArray = NDArray[np.float32]

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


def check_color(color: object) -> None:
    """Refuse what is not ``#rrggbb``."""
    if not isinstance(color, str) or not _COLOR.fullmatch(color):
        raise ArgumentError("color", f"color is {color!r}; expected #rrggbb, e.g. #2060d0")


def parse_color(color: str) -> NDArray[np.uint8]:
    """``#rrggbb`` as sRGB codes, uint8 ``[3]``."""
    check_color(color)
    return np.frombuffer(bytes.fromhex(color[1:]), np.uint8)


@dataclass(frozen=True)
class Fill:
    """A new background: exactly one of the three.

    ``color`` ``"#rrggbb"``; ``gradient`` two or more colours from top to bottom; ``photo`` the path
    of a photo, relative to the folder given when it is used (absolute paths and ``..`` are
    refused), or a :class:`panokit.Photo`, which cannot be saved in JSON.
    """

    color: str | None = None
    gradient: tuple[str, ...] | None = None
    photo: str | Photo | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.color, self.gradient, self.photo) if v is not None]
        if len(given) != 1:
            raise ArgumentError(
                "fill",
                "a fill takes exactly one of color, gradient and photo; "
                f"it has {len(given)} of them",
            )
        if self.color is not None:
            check_color(self.color)
        if self.gradient is not None:
            if not 2 <= len(self.gradient) <= 16:
                raise ArgumentError(
                    "gradient", f"gradient is {self.gradient!r}; expected 2 to 16 colours"
                )
            for color in self.gradient:
                check_color(color)
        if self.photo is not None and not isinstance(self.photo, str | Photo):
            raise ArgumentError(
                "fill photo",
                f"fill photo is a {type(self.photo).__name__}; expected a path or a Photo",
            )
        if isinstance(self.photo, str) and has_controls(self.photo):
            raise ArgumentError(
                "fill photo",
                f"fill photo is {self.photo!r:.80}; expected a path without control characters",
            )

    def check(self, folder: Path | None) -> None:
        """An error if the photo it names cannot be read from ``folder``."""
        if isinstance(self.photo, str):
            self._opened(folder)

    def light(self, size_wh: tuple[int, int], space: ColorSpace, folder: Path | None) -> FloatArray:
        """The fill in linear light of ``space``, float32 ``[H,W,3]``; ``[1,1,3]`` or ``[H,1,3]``
        where that says it all. A photo covers the whole size, its middle is kept."""
        w, h = size_wh
        if self.color is not None:
            light = SRGB.to_linear(parse_color(self.color)[None, None])
        elif self.gradient is not None:
            stops = np.stack([parse_color(c) for c in self.gradient]).astype(np.float64)
            at = np.linspace(0, len(stops) - 1, h)
            # Between the codes, not the light: an even step to the eye.
            codes = np.stack([np.interp(at, range(len(stops)), stops[:, c]) for c in range(3)], 1)
            light = SRGB.to_linear((codes * 257 + 0.5).astype(np.uint16))[:, None]
        else:
            light = SRGB.to_linear(_covering(self._opened(folder), (w, h)))
        if space is SRGB:
            return light
        return np.clip(light @ np.linalg.inv(space.to_srgb).T.astype(np.float32), 0, 1)

    def _opened(self, folder: Path | None) -> Photo:
        if isinstance(self.photo, Photo):
            return self.photo
        name = self.photo or ""
        inside = PurePosixPath(name.replace("\\", "/"))
        if folder is None or inside.is_absolute() or ".." in inside.parts or ":" in name:
            expected = "a path inside the folder of the edits, and that folder to be given"
            raise ArgumentError("fill photo", f"fill photo is {name!r}; expected {expected}")
        path = (folder / inside).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ArgumentError(
                "fill photo",
                f"fill photo is {name!r}; expected a path inside the folder of the edits",
            )
        return Photo.open(path)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        if isinstance(self.photo, Photo):
            raise ArgumentError(
                "fill photo",
                "a fill with a Photo cannot be written as JSON; give the photo as a path",
            )
        if self.gradient is not None:
            return {"gradient": list(self.gradient)}
        return {"color": self.color} if self.color is not None else {"photo": self.photo}

    @classmethod
    def from_json(cls, data: Any) -> Fill:
        """Read what :meth:`to_json` wrote."""
        fill = read_settings(cls, data, "fill")
        if fill.photo is not None and not isinstance(fill.photo, str):
            raise ArgumentError("fill photo", f"fill photo is {fill.photo!r}; expected a path")
        return fill


def _covering(photo: Photo, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The photo scaled and cut to fill a size, uint8 ``[H,W,3]``, sRGB."""
    from PIL import Image

    w, h = size_wh
    scale = max(w / photo.size_wh[0], h / photo.size_wh[1])
    cut_w, cut_h = w / scale, h / scale
    left, top = (photo.size_wh[0] - cut_w) / 2, (photo.size_wh[1] - cut_h) / 2
    box = (left, top, left + cut_w, top + cut_h)
    image = Image.fromarray(photo.rgb_hwc)
    return np.asarray(image.resize((w, h), Image.Resampling.BICUBIC, box=box))
