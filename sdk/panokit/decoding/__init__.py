"""From raw heads to a panoptic map: one file for each contract of heads, one class with a method
for each stage. The kernels beside them are shared."""

from panokit.decoding.center_offset import CenterOffset, Heads, PostprocessConfig, postprocess
from panokit.decoding.instances import (
    INSTANCE_PRESETS,
    Instance,
    InstanceHeads,
    Instances,
    InstancesConfig,
    InstanceSet,
)
from panokit.decoding.mask_queries import (
    MASK_QUERY_PRESETS,
    MaskQueries,
    MaskQueriesConfig,
    QueryHeads,
)
from panokit.decoding.merge import (
    MERGE_PRESETS,
    InstancesSemanticConfig,
    InstancesSemanticHeads,
    Merge,
    MergeConfig,
)
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.semantic import Semantic, SemanticConfig, SemanticHeads
from panokit.decoding.settings import DecodingSettings

__all__ = [
    "INSTANCE_PRESETS",
    "MASK_QUERY_PRESETS",
    "MERGE_PRESETS",
    "CenterOffset",
    "DecodedSegment",
    "DecodingSettings",
    "Heads",
    "Instance",
    "InstanceHeads",
    "InstanceSet",
    "Instances",
    "InstancesConfig",
    "InstancesSemanticConfig",
    "InstancesSemanticHeads",
    "MaskQueries",
    "MaskQueriesConfig",
    "Merge",
    "MergeConfig",
    "PanopticMap",
    "PostprocessConfig",
    "QueryHeads",
    "Semantic",
    "SemanticConfig",
    "SemanticHeads",
    "postprocess",
]
