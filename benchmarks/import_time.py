"""How long `import panokit` takes beside `import numpy, PIL.Image`, interleaved, medians."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

THEIRS, OURS = "import numpy, PIL.Image", "import panokit"


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs ``code``."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def ratio(runs: int = 9) -> float:
    """Median time of ours over the median of theirs, less the bare interpreter's start."""
    rows = [(seconds("pass"), seconds(THEIRS), seconds(OURS)) for _ in range(runs)]
    bare, theirs, ours = (statistics.median(r[i] for r in rows) for i in range(3))
    print(
        f"interpreter {bare * 1e3:.0f} ms, {THEIRS!r} +{(theirs - bare) * 1e3:.0f} ms, "
        f"{OURS!r} +{(ours - bare) * 1e3:.0f} ms"
    )
    return (ours - bare) / (theirs - bare)


def main() -> None:
    """Print the ratio."""
    print(f"import: {ratio():.2f} of {THEIRS!r}")
