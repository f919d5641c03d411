"""Classes as people write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import ArgumentError, DataError
from panokit.taxonomy import Taxonomy

SKY = {"name": "sky", "isthing": 0}
COCO = [{"id": 1, "name": "person", "isthing": 1}, {"id": 2, **SKY}]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(["person", SKY], id="names"),
        pytest.param({"things": ["person"], "stuff": ["sky"]}, id="kinds"),
        pytest.param({"name": "unnamed", "categories": ["person", SKY]}, id="mixed"),
        pytest.param(COCO, id="coco"),
    ],
)
def test_every_way_to_write_classes(data: Any, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(data))
    found = Taxonomy.load(tmp_path / "t.json")
    assert [(c.id, c.name, c.is_thing) for c in found] == [(1, "person", True), (2, "sky", False)]
    assert len({c.color for c in found}) == 2
    assert Taxonomy.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "data",
    [[], {}, 3, None, {"categories": {}}, [3], [{"id": 1}], {"things": "person"}, {"stuff": [1]},
     ["sky", "sky"]],
)  # fmt: skip
def test_what_is_no_list_of_classes(data: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError):
        Taxonomy.from_json(data)
    (tmp_path / "t.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"t\.json"):
        Taxonomy.load(tmp_path / "t.json")
