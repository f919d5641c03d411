"""A recipe from start to end, with a module of a user's own, and everything that can go wrong."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError, ExportError, HeadError, UsageError
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit.taxonomy import Taxonomy
from panokit_compression import calibration_from_photos
from panokit_compression.distil import PhotoStream
from panokit_compression.recipes import Finetune, Prune, Qat, Quantize, Recipe, Sparsify
from panokit_lab.pipeline import compress_network, run_recipe
from panokit_lab.quality import Split
from panokit_lab.setup import ExperimentSetup
from panokit_network.deploy import count_macs
from panokit_network.source import NetworkSource, load_state
from tests.toys.data_folder import CATEGORIES, make_folder
from tests.toys.network import toy_photos
from tests.toys.user_network import SIZE, NoOffset, TinyPanoptic

pytestmark = pytest.mark.slow

TAXONOMY = Taxonomy.from_json({"name": "toy", "categories": CATEGORIES})
PRUNE = Prune(0.6, "taylor", rounds=2, multiple_of=2)
FINETUNE = Finetune(samples=32, size=64, batch=4, learning_rate=1e-2, distil=1.0)
QUANTIZE = Quantize("int8", 16, "min_max")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> ExperimentSetup:
    folder = tmp_path_factory.mktemp("pipeline")
    make_folder(folder / "data", "toy_val", photos=4)
    photos = toy_photos(16)
    config = PreprocessConfig((SIZE, SIZE))
    return ExperimentSetup(
        source=NetworkSource.from_module(TinyPanoptic(), TAXONOMY, "tiny"),
        size_wh=(SIZE, SIZE),
        cache=folder / "cache",
        calibration=calibration_from_photos(photos, 16, config),
        judging={
            name: preprocess(p, config)[0]
            for name, p in toy_photos(20).items()
            if name not in photos
        },
        stream=PhotoStream([p.rgb_hwc for p in photos.values()]),
        split=Split(folder / "data", "toy_val", 3),
    )


@pytest.fixture(scope="module")
def finished(setup: ExperimentSetup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    run_recipe(setup, Recipe("small", (PRUNE, FINETUNE, QUANTIZE)), out)
    return out / "small"


def test_a_users_module_goes_all_the_way(setup: ExperimentSetup, finished: Path) -> None:
    import json

    figures = json.loads((finished / "result.json").read_text())
    dense = count_macs(setup.source.module, SIZE)
    assert 0.3 * dense < figures["macs"] <= 0.6 * dense
    tflite = figures["artifacts"]["tflite"]
    assert tflite["precision"] == "int8"
    assert tflite["bytes"] == (finished / "model.tflite").stat().st_size
    assert tflite["arena_bytes"] > SIZE * SIZE * 3
    assert set(tflite["sqnr_db"]) == {"semantic", "center", "offset"}
    assert tflite["runtime"] == "litert"
    assert tflite["quality"]["split"] == "3 photos of toy_val"
    assert tflite["quality"]["photos"] == 3
    assert json.loads((finished / "calibration.json").read_text())["photos"][0] == "toy0"


def test_the_pruned_network_reloads_from_its_file_alone(finished: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    fresh = TinyPanoptic()
    first = fresh.second[0]
    assert isinstance(first, nn.Conv2d)
    wide = first.out_channels
    load_state(finished / "network.safetensors", fresh)
    first = fresh.second[0]
    assert isinstance(first, nn.Conv2d)
    assert first.out_channels < wide
    assert fresh.classes.out_channels == 3  # heads keep their channels
    image = next(iter(toy_photos(1, (SIZE, SIZE)).values())).rgb_hwc
    with torch.no_grad():
        heads = fresh(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float())
    interpreter = Interpreter(model_path=str(finished / "model.tflite"))
    runner = interpreter.get_signature_runner()
    raw = runner(image=(image[None].astype(np.int16) - 128).astype(np.int8))["semantic"][0]
    scale, zero = runner.get_output_details()["semantic"]["quantization"]
    real = (raw.astype(np.float32) - zero) * scale
    want = heads["semantic"][0].permute(1, 2, 0).numpy()
    assert np.abs(real - want).max() < 0.2 * np.abs(want).max()


def test_what_is_finished_is_not_done_again(setup: ExperimentSetup, finished: Path) -> None:
    before = (finished / "result.json").stat().st_mtime_ns
    said: list[str] = []
    run_recipe(setup, Recipe("small", (PRUNE, FINETUNE, QUANTIZE)), finished.parent, said.append)
    assert said == ["small: is there already"]
    assert (finished / "result.json").stat().st_mtime_ns == before


def test_figures_of_another_decoding_are_measured_anew(
    setup: ExperimentSetup, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "small")
    assert isinstance(setup.source.postprocessing, PostprocessConfig)
    decoding = replace(setup.source.postprocessing, min_thing_score=0.3)
    other = replace(setup, source=replace(setup.source, postprocessing=decoding))
    said: list[str] = []
    result = run_recipe(other, Recipe("small", (PRUNE, FINETUNE, QUANTIZE)), tmp_path, said.append)
    assert "small: is there already" not in said
    assert result.postprocessing == decoding


def test_recipes_share_their_first_steps(setup: ExperimentSetup, finished: Path) -> None:
    said: list[str] = []
    recipe = Recipe("other", (PRUNE, FINETUNE, Quantize("float16")))
    network = compress_network(setup, setup.source, recipe, said.append)
    assert said == ["other: prune is there already", "other: finetune is there already"]
    assert network.steps_done == ("prune", "finetune")


def test_a_recipe_is_the_same_beside_others_that_need_more_photos(
    setup: ExperimentSetup, finished: Path
) -> None:
    assert setup.calibration is not None
    photos = toy_photos(40)
    more = calibration_from_photos(photos, 40, PreprocessConfig((SIZE, SIZE)))
    first = len(setup.calibration)
    assert more.first(first).names == setup.calibration.names
    said: list[str] = []
    recipe = Recipe("small", (PRUNE, FINETUNE, QUANTIZE))
    run_recipe(replace(setup, calibration=more), recipe, finished.parent, said.append)
    assert said == ["small: is there already"]


def test_other_photos_of_the_same_names_are_other_photos(
    setup: ExperimentSetup, finished: Path
) -> None:
    assert setup.calibration is not None
    others = calibration_from_photos(
        toy_photos(16, (SIZE, SIZE)), 16, PreprocessConfig((SIZE,) * 2)
    )
    assert others.names == setup.calibration.names
    said: list[str] = []
    recipe = Recipe("small", (QUANTIZE,))
    made = [replace(setup, calibration=c) for c in (setup.calibration, others)]
    out = finished.parent.parent / "names"
    for changed in made:
        run_recipe(changed, recipe, out, said.append)
    assert "small: is there already" not in said
    run_recipe(made[1], recipe, out, said.append)
    assert said[-1] == "small: is there already"


def test_sparse_weights_stay_zero_while_training(setup: ExperimentSetup) -> None:
    recipe = Recipe("sparse", (Sparsify(0.6), FINETUNE))
    network = compress_network(setup, setup.source, recipe)
    weight = network.module.trunk[0].weight  # type: ignore[union-attr,index]
    share = float((weight == 0).float().mean())
    assert share == pytest.approx(0.6, abs=0.01)


def test_qat_folds_and_trains_a_users_module(setup: ExperimentSetup) -> None:
    step = Qat(samples=16, size=64, batch=4, learning_rate=1e-3, distil=1.0)
    network = compress_network(setup, setup.source, Recipe("q", (step,)))
    assert network.folded
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.module.modules())
    again = compress_network(setup, setup.source, Recipe("q", (step,)))
    image = torch.full((1, 3, SIZE, SIZE), 100.0)
    with torch.no_grad():
        first, second = network.module(image), again.module(image)
        dense = setup.source.module(image)
    torch.testing.assert_close(first, second)
    assert 0 < float((first["semantic"] - dense["semantic"]).abs().max()) < 1


def test_training_on_with_batch_norms_folded(setup: ExperimentSetup) -> None:
    frozen = replace(FINETUNE, freeze_statistics=True)
    network = compress_network(setup, setup.source, Recipe("f", (PRUNE, FINETUNE, frozen)))
    assert network.folded
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.module.modules())
    again = compress_network(setup, setup.source, Recipe("f", (PRUNE, FINETUNE, frozen)))
    before = compress_network(setup, setup.source, Recipe("f", (PRUNE, FINETUNE)))
    image = torch.full((1, 3, SIZE, SIZE), 100.0)
    with torch.no_grad():
        first, second = network.module(image), again.module(image)
        unmoved = before.module(image)
    torch.testing.assert_close(first, second)
    assert 0 < float((first["semantic"] - unmoved["semantic"]).abs().max()) < 1


def test_a_module_outside_the_contract_is_told_what_it_lacks(
    setup: ExperimentSetup, tmp_path: Path
) -> None:
    bad = replace(setup, source=NetworkSource.from_module(NoOffset(), TAXONOMY))
    with pytest.raises(HeadError, match="'offset': is missing"):
        run_recipe(bad, Recipe("float32"), tmp_path)


def test_nan_weights_are_refused(setup: ExperimentSetup, tmp_path: Path) -> None:
    module = TinyPanoptic()
    with torch.no_grad():
        module.classes.weight[0] = float("nan")
    bad = replace(setup, source=NetworkSource.from_module(module, TAXONOMY))
    with pytest.raises(ArgumentError, match=r"classes\.weight.*finite numbers"):
        run_recipe(bad, Recipe("float32"), tmp_path)
    assert not (tmp_path / "float32").exists()


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        pytest.param(
            1, SIZE, "1 calibration images; expected .*at least 16 inputs for int8", id="one-photo"
        ),
        pytest.param(16, 32, r"input size \(64, 64, 3\)", id="wrong-size"),
    ],
)
def test_calibration_that_does_not_fit(
    setup: ExperimentSetup, tmp_path: Path, count: int, size: int, message: str
) -> None:
    photos = toy_photos(16)
    chosen = calibration_from_photos(photos, count, PreprocessConfig((size, size)))
    bad = replace(setup, calibration=chosen, split=None)
    recipe = Recipe("int8", (Quantize("int8", 16, "mean"),))
    with pytest.raises(ArgumentError, match=message):
        run_recipe(bad, recipe, tmp_path)


def test_no_calibration_at_all(setup: ExperimentSetup, tmp_path: Path) -> None:
    bad = replace(setup, calibration=None)
    with pytest.raises(ArgumentError, match="0 calibration images"):
        run_recipe(bad, Recipe("int8", (Quantize("int8", 16, "mean"),)), tmp_path)


def test_training_without_photos_says_so(setup: ExperimentSetup, tmp_path: Path) -> None:
    bad = replace(setup, stream=None, cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="photos to train on"):
        run_recipe(bad, Recipe("f", (FINETUNE,)), tmp_path)


def test_labels_that_are_not_there_are_named(setup: ExperimentSetup, tmp_path: Path) -> None:
    step = replace(FINETUNE, distil=0.5)
    with pytest.raises(ArgumentError, match="1 without labelled data"):
        run_recipe(replace(setup, cache=tmp_path / "c"), Recipe("f", (step,)), tmp_path)


def test_a_full_disk_keeps_what_is_finished(
    setup: ExperimentSetup, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panokit_lab import pipeline

    def full(path: Path, data: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(pipeline, "write_json", full)
    with pytest.raises(ExportError, match=r"disk is full.*finished recipes are kept"):
        run_recipe(setup, Recipe("float16", (Quantize("float16"),)), finished.parent)
    left = sorted(p.name for p in finished.parent.iterdir())
    assert left == ["small"]


def test_too_little_disk_is_said_before_the_work(
    setup: ExperimentSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panokit_lab import pipeline

    monkeypatch.setattr(pipeline, "MIN_FREE_BYTES", 10**18)
    with pytest.raises(ExportError, match="of free disk"):
        run_recipe(setup, Recipe("float32"), tmp_path)


def test_ctrl_c_goes_on_to_the_same_network(setup: ExperimentSetup, tmp_path: Path) -> None:
    recipe = Recipe("f", (FINETUNE,))

    def interrupt(figures: dict[str, float]) -> None:
        if figures["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    first = replace(setup, cache=tmp_path / "first")
    with pytest.raises(KeyboardInterrupt):
        compress_network(first, setup.source, recipe, on_step=interrupt)
    steps: list[float] = []
    resumed = compress_network(
        first, setup.source, recipe, on_step=lambda f: steps.append(f["step"])
    )
    assert steps[0] == 4  # not from the start
    whole = compress_network(replace(setup, cache=tmp_path / "second"), setup.source, recipe)
    assert resumed.digest() == whole.digest()


def test_photos_may_be_of_any_size() -> None:
    stream = PhotoStream([np.zeros((20, 300, 3), np.uint8), np.full((90, 70, 3), 255, np.uint8)])
    batch = stream.batch(0, 64, 8).image
    assert (batch.shape, batch.dtype) == ((8, 3, 64, 64), torch.uint8)
    torch.testing.assert_close(stream.batch(0, 64, 8).image, batch)
    with pytest.raises(ArgumentError, match="at least one to train on"):
        PhotoStream([])
