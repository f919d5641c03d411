"""Results at home in a notebook: short words, pictures, tables, and any kind of photo."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from tests.sdk.test_tiles import ByColor, scene


@pytest.fixture
def result(taxonomy: Taxonomy) -> Any:
    return ByColor(taxonomy).segment(Photo.from_array(scene(), "street.jpg"))


def test_words_are_short(result: Any) -> None:
    assert repr(result) == "<PanopticResult 300x200: 2 dog, 2 person; sky, road>"
    assert repr(result.photo) == "<Photo street.jpg 300x200>"
    assert repr(result.find("person")[0]).startswith("<Segment 1 person 90% [")
    assert repr(result.find("sky")[0]) == "<Segment 5 sky [0, 0, 300, 60]>"
    assert repr(result.only()) == "<PanopticResult 300x200: nothing>"


def test_names_and_lists_of_names(result: Any) -> None:
    for asked in (("sky", "dog"), (["sky", "dog"],), ({"sky"}, "dog"), (2, 3)):
        assert {s.category.name for s in result.only(*asked)} == {"sky", "dog"}
    assert len(result.find(["person"])) == 2
    with pytest.raises(ArgumentError, match="did you mean 'sky'"):
        result.only(["skye"])


def test_a_picture_for_the_notebook(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(io.BytesIO(result._repr_png_())) as picture:
        assert picture.size == (300, 200)
    shown: list[Any] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image.size))
    for name in ("IPython", "IPython.core", "IPython.core.getipython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, None)
    result.show()
    assert shown == [(300, 200)]
    python, display = types.ModuleType("a"), types.ModuleType("b")
    python.get_ipython = lambda: object()  # type: ignore[attr-defined]
    display.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.core.getipython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    result.show()
    assert shown[-1] is result


def test_a_table(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Table:
        def __init__(self, rows: list[Any], columns: list[str]) -> None:
            self.rows, self.columns = rows, columns

    pandas = types.ModuleType("pandas")
    pandas.DataFrame = Table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    table = result.to_pandas()
    assert len(table.rows) == len(result)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    first = next(iter(result))
    assert (row["class"], row["area"], row["right"]) == (
        first.category.name, first.area, first.box_xyxy[2],
    )  # fmt: skip
    assert sum(r[5] for r in table.rows) < 1
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        result.to_pandas()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1", "LA"])
def test_pictures_of_pillow_of_any_mode(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(scene()).convert(mode)
    photo = Photo.from_image(image, "mine")
    assert (photo.size_wh, photo.name) == ((300, 200), "mine")
    if mode == "RGB":
        assert np.array_equal(photo.rgb_hwc, scene())


def test_a_picture_of_pillow_is_turned_as_its_file_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(scene()).save(path, exif=exif)
    with Image.open(path) as image:
        photo = Photo.from_image(image)
    assert np.array_equal(photo.rgb_hwc, Photo.open(path).rgb_hwc)
    assert photo.size_wh == (200, 300)


def test_the_segmenter_takes_them_and_lists_of_them(tmp_path: Path) -> None:
    segmenter = Segmenter.open()
    assert repr(segmenter) == "<Segmenter tflite-int8 of 'camera', 320x320>"
    image = Image.fromarray(scene())
    path = tmp_path / "a.png"
    image.save(path)
    whole = segmenter.segment([path, image, np.asarray(image), path.read_bytes(), Photo(scene())])
    assert len(whole) == 5
    assert all(np.array_equal(r.id_map, whole[0].id_map) for r in whole)
    assert segmenter.segment([]) == []
