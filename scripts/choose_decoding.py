"""Choose the threshold and window of the decoding on validation photos that no figure is told of.

Runs the network once on each photo and decodes with every pair; prints panoptic quality of
things. Photos with partial labels count where they are labelled.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from panokit.postprocessing import PostprocessConfig, postprocess
from panokit.quality import PanopticQuality, decode_ids, load_truth, open_photo
from panokit.result import PanopticResult
from panokit_network.segmenter import open_weights

THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4)
WINDOWS = (7, 9, 11, 13, 17)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", default="coco_instances_val,voc_val")
    parser.add_argument("--limit", type=int, default=60, help="photos a split")
    given = parser.parse_args()
    segmenter = open_weights(given.weights)
    taxonomy = segmenter.taxonomy
    configs = {
        (t, w): PostprocessConfig(threshold=t, window=w) for t, w in product(THRESHOLDS, WINDOWS)
    }
    quality = {key: PanopticQuality(taxonomy) for key in configs}
    truths = [
        t
        for s in given.splits.split(",")
        for t in load_truth(given.data, s, taxonomy)[: given.limit]
    ]
    for truth in track(truths, "decoding"):
        photo, ids = open_photo(truth), decode_ids(truth)
        stages = segmenter.stages(photo)
        for key, config in configs.items():
            decoded = postprocess(stages.heads, taxonomy, stages.transform, config)
            result = PanopticResult.from_map(photo, decoded, taxonomy, stages.transform)
            channels = {s.id: taxonomy.channel(s.category.id) for s in result}
            quality[key].update(result.id_map, channels, ids, truth.segments)
    table = Table("threshold", *map(str, WINDOWS), title="PQ of things by window")
    for threshold in THRESHOLDS:
        found = (quality[threshold, w].compute() for w in WINDOWS)
        table.add_row(str(threshold), *(f"{q.things:.2f}" for q in found))
    Console().print(table)


if __name__ == "__main__":
    main()
