"""What every artifact says about itself, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass

from panokit.taxonomy import Taxonomy

__all__ = ["ModelInfo"]


@dataclass(frozen=True)
class ModelInfo:
    """What every artifact says about itself, each format in its own way."""

    name: str
    taxonomy: Taxonomy
    licence: str
    version: str
    stride: int = 4
    author: str = "Panokit"

    @property
    def labels(self) -> list[str]:
        """Category names in channel order."""
        return [category.name for category in self.taxonomy]

    @property
    def description(self) -> str:
        """What the model is, in two sentences."""
        return (
            f"{self.name}: panoptic segmentation, raw heads. Decode them as Panokit's "
            "postprocessing says; the manifest of the bundle holds its parameters."
        )

    def input_description(self, size_wh: tuple[int, int]) -> str:
        """How a photo becomes the input."""
        return (
            f"Photo, RGB, 0..255, scaled to fit {size_wh[0]}x{size_wh[1]} and centred on black; "
            "normalisation is in the graph."
        )

    @property
    def head_descriptions(self) -> dict[str, str]:
        """What each head holds."""
        return {
            "semantic": "Logits per category, in the order of the labels.",
            "center": "Logit of an object's centre; apply the sigmoid.",
            "offset": "(dy, dx) in input pixels to the object's centre.",
        }
