"""From raw heads to a panoptic map: one file for each contract of heads, one class with a method
for each stage. The kernels beside them are shared."""

from panokit.decoding.center_offset import CenterOffset, Heads, PostprocessConfig, postprocess
from panokit.decoding.mask_queries import (
    MASK_QUERY_PRESETS,
    MaskQueries,
    MaskQueriesConfig,
    QueryHeads,
)
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.settings import DecodingSettings

__all__ = [
    "MASK_QUERY_PRESETS",
    "CenterOffset",
    "DecodedSegment",
    "DecodingSettings",
    "Heads",
    "MaskQueries",
    "MaskQueriesConfig",
    "PanopticMap",
    "PostprocessConfig",
    "QueryHeads",
    "postprocess",
]
