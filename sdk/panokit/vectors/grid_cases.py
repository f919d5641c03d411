"""Cases of sizes: letterboxes, strides, the decode grid, and preprocessing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from panokit.preprocessing import letterbox
from panokit.vectors.cases import (
    PERSON,
    SKY,
    DecodeCase,
    PreprocessCase,
    config,
    full_frame,
    heads,
    random_heads,
    raw_bits,
)  # fmt: skip

__all__ = ["grid_cases", "preprocess_cases"]


def grid_cases() -> Iterator[DecodeCase]:
    """Decoding on grids of all kinds."""
    yield from _padding()
    sizes = {
        "one-cell": (1, 1, 4), "one-row": (1, 6, 4), "one-column": (6, 1, 4), "wide": (3, 8, 4),
        "tall": (8, 3, 4), "stride-1": (7, 5, 1), "stride-3": (5, 4, 3), "stride-8": (3, 4, 8),
    }  # fmt: skip
    for i, (name, (h, w, stride)) in enumerate(sizes.items()):
        for grid in ("input", "head"):
            raw = random_heads(100 + 10 * i, h, w)
            about = f"{h}×{w} cells, stride {stride}, on the {grid} grid."
            transform = full_frame(h, w, stride)
            yield DecodeCase(f"{name}-{grid}", about, raw, transform, config(grid=grid))
    raw = random_heads(200, 5, 7)
    about = "A stride that is no whole number: 5×7 cells over 16×20 pixels."
    yield DecodeCase("stride-odd-input", about, raw, letterbox((20, 16), (20, 16)),
                     config(grid="input"))  # fmt: skip
    raw = heads(1)
    raw["semantic"][..., PERSON], raw["center"][:] = 1, 1
    about = "One pixel in, one cell, one pixel out."
    yield DecodeCase("one-pixel", about, raw, full_frame(1, 1, 1), config(grid="input"))
    raw = random_heads(210, 6, 6)
    about = "A photo larger than the input: every decoded pixel covers several of the photo."
    yield DecodeCase("photo-larger", about, raw, letterbox((61, 37), (24, 24)),
                     config(grid="input"))  # fmt: skip
    about = "A photo smaller than the input, on the head grid."
    yield DecodeCase("photo-smaller", about, raw, letterbox((5, 3), (24, 24)), config())


def _padding() -> Iterator[DecodeCase]:
    photos = {
        "top-bottom": (24, 12), "left-right": (12, 24), "bottom-odd": (24, 13),
        "right-odd": (13, 24), "sliver": (96, 1),
    }  # fmt: skip
    for i, (name, photo) in enumerate(photos.items()):
        for grid in ("input", "head"):
            raw = random_heads(300 + 10 * i, 6, 6)
            about = f"A photo of {photo[0]}×{photo[1]} in 24×24: padding is void."
            transform = letterbox(photo, (24, 24))
            yield DecodeCase(f"padding-{name}-{grid}", about, raw, transform, config(grid=grid))
    raw = heads(8)
    raw["semantic"][..., PERSON] = 5
    raw["center"][0, 4], raw["center"][4, 4] = 9, 1
    about = "A centre in the padding is none."
    yield DecodeCase("padding-centre", about, raw, letterbox((32, 16), (32, 32)),
                     config(grid="input"))  # fmt: skip
    raw = heads(8)
    raw["semantic"][..., SKY] = 1
    raw["semantic"][2:6, :4, PERSON] = 5
    raw["center"][1, 2], raw["center"][2, 2], raw["center"][5, 1] = 3, 2, 1
    about = "A cell in the padding is no centre, and still suppresses its lower neighbour."
    yield DecodeCase("padding-suppresses", about, raw, letterbox((32, 16), (32, 32)), config())


def preprocess_cases() -> Iterator[PreprocessCase]:
    """Photos to inputs: letterbox, resize and quantisation, to the bit."""
    sizes = {
        "same": ((16, 12), (16, 12)), "padded": ((16, 9), (16, 16)), "half": ((32, 24), (16, 12)),
        "down-odd": ((37, 23), (16, 16)), "down-much": ((150, 111), (16, 16)),
        "up": ((5, 7), (24, 24)), "up-slightly": ((15, 14), (16, 16)), "tall": ((9, 40), (20, 16)),
        "one-pixel": ((1, 1), (8, 8)), "line": ((64, 1), (16, 16)), "column": ((1, 50), (16, 16)),
    }  # fmt: skip
    for i, (name, ((w0, h0), size)) in enumerate(sizes.items()):
        photo = raw_bits(900 + i, (h0, w0, 3), 8).astype(np.uint8)
        about = f"A photo of {w0}×{h0} noise into {size[0]}×{size[1]}."
        yield PreprocessCase(f"preprocess-{name}", about, photo, size)
    photo = (raw_bits(950, (21, 30, 3), 1) * 255).astype(np.uint8)
    about = "Black and white alone: overshoot must not wrap; a scale that makes halves to round."
    yield PreprocessCase("preprocess-extremes", about, photo, (16, 16), ("uint8", 2.0, 3))
    photo = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    about = "All values: quantised with halves (to even), and clipped at the end of int8."
    yield PreprocessCase("preprocess-quantised", about, photo, (16, 16), ("int8", 2.0, 17))
