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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panokit import __version__
from panokit._files import make_folder, replacing_folder, write_bytes, write_json
from panokit.bundle import Artifact, Manifest, path_bytes
from panokit.errors import (
    ArgumentError,
    DataError,
    ExportError,
    OutputError,
    PanokitError,
    UsageError,
)
from panokit_compression.distil import OnStep, train_on
from panokit_compression.prune import prune, sparse_masks, sparsify
from panokit_compression.qat import train_quantized
from panokit_compression.recipes import Finetune, Prune, Qat, Recipe, Sparsify, Step
from panokit_compression.recipes.steps import step_to_json
from panokit_converters.contract import ContractSpec, check_contract, head_arrays
from panokit_converters.tflite.convert import convert_tflite
from panokit_lab.artifacts import DescribedArtifact, Maker, artifact_name, artifact_runtime
from panokit_lab.failures import errors_named
from panokit_lab.memory import arena_bytes
from panokit_lab.quality import Split, head_sqnr, manifest_around, quality_figures
from panokit_lab.results import RESULT, ArtifactFigures, RecipeResult
from panokit_lab.setup import SQNR_IMAGES, TAYLOR_IMAGES, ExperimentSetup, Images, photos_needed
from panokit_lab.workers import Failure
from panokit_network.deploy import count_macs, count_parameters
from panokit_network.source import NetworkSource

__all__ = [
    "compress_network",
    "float_tflite",
    "manifest_for",
    "network_notes",
    "reference_heads",
    "run_recipe",
    "run_recipes",
]

log = logging.getLogger(__name__)

FIGURES = 3  # raised when the same name comes to mean another figure
MIN_FREE_BYTES = 50_000_000

Progress = Callable[[str], None]


def run_recipe(
    setup: ExperimentSetup,
    recipe: Recipe,
    out: Path,
    say: Progress = log.info,
    on_step: OnStep | None = None,
) -> RecipeResult:
    """Run ``recipe`` and write ``out/NAME/``: artifacts, the network, the recipe, the figures.

    Nothing is done again that ``out`` or the cache already hold. ``out/NAME`` appears only when
    all of it is there; what is left by an error or Ctrl-C is the cache.
    """
    folder = out / recipe.name
    if setup.calibration is not None:  # a recipe's result depends on no other recipe's needs
        setup = replace(setup, calibration=setup.calibration.first(photos_needed([recipe])))
    key = _key(setup, recipe)
    if (done := _finished(folder, key)) is not None:
        say(f"{recipe.name}: is there already")
        return done
    _check_disk(out)
    source = setup.source.checked()
    _check_contract(setup, source)
    try:
        with errors_named(recipe.name):
            network = compress_network(setup, source, recipe, say, on_step)
        with replacing_folder(folder) as partial:
            result = replace(_make(setup, recipe, network, partial, say), key=key)
            write_json(partial / RESULT, result.to_json())
    except (OSError, OutputError) as error:
        why = error.reason if isinstance(error, OutputError) else error.strerror or error
        reason = f"cannot be written ({why}); finished recipes are kept"
        raise ExportError(folder, reason) from error
    return result


def run_recipes(
    setup: ExperimentSetup,
    recipes: Sequence[Recipe],
    out: Path,
    say: Progress = log.info,
    on_step: OnStep | None = None,
) -> tuple[list[RecipeResult], list[Failure]]:
    """Run ``recipes`` one after the other, and say which failed; the others go on.

    A recipe that is alone raises its error. So does what is wrong with the network itself.
    """
    source = setup.source.checked()
    _check_contract(setup, source)
    results: list[RecipeResult] = []
    failures: list[Failure] = []
    for recipe in recipes:
        try:
            results.append(run_recipe(setup, recipe, out, say, on_step))
        except PanokitError as error:
            if len(recipes) == 1:
                raise
            failures.append(Failure(recipe.name, str(error)))
    return results, failures


def compress_network(
    setup: ExperimentSetup,
    source: NetworkSource,
    recipe: Recipe,
    say: Progress = log.info,
    on_step: OnStep | None = None,
) -> NetworkSource:
    """The network after the network steps of ``recipe``, from the cache as far as it goes."""
    current, done = source, []
    for step in recipe.network_steps:
        done.append(step_to_json(step))
        path = _network_path(setup, done)
        following = current.after_step(step.kind)
        if path.is_file():
            say(f"{recipe.name}: {step.kind} is there already")
            current = following.reloaded(path, source)
            continue
        say(f"{recipe.name}: {step.kind}")
        run = setup.cache / "training" / path.stem
        current, notes = _network_step(setup, source, following, step, run, say, on_step)
        current.save(path)
        if notes:
            write_json(_notes_path(path), list(notes))
        # What continues from here must not depend on whether it was interrupted: weights are
        # stored in float16, so go on from the stored ones.
        current = current.reloaded(path, source)
        shutil.rmtree(run, ignore_errors=True)
    return current


def network_notes(setup: ExperimentSetup, recipe: Recipe) -> tuple[str, ...]:
    """What the network steps of ``recipe``, all done, had to say about layers."""
    found: list[str] = []
    done: list[dict[str, Any]] = []
    for step in recipe.network_steps:
        done.append(step_to_json(step))
        path = _notes_path(_network_path(setup, done))
        if path.is_file():
            notes = json.loads(path.read_text(encoding="utf-8"))
            found += [f"{step.kind}: {note}" for note in notes]
    return tuple(found)


def _network_path(setup: ExperimentSetup, done: list[dict[str, Any]]) -> Path:
    return setup.cache / "networks" / f"{_network_key(setup, done)}.safetensors"


def _notes_path(network: Path) -> Path:
    return network.with_suffix(".notes.json")


def _network_step(
    setup: ExperimentSetup,
    teacher: NetworkSource,
    current: NetworkSource,
    step: Step,
    run: Path,
    say: Progress,
    on_step: OnStep | None,
) -> tuple[NetworkSource, tuple[str, ...]]:
    """The network after one more step, and notes on layers."""
    if isinstance(step, Qat) or (isinstance(step, Finetune) and step.freeze_statistics):
        current = current.with_folded()
    module = copy.deepcopy(current.module)
    if isinstance(step, Prune):
        images = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float()
                  for x in setup.images(TAYLOR_IMAGES).values()]  # fmt: skip
        found = prune(module, step, setup.size_wh, images, say)
        say(f"{found.macs / found.macs_before:.1%} of the multiply-accumulates are left")
        return replace(current, module=module.eval()), found.left_alone
    if isinstance(step, Sparsify):
        sparsify(module, step)
        return replace(current, module=module), ()
    if setup.stream is None:
        raise UsageError(f"{step.kind} trains: name photos to train on with --data.")
    things = torch.from_numpy(current.taxonomy.thing_mask)
    taught_by = teacher.with_folded().module  # a third faster without batch norms
    if isinstance(step, Finetune):
        masks = sparse_masks(module) if "sparsify" in current.steps_done else {}
        train_on(module, taught_by, setup.stream, step, run, things=things, masks=masks,
                 class_weight=setup.class_weight, on_step=on_step)  # fmt: skip
        return replace(current, module=module.eval().requires_grad_(False)), ()
    if not isinstance(step, Qat):
        raise ArgumentError("step", f"step is {step!r}; expected a network step")
    trained = train_quantized(
        module, taught_by, setup.stream, step, run,
        things=things, class_weight=setup.class_weight, on_step=on_step,
    )  # fmt: skip
    return replace(current, module=trained), ()


def _make(
    setup: ExperimentSetup, recipe: Recipe, network: NetworkSource, folder: Path, say: Progress
) -> RecipeResult:
    """Artifacts of a recipe in ``folder``, and the figures of all of them."""
    write_json(folder / "recipe.json", recipe.to_json())
    if recipe.network_steps:
        network.save(folder / "network.safetensors")
    if setup.calibration is not None:
        judged = {"judged": list(setup.judging)} if setup.judging else {}
        write_json(folder / "calibration.json", {**setup.calibration.to_json(), **judged})
    folded = network.with_folded()
    artifacts: dict[str, ArtifactFigures] = {}
    failures: dict[str, str] = {}
    formats = recipe.formats if recipe.steps else ("tflite",)
    for format in formats:
        say(f"{recipe.name}: {format}")
        try:
            with errors_named(artifact_name(format, recipe)):
                made = _artifact(setup, recipe, folded, format, folder)
                artifacts[format] = _figures(setup, made, say)
        except PanokitError as error:
            failures[format] = str(error)
            if len(failures) == len(formats):
                raise
    return RecipeResult(
        recipe=recipe,
        network=setup.source.name,
        weights=setup.source.digest()[:16],
        size_wh=setup.size_wh,
        taxonomy=setup.source.taxonomy,
        postprocessing=setup.source.postprocessing,
        macs=count_macs(folded.module, setup.size_wh),
        parameters=count_parameters(folded.module),
        artifacts=artifacts,
        tools={"panokit": __version__},
        failures=failures,
        notes=network_notes(setup, recipe),
    )


def _check_contract(setup: ExperimentSetup, network: NetworkSource) -> ContractSpec:
    return check_contract(network.module, setup.size_wh, network.taxonomy, network.postprocessing)


def _artifact(
    setup: ExperimentSetup, recipe: Recipe, network: NetworkSource, format: str, folder: Path
) -> DescribedArtifact:
    """The artifact of a recipe in ``folder``, of the ``network`` after the recipe's steps."""
    contract = _check_contract(setup, network)
    converted = float_tflite(setup, network) if format == "tflite" else None
    maker = Maker.of(
        network, contract, network.name, folder, calibration=setup.calibration, converted=converted
    )
    return maker.make(format, recipe, "model.tflite" if format == "tflite" else "")


def float_tflite(setup: ExperimentSetup, network: NetworkSource) -> bytes:
    """The converted float file of ``network`` (folded), from the cache if it is there."""
    w, h = setup.size_wh
    path = setup.cache / "tflite" / f"{network.digest()[:16]}-{w}x{h}.tflite"
    if path.is_file():
        return path.read_bytes()
    content = convert_tflite(network.module, setup.size_wh, network.postprocessing.head_names())
    write_bytes(path, content)
    return content


def manifest_for(setup: ExperimentSetup, artifact: Artifact) -> Manifest:
    """A manifest around one artifact of the setup's network."""
    source = setup.source
    return manifest_around(
        artifact,
        source.name,
        source.taxonomy,
        setup.size_wh,
        source.postprocessing,
        source.preprocessing,
    )


def _figures(setup: ExperimentSetup, made: DescribedArtifact, say: Progress) -> ArtifactFigures:
    """Size of an artifact, agreement with the float network, quality on labelled photos."""
    path, artifact = made.path, made.artifact
    runtime = artifact_runtime(path, artifact)
    images = dict(list(setup.judging.items())[: 2 if artifact.format == "coreml" else SQNR_IMAGES])
    sqnr = None
    if images:
        sqnr = head_sqnr(reference_heads(setup, images), runtime, artifact, images)
    quality = None
    if (split := _split_for(setup, artifact.format)) is not None:
        say(f"{artifact.name}: measuring quality on {split.name}")
        manifest = manifest_for(setup, artifact)
        quality = quality_figures(manifest, artifact, runtime, split, setup.cache / "splits")
    tflite = artifact.format == "tflite"
    return ArtifactFigures(
        file=path.name,
        bytes=path_bytes(path),
        precision=artifact.precision,
        runtime=runtime.name,
        arena_bytes=arena_bytes(path.read_bytes()) if tflite else None,
        sqnr_db=sqnr,
        sqnr_photos=tuple(images),
        quality=quality,
        notes=made.notes,
    )


def _split_for(setup: ExperimentSetup, format: str) -> Split | None:
    """The photos that quality is measured on; fewer for Core ML, where the interpreter takes
    seconds a photo."""
    split = setup.split
    if split is None or format != "coreml":
        return split
    if not setup.coreml_photos:
        return None
    return replace(split, limit=min(split.limit or setup.coreml_photos, setup.coreml_photos))


def reference_heads(setup: ExperimentSetup, images: Images) -> dict[str, dict[str, NDArray[Any]]]:
    """Heads ``[h,w,C]`` of the uncompressed network by torch, float32."""
    module = setup.source.module.eval()
    heads: dict[str, dict[str, NDArray[Any]]] = {}
    for name, image in images.items():
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            found = module(x)
        heads[name] = head_arrays(found)
    return heads


def _key(setup: ExperimentSetup, recipe: Recipe) -> str:
    """What a recipe's result depends on. Photos count by their contents: other photos of the same
    names are other photos."""
    split = setup.split
    quality = [split.digest(), split.limit, setup.coreml_photos] if split else None
    photos = setup.calibration.digest() if setup.calibration else None
    decoding = setup.source.postprocessing.to_json()
    judging = {name: _hash_image(image) for name, image in setup.judging.items()}
    measured = [quality, decoding, judging, FIGURES]
    return _hash([setup.source.digest(), setup.size_wh, recipe.to_json(), photos, measured])


def _network_key(setup: ExperimentSetup, steps: list[dict[str, Any]]) -> str:
    photos = setup.calibration.first(TAYLOR_IMAGES).digest() if setup.calibration else None
    return _hash([setup.source.digest(), setup.size_wh, steps, photos])


def _hash_image(image: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def _finished(folder: Path, key: str) -> RecipeResult | None:
    """The result of a finished run of the very same thing; None otherwise."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(path, f"expected JSON, but {error}; remove it") from None
    same = isinstance(found, dict) and found.get("key") == key and not found.get("failures")
    return RecipeResult.load(path) if same else None


def _check_disk(out: Path) -> None:
    make_folder(out)
    free = shutil.disk_usage(out).free
    if free < MIN_FREE_BYTES:
        reason = f"expected {MIN_FREE_BYTES / 1e6:.0f} MB of free disk, got {free / 1e6:.1f} MB"
        raise ExportError(out, reason)
