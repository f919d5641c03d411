"""Person IoU beside the networks a team could pick today, on the same photos in one run.

    python -m benchmarks.person_iou --data camera-panoptic --peers FOLDER [--bundle B --artifact A]

Each peer is fed both ways, stretched to its input and letterboxed, and its class map is brought
back to the photo by nearest neighbour. Every network is judged by the class of each pixel.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from panokit.photo import Photo
from panokit.preprocessing import TransformRecord, letterbox
from panokit.segmenter import Segmenter
from panokit_datasets.quality import Prediction, SemanticQuality, decode_ids, load_truth, open_photo
from panokit_datasets.quality.bootstrap import bootstrap_weights
from panokit_datasets.quality.predictor import predictor
from panokit_datasets.quality.semantic import PixelCounts, true_channels

PERSON_OF_PASCAL = 15


@dataclass(frozen=True)
class Peer:
    """A peer's file and what its input and output mean."""

    file: str
    prepare: Callable[[NDArray[np.uint8]], NDArray[Any]]
    is_person: Callable[[NDArray[Any]], NDArray[np.bool_]]


PEERS = (
    Peer("deeplabv3_mnv2_pascal_quant.tflite", lambda x: x, lambda y: y[0] == PERSON_OF_PASCAL),
    Peer(
        "deeplabv3_mnv2_dm05_pascal_quant.tflite", lambda x: x, lambda y: y[0] == PERSON_OF_PASCAL
    ),
    Peer(
        "deeplabv3_257_mv_gpu.tflite",
        lambda x: x.astype(np.float32) / 127.5 - 1,
        lambda y: y[0].argmax(-1) == PERSON_OF_PASCAL,
    ),
    Peer(
        "selfie_segmentation.tflite",
        lambda x: x.astype(np.float32) / 255,
        lambda y: y[0, ..., 0] > 0.5,
    ),
)


def transform_of(photo: Photo, size_wh: tuple[int, int], stretched: bool) -> TransformRecord:
    """How the photo is laid into a peer's input."""
    if not stretched:
        return letterbox(photo.size_wh, size_wh)
    scale = max(size_wh) / max(photo.size_wh)
    return TransformRecord(photo.size_wh, size_wh, size_wh, 0, 0, scale)


def peer_segmenter(
    folder: Path, peer: Peer, stretched: bool, person: int
) -> Callable[[Photo], Prediction]:
    """The peer as a segmenter that knows persons alone."""
    from PIL import Image

    interpreter = Interpreter(str(folder / peer.file), num_threads=2)
    interpreter.allocate_tensors()
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    h, w = (int(side) for side in entry["shape"][1:3])

    def predict(photo: Photo) -> Prediction:
        transform = transform_of(photo, (w, h), stretched)
        image = Image.fromarray(photo.rgb_hwc).resize(
            transform.content_wh, Image.Resampling.BILINEAR
        )
        canvas = np.zeros((h, w, 3), np.uint8)
        canvas[transform.content_slices] = np.asarray(image)
        interpreter.set_tensor(entry["index"], peer.prepare(canvas)[None].astype(entry["dtype"]))
        interpreter.invoke()
        found = peer.is_person(interpreter.get_tensor(out["index"]))
        on_photo = transform.map_to_photo(found)
        ids = on_photo.astype(np.int32)
        segments = [(1, person, 1.0)] if ids.any() else []
        return Prediction(ids, segments, np.where(on_photo, person, -1))

    return predict


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--split", action="append")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--artifact")
    given = parser.parse_args()
    ours = Segmenter.open(given.bundle, given.artifact)
    person = ours.taxonomy.channel(ours.taxonomy.get("person").id)
    networks: dict[str, Callable[[Photo], Any]] = {f"panokit {ours.artifact.name}": predictor(ours)}
    for peer in PEERS:
        for name, stretched in (("letterboxed", False), ("stretched", True)):
            made = peer_segmenter(given.peers, peer, stretched, person)
            networks[f"{Path(peer.file).stem}, {name}"] = made
    for split in given.split or ["coco_person_val", "coco_panoptic_val"]:
        Console().print(compare(networks, given.data, split, ours, person))


def compare(
    networks: dict[str, Callable[[Photo], Any]],
    data: Path,
    split: str,
    ours: Segmenter,
    person: int,
) -> Table:
    """Person IoU of every network, and by how much the first differs from each."""
    truth = load_truth(data, split, ours.taxonomy)
    counts: dict[str, list[PixelCounts]] = {name: [] for name in networks}
    for one in track(truth, split):
        photo, true = open_photo(one), true_channels(decode_ids(one), one.segments)
        for name, predict in networks.items():
            class_map = np.asarray(predict(photo).class_map, np.int64)
            quality = SemanticQuality(ours.taxonomy)
            counts[name].append(quality.update(class_map, true, one.absent))
    weights = bootstrap_weights(len(truth))
    title = f"person IoU, {split}, {len(truth)} photos (95 % of 1,000 resamples of the photos)"
    table = Table("network", "person IoU", "first row is better by (points)", title=title)
    iou = {n: _resampled(c, person, weights) for n, c in counts.items()}
    first = next(iter(iou))
    for name, (value, resampled) in iou.items():
        gap = 100 * (iou[first][0] - value)
        low, high = np.percentile(100 * (iou[first][1] - resampled), (2.5, 97.5))
        between = "" if name == first else f"{gap:+.1f} ({low:+.1f} .. {high:+.1f})"
        table.add_row(name, f"{value:.3f}", between)
    return table


def _resampled(
    counts: list[PixelCounts], person: int, weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    shared = np.array([c.intersection[person] for c in counts], np.float64)
    union = np.array([c.union[person] for c in counts], np.float64)
    return float(shared.sum() / union.sum()), (weights @ shared) / (weights @ union)


if __name__ == "__main__":
    main()
