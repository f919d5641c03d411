"""`make quickstart`: the main job from the shipped weights to a validated result, on real photos.

Every step is a command that a user would type; this script runs them in turn, times them, and
prints where everything lies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from panokit.bundle import Bundle
from panokit.samples import sample_photos
from panokit_network.weights import shipped_weights_path

PROGRAM = Path(sys.executable).with_name("panokit")
console = Console()


@dataclass(frozen=True)
class Step:
    """One command and what it makes."""

    title: str
    arguments: tuple[str, ...]
    makes: Path


def steps(out: Path, photos: list[Path]) -> list[Step]:
    """The whole way, in order."""
    bundle = out / "camera.panokit"
    use = ("--bundle", str(bundle), "--artifact", "tflite-int8")
    names = tuple(str(p) for p in photos)
    export = (
        "export", "--weights", str(shipped_weights_path()), "--recipe", "float32,int8",
        "--formats", "tflite,coreml", "--out", str(bundle), "--json", str(out / "export.json"),
    )  # fmt: skip
    found = [
        Step("quantize and export TFLite and Core ML", export, bundle),
        Step(
            "segment the sample photos with int8 TFLite",
            (
                "segment",
                *names,
                *use,
                "--out",
                str(out / "segment"),
                "--json",
                str(out / "segment.json"),
            ),
            out / "segment",
        ),
    ]
    for photo in photos:
        target = out / "blur" / f"{photo.stem}.jpg"
        arguments = ("blur", str(photo), *use, "--out", str(target))
        found.append(Step(f"portrait blur of {photo.stem}", arguments, target))
    dumps = out / "dumps"
    found += [
        Step("gallery", ("demo", "--gallery", *names, str(out / "gallery"), *use), out / "gallery"),
        Step("dump the device tensors", ("dump", *names, *use, "--out", str(dumps)), dumps),
        Step(
            "validate the dumps",
            ("validate", str(dumps), *use[:2], "--json", str(out / "validate.json")),
            out / "validate.json",
        ),
    ]
    return found


def run(step: Step) -> float:
    """Run a step; seconds it took. A step that fails ends the quickstart with its exit code."""
    console.rule(f"[bold]{step.title}")
    console.print("panokit", *step.arguments, style="dim", highlight=False, soft_wrap=True)
    started = time.perf_counter()
    done = subprocess.run([str(PROGRAM), *step.arguments], check=False)
    if done.returncode:
        console.print(f"[red]{step.title} failed[/red] with exit code {done.returncode}")
        sys.exit(done.returncode)
    return time.perf_counter() - started


def print_summary(out: Path, times: dict[str, tuple[float, Path]]) -> None:
    """What was made, what was found, how long it took."""
    table = Table("step", "seconds", "where", title="What was made")
    for title, (seconds, where) in times.items():
        table.add_row(title, f"{seconds:.1f}", str(where))
    console.print(table)
    manifest = Bundle.open(out / "camera.panokit").manifest
    table = Table("artifact", "precision", "MB", "runs on", title="Artifacts of the bundle")
    for a in manifest.artifacts:
        table.add_row(a.name, a.precision, f"{a.bytes / 1e6:.2f}", a.minimum_os or "any")
    console.print(table)
    found: dict[str, Any] = json.loads((out / "segment.json").read_text(encoding="utf-8"))
    checked: dict[str, Any] = json.loads((out / "validate.json").read_text(encoding="utf-8"))
    verdicts = {p["photo"]: p["verdict"] for p in checked["photos"]}
    table = Table("photo", "objects", "stuff", "validation", title="What was found")
    for result in found["results"]:
        name = Path(result["photo"]).stem
        objects = ", ".join(f"{n} × {c}" for c, n in result["counts"].items()) or "none"
        stuff = ", ".join(s["category"] for s in result["segments"] if not s["isthing"]) or "none"
        table.add_row(name, objects, stuff, verdicts.get(name, "-"))
    console.print(table)
    console.print(f"Look at [bold]{out / 'gallery' / 'index.html'}[/bold] in a browser.")


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/quickstart"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    times = {s.title: (run(s), s.makes) for s in steps(out, list(sample_photos().values()))}
    print_summary(out, times)


if __name__ == "__main__":
    main()
