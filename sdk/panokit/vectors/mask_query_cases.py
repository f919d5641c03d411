"""Cases of the contract ``mask-queries``: who is kept, who owns a pixel, what becomes a segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import MASK_QUERY_PRESETS, MaskQueriesConfig
from panokit.decoding.kernels import sigmoid
from panokit.preprocessing import Fit, letterbox
from panokit.vectors.cases import (
    DOG,
    MANY,
    PERSON,
    ROAD,
    SKY,
    ContractCase,
    noise,
    whole_input,
)  # fmt: skip

__all__ = ["mask_query_cases"]

Array = NDArray[np.float32]
Query = tuple[int, float, Array]
"""A query of a made scene: class column, its probability, and its mask's logits."""

RULES: tuple[Literal["at-least", "ratio-above", "product-above"], ...] = (
    "at-least", "ratio-above", "product-above",
)  # fmt: skip
GRIDS: tuple[Literal["input", "photo"], ...] = ("input", "photo")

PLAIN = MaskQueriesConfig(classes="probabilities")
RATIO = replace(PLAIN, overlap_rule="ratio-above")
KMAX = replace(MASK_QUERY_PRESETS["kmax"], classes="probabilities", align_corners=False)
NO_OBJECT = 4


def mask_query_cases() -> Iterator[ContractCase]:
    """All of them."""
    yield from _kept()
    yield from _class_ties()
    yield from _pixels()
    yield from _rounding()
    yield from _overlaps()
    yield from _ids()
    yield from _first()
    yield from _tables()
    yield from _labelled()
    yield from _grids()
    yield from _noise()
    yield from _errors()


def _heads(queries: Sequence[Query], columns: int = 5) -> dict[str, Array]:
    """Heads of queries with a probability of one column each, and 0 for the others."""
    classes = np.zeros((len(queries), columns), np.float32)
    for k, (column, p, _) in enumerate(queries):
        classes[k, column] = p
    return {"classes": classes, "masks": np.stack([m for _, _, m in queries], -1)}


def _mask(spot: Any = ..., h: int = 8, w: int = 8, inside: float = 30.0) -> Array:
    """Mask logits: ``inside`` on a spot of rows and columns, -30 elsewhere."""
    mask = np.full((h, w), -30, np.float32)
    mask[spot] = inside
    return mask


def _cells(first: int, last: int, logit: float = 30.0) -> Array:
    """Mask logits: high on the cells from first to last in raster order."""
    mask = np.full(64, -30, np.float32)
    mask[first:last] = logit
    return mask.reshape(8, 8)


LEFT, RIGHT = np.s_[:, :4], np.s_[:, 4:]


def _case(
    name: str, about: str, raw: dict[str, Any], settings: MaskQueriesConfig = PLAIN, **more: Any
) -> ContractCase:
    """A case whose masks have the input's size: nothing is resized."""
    masks = raw["masks"]
    h, w = masks.shape[-3:-1]
    more.setdefault("transform", whole_input(w, h))
    return ContractCase(name, about, raw, settings=settings, **more)


def _kept() -> Iterator[ContractCase]:
    raw = _heads([(PERSON, 0.25, _mask(LEFT)), (NO_OBJECT, 0.9, _mask(RIGHT))])
    yield _case("m1-none-kept", "No query is kept: all is void.", raw)
    raw = _heads([(PERSON, 0.9, _mask(inside=-30.0))])
    raw["masks"][0, 0] = -29
    about = "A query is kept, but its mask holds nothing: all is void."
    yield _case("m2-all-fail", about, raw)
    raw = _heads([(DOG, 0.9, _mask(LEFT)), (DOG, 0.9, _mask(RIGHT))])
    raw["classes"][:, NO_OBJECT] = 0.9
    about = "A class that equals 'no object' is chosen: the first of equals."
    yield _case("m3-class-ties-no-object", about, raw)
    for name, p in (("met", 0.8), ("above", 0.8000001)):
        raw = _heads([(PERSON, p, _mask(LEFT)), (SKY, 0.9, _mask(RIGHT))])
        about = "A score is compared with the threshold as float32; equal is not above."
        yield _case(f"m4-threshold-{name}", about, raw)
    logits = np.full((2, 5), -900, np.float32)
    logits[0, :2], logits[1, 1] = 3, 3
    raw = {"classes": logits, "masks": np.stack([_mask(LEFT), _mask(RIGHT)], -1)}
    about = "Two equal logits: the score is exactly one half, and not above it."
    yield _case("m4-softmax-half", about, raw, MaskQueriesConfig(threshold=0.5))
    raw = {"classes": np.full((1, 4), -9, np.float32), "masks": _mask()[..., None]}
    raw["classes"][0, DOG] = 0
    settings = MaskQueriesConfig(classes="sigmoid", no_object=False, threshold=0.5)
    about = "A sigmoid logit of 0 is exactly one half, and not above it."
    yield _case("m4-sigmoid-half", about, raw, settings)
    raw = {"classes": raw["classes"].copy(), "masks": raw["masks"]}
    raw["classes"][0, DOG] = 2.0**-20
    about = "A sigmoid logit just above 0; the head has no 'no object'."
    yield _case("sigmoid-above-half", about, raw, settings)
    raw = _heads([(PERSON, 0.6, _mask(LEFT)), (SKY, 0.6, _mask(RIGHT))])
    settings = replace(PLAIN, threshold=0.7, stuff_threshold=0.5)
    yield _case("stuff-threshold", "Things and stuff have thresholds of their own.", raw, settings)
    settings = replace(PLAIN, threshold=0.5, stuff_threshold=0.6)
    about = "Stuff of exactly its own threshold is dropped."
    yield _case("stuff-threshold-met", about, raw, settings)
    raw = _heads([(PERSON, 0.0, _mask(LEFT)), (SKY, 1e-30, _mask(RIGHT))])
    about = "Threshold 0: a score of 0 is not above it."
    yield _case("threshold-zero", about, raw, replace(PLAIN, threshold=0.0))
    raw = _heads([(PERSON, 1.0, _mask())])
    about = "Threshold 1: nothing is above it."
    yield _case("threshold-one", about, raw, replace(PLAIN, threshold=1.0))
    for kind in ("softmax", "sigmoid", "probabilities"):
        raw = _heads([(PERSON, 30, _mask(LEFT)), (SKY, 30, _mask(RIGHT))])
        if kind == "probabilities":
            raw["classes"] /= np.float32(32)
        raw["classes"][0, ROAD] = np.nan
        about = f"A NaN among the classes ({kind}) drops the query and no other."
        yield _case(f"nan-class-{kind}", about, raw, replace(PLAIN, classes=kind))
    raw = {"classes": np.full((2, 5), 1e38, np.float32), "masks": raw["masks"]}
    raw["classes"][0, 1:], raw["classes"][1] = -1e38, -1e38
    about = "Logits of the largest magnitude: a softmax of 1, and one of equals."
    yield _case("classes-huge", about, raw, MaskQueriesConfig())


def _class_ties() -> Iterator[ContractCase]:
    raw = _heads([(SKY, 0.9, _mask(LEFT)), (DOG, 0.9, _mask(RIGHT))])
    raw["classes"][0, ROAD] = raw["classes"][1, SKY] = 0.9
    about = "Equal classes: the lower column, though its category id may be the higher."
    yield _case("class-tie", about, raw)
    logits = np.zeros((1, 5), np.float32)
    logits[0] = 40, 40 - 2.0**-18, 0, 0, -40
    raw = {"classes": logits[:, ::-1].copy(), "masks": _mask()[..., None]}
    settings = MaskQueriesConfig(threshold=0.5, classes="sigmoid")
    about = "Logits that differ are equal after the sigmoid: the lower column."
    yield _case("class-tie-after-sigmoid", about, raw, replace(settings, no_object=True))


def _pixels() -> Iterator[ContractCase]:
    raw = _heads([(PERSON, 0.9, np.zeros((8, 8), np.float32))])
    about = "Mask logits of 0: a probability of one half lies in the mask."
    yield _case("m5-mask-logit-zero", about, raw)
    yield _case("m5-mask-logit-minus-zero", about, _heads([(PERSON, 0.9, _mask(inside=-0.0))]))
    about = "Mask logits of 0 owned by a query whose score weighs them: they are not in the mask."
    settings = replace(PLAIN, weighted=True)
    yield _case("m5-mask-logit-zero-weighted", about, raw, settings)
    raw = _heads([(PERSON, 0.9, _mask()), (PERSON, 0.9, _mask())])
    about = "Two equal queries: the first owns all, the second is dropped."
    yield _case("m6-equal-queries", about, raw)
    raw = _heads([(PERSON, 0.9, _mask()), (DOG, 0.95, _mask())])
    yield _case("better-later-query", "The higher score owns the pixels, though later.", raw)
    raw = _heads([(SKY, 0.875, _mask(inside=2.0)), (DOG, 0.9375, _mask(LEFT, inside=1.5))])
    about = "A lower score with a higher probability wins by the product."
    yield _case("product-decides", about, raw)
    raw = _heads([(PERSON, 1.0, _mask(inside=0.0)), (SKY, 0.5, _mask(inside=90.0))])
    about = "Products tie (1 x 0.5 and 0.5 x 1): the first query."
    yield _case("product-tie", about, raw, replace(PLAIN, threshold=0.25))
    about = "The same with the queries turned round: the first again, which is another."
    turned = _heads([(SKY, 0.5, _mask(inside=90.0)), (PERSON, 1.0, _mask(inside=0.0))])
    yield _case("product-tie-turned", about, turned, replace(PLAIN, threshold=0.25))
    raw = _heads([(PERSON, 0.9, _mask(inside=-1.0))])
    about = "An owner that is in no mask (probability below one half): nothing, no id spent."
    yield _case("m13-owner-below-half", about, raw)
    low = _mask(RIGHT, inside=-1.0)
    low[0, 7] = 3.0
    raw = _heads([(SKY, 0.9, _mask(LEFT)), (PERSON, 0.9, low), (DOG, 0.9, _mask(np.s_[7:, :2]))])
    about = "An owner of many pixels with one in its mask: 'inside' paints that one."
    yield _case("m13-inside", about, raw, replace(PLAIN, overlap=0.1))
    about = "The same with 'owned': all that it owns."
    yield _case("m13-owned", about, raw, replace(PLAIN, overlap=0.1, painted="owned"))
    raw = _heads([(PERSON, 0.9, _mask(np.s_[:, :4], 4, 16))])
    about = "One query on 4 of 16 columns: painted where its mask is."
    yield _case("m9-four-of-sixteen-inside", about, raw)
    about = "One query on 4 of 16 columns: painted wherever it owns, all 16."
    yield _case("m9-four-of-sixteen-owned", about, raw, replace(PLAIN, painted="owned"))
    raw = _heads([(PERSON, 0.6, _mask(inside=1.375))])
    settings = replace(PLAIN, threshold=0.5)
    about = "Score 0.6, probability 0.8 everywhere: kept, since the mask is 0.8."
    yield _case("m8-plain", about, raw, settings)
    about = "Score 0.6, probability 0.8 everywhere: dropped, since the product is below one half."
    yield _case("m8-weighted", about, raw, replace(settings, weighted=True))
    raw = _heads([(PERSON, 0.9, _mask(LEFT, inside=1.0)), (SKY, 0.9, _mask(RIGHT, inside=2.0))])
    about = "A mask threshold of its own, met by one query."
    yield _case("mask-threshold", about, raw, replace(PLAIN, mask_threshold=0.75))


def _rounding() -> Iterator[ContractCase]:
    """What only float32 decides."""
    everywhere = np.ones((8, 8), np.float32)
    low = np.nextafter(np.float32(0.9), np.float32(1))
    high = np.nextafter(low, np.float32(1))
    raw = _heads([(PERSON, float(low), everywhere), (DOG, float(high), everywhere)])
    about = "Two scores that differ by one unit: their products with 0.731 tie in float32."
    yield _case("product-tie-rounded", about, raw)
    settings = replace(KMAX, activation="sigmoid")
    about = "The same where queries come by score times mean probability: in their order."
    yield _case("first-tie-rounded", about, raw, settings)
    p = float(sigmoid(np.ones(1))[0])
    raw = _heads([(PERSON, 0.9, _mask(LEFT, inside=1.0)), (SKY, 0.9, _mask(RIGHT, inside=2.0))])
    about = "A mask threshold that is a probability only after it is rounded to float32."
    above, below = p * (1 + 2.0**-30), p * (1 - 2.0**-30)
    yield _case("mask-threshold-rounded", about, raw, replace(PLAIN, mask_threshold=above))
    settings = replace(settings, mask_threshold=below)
    yield _case("first-mask-threshold-rounded", about, raw, settings)
    for own, of in ((13, 22), (7, 23), (3, 37)):
        raw = _heads([(PERSON, 0.95, _cells(0, of - own)), (DOG, 0.9, _cells(0, of, 20.0))])
        for rule in RULES:
            about = f"{own} of {of} pixels, least {own}/{of}, by the rule {rule}."
            settings = replace(PLAIN, overlap=own / of, overlap_rule=rule)
            yield _case(f"m7-{own}-of-{of}-{rule}", about, raw, settings)


def _overlaps() -> Iterator[ContractCase]:
    for own, of, least in ((4, 5, 0.8), (7, 10, 0.7), (3, 5, 0.6), (9, 10, 0.9), (1, 2, 0.5)):
        raw = _heads([(PERSON, 0.95, _cells(0, of - own)), (DOG, 0.9, _cells(0, of, 20.0))])
        for rule in RULES:
            about = f"{own} of {of} pixels are its own, least {least}, by the rule {rule}."
            settings = replace(PLAIN, overlap=least, overlap_rule=rule)
            yield _case(f"m7-{own}-of-{of}-{rule}", about, raw, settings)
    raw = _heads([(PERSON, 0.95, _cells(0, 2)), (DOG, 0.9, _cells(0, 10, 20.0))])
    about = "8 of 10 pixels, enough for 0.8 (at least): the ratio is computed in float64."
    yield _case("m7-8-of-10", about, raw)
    about = "7 of 10 with least 0.8: dropped, its own pixels are void."
    raw = _heads([(PERSON, 0.95, _cells(0, 3)), (DOG, 0.9, _cells(0, 10, 20.0))])
    yield _case("overlap-dropped", about, raw)
    for rule in RULES:
        about = f"Overlap 0 by the rule {rule}: what owns nothing is no segment."
        raw = _heads([(PERSON, 0.95, _mask()), (DOG, 0.9, _mask()), (SKY, 0.85, _mask(LEFT))])
        yield _case(
            f"overlap-zero-{rule}", about, raw, replace(PLAIN, overlap=0.0, overlap_rule=rule)
        )
        about = f"Overlap 1 by the rule {rule}: a query that owns its whole mask."
        raw = _heads([(PERSON, 0.95, _mask(LEFT)), (SKY, 0.85, _mask(RIGHT))])
        yield _case(
            f"overlap-one-{rule}", about, raw, replace(PLAIN, overlap=1.0, overlap_rule=rule)
        )


def _ids() -> Iterator[ContractCase]:
    quarters = [_mask(np.s_[:, 2 * i : 2 * i + 2]) for i in range(4)]
    raw = _heads([(c, 0.9, m) for c, m in zip((SKY, DOG, SKY, PERSON), quarters, strict=True)])
    about = "Stuff, thing, the same stuff, thing: ids 1, 2, 1, 3."
    yield _case("m10-stuff-joins", about, raw)
    raw = _heads([(SKY, 0.9, _mask(LEFT)), (SKY, 0.95, _mask(RIGHT))])
    about = "The same stuff twice: one segment with the first one's score."
    yield _case("m11-same-stuff", about, raw)
    raw = _heads([(DOG, 0.9, _mask(LEFT)), (DOG, 0.95, _mask(RIGHT))])
    yield _case("same-thing", "The same thing class twice: two segments.", raw)
    raw = _heads([
        (SKY, 0.9, _mask(np.s_[:, :2])), (SKY, 0.85, _mask(LEFT, inside=20.0)),
        (ROAD, 0.9, _mask(RIGHT)),
    ])  # fmt: skip
    about = "The second query of a stuff class fails the ratio: only the first one's pixels."
    yield _case("m12-second-stuff-fails", about, raw)
    masks = [_mask(np.s_[:, i : i + 1], 1, 300) for i in range(300)]
    about = "300 queries of one column each: ids to 300."
    yield _case("m14-three-hundred", about, _heads([(PERSON, 0.9, m) for m in masks]))
    queries = [(c, 0.9, m) for c, m in zip((PERSON, SKY, DOG, ROAD), quarters, strict=True)]
    shuffled = [queries[i] for i in (2, 0, 3, 1)]
    about = "Queries in another order: the same masks, ids in the order of the queries."
    yield _case("m16-in-order", about, _heads(queries))
    yield _case("m16-shuffled", about, _heads(shuffled))
    settings = replace(PLAIN, min_thing_area=16, min_stuff_area=17)
    about = "Least areas, met by things and missed by stuff of 16 pixels."
    yield _case("least-areas", about, _heads(queries), settings)
    raw = _heads([(SKY, 0.9, _mask(LEFT)), (SKY, 0.9, _mask(np.s_[0, 4:]))])
    about = "The second query of a stuff class is below the least area: it does not join."
    yield _case("least-area-joining", about, raw, replace(PLAIN, min_stuff_area=5))
    raw = _heads([(SKY, 0.9, _mask(np.s_[0, 4:])), (SKY, 0.9, _mask(LEFT))])
    about = "The first query of a stuff class is below the least area: the second is its segment."
    yield _case("least-area-first", about, raw, replace(PLAIN, min_stuff_area=5))
    raw = {k: v[None] for k, v in _heads(queries).items()}
    yield _case("m17-batch-axis", "A batch axis of 1 changes nothing.", raw)


def _first() -> Iterator[ContractCase]:
    """Queries that take what is left, best first, over a softmax over queries."""
    empty = np.zeros((8, 8), np.float32)
    raw = _heads([(PERSON, 0.9, empty), (SKY, 0.9, empty), (DOG, 0.9, empty)])
    about = "A softmax of a third everywhere is not above 0.4: no query has a mask."
    yield _case("m18-below-mask-threshold", about, raw, KMAX)
    raw = _heads([(PERSON, 0.9, empty), (DOG, 0.9, empty)])
    about = "Two queries of one half everywhere: the first takes all, the second is dropped."
    yield _case("m18-half-and-half", about, raw, KMAX)
    raw = _heads([(PERSON, 0.9, empty), (DOG, 0.95, empty)])
    about = "The same with a better second query: it comes first and takes all."
    yield _case("m18-better-second", about, raw, KMAX)
    # A third query, never kept, holds the rest of the softmax.
    rest = (NO_OBJECT, 0.9, _cells(5, 64, 0.0))
    raw = _heads([(PERSON, 0.95, _cells(0, 1, 0.0)), (DOG, 0.9, _cells(0, 5, 0.0)), rest])
    about = "Four of five pixels are left: 4 is not above 5 x 0.8 in float32, dropped."
    yield _case("m18-four-of-five", about, raw, KMAX)
    rest = (NO_OBJECT, 0.9, _cells(6, 64, 0.0))
    raw = _heads([(PERSON, 0.95, _cells(0, 1, 0.0)), (DOG, 0.9, _cells(0, 6, 0.0)), rest])
    about = "Five of six pixels are left: kept, after the better one."
    yield _case("m18-five-of-six", about, raw, KMAX)
    raw = _heads([(PERSON, 0.95, _cells(0, 3, 0.0)), (DOG, 0.9, _cells(0, 10, 0.0)),
                  (SKY, 0.85, _cells(0, 10, 0.0)), (ROAD, 0.8, _cells(10, 64, 0.0))])  # fmt: skip
    about = "A query that is dropped takes nothing: what it wanted is free for the next."
    settings = replace(KMAX, mask_threshold=0.3)
    yield _case("first-dropped-takes-nothing", about, raw, settings)
    raw = _heads([(PERSON, 0.9, _mask(LEFT)), (SKY, 0.9, _mask(RIGHT))])
    about = "Shuffled queries of unequal worth: ids follow the score, not the order."
    raw["classes"][1, SKY] = 0.95
    yield _case("m16-first-by-score", about, raw, KMAX)
    for name, stuff in (("met", 0.6), ("below", 0.59)):
        raw = _heads([(PERSON, 0.6, _mask(LEFT)), (SKY, 0.6, _mask(RIGHT))])
        about = "Stuff with a threshold of its own, and 'no object' only takes its share."
        settings = replace(KMAX, threshold=0.7, stuff_threshold=stuff)
        yield _case(f"first-stuff-threshold-{name}", about, raw, settings)
    raw = _heads([(PERSON, 0.75, _mask(LEFT)), (SKY, 0.75, _mask(RIGHT))])
    raw["classes"][:, NO_OBJECT] = 0.875
    about = "The best class counts, though 'no object' is higher."
    yield _case("first-no-object-higher", about, raw, KMAX)
    quarters = [_mask(np.s_[:, 2 * i : 2 * i + 2]) for i in range(4)]
    raw = _heads([(c, 0.9, m) for c, m in zip((SKY, DOG, SKY, PERSON), quarters, strict=True)])
    yield _case("first-stuff-joins", "Stuff joins the first of its class.", raw, KMAX)
    settings = replace(KMAX, activation="sigmoid", mask_threshold=0.5)
    raw = _heads([(PERSON, 0.9, np.zeros((8, 8), np.float32)), (SKY, 0.9, _mask(RIGHT))])
    about = "With a sigmoid a probability of one half is not above the mask threshold."
    yield _case("first-sigmoid-half", about, raw, settings)


def _tables() -> Iterator[ContractCase]:
    quarters = [_mask(np.s_[:, 2 * i : 2 * i + 2]) for i in range(4)]
    raw = _heads([(c, 0.9, m) for c, m in enumerate(quarters)], 7)
    settings = replace(PLAIN, columns=(ROAD, -1, SKY, SKY, DOG, PERSON))
    about = "A table of columns: one has no class (void), two are the same stuff (one segment)."
    yield _case("columns", about, raw, settings)
    about = "A class that the taxonomy lacks has the threshold of stuff, and spends no id."
    settings = replace(settings, columns=(-1, PERSON, -1, DOG, SKY, ROAD), stuff_threshold=0.95)
    yield _case("columns-none", about, raw, settings)
    raw = _heads([(c, 0.9, m) for c, m in enumerate(quarters)], 4)
    about = "A head without 'no object'."
    yield _case("without-no-object", about, raw, replace(PLAIN, no_object=False))


def _logits(seed: int, h: int, w: int, count: int = 12, columns: int = 5) -> dict[str, Array]:
    """Noise: some queries of a high score, masks of blobs after the resize."""
    return {"classes": noise(seed, (count, columns), 6), "masks": noise(seed + 1, (h, w, count), 6)}


def _decided(seed: int, h: int, w: int) -> dict[str, Array]:
    """As :func:`_logits`, but most queries have a class, and masks that overlap little."""
    raw = _logits(seed, h, w, 16)
    raw["classes"][np.arange(16), np.arange(16) % 5] += 8
    best = raw["masks"].argmax(-1)
    raw["masks"] /= 4
    raw["masks"] += np.where(best[..., None] == np.arange(16), 6, -6).astype(np.float32)
    return raw


def _labelled() -> Iterator[ContractCase]:
    """A class and a confidence for each query, as MaskConver gives them."""
    free = replace(
        MASK_QUERY_PRESETS["maskconver"], overlap=0.3, min_thing_area=0, min_stuff_area=0
    )

    def heads(*queries: Query) -> dict[str, Any]:
        labels = np.array([label for label, _, _ in queries], np.int32)
        confidence = np.array([score for _, score, _ in queries], np.float32)
        masks = np.stack([mask for _, _, mask in queries], -1).astype(np.float32)
        return {"classes": labels, "confidence": confidence, "masks": masks}

    left, right = _mask(np.s_[:, :4]), _mask(np.s_[:, 4:])
    raw = heads((PERSON, 0.5, left), (DOG, 0.9, right), (PERSON, 0.9, _mask(np.s_[2:4])))
    about = "Queries count by score, equals as they come: ids 1 to 3 are queries 1, 2 and 0."
    yield _case("m19-by-score", about, raw, free)
    raw = heads((PERSON, 0.01, left), (DOG, 0.010001, right), (4, 0.9, left), (-1, 0.9, left))
    about = "A confidence of 0.01 is none; a label that is no class drops its query."
    yield _case("m19-confidence-and-labels", about, raw, free)
    flat = np.zeros((8, 8), np.float32)
    raw = heads((PERSON, 0.9, flat), (DOG, 0.5, right))
    about = "A logit of 0 is a probability of one half, which is not above it: nothing is held."
    yield _case("m19-half-is-not-above", about, raw, free)
    yield _case("m19-half-at-least", about.replace("not above", "enough"), raw,
                replace(free, mask_rule="at-least"))  # fmt: skip
    raw = heads((SKY, 0.9, _mask(np.s_[:1], 16, 32)), (ROAD, 0.8, _mask(np.s_[1:], 16, 32)))
    for least in (256, 257):
        about = f"The sky has 256 pixels of the input's grid, the least area is {least}."
        settings = replace(free, min_stuff_area=least)
        yield _case(f"m19-area-{least}", about, raw, settings, transform=whole_input(256, 16))


def _grids() -> Iterator[ContractCase]:
    top = _mask(np.s_[:2], 8, 8)
    raw = _heads([(PERSON, 0.9, _mask(np.s_[2:6, :4])), (DOG, 0.95, top),
                  (SKY, 0.85, _mask(np.s_[:, 4:]))])  # fmt: skip
    about = "A query that lies in the padding alone is no segment and owns nothing."
    yield _case("m15-padding", about, raw, transform=letterbox((16, 8), (8, 8)))
    about = "Values from the padding are mixed in unless it is cut off first."
    for crop in (True, False):
        # Settings that do not crop first resize from the head's own grid.
        changes: dict[str, Any] = {} if crop else {"mask_grid": "head", "crop_first": False}
        raw = _logits(1010, 6, 6)
        settings = MaskQueriesConfig(threshold=0.5, overlap=0.2, grid="photo", **changes)
        name = "first" if crop else "not"
        transform = letterbox((40, 18), (24, 24))
        yield _case(f"crop-{name}", about, raw, settings, transform=transform)
    sizes = {
        "one-cell": (1, 1, 4, 4), "one-row": (1, 6, 24, 4), "one-column": (6, 1, 4, 24),
        "wide": (4, 10, 37, 16), "tall": (9, 4, 16, 35), "larger-than-input": (20, 24, 12, 10),
        "one-pixel": (3, 3, 1, 1),
    }  # fmt: skip
    for i, (name, (h, w, width, height)) in enumerate(sizes.items()):
        raw = _logits(1100 + 10 * i, h, w)
        for grid in GRIDS:
            about = f"{h}x{w} masks over an input of {width}x{height}, on the {grid} grid."
            settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, grid=grid)
            transform = letterbox((2 * width - 1, 2 * height), (width, height))
            yield _case(f"{name}-{grid}", about, raw, settings, transform=transform)
    places: dict[str, Fit] = {"padded": "letterbox", "top-left": "top-left", "stretched": "stretch"}
    for i, (name, fit) in enumerate(places.items()):
        raw = _logits(1200 + 10 * i, 6, 8)
        for grid in GRIDS:
            about = f"A photo of 30x17 in an input of 32x24, {name}, on the {grid} grid."
            settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, grid=grid)
            transform = letterbox((30, 17), (32, 24), fit=fit)
            yield _case(f"place-{name}-{grid}", about, raw, settings, transform=transform)
    for i, grid_wh in enumerate(((12, 12), (7, 19), (32, 24), (8, 15), (13, 6))):
        raw = _logits(1300 + 10 * i, 6, 8)
        about = f"Masks go to a grid of {grid_wh[0]}x{grid_wh[1]} first."
        settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, mask_grid=grid_wh,
                                     crop_first=False)  # fmt: skip
        for last in (True, False):
            name = f"mask-grid-{grid_wh[0]}x{grid_wh[1]}-{'logits' if last else 'probabilities'}"
            transform = letterbox((30, 17), (32, 24))
            yield _case(name, about, raw, replace(settings, activate_last=last),
                        transform=transform)  # fmt: skip
    for i, width in enumerate((33, 32)):
        raw = _logits(1400 + 10 * i, 7, 9)
        for grid in GRIDS:
            about = f"Corners are aligned where the input's width is odd; here it is {width}."
            settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, align_corners=True, grid=grid)
            transform = letterbox((50, 31), (width, 25))
            yield _case(f"corners-{width}-{grid}", about, raw, settings, transform=transform)
    between: dict[str, Literal["head"] | tuple[int, int]] = {"head": "head", "20x14": (20, 14)}
    for i, (name, mask_grid) in enumerate(between.items()):
        raw = _logits(1430 + 10 * i, 7, 9)
        about = "Corners are aligned by both resizes, also where the padding is not cut off first."
        settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, align_corners=True,
                                     mask_grid=mask_grid, crop_first=False)  # fmt: skip
        transform = letterbox((50, 31), (33, 25))
        yield _case(f"corners-33-not-cropped-{name}", about, raw, settings, transform=transform)
    raw = _logits(1450, 3, 3, 4)
    about = "Aligned corners of an input of one pixel, with and without cutting first."
    for mask_between in (None, "head"):
        changes = {"mask_grid": "head", "crop_first": False} if mask_between else {}
        settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, align_corners=True, **changes)
        name = f"corners-one-pixel-{'not-cropped' if mask_between else 'cropped'}"
        yield _case(name, about, raw, settings, transform=whole_input(1, 1))
    raw = _logits(1460, 7, 9)
    about = "Aligned corners on a photo of one row."
    settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, align_corners=True, grid="photo")
    yield _case("corners-one-row", about, raw, settings, transform=letterbox((40, 1), (33, 25)))
    for i, photo_wh in enumerate(((9, 5), (40, 7), (60, 50))):
        raw = _logits(1480 + 10 * i, 20, 24)
        about = f"Antialiased to a photo of {photo_wh}, along the axes that become shorter."
        settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, mask_grid="head", antialias=True,
                                     activate_last=False, crop_first=False,
                                     grid="photo")  # fmt: skip
        name = f"antialias-{photo_wh[0]}x{photo_wh[1]}"
        yield _case(name, about, raw, settings, transform=letterbox(photo_wh, (48, 40)))
    for last in (True, False):
        raw = _logits(1470, 7, 9)
        about = "A softmax over all queries, also those that are not kept."
        settings = MaskQueriesConfig(threshold=0.4, overlap=0.3, activation="softmax",
                                     mask_threshold=0.25, activate_last=last)  # fmt: skip
        name = f"softmax-{'last' if last else 'between'}"
        yield _case(name, about, raw, settings, transform=letterbox((50, 31), (32, 25)))


def _named(raw: dict[str, Array], preset: MaskQueriesConfig) -> dict[str, Array]:
    """Heads with a label and a confidence instead of columns, where the preset wants that."""
    if preset.classes != "labels":
        return raw
    labels = raw["classes"][:, :-1].argmax(1).astype(np.float32)
    confidence = sigmoid(raw["classes"][:, :-1].max(1))
    return {"classes": labels, "confidence": confidence, "masks": raw["masks"]}


def _noise() -> Iterator[ContractCase]:
    photos = ((44, 33), (32, 24)), ((31, 50), (33, 25)), ((9, 9), (24, 24))
    for i, (name, preset) in enumerate(MASK_QUERY_PRESETS.items()):
        for j, (photo, size) in enumerate(photos):
            for grid in GRIDS:
                raw = _named(_decided(2000 + 100 * i + 10 * j, 6, 8), preset)
                about = f"Noise by the settings of {name}, a photo of {photo[0]}x{photo[1]}."
                settings = replace(preset, grid=grid, overlap=0.5)
                transform = letterbox(photo, size)
                yield _case(f"preset-{name}-{j}-{grid}", about, raw, settings,
                            transform=transform)  # fmt: skip
        raw = _named(_decided(2900 + 2 * i, 24, 32), preset)
        about = f"The settings of {name} as they are, a photo that fills the input."
        yield _case(f"preset-{name}-plain", about, raw, preset, transform=whole_input(32, 24))
    kinds = {"tied": 1.0, "saturated": 512.0, "huge": 2.0**120}
    for i, (name, scale) in enumerate(kinds.items()):
        raw = _logits(2950 + 10 * i, 6, 8)
        if name == "tied":
            raw = {k: np.round(v / 4) for k, v in raw.items()}
        raw = {k: np.asarray(v * scale, np.float32) for k, v in raw.items()}
        for owner in ("best", "first"):
            settings = MaskQueriesConfig(threshold=0.3, overlap=0.3, owner=owner)
            about = f"Noise, {name}, owners by {owner}."
            transform = letterbox((44, 30), (32, 24))
            yield _case(f"noise-{name}-{owner}", about, raw, settings, transform=transform)
    raw = _logits(2990, 6, 8, 16, 27)
    settings = MaskQueriesConfig(threshold=0.2, overlap=0.3)
    yield _case("many-classes", "26 classes.", raw, settings, taxonomy=MANY,
                transform=letterbox((44, 30), (32, 24)))  # fmt: skip


def _errors() -> Iterator[ContractCase]:
    settings = MaskQueriesConfig(columns=(0, 1, 2, 4))
    about = "An error that names head 'classes': a column is of a class that there is not."
    yield _case("error-columns", about, _logits(2999, 6, 8), settings)
    bad = {
        "inf-classes": ("classes", (2, 1), np.inf), "nan-masks": ("masks", (3, 4, 1), np.nan),
        "minus-inf-masks": ("masks", (0, 0, 2), -np.inf),
        "overflowing-masks": ("masks", (5, 7, 0), 2e38),
        "overflowing-classes": ("classes", (0, 4), -2e38),
    }  # fmt: skip
    for name, (head, at, value) in bad.items():
        raw = _logits(2999, 6, 8)
        raw[head][at] = value
        about = f"An error that names head {head!r} and position {at}."
        yield _case(f"error-{name}", about, raw, transform=whole_input(8, 6))
    shapes: dict[str, tuple[str, Any]] = {
        "m17-batch-of-two": ("classes", np.zeros((2, 12, 5), np.float32)),
        "batch-of-two-masks": ("masks", np.zeros((2, 6, 8, 12), np.float32)),
        "other-queries": ("masks", np.zeros((6, 8, 11), np.float32)),
        "other-classes": ("classes", np.zeros((12, 6), np.float32)),
        "no-class": ("classes", np.zeros((12, 1), np.float32)),
        "no-query": ("classes", np.zeros((0, 5), np.float32)),
        "axes": ("masks", np.zeros((6, 8), np.float32)),
    }
    for name, (head, values) in shapes.items():
        raw = _logits(2999, 6, 8) | {head: values}
        about = f"An error that names head {head!r}: its shape."
        yield ContractCase(f"error-{name}", about, raw, whole_input(8, 6), MaskQueriesConfig())
