"""A package that nothing here can run is written, and said not to be checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from panokit.taxonomy import Taxonomy
from panokit_converters.runners import NotRunHereError
from panokit_lab import export as module
from panokit_lab.artifacts import artifact_runtime
from panokit_lab.export import ExportRequest, run_export
from panokit_network.source import NetworkSource
from tests.toys.data_folder import CATEGORIES
from tests.toys.network import toy_photos
from tests.toys.user_network import SIZE, TinyPanoptic

pytestmark = pytest.mark.slow


def test_the_others_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = artifact_runtime

    def runtime(path: Path, artifact: object) -> object:
        if path.suffix == ".mlpackage":
            raise NotRunHereError(path, "operator 'x' (x) at main[3]: is not run here")
        return run(path, artifact)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "artifact_runtime", runtime)
    (tmp_path / "photos").mkdir()
    for name, photo in toy_photos(3).items():
        Image.fromarray(photo.rgb_hwc).save(tmp_path / "photos" / f"{name}.png")
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": CATEGORIES})
    source = NetworkSource.from_module(TinyPanoptic().eval(), taxonomy)
    request = ExportRequest(
        weights=None, out=tmp_path / "a.panokit", recipes=("float32",), formats=("onnx", "coreml"),
        size=SIZE, photos=(tmp_path / "photos",),
    )  # fmt: skip
    result = run_export(request, source=source)
    assert [a.name for a in result.bundle.manifest.artifacts] == ["onnx-float32", "coreml-float32"]
    assert list(result.checks) == ["onnx-float32"]
    assert "operator 'x'" in result.unchecked["coreml-float32"]
    assert result.failed == {}
    said = result.bundle.manifest.quality["artifacts"]["coreml-float32"]
    assert "operator 'x'" in said["not_checked"]
    assert {v.artifact for v in result.bundle.manifest.vectors} == {"onnx-float32"}
