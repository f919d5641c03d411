"""`panokit simulate` and the confusion run: dumps come out, are validated, and are counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from panokit.cli import app
from panokit.dump import HEADS, read_dump
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import preprocess
from panokit.segmenter import Segmenter
from panokit_validation.device import Device, DeviceNoise, parse_noise
from panokit_validation.diagnosis import diagnose
from panokit_validation.faults import FAULTS, fault_names


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small photos of soft colours."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        coarse = np.random.default_rng(i).integers(0, 256, (9, 12, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((200, 150 + 10 * i), Image.Resampling.BICUBIC)
        picture.save(folder / f"photo-{i}.png")
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_faults_are_listed_one_a_line() -> None:
    code, output = run("simulate", "--list-faults")
    assert code == 0
    assert tuple(output.split()) == fault_names()


def test_planted_faults_are_diagnosed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "dumps"
    code, output = run(
        "simulate", photos, "--fault", "rotated:180", "--device-noise", "threads=1", "--out", out,
        "--json", tmp_path / "run.json",
    )  # fmt: skip
    assert code == 0, output
    assert "3 dumps" in output
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["faults"] == [
        {"name": "rotated", "variant": "180", "title": FAULTS["rotated"].title}
    ]
    assert described["device_noise"] == "threads=1"
    assert json.loads((out / "faults.json").read_text()) == described
    segmenter = Segmenter.open()
    for i in range(3):
        dump = read_dump(out / f"photo-{i}.safetensors")
        assert set(dump.tensors) == {"photo", "input", *HEADS, "panoptic"}
        assert dump.metadata["photo"] == f"photo-{i}"
        expected = preprocess(Photo.open(photos / f"photo-{i}.png"))[0]
        assert (dump.tensors["input"] != expected).any()
        assert diagnose(dump, segmenter).causes[0].name == "rotated"


def test_stages_are_chosen_and_healthy_devices_agree(photos: Path, tmp_path: Path) -> None:
    code, output = run("simulate", photos, "--stages", "photo, panoptic", "--out", tmp_path)
    assert code == 0, output
    dump = read_dump(tmp_path / "photo-1.safetensors")
    assert set(dump.tensors) == {"photo", "panoptic"}
    segmenter = Segmenter.open()
    assert (segmenter.stages(photos / "photo-1.png").panoptic.ids == dump.tensors["panoptic"]).all()
    listed = json.loads(dump.metadata["segments"])
    assert [s["id"] for s in listed] == list(range(1, len(listed) + 1))


def test_a_stale_result_is_that_of_the_photo_before(photos: Path, tmp_path: Path) -> None:
    code, _ = run("simulate", photos, "--fault", "stale-photo", "--out", tmp_path)
    assert code == 0
    for i, before in ((0, 2), (1, 0), (2, 1)):
        dump = read_dump(tmp_path / f"photo-{i}.safetensors")
        expected = preprocess(Photo.open(photos / f"photo-{before}.png"))[0]
        assert (dump.tensors["input"] == expected).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fault", "nonsense"), "one of: stale-photo"),
        (("--fault", "bgr", "--fault", "bgr"), "cannot occur together"),
        (("--fault", "normalise-missing"), "tflite-int8 can have"),
        (("--device-noise", "cosmic"), "threads=N"),
        (("--stages", "photo,nonsense"), "--stages"),
    ],
    ids=["fault", "twice", "precision", "noise", "stages"],
)
def test_wrong_use_is_refused(
    arguments: tuple[str, ...], message: str, photos: Path, tmp_path: Path
) -> None:
    code, output = run("simulate", photos, "--out", tmp_path / "x", *arguments)
    assert code == 2
    assert message in output
    assert not (tmp_path / "x").exists()


def test_one_photo_alone_cannot_be_stale(photos: Path, tmp_path: Path) -> None:
    code, output = run(
        "simulate", photos / "photo-0.png", "--fault", "stale-photo", "--out", tmp_path
    )
    assert code == 2
    assert "at least two" in output


def test_damaged_photos_are_skipped_and_told(photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n")
    code, output = run("simulate", photos / "photo-0.png", broken, "--out", tmp_path / "out")
    assert code == 2
    assert "1 dump " in output
    assert (tmp_path / "out" / "photo-0.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ("", DeviceNoise()),
        ("none", DeviceNoise()),
        ("threads=4", DeviceNoise(threads=4)),
        ("xnnpack=off, fp16", DeviceNoise(xnnpack=False, fp16=True)),
    ],
    ids=str,
)
def test_noise_is_read(text: str, noise: DeviceNoise) -> None:
    assert parse_noise(text) == noise
    assert parse_noise(noise.label) == noise


def test_noise_must_be_possible() -> None:
    with pytest.raises(ArgumentError, match="threads"):
        parse_noise("threads=0")


def test_half_precision_noise_is_small_and_repeatable() -> None:
    segmenter = Segmenter.open()
    values = np.random.default_rng(0).integers(0, 256, (320, 320, 3)).astype(np.float32)
    exact = Device(segmenter).run(values)
    network = Device(segmenter, noise=DeviceNoise(fp16=True))
    first, again, other = network.run(values, 1), network.run(values, 1), network.run(values, 2)
    spec = segmenter.artifact.outputs["semantic"]
    real = (exact["semantic"].astype(np.float32) - (spec.zero_point or 0)) * np.float32(spec.scale)
    assert first["semantic"].dtype == np.float16
    assert (first["semantic"] == again["semantic"]).all()
    assert (first["semantic"] != other["semantic"]).any()
    error = first["semantic"].astype(np.float32) - real
    assert 40 < 10 * np.log10(np.square(real).sum() / np.square(error).sum()) < 70


# The confusion run.


def test_page_states_one_cause_a_photo_and_mentions_weaker_ones(
    photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jinja2", reason="Jinja2 is not installed (extra report)")
    assert run("simulate", photos, "--fault", "bgr", "--out", tmp_path / "d")[0] == 0
    count = len(list((tmp_path / "d").glob("*.safetensors")))
    assert count > 1
    code, _ = run("validate", tmp_path / "d", "--report", tmp_path / "r.html")
    assert code == 1
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("<li><strong>red and blue swapped (BGR)</strong>") == count
    assert html.count("<li><strong>") == count
