"""Writing the suite: every case through the reference, as safetensors and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
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
from panokit.decoding.settings import DEFAULT_CONTRACT
from panokit.errors import ArgumentError, DataError, HeadError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, TransformRecord, preprocess
from panokit.runtime import dequantize, quantize_image
from panokit.taxonomy import Taxonomy
from panokit.vectors.cases import Case, ContractCase, PreprocessCase
from panokit.vectors.grid_cases import grid_cases, preprocess_cases
from panokit.vectors.head_cases import head_cases
from panokit.vectors.instance_cases import instance_cases
from panokit.vectors.mask_query_cases import mask_query_cases
from panokit.vectors.merge_cases import merge_cases
from panokit.vectors.semantic_cases import semantic_cases
from panokit.vectors.tie_cases import tie_cases

__all__ = [
    "CONTRACTS",
    "FORMAT",
    "INDEX",
    "SCORE_TOLERANCE",
    "all_cases",
    "compute",
    "contract_of",
    "read_case",
    "write_suite",
]

FORMAT = "panokit-vectors/1"
INDEX = "suite.json"
SCORE_TOLERANCE = 1e-5
"""How far a segment's score may lie off: it goes through an exponential of the platform."""
MAX_CASE_BYTES = 100_000_000

Tensors = dict[str, NDArray[Any]]


def _center_offset_cases() -> Iterable[Case]:
    return [*tie_cases(), *grid_cases(), *head_cases(), *preprocess_cases()]


CONTRACTS: dict[str, Callable[[], Iterable[Case]]] = {
    DEFAULT_CONTRACT: _center_offset_cases,
    "mask-queries": mask_query_cases,
    "instances": instance_cases,
    "semantic": semantic_cases,
    "instances-semantic": merge_cases,
}
"""What makes the cases of each contract."""


def all_cases(contract: str = DEFAULT_CONTRACT) -> list[Case]:
    """All cases of a contract, in the suite's order; ``ArgumentError`` if it has none."""
    if contract not in CONTRACTS:
        raise ArgumentError.unknown("contract", contract, CONTRACTS)
    return list(CONTRACTS[contract]())


def compute(case: Case) -> tuple[Tensors, dict[str, Any]]:
    """What the reference makes of a case: tensors by stage, and ``segments`` or ``error`` (or, of
    a photo, ``transform``)."""
    if isinstance(case, PreprocessCase):
        return _preprocess(case)
    tensors: Tensors = {}
    try:
        if isinstance(case, ContractCase):
            decoded = _decode(case)
        else:
            heads = Heads.from_arrays(dequantize(case.raw, case.specs))
            decoded = postprocess(heads, case.taxonomy, case.transform, case.config, explain=True)
            tensors = {f"real.{name}": getattr(heads, name) for name in case.raw}
    except HeadError as error:
        return {}, {"error": {"head": error.head, "position": list(error.position or ())}}
    for name, values in decoded.explain.items():
        tensors[name] = values if values.dtype == np.float32 else values.astype(np.int32)
    tensors["ids"] = decoded.ids
    tensors["photo_ids"] = photo_ids(decoded, case.transform)
    return tensors, {"segments": _segments(decoded, case.taxonomy)}


def _decode(case: ContractCase) -> PanopticMap:
    heads = case.settings.read_heads(case.raw)
    return case.settings.decode(heads, case.taxonomy, case.transform, explain=True)


def photo_ids(decoded: PanopticMap, transform: TransformRecord) -> NDArray[np.int32]:
    """The decoded ids on the photo, int32 ``[h0,w0]``, nearest neighbour."""
    rows, cols = decoded.rows_cols(transform)
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


def _inputs(case: Case) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and JSON of what goes into a case."""
    if isinstance(case, PreprocessCase):
        dtype, scale, zero = case.quantization
        quantization = {"dtype": dtype, "scale": scale, "zero_point": zero}
        data: dict[str, Any] = {"size_wh": list(case.size_wh), "quantization": quantization}
        return {"in.photo": case.photo_hwc}, {"kind": "preprocess", **data}
    inputs = {f"in.{name}": v for name, v in case.raw.items()}
    common = {
        "taxonomy": [{"id": c.id, "isthing": int(c.is_thing)} for c in case.taxonomy],
        "transform": case.transform.to_json(),
    }
    if isinstance(case, ContractCase):
        contract, settings = case.settings.contract, case.settings.to_json()
        return inputs, {"kind": "decode", "contract": contract, **common, "settings": settings}
    quantization = {
        name: {"scale": scale, "zero_point": zero}
        for name, (scale, zero) in case.quantization.items()
    }
    data = {
        **common,
        "postprocessing": case.config.to_json(),
        "quantization": quantization,
    }
    return inputs, {"kind": "decode", **data}


def write_suite(folder: str | os.PathLike[str], contract: str = DEFAULT_CONTRACT) -> int:
    """Write the suite of a contract, replacing what an earlier call wrote there; returns the number
    of cases. ``ArgumentError``: there is no such contract, or the folder holds other files."""
    folder, cases = Path(folder), all_cases(contract)
    others = [p for p in folder.iterdir() if not is_sidecar(p.name)] if folder.exists() else []
    if others and not (folder / INDEX).is_file():
        raise ArgumentError(
            "folder",
            f"folder {str(folder)!r} holds other files; "
            "expected a new or empty folder, or an older suite",
        )
    entries = []
    with replacing_folder(folder) as partial:
        for case in cases:
            inputs, described = _inputs(case)
            outputs, expected = compute(case)
            file = f"{case.name}.safetensors"
            tensors = {k: np.ascontiguousarray(v) for k, v in (inputs | outputs).items()}
            (partial / file).write_bytes(save(tensors))
            entries.append(
                {"name": case.name, "about": case.about, "file": file, **described,
                 "expected": expected}
            )  # fmt: skip
        named = {} if contract == DEFAULT_CONTRACT else {"contract": contract}
        index = {"format": FORMAT, **named, "score_tolerance": SCORE_TOLERANCE, "cases": entries}
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


def contract_of(index: Mapping[str, Any], folder: str | os.PathLike[str]) -> str:
    """The contract of a suite that :func:`read_index` read; ``DataError`` if it is unknown."""
    contract = index.get("contract", DEFAULT_CONTRACT)
    if not isinstance(contract, str) or contract not in CONTRACTS:
        expected = f"expected a contract, one of {', '.join(CONTRACTS)}; got {contract!r}"
        raise DataError(Path(folder) / INDEX, expected)
    return contract


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
