"""Pictures of one comparison: inputs and maps side by side, where they differ, how narrowly."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import PanopticMap
from panokit.taxonomy import Taxonomy
from panokit_validation.compare import Comparison
from panokit_validation.maps import MapAgreement
from panokit_validation.margins import class_margins
from panokit_validation.reference import ReferenceStages
from panokit_validation.ties import ERROR, ROUNDING, TIE

__all__ = ["Picture", "pictures_of"]

_KIND_COLORS = {TIE: (70, 140, 255), ROUNDING: (250, 200, 60), ERROR: (235, 40, 40)}
_UNMATCHED = (255, 0, 255)
_HEAT = np.array([(8, 8, 30), (70, 20, 110), (190, 50, 80), (250, 150, 40), (255, 250, 190)])

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One picture as a data URI, with what it shows."""

    title: str
    note: str
    uri: str


def pictures_of(reference: ReferenceStages, comparison: Comparison) -> list[Picture]:
    """The pictures that the dump's stages allow, in the order of the pipeline."""
    view = _View(reference)
    out: list[Picture] = []
    device = reference.device_image
    if reference.image is not None:
        out.append(view.picture("input, reference", "", reference.image))
    if device is not None:
        out.append(view.picture("input, device", "", _bytes(device)))
        if reference.image is not None and comparison.get("input") is not None:
            gap = np.abs(device.astype(np.float32) - reference.image).max(-1)
            out.append(view.heat("input, difference", gap, "of 255"))
    for name in ("semantic", "center", "offset"):
        stage = comparison.get(name)
        if stage is None or stage.given.to_json()["max_abs"] == 0 or reference.given_raw is None:
            continue
        expected = getattr(reference.heads(reference.given_raw), name)
        device_raw = {**reference.given_raw, name: reference.device_raw[name]}
        gap = np.abs(getattr(reference.heads(device_raw), name) - expected)
        out.append(view.heat(f"{name}, difference", gap.max(-1) if gap.ndim == 3 else gap, ""))
    stage = comparison.get("panoptic")
    if stage is not None and isinstance(stage.given, MapAgreement):
        out += _maps(
            view,
            reference,
            stage.given,
            stage.explanation.pixels.kinds if stage.explanation else None,
        )
    return out


def _maps(
    view: _View, reference: ReferenceStages, agreement: MapAgreement, kinds: Rgb | None
) -> list[Picture]:
    given = reference.given_explained
    if given is None:
        return []
    taxonomy, ids = reference.segmenter.taxonomy, reference.dump.tensors["panoptic"]
    own = _segment_colors(given, taxonomy)
    theirs = {0: (0, 0, 0)}
    for s in agreement.segments:
        if s.device_id is not None:
            color = own.get(s.reference_id or -1, _UNMATCHED)
            flipped = s.device_class is not None and s.device_class != s.reference_class
            if flipped and 0 <= (s.device_class or 0) < len(taxonomy):
                color = taxonomy.categories[s.device_class or 0].color
            theirs.setdefault(s.device_id, color)
    out: list[Picture] = []
    chain = reference.panoptic
    if chain is not None and not np.array_equal(chain.ids, given.ids):
        colors = _segment_colors(chain, taxonomy)
        out.append(view.overlay("map, reference", "from the photo", chain.ids, colors))
    out += [
        view.overlay("map, reference", "from the device's previous stage", given.ids, own),
        view.overlay("map, device", "magenta: matches no segment", ids, theirs),
    ]
    if kinds is not None:
        colors = {0: (0, 0, 0), **_KIND_COLORS}
        note = "blue: tie, yellow: rounding, red: error"
        out.append(view.overlay("map, difference", note, kinds, colors, 0.85))
    margin = np.minimum(class_margins(given), 8)
    note = "lead of the best class in logits, up to 8; bright is narrow"
    out.append(view.heat("margins", 8 - margin, note, peak=8.0, legend=False))
    return out


class _View:
    """The photo's part of the input, as a dim ground for maps."""

    def __init__(self, reference: ReferenceStages) -> None:
        self._transform = reference.transform
        image = reference.image if reference.image is not None else reference.device_image
        self._ground = None if image is None else _bytes(image)

    def _cut(self, pixels: Rgb) -> Rgb:
        t = self._transform
        if t is None:
            return pixels
        (w, h), (rows, cols) = t.input_wh, pixels.shape[:2]
        y0, y1 = t.top * rows // h, -(-(t.top + t.content_wh[1]) * rows // h)
        x0, x1 = t.left * cols // w, -(-(t.left + t.content_wh[0]) * cols // w)
        return pixels[y0:y1, x0:x1]

    def picture(self, title: str, note: str, pixels: Rgb) -> Picture:
        """Pixels uint8 ``[H,W,3]`` on any grid over the input."""
        return Picture(title, note, _uri(self._cut(pixels)))

    def heat(
        self,
        title: str,
        values: NDArray[Any],
        unit: str,
        peak: float | None = None,
        legend: bool = True,
    ) -> Picture:
        """A heat map of ``values`` ``[H,W]`` from 0."""
        peak = float(values.max()) if peak is None else peak
        note = f"0 to {peak:.3g} {unit}".strip() if legend else unit
        at = np.clip(values / peak if peak else values, 0, 1) * (len(_HEAT) - 1)
        low = np.minimum(at.astype(int), len(_HEAT) - 2)
        part = (at - low)[..., None]
        colors = _HEAT[low] * (1 - part) + _HEAT[low + 1] * part
        return self.picture(title, note, colors.round().astype(np.uint8))

    def overlay(
        self,
        title: str,
        note: str,
        ids: NDArray[Any],
        colors: dict[int, tuple[int, int, int]],
        opacity: float = 0.6,
    ) -> Picture:
        """A map ``[H,W]`` in colours over the grey photo; 0 shows the photo alone."""
        found, dense = np.unique(ids, return_inverse=True)
        table = np.array([colors.get(int(i), _UNMATCHED) for i in found], np.float32)
        painted = table[dense.reshape(ids.shape)]
        ground = np.zeros_like(painted)
        if self._ground is not None and self._ground.shape == painted.shape:
            ground = np.repeat(self._ground.mean(-1, keepdims=True), 3, -1) * np.float32(0.75)
        weight = np.where(ids == 0, 0, opacity)[..., None]
        mixed = ground * (1 - weight) + painted * weight
        return self.picture(title, note, np.clip(mixed, 0, 255).astype(np.uint8))


def _segment_colors(map_: PanopticMap, taxonomy: Taxonomy) -> dict[int, tuple[int, int, int]]:
    """The class's colour by segment id, darker from instance to instance."""
    colors: dict[int, tuple[int, int, int]] = {0: (0, 0, 0)}
    seen: dict[int, int] = {}
    for s in map_.segments:
        nth = seen[s.channel] = seen.get(s.channel, -1) + 1
        factor = 0.8 ** (nth % 4)
        r, g, b = taxonomy.categories[s.channel].color
        colors[s.id] = (round(r * factor), round(g * factor), round(b * factor))
    return colors


def _bytes(image: NDArray[Any]) -> Rgb:
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _uri(pixels: Rgb) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=88, method=3)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
