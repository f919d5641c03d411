"""Bundles of other people's files: what they are is seen or told, and the bundle does the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit import Bundle, Segmenter
from panokit.bundle import TensorSpec
from panokit.decoding import (
    MASK_QUERY_PRESETS,
    InstancesConfig,
    MaskQueriesConfig,
    QueryHeads,
    SemanticConfig,
)
from panokit.errors import BundleError, PanokitError, UsageError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.runtime import dequantize
from panokit.taxonomy import Taxonomy
from panokit_converters.guess import NoFamilyError, guess_family
from panokit_converters.model_file import FileTensor
from panokit_lab.adopt import AdoptRequest, adopt
from panokit_validation.contracts import simulate_contract
from panokit_validation.faults.contracts import (
    decoding_faults,
    input_faults,
    named_fault,
    network_faults,
)
from panokit_validation.frames import Frame, with_earlier
from panokit_validation.verdict import Verdict, validate_dump
from tests.toys.onnx_files import write_onnx

pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")

TAXONOMY = Taxonomy.from_json({"things": ["a", "b"], "stuff": ["c"]})
SIDE = 32


def photos() -> dict[str, Photo]:
    rng = np.random.default_rng(0)
    return {
        f"photo{i}": Photo.from_array(
            rng.integers(0, 255, (40 + 10 * i, 60, 3), np.uint8), f"photo{i}"
        )
        for i in range(3)
    }


def outputs_of(**shapes: Any) -> tuple[FileTensor, ...]:
    """What a file with these outputs says; a tuple is float32, a list int64."""
    return tuple(
        FileTensor(n, tuple(s), "int64" if isinstance(s, list) else "float32")
        for n, s in shapes.items()
    )


@pytest.mark.parametrize(
    ("family", "size", "shapes", "heads"),
    [
        ("yolo-seg", 320, {"a": (1, 116, 2100), "b": (1, 32, 80, 80)},
         {"detections": ("a", "columns"), "prototypes": ("b", "nchw")}),
        ("yolo-seg", 320, {"b": (1, 80, 80, 32), "a": (1, 116, 2100)},
         {"detections": ("a", "columns"), "prototypes": ("b", "nhwc")}),
        ("yolo-seg-v5", 320, {"a": (1, 6300, 117), "b": (1, 32, 80, 80)},
         {"detections": ("a", "rows"), "prototypes": ("b", "nchw")}),
        ("yolo-seg-end2end", 640, {"a": (1, 300, 38), "b": (1, 160, 160, 32)},
         {"detections": ("a", "rows"), "prototypes": ("b", "nhwc")}),
        ("rf-detr-seg", 384, {"d": (1, 100, 4), "l": (1, 100, 91), "m": (1, 100, 96, 96)},
         {"boxes": ("d", "rows"), "scores": ("l", "rows"), "masks": ("m", "nchw")}),
        ("mask2former", 384, {"c": (1, 100, 134), "m": (1, 100, 96, 96)},
         {"classes": ("c", "rows"), "masks": ("m", "nchw")}),
        ("kmax", 641, {"c": (1, 128, 134), "m": (1, 161, 161, 128)},
         {"classes": ("c", "rows"), "masks": ("m", "nhwc")}),
        ("semantic", 513, {"s": (1, 21, 129, 129)}, {"semantic": ("s", "nchw")}),
        ("semantic", 257, {"s": (1, 257, 257, 21)}, {"semantic": ("s", "nhwc")}),
        ("semantic-labels", 513, {"s": [1, 513, 513]}, {"semantic": ("s", "rows")}),
        ("center-offset", 320, {"x": (1, 2, 80, 80), "y": (1, 26, 80, 80), "z": (1, 1, 80, 80)},
         {"offset": ("x", "nchw"), "semantic": ("y", "nchw"), "center": ("z", "nchw")}),
    ],
)  # fmt: skip
def test_the_family_is_seen_by_the_shapes(
    family: str, size: int, shapes: dict[str, Any], heads: dict[str, Any]
) -> None:
    guess = guess_family(outputs_of(**shapes), (size, size))
    assert (guess.family, guess.heads) == (family, heads)
    assert guess.why


def test_shapes_of_nothing_known_are_listed() -> None:
    with pytest.raises(NoFamilyError, match=r"m \(1, 7, 7\).*--contract"):
        guess_family(outputs_of(m=(1, 7, 7)), (320, 320))


def query_network(path: Path, **options: Any) -> Path:
    """Two objects and a ground, as three of five queries."""
    classes = np.zeros((1, 5, 4), np.float32)
    classes[0, [0, 1, 2, 3, 4], [0, 1, 2, 3, 3]] = 12
    classes[0, 1, 1] = 3.4  # a score of 0.91
    masks = np.full((1, 5, 8, 8), -6, np.float32)
    masks[0, 0, 1:5, 1:4] = masks[0, 1, 2:7, 5:8] = 5
    masks[0, 2] = np.where((masks[0, 0] > 0) | (masks[0, 1] > 0), -6, 4)
    return write_onnx(path, {"logits": classes, "masks": masks}, (SIDE, SIDE), **options)


def adopted(file: Path, out: Path, **options: Any) -> Bundle:
    request = AdoptRequest((file,), out, taxonomy=TAXONOMY, **options)
    return adopt(request, photos(), lambda text: None).bundle


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    folder = tmp_path_factory.mktemp("queries")
    file = query_network(folder / "m.onnx", brightness={"masks": 0.002})
    bundle = adopted(file, folder / "q.panokit", family="mask2former")
    return Segmenter.open(bundle)


def test_a_query_network_segments_photos(queries: Segmenter) -> None:
    manifest = queries.bundle.manifest
    assert isinstance(manifest.postprocessing, MaskQueriesConfig)
    assert (manifest.preprocessing.fit, manifest.preprocessing.mean[0]) == ("top-left", 123.675)
    assert len(manifest.vectors) == 3
    result = queries.segment(photos()["photo0"])
    assert result.counts == {"a": 1, "b": 1}
    assert {s.category.name for s in result.segments} == {"a", "b", "c"}


def test_a_healthy_device_passes_and_each_mistake_is_named(queries: Segmenter) -> None:
    photo = photos()["photo0"]
    assert validate_dump(simulate_contract(photo, queries), queries).verdict is Verdict.PASS
    manifest = queries.bundle.manifest
    faults = [
        *decoding_faults(manifest.postprocessing, manifest.taxonomy),
        *input_faults(manifest.preprocessing),
        *network_faults(manifest.preprocessing),
    ]
    seen = 0
    for fault in faults:
        verdict = validate_dump(simulate_contract(photo, queries, fault), queries, diagnose=True)
        if verdict.verdict is not Verdict.FAIL:
            continue  # it changes nothing on this photo
        seen += 1
        assert fault.name in {c.name for c in verdict.causes}, (fault.name, fault.variant)
    assert seen > 12


def test_a_map_that_nothing_explains_is_unknown(queries: Segmenter) -> None:
    dump = simulate_contract(photos()["photo0"], queries)
    dump.tensors["panoptic"] = np.roll(dump.tensors["panoptic"], 5, 1)
    verdict = validate_dump(dump, queries, diagnose=True)
    assert (verdict.first_bad_stage, verdict.causes[0].name) == ("panoptic", "unknown")


@pytest.mark.parametrize("stage", ["input", "panoptic"])
def test_a_result_that_is_a_frame_late_is_named(queries: Segmenter, stage: str) -> None:
    now, before = (simulate_contract(photos()[f"photo{i}"], queries) for i in (2, 0))
    late = {name: before.tensors[name] for name in {stage, "panoptic"}}
    told = {**now.metadata, "segments": before.metadata["segments"]}
    dump = replace(now, tensors={**now.tensors, **late}, metadata=told)
    verdict = validate_dump(dump, queries, diagnose=True)
    assert verdict.first_bad_stage == stage
    found = with_earlier(
        verdict, Frame(dump, queries), [Frame(now, queries), Frame(before, queries)]
    )
    assert (found.causes[0].name, found.causes[0].variant) == ("stale-photo", "photo0")
    assert with_earlier(verdict, Frame(dump, queries), []) == verdict


def test_a_class_in_the_wrong_segment_fails(queries: Segmenter) -> None:
    dump = simulate_contract(photos()["photo0"], queries)
    segments = json.loads(dump.metadata["segments"])
    segments[0]["channel"] = 1
    dump.metadata["segments"] = json.dumps(segments)
    assert validate_dump(dump, queries).verdict is Verdict.FAIL


def test_a_dump_without_its_photo_is_not_believed_where_the_photo_lies(queries: Segmenter) -> None:
    """A map of a photo laid into the input the wrong way fails, though the dump says so itself."""
    healthy = simulate_contract(photos()["photo0"], queries)
    del healthy.tensors["photo"]
    assert validate_dump(healthy, queries).verdict is Verdict.PASS
    manifest, right = queries.bundle.manifest, healthy.transform
    assert right is not None
    told = letterbox(right.photo_wh, right.input_wh, fit="stretch")
    assert told != right
    masks = np.moveaxis(healthy.tensors["masks"], 0, -1)  # the file's queries come first
    heads = QueryHeads(healthy.tensors["classes"], masks)
    wrong = manifest.postprocessing.decode(heads, manifest.taxonomy, told)
    tensors = {**healthy.tensors, "panoptic": wrong.ids}
    dump = replace(healthy, transform=told, tensors=tensors)
    assert validate_dump(dump, queries).verdict is Verdict.FAIL


def test_raw_anchors_of_yolo(tmp_path: Path) -> None:
    anchors = sum((SIDE // s) ** 2 for s in (8, 16, 32))
    raw = np.zeros((1, 4 + 3 + 4, anchors), np.float32)
    raw[0, :4, 5] = [16, 16, 20, 20]  # centre and size, in pixels
    raw[0, 4, 5], raw[0, 7, 5] = 0.9, 2.0
    prototypes = np.ones((1, 4, 8, 8), np.float32)
    file = write_onnx(
        tmp_path / "y.onnx",
        {"output0": raw, "output1": prototypes},
        (SIDE, SIDE),
        metadata={"names": "{0: 'cat', 1: 'dog', 2: 'bird'}"},
    )
    request = AdoptRequest((file,), tmp_path / "y.panokit")
    found: list[str] = []
    bundle = adopt(request, photos(), found.append).bundle
    settings = bundle.manifest.postprocessing
    assert isinstance(settings, InstancesConfig)
    assert settings.box_unit == "pixels"
    assert [c.name for c in bundle.manifest.taxonomy] == ["cat", "dog", "bird"]
    assert any("anchors" in text for text in found)
    result = Segmenter.open(bundle).segment(np.zeros((SIDE, SIDE, 3), np.uint8))
    assert [(s.category.name, s.box_xyxy) for s in result.segments] == [("cat", (6, 6, 26, 26))]


def test_boxes_as_shares_are_seen_by_their_numbers(tmp_path: Path) -> None:
    anchors = sum((SIDE // s) ** 2 for s in (8, 16, 32))
    raw = np.zeros((1, 4 + 2 + 4, anchors), np.float32)
    raw[0, :4, 5] = 0.5
    raw[0, 4, 5], raw[0, 6, 5] = 0.9, 2.0
    prototypes = np.ones((1, 4, 8, 8), np.float32)
    file = write_onnx(tmp_path / "y.onnx", {"a": raw, "b": prototypes}, (SIDE, SIDE))
    settings = adopted(file, tmp_path / "y.panokit").manifest.postprocessing
    assert isinstance(settings, InstancesConfig)
    assert settings.box_unit == "input"


def test_labels_and_probabilities(tmp_path: Path) -> None:
    labels = np.zeros((1, SIDE, SIDE), np.int64)
    labels[:, :, 16:] = 2
    file = write_onnx(tmp_path / "l.onnx", {"classes": labels}, (SIDE, SIDE))
    bundle = adopted(file, tmp_path / "l.panokit")
    result = Segmenter.open(bundle).segment(np.zeros((SIDE, SIDE, 3), np.uint8))
    assert [s.category.name for s in result.segments] == ["a", "c"]
    soft = np.full((1, 3, 8, 8), 0.1, np.float32)
    soft[:, 1] = 0.8
    file = write_onnx(tmp_path / "p.onnx", {"p": soft}, (SIDE, SIDE))
    settings = adopted(file, tmp_path / "p.panokit").manifest.postprocessing
    assert settings == SemanticConfig(input="probabilities")


def test_a_class_and_a_confidence_for_each_query(tmp_path: Path) -> None:
    """MaskConver's tensors: vectors, and masks with the queries last."""
    labels = np.array([[2, 0, 1, 0]], np.int64)
    confidence = np.array([[0.9, 0.8, 0.7, 0.001]], np.float32)
    masks = np.full((1, 8, 8, 4), -6, np.float32)
    masks[0, 1:5, 1:4, 1] = masks[0, 2:7, 5:8, 2] = 5
    masks[0, ..., 0] = np.where(masks[0, ..., 1:3].max(-1) > 0, -6, 4)
    outputs: dict[str, Any] = {
        "classes": labels, "confidence": confidence, "mask_proposal_logits": masks,
    }  # fmt: skip
    file = write_onnx(tmp_path / "m.onnx", outputs, (SIDE, SIDE), brightness={"confidence": 1e-6})
    said: list[str] = []
    decoding = replace(MASK_QUERY_PRESETS["maskconver"], min_thing_area=9, min_stuff_area=9)
    request = AdoptRequest((file,), tmp_path / "m.panokit", taxonomy=TAXONOMY, decoding=decoding)
    segmenter = Segmenter.open(adopt(request, photos(), said.append).bundle)
    assert "maskconver: 4 classes with confidences" in said[0]
    photo = photos()["photo0"]
    assert segmenter.segment(photo).counts == {"a": 1, "b": 1}
    dump = simulate_contract(photo, segmenter)
    assert validate_dump(dump, segmenter).verdict is Verdict.PASS
    wrong = replace(dump, tensors={**dump.tensors, "confidence": dump.tensors["confidence"][::-1]})
    assert validate_dump(wrong, segmenter, diagnose=True).verdict is Verdict.FAIL


def test_one_channel_and_labels_of_bytes(tmp_path: Path) -> None:
    one = np.full((1, 1, SIDE, SIDE), 0.3, np.float32)
    one[..., 16:] = 0.5
    file = write_onnx(tmp_path / "f.onnx", {"alphas": one}, (SIDE, SIDE))
    person = Taxonomy.from_json({"things": ["person"]})
    request = AdoptRequest((file,), tmp_path / "f.panokit", taxonomy=person)
    bundle = adopt(request, photos(), lambda text: None).bundle
    result = Segmenter.open(bundle).segment(np.zeros((SIDE, SIDE, 3), np.uint8))
    assert [(s.category.name, s.box_xyxy) for s in result.segments] == [("person", (16, 0, 32, 32))]
    labels = np.array([[0, 2]], np.uint8)
    (tensor,) = (FileTensor("x", (1, SIDE, SIDE), "uint8"),)
    assert guess_family((tensor,), (SIDE, SIDE)).family == "semantic-labels"
    spec = TensorSpec("x", (1, 1, 2), "uint8", "rows")
    assert dequantize({"semantic": labels}, {"semantic": spec})["semantic"].tolist() == [[0, 2]]


def test_a_core_ml_package_is_adopted_beside_another_file(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools is not installed (extra export)")
    from panokit_lab.export import ExportRequest, run_export
    from panokit_network.source import NetworkSource
    from tests.toys.contract_networks import YoloToy, taxonomy

    folder = tmp_path / "photos"
    folder.mkdir()
    for name, photo in photos().items():
        Image.fromarray(photo.rgb_hwc).save(folder / f"{name}.png")
    request = ExportRequest(
        None, tmp_path / "y.panokit", ("float32",), ("coreml", "onnx"), (96, 64), photos=(folder,)
    )
    made = run_export(request, source=NetworkSource.from_module(YoloToy().eval(), taxonomy()))
    files = tuple(made.bundle.path(a) for a in made.bundle.manifest.artifacts)
    again = AdoptRequest(files, tmp_path / "again.panokit", "yolo-seg", taxonomy(),
                         changes={"mean": (0.0,) * 3, "std": (1.0,) * 3})  # fmt: skip
    found = adopt(again, photos(), lambda text: None)
    assert [a.format for a in found.bundle.manifest.artifacts] == ["coreml", "onnx"]
    assert found.agreement["onnx-float32"]["detections"] > 60
    assert found.bundle.manifest.artifacts[0].input.layout == "image"
    broken = tmp_path / "broken.mlpackage"
    broken.mkdir()
    with pytest.raises(BundleError, match=r"expected an \.mlpackage folder"):
        adopt(replace(again, files=(broken,)), photos(), lambda text: None)


def test_two_files_of_one_network_are_compared(tmp_path: Path) -> None:
    files = (
        query_network(tmp_path / "a.onnx"),
        query_network(tmp_path / "b.onnx", brightness={"masks": 1e-5}),
    )
    request = AdoptRequest(files, tmp_path / "two.panokit", "mask2former", TAXONOMY)
    result = adopt(request, photos(), lambda text: None)
    assert [a.name for a in result.bundle.manifest.artifacts] == ["onnx-float32", "onnx-float32-2"]
    figures = result.agreement["onnx-float32-2"]
    assert figures["classes"] > 100
    assert 30 < figures["masks"] < 160


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and all that `panokit adopt` says, in one line."""
    command = [sys.executable, "-c", "from panokit.cli import main; main()", "adopt", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def odd_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no network for us, and a part of what must be said."""
    good: dict[str, NDArray[Any]] = {"s": np.zeros((1, 3, 8, 8), np.float32)}
    text = folder / "text.onnx"
    text.write_text("not a model")
    cut = folder / "cut.onnx"
    cut.write_bytes(query_network(folder / "whole.onnx").read_bytes()[:-200])
    suffix = folder / "model.pt"
    suffix.write_bytes(b"x")
    return {
        "text": (text, "text.onnx"),
        "cut": (cut, "cut.onnx"),
        "suffix": (suffix, ".tflite or .onnx"),
        "dynamic": (
            write_onnx(folder / "dynamic.onnx", good, (32, 32), shape=[1, 3, "h", "w"]),
            "fixed input size",
        ),
        "no picture": (
            write_onnx(folder / "flat.onnx", good, (32, 32), shape=[1, 4, 32, 32]),
            "expected one picture of 3 channels",
        ),
        "unknown": (
            write_onnx(folder / "u.onnx", {"m": np.zeros((1, 7, 7), np.float32)}, (32, 32)),
            "--contract",
        ),
        "missing": (folder / "none.onnx", "no such file"),
    }


def test_numbers_of_half_precision_and_pixels_last(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT16, [1, SIDE, SIDE, 3])
    heads = helper.make_tensor_value_info("s", TensorProto.FLOAT16, [1, SIDE, SIDE, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["s"])], "g", [image], [heads])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "half.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    bundle = adopted(tmp_path / "half.onnx", tmp_path / "half.panokit")
    artifact = bundle.manifest.artifacts[0]
    assert (artifact.input.layout, artifact.input.dtype) == ("nhwc", "float16")
    red = np.zeros((SIDE, SIDE, 3), np.uint8)
    red[..., 0] = 255
    assert [s.category.name for s in Segmenter.open(bundle).segment(red).segments] == ["a"]


def test_files_that_are_more_than_a_graph_of_numbers_are_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    file = query_network(tmp_path / "m.onnx")
    model = onnx.load(str(file))
    onnx.save(model, str(tmp_path / "apart.onnx"), save_as_external_data=True, size_threshold=0)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    out = helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    body = helper.make_graph([helper.make_node("Relu", ["image"], ["t"])], "b", [], [
        helper.make_tensor_value_info("t", TensorProto.FLOAT, [1, 3, SIDE, SIDE])])  # fmt: skip
    for name, node in (
        ("branches", helper.make_node("If", ["flag"], ["s"], then_branch=body, else_branch=body)),
        ("foreign", helper.make_node("Magic", ["image"], ["s"], domain="com.example")),
    ):
        flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
        graph = helper.make_graph([node], "g", [image], [out], [flag])
        whole = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.example", 1)],
            ir_version=8,
        )
        (tmp_path / f"{name}.onnx").write_bytes(whole.SerializeToString())
    for name in ("apart", "branches", "foreign"):
        with pytest.raises(PanokitError, match=f"{name}.onnx"):
            adopted(tmp_path / f"{name}.onnx", tmp_path / f"{name}.panokit")


def test_odd_files_get_a_sentence(tmp_path: Path) -> None:
    for name, (file, told) in odd_files(tmp_path).items():
        out = tmp_path / f"{name}.panokit"
        request = AdoptRequest((file,), out, taxonomy=TAXONOMY)
        with pytest.raises(PanokitError) as caught:
            adopt(request, photos(), lambda text: None)
        assert told in str(caught.value), name
        assert not out.exists()


def test_without_classes_it_says_how_to_give_them(tmp_path: Path) -> None:
    file = query_network(tmp_path / "m.onnx")
    request = AdoptRequest((file,), tmp_path / "q.panokit", "mask2former")
    with pytest.raises(UsageError, match="--taxonomy"):
        adopt(request, photos(), lambda text: None)
    wrong = Taxonomy.from_json({"things": ["only"]})
    request = AdoptRequest((file,), tmp_path / "q.panokit", "mask2former", wrong)
    with pytest.raises(PanokitError, match=r"has 1 classes \(only"):
        adopt(request, photos(), lambda text: None)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    query_network(tmp_path / "m.onnx")
    (tmp_path / "classes.json").write_text(json.dumps(TAXONOMY.to_json()))
    code, said = run(
        "m.onnx", "--taxonomy", "classes.json", "--contract", "eomt",
        "--map", "classes=logits", "--map", "masks=masks", "--mean", "127.5", "--std", "127.5",
        "--fit", "stretch", "--out", "q.panokit", "--json", "q.json",
    )  # fmt: skip
    assert code == 0, said
    told = json.loads((tmp_path / "q.json").read_text())
    assert (told["contract"], told["classes"]) == ("mask-queries", 3)
    preprocessing = Bundle.open("q.panokit").manifest.preprocessing
    assert (preprocessing.fit, preprocessing.std) == ("stretch", (127.5,) * 3)
    for arguments, sentence in (
        (("--map", "masks"), "HEAD=TENSOR"),
        (("--mean", "a,b"), "--mean"),
        (("--contract", "mask3former"), "did you mean 'maskformer'"),
        (("--contract", "eomt", "--map", "masks=mask"), "did you mean 'masks'"),
    ):
        code, said = run("m.onnx", "--taxonomy", "classes.json", "--out", "r.panokit", *arguments)
        assert code == 2, said
        assert sentence in said


def test_faults_are_asked_for_by_name(queries: Segmenter) -> None:
    manifest = queries.bundle.manifest
    known = (manifest.postprocessing, manifest.preprocessing, manifest.taxonomy)
    assert named_fault("threshold:0-5", *known).settings is not None
    with pytest.raises(PanokitError, match="threshold:0-5"):
        named_fault("no-such", *known)


def test_a_trained_public_network_from_file_to_a_named_fault(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root.parent / "shared" / "teachers" / "models" / "yolo11n-seg_int8.tflite"
    if not file.is_file():
        pytest.skip("the networks ../shared/teachers are not here")
    from panokit.samples import sample_photos

    monkeypatch.chdir(tmp_path)
    code, said = run(str(file), "--out", "yolo.panokit")
    assert code == 0, said
    segmenter = Segmenter.open("yolo.panokit")
    samples = {name: Photo.open(path) for name, path in sample_photos().items()}
    assert segmenter.segment(samples["astronaut"]).counts == {"person": 1}
    assert segmenter.segment(samples["chelsea"]).counts == {"cat": 1}
    manifest = segmenter.bundle.manifest
    known = (manifest.postprocessing, manifest.preprocessing, manifest.taxonomy)
    for name in ("box-form", "mask-crop:never", "normalisation:0-255", "bgr"):
        dump = simulate_contract(samples["astronaut"], segmenter, named_fault(name, *known))
        verdict = validate_dump(dump, segmenter, diagnose=True)
        assert verdict.causes[0].name == name.partition(":")[0]


def test_what_is_of_one_contract_only_says_so(queries: Segmenter, tmp_path: Path) -> None:
    from panokit.vectors.golden import write_golden_tests

    with pytest.raises(PanokitError, match="contract is 'mask-queries'"):
        write_golden_tests(tmp_path / "golden", "junit", queries.bundle)


def test_a_bundle_of_another_contract_is_verified(queries: Segmenter) -> None:
    from panokit_converters.verify import verify_bundle

    (verdict,) = verify_bundle(queries.bundle, photos())
    assert verdict.passed
    assert verdict.golden is not None
    assert verdict.golden.identical
