"""Plant every fault on many photos, diagnose the dumps, and write the table into the docs.

    python scripts/diagnosis_table.py --out out/diagnosis

exports a bundle with a float and an int8 artifact from the shipped weights (or takes
``--bundle``), uses the sample photos and the validation photos of the photo set beside the project
(crops of the sample photos stand in for it), and goes on where it was stopped as long as bundle and
photos are the same. ``--docs FILE`` and ``--picture FILE`` say where the result goes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console

from panokit.photo import Photo
from panokit.samples import sample_photos
from panokit_network.weights import shipped_weights_path
from panokit_validation.confusion import Confusion, Plan, run
from panokit_validation.confusion_report import summary, write_into

ROOT = Path(__file__).parent.parent
console = Console()


def export(out: Path) -> Path:
    """A bundle with both artifacts."""
    bundle = out / "camera.panokit"
    if not bundle.is_dir():
        program = str(Path(sys.executable).with_name("panokit"))
        weights = str(shipped_weights_path())
        arguments = ("--recipe", "float32,int8", "--formats", "tflite", "--out", str(bundle))
        subprocess.run([program, "export", "--weights", weights, *arguments], check=True)
    return bundle


def photos(out: Path, count: int) -> list[Path]:
    """The sample photos, then validation photos from every source in turn, or crops."""
    found = list(sample_photos().values())
    default = ROOT.parent / "shared" / "data" / "camera-panoptic"
    data = Path(os.environ.get("PANOKIT_DATA", default))
    sources = []
    for file in sorted((data / "annotations").glob("*_val.json")):
        images = json.loads(file.read_text(encoding="utf-8"))["images"]
        sources.append([data / "images" / i["file_name"] for i in images])
    for turn in range(max((len(s) for s in sources), default=0)):
        found += [s[turn] for s in sources if turn < len(s)]
    if not sources:
        found += _crops(found, out / "photos", count - len(found))
    return found[:count]


def _crops(files: list[Path], folder: Path, count: int) -> list[Path]:
    """Parts of photos, of other shapes and sizes."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        pixels = Photo.open(files[i % len(files)]).rgb_hwc
        h, w = (int(s * rng.uniform(0.5, 0.95)) for s in pixels.shape[:2])
        y, x = (int(rng.integers(0, s - n + 1)) for s, n in zip(pixels.shape, (h, w), strict=False))
        path = folder / f"crop-{i:03}.png"
        Image.fromarray(pixels[y : y + h, x : x + w]).save(path)
        made.append(path)
    return made


def main() -> None:
    """Run what is left and write the documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/diagnosis"))
    parser.add_argument("--bundle", type=Path, help="with tflite-float32 and tflite-int8")
    parser.add_argument("--photos", type=int, default=100, help="the most that are used")
    parser.add_argument("--count", type=int, default=20, help="photos on which each fault acts")
    parser.add_argument("--heads-count", type=int, default=5, help="the same without the input")
    parser.add_argument("--map-count", type=int, default=3, help="the same with the map alone")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this; go on later")
    parser.add_argument("--partial", action="store_true", help="write what is there when stopped")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "diagnosis.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/confusion.png")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    bundle = a.bundle or export(a.out)
    files = tuple(str(p) for p in photos(a.out, a.photos))
    counts = (("all", a.count), ("heads", a.heads_count), ("map", a.map_count))
    plan = Plan(str(bundle), ("tflite-int8", "tflite-float32"), files, counts, len(files))
    started = time.perf_counter()
    confusion = Confusion()
    with closing(run(plan, a.out / "cases.jsonl", a.jobs)) as progress:
        for done, tasks, so_far in progress:
            confusion, seconds = so_far, time.perf_counter() - started
            console.print(f"{done} of {tasks} tasks, {seconds:.0f} s", highlight=False)
            if done < tasks and seconds > 60 * a.minutes:
                break
    note = "" if done == tasks else f"**Unfinished run: {done} of {tasks} tasks.**"
    if done == tasks or a.partial:
        write_into(a.docs, confusion, a.picture, note)
    if done < tasks:
        console.print("stopped; the same command goes on")
        sys.exit(3)
    console.print_json(json.dumps(summary(confusion)))
    console.print(f"{time.perf_counter() - started:.0f} s; {a.docs} is up to date")


if __name__ == "__main__":
    main()
