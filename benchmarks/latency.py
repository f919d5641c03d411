"""Latency of the shipped artifact beside peers, in turns in one run: absolute and per megapixel.

Peers are TFLite files in ``../shared/peers`` (or ``PANOKIT_PEERS``), if they are there.
"""

from __future__ import annotations

import os
from pathlib import Path

from panokit.bundle import shipped_bundle_path
from panokit_lab.bench import bench, bench_paths, machine

PEERS = Path(__file__).parents[2] / "shared" / "peers"


def main(seconds: float = 20.0) -> None:
    """Print one line per file and number of threads."""
    peers = sorted(Path(os.environ.get("PANOKIT_PEERS", PEERS)).glob("*.tflite"))
    files = bench_paths([shipped_bundle_path(), *peers])
    print(machine())
    for found in bench(files, (1, 2), seconds):
        print(
            f"{found.name}: {found.threads} threads, {found.median_ms:.1f} ms "
            f"({found.ms_per_megapixel:.0f} ms per megapixel), ratio {found.ratio:.2f}"
        )


if __name__ == "__main__":
    main()
