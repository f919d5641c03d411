"""Every way to store a Core ML package's weights: what it needs, what it saves, that it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from panokit.bundle import path_bytes
from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_compression import CalibrationSet, Recipe, load_recipe, recipe_names
from panokit_compression.coreml import CoreMlForm, coreml_form, fit_storage
from panokit_compression.prune import sparsify
from panokit_compression.recipes import LinearWeights, Palettize, Sparsify
from panokit_compression.rounding import round_module
from panokit_converters.contract import check_contract, run_heads
from panokit_converters.coreml import coreml_specs, write_coreml
from panokit_converters.coreml_interpreter import CoreMLProgram
from panokit_converters.interface import HEADS
from panokit_converters.model_info import ModelInfo
from panokit_lab.artifacts import Maker, palettes_for

pytestmark = pytest.mark.slow

SIZE = 16


class Wide(nn.Module):
    """One convolution large enough to be worth compressing, stride 4."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 64, 4, stride=4)
        self.heads = nn.Conv2d(64, 4 + 3, 3, padding=1)
        with torch.no_grad():
            self.patch.weight /= 128

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        semantic, center, offset = self.heads(torch.relu(self.patch(image))).split([4, 1, 2], 1)
        return {"semantic": semantic, "center": center, "offset": offset}


def _info(classes: int) -> ModelInfo:
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(classes)]
    return ModelInfo("toy", Taxonomy.from_json({"name": "t", "categories": categories}), "", "1")


IMAGE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)


def _sqnr_db(program: CoreMLProgram, module: nn.Module) -> dict[str, float]:
    """Signal-to-noise ratio of each head of the program against the module, dB."""
    found = program.run({"image": IMAGE})
    heads = run_heads(module, torch.from_numpy(IMAGE.copy()).permute(2, 0, 1)[None].float())
    ratios = {}
    for head in HEADS:
        expected = heads[head].numpy()
        noise = ((found[head].astype(np.float32) - expected) ** 2).sum()
        ratios[head] = float(10 * np.log10((expected**2).sum() / max(noise, 1e-30)))
    return ratios


FORMS = {
    # recipe: precision, oldest system, least SQNR in dB (16 values are good for about 20 dB in the
    # mean; a single head may be worse off)
    "float32": ("float32", "iOS 16, macOS 13", 100),
    "float16": ("float16", "iOS 16, macOS 13", 45),
    "int8": ("int8-weights", "iOS 16, macOS 13", 30),
    "coreml-int4": ("int4-weights", "iOS 18, macOS 15", 15),
    "coreml-palette8": ("palette8", "iOS 16, macOS 13", 30),
    "coreml-palette4": ("palette4", "iOS 16, macOS 13", 12),
    "coreml-palette4-grouped": ("palette4", "iOS 18, macOS 15", 15),
    "coreml-sparse50": ("sparse50", "iOS 16, macOS 13", 3),
    "coreml-sparse50-int8": ("sparse50-int8-weights", "iOS 18, macOS 15", 3),
    "coreml-sparse50-palette4": ("sparse50-palette4", "iOS 18, macOS 15", 3),
}


@pytest.mark.parametrize("recipe", FORMS)
def test_a_form(recipe: str, tmp_path: Path) -> None:
    precision, oldest, decibel = FORMS[recipe]
    form = coreml_form(load_recipe(recipe))
    assert form is not None
    assert (form.precision, form.minimum_os) == (precision, oldest)
    module = Wide().eval()
    contract = check_contract(module, (SIZE, SIZE), 4)
    path = tmp_path / "m.mlpackage"
    write_coreml(module, contract, _info(4), path, form)
    program = CoreMLProgram.open(path)
    dtypes = {spec.dtype for spec in coreml_specs(contract, form)[1].values()}
    found = program.run({"image": IMAGE})
    assert set(found) == set(HEADS)
    for head in HEADS:
        assert {found[head].dtype.name} == dtypes
    assert min(_sqnr_db(program, module).values()) >= decibel
    if form.sparsity or form.weights:
        kinds = {o.type for o in program.operators if o.type.startswith("constexpr")}
        assert kinds, "nothing is compressed"
        dense = tmp_path / "dense.mlpackage"
        write_coreml(module, contract, _info(4), dense, CoreMlForm())
        assert path_bytes(path / "Data" / "com.apple.CoreML" / "weights") < path_bytes(
            dense / "Data" / "com.apple.CoreML" / "weights"
        )


class Separable(Wide):
    """With a depthwise layer as large as the dense ones that are made sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Conv2d(64, 64, 7, padding=3, groups=64)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.around(torch.relu(self.patch(image)))
        semantic, center, offset = self.heads(x).split([4, 1, 2], 1)
        return {"semantic": semantic, "center": center, "offset": offset}


def test_the_zeros_of_a_sparse_network_are_stored_and_no_others(tmp_path: Path) -> None:
    module = Separable().eval()
    assert sparsify(module, Sparsify(0.5)).keys() == {"patch.weight", "heads.weight"}
    contract = check_contract(module, (SIZE, SIZE), 4)
    path = tmp_path / "m.mlpackage"
    form = coreml_form(load_recipe("coreml-sparse50"))
    assert form is not None
    write_coreml(module, contract, _info(4), path, form)
    program = CoreMLProgram.open(path)
    assert sum(o.type == "constexpr_sparse_to_dense" for o in program.operators) == 2
    assert min(_sqnr_db(program, module).values()) >= 40


GROUPS, BLOCKS = Palettize(4, "per_grouped_channel", 16), LinearWeights(4, "per_block", 32)


@pytest.mark.parametrize(
    ("asked", "shape", "transposed", "expected"),
    [
        pytest.param(GROUPS, (64, 8, 1, 1), False, GROUPS, id="divides"),
        pytest.param(GROUPS, (8, 64, 1, 1), True, GROUPS, id="transposed"),
        pytest.param(GROUPS, (24, 8, 1, 1), False, replace(GROUPS, group_size=12), id="smaller"),
        pytest.param(GROUPS, (12, 64, 3, 3), False, replace(GROUPS, group_size=12), id="all"),
        pytest.param(GROUPS, (58, 64, 3, 3), False, Palettize(4), id="no-group"),
        pytest.param(GROUPS, (4096,), False, Palettize(4), id="vector"),
        pytest.param(BLOCKS, (8, 64), False, BLOCKS, id="blocks"),
        pytest.param(BLOCKS, (8, 72, 1, 1), False, replace(BLOCKS, block_size=24), id="fewer"),
        pytest.param(BLOCKS, (64, 19, 3, 3), False, replace(BLOCKS, block_size=19), id="all-in"),
        pytest.param(BLOCKS, (64, 53, 3, 3), False, LinearWeights(4), id="no-block"),
        pytest.param(BLOCKS, (64, 1, 7, 7), False, LinearWeights(8), id="depthwise"),
        pytest.param(BLOCKS, (4096,), False, LinearWeights(8), id="bias"),
    ],
)
def test_groups_and_blocks_fit_the_channels(
    asked: Any, shape: tuple[int, ...], transposed: bool, expected: Any
) -> None:
    assert fit_storage(asked, shape, transposed) == expected


@pytest.mark.parametrize(
    ("weights", "kind"),
    [(GROUPS, "constexpr_lut_to_dense"), (BLOCKS, "constexpr_blockwise_shift_scale")],
    ids=["groups", "blocks"],
)
def test_no_layer_stays_in_float_for_want_of_a_divisor(
    weights: Any, kind: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)

    class Odd(Wide):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 56, 4, stride=4)
            self.around = nn.Conv2d(56, 56, 7, padding=3, groups=56)
            self.mix = nn.Conv2d(56, 53, 1)
            self.heads = nn.Conv2d(53, 4 + 3, 3, padding=1)

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            x = self.mix(self.around(torch.relu(self.patch(image))))
            semantic, center, offset = self.heads(x).split([4, 1, 2], 1)
            return {"semantic": semantic, "center": center, "offset": offset}

    module = Odd().eval()
    contract = check_contract(module, (SIZE, SIZE), 4)
    path = tmp_path / "m.mlpackage"
    write_coreml(module, contract, _info(4), path, CoreMlForm("float16", 0.0, weights))
    program = CoreMLProgram.open(path)
    layers = [o for o in program.operators if o.type == "conv"]
    assert len(layers) == 4
    assert sum(o.type == kind for o in program.operators) == 4
    assert min(_sqnr_db(program, module).values()) >= 8


def test_palettes_whose_errors_compensate(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Separable().eval()
    contract = check_contract(module, (SIZE, SIZE), 4)
    coarse = np.random.default_rng(0).integers(0, 256, (17, SIZE // 4, SIZE // 4, 3))
    images = coarse.repeat(4, 1).repeat(4, 2).astype(np.uint8)  # neighbours go together
    names = tuple(f"photo {i}" for i in range(16))
    photos = CalibrationSet(tuple(images[:16]), names, "test")
    maker = Maker(module, contract, _info(4), tmp_path, calibration=photos)
    step = Palettize(3, "per_grouped_channel", 16)
    careful = replace(step, rounding="compensated", calibration_photos=16)
    heads = run_heads(module, torch.from_numpy(images[16].copy()).permute(2, 0, 1)[None].float())

    def error(recipe: Recipe) -> float:
        found = CoreMLProgram.open(maker.make("coreml", recipe).path).run({"image": images[16]})
        pairs = [(found[h].astype(np.float32), heads[h].numpy()) for h in HEADS]
        return sum(float(((a - b) ** 2).sum() / (b**2).sum()) for a, b in pairs)

    assert error(Recipe("careful", (careful,))) < 0.7 * error(Recipe("plain", (step,)))
    path = tmp_path / "Model-careful.mlpackage"
    weights = [parts["weight"][0] for o, parts in CoreMLProgram.open(path).wiring()
               if o.type == "conv"]  # fmt: skip
    rounded, count = round_module(module, maker.float_tflite, photos, palettes_for(careful))
    assert count == 3
    convs = [m for m in rounded.modules() if isinstance(m, nn.Conv2d)]
    expected = {tuple(c.weight.shape): c.weight.detach().numpy() for c in convs}
    for weight in weights:  # stored as chosen, to the bit
        np.testing.assert_array_equal(weight, expected[np.shape(weight)])


def test_compensated_palettes_need_photos(tmp_path: Path) -> None:
    module = Wide().eval()
    maker = Maker(module, check_contract(module, (SIZE, SIZE), 4), _info(4), tmp_path)
    with pytest.raises(ArgumentError, match="at least 32 inputs"):
        maker.make("coreml", load_recipe("coreml-palette4-compensated"))


def test_every_recipe_has_a_form_or_none() -> None:
    without = {name for name in recipe_names() if coreml_form(load_recipe(name)) is None}
    assert {"int16x8", "int4-weights", "int8-dynamic"} <= without
    assert not [name for name in without if name.startswith("coreml-")]


@pytest.mark.parametrize(
    "values", [{"compute": "int8"}, {"sparsity": 1.0}, {"sparsity": -0.1}],
    ids=["compute", "all-zero", "negative"],
)  # fmt: skip
def test_impossible_forms(values: dict) -> None:
    with pytest.raises(ArgumentError):
        CoreMlForm(**values)
