"""Effects on photos that know what is in them. NumPy and Pillow alone; light is added as light.

Each effect is a frozen dataclass, an :class:`Edit`: its fields are its parameters and its ``apply``
does it. An :class:`EditList` replays edits and undoes them. docs/effects.md is the contract.
"""

from panokit.effects.edit import Edit
from panokit.effects.editing import EDIT_KINDS, EditList
from panokit.effects.fill import Fill
from panokit.effects.highlighting import Highlight
from panokit.effects.lifting import Lift
from panokit.effects.matting import matte
from panokit.effects.outcome import EffectResult
from panokit.effects.parameters import Parameter
from panokit.effects.picking import Pick
from panokit.effects.portrait import BlurBackground, portrait_blur
from panokit.effects.preview import shrink
from panokit.effects.recoloring import Recolor
from panokit.effects.redacting import Blur, Pixelate
from panokit.effects.removing import Remove
from panokit.effects.replacing import ReplaceBackground, ReplaceSky

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
    "Parameter",
    "Pick",
    "Pixelate",
    "Recolor",
    "Remove",
    "ReplaceBackground",
    "ReplaceSky",
    "matte",
    "portrait_blur",
    "shrink",
]
