"""Labels as pictures: a photo with its segments in colour, a sheet of many, a page of them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panokit._files import replacing_folder, write_bytes, write_picture, write_text
from panokit.decoding import DecodedSegment, PanopticMap
from panokit.errors import ArgumentError, DataError, MissingExtraError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult
from panokit.taxonomy import Taxonomy
from panokit_datasets.problems import LabelError
from panokit_datasets.reader import Reader, Truth

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["labels_as_result", "write_contact_sheet", "write_page"]

Progress = Callable[[Iterable[Any]], Iterable[Any]]

CELL = 256
"""Longest side of a picture on a sheet, pixels."""
PICTURE = 768
"""Longest side of a picture on the page, pixels."""

_LINE = 18


def labels_as_result(photo: Photo, truth: Truth, taxonomy: Taxonomy) -> PanopticResult:
    """Labels as the result of a network would be, so that they are drawn like one. What is ignored
    is left out."""
    segments: list[DecodedSegment] = []
    table = np.zeros(max((s.id for s in truth.segments), default=0) + 1, np.int32)
    for s in truth.segments:
        if s.ignore:
            continue
        table[s.id] = len(segments) + 1
        segments.append(DecodedSegment(len(segments) + 1, s.channel, s.is_thing, 1.0, 1))
    ids = table[truth.ids]
    areas = np.bincount(ids.ravel(), minlength=len(segments) + 1).tolist()
    kept = tuple(
        DecodedSegment(s.id, s.channel, s.is_thing, 1.0, areas[s.id])
        for s in segments
        if areas[s.id]
    )
    transform = letterbox(photo.size_wh, photo.size_wh)
    return PanopticResult.from_map(photo, PanopticMap(ids, kept), taxonomy, transform)


@dataclass(frozen=True)
class _View:
    """A photo small and large, under its labels and without, and what is on it."""

    name: str
    photo: Image.Image
    overlay: Image.Image
    classes: tuple[str, ...]
    note: str = ""


def _view(reader: Reader, index: int, side: int) -> _View:
    from PIL import Image

    try:
        truth, photo = reader.truth(index), reader.photo(index)
        if truth.size_wh != photo.size_wh:
            reason = f"expected size {photo.size_wh} as the photo, got {truth.size_wh}"
            raise LabelError(reader.label_paths(index)[0], reason, "wrong size")
    except DataError as error:
        grey = Image.new("RGB", (side, side * 3 // 4), (90, 90, 90))
        return _View(reader.name(index), grey, grey, (), str(error))
    scale = min(1.0, side / max(photo.size_wh))
    size = max(1, round(photo.size_wh[0] * scale)), max(1, round(photo.size_wh[1] * scale))
    small = np.asarray(Image.fromarray(photo.rgb_hwc).resize(size, Image.Resampling.LANCZOS))
    ys = ((np.arange(size[1]) + 0.5) / scale).astype(int).clip(0, photo.size_wh[1] - 1)
    xs = ((np.arange(size[0]) + 0.5) / scale).astype(int).clip(0, photo.size_wh[0] - 1)
    less = Truth(truth.ids[ys[:, None], xs], truth.segments)
    result = labels_as_result(Photo.from_array(small), less, reader.taxonomy)
    names = sorted({reader.taxonomy.categories[s.channel].name for s in truth.segments})
    return _View(
        reader.name(index),
        Image.fromarray(small),
        result.overlay(opacity=0.55, labels=side >= PICTURE // 2, scores=False),
        tuple(names),
    )


def write_contact_sheet(
    path: Path,
    reader: Reader,
    indices: Sequence[int],
    progress: Progress = lambda items: items,
) -> None:
    """Write photos under their labels, each with its name, as one PNG."""
    from PIL import Image, ImageDraw

    if not indices:
        raise ArgumentError("indices", "there are no photos to draw; expected one or more")
    columns = min(len(indices), max(1, math.ceil(math.sqrt(len(indices) * 4 / 3))))
    views = [_view(reader, index, CELL) for index in progress(indices)]
    rows = [views[at : at + columns] for at in range(0, len(views), columns)]
    heights = [max(v.overlay.height for v in row) + _LINE + 4 for row in rows]
    sheet = Image.new("RGB", (columns * CELL, sum(heights)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, view in enumerate(row):
            left = column * CELL
            sheet.paste(view.overlay, (left + (CELL - view.overlay.width) // 2, top + _LINE))
            name = view.name if len(view.name) <= 40 else f"…{view.name[-39:]}"
            draw.text((left + 4, top + 3), name, fill=(0, 0, 0) if not view.note else (180, 0, 0))
        top += height
    write_picture(path, sheet, "PNG", optimize=True)


def write_page(
    folder: Path,
    reader: Reader,
    indices: Sequence[int],
    progress: Progress = lambda items: items,
) -> Path:
    """Write a page that shows photos with and without their labels, and filters them by class. It
    asks for nothing outside its folder. Returns the page's path."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("`panokit dataset view` as a page", "report") from None
    if not indices:
        raise ArgumentError("indices", "there are no photos to draw; expected one or more")
    cards: list[dict[str, Any]] = []
    with replacing_folder(folder) as partial:
        for place, index in enumerate(progress(indices)):
            view = _view(reader, index, PICTURE)
            for end, image in (("photo", view.photo), ("labels", view.overlay)):
                write_bytes(partial / "pictures" / f"{place:05d}-{end}.jpg", _jpeg(image))
            width, height = view.photo.size
            cards.append(
                {"place": f"{place:05d}", "name": view.name, "classes": view.classes}
                | {"note": view.note, "width": width, "height": height}
            )
        colors = {c.name: c.color for c in reader.taxonomy}
        used = sorted({name for card in cards for name in card["classes"]})
        environment = Environment(
            loader=PackageLoader("panokit_datasets"), autoescape=True, undefined=StrictUndefined
        )
        page = environment.get_template("dataset.html.j2").render(
            title=f"{reader.title}: {reader.split}",
            count=len(reader),
            cards=cards,
            classes=[(name, "#{:02x}{:02x}{:02x}".format(*colors[name])) for name in used],
        )
        write_text(partial / "index.html", page)
    return folder / "index.html"


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
