"""How close an artifact comes to its reference: heads, classes per cell, panoptic maps.

A panoptic map is an unsteady function of the heads: where two classes are equally likely, a change
in the last bit flips a pixel. Pixels that differ are therefore told apart. At a *tie* the
reference's own decision hangs on less than the number format of the artifact's heads resolves, so
that no artifact of this precision could be asked to decide alike; the others are differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.agreement import AgreementMeter, HeadAgreement
from panokit.bundle import Artifact, is_plain
from panokit.decoding import DecodingSettings, Heads, PanopticMap, PostprocessConfig
from panokit.decoding.comparing import (
    aligned_rows,
    content_pixels,
    matched_pixels,
    unsteady_pixels,
)
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy
from panokit_datasets.quality import PanopticQuality, TruthSegment

__all__ = [
    "Agreement",
    "AgreementSum",
    "HeadAgreement",
    "PanopticAgreement",
    "compare_heads",
    "head_resolution",
]

HeadArrays = Mapping[str, NDArray[Any]]

# Heads that hold a number per class, and their axes then; with one less they hold labels.
_CLASS_HEADS = {"semantic": 3, "classes": 2, "scores": 2}

# The finest relative step of a precision, a few roundings deep.
_FLOAT32_STEP = 2.0**-20
_FLOAT16_STEP = 2.0**-10


@dataclass(frozen=True)
class PanopticAgreement:
    """Panoptic maps against the reference's, pooled over photos.

    ``pq`` 0..100: panoptic quality with the reference's map as ground truth (None if neither has
    a segment). ``equal_pixels``, ``ties`` and ``different`` 0..1 are shares of the photos' pixels
    that add up to 1: of a matched segment (or void in both); not, but the reference's own choice
    there is a tie; not, and it is none.
    """

    pq: float | None
    equal_pixels: float
    ties: float
    different: float

    def to_json(self) -> dict[str, float | None]:
        """A JSON-ready dict."""
        return {k: None if v is None else round(v, 6) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Agreement:
    """All heads over ``photos`` photos; ``argmax`` is the share of head cells (queries, anchors)
    with the same class, None for heads without classes of their own; ``panoptic`` is None where
    maps were not decoded."""

    heads: dict[str, HeadAgreement]
    argmax: float | None
    photos: int
    panoptic: PanopticAgreement | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, figures rounded to what they are good for."""
        data: dict[str, Any] = {
            "heads": {name: head.to_json() for name, head in self.heads.items()},
            "argmax_agreement": None if self.argmax is None else round(self.argmax, 6),
            "photos": self.photos,
        }
        if self.panoptic is not None:
            data["panoptic"] = self.panoptic.to_json()
        return data


class AgreementSum:
    """Takes photos one after the other: heads float32 ``[h,w,C]`` or rows by name.

    With ``taxonomy`` panoptic maps are decoded (as ``config`` says) and compared too, of photos
    whose transform is given; ``artifact``, whose heads are the candidate's, sets what a tie is.
    """

    def __init__(
        self,
        taxonomy: Taxonomy | None = None,
        config: DecodingSettings | None = None,
        artifact: Artifact | None = None,
    ) -> None:
        self._config, self._artifact = config or PostprocessConfig(), artifact
        self._meters = {name: AgreementMeter() for name in self._config.head_names()}
        self._classes = next((n for n in _CLASS_HEADS if n in self._meters), None)
        self._same = self._cells = self._photos = 0
        self._pixels = np.zeros(3, np.int64)  # equal, tie, different
        self._quality = None if taxonomy is None else PanopticQuality(taxonomy)

    def update(
        self,
        reference: HeadArrays,
        candidate: HeadArrays,
        transform: TransformRecord | None = None,
    ) -> None:
        """Add one photo."""
        for name, meter in self._meters.items():
            r, c = np.asarray(reference[name]), np.asarray(candidate[name])
            if r.shape != c.shape:
                raise HeadError(
                    name, f"expected shape {r.shape} as in the reference, got {c.shape}"
                )
            if not np.isfinite(c).all():
                raise HeadError(name, "expected finite numbers, got NaN or infinity")
            r, c = aligned_rows(name, r, c, self._config)
            if r.size:
                meter.update(r, c)
        if self._classes is not None:
            pair = reference[self._classes], candidate[self._classes]
            if pair[0].ndim == _CLASS_HEADS[self._classes]:
                pair = pair[0].argmax(-1), pair[1].argmax(-1)
            self._same += int((pair[0] == pair[1]).sum())
            self._cells += pair[0].size
        self._photos += 1
        if self._quality is not None and transform is not None:
            self._add_maps(self._quality, reference, candidate, transform)

    def compute(self) -> Agreement:
        """The figures of everything given so far."""
        if not self._photos:
            raise ArgumentError("pairs", "there are no pairs of heads; expected at least one")
        heads = {name: meter.compute() for name, meter in self._meters.items() if meter.count}
        panoptic = None
        total = int(self._pixels.sum())
        if self._quality is not None and total:
            shares = [float(n / total) for n in self._pixels]
            panoptic = PanopticAgreement(self._quality.compute().all, *shares)
        argmax = self._same / self._cells if self._cells else None
        return Agreement(heads, argmax, self._photos, panoptic)

    def _add_maps(
        self,
        quality: PanopticQuality,
        reference: HeadArrays,
        candidate: HeadArrays,
        transform: TransformRecord,
    ) -> None:
        config = self._config
        truth, found = (config.read_heads(heads) for heads in (reference, candidate))
        maps = [
            config.decode(heads, quality.taxonomy, transform, explain=True)
            for heads in (truth, found)
        ]
        quality.update(
            maps[1].ids,
            {s.id: s.channel for s in maps[1].segments},
            maps[0].ids,
            [TruthSegment(s.id, s.channel, s.is_thing) for s in maps[0].segments],
        )
        steps = head_resolution(reference, self._artifact)
        content = content_pixels(maps[0], transform)
        differ = content & ~matched_pixels(maps[0], maps[1])
        if isinstance(config, PostprocessConfig):
            tie = _ties(truth, maps, steps, differ, transform, config)
        elif differ.any():
            twice = {name: 2 * step for name, step in steps.items()}
            moved = unsteady_pixels(config, reference, quality.taxonomy, transform, twice)
            tie = differ & moved
        else:
            tie = differ
        pixels = int(content.sum()), int(differ.sum()), int(tie.sum())
        self._pixels += [pixels[0] - pixels[1], pixels[2], pixels[1] - pixels[2]]


def compare_heads(pairs: Iterable[tuple[HeadArrays, HeadArrays]]) -> Agreement:
    """Compare (reference, candidate) heads, photo by photo: float arrays ``[h,w,C]`` by name."""
    total = AgreementSum()
    for reference, candidate in pairs:
        total.update(reference, candidate)
    return total.compute()


def head_resolution(heads: HeadArrays, artifact: Artifact | None = None) -> dict[str, float]:
    """The least difference that the artifact's heads can tell, in each head's unit.

    The scale of quantised heads; else a few roundings of the largest number, in float16 if the
    artifact keeps its weights or heads in it.
    """
    steps: dict[str, float] = {}
    for name, values in heads.items():
        spec = None if artifact is None else artifact.outputs.get(name)
        if spec is not None and spec.scale is not None:
            steps[name] = spec.scale
            continue
        if spec is not None and is_plain(spec.dtype, spec.scale):
            steps[name] = 0.0  # labels
            continue
        half = artifact is not None and (
            artifact.precision == "float16" or (spec is not None and spec.dtype == "float16")
        )
        peak = float(np.abs(values).max())
        steps[name] = peak * (_FLOAT16_STEP if half else _FLOAT32_STEP)
    return steps


def _ties(
    heads: Heads,
    maps: list[PanopticMap],
    steps: Mapping[str, float],
    differ: NDArray[np.bool_],
    transform: TransformRecord,
    config: PostprocessConfig,
) -> NDArray[np.bool_]:
    """Of the pixels that differ, those where the reference decides by less than two steps."""
    tie = np.zeros_like(differ)
    rows, cols = np.nonzero(differ)
    if not len(rows):
        return tie
    explain = maps[0].explain
    logits = np.sort(explain["semantic"][rows, cols], axis=-1)  # [n,C]
    found = np.zeros(len(rows), bool)
    if logits.shape[1] > 1:
        found |= logits[:, -1] - logits[:, -2] <= 2 * steps["semantic"]
    found |= _vote_ties(explain, rows, cols, transform, 2 * steps["offset"])
    found |= _center_ties(heads, maps, rows, cols, 2 * steps["center"], config)
    tie[rows, cols] = found
    return tie


def _vote_ties(
    explain: Mapping[str, NDArray[Any]],
    rows: NDArray[np.intp],
    cols: NDArray[np.intp],
    transform: TransformRecord,
    step: float,
) -> NDArray[np.bool_]:
    """Pixels whose two nearest centres are equally far, to within ``step`` input pixels."""
    cells, votes = explain["centers"], explain["votes"]
    tie = np.zeros(len(rows), bool)
    voted = votes[rows, cols] >= 0
    if len(cells) < 2 or not voted.any():
        return tie
    (w_in, h_in), (h, w) = transform.input_wh, explain["scores"].shape
    grid_h, grid_w = votes.shape
    rows, cols = rows[voted], cols[voted]
    offset = explain["offset"][rows, cols]
    at_y = (rows + 0.5) * h_in / grid_h + offset[:, 0]
    at_x = (cols + 0.5) * w_in / grid_w + offset[:, 1]
    center_y, center_x = (cells[:, 0] + 0.5) * h_in / h, (cells[:, 1] + 0.5) * w_in / w
    distance = np.hypot(at_y[:, None] - center_y, at_x[:, None] - center_x)
    distance.partition(1, axis=1)
    tie[voted] = distance[:, 1] - distance[:, 0] <= step
    return tie


def _center_ties(
    heads: Heads,
    maps: list[PanopticMap],
    rows: NDArray[np.intp],
    cols: NDArray[np.intp],
    step: float,
    config: PostprocessConfig,
) -> NDArray[np.bool_]:
    """Pixels that either map gives to a centre which the reference scores at the threshold."""
    threshold = np.clip(config.threshold, 1e-9, 1 - 1e-9)
    logit = float(np.log(threshold / (1 - threshold)))
    tie = np.zeros(len(rows), bool)
    for decoded in maps:
        cells = decoded.explain["centers"]
        if not len(cells):
            continue
        at_threshold = np.abs(heads.center[cells[:, 0], cells[:, 1]] - logit) <= step
        votes = decoded.explain["votes"][rows, cols]
        tie |= (votes >= 0) & at_threshold[votes]
    return tie
