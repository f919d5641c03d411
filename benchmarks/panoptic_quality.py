"""`panokit pq` beside hotcoco and panopticapi: CPU time of a pair of PNG files, in turns.

The pairs are labelled photos of a COCO-panoptic folder and the same labels shifted, at 384 and
1,536 pixels. panopticapi takes part where it is installed
(https://github.com/cocodataset/panopticapi); all three must agree on the figure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit_datasets.id_png import ids_of
from panokit_datasets.quality.files import PanopticFile, compare_files

ROUNDS, PAIRS = 7, 16


def write_pairs(data: Path, split: str, side: int, out: Path) -> None:
    """Truth and predictions of the split's first photos, ``side``² pixels."""
    given = json.loads((data / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
    files: dict[str, list[dict[str, Any]]] = {"true": [], "pred": []}
    for annotation in given["annotations"][:PAIRS]:
        with Image.open(data / "panoptic" / annotation["file_name"]) as image:
            rgb = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.NEAREST))
        ids = ids_of(rgb)
        of_class = {s["id"]: s for s in annotation["segments_info"]}
        for kind, array in (
            ("true", ids),
            ("pred", np.roll(ids, (side // 40, side // 60), (0, 1))),
        ):
            name = f"{annotation['image_id']}.png"
            _save(out / kind / name, array)
            segments = [
                {"id": int(i), "category_id": of_class[int(i)]["category_id"], "area": int(n),
                 "iscrowd": of_class[int(i)].get("iscrowd", 0), "bbox": [0, 0, side, side]}
                for i, n in zip(*np.unique(array, return_counts=True), strict=True) if i
            ]  # fmt: skip
            files[kind].append(
                {"image_id": annotation["image_id"], "file_name": name, "segments_info": segments}
            )
    for kind, listed in files.items():
        images = [
            {"id": a["image_id"], "width": side, "height": side, "file_name": a["file_name"]}
            for a in listed
        ]
        text = {"images": images, "annotations": listed, "categories": given["categories"]}
        (out / f"{kind}.json").write_text(json.dumps(text), encoding="utf-8")


def _save(path: Path, ids: NDArray[np.int32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(path)


def ours(folder: Path) -> float:
    """PQ 0..1 as panopticapi counts."""
    truth = PanopticFile.read(folder / "true.json")
    pred = PanopticFile.read(folder / "pred.json", like=truth)
    return (compare_files(truth, pred, crowds="strict").result.all or 0) / 100


def by_hotcoco(folder: Path) -> float:
    """PQ 0..1 by hotcoco."""
    from hotcoco.panoptic import PanopticEval

    judge = PanopticEval(str(folder / "true.json"), str(folder / "pred.json"))
    judge.evaluate()
    return float(judge.results()["All"]["pq"])


def by_panopticapi(folder: Path) -> float:
    """PQ 0..1 by panopticapi, in one process."""
    evaluation = import_module("panopticapi.evaluation")

    truth, pred = (json.loads((folder / f"{k}.json").read_text()) for k in ("true", "pred"))
    pairs = list(zip(truth["annotations"], pred["annotations"], strict=True))
    categories = {c["id"]: c for c in truth["categories"]}
    with contextlib.redirect_stdout(io.StringIO()):
        counted = evaluation.pq_compute_single_core(
            0, pairs, str(folder / "true"), str(folder / "pred"), categories
        )
    return float(counted.pq_average(categories, None)[0]["pq"])


def measure(folder: Path, sides: dict[str, Callable[[Path], float]]) -> dict[str, list[float]]:
    """Milliseconds of CPU a pair, of each round; the figures must be the same."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            start = time.process_time()
            found[name] = run(folder)
            times[name].append(1e3 * (time.process_time() - start) / PAIRS)
    if max(found.values()) - min(found.values()) > 1e-12:
        raise SystemExit(f"they disagree: {found}")
    return times


def main() -> None:
    """Print the times and the medians of the ratios of each round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camera-panoptic"))
    parser.add_argument("--split", default="coco_panoptic_val")
    given = parser.parse_args()
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    sides: dict[str, Callable[[Path], float]] = {"ours": ours, "hotcoco": by_hotcoco}
    if find_spec("panopticapi"):
        sides["panopticapi"] = by_panopticapi
    for side in (384, 1536):
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(given.data, given.split, side, Path(folder))
            times = measure(Path(folder), sides)
        for name, of_rounds in times.items():
            ratio = statistics.median(a / b for a, b in zip(of_rounds, times["ours"], strict=True))
            print(f"{side} px  {name:12} {min(of_rounds):6.2f} ms a pair  {ratio:5.2f} × ours")


if __name__ == "__main__":
    main()
