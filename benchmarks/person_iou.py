"""Person IoU beside the networks a team could pick today, on the same photos in one run.

    python -m benchmarks.person_iou --data camera-panoptic --peers FOLDER [--bundle B --artifact A]
        [--also INSTANCES.tflite]

Each peer is fed both ways, stretched to its input and letterboxed, and its class map is brought
back to the photo by nearest neighbour. Every network is judged by the class of each pixel.
``--also`` adopts an instance network of COCO's classes; a pixel of it has the class of its object.
Where photos are labelled in full, PQ of things stands beside; at the end sizes and latencies.
"""

from __future__ import annotations

import argparse
import tempfile
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

from panokit.bundle import Bundle
from panokit.photo import Photo
from panokit.preprocessing import TransformRecord, letterbox
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_datasets.classes import ClassList
from panokit_datasets.mapping import ClassMapping
from panokit_datasets.quality import (
    PanopticQuality,
    Prediction,
    SemanticQuality,
    decode_ids,
    load_truth,
    open_photo,
)
from panokit_datasets.quality.bootstrap import bootstrap_weights
from panokit_datasets.quality.predictor import predictor
from panokit_datasets.quality.semantic import PixelCounts, true_channels
from panokit_lab.adopt import AdoptRequest, adopt
from panokit_lab.bench import bench, machine

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


def instance_segmenter(
    bundle: Bundle, taxonomy: Taxonomy, listed: str = "coco_instances"
) -> Callable[[Photo], Prediction]:
    """An adopted network whose classes are those of a list, as one of ``taxonomy``'s."""
    theirs = Segmenter.open(bundle)
    mapping = ClassMapping.between(ClassList.named(listed), ClassList.of(taxonomy))
    channels = [mapping.rules[c.name].channel for c in theirs.taxonomy]
    predict = predictor(theirs)

    def mapped(photo: Photo) -> Prediction:
        found = Prediction(*predict(photo))
        ours = [(i, channels[channel], score) for i, channel, score in found.segments]
        kept = [s for s in ours if s[1] >= 0]
        table = np.full(int(found.ids.max()) + 1, -1)
        for number, channel, _ in kept:
            table[number] = channel
        class_map = table[found.ids]
        return Prediction(np.where(class_map >= 0, found.ids, 0), kept, class_map)

    return mapped


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--also", type=Path, action="append", default=[])
    parser.add_argument("--split", action="append")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--artifact")
    given = parser.parse_args()
    ours = Segmenter.open(given.bundle, given.artifact)
    taxonomy = ours.taxonomy
    person = taxonomy.channel(taxonomy.get("person").id)
    own = f"panokit {ours.artifact.name}"
    networks: dict[str, Callable[[Photo], Any]] = {own: predictor(ours)}
    objects = {own, *(path.stem for path in given.also)}
    for peer in PEERS:
        for name, stretched in (("letterboxed", False), ("stretched", True)):
            made = peer_segmenter(given.peers, peer, stretched, person)
            networks[f"{Path(peer.file).stem}, {name}"] = made
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        files = {path.stem: path for path in (given.peers / p.file for p in PEERS)}
        for path in given.also:
            request = AdoptRequest((path,), Path(folder) / f"{path.stem}.panokit")
            photos = {name: Photo.open(p) for name, p in sample_photos().items()}
            networks[path.stem] = instance_segmenter(
                adopt(request, photos, console.print).bundle, taxonomy
            )
            files[path.stem] = path
        for split in given.split or ["coco_person_val", "coco_panoptic_val"]:
            console.print(compare(networks, given.data, split, ours, person, objects))
    console.print(speed({own: ours.bundle.path(ours.artifact)} | files))


def speed(files: dict[str, Path]) -> Table:
    """Size and time of one inference of each file, in turns; the first is the unit."""
    table = Table(
        "file", "MB", "ms, 1 thread (ratio)", "ms, 2 threads (ratio)", title=str(machine())
    )
    times = bench(files, (1, 2), 20.0)
    for name, path in files.items():
        of = {t.threads: f"{t.median_ms:.1f} ({t.ratio:.2f})" for t in times if t.name == name}
        table.add_row(name, f"{path.stat().st_size / 1e6:.2f}", of[1], of[2])
    return table


def compare(
    networks: dict[str, Callable[[Photo], Any]],
    data: Path,
    split: str,
    ours: Segmenter,
    person: int,
    objects: set[str],
) -> Table:
    """Person IoU of every network, by how much the first differs from each; of those that know
    ``objects`` person PQ, and PQ of things where all photos are labelled in full."""
    truth = load_truth(data, split, ours.taxonomy)
    counts: dict[str, list[PixelCounts]] = {name: [] for name in networks}
    panoptic = {name: PanopticQuality(ours.taxonomy) for name in networks}
    for one in track(truth, split):
        photo, ids = open_photo(one), decode_ids(one)
        true = true_channels(ids, one.segments)
        for name, predict in networks.items():
            found = Prediction(*predict(photo))
            quality = SemanticQuality(ours.taxonomy)
            class_map = np.asarray(found.class_map, np.int64)
            counts[name].append(quality.update(class_map, true, one.absent))
            segments = {number: channel for number, channel, _ in found.segments}
            panoptic[name].update(found.ids, segments, ids, one.segments)
    weights = bootstrap_weights(len(truth))
    title = f"{split}, {len(truth)} photos (95 % of 1,000 resamples of the photos)"
    gap_column = "first row is better by (points)"
    table = Table("network", "person IoU", gap_column, "PQ of things", "person PQ", title=title)
    iou = {n: _resampled(c, person, weights) for n, c in counts.items()}
    first = next(iter(iou))
    for name, (value, resampled) in iou.items():
        gap = 100 * (iou[first][0] - value)
        low, high = np.percentile(100 * (iou[first][1] - resampled), (2.5, 97.5))
        between = "" if name == first else f"{gap:+.1f} ({low:+.1f} .. {high:+.1f})"
        figures = panoptic[name].compute()
        pq = ["", ""]
        if name in objects:
            whole = f"{figures.things:.1f}" if all(t.complete for t in truth) else ""
            pq = [whole, f"{figures.per_class['person'].pq:.1f}"]
        table.add_row(name, f"{value:.3f}", between, *pq)
    return table


def _resampled(
    counts: list[PixelCounts], person: int, weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    shared = np.array([c.intersection[person] for c in counts], np.float64)
    union = np.array([c.union[person] for c in counts], np.float64)
    return float(shared.sum() / union.sum()), (weights @ shared) / (weights @ union)


if __name__ == "__main__":
    main()
