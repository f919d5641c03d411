"""Choosing the decoding: what is best on the photos is found, and said beside what was before."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from panokit import Segmenter
from panokit.bundle import Artifact, Bundle, TensorSpec
from panokit.decoding import DecodingSettings, MaskQueriesConfig, PostprocessConfig
from panokit.errors import DataError
from panokit.taxonomy import Taxonomy
from panokit_lab.commands import tune as command
from panokit_lab.commands.options import read_decoding
from panokit_lab.quality import manifest_around
from panokit_lab.tune import PLANS, SCORES, TuneRequest, tune
from tests.toys.data_folder import CATEGORIES, make_folder

TAXONOMY = Taxonomy.from_json({"name": "toy", "categories": CATEGORIES})
WIDTH, HEIGHT, STRIDE = 96, 64, 4
START = PostprocessConfig(threshold=0.9, min_thing_area=2000)  # finds next to nothing


class Knows:
    """A network that says the labels of a photo, with a centre of score 0.6 in each object and one
    of 0.35 beside it, which makes two of one where the threshold is low."""

    name = "knows"

    def __init__(self, folder: Path) -> None:
        self.by_photo = {
            np.asarray(Image.open(p)).tobytes(): np.asarray(
                Image.open(folder / "panoptic" / p.relative_to(folder / "images"))
            )[..., 0]
            for p in (folder / "images").rglob("*.png")
        }

    def run(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        ids = self.by_photo[np.asarray(image).tobytes()]
        cells = ids[2::STRIDE, 2::STRIDE]
        h, w = cells.shape
        center = np.full((h, w, 1), -9.0, np.float32)
        offset = np.zeros((h, w, 2), np.float32)
        for one in (1, 2):
            rows, columns = np.nonzero(cells == one)
            y, x = int(rows.mean()), int(columns.mean())
            center[y, x] = np.log(0.6 / 0.4)
            center[min(h - 1, y + 8), x] = np.log(0.35 / 0.65)
            inside = cells == one
            offset[inside, 0] = (y - np.arange(h)[:, None].repeat(w, 1)[inside]) * STRIDE
            offset[inside, 1] = (x - np.arange(w)[None].repeat(h, 0)[inside]) * STRIDE
        semantic = 8 * np.eye(4, dtype=np.float32)[cells][..., 1:]
        return {"semantic": semantic, "center": center, "offset": offset}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", "toy_tune", photos=4)


@pytest.fixture
def segmenter(folder: Path) -> Segmenter:
    cells = (1, HEIGHT // STRIDE, WIDTH // STRIDE)
    artifact = Artifact(
        "toy", "torch", "toy", "", 0, "float32",
        TensorSpec("image", (1, HEIGHT, WIDTH, 3), "uint8", "nhwc"),
        {n: TensorSpec(n, (*cells, c), "float32", "nhwc")
         for n, c in (("semantic", 3), ("center", 1), ("offset", 2))},
    )  # fmt: skip
    manifest = manifest_around(artifact, "toy", TAXONOMY, (WIDTH, HEIGHT), START)
    return Segmenter(Bundle(folder, manifest), artifact, Knows(folder))


def test_what_is_best_is_chosen(folder: Path, segmenter: Segmenter) -> None:
    said: list[str] = []
    found = tune(segmenter, TuneRequest(folder, ("toy_tune",)), said.append)
    config = found.config
    assert isinstance(config, PostprocessConfig)
    assert found.before.pq == 0
    best = found.choices[1].best.pq
    assert best > 75  # every object found, as well as cells of four pixels tell
    assert 0.2 <= config.threshold <= 0.55
    assert config.min_thing_area < 600
    assert config.grid == START.grid
    assert len(found.photos) == 4
    assert [c.judged for c in found.choices] == [
        "things",
        "things",
        "stuff",
    ]  # these photos are labelled in full
    assert "toy_tune: photo 4 of 4" in said
    tried = [t.config for t in found.choices[0].trials]
    assert {c.min_thing_score for c in tried if isinstance(c, PostprocessConfig)} <= set(SCORES)


def test_photos_labelled_in_part_leave_the_area_of_stuff(
    folder: Path, segmenter: Segmenter
) -> None:
    path = folder / "annotations" / "toy_tune.json"
    data = json.loads(path.read_text())
    for image in data["images"]:
        image["labelled"] = [1]
    path.write_text(json.dumps(data))
    found = tune(segmenter, TuneRequest(folder, ("toy_tune",)))
    assert [c.judged for c in found.choices] == ["things", "things"]
    assert isinstance(found.config, PostprocessConfig)
    assert found.config.min_stuff_area == START.min_stuff_area


def test_every_contract_has_a_plan() -> None:
    assert set(PLANS) == set(DecodingSettings.contracts())
    for contract, settings in DecodingSettings.contracts().items():
        for step in PLANS[contract]:
            for name in step.names:
                assert reduce(getattr, name.split("."), settings()) is not ..., name


class KnowsQueries(Knows):
    """The same as queries: each object's mask with a score of 0.6, a false one of 0.45 on half
    of the ground, and the ground, which gives way to it."""

    def run(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        cells = self.by_photo[np.asarray(image).tobytes()][2::STRIDE, 2::STRIDE]
        w = cells.shape[1]
        said = [(0, 0.6, cells == 1), (1, 0.6, cells == 2), (2, 0.6, cells == 3),
                (0, 0.45, (cells == 3) & (np.arange(w) < w // 2))]  # fmt: skip
        classes = np.zeros((4, 4), np.float32)
        for query, (channel, score, _) in enumerate(said):
            classes[query] = (1 - score) / 3
            classes[query, channel] = score
        masks = np.stack([np.where(mask, 0.3 if c == 2 else 6, -6) for c, _, mask in said], axis=-1)
        return {"classes": np.log(classes), "masks": masks.astype(np.float32)}


def test_a_query_network_is_tuned_too(folder: Path) -> None:
    h, w = HEIGHT // STRIDE, WIDTH // STRIDE
    artifact = Artifact(
        "toy", "torch", "toy", "", 0, "float32",
        TensorSpec("image", (1, HEIGHT, WIDTH, 3), "uint8", "nhwc"),
        {"classes": TensorSpec("classes", (1, 4, 4), "float32", "rows"),
         "masks": TensorSpec("masks", (1, h, w, 4), "float32", "nhwc")},
    )  # fmt: skip
    config = MaskQueriesConfig(overlap=0.5)
    manifest = replace(
        manifest_around(artifact, "toy", TAXONOMY, (WIDTH, HEIGHT), START), postprocessing=config
    )
    segmenter = Segmenter(Bundle(folder, manifest), artifact, KnowsQueries(folder))
    found = tune(segmenter, TuneRequest(folder, ("toy_tune",)))
    assert found.before.pq == 0
    assert isinstance(found.config, MaskQueriesConfig)
    assert found.config.threshold == 0.5  # what is invented has 0.45, what is there 0.6
    assert found.config.stuff_threshold is None  # no other is better, so it stays
    assert found.choices[0].best.pq > 75
    assert len(found.choices) == 4
    out = folder / "decoding.json"
    out.write_text(json.dumps(found.config.to_json()), encoding="utf-8")
    assert read_decoding(out) == found.config


def test_the_command_writes_what_export_reads(
    folder: Path, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "open", lambda *_: segmenter)
    app = typer.Typer()
    app.command()(command.tune)
    out = tmp_path / "decoding.json"
    done = CliRunner().invoke(
        app,
        ["--data", str(folder), "--split", "toy_tune", "--out", str(out), "--limit", "3",
         "--json", str(tmp_path / "all.json")],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    chosen = read_decoding(out)  # what --decoding reads
    assert isinstance(chosen, PostprocessConfig)
    assert json.loads((tmp_path / "all.json").read_text())["config"] == chosen.to_json()
    assert chosen != START
    assert "on 3 photos that chose it" in " ".join(done.output.split())


def test_a_split_without_photos_is_told(folder: Path, segmenter: Segmenter) -> None:
    with pytest.raises(DataError):
        tune(segmenter, replace(TuneRequest(folder, ("no_such_split",))))
