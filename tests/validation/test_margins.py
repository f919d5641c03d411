"""Which differences of a map a least score excuses: an instance that barely missed or met it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from panokit.decoding import Heads, PostprocessConfig, postprocess
from panokit.preprocessing import letterbox
from panokit.taxonomy import Taxonomy
from panokit_validation.maps import compare_maps
from panokit_validation.margins import ERROR, ROUNDING, Context, Tolerances, classify_pixels

TOY = Taxonomy.from_json(
    {
        "name": "toy",
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 2, "name": "road", "isthing": 0},
        ],
    }
)


@pytest.mark.parametrize("dropped_by", ["the device", "the reference"])
@pytest.mark.parametrize(
    ("nearness", "kind"),
    [pytest.param(0.01, ROUNDING, id="barely"), pytest.param(0.5, ERROR, id="clearly")],
)
def test_instances_near_the_least_score(dropped_by: str, nearness: float, kind: int) -> None:
    semantic = np.zeros((8, 8, 2), np.float32)
    semantic[..., 1] = 2
    semantic[2:6, 2:6, 0] = 6
    center = np.full((8, 8), -6, np.float32)
    center[4, 4] = 2
    heads = Heads(semantic, center, np.zeros((8, 8, 2), np.float32))
    transform = letterbox((32, 32), (32, 32))
    free = PostprocessConfig(0.3, 3, min_thing_area=0, min_stuff_area=0, grid="head")
    score = next(s.score for s in postprocess(heads, TOY, transform, free).segments if s.is_thing)
    by_reference = dropped_by == "the reference"
    least = score * (1 + nearness if by_reference else 1 - nearness)
    config = replace(free, min_thing_score=min(1.0, least))
    reference = postprocess(heads, TOY, transform, config, explain=True)
    assert any(s.is_thing for s in reference.segments) != by_reference
    other = replace(free, min_thing_score=0.0 if by_reference else 1.0)
    device = postprocess(heads, TOY, transform, other)
    context = Context(heads, TOY, transform, config, Tolerances.of_heads(heads, 32))
    agreement = compare_maps(device.ids, reference.ids)
    kinds = classify_pixels(device.ids, reference, agreement, context).kinds
    assert set(np.unique(kinds[2:6, 2:6])) == {kind}
