"""Our TFLite files in the last tflite-runtime (2.14, 2023), which many Android apps still are.

It needs NumPy 1 and thus an environment of its own, made once beside this one; and a process of
its own, because on what it does not know it may crash rather than raise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy
from panokit_compression import calibration_from_photos, load_recipe, quantize
from panokit_converters.model_info import ModelInfo
from panokit_converters.tflite.convert import convert_tflite
from panokit_converters.tflite.inputs import with_input
from panokit_converters.tflite.inspect import tflite_specs
from panokit_converters.tflite.metadata import with_metadata
from tests.toys.network import ToyNetwork, toy_photos

SIZE = 32
REQUIREMENTS = ("tflite-runtime==2.14.0", "numpy==1.26.4")

RUN = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
model, image, out = sys.argv[1:]
interpreter = Interpreter(model_path=model)
interpreter.allocate_tensors()
runner = interpreter.get_signature_runner()
heads = runner(image=np.load(image))
np.savez(out, **heads)
"""


@pytest.fixture(scope="session")
def legacy_python(request: pytest.FixtureRequest) -> Path:
    """The Python of an environment with tflite-runtime; PANOKIT_LEGACY_PYTHON names one, and
    PANOKIT_INSTALL_TESTS=1 lets the tests make one."""
    if given := os.environ.get("PANOKIT_LEGACY_PYTHON"):
        return Path(given)
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        pytest.skip("tflite-runtime 2.14 has wheels for Python 3.11 on Linux only")
    home = Path(sys.prefix) / "legacy-tflite"
    python, ready = home / "bin" / "python", home / ".ready"
    if not ready.is_file():
        request.getfixturevalue("installs_packages")
        commands = (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             *REQUIREMENTS],
        )  # fmt: skip
        try:
            for command in commands:
                subprocess.run(command, check=True, capture_output=True, timeout=180)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"no environment for tflite-runtime 2.14 could be made: {error}")
        ready.touch()
    return python


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The toy network as exported, by precision and input."""
    content = convert_tflite(ToyNetwork().eval(), (SIZE, SIZE))
    calibration = calibration_from_photos(toy_photos(32), 32, PreprocessConfig((SIZE, SIZE)))
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(4)]
    info = ModelInfo("toy", Taxonomy.from_json({"name": "toy", "categories": categories}), "", "1")
    return {
        f"{precision}-{kind}": with_metadata(
            with_input(quantize(content, load_recipe(precision), calibration), kind), info
        )
        for precision in ("float32", "float16", "int8")
        for kind in ("native", "uint8")
    }


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("kind", ["native", "uint8"])
def test_the_same_heads_within_rounding(
    legacy_python: Path, files: dict[str, bytes], tmp_path: Path, precision: str, kind: str
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    content = files[f"{precision}-{kind}"]
    (tmp_path / "model.tflite").write_bytes(content)
    image_spec, head_specs = tflite_specs(content)
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3))
    image = (pixels + (image_spec.zero_point or 0)).astype(image_spec.dtype)
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "run.py").write_text(RUN)
    names = ("run.py", "model.tflite", "image.npy", "heads.npz")
    done = subprocess.run(
        [str(legacy_python), *(str(tmp_path / name) for name in names)],
        capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, json.dumps(done.stderr[-2000:])
    expected = Interpreter(model_content=content).get_signature_runner()(image=image)
    with np.load(tmp_path / "heads.npz") as found:
        assert set(found) == set(expected)
        for head, values in expected.items():
            if head_specs[head].scale is not None:  # one step of the integer grid
                assert np.abs(found[head].astype(int) - values.astype(int)).max() <= 1
            else:
                scale = np.abs(values).max()
                np.testing.assert_allclose(found[head], values, atol=1e-5 * scale, rtol=0)
