"""Golden tests for apps: a test target with its data, in the words of the app's own test framework.

The app's team writes an adapter of three functions (photo → input, input → heads, heads → map), and
the tests compare each with what Panokit computes, given the right result of the one before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import replacing_folder
from panokit.bundle import Artifact, Bundle, TensorSpec
from panokit.dump import HEADS, Dump, dump_stages, read_dump
from panokit.errors import ArgumentError
from panokit.runtime import quantize_image
from panokit.segmenter import Segmenter

__all__ = ["FRAMEWORKS", "GoldenLimits", "write_golden_tests"]

MARK = "PANOKIT.txt"
"""What a folder that was written here holds."""


@dataclass(frozen=True)
class GoldenLimits:
    """How near the app must come, as ``panokit validate`` has it by default.

    ``input_max``, ``input_mean``: the input's difference in 8-bit steps. ``head_sqnr_db``: least
    signal to difference of each head (None: 25 dB of whole-number heads, 35 dB of others).
    ``equal_pixels`` 0..1: share of the map's pixels with the same id.
    """

    input_max: float = 2.0
    input_mean: float = 0.25
    head_sqnr_db: float | None = None
    equal_pixels: float = 0.9995


@dataclass(frozen=True)
class _Framework:
    """``files``: template in the package and where it goes. ``data``: folder of the numbers.
    ``tensor`` and ``case``: a literal of each in the language, ``join``: what stands between."""

    files: tuple[tuple[str, str], ...]
    data: str
    tensor: str
    case: str


FRAMEWORKS = {
    "gtest": _Framework(
        (("gtest.h.txt", "panokit_golden.h"), ("gtest.cc.txt", "panokit_golden_test.cc")),
        "golden",
        '{{"{name}", "{dtype}", {size}, {channels}, {scale}f, {zero}}}',
        '{{"{name}", {photo_w}, {photo_h}, {has_photo}}},',
    ),
    "junit": _Framework(
        (("junit.kt.txt", "src/test/kotlin/panokit/golden/PanokitGoldenTest.kt"),),
        "src/test/resources/golden",
        'Tensor("{name}", "{dtype}", {size}, {channels}, {scale}f, {zero})',
        'Case("{name}", {photo_w}, {photo_h}, {has_photo}),',
    ),
    "xctest": _Framework(
        (("xctest.swift.txt", "PanokitGoldenTests.swift"),),
        "golden",
        'Tensor(name: "{name}", dtype: "{dtype}", size: {size}, channels: {channels}, '
        "scale: {scale}, zero: {zero})",
        'Case(name: "{name}", photoWidth: {photo_w}, photoHeight: {photo_h}, '
        "hasPhoto: {has_photo}),",
    ),
}
"""Test frameworks by the name of ``panokit vectors export --for``."""

Array = NDArray[Any]


def write_golden_tests(
    folder: str | os.PathLike[str],
    framework: str,
    bundle: Bundle | None = None,
    artifact: str | None = None,
    photos: Sequence[str | os.PathLike[str]] = (),
    limits: GoldenLimits | None = None,
) -> int:
    """Write a test target for ``framework`` (a name of :data:`FRAMEWORKS`) with its data; returns
    the number of cases.

    Cases are the bundle's own vectors of the artifact, or ``photos``, which are run here; only
    those test the way from photo to input. An older export in ``folder`` is replaced.
    """
    if framework not in FRAMEWORKS:
        raise ArgumentError.unknown("framework", framework, FRAMEWORKS)
    folder, bundle = Path(folder), bundle or Bundle.open()
    bundle.manifest.center_offset  # noqa: B018 - golden tests are of this contract, or it says so
    chosen, kind = bundle.manifest.artifact(artifact), FRAMEWORKS[framework]
    if folder.exists() and any(folder.iterdir()) and not _was_written_here(folder):
        raise ArgumentError(
            "folder",
            f"folder {str(folder)!r} holds other files; expected a new or empty folder, or an "
            "older export",
        )
    found = _photo_cases(bundle, chosen, photos) if photos else _own_cases(bundle, chosen)
    cases = _named(found)
    if not cases:
        raise ArgumentError(
            "bundle",
            f"the bundle has no vectors of {chosen.name}; expected some, or photos to run: "
            "give photos",
        )
    with replacing_folder(folder) as partial:
        for name, dump in cases.items():
            _write_data(partial / kind.data / name, dump, chosen)
        text = f"Written by `panokit vectors export --for {framework}`; write nothing here.\n"
        _write(partial / MARK, text)
        for template, target in kind.files:
            source = resources.files("panokit") / "assets" / "golden" / template
            filled = _fill(source.read_text("utf-8"), kind, bundle, chosen, cases, limits)
            _write(partial / target, filled)
    return len(cases)


def _named(found: Iterator[tuple[str, Dump]]) -> dict[str, Dump]:
    """Cases by name; a name that is there already gets a number."""
    cases: dict[str, Dump] = {}
    for name, dump in found:
        twins = sum(known == name or known.startswith(f"{name}__") for known in cases)
        cases[f"{name}__{twins + 1}" if twins else name] = dump
    return cases


def _was_written_here(folder: Path) -> bool:
    return (folder / MARK).is_file()


def _own_cases(bundle: Bundle, artifact: Artifact) -> Iterator[tuple[str, Dump]]:
    for vector in bundle.manifest.vectors:
        if vector.artifact == artifact.name:
            dump = read_dump(bundle.root / vector.file)
            yield _identifier(dump.name), dump


def _photo_cases(
    bundle: Bundle, artifact: Artifact, photos: Sequence[str | os.PathLike[str]]
) -> Iterator[tuple[str, Dump]]:
    segmenter = Segmenter.open(bundle, artifact.name, threads=1)
    for path in photos:
        stages = segmenter.stages(path)
        dump = dump_stages(stages, artifact, segmenter.runtime.name)
        yield _identifier(Path(path).stem), dump


def _identifier(name: str) -> str:
    """A name that every language and file system takes."""
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in PurePosixPath(name).stem)
    return plain or "case"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_data(folder: Path, dump: Dump, artifact: Artifact) -> None:
    """The numbers of a case, each tensor as the app's runtime holds it: little-endian, in the
    artifact's type and layout."""
    tensors: dict[str, Array] = {"input": quantize_image(dump.tensors["input"], artifact.input)}
    for head in HEADS:
        spec = artifact.outputs[head]
        values = dump.tensors[head].astype(spec.dtype, copy=False)
        planes = spec.layout == "nchw" and values.ndim == 3
        tensors[head] = np.moveaxis(values, -1, 0) if planes else values
    tensors["panoptic"] = dump.tensors["panoptic"].astype(np.int32)
    if "photo" in dump.tensors:
        tensors["photo"] = dump.tensors["photo"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in tensors.items():
        little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
        (folder / f"{name}.bin").write_bytes(little.tobytes())


def _fill(
    template: str,
    kind: _Framework,
    bundle: Bundle,
    artifact: Artifact,
    cases: dict[str, Dump],
    limits: GoldenLimits | None,
) -> str:
    limits = limits or GoldenLimits()
    whole = artifact.outputs["semantic"].scale is not None
    least = limits.head_sqnr_db if limits.head_sqnr_db is not None else 25.0 if whole else 35.0
    grid = next(iter(cases.values())).tensors["panoptic"].shape
    words = {
        "INPUT": _literal(kind, "input", artifact.input),
        "HEADS": ", ".join(_literal(kind, h, artifact.outputs[h]) for h in HEADS),
        "CASES": "\n    ".join(_case(kind, name, dump) for name, dump in cases.items()),
        "ARTIFACT": artifact.name,
        "FILE": artifact.file,
        "SHA256": artifact.sha256,
        "BUNDLE": bundle.manifest.name,
        "INPUT_MAX": f"{limits.input_max:g}",
        "INPUT_MEAN": f"{limits.input_mean:g}",
        "HEAD_SQNR": f"{least:g}",
        "EQUAL_PIXELS": f"{limits.equal_pixels:g}",
        "GRID_H": str(grid[0]),
        "GRID_W": str(grid[1]),
    }
    for name, text in words.items():
        template = template.replace(f"@{name}@", text)
    return template


def _literal(kind: _Framework, name: str, spec: TensorSpec) -> str:
    channels = spec.shape[1] if spec.layout == "nchw" else spec.shape[-1]
    scale = np.float32(1 if spec.scale is None else spec.scale)
    return kind.tensor.format(
        name=name, dtype=spec.dtype, size=int(np.prod(spec.shape)), channels=channels,
        scale=str(scale), zero=spec.zero_point or 0,
    )  # fmt: skip


def _case(kind: _Framework, name: str, dump: Dump) -> str:
    if dump.transform is not None:
        w, h = dump.transform.photo_wh
    else:
        h, w = dump.tensors["photo"].shape[:2]
    has = str("photo" in dump.tensors).lower()
    return kind.case.format(name=name, photo_w=w, photo_h=h, has_photo=has)
