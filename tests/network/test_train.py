"""Training: learns, repeats, resumes to the step, keeps what it has when interrupted."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from panokit.errors import ArgumentError, DataError
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.training.cache import PhotoCache
from panokit_network.training.config import Phase, TrainConfig
from panokit_network.training.scenes import SceneStream
from panokit_network.training.trainer import CHECKPOINT, Trainer, learning_rate_at
from panokit_network.training.validate import Validator
from panokit_network.weights import load_weights
from tests.toys.data_folder import make_folder

SMALL = TrainConfig(
    phases=(Phase(32, 4, 40, freeze_blocks=3), Phase(64, 2, 20)),
    network=NetworkConfig(3, 16, 16, 16, 16, (1,)),
    warmup_samples=8,
    cooldown_samples=16,
    ema_decay=0.9,
    dropout=0.1,
    save_every=1000,
    validate_every=1000,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[PanopticFolder, PhotoCache]:
    root = tmp_path_factory.mktemp("toy")
    folder = PanopticFolder.open(make_folder(root / "data"))
    return folder, PhotoCache.build(load_split(folder, "toy_train"), folder.taxonomy, root / "c")


def trainer(
    photos: tuple[PanopticFolder, PhotoCache], out: Path, config: TrainConfig = SMALL, **more: Any
) -> tuple[Trainer, list[float]]:
    losses: list[float] = []

    def on_step(figures: dict[str, Any]) -> None:
        losses.append(figures["total"])

    folder, cache = photos
    made = Trainer(
        config, cache, folder.taxonomy, out, on_step=on_step, workers=0, imagenet=False, **more
    )
    return made, losses


def test_workers_that_are_not_forked_map_the_photos_themselves(
    photos: tuple[PanopticFolder, PhotoCache],
) -> None:
    folder, cache = photos
    stream = SceneStream(cache, folder.taxonomy, SMALL)
    packed = pickle.dumps(stream)
    assert len(packed) < cache.pixels.nbytes / 4
    there = pickle.loads(packed)
    assert isinstance(there.cache.pixels, np.memmap)
    for got, expected in zip(vars(there[3]).values(), vars(stream[3]).values(), strict=True):
        assert torch.equal(got, expected)
    empty = PhotoCache([], [], np.zeros(0, np.uint8))
    assert len(pickle.loads(pickle.dumps(empty)).pixels) == 0


@pytest.mark.slow
def test_same_seed_same_losses_and_resume_equals_not_stopping(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    phases = (Phase(32, 4, 120, freeze_blocks=3), Phase(64, 2, 40))  # 30 and 20 steps
    config = replace(SMALL, phases=phases)
    whole, expected = trainer(photos, tmp_path / "whole", config)
    result = whole.run()
    assert (result.step, result.finished) == (50, True)
    kill = int(np.random.default_rng().integers(1, 50))  # any step at all
    first, before = trainer(photos, tmp_path / "parts", config)
    first.run(stop_after=kill)
    second, after = trainer(photos, tmp_path / "parts", config)
    assert second.resume()
    assert second.step == kill
    second.run()
    assert before + after == expected, f"stopped after step {kill}"
    for name, tensor in whole.loop.averages.items():
        assert torch.equal(tensor, second.loop.averages[name]), name


def test_photos_without_things_or_labels_are_learnt_from(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", photos=2)
    path = root / "annotations" / "toy_train.json"
    data = json.loads(path.read_text())
    for i, (value, kept) in enumerate([(3, [3]), (0, [])]):  # sky alone; nothing at all
        ids = np.zeros((64, 96, 3), np.uint8)
        ids[..., 0] = value
        Image.fromarray(ids).save(root / "panoptic" / "toy_train" / f"{i}.png")
        infos = data["annotations"][i]["segments_info"]
        data["annotations"][i]["segments_info"] = [s for s in infos if s["id"] in kept]
    path.write_text(json.dumps(data))
    folder = PanopticFolder.open(root)
    cache = PhotoCache.build(load_split(folder, "toy_train"), folder.taxonomy, tmp_path / "c")
    assert cache.skipped == []
    made, losses = trainer((folder, cache), tmp_path / "run")
    made.run(stop_after=5)
    assert len(losses) == 5
    assert np.isfinite(losses).all()


def test_old_decoded_photos_are_told_of_and_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panokit_network.training.cache.MUCH", 10_000)
    folder = PanopticFolder.open(make_folder(tmp_path / "data", photos=2))
    photos = load_split(folder, "toy_train")
    with caplog.at_level("INFO", "panokit_network"):
        PhotoCache.build(photos, folder.taxonomy, tmp_path / "c")
        PhotoCache.build(photos, folder.taxonomy, tmp_path / "c")
        assert not caplog.messages
        PhotoCache.build(photos[:1], folder.taxonomy, tmp_path / "c")
    (told,) = caplog.messages
    assert told.endswith("1 more of decoded photos, 0.0 GB; those that no run uses may be deleted")
    assert len(list((tmp_path / "c").glob("*.bin"))) == 2


def test_inputs_need_not_be_square(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    config = replace(SMALL, phases=(Phase((64, 96), 2, 4),), warmup_samples=1, cooldown_samples=1)
    assert TrainConfig.from_json(config.to_json()) == config
    made, losses = trainer(photos, tmp_path, config)
    batch = made.stream[0]
    assert batch.image.shape == (2, 3, 96, 64)
    assert (batch.semantic.shape[1:], batch.offset.shape[1:]) == ((48, 32), (2, 24, 16))
    made.run()
    assert np.isfinite(losses).all()
    folder, cache = photos
    judge = Validator({"toy": cache}, folder.taxonomy, size=(64, 96))
    network, _ = load_weights(tmp_path / "weights.safetensors")
    assert 0 <= judge(network)["toy"]["miou"] <= 1
    assert judge.pictures(network, 1)[0][1].shape == (96, 3 * 64, 3)


@pytest.mark.slow
def test_a_batch_can_be_learnt(photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path) -> None:
    config = replace(SMALL, phases=(Phase(64, 4, 200),), cooldown_samples=1)
    made, _ = trainer(photos, tmp_path, config)
    batch = made.stream[0]
    losses = [made.train_step(batch)["semantic"] for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


def test_interrupt_saves_and_stops(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    made, losses = trainer(photos, tmp_path)

    def interrupt(figures: dict[str, Any]) -> None:
        losses.append(figures["total"])
        if figures["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    made.on_step = interrupt
    result = made.run()
    assert (result.step, result.finished, result.interrupted) == (3, False, True)
    again, _ = trainer(photos, tmp_path)
    assert again.resume()
    assert again.step == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_weights_reload_to_the_averaged_network(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    made, _ = trainer(photos, tmp_path)
    path = made.run(stop_after=2).weights
    network, info = load_weights(path)
    assert [c.name for c in info.taxonomy] == ["disc", "square", "sky"]
    assert "Research" in info.licence
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        ours, theirs = network(image), made.averaged()(image)
    for name in ("semantic", "center", "offset"):
        assert torch.allclose(ours[name], theirs[name], atol=2e-2)  # fp16 storage


def test_training_starts_from_given_weights(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    made, _ = trainer(photos, tmp_path / "first")
    weights = made.run(stop_after=2).weights
    again, _ = trainer(photos, tmp_path / "second", init=weights)
    for name, tensor in made.loop.averages.items():
        assert torch.equal(again.model.state_dict()[name], tensor.half().float()), name
    other = replace(SMALL, network=NetworkConfig(3, 32, 16, 16, 16, (1,)))
    with pytest.raises(DataError, match="expected weights of the network"):
        trainer(photos, tmp_path / "third", other, init=weights)


def test_damaged_or_foreign_files_are_refused(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    made, _ = trainer(photos, tmp_path)
    made.run(stop_after=1)
    weights, checkpoint = tmp_path / "weights.safetensors", tmp_path / CHECKPOINT
    with pytest.raises(DataError, match="expected weights of Panokit's own network"):
        load_weights(checkpoint)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="expected a safetensors file"):
        load_weights(weights)
    with pytest.raises(DataError, match="no such weight file"):
        load_weights(tmp_path / "nowhere")
    other = replace(SMALL, network=NetworkConfig(3, 32, 16, 16, 16, (1,)))
    foreign, _ = trainer(photos, tmp_path, other)
    with pytest.raises(DataError, match="is of another network"):
        foreign.resume()
    checkpoint.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="expected a training checkpoint"):
        foreign.resume()


def test_config_round_trips_and_refuses_nonsense(tmp_path: Path) -> None:
    text = json.dumps(SMALL.to_json())
    assert TrainConfig.from_json(json.loads(text)) == SMALL
    (tmp_path / "c.json").write_text('{"learning_rte": 1}')
    with pytest.raises(ArgumentError, match="learning_rte"):
        TrainConfig.load(tmp_path / "c.json")
    with pytest.raises(ArgumentError, match="a multiple of 32"):
        Phase(100, 1, 1)
    with pytest.raises(ArgumentError, match="a probability"):
        TrainConfig.from_json({"augment": {"flip_probability": 2}})


def test_learning_rate_warms_up_stays_and_falls_to_nothing() -> None:
    c = SMALL  # 60 samples, warm-up 8, cooldown 16
    assert learning_rate_at(c, 0) == pytest.approx(c.learning_rate / 8)
    assert learning_rate_at(c, 20) == c.learning_rate
    assert learning_rate_at(c, 52) == pytest.approx(c.learning_rate / 2)
    assert learning_rate_at(c, 60) == pytest.approx(0)


@pytest.mark.slow
def test_train_command_trains_resumes_and_knows_its_own_config(tmp_path: Path) -> None:
    network = replace(SMALL.network, backbone="mobilenet-v2")  # has no ImageNet weights
    (tmp_path / "c.json").write_text(json.dumps(replace(SMALL, network=network).to_json()))
    make_folder(tmp_path / "data")
    code = "from panokit.cli import main; main()"
    command = [
        sys.executable, "-c", code, "train", "--data", str(tmp_path / "data"), "--out",
        str(tmp_path / "run"), "--config", str(tmp_path / "c.json"), "--workers", "0",
        "--no-imagenet", "--json", str(tmp_path / "r.json"), "--stop-after",
    ]  # fmt: skip
    for steps in (2, 3):
        if steps == 3:  # it goes on with the weights that it has
            command.remove("--no-imagenet")
        done = subprocess.run([*command, str(steps)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "r.json").read_text())["step"] == steps
    assert "resumed" in done.stderr
    # Settings that name no network train that of the weights.
    plain = SMALL.to_json()
    del plain["network"]
    (tmp_path / "c.json").write_text(json.dumps(plain))
    command[command.index("--out") + 1] = str(tmp_path / "again")
    init = ["--init", str(tmp_path / "run" / "weights.safetensors")]
    done = subprocess.run([*command, "1", *init], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command[command.index("--config") + 1] = "camera"
    done = subprocess.run([*command, "9"], capture_output=True, text=True, check=False)
    assert done.returncode == 2  # found, but it is for 26 classes
    assert "26 classes for a taxonomy of 3" in done.stderr


@pytest.mark.slow
def test_train_command_that_gets_ctrl_c_is_130_and_keeps_its_step(tmp_path: Path) -> None:
    config = replace(SMALL, phases=(Phase(32, 4, 100_000),), record_every=1)
    (tmp_path / "c.json").write_text(json.dumps(config.to_json()))
    make_folder(tmp_path / "data")
    run = tmp_path / "run"
    command = [
        sys.executable, "-c", "from panokit.cli import main; main()", "train", "--data",
        str(tmp_path / "data"), "--out", str(run), "--config", str(tmp_path / "c.json"),
        "--workers", "0", "--no-imagenet",
    ]  # fmt: skip
    for turn in range(2):
        before = (run / "metrics.jsonl").stat().st_size if turn else 0
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            for _ in range(600):
                time.sleep(0.1)
                if (run / "metrics.jsonl").is_file() and (
                    (run / "metrics.jsonl").stat().st_size > before
                ):
                    break
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert (run / "checkpoint.safetensors").stat().st_size > 1000
    assert "resumed" in said
    assert [p.name for p in run.rglob("*.part*")] == []


def says_sky() -> PanopticNetwork:
    """A network that says "sky" everywhere, and never a centre."""
    network = PanopticNetwork(SMALL.network).eval()
    assert network.semantic_head.bias is not None
    assert network.center_head.bias is not None
    with torch.no_grad():
        network.semantic_head.weight.zero_()
        network.semantic_head.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
        network.center_head.weight.zero_()
        network.center_head.bias.fill_(-9)
    return network


def test_validator_counts_labelled_pixels(photos: tuple[PanopticFolder, PhotoCache]) -> None:
    folder, cache = photos
    network = says_sky()
    figures = Validator({"toy": cache}, folder.taxonomy, size=64)(network)["toy"]
    assert figures["iou"]["disc"] == figures["iou"]["square"] == 0
    assert 0.7 < figures["iou"]["sky"] < 0.95  # the share of the photo that is sky
    assert (figures["centers"], figures["center_max"]) == (0, 0)


def test_validator_counts_what_is_invented_where_a_class_is_absent(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", photos=1)
    path = root / "annotations" / "toy_train.json"
    data = json.loads(path.read_text())
    ids = np.zeros((64, 96, 3), np.uint8)
    ids[:32, :, 0] = 3  # sky above, nothing labelled below
    Image.fromarray(ids).save(root / "panoptic" / "toy_train" / "0.png")
    data["annotations"][0]["segments_info"] = [{"id": 3, "category_id": 3}]
    folder = PanopticFolder.open(root)
    for labelled, expected in (([3], 0.5), ([1], 1.0)):
        data["images"][0]["labelled"] = labelled
        path.write_text(json.dumps(data))
        cache = PhotoCache.build(load_split(folder, "toy_train"), folder.taxonomy, tmp_path / "c")
        figures = Validator({"toy": cache}, folder.taxonomy, size=96)(says_sky())["toy"]
        assert figures["iou"]["sky"] == expected


def test_a_killed_run_tells_each_step_once_and_validates_where_it_would_have(
    photos: tuple[PanopticFolder, PhotoCache], tmp_path: Path
) -> None:
    config = replace(SMALL, save_every=9, validate_every=11, record_every=1)

    def steps(out: Path) -> list[tuple[int, bool]]:
        lines = (out / "metrics.jsonl").read_text().splitlines()
        return [(f["step"], "validation" in f) for f in map(json.loads, lines)]

    alone, _ = trainer(photos, tmp_path / "alone", config, validate=lambda network: {})
    alone.run()
    killed, _ = trainer(photos, tmp_path / "killed", config, validate=lambda network: {})
    killed.loop.save = lambda: None  # type: ignore[method-assign]  # as if killed before it
    killed.run(stop_after=7)
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "sam')
    for _ in range(2):  # the second finds that all is done
        again, _ = trainer(photos, tmp_path / "killed", config, validate=lambda network: {})
        again.resume()
        again.run()
        assert steps(tmp_path / "killed") == steps(tmp_path / "alone")
    files = [(tmp_path / n / "weights.safetensors").read_bytes() for n in ("alone", "killed")]
    assert files[0] == files[1]


def test_every_configuration_that_the_help_names_is_there() -> None:
    module = import_module("panokit_network.commands.train")
    text = Path(module.__file__ or "").read_text(encoding="utf-8")
    named = set(re.findall(r"camera(?:-[a-z]+)?(?=[,.])", text))
    folder = Path(str(resources.files("panokit_network") / "configs"))
    found = {path.stem for path in folder.glob("*.json")}
    assert named == found
    for path in folder.glob("*.json"):
        assert TrainConfig.load(path).total_samples > 0
