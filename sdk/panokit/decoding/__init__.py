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
from panokit.decoding.merge import MERGE_PRESETS, Merge, MergeConfig
from panokit.decoding.panoptic_map import DecodedSegment, PanopticMap
from panokit.decoding.semantic import Semantic, SemanticConfig, SemanticHeads

__all__ = [
    "INSTANCE_PRESETS",
    "MERGE_PRESETS",
    "CenterOffset",
    "DecodedSegment",
    "Heads",
    "Instance",
    "InstanceHeads",
    "InstanceSet",
    "Instances",
    "InstancesConfig",
    "Merge",
    "MergeConfig",
    "PanopticMap",
    "PostprocessConfig",
    "Semantic",
    "SemanticConfig",
    "SemanticHeads",
    "postprocess",
]
