"""A recipe from start to end: network steps, artifacts, figures.

Every piece that took time is kept and found again by what it was made from: the network after
each step, the converted float file, the figures. A run that was interrupted goes on where it
stopped, and recipes with the same first steps share their networks.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panokit import __version__
from panokit._files import replacing, replacing_folder, write_json
from panokit.bundle import Artifact, Manifest, path_bytes
from panokit.errors import ArgumentError, DataError, ExportError
from panokit.preprocessing import PreprocessConfig
from panokit_compression.calibration import CalibrationSet
from panokit_compression.distil import OnStep, Stream, train_on
from panokit_compression.prune import prune, sparse_masks, sparsify
from panokit_compression.qat import train_quantized
from panokit_compression.recipes import Finetune, Prune, Qat, Recipe, Sparsify, Step
from panokit_compression.recipes.steps import step_to_json
from panokit_converters.contract import check_contract
from panokit_converters.tflite import convert_tflite
from panokit_lab.artifacts import DescribedArtifact, Maker, artifact_runtime
from panokit_lab.memory import arena_bytes
from panokit_lab.quality import Split, head_sqnr, quality_figures
from panokit_network.deploy import count_macs, count_parameters
from panokit_network.source import NetworkSource

__all__ = ["RESULT", "Bench", "RunResult", "run_recipe"]

log = logging.getLogger(__name__)

RESULT = "result.json"
TAYLOR_IMAGES = 16
SQNR_IMAGES = 8
FIGURES = 2  # raised when the same name comes to mean another figure
MIN_FREE_BYTES = 50_000_000

Progress = Callable[[str], None]
Images = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Bench:
    """What recipes are run with: the network, its input size, photos, and where to keep things.

    ``calibration`` measures ranges and importance; ``stream`` is what fine-tuning and QAT train
    on; ``split`` the labelled photos that quality is measured on (None: not measured);
    ``class_weight`` float32 ``[C]`` weighs classes in the label loss. ``cache`` may be shared by
    runs of different recipes and by processes.
    """

    source: NetworkSource
    size: int
    cache: Path
    calibration: CalibrationSet | None = None
    stream: Stream | None = None
    split: Split | None = None
    coreml_photos: int = 0
    class_weight: torch.Tensor | None = None

    def images(self, count: int) -> Images:
        """The first calibration images by name, uint8 ``[H,W,3]``."""
        if self.calibration is None:
            return {}
        pairs = zip(self.calibration.names, self.calibration.images, strict=True)
        return dict(list(pairs)[:count])


@dataclass(frozen=True)
class RunResult:
    """What a recipe came to: its folder, and the figures that ``result.json`` there holds."""

    recipe: Recipe
    folder: Path
    figures: dict[str, Any]


def photos_needed(recipes: Sequence[Recipe]) -> int:
    """How many calibration photos all of ``recipes`` together take."""
    return max([TAYLOR_IMAGES, SQNR_IMAGES, *(r.calibration_photos for r in recipes)])


def run_recipe(
    bench: Bench,
    recipe: Recipe,
    out: Path,
    say: Progress = log.info,
    on_step: OnStep | None = None,
) -> RunResult:
    """Run ``recipe`` and write ``out/NAME/``: artifacts, the network, the recipe, the figures.

    Nothing is done again that ``out`` or the cache already hold. ``out/NAME`` appears only when
    all of it is there; what is left by an error or Ctrl-C is the cache.
    """
    folder = out / recipe.name
    if bench.calibration is not None:  # a recipe's result depends on no other recipe's needs
        bench = replace(bench, calibration=bench.calibration.first(photos_needed([recipe])))
    key = _key(bench, recipe)
    if (done := _finished(folder, key)) is not None:
        say(f"{recipe.name}: is there already")
        return RunResult(recipe, folder, done)
    _check_disk(out)
    source = bench.source.checked()
    check_contract(source.module, (bench.size, bench.size), len(source.taxonomy))
    try:
        network = compress_network(bench, source, recipe, say, on_step)
        with replacing_folder(folder) as partial:
            figures = _make(bench, recipe, network, partial, say)
            write_json(partial / RESULT, {**figures, "key": key})
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error}); finished recipes are kept"
        raise ExportError(folder, reason) from error
    return RunResult(recipe, folder, {**figures, "key": key})


def compress_network(
    bench: Bench,
    source: NetworkSource,
    recipe: Recipe,
    say: Progress = log.info,
    on_step: OnStep | None = None,
) -> NetworkSource:
    """The network after the network steps of ``recipe``, from the cache as far as it goes."""
    current, done = source, []
    for step in recipe.network_steps:
        done.append(step_to_json(step))
        path = bench.cache / "networks" / f"{_network_key(bench, done)}.safetensors"
        following = current.after_step(step.kind)
        if path.is_file():
            say(f"{recipe.name}: {step.kind} is there already")
            current = following.reloaded(path, source)
            continue
        say(f"{recipe.name}: {step.kind}")
        run = bench.cache / "training" / path.stem
        current = _network_step(bench, source, following, step, run, say, on_step)
        current.save(path)
        # What continues from here must not depend on whether it was interrupted: weights are
        # stored in float16, so go on from the stored ones.
        current = current.reloaded(path, source)
        shutil.rmtree(run, ignore_errors=True)
    return current


def _network_step(
    bench: Bench,
    teacher: NetworkSource,
    current: NetworkSource,
    step: Step,
    run: Path,
    say: Progress,
    on_step: OnStep | None,
) -> NetworkSource:
    if isinstance(step, Qat) or (isinstance(step, Finetune) and step.freeze_statistics):
        current = current.with_folded()
    module = copy.deepcopy(current.module)
    if isinstance(step, Prune):
        images = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float()
                  for x in bench.images(TAYLOR_IMAGES).values()]  # fmt: skip
        found = prune(module, step, bench.size, images, say)
        say(f"{found.macs / found.macs_before:.1%} of the multiply-accumulates are left")
        return replace(current, module=module.eval())
    if isinstance(step, Sparsify):
        sparsify(module, step)
        return replace(current, module=module)
    if bench.stream is None:
        raise ArgumentError("data", f"given for {step.kind}: photos to train on", None)
    things = torch.from_numpy(current.taxonomy.thing_mask)
    taught_by = teacher.with_folded().module  # a third faster without batch norms
    if isinstance(step, Finetune):
        masks = sparse_masks(module) if "sparsify" in current.steps_done else {}
        train_on(module, taught_by, bench.stream, step, run, things=things, masks=masks,
                 class_weight=bench.class_weight, on_step=on_step)  # fmt: skip
        return replace(current, module=module.eval().requires_grad_(False))
    if not isinstance(step, Qat):
        raise ArgumentError("step", "a network step", step)
    trained = train_quantized(
        module, taught_by, bench.stream, step, run,
        things=things, class_weight=bench.class_weight, on_step=on_step,
    )  # fmt: skip
    return replace(current, module=trained)


def _make(
    bench: Bench, recipe: Recipe, network: NetworkSource, folder: Path, say: Progress
) -> dict[str, Any]:
    """Artifacts and figures of a recipe in ``folder``."""
    write_json(folder / "recipe.json", recipe.to_json())
    if recipe.network_steps:
        network.save(folder / "network.safetensors")
    if bench.calibration is not None:
        write_json(folder / "calibration.json", bench.calibration.to_json())
    folded = network.with_folded()
    artifacts: dict[str, Any] = {}
    for format in recipe.formats if recipe.steps else ("tflite",):
        say(f"{recipe.name}: {format}")
        made = _artifact(bench, recipe, folded, format, folder)
        path, artifact = made.path, made.artifact
        figures: dict[str, Any] = {
            "file": path.name,
            "bytes": path_bytes(path),
            "precision": artifact.precision,
        }
        if format == "tflite":
            figures["arena_bytes"] = arena_bytes(path.read_bytes())
        figures |= _judge(bench, artifact, path, say)
        artifacts[format] = figures
    return {
        "recipe": recipe.to_json(),
        "network": bench.source.name,
        "weights": bench.source.digest()[:16],
        "size": bench.size,
        "taxonomy": bench.source.taxonomy.to_json(),
        "postprocessing": asdict(bench.source.postprocessing),
        "macs": count_macs(folded.module, bench.size),
        "parameters": count_parameters(folded.module),
        "tools": {"panokit": __version__},
        "artifacts": artifacts,
    }


def _artifact(
    bench: Bench, recipe: Recipe, network: NetworkSource, format: str, folder: Path
) -> DescribedArtifact:
    """The artifact of a recipe in ``folder``, of the ``network`` after the recipe's steps."""
    contract = check_contract(network.module, (bench.size, bench.size), len(network.taxonomy))
    converted = float_tflite(bench, network) if format == "tflite" else None
    maker = Maker.of(
        network, contract, network.name, folder, calibration=bench.calibration, converted=converted
    )
    return maker.make(format, recipe, "model.tflite" if format == "tflite" else "")


def float_tflite(bench: Bench, network: NetworkSource) -> bytes:
    """The converted float file of ``network`` (folded), from the cache if it is there."""
    path = bench.cache / "tflite" / f"{network.digest()[:16]}-{bench.size}.tflite"
    if path.is_file():
        return path.read_bytes()
    content = convert_tflite(network.module, (bench.size, bench.size))
    with replacing(path) as partial:
        partial.write_bytes(content)
    return content


def manifest_for(bench: Bench, artifact: Artifact) -> Manifest:
    """A manifest around one artifact, as much as segmenting takes."""
    shape = artifact.outputs["semantic"].shape
    rows = shape[2] if artifact.outputs["semantic"].layout == "nchw" else shape[1]
    return Manifest(
        name=bench.source.name,
        taxonomy=bench.source.taxonomy,
        preprocessing=PreprocessConfig((bench.size, bench.size)),
        postprocessing=bench.source.postprocessing,
        stride=bench.size // rows,
        artifacts=(artifact,),
    )


def _judge(bench: Bench, artifact: Artifact, path: Path, say: Progress) -> dict[str, Any]:
    """Agreement with the float network, and quality on labelled photos."""
    runtime = artifact_runtime(path, artifact)
    figures: dict[str, Any] = {"runtime": runtime.name}
    coreml = artifact.format == "coreml"
    if images := bench.images(2 if coreml else SQNR_IMAGES):
        reference = reference_heads(bench, images)
        figures["sqnr_db"] = head_sqnr(reference, runtime, artifact, images)
        figures["sqnr_photos"] = list(images)
    split = bench.split
    if split is not None and coreml:
        if not bench.coreml_photos:
            return figures
        # The interpreter takes seconds a photo.
        limit = min(split.limit or bench.coreml_photos, bench.coreml_photos)
        split = replace(split, limit=limit)
    if split is not None:
        say(f"{artifact.name}: measuring quality on {split.name}")
        figures["quality"] = quality_figures(
            manifest_for(bench, artifact), artifact, runtime, split, bench.cache / "splits"
        )
    return figures


def reference_heads(bench: Bench, images: Images) -> dict[str, dict[str, NDArray[Any]]]:
    """Heads ``[h,w,C]`` of the uncompressed network by torch, float32."""
    module = bench.source.module.eval()
    heads: dict[str, dict[str, NDArray[Any]]] = {}
    for name, image in images.items():
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            found = module(x)
        heads[name] = {h: found[h][0].permute(1, 2, 0).numpy() for h in found}
    return heads


def _key(bench: Bench, recipe: Recipe) -> str:
    """What a recipe's result depends on. Photos count by their contents: other photos of the same
    names are other photos."""
    split = bench.split
    quality = [split.digest(), split.limit, bench.coreml_photos] if split else None
    photos = bench.calibration.digest() if bench.calibration else None
    decoding = bench.source.postprocessing.to_json()
    measured = [quality, decoding, FIGURES]
    return _hash([bench.source.digest(), bench.size, recipe.to_json(), photos, measured])


def _network_key(bench: Bench, steps: list[dict[str, Any]]) -> str:
    photos = bench.calibration.first(TAYLOR_IMAGES).digest() if bench.calibration else None
    return _hash([bench.source.digest(), bench.size, steps, photos])


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def _finished(folder: Path, key: str) -> dict[str, Any] | None:
    """The figures of a finished run of the very same thing; None otherwise."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(path, f"expected JSON, but {error}; remove it") from None
    return figures if figures.get("key") == key else None


def _check_disk(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if free < MIN_FREE_BYTES:
        reason = f"expected {MIN_FREE_BYTES / 1e6:.0f} MB of free disk, got {free / 1e6:.1f} MB"
        raise ExportError(out, reason)
