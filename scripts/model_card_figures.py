"""Print the model card's figures as Markdown, from the JSON files of `panokit evaluate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def number(value: float | None, digits: int = 1) -> str:
    """A figure, or a dash where there is nothing to judge."""
    return "–" if value is None else f"{value:.{digits}f}"


def between(data: dict[str, Any], key: str, digits: int) -> str:
    """A 95 % bootstrap interval over photos."""
    found = data["intervals"].get(key)
    return f"{found[0]:.{digits}f}–{found[1]:.{digits}f}" if found else ""


def main() -> None:
    """Print a table of splits, then the classes of the fully labelled split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    files = parser.parse_args().files
    results = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    lines = [
        "| split, artifact | photos | person IoU (95 %) | person boundary IoU | mIoU | PQ (95 %) "
        "| PQ things | PQ stuff |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        pq = r["pq"]
        full = r["split"].startswith("coco_panoptic")  # the only fully labelled source
        lines.append(
            f"| {r['split']}, {r['artifact']} | {r['photos']} "
            f"| {number(r['person_iou'], 3)} ({between(r, 'person_iou', 3)}) "
            f"| {number(r['person_boundary_iou'], 3)} | {number(r['miou'], 3)} "
            + (
                f"| {number(pq['all'])} ({between(r, 'pq_all', 1)}) | {number(pq['things'])} "
                f"| {number(pq['stuff'])} |"
                if full
                else "| – | – | – |"
            )
        )
    for r in results:
        if not r["split"].startswith("coco_panoptic"):
            continue
        lines += ["", f"Per class on {r['split']}, {r['artifact']}:", ""]
        lines += ["| class | PQ | SQ | RQ | TP | FP | FN |", "|---|---|---|---|---|---|---|"]
        for name, f in r["pq"]["per_class"].items():
            quality = " | ".join(number(f[k]) for k in ("pq", "sq", "rq"))
            lines.append(f"| {name} | {quality} | {f['tp']} | {f['fp']} | {f['fn']} |")
    print("\n".join(lines))  # noqa: T201 - this is what the script is asked for


if __name__ == "__main__":
    main()
