"""Make again what hangs on the weights, in order; what is done for these weights is left alone.

    python scripts/remake.py --data DATA [--peers FOLDER] [--also YOLO.tflite …] [--more PHOTOS]
    python scripts/remake.py --data DATA --only pictures --only support
    python scripts/remake.py --list

For after ``scripts/publish_weights.py``. What each step says goes into OUT/STEP.log, figures into
files beside it. Tables are put into the manual where a script owns them; the rest is for a person
to read, and so are the pictures. Nothing else should run: some steps measure latencies.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from panokit_network.weights import shipped_weights_path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PANOKIT = (Path(PYTHON).with_name("panokit"),)
DOCS = ROOT / "docs"
SPLITS = ("coco_panoptic_val", "coco_person_val")

Command = tuple[str | Path, ...]


@dataclass(frozen=True)
class Step:
    """Commands that are done or not done together, under one name."""

    name: str
    commands: tuple[Command, ...]


@dataclass(frozen=True)
class Places:
    """Where things lie: labelled photos, peers' networks, more photos, and what is written."""

    data: Path
    out: Path
    peers: Path | None
    also: tuple[Path, ...]
    more: Path | None


def steps(at: Places) -> Iterator[Step]:
    """All steps, each after what it needs."""
    yield Step("bundle", ((PYTHON, "scripts/build_shipped_bundle.py"),))
    yield figures(at)
    if at.peers:
        ours = ("--bundle", at.out / "float.panokit", "--artifact", "tflite-float32")
        also = [word for path in at.also for word in ("--also", path)]
        beside = ("--data", at.data, "--peers", at.peers, *also, *ours)
        yield Step("peers", ((PYTHON, "-m", "benchmarks.person_iou", *beside),))
    more = ("--more", at.more) if at.more else ()
    gallery = ((PYTHON, "scripts/make_photo_sheet.py", "--gallery", *more),) if at.more else ()
    yield Step(
        "pictures",
        (
            (PYTHON, "scripts/make_docs_images.py"),
            (PYTHON, "scripts/make_tutorial_pictures.py"),
            *gallery,
            (PYTHON, "-m", "scripts.make_demo_images"),
            (PYTHON, "scripts/make_topics.py"),
        ),
    )
    yield Step("support", ((PYTHON, "scripts/make_support.py", "--data", at.data),))
    yield diagnosis(at)
    yield compression(at)


def figures(at: Places) -> Step:
    """The model card's tables: the float file and the shipped one on both splits."""
    bundle = at.out / "float.panokit"
    weights = ("--weights", shipped_weights_path(), "--recipe", "float32")
    commands: list[Command] = [
        (*PANOKIT, "export", *weights, "--formats", "tflite", "--out", bundle, "--no-strict")
    ]
    found = []
    exact = ("--bundle", bundle, "--artifact", "tflite-float32")
    for which, network in (("float", exact), ("int8", ())):
        for split in SPLITS:
            name = at.out / f"{which}-{split}"
            found.append(name.with_suffix(".json"))
            written = ("--json", found[-1], "--breakdown", name.with_suffix(".png"))
            commands.append(
                (*PANOKIT, "evaluate", *network, "--data", at.data, "--split", split, *written)
            )
    card = ("--write", DOCS / "model-card.md")
    commands.append((PYTHON, "scripts/model_card_figures.py", *found, *card))
    return Step("figures", tuple(commands))


def diagnosis(at: Places) -> Step:
    """How often a mistake of an app of its own is named."""
    listed = at.data / "annotations" / f"{SPLITS[0]}.json"
    names = [image["file_name"] for image in json.loads(listed.read_text("utf-8"))["images"]]
    photos = [at.data / "images" / name for name in names[:6]]
    int8, floats = at.out / "app-int8.json", at.out / "app-float.json"
    app: Command = (PYTHON, "-m", "benchmarks.independent_app")
    exact = ("--bundle", at.out / "float.panokit", "--artifact", "tflite-float32")
    return Step(
        "diagnosis",
        (
            (*app, *photos, "--json", int8),
            (*app, *photos[::2], *exact, "--views", "all stages", "--json", floats),
            (*app, "--docs", DOCS / "diagnosis.md", int8, floats),
        ),
    )


def compression(at: Places) -> Step:
    """Every recipe (some train for hours, and go on where they stopped), and a report."""
    sens, runs = at.out / "sensitivity", at.out / "recipes"
    train = ("--data", at.data, "--split", "coco_panoptic_train", "--limit", "16")
    judged = ("--data", at.data, "--split", SPLITS[0], "--coreml-photos", "50", "--out", runs)
    folder = ROOT / "compression" / "panokit_compression" / "recipes"
    names = sorted(path.stem for path in folder.glob("*.json"))
    peers = sorted(at.peers.glob("*.tflite")) if at.peers else []
    beside = [word for path in peers for word in ("--beside", path)]
    recipes = ",".join([*names, str(sens / "int8-mixed.json")])
    return Step(
        "compression",
        (
            (*PANOKIT, "compress", "sensitivity", *train, "--budget", "0.5", "--out", sens),
            (*PANOKIT, "compress", "run", recipes, *judged),
            (*PANOKIT, "compress", "report", runs, "--data", at.data, *beside),
        ),
    )


def run(step: Step, out: Path) -> bool:
    """All commands of a step; what they say goes into its log. Whether all went well."""
    with (out / f"{step.name}.log").open("w", encoding="utf-8") as log:
        for command in step.commands:
            words = [str(word) for word in command]
            log.write(f"$ {' '.join(words)}\n")
            log.flush()
            if subprocess.run(words, cwd=ROOT, stdout=log, stderr=log).returncode:
                return False
    return True


def main() -> int:
    """Run the steps that are not done for these weights."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camera-panoptic"))
    parser.add_argument("--out", type=Path, default=Path("out/remake"))
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--also", type=Path, action="append", default=[])
    parser.add_argument("--more", type=Path)
    parser.add_argument("--only", action="append", help="a step, even if it is done")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    out = given.out.resolve()
    peers, more = (p.resolve() if p else None for p in (given.peers, given.more))
    also = tuple(p.resolve() for p in given.also)
    todo = list(steps(Places(given.data.resolve(), out, peers, also, more)))
    say = sys.stdout.write
    if given.list:
        for step in todo:
            say(f"{step.name}\n")
            for command in step.commands:
                say("  " + " ".join(str(word) for word in command) + "\n")
        return 0
    if unknown := set(given.only or ()) - {step.name for step in todo}:
        parser.error(f"there is no step {sorted(unknown)[0]!r}")
    out.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(shipped_weights_path().read_bytes()).hexdigest()
    marks = out / "done.json"
    done = json.loads(marks.read_text("utf-8")) if marks.is_file() else {}
    for step in todo:
        if step.name not in given.only if given.only else done.get(step.name) == digest:
            continue
        began = time.monotonic()
        well = run(step, out)
        say(f"{step.name}: {'done' if well else 'failed'} after {time.monotonic() - began:.0f} s\n")
        if not well:
            say(f"see {out / step.name}.log\n")
            return 1
        done[step.name] = digest
        marks.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
