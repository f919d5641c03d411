"""Large TIFF files, read window by window: aerial and medical images of any size.

Strips and tiles of the file are decoded as they are asked for; the last few are kept. Grey becomes
RGB; values of more than 8 bits are stretched between two levels, as a radiologist sets a window.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._places import plain_file
from panokit.errors import MissingExtraError, PhotoError

__all__ = ["TiffWindows", "is_tiff", "tiff_pages"]

MAX_SIDE = 2**20
KEPT_BYTES = 2**27
"""Bytes of decoded strips and tiles that are kept."""

_CLIPPED = (0.5, 99.5)  # percentiles that levels are taken at, where none are given
_LOOKED_AT = 24  # strips or tiles that levels are taken from
_BITS = (8, 16, 32, 64)


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF or BigTIFF does."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return False
    return head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_pages(path: Path) -> list[int]:
    """The pages of a TIFF that are pictures of their own: not the smaller copies of others, nor
    masks."""
    with _opened(path) as file:
        try:
            pages = [i for i, p in enumerate(file.pages) if not (p.is_reduced or p.is_mask)]
        except Exception as error:  # decoders raise many kinds on damaged files
            raise _broken(path, error) from None
    if not pages:
        raise PhotoError(path, "holds no picture")
    return pages


class TiffWindows:
    """One page of a TIFF file as a :class:`panokit.tiles.WindowSource`.

    ``levels``: the two values that become 0 and 255; by default the whole range for 8 bits, else
    the 0.5 and 99.5 percentiles of a part of the picture.
    """

    def __init__(
        self, path: Path, page: int = 0, levels: tuple[float, float] | None = None
    ) -> None:
        self.path = path
        self._file = _opened(path)
        try:
            self._page = self._file.pages[page]
            self._check()
        except (IndexError, KeyError):
            self._file.close()
            raise PhotoError(path, f"has no page {page}") from None
        except PhotoError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise _broken(path, error) from None
        self._kept: OrderedDict[int, tuple[NDArray[Any], tuple[int, ...]]] = OrderedDict()
        self._bytes = 0
        self.levels = levels or self._found_levels()
        if not self.levels[0] < self.levels[1]:
            self.levels = self.levels[0], self.levels[0] + 1

    def __enter__(self) -> TiffWindows:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self._page.imagewidth), int(self._page.imagelength)

    def read(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """The pixels of a window, uint8 ``[height,width,3]``."""
        values = self._values(left, top, width, height)
        low, high = self.levels
        if values.dtype != np.uint8 or (low, high) != (0, 255):
            scaled = (values.astype(np.float32) - low) * (255 / (high - low))
            values = np.clip(np.nan_to_num(scaled) + 0.5, 0, 255).astype(np.uint8)
        if self._page.photometric.name == "MINISWHITE":
            values = 255 - values
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))

    def _check(self) -> None:
        page = self._page
        w, h = self.size_wh
        if not 0 < w <= MAX_SIDE or not 0 < h <= MAX_SIDE:
            raise PhotoError(self.path, f"is {w} x {h}; expected 1 to {MAX_SIDE} pixels a side")
        kind = page.photometric.name
        known = ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR")
        dtype = page.dtype
        if kind not in known or dtype is None or dtype.kind not in "uif" or page.imagedepth > 1:
            what = f"{kind.lower()} of {dtype}"
            raise PhotoError(
                self.path, f"holds {what}; expected grey or RGB of whole or real numbers"
            )
        limit = 2**28
        if np.prod(page.chunks, dtype=np.int64) * dtype.itemsize > limit:
            raise PhotoError(
                self.path,
                "is one piece of over 256 MiB; save it in tiles (as GDAL's TILED=YES does)",
            )

    def _found_levels(self) -> tuple[float, float]:
        if self._page.dtype == np.uint8:
            return 0, 255
        count = len(self._page.dataoffsets)
        samples = []
        for index in range(0, count, max(1, count // _LOOKED_AT)):
            values = self._segment(index)[0].ravel()
            samples.append(values[:: max(1, len(values) // 65536)].astype(np.float64))
        found = np.concatenate(samples) if samples else np.zeros(1)
        found = found[np.isfinite(found)]
        if not found.size:
            return 0, 1
        low, high = np.percentile(found, _CLIPPED)
        return float(low), float(high)

    def _values(self, left: int, top: int, width: int, height: int) -> NDArray[Any]:
        """A window as the file holds it, ``[height,width,1 or 3]``."""
        page = self._page
        channels = 3 if page.samplesperpixel >= 3 else 1
        out = np.zeros((height, width, channels), page.dtype)
        rows, columns = page.chunks[0], page.chunks[1]
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            planes = range(channels)
            rows, columns = page.chunks[-2], page.chunks[-1]
        else:
            planes = range(1)
        across = -(-self.size_wh[0] // columns)
        down = -(-self.size_wh[1] // rows)
        for plane in planes:
            for i in range(top // rows, min(down, -(-(top + height) // rows))):
                for j in range(left // columns, min(across, -(-(left + width) // columns))):
                    index = (plane * down + i) * across + j
                    self._copy(out, index, plane, len(planes) > 1, left, top)
        return out

    def _copy(
        self, out: NDArray[Any], index: int, plane: int, single: bool, left: int, top: int
    ) -> None:
        values, (y, x) = self._segment(index)
        y0, x0 = max(y, top), max(x, left)
        y1 = min(y + values.shape[0], top + out.shape[0], self.size_wh[1])
        x1 = min(x + values.shape[1], left + out.shape[1], self.size_wh[0])
        if y0 >= y1 or x0 >= x1:
            return
        part = values[y0 - y : y1 - y, x0 - x : x1 - x]
        target = out[y0 - top : y1 - top, x0 - left : x1 - left]
        if single:
            target[..., plane] = part[..., 0]
        else:
            target[:] = part[..., : out.shape[2]]

    def _segment(self, index: int) -> tuple[NDArray[Any], tuple[int, ...]]:
        """A strip or tile, ``[rows,columns,samples]``, and its place: row, column."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        page = self._page
        try:
            handle = self._file.filehandle
            handle.seek(page.dataoffsets[index])
            data = handle.read(page.databytecounts[index])
            found, place, shape = page.decode(data, index, jpegtables=page.jpegtables)
        except Exception as error:
            if "imagecodecs" in str(error):
                raise MissingExtraError(f"reading {self.path.name}", "large") from None
            raise _broken(self.path, error) from None
        values = np.zeros(shape, page.dtype) if found is None else found
        kept = values[0, :, :, :], (int(place[2]), int(place[3]))
        self._kept[index] = kept
        self._bytes += values.nbytes
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1][0].nbytes
        return kept


def _opened(path: Path) -> Any:
    try:
        import tifffile
    except ImportError:
        raise MissingExtraError("reading large TIFF files", "large") from None
    try:
        return tifffile.TiffFile(plain_file(path))
    except OSError as error:
        raise PhotoError(path, error.strerror or "cannot be read") from None
    except Exception as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> PhotoError:
    return PhotoError(path, f"cannot be decoded ({type(error).__name__}: {error})")
