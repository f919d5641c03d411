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

__all__ = ["KNOWN_EFFECTS", "reference_effect"]

KNOWN_EFFECTS = ("portrait_blur",)


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
    result = PanopticResult.from_map(
        reference.photo, decoded, reference.segmenter.taxonomy, reference.transform
    )
    strength = _parameters(reference, name).get("strength", 0.5)
    return portrait_blur(reference.photo, result, strength=strength).image_hwc, basis, ""


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
    text = reference.dump.metadata.get("effects", "{}")
    try:
        given = json.loads(text).get(name, {})
        return {str(k): float(v) for k, v in given.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = f"metadata 'effects': expected JSON of parameters by effect, but {error}"
        raise DumpError(reference.dump.path or "dump", reason) from None
