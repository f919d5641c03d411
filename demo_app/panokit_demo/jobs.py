"""The work itself: what a worker process does for the server, with nothing kept but the networks.

Everything that comes in and goes out is plain data, so that a worker can be stopped at any time.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import TensorSpec
from panokit.decoding import PanopticMap
from panokit.dump import read_dump
from panokit.effects import Edit, EditList, EffectResult, Fill, Pick
from panokit.errors import ArgumentError, DumpError, HeadError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.render import segment_colors
from panokit.result import PanopticResult
from panokit.runtime import Runtime
from panokit.segmenter import Segmenter
from panokit_demo.budget import processor_seconds
from panokit_demo.catalog import Catalog
from panokit_demo.limits import DemoLimits
from panokit_demo.uploads import open_upload
from panokit_validation import validate_dump

__all__ = ["Picture", "Segmented", "Studio", "WorkingPhoto"]

MOST_NETWORKS = 4
"""Networks that a worker keeps loaded."""

_MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


@dataclass(frozen=True)
class WorkingPhoto:
    """A photo in use: the file as it came, and the copy that is shown and edited, uint8
    ``[h,w,3]`` sRGB, upright, no larger than the working side. ``full_wh`` is the photo's size."""

    name: str
    source: bytes = field(repr=False)
    rgb_hwc: NDArray[np.uint8] = field(repr=False)
    full_wh: tuple[int, int]
    orientation: int = 1
    color: str = "srgb"
    backgrounds: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Pictures to put behind something, by the names that fills give them."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Size of the working copy."""
        return self.rgb_hwc.shape[1], self.rgb_hwc.shape[0]

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        pictures = sum(map(len, self.backgrounds.values()))
        return len(self.source) + self.rgb_hwc.nbytes + pictures

    def photo(self) -> Photo:
        """The working copy as a photo."""
        return Photo(self.rgb_hwc, self.orientation, self.color, name=self.name)


@dataclass(frozen=True)
class Segmented:
    """What an artifact found in a working photo; ``milliseconds`` by step."""

    artifact: str
    decoded: PanopticMap
    milliseconds: dict[str, float]
    described: dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """An encoded picture, and what was done to it in words."""

    data: bytes = field(repr=False)
    media_type: str
    message: str = ""
    applied: bool = True
    transparent: bool = False
    milliseconds: float = 0.0


class _Timed:
    """A runtime that remembers how long its last run took."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self._runtime = runtime.name, runtime
        self.milliseconds = 0.0

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        started = time.perf_counter()
        heads = self._runtime.run(image_hwc)
        self.milliseconds = _since(started)
        return heads


class Studio:
    """A worker's tools: limits, the catalog, and the networks that are loaded."""

    def __init__(
        self, limits: DemoLimits, bundles: Sequence[Path | None], artifact: str | None = None
    ) -> None:
        self.limits = limits
        self.catalog = Catalog.open(bundles, artifact, verify=False)
        self._networks: dict[str, tuple[Segmenter, _Timed]] = {}

    def ready(self) -> bool:
        """Load what the first photo needs."""
        self._network(self.catalog.default)
        return True

    def open(self, source: bytes, name: str, artifact: str) -> tuple[WorkingPhoto, Segmented]:
        """A photo from outside, and what is in it."""
        started = time.perf_counter()
        photo = self._decoded(source, name)
        rgb = _shrunk(photo, self.limits.working_side)
        decoding = _since(started)
        working = WorkingPhoto(name, source, rgb, photo.size_wh, photo.orientation, photo.color)
        found = self.segment(working, artifact)
        found.milliseconds["open"] = round(decoding, 1)
        return working, found

    def segment(self, working: WorkingPhoto, artifact: str) -> Segmented:
        """What an artifact finds in a working photo."""
        segmenter, timed = self._network(artifact)
        started = time.perf_counter()
        stages = segmenter.stages(working.photo())
        total = _since(started)
        result = PanopticResult.from_map(
            stages.photo, stages.panoptic, segmenter.taxonomy, stages.transform, artifact
        )
        described = result.to_json() | {"colors": _hex_colors(result)}
        times = {
            "network": round(timed.milliseconds, 1),
            "other": round(total - timed.milliseconds, 1),
        }
        return Segmented(artifact, stages.panoptic, times, described)

    def shown(self, working: WorkingPhoto, kind: str) -> Picture:
        """The working copy itself, as ``"jpg"`` to look at or ``"png"`` for its exact pixels."""
        return _encoded(working.photo(), None, kind)

    def background(self, source: bytes, name: str) -> bytes:
        """A picture from outside that is to lie behind something, as it is kept: a JPEG."""
        photo = self._decoded(source, name)
        rgb = _shrunk(photo, self.limits.background_side)
        return _encoded(Photo.from_array(rgb), None, "jpg").data

    def edit(
        self,
        working: WorkingPhoto,
        found: Segmented,
        edits: dict[str, Any],
        kind: str = "",
        draft: bool = False,
    ) -> Picture:
        """The working copy with edits, smaller as a draft. Taps are in pixels of the photo."""
        started = time.perf_counter()
        if draft:
            small = _shrunk(working.photo(), self.limits.draft_side)
            working = replace(working, rgb_hwc=small)
        result = self._result(working.photo(), found)
        listed = self._edits(edits, result, working)
        done = listed.replay(result.photo, result, draft=draft)
        picture = _encoded(done.photo, done, kind or ("webp" if done.transparent else "jpg"))
        return _timed(picture, started)

    def download(
        self, working: WorkingPhoto, found: Segmented, edits: dict[str, Any], kind: str
    ) -> Picture:
        """The whole photo with edits, as a file that keeps its profile and EXIF."""
        started = time.perf_counter()
        listed = self._edits(edits, self._result(working.photo(), found), working, full=True)
        photo = self._decoded(working.source, working.name)
        done = _saved(listed.replay(photo, self._result(photo, found)), kind)
        return _timed(done, started)

    def segment_once(self, source: bytes, name: str, artifact: str, output: str) -> Any:
        """The API's segmentation: JSON with the id map, or a picture."""
        started = time.perf_counter()
        photo = self._decoded(source, name)
        segmenter, timed = self._network(artifact)
        result = segmenter.segment(photo)
        if output == "overlay":
            overlay = _encoded(Photo.from_array(np.asarray(result.overlay())), None, "jpg")
            return _timed(overlay, started)
        ids = _id_png(result.id_map)
        if output == "ids":
            return _timed(Picture(ids, "image/png"), started)
        milliseconds = {"network": round(timed.milliseconds, 1)}
        told = {"artifact": self.catalog.get(artifact).id, "milliseconds": milliseconds}
        return result.to_json() | told, ids

    def edit_once(
        self, source: bytes, name: str, artifact: str, edits: dict[str, Any], kind: str
    ) -> Picture:
        """The API's effects: a photo with edits, at full size."""
        started = time.perf_counter()
        photo = self._decoded(source, name)
        segmenter, _ = self._network(artifact)
        done = _saved(self._edit_list(edits).replay(photo, segmenter.segment(photo)), kind)
        return _timed(done, started)

    def validate(self, dump: bytes, name: str, artifact: str, diagnose: bool) -> dict[str, Any]:
        """The API's validation of a device dump, JSON-ready."""
        suffix = next((s for s in (".safetensors", ".npz") if name.endswith(s)), None)
        if suffix is None:
            raise DumpError(name, "expected a device dump that ends in .safetensors or .npz")
        segmenter, _ = self._network(artifact)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"dump{suffix}"
            path.write_bytes(dump)
            opened = read_dump(path, name)
        photo = opened.tensors.get("photo")
        if photo is not None and photo.shape[0] * photo.shape[1] > self.limits.pixels:
            raise DumpError(name, f"expected a photo of at most {self.limits.pixels} pixels")
        try:
            return validate_dump(opened, segmenter, diagnose=diagnose).to_json()
        except HeadError as error:
            raise DumpError(name, str(error)) from None

    def _decoded(self, source: bytes, name: str) -> Photo:
        """An upload's photo; a file that takes too long ends this process."""
        with processor_seconds(self.limits.photo_seconds):
            return open_upload(source, name, self.limits)

    def _network(self, artifact: str) -> tuple[Segmenter, _Timed]:
        offer = self.catalog.get(artifact)
        if offer.id not in self._networks:
            while len(self._networks) >= MOST_NETWORKS:
                self._networks.pop(next(iter(self._networks)))
            opened = Segmenter.open(offer.bundle, offer.artifact.name, threads=1)
            timed = _Timed(opened.runtime)
            network = Segmenter(offer.bundle, offer.artifact, timed)
            timed.run(np.zeros(_image_shape(offer.artifact.input), np.uint8))  # the first is slow
            self._networks[offer.id] = network, timed
        return self._networks[offer.id]

    def _result(self, photo: Photo, found: Segmented) -> PanopticResult:
        """The found map on a photo of any size."""
        manifest = self.catalog.get(found.artifact).bundle.manifest
        size = manifest.preprocessing.size_wh
        transform = letterbox(photo.size_wh, size, photo.orientation, photo.color)
        return PanopticResult.from_map(
            photo, found.decoded, manifest.taxonomy, transform, found.artifact
        )

    def _edits(
        self, data: Any, result: PanopticResult, working: WorkingPhoto, full: bool = False
    ) -> EditList:
        """Edits whose taps have become segments, so that they mean the same at every size. Other
        points are those of the working copy, or of the ``full`` photo."""
        listed = self._edit_list(data)
        scale = [a / b for a, b in zip(working.size_wh, working.full_wh, strict=True)]
        edits = tuple(
            _with_background(_by_segment(e, result, scale, full), working) for e in listed.edits
        )
        return replace(listed, edits=edits)

    def _edit_list(self, data: Any) -> EditList:
        listed = EditList.from_json(data)
        if len(listed.edits) > self.limits.edits:
            raise ArgumentError(
                "edits",
                f"there are {len(listed.edits)} edits; expected at most {self.limits.edits}",
            )
        return listed


def _by_segment(edit: Edit, result: PanopticResult, scale: Sequence[float], full: bool) -> Edit:
    pick = getattr(edit, "pick", None)
    if not isinstance(pick, Pick):
        return edit
    small = pick.scaled(scale)
    placed = pick if full else small
    if pick.tap is not None and small.tap is not None:
        w, h = result.photo.size_wh
        x, y = small.tap
        if not (0 <= x < w and 0 <= y < h):
            size = " by ".join(f"{n / s:.0f}" for n, s in zip((w, h), scale, strict=True))
            raise ArgumentError(
                "pick tap",
                f"pick tap is {list(pick.tap)}; expected a point inside the photo, {size} pixels",
            )
        hit = result.at(x, y)
        if hit is not None:
            placed = replace(placed, tap=None, segment=hit.id)
    return replace(edit, pick=placed)  # type: ignore[call-arg]  # kinds with a pick only


def _with_background(edit: Edit, working: WorkingPhoto) -> Edit:
    """The edit with the picture that its fill names."""
    fill = getattr(edit, "fill", None)
    if not isinstance(fill, Fill) or not isinstance(fill.photo, str):
        return edit
    data = working.backgrounds.get(fill.photo)
    if data is None:
        known = ", ".join(working.backgrounds) or "none yet"
        raise ArgumentError(
            "fill photo",
            f"fill photo is {fill.photo!r:.80}; expected a picture that was added as a background "
            f"({known}); add it with Own picture",
        )
    return replace(edit, fill=Fill(photo=Photo.open(data)))  # type: ignore[call-arg]


def _shrunk(photo: Photo, side: int) -> NDArray[np.uint8]:
    from PIL import Image

    w, h = photo.size_wh
    scale = side / max(w, h)
    if scale >= 1:
        return photo.rgb_hwc
    size = max(1, round(w * scale)), max(1, round(h * scale))
    image = Image.fromarray(photo.rgb_hwc)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def _encoded(photo: Photo, done: EffectResult | None, kind: str) -> Picture:
    """A picture to look at."""
    from PIL import Image

    image = Image.fromarray(photo.rgb_hwc) if done is None else done.image
    out = io.BytesIO()
    if kind == "png":
        image.save(out, "PNG", compress_level=1)
    elif kind == "webp":
        image.save(out, "WEBP", quality=90, method=0)
    else:
        image.convert("RGB").save(out, "JPEG", quality=92, subsampling=0)
    message, applied = ("", True) if done is None else (done.message, done.applied)
    transparent = done is not None and done.transparent
    return Picture(out.getvalue(), _MEDIA_TYPES[kind], message, applied, transparent)


def _saved(done: EffectResult, kind: str) -> Picture:
    """A file to keep, as the SDK writes it."""
    with tempfile.TemporaryDirectory() as folder:
        data = done.save(Path(folder) / f"picture.{kind}").read_bytes()
    return Picture(data, _MEDIA_TYPES[kind], done.message, done.applied, done.transparent)


def _id_png(id_map: NDArray[np.int32]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(id_map.astype(np.uint16)).save(out, "PNG", compress_level=4)
    return out.getvalue()


def _hex_colors(result: PanopticResult) -> dict[str, str]:
    return {str(i): "#{:02x}{:02x}{:02x}".format(*c) for i, c in segment_colors(result).items()}


def _image_shape(spec: TensorSpec) -> tuple[int, ...]:
    shape = spec.shape[1:]
    return shape if spec.layout != "nchw" else (*shape[1:], shape[0])


def _timed(picture: Picture, started: float) -> Picture:
    """A picture with the time that it took."""
    return replace(picture, milliseconds=round(_since(started), 1))


def _since(started: float) -> float:
    return 1e3 * (time.perf_counter() - started)


def parse_edits(text: str) -> dict[str, Any]:
    """Edits as JSON text: the object of ``edits.json``, or its list of edits alone."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(
            "edits", f"the edits are not JSON as in edits.json: {f'{error}'[:120]}"
        ) from None
    if isinstance(data, list):
        data = {"version": 1, "edits": data}
    return dict(data) if isinstance(data, dict) else {"version": None}
