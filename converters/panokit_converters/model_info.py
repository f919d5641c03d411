"""What every artifact says about itself, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field

from panokit.decoding.settings import DEFAULT_CONTRACT
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy

__all__ = ["ModelInfo"]


@dataclass(frozen=True)
class ModelInfo:
    """What every artifact says about itself, each format in its own way. ``stride``: input pixels a
    cell of the finest head."""

    name: str
    taxonomy: Taxonomy
    licence: str
    version: str
    stride: int = 4
    author: str = "Panokit"
    preprocessing: PreprocessConfig = field(default_factory=PreprocessConfig)
    contract: str = DEFAULT_CONTRACT

    @property
    def labels(self) -> list[str]:
        """Category names in channel order."""
        return [category.name for category in self.taxonomy]

    @property
    def description(self) -> str:
        """What the model is, in two sentences."""
        other = self.contract != DEFAULT_CONTRACT
        heads = f"raw heads of the contract {self.contract}" if other else "raw heads"
        return (
            f"{self.name}: panoptic segmentation, {heads}. Decode them as Panokit's "
            "postprocessing says; the manifest of the bundle holds its parameters."
        )

    def input_description(self, size_wh: tuple[int, int]) -> str:
        """How a photo becomes the input."""
        size = f"{size_wh[0]}x{size_wh[1]}"
        config = self.preprocessing
        color = "black" if config.padding == (0, 0, 0) else f"RGB {config.padding}"
        how = {
            "letterbox": f"scaled to fit {size} and centred on {color}",
            "top-left": f"scaled to fit {size}, in its top left corner, {color} beside it",
            "stretch": f"scaled to {size}, both sides alike or not",
        }[config.fit]
        return f"Photo, RGB, 0..255, {how}; normalisation is in the graph."

    @property
    def vision_option(self) -> str:
        """What Apple's Vision calls this way to place a photo; nothing where it has none."""
        return {"letterbox": "scaleFit", "stretch": "scaleFill"}.get(self.preprocessing.fit, "")

    @property
    def head_descriptions(self) -> dict[str, str]:
        """What each head holds."""
        return {
            "semantic": "Logits per category, in the order of the labels.",
            "center": "Logit of an object's centre; apply the sigmoid.",
            "offset": "(dy, dx) in input pixels to the object's centre.",
            "classes": "Of each query, a number per category, and perhaps one for no object.",
            "masks": "Mask logits over the input, a channel for each query or box.",
            "detections": "Of each anchor its box, class scores and mask coefficients.",
            "boxes": "A box for each row of scores.",
            "scores": "Of each box, a number per category.",
            "coefficients": "Of each box, what its mask takes of each prototype.",
            "prototypes": "Pictures over the input, of which masks are mixed.",
        }
