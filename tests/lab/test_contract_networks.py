"""Networks of every contract through export, verify, compression and back in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from panokit.bundle import Bundle
from panokit.errors import ArgumentError, ExportError, PanokitError, UsageError
from panokit.families import FAMILIES
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit.tflite.read import read_tflite
from panokit_compression.recipes import Finetune, Qat, Quantize, Recipe, load_recipe
from panokit_converters.adapt import ContractModule, KnownOfModule, adapt
from panokit_converters.contract import check_contract, run_heads
from panokit_converters.verify import verify_bundle
from panokit_datasets.quality.evaluate import Prediction
from panokit_datasets.quality.predictor import predictor
from panokit_lab.export import ExportRequest, ExportResult, run_export
from panokit_lab.pipeline import run_recipe
from panokit_lab.setup import ExperimentRequest
from panokit_network.source import NetworkSource
from tests.toys.contract_networks import (
    SIZE_WH,
    Branching,
    Detections,
    LabelToy,
    QueryToy,
    SemanticToy,
    YoloToy,
    taxonomy,
)

SEMANTIC = KnownOfModule("torchvision-semantic", changes={"std": (255.0,) * 3, "mean": (0.0,) * 3})
KNOWN = {
    "queries": (QueryToy, KnownOfModule("transformers-maskformer"), "mask-queries"),
    "semantic": (SemanticToy, SEMANTIC, "semantic"),
    "labels": (LabelToy, KnownOfModule("semantic-labels"), "semantic"),
    "yolo": (YoloToy, KnownOfModule(), "instances"),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for i in range(4):
        small = random.integers(0, 256, (6, 8, 3), np.uint8)
        picture = Image.fromarray(small).resize((120 + 10 * i, 90), Image.Resampling.BICUBIC)
        picture.save(folder / f"p{i}.png")
    return folder


def exported(name: str, out: Path, photos: Path, **changes: Any) -> ExportResult:
    kind, known, _ = KNOWN[name]
    options: dict[str, Any] = {
        "recipes": ("float32",), "formats": ("tflite", "onnx", "coreml"), "size": SIZE_WH,
        "photos": (photos,), "known": known,
    } | changes  # fmt: skip
    source = NetworkSource.from_module(kind().eval(), taxonomy(), name)
    return run_export(ExportRequest(None, out / f"{name}.panokit", **options), source=source)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_every_format_computes_what_the_module_does(
    name: str, tmp_path: Path, photos: Path
) -> None:
    result = exported(name, tmp_path, photos)
    assert not result.failed
    assert not result.unchecked
    assert len(result.checks) == 3
    for check in result.checks.values():
        assert check.failures == ()
    manifest = result.bundle.manifest
    assert manifest.postprocessing.contract == KNOWN[name][2]
    assert not manifest.preprocessing.is_scaled  # the scale is in the graph
    verdicts = verify_bundle(result.bundle)
    assert all(v.passed for v in verdicts), [v.failures for v in verdicts]
    predict = predictor(Segmenter.open(result.bundle, "onnx-float32"))
    found = Prediction(*predict(Photo.open(photos / "p0.png")))  # what `panokit evaluate` takes
    assert found[0].shape == (90, 120)
    assert len(found[1]) == len(np.unique(found[0][found[0] > 0]))
    maps = [
        Segmenter.open(result.bundle, artifact).segment(photos / "p0.png")
        for artifact in ("tflite-float32", "onnx-float32")
    ]
    assert maps[0].id_map.max() > 0
    assert np.mean(maps[0].id_map == maps[1].id_map) > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("name", ["queries", "yolo"])
def test_int8_in_onnx_where_layers_share_a_weight(name: str, tmp_path: Path, photos: Path) -> None:
    """onnxruntime fails on such files when it is asked for exact sums, and not otherwise."""
    result = exported(name, tmp_path, photos, recipes=("int8",), formats=("onnx",), strict=False)
    agreement = result.checks["onnx-int8"].agreement
    assert agreement.panoptic is not None
    assert agreement.panoptic.equal_pixels > 0.9


def test_what_an_export_notices_is_told(tmp_path: Path, photos: Path) -> None:
    """Things that become one segment, a keep without a form, maps that say nothing."""
    recipe = load_recipe("int8").to_json()
    recipe |= {"name": "mine", "steps": [{**recipe["steps"][0], "keep": ["stem"]}]}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(recipe))
    result = exported(
        "semantic", tmp_path, photos, recipes=(str(path),), formats=("onnx",), strict=False
    )
    assert any("cat, dog" in r and "one segment each" in r for r in result.remarks)
    assert any("keep is for TFLite" in r for r in result.remarks)
    assert any(r.endswith("others calibrated") for r in result.remarks)

    class Blank(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            small = torch.nn.functional.avg_pool2d(x, 4)
            return torch.cat([small[:, :1] * 0 + 9, small * 0.01], 1)

    source = NetworkSource.from_module(Blank().eval(), taxonomy(), "blank")
    request = ExportRequest(
        None, tmp_path / "b.panokit", ("float32",), ("onnx",), size=SIZE_WH, photos=(photos,)
    )
    blank = run_export(request, source=source)
    assert any("equal pixels and PQ say nothing" in w for w in blank.warnings)
    assert not any("say nothing" in w for w in result.warnings)


def test_the_photo_lies_where_the_family_wants_it(tmp_path: Path, photos: Path) -> None:
    result = exported("queries", tmp_path, photos, formats=("onnx",))
    assert result.bundle.manifest.preprocessing.fit == "stretch"
    assert any("taken for transformers-maskformer" in r for r in result.remarks)
    artifact = result.bundle.manifest.artifact("onnx-float32")
    assert {n: s.layout for n, s in artifact.outputs.items()} == {
        "classes": "rows", "masks": "nchw",
    }  # fmt: skip


def image(seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, SIZE_WH[1], SIZE_WH[0]), generator=random).float()


def test_the_input_is_scaled_and_turned_round_in_the_module() -> None:
    toy = SemanticToy().eval()
    changes = {"mean": (10.0, 20.0, 30.0), "std": (50.0, 60.0, 70.0), "order": "bgr"}
    found = adapt(toy, SIZE_WH, KnownOfModule("semantic", changes=changes))
    assert isinstance(found.module, ContractModule)
    x = image()
    scaled = (x[:, [2, 1, 0]] - torch.tensor([10.0, 20, 30])[:, None, None]) / torch.tensor(
        [50.0, 60, 70]
    )[:, None, None]
    with torch.inference_mode():
        wanted, got = toy(scaled)["out"], found.module(x)["semantic"]
    torch.testing.assert_close(got, wanted)
    assert (found.preprocessing.order, found.preprocessing.is_scaled) == ("rgb", False)


def test_outputs_are_found_by_shape_wherever_they_lie() -> None:
    toy = YoloToy().eval()
    found = adapt(toy, SIZE_WH, KnownOfModule())
    assert found.family == "yolo-seg"
    assert "anchors" in found.why
    with torch.inference_mode():
        heads = run_heads(found.module, image(), ("detections", "prototypes"))
        detections, (prototypes,) = toy(image() / 255)
    torch.testing.assert_close(heads["detections"], detections.transpose(1, 2))
    torch.testing.assert_close(heads["prototypes"], prototypes)
    contract = check_contract(found.module, SIZE_WH, taxonomy(), found.decoding)
    assert contract.heads["detections"].shape == (12 * 8 + 6 * 4 + 3 * 2, 4 + 2 + 4)


def test_outputs_are_named_by_the_user() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return {"a": x[:, :, ::8, ::8], "b": (x[:, :, ::4, ::4].permute(0, 2, 3, 1), x.mean())}

    known = KnownOfModule("semantic", {"semantic": "b.0"})
    found = adapt(Odd().eval(), SIZE_WH, known)
    with torch.inference_mode():
        semantic = found.module(image())["semantic"]
    torch.testing.assert_close(semantic, image()[:, :, ::4, ::4])
    with pytest.raises(ArgumentError, match="no tensor 'c'"):
        adapt(Odd().eval(), SIZE_WH, KnownOfModule("semantic", {"semantic": "c"}))
    with pytest.raises(PanokitError, match=r"a \(1, 3, 8, 12\).*--contract"):
        adapt(Odd().eval(), SIZE_WH, KnownOfModule())


def test_a_class_of_transformers_is_known_by_its_name() -> None:
    kind = type("EomtForUniversalSegmentation", (QueryToy,), {})
    found = adapt(kind().eval(), SIZE_WH, KnownOfModule())
    assert found.decoding == FAMILIES["transformers-eomt"].decoding
    assert found.why == "it is a EomtForUniversalSegmentation"


@pytest.mark.parametrize(
    ("module", "known", "message"),
    [
        pytest.param(Detections, KnownOfModule(), "finished detections.*YOLO-seg", id="mask-rcnn"),
        pytest.param(nn.Flatten, KnownOfModule(), "without tensors", id="flat"),
        pytest.param(
            SemanticToy, KnownOfModule("mask2former"), "--map lacks classes, masks", id="family"
        ),
    ],
)
def test_what_is_no_known_network_gets_a_sentence(
    module: Callable[[], nn.Module], known: KnownOfModule, message: str
) -> None:
    with pytest.raises(PanokitError, match=message):
        adapt(module().eval(), SIZE_WH, known)


def test_another_number_of_classes_is_told() -> None:
    found = adapt(QueryToy().eval(), SIZE_WH, KnownOfModule())
    other = replace(taxonomy(), categories=taxonomy().categories[:3])
    with pytest.raises(ArgumentError, match=r"classes has shape \(8, 5\); expected \(queries, 4\)"):
        check_contract(found.module, SIZE_WH, other, found.decoding)


@pytest.mark.slow
def test_what_weights_decide_is_exported_and_what_the_picture_decides_is_not(
    tmp_path: Path, photos: Path
) -> None:
    for by_image in (False, True):
        source = NetworkSource.from_module(Branching(by_image).eval(), taxonomy(), "branching")
        request = ExportRequest(
            None, tmp_path / f"b{by_image}.panokit", ("float32",), ("tflite",), SIZE_WH,
            photos=(photos,), known=SEMANTIC,
        )  # fmt: skip
        if by_image:
            with pytest.raises(ExportError, match=r"data-dependent|cannot convert"):
                run_export(request, source=source)
        else:
            assert not run_export(request, source=source).failed


@pytest.mark.slow
def test_from_the_command_line(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panokit.cli.shell import app

    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps(taxonomy().to_json()))
    monkeypatch.chdir(Path(__file__).parents[2])
    out = tmp_path / "toy.panokit"
    common = ["--taxonomy", str(classes), "--size", "96x64", "--photos", str(photos)]
    module = ["--module", "tests.toys.contract_networks:build_yolo"]
    done = CliRunner().invoke(
        app, ["export", *module, *common, "--recipe", "float32,int8", "--formats", "tflite",
              "--out", str(out), "--no-strict"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "taken for yolo-seg" in " ".join(done.output.split())
    bundle = Bundle.open(out)
    assert bundle.manifest.postprocessing.contract == "instances"
    assert {a.precision for a in bundle.manifest.artifacts} == {"float32", "int8"}
    done = CliRunner().invoke(app, ["verify", str(out), "--photos", str(photos), "--bisect"])
    assert "detections, prototypes" in " ".join(done.output.split())
    bad = ["export", "--contract", "eomt", "--out", str(out)]
    done = CliRunner().invoke(app, bad)
    assert isinstance(done.exception, UsageError) or done.exit_code == 2


@pytest.mark.slow
def test_a_query_network_is_trained_on_and_loaded_again(tmp_path: Path, photos: Path) -> None:
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps(taxonomy().to_json()))
    module = "tests.toys.contract_networks:build_queries"
    request = ExperimentRequest(
        tmp_path / "out", module=module, taxonomy=classes, photos=(photos,), size=SIZE_WH,
        known=KnownOfModule("transformers-maskformer"),
    )  # fmt: skip
    step = Finetune(samples=8, batch=4, size=SIZE_WH, learning_rate=1e-4, distil=1.0)
    qat = Qat(samples=4, batch=2, size=SIZE_WH, learning_rate=1e-4, distil=1.0)
    store = Quantize("int8", ranges="mean", calibration_photos=16)
    recipe = Recipe("tuned", (step, qat, store))
    setup = request.open([recipe])
    result = run_recipe(setup, recipe, tmp_path / "out")
    assert not result.failures
    for figures in result.artifacts.values():
        assert figures.sqnr_db is not None
        assert set(figures.sqnr_db) == {"classes", "masks"}
    trained = tmp_path / "out" / "tuned" / "network.safetensors"
    again = NetworkSource.from_import(module, trained, taxonomy())
    assert again.steps_done == ("finetune", "qat")
    labelled = Recipe("labelled", (replace(step, distil=0.5),))
    with pytest.raises(UsageError, match="needs --data, or distil 1"):
        run_recipe(request.open([labelled]), labelled, tmp_path / "out")


def test_sixteen_bits_leave_out_what_has_no_such_kernel(tmp_path: Path, photos: Path) -> None:
    """LiteRT has no GELU of 16 bits."""
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps(taxonomy().to_json()))
    request = ExperimentRequest(
        tmp_path / "out", module="tests.toys.contract_networks:build_queries", taxonomy=classes,
        photos=(photos,), size=SIZE_WH, known=KnownOfModule("transformers-maskformer"),
    )  # fmt: skip
    recipe = Recipe("wide", (Quantize("int16x8", ranges="mean", calibration_photos=16),))
    result = run_recipe(request.open([recipe]), recipe, tmp_path / "out")
    assert not result.failures
    graph = read_tflite((tmp_path / "out" / "wide" / "model.tflite").read_bytes()).main
    types = {o.name: graph.tensors[o.inputs[0]].dtype for o in graph.operators}
    assert types["GELU"] == "float32"
    assert types["FULLY_CONNECTED"] == "int16"
