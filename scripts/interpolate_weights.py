"""Weights between those a fine-tuning started from and those it ended with.

A point on the line often keeps what the start knew and most of what the run added (Wortsman et
al., https://arxiv.org/abs/2109.01903). Which point is chosen on validation photos that no figure
is told of (`panokit tune`).
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from panokit_network.weights import load_weights, save_weights


def main() -> None:
    """Write share × LAST + (1 - share) × FIRST."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("last", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of LAST, 0..1")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if not 0 <= given.share <= 1:
        parser.error("--share: expected a number from 0 to 1")
    (first, about), (last, info) = load_weights(given.first), load_weights(given.last)
    if about.network != info.network or about.taxonomy != info.taxonomy:
        parser.error("expected weights of one network and one taxonomy")
    start, end = first.state_dict(), last.state_dict()
    state = {
        name: start[name].lerp(value, given.share)
        for name, value in end.items()
        if value.is_floating_point()
    }
    training = {
        **info.training,
        "interpolated": {
            "first": hashlib.sha256(given.first.read_bytes()).hexdigest(),
            "last": hashlib.sha256(given.last.read_bytes()).hexdigest(),
            "share_of_last": given.share,
        },
    }
    save_weights(given.out, state, info.network, info.taxonomy, training, info.licence)
    print(given.out)  # noqa: T201 - this is what the script is asked for


if __name__ == "__main__":
    main()
