"""What numbers show by themselves, without a replay."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit_validation import evidence

Heads = dict[str, NDArray[np.float32]]


def smooth(seed: int, channels: int) -> NDArray[np.float32]:
    """Planes ``[24,24,C]`` that change slowly, as a network's do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24] / 24
    waves = [
        a * np.sin(2 * np.pi * (b * y + c * x) + d)
        for a, b, c, d in rng.uniform(-1.5, 1.5, (40, 4))
    ]
    planes = [sum(waves[i::channels]) for i in range(channels)]
    return np.stack(planes, -1).astype(np.float32)


def heads(seed: int) -> Heads:
    return {
        "semantic": 8 * smooth(seed, 5),
        "center": 3 * smooth(seed + 1, 1),
        "offset": 60 * smooth(seed + 2, 2),
    }


def blended(share: float) -> Heads:
    """Heads that are like ``heads(0)``, but not quite."""
    return {n: (1 - share) * v + share * heads(7)[n] for n, v in heads(0).items()}


def test_heads_of_another_network() -> None:
    assert evidence.of_another_network(blended(0.2), heads(0))


@pytest.mark.parametrize(
    ("name", "actual"),
    [
        ("the same", heads(0)),
        ("another scale", {n: 2 * v + 1 for n, v in heads(0).items()}),
        ("another scene", heads(7)),
        ("moved", {n: np.roll(v, (4, 4), (0, 1)) for n, v in heads(0).items()}),
        ("one head alone", {**heads(0), "center": blended(0.2)["center"]}),
        ("noise", {n: v + np.random.default_rng(0).normal(0, v.std() / 2, v.shape)
                   for n, v in heads(0).items()}),
    ],
)  # fmt: skip
def test_what_is_no_other_network(name: str, actual: Heads) -> None:
    assert not evidence.of_another_network(actual, heads(0)), name


def test_heads_that_share_a_scale() -> None:
    real = heads(0)
    low, high = (f(v for v in (w.item() for h in real.values() for w in (h.min(), h.max())))
                 for f in (min, max))  # fmt: skip
    step = np.float32((high - low) / 255)
    joined = {n: np.round(v / step) * step for n, v in real.items()}
    found = evidence.joint_step(joined)
    assert found is not None
    assert found == pytest.approx(step, rel=1e-3)


def test_heads_with_scales_of_their_own_share_none() -> None:
    own = {}
    for name, values in heads(0).items():
        step = np.float32((values.max() - values.min()) / 255)
        own[name] = np.round(values / step) * step
    assert evidence.joint_step(own) is None
    assert evidence.joint_step(heads(0)) is None
    assert evidence.joint_step({n: v.astype(np.int8) for n, v in own.items()}) is None
    assert evidence.joint_step({"center": own["center"]}) is None
