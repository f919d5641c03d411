"""Writing the suite: every case through the reference, as safetensors and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from panokit._files import replacing_folder
from panokit._reading import is_sidecar, read_json
from panokit.bundle import TensorSpec
from panokit.decoding import Heads, PanopticMap, postprocess
from panokit.errors import ArgumentError, DataError, HeadError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, TransformRecord, preprocess
from panokit.runtime import dequantize, quantize_image
from panokit.taxonomy import Taxonomy
from panokit.vectors.cases import DecodeCase, PreprocessCase
from panokit.vectors.grid_cases import grid_cases, preprocess_cases
from panokit.vectors.head_cases import head_cases
from panokit.vectors.tie_cases import tie_cases

__all__ = ["FORMAT", "INDEX", "SCORE_TOLERANCE", "all_cases", "compute", "read_case", "write_suite"]

FORMAT = "panokit-vectors/1"
INDEX = "suite.json"
SCORE_TOLERANCE = 1e-5
"""How far a segment's score may lie off: it goes through an exponential of the platform."""
MAX_CASE_BYTES = 100_000_000

Tensors = dict[str, NDArray[Any]]


def all_cases() -> list[DecodeCase | PreprocessCase]:
    """All cases, in the suite's order."""
    return [*tie_cases(), *grid_cases(), *head_cases(), *preprocess_cases()]


def compute(case: DecodeCase | PreprocessCase) -> tuple[Tensors, dict[str, Any]]:
    """What the reference makes of a case: tensors by stage, and ``segments`` or ``error`` (or, of
    a photo, ``transform``)."""
    if isinstance(case, PreprocessCase):
        return _preprocess(case)
    real = dequantize(case.raw, case.specs)
    try:
        heads = Heads.from_arrays(real)
    except HeadError as error:
        return {}, {"error": {"head": error.head, "position": list(error.position or ())}}
    decoded = postprocess(heads, case.taxonomy, case.transform, case.config, explain=True)
    tensors: Tensors = {f"real.{name}": getattr(heads, name) for name in case.raw}
    for name, values in decoded.explain.items():
        tensors[name] = values if values.dtype == np.float32 else values.astype(np.int32)
    tensors["ids"] = decoded.ids
    tensors["photo_ids"] = photo_ids(decoded, case.transform)
    return tensors, {"segments": _segments(decoded, case.taxonomy)}


def photo_ids(decoded: PanopticMap, transform: TransformRecord) -> NDArray[np.int32]:
    """The decoded ids on the photo, int32 ``[h0,w0]``, nearest neighbour."""
    rows, cols = transform.rows_cols((decoded.ids.shape[0], decoded.ids.shape[1]))
    return np.asarray(decoded.ids[rows[:, None], cols])


def _segments(decoded: PanopticMap, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    return [
        {
            "id": s.id,
            "category_id": taxonomy.categories[s.channel].id,
            "isthing": int(s.is_thing),
            "area": s.area,
            "score": round(s.score, 6),
            "center_yx": None if s.center_yx is None else list(s.center_yx),
        }
        for s in decoded.segments
    ]


def _preprocess(case: PreprocessCase) -> tuple[Tensors, dict[str, Any]]:
    photo = Photo.from_array(case.photo_hwc)
    image, transform = preprocess(photo, PreprocessConfig(case.size_wh))
    dtype, scale, zero = case.quantization
    spec = TensorSpec("image", (1, *image.shape), dtype, "nhwc", scale, zero)
    tensors: Tensors = {"input": image, "quantized": quantize_image(image, spec)[0]}
    return tensors, {"transform": transform.to_json()}


def _inputs(case: DecodeCase | PreprocessCase) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and JSON of what goes into a case."""
    if isinstance(case, PreprocessCase):
        dtype, scale, zero = case.quantization
        quantization = {"dtype": dtype, "scale": scale, "zero_point": zero}
        data: dict[str, Any] = {"size_wh": list(case.size_wh), "quantization": quantization}
        return {"in.photo": case.photo_hwc}, {"kind": "preprocess", **data}
    quantization = {
        name: {"scale": scale, "zero_point": zero}
        for name, (scale, zero) in case.quantization.items()
    }
    data = {
        "taxonomy": [{"id": c.id, "isthing": int(c.is_thing)} for c in case.taxonomy],
        "transform": case.transform.to_json(),
        "postprocessing": case.config.to_json(),
        "quantization": quantization,
    }
    return {f"in.{name}": v for name, v in case.raw.items()}, {"kind": "decode", **data}


def write_suite(folder: str | os.PathLike[str]) -> int:
    """Write the suite, replacing what an earlier call wrote there; returns the number of cases."""
    folder = Path(folder)
    others = [p for p in folder.iterdir() if not is_sidecar(p.name)] if folder.exists() else []
    if others and not (folder / INDEX).is_file():
        raise ArgumentError(
            "folder",
            f"folder {str(folder)!r} holds other files; "
            "expected a new or empty folder, or an older suite",
        )
    entries = []
    with replacing_folder(folder) as partial:
        for case in all_cases():
            inputs, described = _inputs(case)
            outputs, expected = compute(case)
            file = f"{case.name}.safetensors"
            tensors = {k: np.ascontiguousarray(v) for k, v in (inputs | outputs).items()}
            (partial / file).write_bytes(save(tensors))
            entries.append(
                {"name": case.name, "about": case.about, "file": file, **described,
                 "expected": expected}
            )  # fmt: skip
        index = {"format": FORMAT, "score_tolerance": SCORE_TOLERANCE, "cases": entries}
        text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
        (partial / INDEX).write_text(text, encoding="utf-8")
    return len(entries)


def read_index(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """``suite.json`` of a suite; ``DataError`` if it is not one."""
    path = Path(folder) / INDEX
    try:
        data = read_json(path, strict=True)
    except (OSError, ValueError) as error:
        raise DataError(path, f"expected a suite of golden vectors, but {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
        raise DataError(path, f"expected format {FORMAT!r}, got {found!r}")
    return data


def read_case(path: str | os.PathLike[str]) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of one safetensors file; ``DataError`` if it is not one."""
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "no such file")
    if path.stat().st_size > MAX_CASE_BYTES:
        raise DataError(path, f"expected at most {MAX_CASE_BYTES} bytes")
    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(  # noqa: SIM118
                file.metadata() or {}
            )
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(path, f"expected safetensors, but {error}") from None
