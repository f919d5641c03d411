"""Make every recipe in every format, run each, and write docs/support.json and docs/support.md.

    python scripts/make_support.py --data DATA   # int8 calibrated on training photos of DATA
    python scripts/make_support.py --only kinds  # the small networks anew, the rest as it was
    python scripts/make_support.py --page        # the page alone, of what the JSON file holds

The shipped network goes through all recipes that need no training, the shipped pruned one through
those of its pruning, and a small network of each other contract through float32 and int8.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import warnings
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from panokit._files import write_json, write_text  # noqa: E402
from panokit.samples import sample_photos  # noqa: E402
from panokit_compression.recipes import load_recipe, recipe_names  # noqa: E402
from panokit_lab.artifacts import why_not  # noqa: E402
from panokit_lab.export import ExportRequest, ExportResult, run_export  # noqa: E402
from panokit_network.source import NetworkSource  # noqa: E402
from panokit_network.weights import shipped_weights_path  # noqa: E402
from tests.lab.test_contract_networks import KNOWN  # noqa: E402
from tests.toys.contract_networks import SIZE_WH, taxonomy  # noqa: E402

FORMATS = {"tflite": "TFLite", "coreml": "Core ML", "onnx": "ONNX"}
RUNTIMES = {
    "litert": ("LiteRT", "ai-edge-litert"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "coreml-interpreter": ("Panokit's interpreter of ML Programs", "panokit"),
}
TOOLS = (
    "torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "coremltools", "onnx",
    "onnxruntime",
)  # fmt: skip
NETWORKS = {"whole": "camera.safetensors", "pruned": "camera-prune45.safetensors"}

HEAD = """# What works: formats, precisions, recipes

Made by `python scripts/make_support.py` on {made} ({machine}). Each file of this page was written,
run here, and compared with the network as it was given, in torch float32, on {photos} photos that
calibrated nothing ({names}). Integers were calibrated on {calibration}. A test makes some of the
files anew and holds the page to what comes out; another fails where a recipe is missing.

{tools}.

- **dB**: signal to quantization noise of the worst head.
- **equal**: share of pixels of matched segments in the panoptic map; **PQ** of that map against
  torch's. What is lost on *labelled* photos stands in [compression](compression.md#figures).
- **within** the thresholds of its precision, or **off**: `panokit export` leaves such a file out
  unless told `--no-strict`. The thresholds of few bits are wide: look at the figures.

## The shipped network
Recipes `prune…` are of the shipped pruned network, compared with itself before the recipe.

{tables}

### What there is no form of
{reasons}

## Networks of other contracts
Small networks with random weights: what is proved is the way from module to map, not quality.

{kinds}

Which layers are converted is measured on [212 kinds of networks](operators.md).

## Where each format has been run
{places}
"""

PLACES = """| format | executed by | evidence |
|---|---|---|
| TFLite | LiteRT on Linux x86-64 (XNNPACK) | this page; `tests/converters/test_tflite.py` |
| TFLite | LiteRT's ARM64 kernels, emulated | `tests/validation/test_arm64.py` |
| TFLite | LiteRT.js in Chromium (WebAssembly) | `tests/demo/test_litertjs.py` |
| TFLite | tflite-runtime 2.14 | `tests/converters/test_legacy_tflite.py` |
| Core ML | an interpreter of our own, which executes the package's program | this page; `tests/converters/test_coreml_interpreter.py` |
| Core ML | Apple's runtime, Neural Engine | **never here**: `panokit verify` and `panokit validate` do it on yours |
| ONNX | onnxruntime on Linux x86-64 | this page; `tests/converters/test_onnx.py` |
| Core AI (experimental) | coreai-core on Linux | tried by hand: [export](export.md#core-ai-experimental) |
| any, on a phone | – | **never here**: no phone was at hand; [device dumps](dump.md) are judged |"""  # noqa: E501


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="COCO-panoptic folder, for calibration")
    parser.add_argument("--only", choices=("networks", "kinds"), help="the rest as it was")
    parser.add_argument("--page", action="store_true", help="the page alone")
    chosen = parser.parse_args()
    where = ROOT / "docs" / "support.json"
    if not chosen.page:
        warnings.simplefilter("ignore")
        before = json.loads(where.read_text(encoding="utf-8")) if chosen.only else {}
        write_json(where, measured(chosen.data, chosen.only, before))
    found = json.loads(where.read_text(encoding="utf-8"))
    write_text(ROOT / "docs" / "support.md", page(found))


def measured(data: Path | None, only: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Every file made and run; with ``only`` some of them, the others as ``before``."""
    told = {
        "made": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "tools": {name: version(name) for name in TOOLS},
        "weights": {name: weights_of(name) for name in NETWORKS},
        "photos": sorted(sample_photos()),
        "calibration": "32 training photos" if data else "6 photos of installed packages",
        "recipes": {name: load_recipe(name).description for name in recipe_names()},
    }
    if only == "kinds":
        told = dict(before)
    else:
        told["networks"] = {
            name: exported_recipes(name, recipes_of(name), data) for name in NETWORKS
        }
    kinds = before["kinds"] if only == "networks" else {name: exported_kind(name) for name in KNOWN}
    return {**told, "kinds": kinds}


def weights_of(network: str) -> str:
    """What tells these weights from others."""
    return NetworkSource.from_weights(path_of(network)).digest()


def path_of(network: str) -> Path:
    """The shipped weight file of a network of this page."""
    return shipped_weights_path().with_name(NETWORKS[network])


def recipes_of(network: str) -> list[str]:
    """The recipes whose training steps the weights have been through."""
    done = NetworkSource.from_weights(path_of(network)).steps_done
    steps = {name: load_recipe(name).network_steps for name in recipe_names()}
    kinds = {name: {s.kind for s in found} - {"sparsify"} for name, found in steps.items()}
    return [name for name, found in kinds.items() if found == set(done)]


def exported_recipes(
    network: str, recipes: list[str], data: Path | None, formats: tuple[str, ...] = tuple(FORMATS)
) -> dict[str, dict[str, Any]]:
    """What became of each recipe in each format: ``{recipe: {format: cell}}``."""
    cells: dict[str, dict[str, Any]] = {name: {} for name in recipes}
    done = NetworkSource.from_weights(path_of(network)).steps_done
    for recipe in recipes:
        for format in formats:
            formless = why_not(format, load_recipe(recipe), done)
            if formless is not None:
                cells[recipe][format] = {"none": formless}
                continue
            sys.stderr.write(f"{network} {format} {recipe}\n")
            with tempfile.TemporaryDirectory() as folder:
                request = ExportRequest(
                    path_of(network), Path(folder) / "x.panokit", (recipe,), (format,),
                    calibration_data=data, strict=False,
                )  # fmt: skip
                cells[recipe][format] = cell(request)
    return cells


def exported_kind(name: str) -> dict[str, Any]:
    """A small network of another contract in every format, in float32 and int8."""
    kind, known, contract = KNOWN[name]
    cells: dict[str, Any] = {"contract": contract}
    for recipe in ("float32", "int8"):
        for format in FORMATS:
            sys.stderr.write(f"{name} {format} {recipe}\n")
            with tempfile.TemporaryDirectory() as folder:
                request = ExportRequest(
                    None, Path(folder) / "x.panokit", (recipe,), (format,), size=SIZE_WH,
                    known=known, strict=False,
                )  # fmt: skip
                source = NetworkSource.from_module(kind().eval(), taxonomy(), name)
                cells[f"{format}-{recipe}"] = cell(request, source)
    return cells


def cell(request: ExportRequest, source: NetworkSource | None = None) -> dict[str, Any]:
    """One file: how it compares, or why there is none."""
    try:
        result = run_export(request, source=source)
    except Exception as error:  # a row of the table, whatever it is
        return {"none": str(error)}
    return figures(result)


def figures(result: ExportResult) -> dict[str, Any]:
    """What the export says of its one artifact."""
    (artifact,) = result.bundle.manifest.artifacts
    seen = {"artifact": artifact.name, "bytes": artifact.bytes, "minimum_os": artifact.minimum_os}
    if result.unchecked:
        return {**seen, "unchecked": result.unchecked[artifact.name]}
    check = result.checks[artifact.name].to_json()
    return {
        **seen,
        "runtime": check["runtime"],
        "worst_db": min(head["sqnr_db"] for head in check["heads"].values()),
        "equal": check.get("panoptic", {}).get("equal_pixels"),
        "pq": check.get("panoptic", {}).get("pq"),
        "failures": list(check.get("failures", [])),
    }


def page(found: Mapping[str, Any]) -> str:
    """The page of what was measured."""
    tools = ", ".join(f"{name} {number}" for name, number in found["tools"].items())
    return HEAD.format(
        made=found["made"], machine=found["machine"], tools=tools, photos=len(found["photos"]),
        names=", ".join(found["photos"]), calibration=found["calibration"],
        tables="\n\n".join(_table(format, found) for format in FORMATS),
        reasons="\n".join(_reasons(found)), kinds="\n".join(_kinds(found)), places=PLACES,
    )  # fmt: skip


def _table(format: str, found: Mapping[str, Any]) -> str:
    made = [
        (name, cells[format])
        for recipes in found["networks"].values()
        for name, cells in recipes.items()
        if "none" not in cells[format]
    ]
    name, package = next(RUNTIMES[cell["runtime"]] for _, cell in made if "runtime" in cell)
    runtime = f"{name} {found['tools'].get(package, '')}".strip()
    return "\n".join((
        f"### {FORMATS[format]}",
        f"Run by {runtime}.",
        "",
        "| recipe | MB | worst head, dB | equal | PQ | | needs |",
        "|---|---|---|---|---|---|---|",
        *(_row(name, cell) for name, cell in made),
    ))  # fmt: skip


def _row(recipe: str, cell: Mapping[str, Any]) -> str:
    start = f"| `{recipe}` | {cell['bytes'] / 1e6:.2f}"
    if "unchecked" in cell:
        return f"{start} | | | | made, not run here | {cell['minimum_os']} |"
    figures = f"{cell['worst_db']:.1f} | {cell['equal']:.4f} | {cell['pq']:.1f}"
    verdict = "**off**" if cell["failures"] else "within"
    return f"{start} | {figures} | {verdict} | {cell['minimum_os']} |"


def _reasons(found: Mapping[str, Any]) -> list[str]:
    none: dict[str, dict[str, list[str]]] = {}
    for recipes in found["networks"].values():
        for recipe, cells in recipes.items():
            for format, cell in cells.items():
                if "none" in cell:
                    formats = none.setdefault(cell["none"], {})
                    formats.setdefault(recipe, []).append(FORMATS[format])
    lines = ["| recipe | format | why |", "|---|---|---|"]
    for reason, recipes in none.items():
        where = sorted({format for each in recipes.values() for format in each})
        names = ", ".join(f"`{name}`" for name in recipes)
        lines.append(f"| {names} | {', '.join(where)} | {reason} |")
    made = {name for recipes in found["networks"].values() for name in recipes}
    missing = ", ".join(f"`{name}`" for name in found["recipes"] if name not in made)
    return [*lines, f"| {missing} | all | trains first (`panokit compress run`); not made here |"]


def _kinds(found: Mapping[str, Any]) -> list[str]:
    columns = [(f, r) for r in ("float32", "int8") for f in FORMATS]
    head = " | ".join(f"{FORMATS[f]} {r}" for f, r in columns)
    lines = [f"| contract | network | {head} |", "|---|---|" + "---|" * len(columns)]
    for name, cells in found["kinds"].items():
        shown = []
        for format, recipe in columns:
            one = cells[f"{format}-{recipe}"]
            if "none" in one:
                shown.append("–")
            elif "unchecked" in one:
                shown.append("not run here")
            else:
                off = " (off)" if one["failures"] else ""
                shown.append(f"{one['worst_db']:.0f} dB, equal {one['equal']:.3f}{off}")
        lines.append(f"| `{cells['contract']}` | {name} | {' | '.join(shown)} |")
    return lines


if __name__ == "__main__":
    main()
