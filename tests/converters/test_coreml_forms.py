"""Every way to store a Core ML package's weights: what it needs, what it saves, that it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from panokit.bundle import path_bytes
from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_compression import load_recipe, recipe_names
from panokit_compression.prune import sparsify
from panokit_compression.recipes import Sparsify
from panokit_converters.contract import HEADS, check_contract, run_heads
from panokit_converters.coreml import coreml_specs, write_coreml
from panokit_converters.coreml_forms import CoreMlForm, coreml_form
from panokit_converters.coreml_interpreter import CoreMLProgram
from panokit_converters.tflite_metadata import ModelInfo

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
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(4)]
    info = ModelInfo("toy", Taxonomy.from_json({"name": "t", "categories": categories}), "", "1")
    write_coreml(module, contract, info, path, form)
    program = CoreMLProgram.open(path)
    dtypes = {spec.dtype for spec in coreml_specs(contract, form)[1].values()}
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    found = program.run({"image": image})
    heads = run_heads(module, torch.from_numpy(image).permute(2, 0, 1)[None].float())
    for head in HEADS:
        assert {found[head].dtype.name} == dtypes
        expected = heads[head].numpy()
        noise = ((found[head].astype(np.float32) - expected) ** 2).sum()
        assert 10 * np.log10((expected**2).sum() / max(noise, 1e-30)) >= decibel
    if form.sparsity or form.weights:
        kinds = {o.type for o in program.operators if o.type.startswith("constexpr")}
        assert kinds, "nothing is compressed"
        dense = tmp_path / "dense.mlpackage"
        write_coreml(module, contract, info, dense, CoreMlForm())
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
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(4)]
    info = ModelInfo("toy", Taxonomy.from_json({"name": "t", "categories": categories}), "", "1")
    form = coreml_form(load_recipe("coreml-sparse50"))
    assert form is not None
    write_coreml(module, contract, info, path, form)
    program = CoreMLProgram.open(path)
    assert sum(o.type == "constexpr_sparse_to_dense" for o in program.operators) == 2
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    found = program.run({"image": image})
    heads = run_heads(module, torch.from_numpy(image).permute(2, 0, 1)[None].float())
    for head in HEADS:
        expected = heads[head].numpy()
        noise = ((found[head].astype(np.float32) - expected) ** 2).sum()
        assert 10 * np.log10((expected**2).sum() / noise) >= 40


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
