"""Annotation files of other kinds: what they are, and what makes COCO panoptic of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["foreign_kind"]

_EXPECTED = (
    "expected COCO panoptic: one annotation a photo, with 'segments_info', and a PNG of segment ids"
)
_FROM_INSTANCES = (
    "converters/detection2panoptic_coco_format.py of https://github.com/cocodataset/panopticapi "
    "converts instances whose masks do not overlap"
)
_BY_INSTANCES = (
    f"export COCO instances from the tool that made it, then {_FROM_INSTANCES}; some tools export "
    "COCO panoptic themselves"
)


def foreign_kind(data: object) -> str | None:
    """What a JSON file of annotations is, in a sentence that names what converts it, if it is of
    a kind that is known and not COCO panoptic; else None."""
    if isinstance(data, list):
        return _of_list(data)
    if not isinstance(data, Mapping):
        return None
    if "shapes" in data and ("imagePath" in data or "imageHeight" in data):
        return f"this is LabelMe JSON (one file a photo); {_EXPECTED}; {_BY_INSTANCES}"
    if "objects" in data and "imgHeight" in data:
        return (
            f"these are polygons of Cityscapes (one file a photo); {_EXPECTED}; "
            "cityscapesscripts' csCreatePanopticImgs converts them"
        )
    if "_via_img_metadata" in data or any(_is_via(v) for v in list(data.values())[:3]):
        return f"this is JSON of the VGG Image Annotator; {_EXPECTED}; {_BY_INSTANCES}"
    if data.get("type") == "FeatureCollection":
        return f"this is GeoJSON; {_EXPECTED}; {_BY_INSTANCES}"
    return _of_coco(data.get("annotations"))


def _of_coco(annotations: object) -> str | None:
    """The kind of COCO annotations by the first of them that says it."""
    if not isinstance(annotations, list):
        return None
    for item in annotations[:1000]:
        if not isinstance(item, Mapping) or "segments_info" in item:
            return None
        if "caption" in item:
            return f"these are COCO captions, without any masks; {_EXPECTED}"
        if item.keys() & {"segmentation", "bbox", "keypoints"}:
            return (
                "these are COCO instances (one annotation an object, with polygons, boxes or "
                f"keypoints); {_EXPECTED}; {_FROM_INSTANCES}"
            )
    return None


def _of_list(items: list[Any]) -> str | None:
    first = items[0] if items and isinstance(items[0], Mapping) else {}
    if "image_id" in first and first.keys() & {"bbox", "segmentation", "score", "keypoints"}:
        return (
            "this is a list of COCO instances as detectors write their results; "
            f"{_EXPECTED}; {_FROM_INSTANCES}"
        )
    if "segments_info" in first:
        return (
            "this is a list of panoptic results without 'images' and 'categories'; expected an "
            "object with all three, as in COCO's panoptic_val2017.json"
        )
    if first.keys() & {"annotations", "predictions", "completions"}:
        return f"this is JSON of Label Studio; {_EXPECTED}; {_BY_INSTANCES}"
    return None


def _is_via(value: object) -> bool:
    return isinstance(value, Mapping) and "regions" in value and "filename" in value
