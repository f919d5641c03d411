"""Whatever a field of a manifest says, the bundle opens and runs, or a sentence tells why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from panokit.bundle import MANIFEST
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from tests.fuzz.changes import HOSTILE_VALUES, changed_json, hostile_text, places
from tests.fuzz.children import use_all
from tests.fuzz.rounds import IS_LONG
from tests.toys.demo_bundles import toy_bundle

pytestmark = pytest.mark.slow

SIDE = 32
TAXONOMY = Taxonomy.from_json(
    {"name": "abc", "categories": [{"id": i + 1, "name": c, "isthing": int(i < 2)} for i, c in
                                   enumerate("abc")]}
)  # fmt: skip
ANCHORS = sum((SIDE // s) ** 2 for s in (8, 16, 32))


def _adopted(folder: Path, family: str, outputs: dict[str, np.ndarray]) -> Path:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    pytest.importorskip("onnx", reason="onnx is not installed")
    from panokit_lab.adopt import AdoptRequest, adopt
    from tests.toys.onnx_files import write_onnx

    file = write_onnx(folder / "m.onnx", outputs, (SIDE, SIDE))
    rng = np.random.default_rng(1)
    photos = {
        f"photo{i}": Photo.from_array(
            np.kron(rng.integers(0, 255, (4, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8), f"p{i}"
        )
        for i in range(3)
    }
    request = AdoptRequest((file,), folder / "a.panokit", family, TAXONOMY)
    return adopt(request, photos, lambda text: None).bundle.root


def _queries(folder: Path) -> Path:
    classes = np.zeros((1, 5, 4), np.float32)
    classes[0, [0, 1, 2, 3, 4], [0, 1, 2, 3, 3]] = 12
    masks = np.full((1, 5, 8, 8), -6, np.float32)
    masks[0, 0, 1:5, 1:4] = masks[0, 1, 2:7, 5:8] = 5
    return _adopted(folder, "mask2former", {"logits": classes, "masks": masks})


def _instances(folder: Path) -> Path:
    raw = np.zeros((1, 4 + 2 + 4, ANCHORS), np.float32)
    raw[0, :4, 5] = [16, 16, 20, 20]
    raw[0, 4, 5], raw[0, 6, 5] = 0.9, 2.0
    return _adopted(folder, "yolo-seg", {"a": raw, "b": np.ones((1, 4, 8, 8), np.float32)})


def _semantic(folder: Path) -> Path:
    soft = np.full((1, 3, 8, 8), 0.1, np.float32)
    soft[:, 1, 3:] = 0.8
    return _adopted(folder, "semantic", {"p": soft})


KINDS: dict[str, Callable[[Path], Path]] = {
    "center-offset": lambda folder: toy_bundle(folder),
    "mask-queries": _queries,
    "instances": _instances,
    "semantic": _semantic,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_with_every_hostile_value(kind: str, tmp_path: Path) -> None:
    root = KINDS[kind](tmp_path)
    data = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    rng = np.random.default_rng(2)
    fields = list(places(data))
    assert len(fields) > 40
    files: list[Path] = [tmp_path / "sound.json"]
    shutil.copy(root / MANIFEST, files[0])
    values = [json.dumps(v) for v in HOSTILE_VALUES.values()]
    for number, place in enumerate(fields):
        around = json.dumps(changed_json(data, place, "@@")).partition('"@@"')
        some = values if IS_LONG else rng.choice(values, 3, replace=False)
        texts = [value.join((around[0], around[2])) for value in some]
        texts += [hostile_text(data, place, rng) for _ in range(3 if IS_LONG else 1)]
        for turn, text in enumerate(texts):
            files.append(tmp_path / f"{number}-{turn}.json")
            files[-1].write_text(text, encoding="utf-8", errors="surrogatepass")
    report = use_all("manifest", files)
    report.check()
    assert str(files[0]) not in report.refused
    assert report.ran + len(report.refused) == len(files)
    assert len(report.refused) > len(files) // 3
