"""Effects on photos that know what is in them. NumPy and Pillow alone; light is added as light."""

from panokit.effects.portrait import EffectResult, portrait_blur

__all__ = ["EffectResult", "portrait_blur"]
