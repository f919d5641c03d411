"""Effects on photos that know what is in them. NumPy and Pillow alone; light is added as light.

Each effect is a function on a photo and its result, and an :class:`Edit` for lists that are
replayed and undone. docs/effects.md is the contract.
"""

from panokit.effects.editing import (
    EDIT_KINDS,
    Blur,
    BlurBackground,
    Edit,
    EditList,
    Highlight,
    Lift,
    Pixelate,
    Recolor,
    Remove,
    ReplaceBackground,
    ReplaceSky,
)
from panokit.effects.fill import Fill
from panokit.effects.highlighting import highlight
from panokit.effects.lifting import lift
from panokit.effects.matting import matte
from panokit.effects.outcome import EffectResult
from panokit.effects.picking import Pick
from panokit.effects.portrait import portrait_blur
from panokit.effects.preview import shrink
from panokit.effects.recoloring import recolor
from panokit.effects.redacting import blur, pixelate
from panokit.effects.removing import remove
from panokit.effects.replacing import replace_background, replace_sky

__all__ = [
    "EDIT_KINDS",
    "Blur",
    "BlurBackground",
    "Edit",
    "EditList",
    "EffectResult",
    "Fill",
    "Highlight",
    "Lift",
    "Pick",
    "Pixelate",
    "Recolor",
    "Remove",
    "ReplaceBackground",
    "ReplaceSky",
    "blur",
    "highlight",
    "lift",
    "matte",
    "pixelate",
    "portrait_blur",
    "recolor",
    "remove",
    "replace_background",
    "replace_sky",
    "shrink",
]
