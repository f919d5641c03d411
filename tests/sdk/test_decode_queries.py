"""The contract mask-queries against its plain twin, Transformers' own code, and cases by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.decoding import (
    MASK_QUERY_PRESETS,
    DecodingSettings,
    MaskQueries,
    MaskQueriesConfig,
    PanopticMap,
    QueryHeads,
)
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import Fit, TransformRecord, letterbox
from panokit.taxonomy import Category, Taxonomy
from tests.toys import slow_queries
from tests.toys.shares import some

THINGS, CLASSES, QUERIES = 7, 12, 16
TAXONOMY = Taxonomy(
    "toy",
    tuple(
        Category(id=i + 1, name=f"class-{i}", is_thing=i < THINGS, color=(i, i, i))
        for i in range(CLASSES)
    ),
)
FITS: tuple[Fit, ...] = ("letterbox", "top-left", "stretch")
NONE = CLASSES  # the column of "no object"


def logits_for(rng: np.random.Generator, h: int, w: int, blobs: bool) -> NDArray[Any]:
    """Masks ``[h,w,Q]``: noise, or what trained networks give: one soft blob a query."""
    if not blobs:
        return rng.normal(0, 2, (h, w, QUERIES)).astype(np.float32)
    y, x = np.mgrid[:h, :w]
    planes = []
    for _ in range(QUERIES):
        at_y, at_x, radius = rng.uniform(0, h), rng.uniform(0, w), rng.uniform(1, h / 3)
        away = radius - np.hypot(y - at_y, x - at_x)
        planes.append(away * rng.uniform(0.3, 3) + rng.normal(0, 0.2, (h, w)))
    return np.stack(planes, -1).astype(np.float32)


def class_logits(rng: np.random.Generator) -> NDArray[Any]:
    return (rng.normal(0, 1, (QUERIES, CLASSES + 1)) * rng.choice([1, 4, 8])).astype(np.float32)


def whole(photo_wh: tuple[int, int], input_wh: tuple[int, int]) -> TransformRecord:
    """The photo stretched over all of the input."""
    return letterbox(photo_wh, input_wh, fit="stretch")


def case(seed: int, scale: int = 4, odd: bool = False) -> tuple[Any, Any, tuple[int, int]]:
    rng = np.random.default_rng(seed)
    h, w = [(8, 8), (12, 8), (8, 10)][seed % 3]
    masks, classes = logits_for(rng, h, w, seed % 4 > 0), class_logits(rng)
    return classes, masks, (w * scale + odd, h * scale + odd)


@pytest.mark.parametrize("name", MASK_QUERY_PRESETS)
@pytest.mark.parametrize("grid", ["input", "photo"])
def test_the_decoding_is_its_plain_twin(name: str, grid: Any) -> None:
    preset = MASK_QUERY_PRESETS[name]
    if isinstance(preset.mask_grid, tuple):
        preset = replace(preset, mask_grid=(24, 20))  # 384 is long in plain loops
    segments = 0
    for seed in some(range(6), 2):
        rng = np.random.default_rng(100 + seed)
        classes, masks, input_wh = case(seed, 3, odd=name == "kmax" and seed % 2 == 0)
        photo_wh = (int(rng.integers(9, 40)), int(rng.integers(9, 40)))
        transform = letterbox(photo_wh, input_wh, fit=FITS[seed % 3])
        config = replace(preset, grid=grid, threshold=0.3, overlap=0.3)
        if config.classes == "labels":  # a label and its confidence
            config = replace(config, min_thing_area=0, min_stuff_area=0, overlap=0.1)
            classes = np.stack([classes[:, :-1].argmax(1), classes.max(1) / 20 + 0.3], 1)
            classes = classes.astype(np.float32)
        heads = QueryHeads.from_arrays({"classes": classes, "masks": masks})
        found = MaskQueries(TAXONOMY, transform, config).decode(heads)
        ids, expected = slow_queries.decode(classes, masks, TAXONOMY, transform, config)
        inner = found.ids if grid == "photo" else found.ids[transform.content_slices]
        np.testing.assert_array_equal(inner, ids)
        assert {s.id: (s.channel, s.area) for s in found.segments} == expected
        assert np.count_nonzero(found.ids) == np.count_nonzero(ids)  # the padding is void
        segments += len(expected)
    assert segments > 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask2former", "maskformer", "oneformer", "eomt"])
def test_the_decoding_is_that_of_transformers(name: str) -> None:
    """Pixel for pixel and segment for segment, on 500 inputs (`make test`: 100). Where its ids
    collide (a segment after joined stuff gets a number that is taken) both segments are one there.
    A pixel that two queries want alike, to four units in the last place, may be either's: there is
    one."""
    models = pytest.importorskip("transformers.models", reason="transformers is not installed")
    torch = pytest.importorskip("torch")
    process = _processor(models, name)
    config = replace(MASK_QUERY_PRESETS[f"transformers-{name}"], grid="photo")
    if name != "eomt":  # the ids of those collide more often than segments are rejected
        config = replace(config, threshold=0.5)
    segments = ties = 0
    for seed in some(range(500), 5):
        rng = np.random.default_rng(1000 + seed)
        classes, masks, input_wh = case(seed)
        photo_wh = (int(rng.integers(16, 64)), int(rng.integers(16, 64)))
        outputs = SimpleNamespace(
            class_queries_logits=torch.tensor(classes)[None],
            masks_queries_logits=torch.tensor(masks.transpose(2, 0, 1).copy())[None],
        )
        answer, transform = process(outputs, photo_wh, input_wh)
        heads = QueryHeads.from_arrays({"classes": classes, "masks": masks})
        decoder = MaskQueries(TAXONOMY, transform, config)
        found = decoder.decode(heads)
        clear = ~_ties(decoder, heads)
        ties += int(np.count_nonzero(~clear))
        _assert_same(found, answer["segmentation"].numpy(), answer["segments_info"], name, clear)
        segments += len(found.segments)
    assert segments > 80
    assert ties < 20


def _ties(decoder: MaskQueries, heads: QueryHeads) -> NDArray[Any]:
    """Where the two strongest of the kept queries are equal but for rounding."""
    queries = decoder.queries(heads)
    width, height = decoder.transform.photo_wh
    if len(queries) < 2:
        return np.zeros((height, width), bool)
    bands = decoder.bands(heads, queries.index)
    p = np.concatenate([part for _, part in bands], axis=1)
    strength = np.sort(queries.scores[:, None, None] * p, axis=0)
    return np.asarray(strength[-1] - strength[-2] <= 4 * np.spacing(strength[-1]))


def _processor(models: Any, name: str) -> Any:
    """``(outputs, photo_wh, input_wh) → (answer, transform)`` of Transformers' own code."""
    stuff = list(range(THINGS, CLASSES))
    if name == "eomt":
        from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

        eomt = EomtImageProcessorPil()

        def padded(outputs: Any, photo_wh: Any, input_wh: Any) -> Any:
            side = max(input_wh)  # it knows square inputs with padding right and below
            answer = eomt.post_process_panoptic_segmentation(
                outputs, [photo_wh[::-1]], stuff_classes=stuff,
                size={"shortest_edge": side, "longest_edge": side},
            )[0]  # fmt: skip
            size = models.eomt.image_processing_pil_eomt.get_size_with_aspect_ratio(
                photo_wh[::-1], side, side
            )
            transform = letterbox(photo_wh, (side, side), fit="top-left")
            content_wh = min(size[1], side), min(size[0], side)
            return answer, replace(transform, content_wh=content_wh)

        return padded
    module = getattr(getattr(models, name), f"image_processing_pil_{name}")
    kinds = {"mask2former": "Mask2Former", "maskformer": "MaskFormer", "oneformer": "OneFormer"}
    kind = kinds[name]
    if name == "oneformer" and not hasattr(module, "tvF"):
        module.tvF = _torchvision()
    processor = getattr(module, f"{kind}ImageProcessorPil")()

    def stretched(outputs: Any, photo_wh: Any, input_wh: Any) -> Any:
        answer = processor.post_process_panoptic_segmentation(
            outputs, label_ids_to_fuse=set(stuff), target_sizes=[photo_wh[::-1]]
        )[0]
        return answer, whole(photo_wh, input_wh)

    return stretched


def _torchvision() -> Any:
    """What torchvision's resize of tensors does, for where it is not installed: it antialiases."""
    from torch.nn import functional as F

    def resize(masks: Any, size: Any, interpolation: Any) -> Any:
        assert interpolation == "bilinear"
        return F.interpolate(masks, size, mode="bilinear", align_corners=False, antialias=True)

    modes = SimpleNamespace(BILINEAR="bilinear")
    return SimpleNamespace(resize=resize, InterpolationMode=modes)


def _assert_same(
    found: PanopticMap, theirs: Any, infos: list[dict[str, Any]], name: str, clear: NDArray[Any]
) -> None:
    theirs = theirs.astype(int)
    labels: dict[int, set[int]] = {}
    for info in infos:
        labels.setdefault(info["id"], set()).add(info["label_id"])
    void = -1 if name == "eomt" else 0
    if not infos:
        assert not found.ids.any()
        return
    pairs = set(zip(found.ids[clear].tolist(), theirs[clear].tolist(), strict=True))
    assert len({ours for ours, _ in pairs}) == len(pairs), "a segment of ours is one of theirs"
    for ours, their in pairs:
        if ours == 0 or their == void:
            assert (ours, their) == (0, void)
        else:
            assert found.channels[ours] in labels[their]
    shown = {info["label_id"] for info in infos}
    assert {s.channel for s in found.segments} == shown


# By hand: one row of pixels, as many queries as needed. ``strong``: class scores near 1.


def heads_of(classes: list[int], rows: list[list[float]], strength: float = 20.0) -> QueryHeads:
    """Queries of these classes (NONE: no object) whose masks are these rows of logits."""
    logits = np.zeros((len(classes), CLASSES + 1), np.float32)
    logits[np.arange(len(classes)), classes] = strength
    return QueryHeads(logits, np.array(rows, np.float32).T[None].copy())


def decoded(heads: QueryHeads, preset: str = "mask2former", **changes: Any) -> list[int]:
    width = heads.masks.shape[1]
    config = replace(MASK_QUERY_PRESETS[preset], **changes)
    found = MaskQueries(TAXONOMY, whole((width, 1), (width, 1)), config).decode(heads)
    return [int(v) for v in found.ids[0]]


def test_no_query_is_kept() -> None:
    assert decoded(heads_of([NONE], [[5, 5]])) == [0, 0]


def test_a_class_as_sure_as_no_object_wins() -> None:
    logits = np.full((1, CLASSES + 1), -30, np.float32)
    logits[0, [3, NONE]] = 10
    heads = QueryHeads(logits, np.full((1, 2, 1), 5, np.float32))
    assert decoded(heads, threshold=0.4) == [1, 1]


def test_a_score_at_the_threshold_is_dropped() -> None:
    probabilities = np.zeros((1, CLASSES + 1), np.float32)
    probabilities[0, 2] = 0.8
    heads = QueryHeads(probabilities, np.full((1, 2, 1), 5, np.float32))
    assert decoded(heads, classes="probabilities") == [0, 0]
    assert decoded(heads, classes="probabilities", threshold=0.79) == [1, 1]


def test_logits_of_zero_are_half_and_inside() -> None:
    assert decoded(heads_of([1], [[0, 0, -1]])) == [1, 1, 0]


def test_of_equal_queries_the_first_owns_all() -> None:
    assert decoded(heads_of([1, 2], [[5, 5], [5, 5]])) == [1, 1]


@pytest.mark.parametrize(
    ("owned", "held", "share", "rules"),
    [
        (4, 5, 0.8, {"at-least": True, "ratio-above": True, "product-above": False}),
        (7, 10, 0.7, {"at-least": True, "ratio-above": False, "product-above": False}),
        (3, 5, 0.6, {"at-least": True, "ratio-above": True, "product-above": False}),
        (1, 2, 0.5, {"at-least": True, "ratio-above": False, "product-above": False}),
    ],
)
def test_a_share_at_the_limit(owned: int, held: int, share: float, rules: dict[str, bool]) -> None:
    # The first query takes what the second does not own.
    first = [9.0] * (held - owned) + [-9.0] * owned
    heads = heads_of([1, 2], [first, [5.0] * held])
    for rule, is_kept in rules.items():
        ids = decoded(heads, overlap=share, overlap_rule=rule)
        assert (ids[-1] != 0) == is_kept, rule


def test_a_weak_score_times_a_sure_mask() -> None:
    """Score 0.6 and probability 0.8: the originals keep it, the weighted rule does not."""
    probabilities = np.zeros((1, CLASSES + 1), np.float32)
    probabilities[0, 2] = 0.6
    heads = QueryHeads(probabilities, np.full((1, 2, 1), np.log(0.8 / 0.2), np.float32))
    assert decoded(heads, classes="probabilities", threshold=0.5) == [1, 1]
    assert decoded(heads, "transformers-maskformer", classes="probabilities") == [0, 0]


def test_a_single_query_on_a_part_of_the_picture() -> None:
    row = [5.0] * 4 + [-5.0] * 12
    for preset, pixels in (("mask2former", 4), ("eomt", 4), ("maskformer", 16)):
        assert sum(v > 0 for v in decoded(heads_of([1], [row]), preset)) == pixels, preset


def test_ids_count_on_after_stuff_that_joins() -> None:
    rows = [[9.0 if i == k else -9.0 for i in range(4)] for k in range(4)]
    assert decoded(heads_of([8, 1, 8, 2], rows)) == [1, 2, 1, 3]


def test_stuff_that_fails_does_not_join() -> None:
    rows = [[9.0, 9.0, -9.0, 9.0], [-9.0, -9.0, 9.0, -9.0], [9.0, 9.0, -9.0, 5.0]]
    assert decoded(heads_of([8, 1, 8], rows)) == [1, 1, 2, 1]
    assert decoded(heads_of([8, 8], [[9, 9, -9, -9], [5, 5, 5, -9]])) == [1, 1, 0, 0]


def test_an_owner_outside_its_mask_paints_nothing_and_spends_no_id() -> None:
    rows = [[-1.0, -9.0], [-9.0, 9.0]]
    assert decoded(heads_of([1, 2], rows)) == [0, 1]


def test_ids_go_beyond_a_byte() -> None:
    rows = [[9.0 if i == k else -9.0 for i in range(300)] for k in range(300)]
    assert decoded(heads_of([1] * 300, rows)) == list(range(1, 301))


def test_what_lies_in_the_padding_has_no_influence() -> None:
    transform = letterbox((4, 2), (4, 4))  # a row of padding above and below
    masks = np.full((4, 4, 2), -9.0, np.float32)
    masks[1:3, :, 0] = 9
    masks[0, :, 0] = masks[3, :, 1] = 9
    heads = heads_of([1, 2], [[0.0], [0.0]])
    config = MASK_QUERY_PRESETS["mask2former"]
    found = MaskQueries(TAXONOMY, transform, config).decode(QueryHeads(heads.classes, masks))
    assert [s.channel for s in found.segments] == [1]
    assert found.segments[0].area == 8
    assert not found.ids[[0, 3]].any()


def test_shuffled_queries_give_the_same_masks() -> None:
    rng = np.random.default_rng(4)
    masks, classes = logits_for(rng, 8, 8, True), class_logits(rng) * 4
    order = rng.permutation(QUERIES)
    maps = [
        MaskQueries(
            TAXONOMY,
            whole((32, 32), (32, 32)),
            replace(MASK_QUERY_PRESETS["mask2former"], overlap=0.2),
        ).decode(QueryHeads(classes[o].copy(), masks[:, :, o].copy()))
        for o in (np.arange(QUERIES), order)
    ]
    one, other = (m.ids for m in maps)
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    assert len(pairs) == len(maps[0].segments) + 1


def test_corners_are_aligned_by_both_resizes_also_without_cropping_first() -> None:
    rng = np.random.default_rng(8)
    heads = QueryHeads(class_logits(rng), logits_for(rng, 7, 9, True))
    aligned = MaskQueriesConfig(threshold=0.3, align_corners=True)
    one = replace(aligned, mask_grid="head", crop_first=False)  # straight to the photo
    filled = letterbox((33, 25), (33, 25))
    for settings in (aligned, one):
        found = MaskQueries(TAXONOMY, filled, settings).decode(heads, explain=True)
        expected = MaskQueries(TAXONOMY, filled, aligned).decode(heads, explain=True)
        assert (found.explain["owners"] == expected.explain["owners"]).all()
    assert len(np.unique(expected.explain["owners"])) > 2
    planes = next(MaskQueries(TAXONOMY, filled, one).bands(heads, np.arange(QUERIES)))[1]
    corners = heads.masks[[0, 0, -1, -1], [0, -1, 0, -1]].T
    logits = np.log(planes / (1 - planes.astype(np.float64)))[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert logits == pytest.approx(corners, abs=1e-3)


def test_kmax_by_hand() -> None:
    low = heads_of([1, 2, 3], [[0.0] * 4] * 3)  # a third each: nothing is above 0.4
    assert decoded(low, "kmax") == [0, 0, 0, 0]
    halves = heads_of([1, 2], [[0.0] * 4] * 2)
    assert decoded(halves, "kmax") == [1, 1, 1, 1]
    sure = heads_of([1, 2], [[9.0, 9, -9, -9], [-9.0, -9, 9, 9]])
    assert decoded(sure, "kmax") == [1, 1, 2, 2]


def test_a_row_of_nan_classes_is_dropped() -> None:
    heads = heads_of([1, 2], [[9.0, -9.0], [-9.0, 9.0]])
    classes = heads.classes.copy()
    classes[0, 3] = np.nan
    assert decoded(QueryHeads(classes, heads.masks)) == [0, 1]


def test_a_class_that_the_taxonomy_lacks_is_void() -> None:
    heads = heads_of([1, 2], [[9.0, -9.0], [-9.0, 9.0]])
    columns = (0, -1, *range(2, CLASSES))
    assert decoded(heads, columns=columns) == [0, 1]


def test_heads_that_are_none_are_refused_by_name() -> None:
    good = {"classes": np.zeros((1, 4, 13)), "masks": np.zeros((1, 6, 5, 4))}
    assert QueryHeads.from_arrays(good).masks.shape == (6, 5, 4)
    swapped = {**good, "masks": np.zeros((1, 4, 6, 5))}
    assert QueryHeads.from_arrays(swapped, "nchw").masks.shape == (6, 5, 4)
    for changes, head in (
        ({"masks": np.zeros((6, 5, 3))}, "masks"),
        ({"classes": np.zeros((2, 4, 13))}, "classes"),
        ({"masks": np.full((6, 5, 4), np.nan)}, "masks"),
        ({"classes": np.full((4, 13), np.inf)}, "classes"),
    ):
        with pytest.raises(HeadError) as caught:
            QueryHeads.from_arrays({**good, **changes})
        assert caught.value.head == head
    with pytest.raises(HeadError, match="is missing"):
        QueryHeads.from_arrays({"classes": good["classes"]})


def test_wrong_columns_are_told() -> None:
    heads = QueryHeads(np.zeros((2, 5), np.float32), np.zeros((4, 4, 2), np.float32))
    with pytest.raises(HeadError, match="expected 12 classes"):
        MaskQueries(TAXONOMY, whole((4, 4), (4, 4))).decode(heads)


def test_settings_name_their_contract_in_json() -> None:
    settings = MASK_QUERY_PRESETS["kmax"]
    data = settings.to_json()
    assert data["contract"] == "mask-queries"
    assert DecodingSettings.from_json(data) == settings
    assert MaskQueriesConfig.from_json(data) == settings
    with pytest.raises(ArgumentError, match="no contract 'mask-querys'"):
        DecodingSettings.from_json({**data, "contract": "mask-querys"})
    with pytest.raises(ArgumentError, match="crop_first goes with"):
        MaskQueriesConfig(mask_grid="head")
