"""Families of networks by name: how each one decodes, and what it wants as input.

Facts from the families' own code and from Transformers' ports of them. What a family leaves open
(sizes, thresholds of one data set) is the user's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from panokit.decoding import (
    INSTANCE_PRESETS,
    MASK_QUERY_PRESETS,
    DecodingSettings,
    PostprocessConfig,
    SemanticConfig,
)
from panokit.preprocessing import Fit, PreprocessConfig

__all__ = ["FAMILIES", "MODULES", "Family"]

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (123.675, 116.28, 103.53)
IMAGENET_STD: Triple = (58.395, 57.12, 57.375)
ZERO: Triple = (0.0, 0.0, 0.0)
ONE: Triple = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Family:
    """``decoding``: the settings of its contract. The rest is the input: where the photo lies, the
    colour beside it, and ``mean`` and ``std`` of a float input, in 0..255."""

    decoding: DecodingSettings
    fit: Fit = "letterbox"
    padding: tuple[int, int, int] = (0, 0, 0)
    mean: Triple = ZERO
    std: Triple = ONE
    order: Literal["rgb", "bgr"] = "rgb"

    def preprocessing(self, size_wh: tuple[int, int]) -> PreprocessConfig:
        """The input of a network of this size."""
        return PreprocessConfig(
            size_wh=size_wh,
            fit=self.fit,
            padding=self.padding,
            mean=self.mean,
            std=self.std,
            order=self.order,
        )


# What is padded with 0 after normalising is padded with the mean before it.
_CORNER = Family(
    MASK_QUERY_PRESETS["mask2former"], "top-left", (124, 116, 104), IMAGENET_MEAN, IMAGENET_STD
)
_STRETCHED = Family(
    MASK_QUERY_PRESETS["transformers-mask2former"],
    "stretch",
    (0, 0, 0),
    IMAGENET_MEAN,
    IMAGENET_STD,
)
_YOLO = Family(INSTANCE_PRESETS["yolo-seg"], "letterbox", (114, 114, 114), ZERO, (255.0,) * 3)

FAMILIES: dict[str, Family] = {
    "center-offset": Family(PostprocessConfig()),
    "panokit-queries": Family(MASK_QUERY_PRESETS["mask2former"]),  # our own query network
    "mask2former": _CORNER,
    "oneformer": _CORNER,
    "maskformer": replace(_CORNER, decoding=MASK_QUERY_PRESETS["maskformer"]),
    # It normalises inside: its input is 0..1.
    "eomt": Family(MASK_QUERY_PRESETS["eomt"], "top-left", std=(255.0,) * 3),
    "kmax": Family(
        MASK_QUERY_PRESETS["kmax"], "top-left", (128, 128, 128), (127.5,) * 3, (127.5,) * 3
    ),
    "maskconver": replace(_CORNER, decoding=MASK_QUERY_PRESETS["maskconver"]),
    "transformers-mask2former": _STRETCHED,
    "transformers-maskformer": replace(
        _STRETCHED, decoding=MASK_QUERY_PRESETS["transformers-maskformer"]
    ),
    "transformers-oneformer": replace(
        _STRETCHED, decoding=MASK_QUERY_PRESETS["transformers-oneformer"]
    ),
    # Transformers decodes DETR's panoptic head by MaskFormer's rule.
    "transformers-detr": replace(
        _STRETCHED, decoding=MASK_QUERY_PRESETS["transformers-maskformer"], fit="top-left"
    ),
    "transformers-eomt": replace(
        _STRETCHED, decoding=MASK_QUERY_PRESETS["transformers-eomt"], fit="top-left"
    ),
    **{
        name: replace(_YOLO, decoding=INSTANCE_PRESETS[name])
        for name in ("yolo-seg", "yolo-seg-v5", "yolo-seg-end2end", "yolo-seg-split")
    },
    "rf-detr-seg": replace(_STRETCHED, decoding=INSTANCE_PRESETS["rf-detr-seg"]),
    "semantic": Family(SemanticConfig()),
    "semantic-labels": Family(SemanticConfig(input="labels")),
    # One channel: an object (a person, say) against the rest.
    "foreground": Family(
        SemanticConfig(input="probabilities", threshold=0.5), "letterbox", std=(255.0,) * 3
    ),
    "torchvision-semantic": Family(
        SemanticConfig(), "letterbox", (124, 116, 104), IMAGENET_MEAN, IMAGENET_STD
    ),
    "transformers-segformer": replace(_STRETCHED, decoding=SemanticConfig()),
    # TensorFlow's DeepLab and MOSAIC: -1..1, and the first with aligned corners.
    "deeplab": Family(
        SemanticConfig(align_corners=True), "letterbox", (128, 128, 128), (127.5,) * 3, (127.5,) * 3
    ),
    "deeplab-labels": Family(
        SemanticConfig(input="labels"), "letterbox", (128, 128, 128), (127.5,) * 3, (127.5,) * 3
    ),
}
"""By the names that ``panokit adopt --contract`` takes."""

MODULES: dict[str, str] = {
    "DetrForSegmentation": "transformers-detr",
    "QueryNetwork": "panokit-queries",
    "EomtForUniversalSegmentation": "transformers-eomt",
    "OneFormerForUniversalSegmentation": "transformers-oneformer",
    "MaskFormerForInstanceSegmentation": "transformers-maskformer",
    "Mask2FormerForUniversalSegmentation": "transformers-mask2former",
    "SegformerForSemanticSegmentation": "transformers-segformer",
    "DeepLabV3": "torchvision-semantic",
    "FCN": "torchvision-semantic",
    "LRASPP": "torchvision-semantic",
}
"""The families of torch classes by their names, as Transformers and torchvision call them."""
