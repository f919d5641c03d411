"""Turn a training run's weights into the ones that ship: decoding parameters go in, logs stay out.

The decoding parameters are those that `panokit tune` found best. ``--bias person=-0.5`` is added to
the logits of a class, where the photos that chose the decoding show that it is said too often.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from panokit.decoding import PostprocessConfig
from panokit_network.weights import load_weights, save_weights, shipped_weights_path


def main() -> None:
    """Write the shipped weights (or --out)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--min-thing-area", type=int, default=PostprocessConfig.min_thing_area)
    parser.add_argument("--min-stuff-area", type=int, default=PostprocessConfig.min_stuff_area)
    parser.add_argument("--min-thing-score", type=float, default=0.0)
    parser.add_argument("--bias", action="append", default=[], metavar="CLASS=LOGITS")
    parser.add_argument("--out", type=Path, default=shipped_weights_path())
    given = parser.parse_args()
    network, info = load_weights(given.weights)
    decoding = PostprocessConfig(
        threshold=given.threshold,
        window=given.window,
        min_thing_area=given.min_thing_area,
        min_stuff_area=given.min_stuff_area,
        min_thing_score=given.min_thing_score,
    )
    training = {**info.training, "postprocessing": decoding.to_json()}
    for name, added in (one.split("=") for one in given.bias):
        assert network.semantic_head.bias is not None
        with torch.no_grad():
            network.semantic_head.bias[info.taxonomy.channel(info.taxonomy.get(name).id)] += float(
                added
            )
    if given.bias:
        training["bias"] = given.bias
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(
        given.out, network.state_dict(), info.network, info.taxonomy, training, info.licence
    )
    print(given.out)  # noqa: T201 - this is what the script is asked for


if __name__ == "__main__":
    main()
