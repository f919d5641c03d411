"""What belongs to a person: what they wear or hold stays sharp with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from panokit.result import PanopticResult, Segment

__all__ = ["held_by", "is_person", "wearable", "with_held"]

_WORDS = """
accessory apple backpack bag ball banana bat bird book bottle bowl camera cat clothing cup
dog drinkware electronics flower food fork frisbee glasses glove handbag hat instrument kite
knife laptop object phone pizza plate racket remote sandwich scarf skateboard ski snowboard
spoon suitcase surfboard tie toothbrush toy umbrella
"""

# Classes that people carry, by the words of their names, in any taxonomy. The rule of what is held
# is geometric; these only say which names are worth telling.
_CARRIED = frozenset(_WORDS.split())


def is_person(segment: Segment) -> bool:
    """Whether this is one person."""
    return segment.is_thing and segment.category.name == "person"


def wearable(segment: Segment) -> bool:
    """Whether people wear or hold such things, judged by the name of the class."""
    words = segment.category.name.lower().replace("_", " ").replace("-", " ").split()
    return not _CARRIED.isdisjoint(words)


def with_held(
    result: PanopticResult, subject: Sequence[Segment], but: Sequence[int] = ()
) -> tuple[int, ...]:
    """Ids of the subject, and of what the persons among it wear or hold; never those in ``but``."""
    persons = [s.id for s in subject if is_person(s)]
    held = held_by(result, persons) if persons else ()
    ids = dict.fromkeys((*(s.id for s in subject), *held))
    return tuple(i for i in ids if i not in but)


def held_by(result: PanopticResult, subject: Sequence[int]) -> tuple[int, ...]:
    """Ids of the other things that belong to the subject (segment ids): a bag, a phone, a cup.

    A thing is held if it is smaller than the subject and at least half of its border lies against
    the subject; the photo's frame is no border. Persons are not held by persons.
    """
    ids = result.id_map
    highest = max((s.id for s in result), default=0)
    own = np.zeros(highest + 1, bool)
    own[list(subject)] = True
    border, touching = np.zeros(highest + 1, np.int64), np.zeros(highest + 1, np.int64)
    for a, b in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        differ = a != b
        for one, other in ((a[differ], b[differ]), (b[differ], a[differ])):
            border += np.bincount(one, minlength=highest + 1)
            touching += np.bincount(one[own[other]], minlength=highest + 1)
    limit = sum(s.area for s in result if own[s.id])
    return tuple(
        s.id
        for s in result
        if s.is_thing
        and s.category.name != "person"
        and not own[s.id]
        and s.area < limit
        and 2 * touching[s.id] >= border[s.id] > 0
    )
