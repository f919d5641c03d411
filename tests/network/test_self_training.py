"""Pseudo-labels: where the network is sure, the labels are silent, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panokit.errors import ArgumentError, DataError
from panokit_network.data import DecodedPhoto, PanopticFolder, PhotoCache, decode_photo, load_split
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.self_training import SelfTeacher
from panokit_network.weights import save_weights
from tests.network.toy_data import make_folder

DISC, SQUARE, SKY = range(3)


def sure_of(folder: PanopticFolder, *logits: float, knows: tuple[int, ...] = ()) -> SelfTeacher:
    """A teacher that gives every pixel these logits."""
    network = PanopticNetwork(NetworkConfig(3, 16, 16, 16, 16, (1,))).eval()
    with torch.no_grad():
        network.semantic_head.weight.zero_()
        network.semantic_head.bias.copy_(torch.tensor(logits))
    mask = np.zeros(3, bool)
    mask[list(knows)] = True
    return SelfTeacher(network, folder.taxonomy, mask, "test", size=64)


@pytest.fixture
def folder(tmp_path: Path) -> PanopticFolder:
    return PanopticFolder.open(make_folder(tmp_path / "data", photos=2))


@pytest.fixture
def photo(folder: PanopticFolder) -> DecodedPhoto:
    record = load_split(folder, "toy_train")[0]
    return decode_photo(replace(record, complete=False, absent=(DISC,)), folder.taxonomy)


def test_sure_class_becomes_a_label(folder: PanopticFolder, photo: DecodedPhoto) -> None:
    made = sure_of(folder, 0, 0, 9)(photo)
    assert made is not None
    assert made.dtype == np.uint8
    assert (made == 1 + SKY).all()


def test_unsure_is_unsure(folder: PanopticFolder, photo: DecodedPhoto) -> None:
    made = sure_of(folder, 0, 1, 1)(photo)
    assert made is not None
    assert (made == 255).all()


def test_class_that_labels_rule_out_is_taken_away_first(
    folder: PanopticFolder, photo: DecodedPhoto
) -> None:
    # The disc is known to be absent; of the rest the square is the likeliest by far.
    made = sure_of(folder, 9, 5, 0)(photo)
    assert made is not None
    assert (made == 1 + SQUARE).all()


def test_given_teacher_keeps_its_word(folder: PanopticFolder, photo: DecodedPhoto) -> None:
    given = np.full(photo.segment_map.shape, 255, np.uint8)
    given[:10], given[10:20] = 0, 1 + SQUARE
    taught = replace(photo, teacher=given)
    knows_sky = sure_of(folder, 0, 0, 9, knows=(SKY,))(taught)
    assert knows_sky is not None
    assert (knows_sky[:10] == 0).all()  # it knows the sky and saw none
    assert (knows_sky[10:20] == 1 + SQUARE).all()
    assert (knows_sky[20:] == 1 + SKY).all()
    knows_square = sure_of(folder, 0, 0, 9, knows=(SQUARE,))(taught)
    assert knows_square is not None
    assert (knows_square[:10] == 1 + SKY).all()  # its 0 says nothing of the sky


def test_photo_labelled_in_full_is_left_alone(folder: PanopticFolder, photo: DecodedPhoto) -> None:
    whole = replace(photo, record=replace(photo.record, complete=True))
    assert sure_of(folder, 0, 0, 9)(whole) is None


def test_cache_holds_the_maps_and_is_made_once_per_teacher(
    folder: PanopticFolder, tmp_path: Path
) -> None:
    path = folder.root / "annotations" / "toy_train.json"
    data = json.loads(path.read_text())
    data["images"][0]["labelled"] = [1]
    path.write_text(json.dumps(data))
    records = load_split(folder, "toy_train")
    teacher = sure_of(folder, 0, 0, 9)
    for _ in range(2):
        cache = PhotoCache.build(records, folder.taxonomy, tmp_path / "c", teacher=teacher)
        assert cache.has_teacher == [True, False]
        first, second = cache[0].teacher, cache[1].teacher
        assert first is not None
        assert (first == 1 + SKY).all()
        assert second is None
    plain = PhotoCache.build(records, folder.taxonomy, tmp_path / "c")
    assert plain[0].teacher is None
    assert len(list((tmp_path / "c").glob("*.bin"))) == 2


def test_probability_follows_the_photo_and_is_mirrored_back(folder: PanopticFolder) -> None:
    teacher = sure_of(folder, 0, 1, 2)
    p = teacher.probability(np.zeros((40, 64, 3), np.uint8))
    assert p.shape == (40, 64, 3)
    expected = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(p, np.broadcast_to(expected, p.shape), atol=0.01)


def test_bad_teachers_are_refused(folder: PanopticFolder, tmp_path: Path) -> None:
    teacher = sure_of(folder, 0, 0, 9)
    with pytest.raises(ArgumentError, match="above 0, up to 1"):
        replace(teacher, sure=1.5)
    other = replace(folder.taxonomy, categories=folder.taxonomy.categories[:2])
    network = PanopticNetwork(NetworkConfig(2, 16, 16, 16, 16, (1,)))
    save_weights(tmp_path / "w", network.state_dict(), network.config, other, {})
    with pytest.raises(DataError, match="expected weights of the taxonomy"):
        SelfTeacher.open(tmp_path / "w", folder.taxonomy, np.zeros(3, bool))
