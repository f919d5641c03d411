"""Cases of the contract ``instances-semantic``: what of things and stuff comes to the map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import (
    INSTANCE_PRESETS,
    MERGE_PRESETS,
    InstancesConfig,
    InstancesSemanticConfig,
    MergeConfig,
    SemanticConfig,
)
from panokit.preprocessing import Fit, letterbox
from panokit.taxonomy import Taxonomy
from panokit.vectors.cases import (
    DOG,
    ONLY_THINGS,
    PERSON,
    ROAD,
    SKY,
    TOY,
    ContractCase,
    noise,
    raw_bits,
    whole_input,
)  # fmt: skip
from panokit.vectors.instance_cases import COLUMNS, noisy_instances

__all__ = ["merge_cases"]

Array = NDArray[Any]
Found = tuple[tuple[float, float, float, float], float, int]
"""A finished detection: corners, score, class column."""

ROWS = replace(INSTANCE_PRESETS["yolo-seg-end2end"], columns=COLUMNS)
DETR = replace(INSTANCE_PRESETS["rf-detr-seg"], columns=COLUMNS)
SMALL = MergeConfig(min_stuff_area=0)
LABELS = SemanticConfig(input="labels")
SIDE = 16


def merge_cases() -> Iterator[ContractCase]:
    """All of them."""
    yield from _things()
    yield from _stuff()
    yield from _grids()
    yield from _noise()
    yield from _errors()


def _settings(
    merge: MergeConfig = SMALL,
    instances: InstancesConfig = ROWS,
    semantic: SemanticConfig = LABELS,
) -> InstancesSemanticConfig:
    return InstancesSemanticConfig(instances, semantic, merge)


def _raw(found: Sequence[Found], labels: Array | int = SKY, h: int = SIDE, w: int = SIDE) -> Any:
    """Heads of finished detections whose masks fill their boxes, and labels of the input's size."""
    rows = [(*box, score, column, 1.0) for box, score, column in found]
    picture = np.full((h, w), labels, np.int32) if isinstance(labels, int) else labels
    return {
        "detections": np.array(rows, np.float32).reshape(-1, 7),
        "prototypes": np.ones((h, w, 1), np.float32),
        "semantic": picture,
    }


def _case(
    name: str,
    about: str,
    raw: dict[str, Any],
    settings: InstancesSemanticConfig | None = None,
    **more: Any,
) -> ContractCase:
    if "transform" not in more:
        more["transform"] = whole_input(raw["semantic"].shape[1], raw["semantic"].shape[0])
    return ContractCase(name, about, raw, settings=settings or _settings(), **more)


LEFT, RIGHT = (0, 0, 8, 16), (8, 0, 16, 16)


def _things() -> Iterator[ContractCase]:
    raw = _raw([(LEFT, 0.9, 0), ((8, 0, 16, 8), 0.8, 1)])
    yield _case("things-first", "Things first, stuff fills the rest.", raw)
    for name, columns in (("met", 4), ("above", 5)):
        raw = _raw([(LEFT, 0.9, 0), ((8 - columns, 0, 16 - columns, 16), 0.8, 1)])
        about = f"{columns} of 8 columns of the second are taken, at most half: equal stays."
        yield _case(f"p35-overlap-{name}", about, raw)
    raw = _raw([(LEFT, 0.9, 0), ((7, 0, 17, 16), 0.8, 1)])
    for limit in (0.0, 0.1, 1 / 9):
        settings = _settings(replace(SMALL, overlap=limit))
        about = f"One of nine columns is taken, at most {limit}; the share is float64."
        yield _case(f"overlap-{round(limit, 2)}", about, raw, settings)
    raw = _raw([(LEFT, 0.9, 0), (LEFT, 0.8, 1), (RIGHT, 0.7, 1)])
    about = "An instance that is wholly hidden is absent, also where any overlap is allowed."
    yield _case("p36-hidden", about, raw, _settings(replace(SMALL, overlap=1.0)))
    about = "Instances of equal scores: as they come."
    raw = _raw([((0, 0, 10, 16), 0.5, 1), ((6, 0, 16, 16), 0.5, 0)])
    yield _case("p36-equal-scores", about, raw)
    raw = _raw([((6, 0, 16, 16), 0.5, 0), ((0, 0, 10, 16), 0.5, 1)])
    yield _case("p36-equal-scores-turned", about, raw)
    orders: tuple[Literal["score", "given"], ...] = ("score", "given")
    raw = _raw([((0, 0, 10, 16), 0.5, 1), ((6, 0, 16, 16), 0.75, 0), ((0, 0, 16, 9), 0.625, 0)])
    for order in orders:
        about = f"Instances come best first; painted by {order}."
        yield _case(f"order-{order}", about, raw, _settings(replace(SMALL, order=order)))
    for name, score in (("met", 0.3), ("below", 0.29999998)):
        raw = _raw([(LEFT, score, 0), (RIGHT, 0.9, 1)])
        about = "A score equal to the merge's threshold stays (as float32), unlike a detection's."
        yield _case(f"p35-score-{name}", about, raw, _settings(replace(SMALL, threshold=0.3)))
    raw = _raw([(LEFT, 0.7, 0), (RIGHT, 0.9, 1)])
    about = "The same where the threshold is rounded down to float32."
    yield _case("p35-score-met-rounded", about, raw, _settings(replace(SMALL, threshold=0.7)))
    raw = _raw([(LEFT, 0.25, 0), (RIGHT, 0.9, 1)])
    about = "A detection of exactly its own threshold does not come to the merge."
    yield _case("score-of-detections", about, raw, _settings(replace(SMALL, threshold=0.25)))
    raw = _raw([], PERSON)
    about = "Pixels of a thing class without an instance are void."
    yield _case("p37-things-without-instance", about, raw)
    labels = np.full((SIDE, SIDE), SKY, np.int32)
    labels[4:12] = DOG
    raw = _raw([((0, 0, 4, 8), 0.9, 0)], labels)
    about = "An instance over stuff and over another thing class; the other's pixels are void."
    yield _case("p37-beside-instance", about, raw)
    raw = _raw([((4, 4, 4, 9), 0.9, 0), ((20, 0, 30, 9), 0.8, 1), (LEFT, 0.2, 1)])
    yield _case("no-instance", "No instance is left: stuff alone.", raw)
    raw = _raw([((2 * i, 0, 2 * i + 3, 16), 0.9 - i / 64, i % 2) for i in range(7)])
    about = "A row of instances that overlap by a third each."
    yield _case("row", about, raw)
    raw = {
        "boxes": np.array([[0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1]], np.float32),
        "scores": np.array([[3, 2], [-9, 1]], np.float32),
        "masks": np.ones((4, 4, 2), np.float32), "semantic": _raw([])["semantic"],
    }  # fmt: skip
    raw["masks"][:, :2, 1] = raw["masks"][:, 2:, 0] = -1
    about = "One query with two classes is two detections; the merge drops the second."
    yield _case("i30-two-classes", about, raw, _settings(instances=DETR))


def _stuff() -> Iterator[ContractCase]:
    for pixels in (4095, 4096):
        labels = np.full((64, 80), SKY, np.int32)
        labels.reshape(-1)[:pixels] = ROAD
        raw = _raw([], labels, 64, 80)
        about = f"Stuff of {pixels} pixels, least area 4096, and of fewer."
        yield _case(f"p35-stuff-{pixels}", about, raw, _settings(MergeConfig()))
    labels = np.full((SIDE, SIDE), SKY, np.int32)
    labels[12:] = ROAD
    for least in (32, 33):
        raw = _raw([(LEFT, 0.9, 0)], labels)
        about = f"Road of 32 pixels beside an instance, least area {least}."
        settings = _settings(replace(SMALL, min_stuff_area=least))
        yield _case(f"least-area-{least}", about, raw, settings)
    grids: tuple[Literal["input", "photo"], ...] = ("input", "photo")
    for grid in grids:
        # Road has 4 of 12 rows: 64 pixels of the input, of the photo 64·(34·24)/(16·11).
        for least in (296, 297):
            settings = _settings(replace(SMALL, min_stuff_area=least, area_grid=grid))
            about = f"Least area {least} on the {grid}; road has 296.7 pixels of the photo."
            transform = letterbox((34, 24), (SIDE, SIDE))
            labels = np.full((SIDE, SIDE), SKY, np.int32)
            labels[9:] = ROAD
            labels[13:] = PERSON
            yield _case(f"area-{grid}-{least}", about, _raw([], labels), settings,
                        transform=transform)  # fmt: skip
    for least in (256, 257):
        settings = _settings(replace(SMALL, min_stuff_area=least, area_grid="photo"))
        labels = np.full((SIDE, SIDE), SKY, np.int32)
        labels[:4] = ROAD
        about = f"Road of exactly 256 pixels of the photo, least area {least}; whole numbers."
        yield _case(f"area-exact-{least}", about, _raw([], labels), settings,
                    transform=letterbox((32, 32), (SIDE, SIDE)))  # fmt: skip
    labels = np.array([ROAD, SKY, PERSON, 9, -1, DOG, ROAD, SKY], np.int32)
    raw = _raw([((0, 0, 16, 2), 0.9, 1)], np.tile(labels.repeat(2), (SIDE, 1)))
    about = "Stuff by category id after the things; labels that are no class are void."
    yield _case("ids", about, raw)
    settings = _settings(semantic=replace(LABELS, columns=(SKY, -1, ROAD, SKY)))
    about = "Labels with a table: two columns are the same stuff, one is none."
    yield _case("columns", about, raw, settings)
    raw = _raw([((0, 0, 16, 16), 0.9, 0)])
    yield _case("all-covered", "An instance covers everything: no stuff.", raw)
    raw = _raw([(LEFT, 0.9, 0)], 0)
    turned = Taxonomy("turned", (TOY.categories[SKY], TOY.categories[PERSON]))
    settings = _settings(instances=replace(ROWS, columns=(1, 1)))
    yield _case("stuff-first", "A taxonomy that begins with stuff.", raw, settings, taxonomy=turned)
    raw = _raw([(LEFT, 0.9, 0)], 1)
    yield _case("only-things", "A taxonomy without stuff.", raw, taxonomy=ONLY_THINGS,
                settings=_settings(instances=replace(ROWS, columns=())))  # fmt: skip


def _grids() -> Iterator[ContractCase]:
    places: dict[str, Fit] = {
        "padded": "letterbox", "top-left": "top-left", "stretched": "stretch",
    }  # fmt: skip
    for i, (name, fit) in enumerate(places.items()):
        for photo in ((30, 17), (11, 40)):
            raw = noisy_instances(6000 + 20 * i, ROWS, (32, 24), 12)
            raw["semantic"] = noise(6010 + 20 * i, (3, 4, 4), 2)
            about = f"A photo of {photo[0]}x{photo[1]} in an input of 32x24, {name}."
            settings = _settings(semantic=SemanticConfig())
            transform = letterbox(photo, (32, 24), fit=fit)
            yield _case(f"place-{name}-{photo[0]}", about, raw, settings, transform=transform)
    raw = _raw([((0, 0, 16, 3), 0.9, 0), ((0, 2, 16, 6), 0.8, 1)])
    about = "The padding is void; an instance there is none, one that reaches into it is cut."
    yield _case("padding", about, raw, transform=letterbox((32, 16), (16, 16)))


def _noise() -> Iterator[ContractCase]:
    photos = ((50, 26), (64, 32)), ((31, 50), (32, 64))
    kinds: tuple[Literal["logits", "probabilities", "labels"], ...] = (
        "logits", "probabilities", "labels",
    )  # fmt: skip
    for i, (name, preset) in enumerate(INSTANCE_PRESETS.items()):
        instances = replace(preset, columns=COLUMNS)
        for j, (photo, size) in enumerate(photos):
            for kind, merge in zip(kinds, MERGE_PRESETS, strict=True):
                seed = 6100 + 100 * i + 50 * j
                raw = noisy_instances(seed, instances, size, 32)
                head = noise(seed + 20, (size[1] // 8, size[0] // 8, 4), 2)
                if kind == "probabilities":
                    head = np.abs(head) / 8
                raw["semantic"] = head if kind != "labels" else head.argmax(-1).astype(np.int32)
                settings = _settings(
                    replace(MERGE_PRESETS[merge], min_stuff_area=60),
                    instances,
                    SemanticConfig(input=kind, align_corners=j == 1),
                )
                about = f"Noise: instances as {name}, {kind}, merged as {merge}."
                transform = letterbox(photo, size)
                yield _case(f"{name}-{j}-{merge}", about, raw, settings, transform=transform)
    for merge, given in MERGE_PRESETS.items():
        raw = noisy_instances(6900, ROWS, (64, 64), 16)
        raw["detections"][:, :4] *= np.array([1, 1, 1.25, 1.25], np.float32)
        raw["semantic"] = raw_bits(6910, (4, 4), 2).astype(np.int32)
        about = f"The limits of {merge} as they are, a photo of 192x160."
        settings = _settings(given)
        yield _case(f"preset-{merge}", about, raw, settings,
                    transform=letterbox((192, 160), (64, 64)))  # fmt: skip


def _errors() -> Iterator[ContractCase]:
    bad: dict[str, tuple[str, tuple[int, ...], float]] = {
        "nan-box": ("detections", (1, 2), np.nan),
        "nan-prototype": ("prototypes", (3, 0, 0), np.nan),
        "label-too-high": ("detections", (0, 5), 2.0),
        "nan-semantic": ("semantic", (1, 3, 2), np.nan),
    }
    for name, (head, at, value) in bad.items():
        raw = _raw([(LEFT, 0.9, 0), (RIGHT, 0.8, 1)]) | {"semantic": noise(6950, (4, 4, 4))}
        raw[head][at] = value
        about = f"An error that names a head and a position: {head!r} is wrong at {at}."
        settings = _settings(semantic=SemanticConfig())
        yield _case(f"error-{name}", about, raw, settings, transform=whole_input(SIDE, SIDE))
    raw = _raw([(LEFT, 0.9, 0)]) | {"semantic": noise(6950, (4, 4, 5))}
    about = "An error that names head 'semantic': five classes where there are four."
    yield _case("error-other-classes", about, raw, _settings(semantic=SemanticConfig()))
