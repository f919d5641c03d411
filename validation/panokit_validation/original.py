"""A dump's own photo beside the file that it was taken from.

A dump that holds ``photo`` is judged from those pixels on, so what an app did to the file before is
seen by nobody, unless the file is at hand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from panokit.dump import Dump
from panokit.photo import Photo
from panokit_validation.diagnosis import Cause
from panokit_validation.faults import FAULTS
from panokit_validation.faults.orientation import ignore_exif
from panokit_validation.verdict import PhotoVerdict, StageVerdict, Verdict

__all__ = ["beside_its_file"]

ALIKE = 12.0
"""Mean difference, of 255, up to which two decodings are of one picture: codecs and colour profiles
differ by less."""
CLEARLY = 0.5
"""A dark or hazy photo differs little from itself turned over: the smaller difference counts, if it
is below this part of the other."""


def beside_its_file(verdict: PhotoVerdict, dump: Dump, file: Photo) -> PhotoVerdict:
    """The verdict, with the stage ``photo`` where the dump's photo is not ``file`` upright.

    Pixels as the file stores them, though its EXIF orientation turns them, are a failure whose
    cause is a fact. Another size or another picture is a warning: an app may crop and shrink.
    """
    pixels = dump.tensors.get("photo")
    if pixels is None or pixels.ndim != 3 or pixels.shape[-1] != 3:
        return verdict
    upright = _distance(pixels, file.rgb_hwc)
    stored = _distance(pixels, _stored(file)) if file.orientation != 1 else 255.0
    if upright <= ALIKE and stored >= CLEARLY * upright:
        return verdict
    if stored <= ALIKE and stored < CLEARLY * upright:
        fault = FAULTS["exif-ignored"]
        message = f"is the file as it is stored; its orientation is {file.orientation}"
        stage = StageVerdict("photo", Verdict.FAIL, "file", {}, None, message)
        cause = Cause(fault.name, "photo", fault.title, fault.advice, 1.0, certain=True)
        return replace(verdict, stages=(stage, *verdict.stages), causes=(cause, *verdict.causes))
    h, w = pixels.shape[:2]
    width, height = file.size_wh
    seen = f"{w}x{h}, the file's {width}x{height}" if (w, h) != (width, height) else "its own"
    note = f"photo is not the file's picture ({seen}); the dump's is what was judged"
    return replace(verdict, warnings=(*verdict.warnings, note))


def _stored(file: Photo) -> NDArray[np.uint8]:
    return ignore_exif(file.rgb_hwc, file.orientation)


def _distance(pixels: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if pixels.shape != other.shape:
        return 255.0
    return float(np.abs(pixels.astype(np.int16) - other).mean())
