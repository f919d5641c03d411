"""The query network and its training: targets, matching, losses, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panokit.decoding import MASK_QUERY_PRESETS
from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_converters.adapt import KnownOfModule, adapt
from panokit_converters.contract import check_contract
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_datasets.records import NO_PERSON_MAP, SegmentRecord
from panokit_network.deploy import count_parameters, fuse
from panokit_network.model import NetworkConfig
from panokit_network.queries import QueryConfig, QueryNetwork, camera_queries
from panokit_network.source import NetworkSource
from panokit_network.training.augment import PADDING, Scene
from panokit_network.training.cache import PhotoCache
from panokit_network.training.config import Phase, TrainConfig
from panokit_network.training.queries import (
    NO_TARGET,
    UNKNOWN,
    QueryBatch,
    QueryTrainer,
    make_query_targets,
    query_loss,
)
from panokit_network.training.scenes import collate
from panokit_network.training.targets import LabelWeights, TargetConfig
from panokit_network.training.trainer import WEIGHTS
from tests.toys.data_folder import make_folder

TAXONOMY = Taxonomy.from_json({"name": "four", "things": ["cat", "dog"], "stuff": ["sky", "road"]})
NETWORK = NetworkConfig(classes=4, pyramid_width=16, semantic_width=16, instance_width=16,
                        head_width=8, context_dilations=(1,))  # fmt: skip
QUERIES = QueryConfig(
    queries=6, width=16, attention_heads=2, blocks=2, hidden=32, mask_width=8, side=4
)
CAT, DOG, SKY, ROAD = range(4)


def scene(complete: bool = False) -> Scene:
    """A cat at the left, two patches of sky, a crowd of dogs; the last column is padding."""
    index = np.zeros((64, 64), np.uint16)
    index[:32, :16], index[:, 20:32], index[32:, :16], index[:, 40:48] = 1, 2, 3, 4
    index[:, 60:] = PADDING
    segments = [
        SegmentRecord(CAT, True), SegmentRecord(SKY, False), SegmentRecord(SKY, False, score=0.5),
        SegmentRecord(DOG, True, is_crowd=True),
    ]  # fmt: skip
    person = np.full((64, 64), NO_PERSON_MAP, np.uint8)
    return Scene(np.zeros((64, 64, 3), np.uint8), index, segments, person, (CAT,), complete)


def weights() -> LabelWeights:
    return LabelWeights.of(TAXONOMY, TargetConfig())


def test_targets_of_a_scene() -> None:
    found = make_query_targets(scene(), weights())
    channels = found.channels[found.channels >= 0].tolist()
    assert channels == [SKY, CAT]  # the larger first; both patches of sky are one
    sky, cat = 0, 1
    assert found.index[0, 0] == cat
    assert found.index[0, 6] == found.index[12, 0] == sky
    assert found.index[0, 10] == UNKNOWN  # the crowd
    assert found.index[0, 4] == NO_TARGET
    assert found.index[0, 15] == UNKNOWN  # the padding
    assert found.known.tolist() == [1, 0, 0, 0]
    whole = make_query_targets(scene(complete=True), weights())
    assert whole.index[0, 4] == UNKNOWN
    assert whole.known.tolist() == [1, 0, 1, 1]  # there may be more dogs in the crowd


def answer(batch: QueryBatch) -> dict[str, torch.Tensor]:
    """What is right, of six queries: the sky is the first's, the cat the fourth's."""
    classes = torch.zeros(1, 6, 5)
    classes[..., 4] = 20
    classes[0, 0, SKY] = classes[0, 3, CAT] = 40
    masks = torch.full((1, 6, 16, 16), -20.0)
    masks[0, 0][batch.index[0] == 0] = 20
    masks[0, 3][batch.index[0] == 1] = 20
    return {"classes": classes, "masks": masks}


def test_the_loss_of_what_is_right_is_none_and_of_mistakes_is_some() -> None:
    batch = collate([scene()], [make_query_targets(scene(), weights())], QueryBatch)
    right = query_loss(answer(batch), batch, [SKY, ROAD], torch.ones(4))
    assert float(right["total"]) < 0.05
    moved = answer(batch)
    moved["masks"][0, 3] = -moved["masks"][0, 3]
    assert float(query_loss(moved, batch, [SKY, ROAD], torch.ones(4))["mask"]) > 1
    unasked = answer(batch)  # the second stuff query finds road where nobody knows
    unasked["classes"][0, 1, ROAD] = 40
    same = query_loss(unasked, batch, [SKY, ROAD], torch.ones(4))
    assert float(same["total"]) == pytest.approx(float(right["total"]), abs=1e-4)
    shuffled = answer(batch)
    order = [0, 1, 3, 2, 5, 4]  # the objects' queries are anybody's
    shuffled = {name: head[:, order] for name, head in shuffled.items()}
    again = query_loss(shuffled, batch, [SKY, ROAD], torch.ones(4))
    assert float(again["total"]) == pytest.approx(float(right["total"]), abs=1e-5)


def test_an_image_without_targets_has_a_loss() -> None:
    empty = replace(scene(), segment_map=np.zeros((64, 64), np.uint16), segments=[])
    batch = collate([empty], [make_query_targets(empty, weights())], QueryBatch)
    heads = {
        "classes": torch.zeros(1, 6, 5, requires_grad=True),
        "masks": torch.zeros(1, 6, 16, 16),
    }
    loss = query_loss(heads, batch, [SKY, ROAD], torch.ones(4))
    assert torch.isfinite(loss["total"])


def test_the_network_keeps_the_contract_at_every_size() -> None:
    network = QueryNetwork(NETWORK, QUERIES).eval()
    for size in ((64, 64), (96, 32)):
        found = adapt(network, size, KnownOfModule())
        assert found.family == "panokit-queries"
        assert found.preprocessing.fit == "letterbox"
        contract = check_contract(found.module, size, TAXONOMY, MASK_QUERY_PRESETS["mask2former"])
        assert contract.heads["masks"].shape == (6, size[1] // 4, size[0] // 4)
    image = 255 * torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        folded, plain = fuse(network)(image), network(image)
    torch.testing.assert_close(folded["masks"], plain["masks"], rtol=1e-3, atol=1e-5)
    assert set(network.train()(image)) == {
        "classes", "masks", "earlier_classes", "earlier_masks",
    }  # fmt: skip


def test_sizes_are_checked_and_ours_is_small() -> None:
    with pytest.raises(ArgumentError, match="divides width"):
        QueryConfig(width=10, attention_heads=3)
    with pytest.raises(ArgumentError, match="blocks is 0"):
        QueryConfig(blocks=0)
    assert count_parameters(camera_queries()) < 6e6


@pytest.mark.slow
def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = PanopticFolder.open(make_folder(tmp_path / "data"))
    photos = load_split(folder, "toy_train")
    cache = PhotoCache.build(photos, folder.taxonomy, tmp_path / "cache")
    config = TrainConfig(
        phases=(Phase(64, 2, 8),), cooldown_samples=4, warmup_samples=1, bf16=False,
        network=replace(NETWORK, classes=len(folder.taxonomy)), queries=QUERIES,
    )  # fmt: skip

    def trained(out: str, *stops: int | None) -> dict[str, torch.Tensor]:
        for stop in stops:
            trainer = QueryTrainer(config, cache, folder.taxonomy, tmp_path / out, imagenet=False,
                                   workers=0)  # fmt: skip
            trainer.resume()
            trainer.run(stop_after=stop)
        return trainer.loop.averages

    whole, parts = trained("whole", None), trained("parts", 2, None)
    assert all(torch.equal(v, parts[k]) for k, v in whole.items())
    stored = tmp_path / "whole" / WEIGHTS
    network = QueryNetwork(config.network, QUERIES)
    again = NetworkSource.from_module(network, folder.taxonomy)
    assert again.module is network
    trainer = QueryTrainer(config, cache, folder.taxonomy, tmp_path / "more", imagenet=False,
                           init=stored, workers=0)  # fmt: skip
    torch.testing.assert_close(
        trainer.model.state_dict()["queries"], whole["queries"], rtol=2e-3, atol=1e-4
    )
