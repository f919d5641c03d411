"""The reference's own effect pictures, for the last stage of the comparison."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import DecodedSegment, PanopticMap
from panokit.effects import portrait_blur
from panokit.errors import DumpError
from panokit.result import PanopticResult
from panokit_validation.reference import ReferenceStages

__all__ = ["KNOWN_EFFECTS", "PORTRAIT", "effect_of", "reference_effect"]

KNOWN_EFFECTS = ("portrait_blur",)
PORTRAIT = "effect.portrait_blur"
PARAMETERS = ("strength",)
"""The parameters of the portrait blur that a dump may name."""


def reference_effect(
    name: str, reference: ReferenceStages
) -> tuple[NDArray[np.uint8] | None, str, str]:
    """The picture that an effect gives on the photo and the device's own map.

    Returns the picture uint8 ``[h0,w0,3]`` (None if it cannot be computed), the stage it starts
    from, and the reason if there is none. Parameters come from the dump's metadata ``effects``,
    e.g. ``{"portrait_blur": {"strength": 0.5}}``.
    """
    if name not in KNOWN_EFFECTS:
        return None, "", f"the reference has no effect {name!r}; it has {', '.join(KNOWN_EFFECTS)}"
    if reference.photo is None or reference.transform is None:
        return None, "", "the dump has no photo"
    decoded, basis = _device_map(reference)
    if decoded is None:
        return None, "", "neither a map with its segments nor heads lead to it"
    picture = effect_of(reference, **_parameters(reference, name))
    return picture, basis, ""


def effect_of(reference: ReferenceStages, strength: float = 0.5) -> NDArray[np.uint8] | None:
    """The portrait blur of the dump's photo with its map, uint8 ``[h0,w0,3]``; None where there is
    no photo or no map."""
    decoded, _ = _device_map(reference)
    if decoded is None or reference.photo is None or reference.transform is None:
        return None
    taxonomy = reference.segmenter.taxonomy
    result = PanopticResult.from_map(reference.photo, decoded, taxonomy, reference.transform)
    return portrait_blur(reference.photo, result, strength=strength).image_hwc


def _device_map(reference: ReferenceStages) -> tuple[PanopticMap | None, str]:
    """The dump's map with its classes, or else the map from its heads."""
    ids, classes = reference.dump.tensors.get("panoptic"), reference.device_classes
    if ids is None or classes is None:
        return reference.given_panoptic, "heads"
    taxonomy = reference.segmenter.taxonomy
    found, dense = np.unique(ids, return_inverse=True)
    segments: list[DecodedSegment] = []
    table = np.zeros(len(found), np.int32)
    for i, segment_id in enumerate(found.tolist()):
        channel = classes.get(segment_id, -1)
        if segment_id == 0 or not 0 <= channel < len(taxonomy):
            continue
        table[i] = len(segments) + 1
        thing = bool(taxonomy.thing_mask[channel])
        area = int((dense == i).sum())
        segments.append(DecodedSegment(len(segments) + 1, channel, thing, 1.0, area))
    return PanopticMap(table[dense.reshape(ids.shape)], tuple(segments)), "panoptic"


def _parameters(reference: ReferenceStages, name: str) -> dict[str, float]:
    text, where = reference.dump.metadata.get("effects", "{}"), reference.dump.path or "dump"
    try:
        given = json.loads(text).get(name, {})
        values = {str(k): float(v) for k, v in given.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = f"metadata 'effects': expected JSON of parameters by effect, but {error}"
        raise DumpError(where, reason) from None
    if unknown := sorted(set(values) - set(PARAMETERS)):
        known = ", ".join(PARAMETERS)
        raise DumpError(
            where, f"metadata 'effects': {name} has the parameters {unknown}; expected {known}"
        )
    return values
