"""The diagnosis names what was injected, keeps quiet about clean devices, and does not guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from panokit.bundle import Bundle
from panokit.dump import HEADS, STAGES, Dump
from panokit.errors import ArgumentError, DumpError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit_validation import evidence
from panokit_validation.device import Device, parse_noise, real_heads
from panokit_validation.diagnosis import (
    UNKNOWN,
    Cause,
    Diagnosis,
    DiagnosisConfig,
    Finding,
    diagnose,
)
from panokit_validation.faults import FAULTS, Step, fault
from panokit_validation.faults.app import App
from panokit_validation.faults.decode import AppDecoding, DecodingReplay
from panokit_validation.faults.heads import HeadSet
from panokit_validation.simulate import Simulator
from panokit_validation.thresholds import thresholds_for
from panokit_validation.verdict import Verdict, validate_dump
from tests.toys.crowded_heads import crowded_heads

pytestmark = pytest.mark.slow

# These act or not by what the network finds in a photo: they are shown on heads drawn by hand.
OF_DECODING = {
    "sigmoid-missing", "sigmoid-twice", "offset-swapped", "offset-unscaled", "threshold", "window",
    "top-k", "label-off-by-one", "thing-score", "least-areas",
}  # fmt: skip
HEADS_VIEW = ("photo", *HEADS, "panoptic")
MAP_VIEW = ("photo", "panoptic")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.open()


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    """Two sample photos, neither of them square, one of them tall."""
    wide = Photo.open(sample_photos()["coffee"])
    tall = Photo.open(sample_photos()["astronaut"])
    return [wide, replace(tall, rgb_hwc=np.ascontiguousarray(tall.rgb_hwc[:, 60:421]))]


@pytest.fixture(scope="module")
def device(segmenter: Segmenter) -> Simulator:
    return Simulator(segmenter)


def names(diagnosis: Diagnosis) -> list[str]:
    return [c.name for c in diagnosis.causes]


# Every fault of the bank.


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, f in FAULTS.items()
        # Equal centres need a plateau: test_equal_centres_are_named.
        if f.occurs_on(True) and n not in OF_DECODING and n != "equal-centres"
    ],
)
def test_the_injected_fault_is_named_first(
    name: str, segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    injected = fault(name)
    found = diagnose(device.simulate(photos[1], [injected], other=photos[0]), segmenter)
    assert names(found)[0] == name
    cause = found.causes[0]
    assert cause.explained > (0.5 if name == "stale-photo" else 0.99)
    assert cause.variant == injected[1].label or injected[0].step in (Step.PHOTO, Step.ARTIFACT)
    stage = cause.stage.partition(".")[0]
    assert stage == injected[0].step.stage or (name, stage) == ("stale-photo", "heads")
    assert cause.advice
    assert found.alarm == (name != "fp16-rounding")


@pytest.fixture(scope="module")
def crowd() -> Segmenter:
    """The shipped network with the decoding that the crowd of :func:`crowded_heads` is drawn for,
    so that each fault shows whatever the weights of today are decoded with."""
    bundle = Bundle.open()
    settings = replace(
        bundle.manifest.center_offset,
        threshold=0.5,
        window=9,
        min_thing_area=256,
        min_stuff_area=2048,
        min_thing_score=0.42,
    )
    return Segmenter.open(
        replace(bundle, manifest=replace(bundle.manifest, postprocessing=settings))
    )


def crowded_dump(segmenter: Segmenter, *faults: str) -> Dump:
    """Heads drawn by hand, and the map that an app with these faults gets from them."""
    artifact, settings = segmenter.artifact, segmenter.bundle.manifest.center_offset
    real = crowded_heads(segmenter.taxonomy, artifact)
    raw = {}
    for name, values in real.items():
        spec = artifact.outputs[name]
        assert spec.scale is not None
        assert spec.zero_point is not None
        raw[name] = np.round(values / spec.scale + spec.zero_point).astype(np.int8)
    app = App.of([fault(name) for name in faults])
    read = app.heads(HeadSet(raw, real, artifact.outputs)).real
    transform = letterbox((320, 320), (320, 320))
    decoded = DecodingReplay(read, transform, segmenter.taxonomy).decode(app.decoding(settings))
    segments = [{"id": i, "channel": c} for i, c in decoded.channels.items()]
    metadata = {"artifact_sha256": artifact.sha256, "segments": json.dumps(segments)}
    return Dump({**raw, "panoptic": decoded.ids}, metadata, transform)


def test_equal_centres_are_named(crowd: Segmenter) -> None:
    """A plateau across an object whose pixels vote for both of its cells."""
    dump = crowded_dump(crowd)
    center, offset = dump.tensors["center"], dump.tensors["offset"]
    row, col = np.unravel_index(center[..., 0].argmax(), center.shape[:2])
    center[row, col + 3] = center[row, col]
    spec = crowd.artifact.outputs["offset"]
    offset[:, col + 2 :, 1] = np.clip(
        np.round(8 / (spec.scale or 1)) + (spec.zero_point or 0), -128, 127
    )
    settings = crowd.bundle.manifest.center_offset
    real = real_heads({n: dump.tensors[n] for n in HEADS}, crowd.artifact)
    decoder = DecodingReplay(real, letterbox((320, 320), (320, 320)), crowd.taxonomy)
    wrong = decoder.decode(App.of([fault("equal-centres")]).decoding(settings))
    right = decoder.decode(App().decoding(settings))
    assert len(wrong.segments) > len(right.segments)
    segments = [{"id": i, "channel": c} for i, c in wrong.channels.items()]
    metadata = {**dump.metadata, "segments": json.dumps(segments)}
    spoilt = replace(dump, tensors={**dump.tensors, "panoptic": wrong.ids}, metadata=metadata)
    found = validate_dump(spoilt, crowd, diagnose=True)
    assert found.verdict is Verdict.FAIL
    assert found.causes[0].name == "equal-centres"


@pytest.mark.parametrize("name", sorted(OF_DECODING))
def test_an_injected_fault_of_decoding_acts_and_is_named(name: str, crowd: Segmenter) -> None:
    dump, clean = crowded_dump(crowd, name), crowded_dump(crowd)
    assert diagnose(clean, crowd).causes == ()
    changed = (dump.tensors["panoptic"] != clean.tensors["panoptic"]).any()
    assert changed or dump.metadata["segments"] != clean.metadata["segments"]
    causes = diagnose(dump, crowd).causes
    assert causes[0].explained == 1
    # Whatever explains it all gives the very same map, and the injected fault is among it.
    best = {c.name: c for c in causes if c.explained == 1}
    assert name in best
    for other in best.values():
        tied = crowded_dump(crowd, f"{other.name}:{other.variant}" if other.variant else other.name)
        assert (tied.tensors["panoptic"] == dump.tensors["panoptic"]).all()


@pytest.mark.parametrize(
    ("name", "view"),
    [("bgr", HEADS_VIEW), ("normalise-twice", HEADS_VIEW), ("mirrored", MAP_VIEW)],
    ids=["bgr", "normalise-twice", "mirrored"],
)
def test_faults_are_found_without_the_input(
    name: str, view: tuple[str, ...], segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    found = diagnose(device.simulate(photos[1], [fault(name)], stages=view), segmenter)
    assert names(found)[0] == name


@pytest.mark.parametrize(
    "pair",
    [
        ("mirrored", "bgr"),
        ("bgr", "normalise-twice"),
        ("yuv-matrix", "padding-color"),
        ("rotated:270", "resize-nearest"),
        ("stretched", "gamma"),
        ("bgr", "offset-swapped"),
        ("padding-top-left", "head-transposed"),
    ],
    ids="+".join,
)
def test_pairs_are_named_together(
    pair: tuple[str, str], segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    injected = [fault(n) for n in pair]
    found = diagnose(device.simulate(photos[1], injected), segmenter)
    concluded = {c.name for f in found.findings for c in f.causes}
    wanted = {f.name for f, _ in injected}
    if "offset-swapped" in wanted and len(found.findings) == 1:
        wanted.remove("offset-swapped")  # one object, or none: without effect
    assert concluded == wanted
    assert set(names(found)[: len(wanted)]) == wanted
    same_stage = len({f.step.stage for f, _ in injected}) == 1
    assert bool(found.causes[0].together) == same_stage


@pytest.mark.parametrize("name", ["gamma", "p3-as-srgb", "resize-area", "mirrored"])
def test_large_photos_are_diagnosed_as_small_ones_are(
    name: str,
    segmenter: Segmenter,
    device: Simulator,
    photos: list[Photo],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("panokit_validation.diagnosis.replay.LARGE_PHOTO", 1000)
    dump = device.simulate(photos[1], [fault(name)], stages=("photo", "input"))
    found = diagnose(dump, segmenter)
    assert names(found)[0] == name
    assert found.causes[0].together == ()
    assert found.causes[0].explained == pytest.approx(1, abs=1e-6)


# Clean devices.


@pytest.mark.parametrize("noise", ["threads=1", "threads=2", "xnnpack=off", "fp16"])
@pytest.mark.parametrize("view", [STAGES, HEADS_VIEW, MAP_VIEW], ids=["all", "heads", "map"])
def test_clean_devices_raise_no_alarm(
    noise: str, view: tuple[str, ...], segmenter: Segmenter, photos: list[Photo]
) -> None:
    dump = Simulator(segmenter, parse_noise(noise)).simulate(photos[0], stages=view)
    found = diagnose(dump, segmenter)
    assert not found.alarm
    expected = ["fp16-rounding"] if noise == "fp16" and "center" in view else []
    assert names(found) == expected


@pytest.mark.parametrize("view", [STAGES, HEADS_VIEW, MAP_VIEW], ids=["all", "heads", "map"])
def test_the_verdict_knows_how_far_kernels_differ(
    view: tuple[str, ...], segmenter: Segmenter
) -> None:
    """Plain kernels round int8 sums otherwise; a fault in the same dump still fails. The diagnosis
    has no say in it."""
    device = Simulator(segmenter, parse_noise("xnnpack=off"))
    photo = Photo.open(sample_photos()["chelsea"])
    strict = replace(
        thresholds_for(segmenter.bundle.manifest, segmenter.artifact)[0], exact_sqnr_db=200
    )
    dump = device.simulate(photo, stages=view)
    broken = device.simulate(photo, [fault("head-transposed")], stages=view)
    for diagnosed in (False, True):
        judged = validate_dump(dump, segmenter, strict, diagnose=diagnosed)
        assert judged.verdict is not Verdict.FAIL
        failed = validate_dump(broken, segmenter, diagnose=diagnosed)
        assert failed.verdict is Verdict.FAIL


# What is not in the bank.


def _on_input(change: Callable[[Image.Image], Image.Image]) -> Callable[..., NDArray[np.uint8]]:
    def run(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(change(Image.fromarray(image)))

    return run


def _noisy(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 30, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _covered(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = image.copy()
    image[60:200, 100:260] = 0
    return image


def _torn(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = image.copy()
    image[1::2] = np.roll(image[1::2], 9, 1)
    return image


def _zoomed(image: Image.Image) -> Image.Image:
    return image.resize(image.size, box=(60, 60, 260, 260))


FOREIGN_INPUTS: dict[str, Callable[[NDArray[np.uint8]], NDArray[Any]]] = {
    "noise": _noisy,
    "something in front": _covered,
    "blur": _on_input(lambda p: p.filter(ImageFilter.GaussianBlur(5))),
    "negative": lambda image: 255 - image,
    "green first": lambda image: np.ascontiguousarray(image[..., [1, 2, 0]]),
    "zoom": _on_input(_zoomed),
    "turned by 12 degrees": _on_input(lambda p: p.rotate(12)),
    "torn rows": _torn,
    "two bits": lambda image: image & 0xC0,
}


@pytest.mark.parametrize("name", FOREIGN_INPUTS)
def test_foreign_faults_of_the_input_are_unknown(
    name: str, segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    dump = device.simulate(photos[1])
    image = FOREIGN_INPUTS[name](dump.tensors["input"])
    raw = Device(segmenter).run(image.astype(np.float32))
    plan = AppDecoding.of(segmenter.bundle.manifest.center_offset)
    assert dump.transform is not None
    decoder = DecodingReplay(
        real_heads(raw, segmenter.artifact), dump.transform, segmenter.taxonomy
    )
    tensors = {**dump.tensors, "input": image, **raw, "panoptic": decoder.decode(plan).ids}
    metadata = {k: v for k, v in dump.metadata.items() if k != "segments"}
    found = diagnose(replace(dump, tensors=tensors, metadata=metadata), segmenter)
    assert names(found) == [UNKNOWN]
    assert found.alarm


def _permuted(heads: dict[str, NDArray[Any]]) -> None:
    heads["semantic"] = heads["semantic"][..., np.random.default_rng(1).permutation(26)]


def _drifted(heads: dict[str, NDArray[Any]]) -> None:
    for name in heads:
        heads[name] = np.roll(heads[name], (6, 6), (0, 1))


def _garbled(heads: dict[str, NDArray[Any]]) -> None:
    rng = np.random.default_rng(2)
    for name, values in heads.items():
        heads[name] = rng.integers(-128, 128, values.shape).astype(np.int8)


def _flat(heads: dict[str, NDArray[Any]]) -> None:
    heads["semantic"][30:, :] = 0


@pytest.mark.parametrize("change", [_permuted, _drifted, _garbled, _flat], ids=lambda f: f.__name__)
def test_foreign_faults_of_the_heads_are_unknown(
    change: Callable[..., None], segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    dump = device.simulate(photos[1], stages=("photo", "input", *HEADS))
    heads = {n: dump.tensors[n].copy() for n in HEADS}
    change(heads)
    found = diagnose(replace(dump, tensors={**dump.tensors, **heads}), segmenter)
    assert names(found) == [UNKNOWN]


@pytest.mark.parametrize(
    "change",
    [lambda ids: np.roll(ids, (0, 25), (0, 1)), lambda ids: (ids // 3) * 3 + ids[::-1] % 2],
    ids=["moved", "mixed"],
)
def test_foreign_faults_of_the_map_are_unknown(
    change: Callable[..., Any], segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    dump = device.simulate(photos[1])
    dump.tensors["panoptic"] = change(dump.tensors["panoptic"]).astype(np.int32)
    found = diagnose(dump, segmenter)
    assert names(found) == [UNKNOWN]
    assert found.findings[0].stage == "panoptic"


# What the dump and its caller tell.


def test_a_given_photo_tells_its_orientation(
    segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    photo = replace(photos[1], orientation=6)
    dump = device.simulate(photo, [fault("exif-ignored")], stages=("input",))
    assert names(diagnose(dump, segmenter, photo))[0] == "exif-ignored"
    # Without the tag the same input is a picture that lies on its side.
    unknowing = replace(dump, transform=None)
    assert names(diagnose(unknowing, segmenter, photos[1]))[0] == "rotated"


def test_another_photo_is_proven_where_it_is_at_hand(
    segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    dump = device.simulate(photos[1], [fault("stale-photo")], other=photos[0])
    (cause,) = diagnose(dump, segmenter, others=photos).causes
    assert (cause.name, cause.variant, cause.certain) == ("stale-photo", "coffee", True)


def test_another_file_is_named_by_its_hash(
    segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    dump = device.simulate(photos[0])
    dump.metadata["artifact_sha256"] = "ab" * 32
    (cause,) = diagnose(dump, segmenter).causes
    assert (cause.name, cause.variant, cause.certain) == ("other-artifact", "abababababab…", True)


def test_shapes_that_do_not_fit_are_refused(
    segmenter: Segmenter, device: Simulator, photos: list[Photo]
) -> None:
    for name in ("input", "center", "panoptic"):
        dump = device.simulate(photos[0])
        dump.tensors[name] = dump.tensors[name][:-4]
        with pytest.raises(DumpError, match=f"tensor '{name}': expected shape"):
            diagnose(dump, segmenter)


def test_a_dump_without_anything_to_replay_has_no_finding(segmenter: Segmenter) -> None:
    assert diagnose(Dump({"panoptic": np.zeros((320, 320), np.int32)}), segmenter).findings == ()


@pytest.mark.parametrize(
    "kwargs", [{"explains": 1.2}, {"map_share": -1.0}, {"beam": float("nan")}], ids=str
)
def test_impossible_thresholds_are_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        DiagnosisConfig(**kwargs)


def test_causes_are_ordered() -> None:
    def cause(name: str, stage: str, explained: float, alarm: bool = True) -> Cause:
        return Cause(name, stage, name, "x.", explained, alarm=alarm)

    first = Finding("input", 1, (cause("b", "input", 0.9),), (cause("c", "input", 0.4),))
    note = Finding("heads", 1, (cause("note", "heads", 1.0, alarm=False),))
    last = Finding("panoptic", 1, (cause("d", "panoptic", 1),), (cause("e", "panoptic", 0.5),))
    assert names(Diagnosis("p", (first, note, last))) == ["b", "d", "e", "c", "note"]
    assert Diagnosis("p", (note,)).alarm is False
    data = Diagnosis("p", (first, note)).to_json()
    assert [c["name"] for c in data["causes"]] == ["b", "c", "note"]
    assert data["findings"][0]["stage"] == "input"


# The distances, by hand.


def test_noise_to_signal_by_hand() -> None:
    expected = np.array([0.0, 2.0])
    assert evidence.noise_to_signal(expected, expected) == 0
    assert evidence.noise_to_signal(np.array([1.0, 2.0]), expected) == pytest.approx(0.5)
    assert evidence.noise_to_signal(expected, np.ones(2)) == 1e6


def test_map_difference_by_hand() -> None:
    a = np.array([[1, 1, 2, 2], [1, 1, 2, 0]])
    assert evidence.map_difference(a, a) == 0
    assert evidence.map_difference(a, np.array([[3, 3, 1, 1], [3, 3, 1, 0]])) == 0
    # Segment 2 against half of it: IoU 1/3, so its pixels and the void ones beside it differ.
    other = np.array([[1, 1, 2, 0], [1, 1, 0, 0]])
    assert evidence.map_difference(a, other) == pytest.approx(3 / 8)
    channels = ({1: 5, 2: 6}, {1: 5, 2: 7})
    assert evidence.map_difference(a, a, channels) == pytest.approx(3 / 8)
    assert evidence.map_difference(a, a[:1]) == 1


def test_signs_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 9.0, 7.0, -8.0, 5.5], np.float32)
    cut = np.clip(values, -5, 5)
    assert evidence.saturation(cut, values) == 5
    assert evidence.saturation(values, values) is None
    assert evidence.is_half_precision(np.array([0.5, 1024, -3], np.float32))
    assert not evidence.is_half_precision(np.array([0.1, 1024, -3], np.float32))
    assert evidence.is_half_precision(np.array([0.1], np.float16))
    flat = np.full((20, 20, 3), 9, np.float32)
    assert not evidence.looks_like_a_photo(flat)
