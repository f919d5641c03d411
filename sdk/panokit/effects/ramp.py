"""A guess at depth: the ground recedes from where the subject stands.

There is no depth in a photo. What can be said: ground that lies below or beside the contact of the
subject is as near as the subject, and ground higher in the picture is farther away. Everything that
is no ground counts as far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panokit.result import PanopticResult

__all__ = ["ground_ramp", "is_ground"]

_GROUND = frozenset(
    [
        "ground",
        "road",
        "floor",
        "sand",
        "grass",
        "snow",
        "pavement",
        "dirt",
        "gravel",
        "rug",
        "platform",
    ]
)

FAR = 0.35
"""Ground this share of the photo's height above the contact is as blurred as the far background;
ground that share below it too, since it is in front of the plane in focus."""


def is_ground(name: str) -> bool:
    """Whether a stuff class is something people stand on, judged by the words of its name."""
    return not _GROUND.isdisjoint(name.lower().replace("_", " ").replace("-", " ").split())


def ground_ramp(result: PanopticResult, subject: Sequence[int]) -> NDArray[np.float32]:
    """Share 0..1 of the full blur at every pixel, float32 ``[H,W]``: 0 on the ground at the
    subject's lowest row, growing with the distance in rows; 1 off the ground.

    With several subjects the nearest contact counts at every row.
    """
    h = result.id_map.shape[0]
    ground = [s.id for s in result if not s.is_thing and is_ground(s.category.name)]
    share = np.ones(result.id_map.shape, np.float32)
    contacts = []
    for i in subject:
        rows = np.nonzero((result.id_map == i).any(axis=1))[0]
        if len(rows):
            contacts.append(int(rows[-1]))
    if not ground or not contacts:
        return share
    rows_away = np.abs(np.arange(h)[:, None] - np.array(contacts)).min(axis=1)
    ramp = np.clip(rows_away / (FAR * h), 0, 1).astype(np.float32)
    on_ground = result.mask(*ground)
    return np.where(on_ground, ramp[:, None], share)
