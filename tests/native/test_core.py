"""The native core against the SDK: random heads, pictures, results, mattes, dumps, refusals."""

from __future__ import annotations

import ctypes
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.native_core import HEADS, Core, CoreError, Picture, Session
from panokit.bundle import Bundle, TensorSpec
from panokit.decoding import Heads, PostprocessConfig, postprocess
from panokit.dump import read_dump
from panokit.effects.held import is_person, with_held
from panokit.effects.matting import cell_of, soft_matte
from panokit.errors import HeadError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, letterbox, preprocess
from panokit.result import PanopticResult
from panokit.runtime import dequantize, quantize_image
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit.taxonomy import Category, Taxonomy
from panokit_validation.run import validate_dumps

pytestmark = pytest.mark.slow

Array = NDArray[Any]


def manifest_of(
    taxonomy: Taxonomy,
    config: PostprocessConfig,
    size_wh: tuple[int, int],
    specs: dict[str, TensorSpec],
    input_spec: TensorSpec | None = None,
) -> bytes:
    """A manifest of one artifact."""
    w, h = size_wh
    taken = input_spec or TensorSpec("image", (1, h, w, 3), "uint8", "nhwc")
    artifact = {
        "name": "a", "format": "tflite", "file": "a.tflite", "sha256": "00", "precision": "int8",
        "input": vars(taken), "outputs": {k: vars(s) for k, s in specs.items()},
    }  # fmt: skip
    data = {
        "schema_version": 1, "name": "test", "taxonomy": taxonomy.to_json(),
        "preprocessing": {"size_wh": size_wh, "kernel": "pillow-bilinear"},
        "postprocessing": config.to_json(), "artifacts": [artifact],
    }  # fmt: skip
    return json.dumps(data).encode()


def random_case(rng: np.random.Generator) -> tuple[Any, ...]:
    """Taxonomy, settings, sizes, raw heads and their specs, of all kinds."""
    h, w = (int(v) for v in rng.integers(1, 24, 2))
    stride = int(rng.choice([1, 2, 3, 4, 4, 4, 5, 8, 16]))
    size = (w * stride, h * stride)
    if rng.random() < 0.2:
        size = (int(rng.integers(w, 90)), int(rng.integers(h, 90)))
    n = int(rng.choice([1, 2, 4, 26, 33, 70]))
    ids = rng.permutation(n) + 1
    names = ["person", *(f"c{i}" for i in range(1, n))]
    things = rng.random(n) < rng.choice([0.2, 0.6, 1])
    taxonomy = Taxonomy(
        "t",
        tuple(
            Category(int(i), name, bool(t), (0, 0, 0))
            for i, name, t in zip(ids, names, things, strict=True)
        ),
    )
    config = PostprocessConfig(
        threshold=float(rng.choice([0, 0.1, 0.5])), window=int(rng.choice([1, 3, 5, 31])),
        top_k=int(rng.choice([1, 3, 5, 30, 500])), min_thing_area=int(rng.choice([0, 5])),
        min_stuff_area=int(rng.choice([0, 9])), grid=rng.choice(["input", "input", "head"]),
        min_thing_score=0,
    )  # fmt: skip
    scale = float(rng.choice([0.3, 3, 30, 3000]))
    real = {
        "semantic": rng.normal(0, scale, (h, w, n)),
        "center": rng.normal(0, rng.choice([2, 2, 2, 900, 1e30]), (h, w, 1)),
        "offset": rng.normal(0, rng.choice([1, 10, 1e20]), (h, w, 2)),
    }  # fmt: skip
    raw, specs = {}, {}
    kind = str(rng.choice(["float32", "tied", "float16", "int8", "uint8", "int16"]))
    for name, values in real.items():
        dtype, scale_of, zero = ("float32" if kind == "tied" else kind), None, None
        if kind == "tied":
            values = np.round(values)
        if kind in ("int8", "uint8", "int16"):
            scale_of, zero = float(rng.uniform(0.01, 0.5)), int(rng.integers(-9, 9))
            info = np.iinfo(kind)
            zero += 128 * (kind == "uint8")
            values = np.clip(np.round(values / scale_of), info.min, info.max)
        if kind == "float16":
            values = np.clip(values, -60000, 60000)
        raw[name] = np.ascontiguousarray(values.astype(dtype))
        specs[name] = TensorSpec(name, (1, *values.shape), dtype, "nhwc", scale_of, zero)
    photo = (int(rng.integers(1, 120)), int(rng.integers(1, 120)))
    return taxonomy, config, size, raw, specs, photo


def assert_same_result(session: Session, case: tuple[Any, ...]) -> None:
    """What the session decoded is what the SDK decodes."""
    taxonomy, config, size, raw, specs, photo = case
    transform = letterbox(photo, size)
    heads = Heads.from_arrays(dequantize(raw, specs))
    wanted = postprocess(heads, taxonomy, transform, config)
    shape = (wanted.ids.shape[0], wanted.ids.shape[1])
    assert (session.ids(shape) == wanted.ids).all()
    found = session.segments()
    assert [(s["id"], s["channel"], s["is_thing"], s["area"]) for s in found] == [
        (s.id, s.channel, s.is_thing, s.area) for s in wanted.segments
    ]
    for a, b in zip(found, wanted.segments, strict=True):
        assert a["score"] == pytest.approx(b.score, abs=1e-5)
        assert b.center_yx is None or (a["center_y"], a["center_x"]) == b.center_yx
    blank = Photo.from_array(np.zeros((photo[1], photo[0], 3), np.uint8))
    result = PanopticResult.from_map(blank, wanted, taxonomy, transform)
    dtype = "uint8" if len(found) < 256 else "uint16"
    assert (session.photo_ids(photo) == result.id_map).all()
    assert (session.photo_ids(photo, dtype) == result.id_map).all()
    on_photo = [s for s in found if s["photo_area"]]
    assert [(s["id"], s["photo_area"], s["box"]) for s in on_photo] == [
        (s.id, s.area, s.box_xyxy) for s in result
    ]
    for s in result:
        assert session.rle(s.id) == result.rle(s)["counts"]
    kept = with_held(result, [s for s in result if is_person(s)])
    assert session.portrait() == sorted(kept)


@pytest.mark.parametrize("seed", range(6))
def test_random_heads_decode_as_the_sdk_does(core: Core, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        case = random_case(rng)
        taxonomy, config, size, raw, specs, photo = case
        session = core.open(manifest_of(taxonomy, config, size, specs)).session()
        session.set_photo(photo)
        session.decode(raw)
        assert_same_result(session, case)


def test_threshold_zero_takes_logits_of_any_size(core: Core) -> None:
    """Scores that round to 0 reach a threshold of 0."""
    taxonomy = Taxonomy("t", (Category(1, "person", True, (0, 0, 0)),))
    config = PostprocessConfig(threshold=0, window=1, min_thing_area=0, min_stuff_area=0)
    raw = {
        "semantic": np.zeros((3, 4, 1), np.float32),
        "center": np.linspace(-1e30, -900, 12, dtype=np.float32).reshape(3, 4, 1),
        "offset": np.zeros((3, 4, 2), np.float32),
    }
    specs = {n: TensorSpec(n, (1, *a.shape), "float32", "nhwc") for n, a in raw.items()}
    session = core.open(manifest_of(taxonomy, config, (16, 12), specs)).session()
    session.set_photo((16, 12))
    session.decode(raw)
    assert len(session.segments()) == 12
    assert_same_result(session, (taxonomy, config, (16, 12), raw, specs, (16, 12)))


@pytest.mark.parametrize("shift", [0, 50, 300, 30000, -30000, 1e6])
def test_scores_of_logits_far_from_zero(core: Core, shift: float) -> None:
    """Their roundings are part of the norm: each logit is resized to a float32."""
    rng = np.random.default_rng(9)
    names = ("person", "sky", "dog")
    taxonomy = Taxonomy(
        "t", tuple(Category(i + 1, n, n != "sky", (0, 0, 0)) for i, n in enumerate(names))
    )
    config = PostprocessConfig(threshold=0.5, window=3, min_thing_area=0, min_stuff_area=0)
    raw = {
        "semantic": (rng.normal(0, 1, (6, 8, 3)) + shift).astype(np.float32),
        "center": rng.normal(2, 2, (6, 8, 1)).astype(np.float32),
        "offset": rng.normal(0, 4, (6, 8, 2)).astype(np.float32),
    }
    specs = {n: TensorSpec(n, (1, *a.shape), "float32", "nhwc") for n, a in raw.items()}
    session = core.open(manifest_of(taxonomy, config, (32, 24), specs)).session()
    session.set_photo((32, 24))
    session.decode(raw)
    assert len(session.segments()) > 3
    assert_same_result(session, (taxonomy, config, (32, 24), raw, specs, (32, 24)))


def test_heads_with_planes_and_strides(core: Core) -> None:
    """[1,C,h,w] as Core ML has it, and rows that are padded."""
    rng = np.random.default_rng(7)
    for _ in range(30):
        case = random_case(rng)
        taxonomy, config, size, raw, specs, photo = case
        planes = {n: np.ascontiguousarray(np.moveaxis(a, -1, 0)) for n, a in raw.items()}
        turned = {
            n: TensorSpec(n, (1, *planes[n].shape), s.dtype, "nchw", s.scale, s.zero_point)
            for n, s in specs.items()
        }
        session = core.open(manifest_of(taxonomy, config, size, turned)).session()
        session.set_photo(photo)
        session.decode(planes)
        assert_same_result(session, case)
        wide = {n: np.pad(p, ((0, 0), (0, 1), (0, 5))) for n, p in planes.items()}
        strides = {n: tuple(p.strides[i] // p.itemsize for i in (1, 2, 0)) for n, p in wide.items()}
        session.decode(wide, strides)
        assert_same_result(session, case)


def shipped() -> tuple[bytes, Segmenter]:
    segmenter = Segmenter.open(threads=1)
    return (segmenter.bundle.root / "manifest.json").read_bytes(), segmenter


@pytest.mark.parametrize("name", ["astronaut", "grace_hopper", "coffee", "chelsea"])
def test_the_shipped_bundle_on_photos(core: Core, tmp_path: Path, name: str) -> None:
    manifest, segmenter = shipped()
    session = core.open(manifest).session(matte=True)
    stages = segmenter.stages(sample_photos()[name])
    photo, picture = stages.photo, Picture.rgb(stages.photo.rgb_hwc)
    assert (session.preprocess(picture, (320, 320)) == stages.input_hwc).all()
    quantized = quantize_image(stages.input_hwc, segmenter.artifact.input)
    assert (session.input_tensor("int8") == quantized.ravel()).all()
    session.decode(stages.raw)
    post = segmenter.bundle.manifest.postprocessing
    specs = segmenter.artifact.outputs
    case = (segmenter.taxonomy, post, (320, 320), stages.raw, specs, photo.size_wh)
    assert_same_result(session, case)
    result = segmenter.segment(photo)
    ids = session.portrait() or [result.segments[0].id]
    wanted = soft_matte(photo, result.mask(*ids), cell_of(photo, result))
    found = session.matte(picture, ids)
    assert np.abs(found - wanted).max() < 1e-4
    assert 0 < wanted.mean() < 1
    texts = {"runtime": "litert", "device": 'a "phone" ü \\ \n', "photo": photo.name}
    session.dump(tmp_path / "one.safetensors", stages.raw, texts)
    dump = read_dump(tmp_path / "one.safetensors")
    assert dump.transform is not None
    assert dump.transform.content_wh == stages.transform.content_wh
    assert dump.metadata["device"] == texts["device"]
    outcomes = list(validate_dumps([tmp_path / "one.safetensors"]))
    assert [(o.photo or {}).get("verdict") for o in outcomes] == ["pass"], outcomes


@pytest.mark.parametrize("size", [(40, 30), (1100, 700), (300, 2300), (513, 1025)])
def test_mattes_of_all_sizes(core: Core, size: tuple[int, int]) -> None:
    manifest, segmenter = shipped()
    session = core.open(manifest).session(matte=True)
    image = Image.open(sample_photos()["astronaut"]).convert("RGB").resize(size)
    photo = Photo.from_array(np.asarray(image))
    picture = Picture.rgb(photo.rgb_hwc)
    result = segmenter.segment(photo)
    ids = [result.segments[0].id]
    session.preprocess(picture, (320, 320))
    session.decode(segmenter.stages(photo).raw)
    wanted = soft_matte(photo, result.mask(*ids), cell_of(photo, result))
    assert np.abs(session.matte(picture, ids) - wanted).max() < 1e-4


def toy_session(core: Core, size: tuple[int, int], spec: TensorSpec | None = None) -> Session:
    """A session for inputs of ``size``."""
    taxonomy = Taxonomy("t", (Category(1, "person", True, (0, 0, 0)),))
    shapes = {"semantic": (1, 1, 1, 1), "center": (1, 1, 1, 1), "offset": (1, 1, 1, 2)}
    specs = {n: TensorSpec(n, s, "float32", "nhwc") for n, s in shapes.items()}
    return core.open(manifest_of(taxonomy, PostprocessConfig(), size, specs, spec)).session()


def as_stored(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The picture that ``orientation`` turns upright to ``rgb``."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    image = Image.fromarray(rgb)
    return np.asarray(image.transpose(undo[orientation]) if orientation in undo else image)


@pytest.mark.parametrize("pixels", ["rgb", "rgbx", "bgrx", "rgba", "bgra"])
def test_pixel_formats_orientations_and_strides(core: Core, pixels: str) -> None:
    rng = np.random.default_rng(3)
    for orientation in range(9):
        w, h = (int(v) for v in rng.integers(1, 70, 2))
        size = (int(rng.integers(1, 50)), int(rng.integers(1, 50)))
        rgb = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        stored = as_stored(rgb, orientation)
        alpha = rng.integers(0, 256, (*stored.shape[:2], 1), dtype=np.uint8)
        wanted_rgb = stored
        if pixels in ("rgba", "bgra"):
            rgba = np.concatenate([stored, alpha], -1)
            file = io.BytesIO()
            Image.fromarray(rgba).save(file, "PNG")
            wanted_rgb = Photo.open(file.getvalue()).rgb_hwc
        upright = wanted_rgb
        if orientation > 1:  # let Pillow turn it by EXIF
            exif = Image.Exif()
            exif[0x0112] = orientation
            file = io.BytesIO()
            Image.fromarray(wanted_rgb).save(file, "PNG", exif=exif)
            upright = Photo.open(file.getvalue()).rgb_hwc
        channels = [stored[..., ::-1] if pixels.startswith("bgr") else stored]
        channels += [alpha] if len(pixels) == 4 else []
        packed = np.concatenate(channels, -1)
        row = packed.shape[1] * packed.shape[2]
        buffer = np.full((packed.shape[0], row + 5), 77, np.uint8)
        buffer[:, :row] = packed.reshape(packed.shape[0], row)
        for bottom_up in (False, True):
            lines = np.ascontiguousarray(buffer[::-1]) if bottom_up else buffer
            stride = -lines.strides[0] if bottom_up else lines.strides[0]
            start = (len(lines) - 1) * lines.strides[0] if bottom_up else 0
            size_wh = (packed.shape[1], packed.shape[0])
            picture = Picture(pixels, size_wh, (lines,), stride, orientation, offset=start)
            wanted, _ = preprocess(Photo.from_array(upright), PreprocessConfig(size))
            found = toy_session(core, size).preprocess(picture, size)
            assert (found == wanted).all(), orientation


LUMA = {0: (0.299, 0.114), 1: (0.2126, 0.0722)}


@pytest.mark.parametrize("matrix", [0, 1], ids=["601", "709"])
@pytest.mark.parametrize("full", [False, True], ids=["video", "full"])
def test_yuv_is_what_the_standard_says(core: Core, matrix: int, full: bool) -> None:
    rng = np.random.default_rng(5)
    h, w = 23, 37
    y = rng.integers(0, 256, (h, w), dtype=np.uint8)
    u, v = rng.integers(0, 256, (2, (h + 1) // 2, (w + 1) // 2), dtype=np.uint8)
    luma = y.astype(np.float64) if full else (y.astype(np.float64) - 16) * 255 / 219
    scale = 1.0 if full else 255 / 224
    cb, cr = (
        (p.repeat(2, 0).repeat(2, 1)[:h, :w].astype(np.float64) - 128) * scale for p in (u, v)
    )
    kr, kb = LUMA[matrix]
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    wanted = np.clip(np.round(np.stack([red, green, blue], -1)), 0, 255)
    session = toy_session(core, (w, h))
    planar = Picture("yuv420", (w, h), (y, u, v), w, chroma_row_stride=u.shape[1], chroma_step=1,
                     full_range=full, matrix=matrix)  # fmt: skip
    found = session.preprocess(planar, (w, h)).astype(np.int64)
    assert np.abs(found - wanted).max() <= 1
    assert (found == wanted).mean() > 0.99
    both = np.full((*u.shape, 2), 9, np.uint8)
    both[..., 0], both[..., 1] = u, v
    flat = both.reshape(-1)
    step = Picture("yuv420", (w, h), (y, flat, flat[1:]), w, chroma_row_stride=2 * u.shape[1],
                   chroma_step=2, full_range=full, matrix=matrix)  # fmt: skip
    assert (session.preprocess(step, (w, h)) == found).all()
    swapped = Picture("yuv420", (w, h), (y, flat[1:], flat), w, chroma_row_stride=2 * u.shape[1],
                      chroma_step=2, full_range=full, matrix=matrix)  # fmt: skip
    assert (session.preprocess(swapped, (w, h)) != found).mean() > 0.5


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "float16", "float32"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_input_tensors_of_all_types(core: Core, dtype: str, layout: str) -> None:
    rng = np.random.default_rng(1)
    photo = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    for scale, zero in ((1.0, -128), (2.0, 3), (0.3, 0), (1.7, -20)):
        whole = dtype in ("uint8", "int8", "int16")
        zero += 128 * (dtype == "uint8")
        shape = (1, 16, 24, 3) if layout == "nhwc" else (1, 3, 16, 24)
        given = (scale, zero) if whole else (None, None)
        spec = TensorSpec("image", shape, dtype, layout, *given)
        session = toy_session(core, (24, 16), spec)
        session.preprocess(Picture.rgb(photo), (24, 16))
        wanted = quantize_image(photo, spec)
        assert (session.input_tensor(dtype) == wanted.ravel()).all()


def test_a_large_photo_needs_few_rows(core: Core) -> None:
    rng = np.random.default_rng(2)
    for h, w in ((2000, 3000), (3, 9000), (9000, 2), (1, 1)):
        photo = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        wanted, _ = preprocess(Photo.from_array(photo), PreprocessConfig((64, 48)))
        session = toy_session(core, (64, 48))
        assert (session.preprocess(Picture.rgb(photo), (64, 48)) == wanted).all()
        assert session.bytes < 1_500_000


def edited(changes: dict[str, Any]) -> bytes:
    """The shipped manifest with some values changed; a name with dots leads inside."""
    data = json.loads((Bundle.open().root / "manifest.json").read_text(encoding="utf-8"))
    for name, value in changes.items():
        *path, last = name.split(".")
        part = data
        for key in path:
            part = part[int(key)] if isinstance(part, list) else part[key]
        if value is None:
            del part[last]
        else:
            part[last] = value
    return json.dumps(data).encode()


BAD_MANIFESTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "version": ({"schema_version": 2}, 3, "schema_version"),
    "contract": ({"contract": "mask-queries"}, 3, "contract"),
    "kernel": ({"preprocessing.kernel": "area"}, 3, "kernel"),
    "new rule": ({"postprocessing.merge": 1}, 3, "'merge'"),
    "threshold": ({"postprocessing.threshold": 1.5}, 2, "'threshold'"),
    "window": ({"postprocessing.window": 4}, 2, "'window'"),
    "grid": ({"postprocessing.grid": "photo"}, 2, "'grid'"),
    "size": ({"preprocessing.size_wh": [320, 0]}, 2, "'size_wh'"),
    "other size": ({"preprocessing.size_wh": [320, 160]}, 2, "size"),
    "no artifacts": ({"artifacts": []}, 2, "artifact"),
    "no taxonomy": ({"taxonomy": None}, 2, "'taxonomy'"),
    "twice an id": ({"taxonomy.categories": [{"id": 1, "name": "a"}] * 26}, 2, "id 1"),
    "channels": ({"taxonomy.categories": [{"id": 1, "name": "a"}]}, 2, "26 channels"),
    "no scale": ({"artifacts.0.outputs": {"semantic": {"name": "s", "dtype": "int8", "layout":
                 "nhwc", "shape": [1, 80, 80, 26]}}}, 2, "'center'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_manifests_are_refused_in_words(core: Core, name: str) -> None:
    changes, status, words = BAD_MANIFESTS[name]
    with pytest.raises(CoreError) as caught:
        core.open(edited(changes))
    assert (caught.value.status, words in str(caught.value)) == (status, True), caught.value


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a": 01}', b"[1,]", b'{"a": "\xff"}', b"[" * 100 + b"]" * 100, b"{}x"]
)
def test_what_is_no_json_is_refused(core: Core, text: bytes) -> None:
    with pytest.raises(CoreError, match="expected JSON, but byte"):
        core.open(text)


def test_a_wrong_artifact_is_named(core: Core) -> None:
    with pytest.raises(CoreError, match="no artifact 'coreml-int4'"):
        core.open(edited({}), "coreml-int4")


def test_bad_heads_are_named_as_in_the_sdk(core: Core) -> None:
    rng = np.random.default_rng(11)
    for bad in (np.nan, np.inf, -np.inf, 2e38, -2e38):
        for name in HEADS:
            taxonomy, config, size, raw, specs, photo = random_case(rng)
            raw = {n: rng.normal(0, 1, a.shape).astype(np.float32) for n, a in raw.items()}
            specs = {n: TensorSpec(n, (1, *a.shape), "float32", "nhwc") for n, a in raw.items()}
            flat = raw[name].reshape(-1)
            flat[rng.integers(0, flat.size, 2)] = bad
            with pytest.raises(HeadError) as wanted:
                Heads.from_arrays(raw)
            session = core.open(manifest_of(taxonomy, config, size, specs)).session()
            session.set_photo(photo)
            with pytest.raises(CoreError) as found:
                session.decode(raw)
            position = wanted.value.position
            assert position is not None
            assert found.value.head == name == wanted.value.head
            assert found.value.position is not None
            assert found.value.position[: len(position)] == position


def test_buffers_that_are_too_small_are_refused(core: Core) -> None:
    manifest, segmenter = shipped()
    session = core.open(manifest).session()
    raw = {n: np.zeros(s.shape[1:], np.int8) for n, s in segmenter.artifact.outputs.items()}
    with pytest.raises(CoreError, match="photo's size is not known"):
        session.decode(raw)
    session.set_photo((100, 100))
    with pytest.raises(CoreError, match="'offset': needs 12800 bytes"):
        session.decode(raw | {"offset": raw["offset"][:-1]})
    with pytest.raises(CoreError, match="'center': has a negative stride"):
        session.decode(raw, {"center": (-80, 1, 1)})
    with pytest.raises(CoreError, match="sides of at most 16384"):
        session.set_photo((20000, 10))
    with pytest.raises(CoreError, match="row stride is 5 bytes; a row of 2 pixels takes 6"):
        session.preprocess(Picture("rgb", (2, 2), (np.zeros(12, np.uint8),), 5), (320, 320))
    session.decode(raw)
    with pytest.raises(CoreError, match="not opened with 'matte'"):
        session.matte(Picture.rgb(np.zeros((100, 100, 3), np.uint8)), [])


def test_decimal_numbers_are_those_of_python(core: Core) -> None:
    function = core.lib.pk_decimal
    function.restype = ctypes.c_double
    rng = np.random.default_rng(4)
    for _ in range(4000):
        digits = "".join(str(d) for d in rng.integers(0, 10, rng.integers(1, 30)))
        exponent = int(rng.integers(-60, 60))
        found = function(digits.encode(), ctypes.c_size_t(len(digits)), exponent)
        assert found == float(f"{digits}e{exponent}"), (digits, exponent)
    for bits in rng.integers(0, 2**63, 4000):
        value = float(np.array(bits % (2046 << 52), np.int64).view(np.float64))
        if 1e-250 < abs(value) < 1e300:
            digits, _, power = f"{value:.17e}".partition("e")
            plain = digits.replace(".", "")
            found = function(plain.encode(), ctypes.c_size_t(len(plain)), int(power) - 17)
            assert found == float(f"{value:.17e}")


def test_sessions_of_one_model_work_at_once(core: Core) -> None:
    """ctypes lets go of Python's lock, so that these calls do run side by side."""
    manifest, segmenter = shipped()
    model = core.open(manifest)
    stages = [segmenter.stages(p) for p in list(sample_photos().values())[:3]]
    wrong: list[int] = []

    def work(offset: int) -> None:
        session = model.session()
        for i in range(30):
            one = stages[(i + offset) % len(stages)]
            session.preprocess(Picture.rgb(one.photo.rgb_hwc), (320, 320))
            session.decode(one.raw)
            if not (session.ids((320, 320)) == one.panoptic.ids).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
