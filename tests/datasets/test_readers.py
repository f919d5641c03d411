"""Readers of all data sets: fixture trees in the layouts and encodings of their makers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.errors import ArgumentError, DataError
from panokit_datasets.classes import ClassList, class_list_names
from panokit_datasets.problems import LabelError, Problem
from panokit_datasets.reader import Options, Reader
from panokit_datasets.readers import find_datasets, kinds, open_dataset, writers
from tests.toys import datasets as toy

Described = set[tuple[str, str, bytes]]

PLAIN = {"p": "person", "q": "person", "c": "car", "d": "car"}
STREET = PLAIN | {"s": "sky", "r": "road"}
MAPILLARY = {"p": "Person", "q": "Person", "c": "Car", "d": "Car", "s": "Sky", "r": "Road"}
COCO = STREET | {"s": "sky-other-merged"}
CROWD = {"g": "car"}

# What writes the tree, the kind that it is, the class of each letter, the letters that are crowds.
SETS: dict[str, tuple[Callable[[Path], None], str, dict[str, str], dict[str, str]]] = {
    "cityscapes": (toy.cityscapes, "cityscapes", STREET, CROWD),
    "cityscapes panoptic": (toy.cityscapes_panoptic, "coco-panoptic", STREET, CROWD),
    "cityscapes train ids": (
        partial(toy.cityscapes_panoptic, train_ids=True), "coco-panoptic", STREET, CROWD,
    ),
    "kitti-step": (toy.kitti_step, "kitti-step", STREET, CROWD),
    "motchallenge-step": (
        toy.motchallenge_step, "motchallenge-step",
        {"p": "person", "q": "person", "s": "sky", "r": "sidewalk"}, {"g": "person"},
    ),
    "kitti-2d": (toy.kitti_2d, "kitti-2d", STREET, CROWD),
    "mapillary v1.2": (partial(toy.mapillary, version="v1.2"), "mapillary-v1.2", MAPILLARY, {}),
    "mapillary, old": (
        partial(toy.mapillary, version="v1.2", versioned=False), "mapillary-v1.2", MAPILLARY, {},
    ),
    "mapillary v2.0": (partial(toy.mapillary, version="v2.0"), "mapillary-v2.0", MAPILLARY, {}),
    "ade20k": (toy.ade20k, "ade20k", STREET, {}),
    "ade20k panoptic": (
        toy.ade20k_panoptic, "coco-panoptic", STREET | {"r": "road, route"}, {},
    ),
    "ade20k originals": (
        toy.ade20k_full, "ade20k-full",
        {"p": "person, individual �", "q": "person, individual �", "c": "car, auto",
         "d": "car, auto", "s": "sky", "r": "road, route"}, {},
    ),
    "coco panoptic": (toy.coco_panoptic, "coco-panoptic", COCO, CROWD),
    "our own": (toy.camera_panoptic, "coco-panoptic", STREET, CROWD),
    "coco instances": (toy.coco_instances, "coco-instances", PLAIN, CROWD),
    "coco joined": (toy.coco_joined, "coco-instances", COCO, CROWD),
    "coco joined, thing maps": (
        partial(toy.coco_joined, maps=True), "coco-instances", COCO, CROWD,
    ),
    "roboflow": (toy.roboflow, "coco-instances", PLAIN, CROWD),
    "label studio": (toy.label_studio, "coco-instances", PLAIN, {}),
    "label studio tasks": (toy.label_studio_json, "label-studio", PLAIN, {}),
    "voc": (toy.voc, "voc", PLAIN, {}),
    "cvat masks": (toy.cvat_masks, "cvat-masks", PLAIN, {}),
    "label pngs": (toy.label_pngs, "label-pngs", STREET, CROWD),
}  # fmt: skip


def described(reader: Reader, index: int) -> Described:
    """The labels of a photo: class, what it is, and where."""
    truth = reader.truth(index)
    assert truth.ids.dtype == np.int32
    assert {0, *(s.id for s in truth.segments)} >= set(np.unique(truth.ids).tolist())
    return {
        (
            reader.taxonomy.categories[s.channel].name,
            ("crowd" if s.is_crowd else "thing") if s.is_thing else "stuff",
            (truth.ids == s.id).tobytes(),
        )
        for s in truth.segments
    }


def expected(classes: dict[str, str], crowds: dict[str, str], index: int) -> Described:
    """The scene as :func:`described` has it."""
    grid = toy.letters(index)
    found = {
        (name, "stuff" if letter in "sr" else "thing", (grid == letter).tobytes())
        for letter, name in classes.items()
    }
    return found | {(name, "crowd", (grid == letter).tobytes()) for letter, name in crowds.items()}


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read_as_it_is_laid_out(name: str, tmp_path: Path) -> None:
    write, kind, classes, crowds = SETS[name]
    write(tmp_path)
    (found, splits), *_ = find_datasets(tmp_path).items()
    assert found.kind == kind
    reader = open_dataset(tmp_path, splits[0])
    assert len(reader) == 2
    for index in (0, 1):
        assert reader.photo(index).size_wh == (12, 8)
        assert described(reader, index) == expected(classes, crowds, index)
        assert all(p.exists() for p in reader.label_paths(index)[:1])
    names = [reader.name(i) for i in range(2)]
    assert len(set(names)) == 2


@pytest.mark.parametrize("name", SETS)
def test_a_clean_set_has_no_problem(name: str, tmp_path: Path) -> None:
    SETS[name][0](tmp_path)
    problems: list[Problem] = []
    split = next(iter(find_datasets(tmp_path).values()))[0]
    reader = open_dataset(tmp_path, split, complain=problems.append)
    reader.check_set()
    for index in range(len(reader)):
        reader.truth(index)
    told = {p.kind for p in problems}
    assert told <= {"empty category", "annotation id 0"}, problems


def test_every_kind_of_set_is_tried_here() -> None:
    assert {kind for _, kind, _, _ in SETS.values()} == set(kinds())
    assert set(writers()) == set(kinds())


def test_the_numbers_of_ade_instances_are_those_of_the_list() -> None:
    ade = {c.category.name: c.numbers["instance_id"] for c in ClassList.named("ade20k_150").classes}
    assert (ade["person"], ade["car"]) == (toy.ADE_INSTANCE["p"], toy.ADE_INSTANCE["c"])


def test_worked_numbers_of_the_encodings(tmp_path: Path) -> None:
    """Second car 26001, KITTI 2D car 2 = 6658, Mapillary car 3 = 14083, STEP person 300."""
    toy.cityscapes(tmp_path / "a")
    path = next((tmp_path / "a").rglob("*instanceIds.png"))
    assert int(np.asarray(Image.open(path)).max()) == 26001
    toy.kitti_2d(tmp_path / "b")
    assert int(np.asarray(Image.open(next((tmp_path / "b").rglob("instance/*.png")))).max()) == 6658
    toy.kitti_step(tmp_path / "c")
    reader = open_dataset(tmp_path / "c")
    ids = {s.id for s in reader.truth(0).segments}
    assert (12 << 16) + 300 in ids  # category 12 is class 11, and frames keep their numbers


def test_what_evaluations_leave_out_is_void_unless_asked_for(tmp_path: Path) -> None:
    toy.cityscapes(tmp_path)
    path = next(tmp_path.rglob("*0_000019_gtFine_instanceIds.png"))
    values = np.asarray(Image.open(path)).copy()
    values[values == 7] = 9  # parking
    Image.fromarray(values).save(path)
    assert len(open_dataset(tmp_path).taxonomy) == 19
    assert "road" not in {n for n, _, _ in described(open_dataset(tmp_path), 0)}
    every = open_dataset(tmp_path, options=Options(every_class=True))
    assert ("parking", "stuff") in {(n, k) for n, k, _ in described(every, 0)}


def test_a_photo_that_exif_turns_has_its_labels_turned(tmp_path: Path) -> None:
    toy.label_pngs(tmp_path)
    path = tmp_path / "photos/val/photo_0.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    reader = open_dataset(tmp_path)
    assert reader.photo(0).size_wh == (8, 12)
    truth = reader.truth(0)
    assert truth.size_wh == (8, 12)
    person = next(s for s in truth.segments if reader.taxonomy.categories[s.channel].id == 1)
    turned = np.rot90(toy.letters(0) == "p", -1)
    assert (truth.ids == person.id).tobytes() == np.ascontiguousarray(turned).tobytes()


@pytest.mark.parametrize("frame", ["stored", "seen"])
def test_shapes_are_in_the_frame_that_holds_them(frame: str, tmp_path: Path) -> None:
    toy.coco_instances(tmp_path)
    data = toy.instances_json()
    path = tmp_path / "val2017/photo_0.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    grid = toy.letters(0)
    if frame == "seen":  # stored size, shapes as the photo is seen: what Label Studio writes
        grid = np.rot90(grid, -1)
        for a in data["annotations"]:
            if a["image_id"] == 1 and not a["iscrowd"]:
                x, y, w, h = a["bbox"]
                a["segmentation"] = [toy.polygon(8 - y - h, x, h, w)]
                a["bbox"] = [8 - y - h, x, h, w]
    data["annotations"] = [a for a in data["annotations"] if not a["iscrowd"]]
    toy.write_json(tmp_path / "annotations/instances_val2017.json", data)
    reader = open_dataset(tmp_path)
    truth = reader.truth(0)
    assert truth.size_wh == (8, 12)
    masks = {(truth.ids == s.id).tobytes() for s in truth.segments}
    upright = np.rot90(toy.letters(0), -1)
    assert masks == {np.ascontiguousarray(upright == k).tobytes() for k in "pqcd"}


def test_masks_that_claim_to_be_crowds_are_objects_when_one_says_so(tmp_path: Path) -> None:
    toy.coco_instances(tmp_path)
    reader = open_dataset(tmp_path, options=Options(crowd_means_mask=True))
    assert {k for _, k, _ in described(reader, 0)} == {"thing"}


def test_small_objects_stay_visible_and_covered_pixels_are_counted(tmp_path: Path) -> None:
    data = toy.instances_json()
    data["annotations"].append(
        {"id": 99, "image_id": 1, "category_id": 1, "segmentation": [toy.polygon(0, 2, 8, 4)],
         "bbox": [0, 2, 8, 4], "area": 32, "iscrowd": 0}
    )  # fmt: skip
    toy.coco_instances(tmp_path)
    toy.write_json(tmp_path / "annotations/instances_val2017.json", data)
    told: list[Problem] = []
    reader = open_dataset(tmp_path, complain=told.append)
    truth = reader.truth(0)
    assert truth.covered == 3 * 2 * 2 + 2 * 2  # both persons, and a car
    assert [p.kind for p in told] == ["overlap"]
    masks = {(truth.ids == s.id).tobytes() for s in truth.segments}
    assert all((toy.letters(0) == k).tobytes() in masks for k in "pqcd")


def test_a_folder_that_is_no_data_set_says_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the data sets that are known here.*cityscapes"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(ArgumentError, match="did you mean 'cityscapes'"):
        open_dataset(tmp_path, kind="cityscape")
    toy.roboflow(tmp_path)
    with pytest.raises(DataError, match="several splits; say which: train, valid"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no split 'test'"):
        open_dataset(tmp_path, "test")


@pytest.mark.parametrize("name", class_list_names())
def test_class_lists_are_whole(name: str) -> None:
    classes = ClassList.named(name)
    counts = {"ade20k_150": 150, "camera": 26, "cityscapes": 27, "coco_instances": 80}
    counts |= {"coco_panoptic": 133, "coco_stuff": 91, "kitti_step": 19, "mapillary_v1_2": 65}
    counts |= {"mapillary_v2_0": 123, "motchallenge_step": 7, "voc": 20}
    assert len(classes.classes) == counts[name]
    evaluated = {"cityscapes": (19, 8), "mapillary_v2_0": (116, 70), "mapillary_v1_2": (65, 37)}
    if name in evaluated:
        counted = classes.evaluated
        things = int(counted.taxonomy.thing_mask.sum())
        assert (len(counted.classes), things) == evaluated[name]


@pytest.mark.parametrize("broken", ["jpeg", "8 bits", "grey for colours", "cut", "missing"])
def test_label_files_of_the_wrong_kind_are_named(broken: str, tmp_path: Path) -> None:
    toy.cityscapes(tmp_path)
    path = sorted(tmp_path.rglob("*instanceIds.png"))[0]
    if broken == "jpeg":
        Image.new("L", (12, 8)).save(path, "JPEG")
    elif broken == "8 bits":
        Image.new("L", (12, 8)).save(path)
    elif broken == "grey for colours":
        Image.new("RGBA", (12, 8)).save(path)
    elif broken == "cut":
        path.write_bytes(path.read_bytes()[:60])
    reader = open_dataset(tmp_path)
    if broken == "missing":
        path.unlink()
    with pytest.raises(LabelError, match=path.name) as raised:
        reader.truth(0)
    kind = {"cut": "unreadable", "missing": "missing labels"}.get(broken, "wrong mode")
    assert raised.value.kind == kind
