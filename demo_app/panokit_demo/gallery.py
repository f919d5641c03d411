"""One page that holds everything: photos before and after, legends, tables. It needs no server."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from panokit import __version__
from panokit._files import write_text
from panokit._places import check_output_file
from panokit.effects import EffectResult, portrait_blur
from panokit.errors import ArgumentError, MissingExtraError, PhotoError
from panokit.photo import Photo
from panokit.render import segment_colors
from panokit.result import PanopticResult, Segment

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL import Image

__all__ = ["GalleryEntry", "GalleryResult", "Segments", "write_gallery"]

DISPLAY_SIDE = 1024
"""Longest side of the pictures in the page, in pixels."""

JPEG_QUALITY = 85
SWATCHES = 8
"""Most colours shown for one class; a crowd has as many as it has persons."""

Progress = Callable[[Sequence[Path]], Iterable[Path]]


class Segments(Protocol):
    """What the gallery needs of a :class:`panokit.Segmenter`."""

    def segment(self, photo: Photo, /) -> PanopticResult:
        """Segment a photo."""


@dataclass(frozen=True)
class GalleryEntry:
    """What became of one photo.

    ``counts`` are objects per thing class and ``segments`` all segments; ``segment_seconds`` and
    ``effect_seconds`` wall time. ``error`` is the sentence that says why the photo could not be
    read, else None.
    """

    photo: Path
    artifact: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    segments: int = 0
    segment_seconds: float = 0.0
    effect_seconds: float = 0.0
    effect_applied: bool = False
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "photo": _text(str(self.photo)),
            "artifact": self.artifact,
            "counts": self.counts,
            "segments": self.segments,
            "segment_seconds": round(self.segment_seconds, 4),
            "effect_seconds": round(self.effect_seconds, 4),
            "effect_applied": self.effect_applied,
            "error": self.error,
        }


@dataclass(frozen=True)
class GalleryResult:
    """The page that was written and what is on it, in the photos' order."""

    page: Path
    entries: tuple[GalleryEntry, ...]

    @property
    def failures(self) -> tuple[GalleryEntry, ...]:
        """The photos that could not be read."""
        return tuple(e for e in self.entries if e.error is not None)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"page": _text(str(self.page)), "photos": [e.to_json() for e in self.entries]}


def write_gallery(
    photos: Sequence[Path], out: Path, segmenter: Segments, progress: Progress = iter
) -> GalleryResult:
    """Segment photos and write one self-contained HTML page about them.

    ``out`` is the page if it ends with ``.html``, else the folder that gets an ``index.html``.
    A photo that cannot be read becomes an entry that says so. ``progress`` wraps the photos as
    they are worked on, as :func:`rich.progress.track` does.
    """
    if not photos:
        raise ArgumentError(
            "photos", f"there are no photos in {list(photos)}; expected at least one"
        )
    page = _page_path(out)
    check_output_file(page)
    template = _template()
    entries: list[GalleryEntry] = []
    shown: list[dict[str, Any]] = []
    for photo in progress(photos):
        entry, view = _entry(photo, segmenter)
        entries.append(entry)
        shown.append(view)
    artifacts = list(dict.fromkeys(e.artifact for e in entries if e.artifact))
    html = template.render(entries=shown, artifacts=artifacts, version=__version__)
    write_text(page, html)
    return GalleryResult(page, tuple(entries))


def _page_path(out: Path) -> Path:
    page = out if out.suffix.lower() in (".html", ".htm") else out / "index.html"
    if page.is_dir() or (page != out and out.exists() and not out.is_dir()):
        raise ArgumentError(
            "out", f"out is {str(out)!r}; expected a folder, or a page that ends with .html"
        )
    return page


def _template() -> Template:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("The gallery", "demo") from None
    environment = Environment(
        loader=PackageLoader("panokit_demo"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("gallery.html.j2")


def _entry(path: Path, segmenter: Segments) -> tuple[GalleryEntry, dict[str, Any]]:
    """A photo's entry, and the same in words and pictures for the template."""
    title = _text(path.name)
    try:
        photo = Photo.open(path)
    except PhotoError as error:
        # The name alone: pages are passed on, and folders of one's computer are nobody's business.
        sentence = _text(f"{path.name}: {error.reason}")
        return GalleryEntry(path, error=sentence), {"title": title, "error": sentence}
    started = time.perf_counter()
    result = segmenter.segment(photo)
    segmented = time.perf_counter()
    effect = portrait_blur(photo, result)
    entry = GalleryEntry(
        photo=path,
        artifact=result.artifact,
        counts=result.counts,
        segments=len(result),
        segment_seconds=segmented - started,
        effect_seconds=time.perf_counter() - segmented,
        effect_applied=effect.applied,
    )
    return entry, {"title": title, "error": None, "entry": entry, **_view(result, effect)}


def _view(result: PanopticResult, effect: EffectResult) -> dict[str, Any]:
    from PIL import Image

    size = _display_size(result.photo.size_wh)
    by_area = sorted(result, key=lambda s: -s.area)
    colors = {i: "#{:02x}{:02x}{:02x}".format(*c) for i, c in segment_colors(result).items()}
    total = result.id_map.size
    return {
        "size": result.photo.size_wh,
        "display": size,
        "photo": _data_uri(Image.fromarray(result.photo.rgb_hwc), size),
        "overlay": _data_uri(result.overlay(), size),
        "blur": _data_uri(effect.image, size) if effect.applied else None,
        "message": effect.message,
        "found": _found(result),
        "legend": _legend(by_area, colors, total),
        "void": 1 - sum(s.area for s in by_area) / total,
        "segments": [
            {
                "color": colors[s.id],
                "name": s.category.name,
                "kind": "object" if s.is_thing else "region",
                "score": s.score,
                "share": s.area / total,
            }
            for s in by_area
        ],
    }


def _legend(by_area: list[Segment], colors: dict[int, str], total: int) -> list[dict[str, Any]]:
    """The classes of a photo, the largest first: colours, objects and share of the photo."""
    classes: dict[str, list[Segment]] = {}
    for segment in by_area:
        classes.setdefault(segment.category.name, []).append(segment)
    legend = [
        {
            "name": name,
            "colors": [colors[s.id] for s in of_class[:SWATCHES]],
            "count": len(of_class) if of_class[0].is_thing else None,
            "share": sum(s.area for s in of_class) / total,
        }
        for name, of_class in classes.items()
    ]
    return sorted(legend, key=lambda c: -c["share"])


def _found(result: PanopticResult) -> str:
    """What is in the photo, in words: the pictures' alternative text."""
    things = [f"{n} × {name}" for name, n in result.counts.items()]
    stuff = dict.fromkeys(s.category.name for s in result if not s.is_thing)
    return ", ".join([*things, *stuff]) or "nothing the network knows"


def _display_size(size_wh: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, DISPLAY_SIDE / max(size_wh))
    return max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))


def _data_uri(image: Image.Image, size_wh: tuple[int, int]) -> str:
    from PIL import Image

    if image.size != size_wh:
        image = image.resize(size_wh, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _text(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 (they are legal in names) become a mark."""
    return name.encode("utf-8", "replace").decode("utf-8")
