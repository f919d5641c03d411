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


def splits_table(results: list[dict[str, Any]]) -> list[str]:
    """A line for each split and artifact."""
    lines = [
        "| split, artifact | photos | person IoU (95 %) | person boundary IoU | mIoU | PQ (95 %) "
        "| PQ things | PQ stuff |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        pq = r["pq"]
        lines.append(
            f"| {r['split']}, {r['artifact']} | {r['photos']} "
            f"| {number(r['person_iou'], 3)} ({between(r, 'person_iou', 3)}) "
            f"| {number(r['person_boundary_iou'], 3)} | {number(r['miou'], 3)} "
            + (
                f"| {number(pq['all'])} ({between(r, 'pq_all', 1)}) | {number(pq['things'])} "
                f"| {number(pq['stuff'])} |"
                if is_full(r)
                else "| – | – | – |"
            )
        )
    return lines


def class_table(result: dict[str, Any]) -> list[str]:
    """The classes of a fully labelled split."""
    person = result["pq"]["per_class"]["person"]
    there = f"{person['tp'] + person['fn']} in {result['photos']} photos"
    lines = [f"Per class on {result['split']}, {result['artifact']} (persons: {there}):", ""]
    lines += ["| class | PQ | SQ | RQ | TP | FP | FN |", "|---|---|---|---|---|---|---|"]
    for name, f in result["pq"]["per_class"].items():
        quality = " | ".join(number(f[k]) for k in ("pq", "sq", "rq"))
        lines.append(f"| {name} | {quality} | {f['tp']} | {f['fp']} | {f['fn']} |")
    return lines


def is_full(result: dict[str, Any]) -> bool:
    """Whether every photo of a split is labelled in full."""
    return bool(result["split"].startswith("coco_panoptic"))


def put(page: str, mark: str, lines: list[str]) -> str:
    """The page with lines between two marks."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, _, rest = page.partition(begin)
    text = "\n".join(lines)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """A table of splits, and one of the classes of the first fully labelled split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--write", type=Path, help="put the tables into this page")
    given = parser.parse_args()
    results = [json.loads(f.read_text(encoding="utf-8")) for f in given.files]
    splits, classes = splits_table(results), class_table(next(filter(is_full, results)))
    if given.write is None:
        print("\n".join([*splits, "", *classes]))  # noqa: T201 - what the script is asked for
        return
    page = put(given.write.read_text(encoding="utf-8"), "figures", splits)
    given.write.write_text(put(page, "classes", classes), encoding="utf-8")


if __name__ == "__main__":
    main()
