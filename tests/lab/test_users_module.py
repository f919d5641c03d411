"""A user's own module from the command line alone: prune → train on → int8 → bundle → validated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from panokit.bundle import Bundle
from panokit_compression.recipes import Finetune, Prune, Quantize, Recipe
from panokit_network.source import steps_done
from tests.toys.data_folder import CATEGORIES
from tests.toys.network import toy_photos
from tests.toys.user_network import SIZE

pytestmark = pytest.mark.slow

BUILD = "tests.toys.user_network:build"
RECIPE = Recipe(
    "small",
    (
        Prune(0.6, "taylor", rounds=2, multiple_of=2),
        Finetune(samples=16, size=64, batch=4, learning_rate=1e-3, distil=1.0),
        Quantize("int8", 16, "min_max"),
    ),
)


def panokit(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program as a user starts it, in the folder that holds the module."""
    code = "from panokit.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, the module's taxonomy and a recipe; the pruned network is in ``runs``."""
    folder = tmp_path_factory.mktemp("users")
    (folder / "photos").mkdir()
    for name, photo in toy_photos(16).items():
        Image.fromarray(photo.rgb_hwc).save(folder / "photos" / f"{name}.png")
    taxonomy = {"name": "toy", "categories": CATEGORIES}
    (folder / "taxonomy.json").write_text(json.dumps(taxonomy))
    (folder / "small.json").write_text(json.dumps(RECIPE.to_json()))
    done = panokit(
        *("compress", "run", folder / "small.json", "--module", BUILD, "--size", SIZE),
        *("--taxonomy", folder / "taxonomy.json", "--photos", folder / "photos"),
        *("--out", folder / "runs"),
    )
    assert done.returncode == 0, done.stderr
    return folder


def export(work: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return panokit(
        *("export", "--module", BUILD, "--taxonomy", work / "taxonomy.json", "--size", SIZE),
        *("--recipe", work / "small.json", "--formats", "tflite", "--no-strict"),
        *("--photos", work / "photos", "--out", work / "mine.panokit", *more),
    )


def test_the_pruned_module_becomes_a_bundle_that_validates(work: Path) -> None:
    pruned = work / "runs" / "small" / "network.safetensors"
    assert steps_done(pruned) == ("prune", "finetune")
    done = export(work, "--weights", pruned)
    assert done.returncode == 0, done.stderr
    bundle = Bundle.open(work / "mine.panokit")
    assert [a.name for a in bundle.manifest.artifacts] == ["tflite-small"]
    result = json.loads((work / "runs" / "small" / "result.json").read_text())
    assert bundle.manifest.quality["macs"] == result["macs"]

    dumped = panokit(
        *("dump", work / "photos" / "toy0.png", "--bundle", work / "mine.panokit"),
        *("--out", work / "dumps"),
    )
    assert dumped.returncode == 0, dumped.stderr
    verdict = work / "verdict.json"
    checked = ("validate", work / "dumps", "--bundle", work / "mine.panokit", "--json", verdict)
    done = panokit(*checked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(verdict.read_text())["verdict"] == "pass"


def test_weights_that_were_never_pruned_are_sent_back(work: Path) -> None:
    done = export(work)
    assert done.returncode == 2
    assert "panokit compress run small" in " ".join(done.stderr.split())


def test_a_module_without_its_taxonomy_is_told_so(work: Path) -> None:
    done = panokit("export", "--module", BUILD, "--out", work / "x.panokit")
    assert done.returncode == 2
    assert "--module needs --taxonomy" in " ".join(done.stderr.split())
