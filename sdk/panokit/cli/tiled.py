"""`panokit segment --tiles`: images too large to be looked at as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panokit import coco
from panokit._files import replacing, write_picture
from panokit.cli.console import note, tracked
from panokit.errors import UsageError
from panokit.photo import MAX_PIXELS, Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult, Segment, measured
from panokit.segmenter import Segmenter
from panokit.tiles import PhotoWindows, TiledMap, WindowSource, segment_tiles
from panokit.windows import TiffWindows, is_tiff, tiff_pages

__all__ = ["Made", "TiledJob", "parse_levels", "segment_large", "summary"]

PICTURE = 2048
"""Longest side of the picture of a large image, pixels."""


@dataclass(frozen=True)
class TiledJob:
    """How large images are to be segmented. ``tile`` None: of the network's input size; ``page``
    None: all of a TIFF."""

    segmenter: Segmenter
    classes: tuple[str, ...]
    tile: int | None
    overlap: float
    page: int | None
    levels: tuple[float, float] | None


class Made(NamedTuple):
    """What came of one image: its name, what was found, and its entry in the JSON."""

    name: str
    summary: str
    entry: dict[str, Any]


def parse_levels(text: str) -> tuple[float, float] | None:
    """``low,high`` as two numbers; nothing without text."""
    if not text:
        return None
    try:
        low, high = (float(v) for v in text.split(","))
    except ValueError:
        low = high = 0
    if not math.isfinite(high - low) or low >= high:
        raise UsageError(f"--levels is {text!r}; expected two numbers, low before high: 200,1800")
    return low, high


def summary(segments: Iterable[Segment], counts: Mapping[str, int]) -> str:
    """What was found, in a line."""
    things = ", ".join(f"{n} × {name}" for name, n in counts.items())
    stuff = ", ".join(s.category.name for s in segments if not s.is_thing)
    return f"{things or 'no objects'}" + (f"; {stuff}" if stuff else "")


def segment_large(job: TiledJob, name: str, path: Path, out: Path) -> Iterator[Made]:
    """Segment an image, or each page of it, and write the results to ``out``."""
    if not is_tiff(path) or (find_spec("tifffile") is None and job.page is None):
        photo = Photo.open(path)
        yield _one(job, name, path, out, PhotoWindows(photo))
        return
    pages = [job.page] if job.page is not None else tiff_pages(path)
    for page in pages:
        with ExitStack() as stack:
            windows = stack.enter_context(TiffWindows(path, page, job.levels))
            of_page = name if len(pages) == 1 else f"{name}.page{page}"
            if windows.levels != (0, 255) and job.levels is None:
                low, high = windows.levels
                note(
                    f"{path.name}: values from {low:g} to {high:g} are shown; --levels sets others"
                )
            yield _one(job, of_page, path, out, windows)


def _one(job: TiledJob, name: str, path: Path, out: Path, windows: WindowSource) -> Made:
    found = segment_tiles(
        job.segmenter,
        windows,
        tile=job.tile,
        overlap=job.overlap,
        progress=lambda tiles, n: tracked(tiles, f"tiles of {path.name}", n),
    )
    segments = found.segments
    if job.classes:
        segments = tuple(s for s in segments if s.category.name in job.classes)
        _keep_only(found.ids, {s.id for s in segments})
    width, height = windows.size_wh
    annotation = out / f"{name}.json"
    if width * height <= MAX_PIXELS:
        from PIL import Image

        ids = out / f"{name}.ids.png"
        write_picture(ids, Image.fromarray(coco.ids_to_rgb(found.ids)), "PNG")
    else:
        ids = out / f"{name}.ids.tif"
        _write_tiff(ids, found.ids)
    coco.write_annotation(annotation, segments, job.segmenter.taxonomy, name, ids.name)
    picture = out / f"{name}.overlay.png"
    small = _small(windows, found, segments)
    write_picture(picture, small.overlay(), "PNG")
    counts: dict[str, int] = {}
    for s in segments:
        if s.is_thing:
            counts[s.category.name] = counts.get(s.category.name, 0) + 1
    entry: dict[str, Any] = {
        "photo": str(path),
        "size_wh": [width, height],
        "tiles": found.tiles,
        "artifact": job.segmenter.artifact.name,
        "counts": dict(sorted(counts.items(), key=lambda c: -c[1])),
        "segments": [s.to_json() for s in segments],
        "files": {"id_map": ids.name, "coco": annotation.name, "overlay": picture.name},
    }
    return Made(name, summary(segments, counts), entry)


def _keep_only(ids: NDArray[np.int32], kept: set[int]) -> None:
    """Make void of all other segments, in place."""
    table = np.zeros(max([0, *kept]) + 1, np.int32)
    table[list(kept)] = list(kept)
    for top in range(0, ids.shape[0], 256):
        band = ids[top : top + 256]
        ids[top : top + 256] = np.where(
            band < len(table), table[np.minimum(band, len(table) - 1)], 0
        )


def _small(windows: WindowSource, found: TiledMap, segments: tuple[Segment, ...]) -> PanopticResult:
    """The image and its map so small that they can be looked at; every so many-th pixel."""
    width, height = windows.size_wh
    step = max(1, math.ceil(max(width, height) / PICTURE))
    rows = []
    band = step * max(1, 256 // step)
    for top in range(0, height, band):
        rows.append(windows.read(0, top, width, min(band, height - top))[::step, ::step])
    photo = Photo.from_array(np.concatenate(rows))
    ids = np.ascontiguousarray(found.ids[::step, ::step])
    transform = letterbox(photo.size_wh, photo.size_wh)
    kept = measured(segments, ids)
    return PanopticResult(photo, ids, kept, found.segmenter.taxonomy, transform)


def _write_tiff(path: Path, ids: NDArray[np.int32]) -> None:
    """Ids as a TIFF in tiles, which programs for maps and microscopes read."""
    import tifffile

    h, w = ids.shape
    side = 512

    def tiles() -> Iterator[NDArray[np.uint32]]:
        for top in range(0, h, side):
            for left in range(0, w, side):
                full = np.zeros((side, side), np.uint32)
                part = ids[top : top + side, left : left + side]
                full[: part.shape[0], : part.shape[1]] = part
                yield full

    with replacing(path) as partial:
        tifffile.imwrite(
            partial, tiles(), shape=(h, w), dtype=np.uint32, tile=(side, side), bigtiff=True,
            compression="zlib", photometric="minisblack",
        )  # fmt: skip
