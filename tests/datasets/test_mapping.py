"""Classes of one set as those of another."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.errors import ArgumentError
from panokit_datasets.classes import ClassList, class_list_names
from panokit_datasets.mapping import ClassMapping
from panokit_datasets.reader import Truth
from panokit_datasets.truth import TruthSegment


def between(source: str, target: str) -> ClassMapping:
    return ClassMapping.between(ClassList.named(source), ClassList.named(target))


@pytest.mark.parametrize("name", class_list_names())
def test_a_set_is_itself(name: str) -> None:
    mapping = between(name, name)
    for channel, c in enumerate(mapping.source.classes):
        rule = mapping.rules[c.category.name]
        assert rule.channel == channel
        single = c.category.is_thing and "crowd_of" not in c.numbers
        assert rule.how == ("thing" if single else "stuff")


@pytest.mark.parametrize("name", [n for n in class_list_names() if n != "camera"])
def test_every_class_of_every_set_has_its_place_among_the_camera_classes(name: str) -> None:
    """Each name stands once: as a class, or as void."""
    from panokit_datasets.mapping import _camera_sets

    data = _camera_sets()[name]
    named = [
        n for how in ("thing", "crowd", "stuff", "ignore") for v in data[how].values() for n in v
    ]
    named += data["void"] + data.get("unpainted", []) + data.get("ignore_nearest", [])
    known = {c.category.name for c in ClassList.named(name).classes}
    assert len(named) == len(set(named))
    assert known <= set(named)
    assert between(name, "camera").target == ClassList.named("camera").taxonomy


def test_names_find_each_other_across_sets() -> None:
    def becomes(source: str, name: str, target: str) -> str | None:
        mapping = between(source, target)
        rule = mapping.rules.get(name)
        return None if rule is None else mapping.target.categories[rule.channel].name

    assert becomes("voc", "aeroplane", "coco_panoptic") == "airplane"
    assert becomes("voc", "sofa", "coco_panoptic") == "couch"
    assert becomes("cityscapes", "rider", "coco_panoptic") == "person"
    assert becomes("cityscapes", "rider", "cityscapes") == "rider"
    assert becomes("mapillary_v1_2", "Bicyclist", "cityscapes") == "rider"
    assert becomes("mapillary_v2_0", "Lane Marking - Stop Line", "mapillary_v1_2") == (
        "Lane Marking - General"
    )
    assert becomes("mapillary_v1_2", "Lane Marking - Crosswalk", "cityscapes") == "road"
    assert becomes("ade20k_150", "armchair", "coco_panoptic") == "chair"
    assert becomes("coco_panoptic", "dining table", "ade20k_150") == "table"
    assert becomes("ade20k_150", "painting", "coco_panoptic") is None
    assert becomes("coco_stuff", "skyscraper", "cityscapes") == "building"
    assert becomes("mapillary_v2_0", "Person Group", "cityscapes") == "person"
    assert between("mapillary_v2_0", "cityscapes").rules["Person Group"].how == "crowd"


def test_labels_are_joined_and_kept_apart_as_the_mapping_says() -> None:
    source, target = ClassList.named("cityscapes"), ClassList.named("camera")
    channel = {c.category.name: i for i, c in enumerate(source.classes)}
    named = [("person", 24000), ("rider", 25000), ("traffic light", 19), ("traffic sign", 20),
             ("road", 7), ("sidewalk", 8), ("pole", 17)]  # fmt: skip
    segments = [TruthSegment(number, channel[name], number > 1000) for name, number in named]
    segments.append(TruthSegment(26, channel["car"], True, is_crowd=True))
    ids = np.array([[s.id for s in segments] + [0]], np.int32)
    void = np.zeros(ids.shape, np.uint8)
    place = [v.name for v in source.void].index("ego vehicle") + 1
    void[0, -1] = place
    truth = ClassMapping.between(source, target).apply(Truth(ids, tuple(segments), void))
    name = {s.id: target.taxonomy.categories[s.channel].name for s in truth.segments}
    kind = {s.id: (s.is_thing, s.is_crowd, s.ignore) for s in truth.segments}
    seen = [(name.get(i, "void"), kind.get(i)) for i in truth.ids[0].tolist()]
    thing, crowd, stuff = (True, False, False), (True, True, False), (False, False, False)
    assert seen == [
        ("person", thing), ("person", thing), ("object", crowd), ("object", crowd),
        ("road", stuff), ("road", stuff), ("void", None), ("car", crowd),
        ("car", (True, True, True)),
    ]  # fmt: skip
    first, second, light, sign, road, walk = truth.ids[0, :6].tolist()
    assert first != second
    assert light == sign
    assert road == walk


def test_a_mapping_is_read_back_and_bad_ones_are_told() -> None:
    source, target = ClassList.named("cityscapes"), ClassList.named("camera").taxonomy
    mapping = between("cityscapes", "camera")
    again = ClassMapping.from_json(mapping.to_json(), source, target)
    assert {n: r for n, r in again.rules.items() if r.channel >= 0} == {
        n: r for n, r in mapping.rules.items() if r.channel >= 0
    }
    for data, why in (
        ([], "expected an object"),
        ({"thing": []}, "expected an object"),
        ({"thing": {"car": "car"}}, "list of names"),
        ({"thing": {"car": ["cars"]}}, "did you mean 'car'"),
        ({"thing": {"cars": ["car"]}}, "did you mean 'car'"),
        ({"thing": {"car": ["car"]}, "void": ["car"]}, "stands twice"),
    ):
        with pytest.raises(ArgumentError, match=why):
            ClassMapping.from_json(data, source, target)
