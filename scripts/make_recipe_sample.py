"""Write a small generated data set of one domain, for the recipes of the manual: shapes in place of
photos, so that every command of a recipe can be run in a minute.

python scripts/make_recipe_sample.py driving sample
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit.samples import sample_photos
from panokit_datasets.classes import ClassList
from panokit_datasets.reader import Truth
from panokit_datasets.readers import writers
from panokit_datasets.truth import TruthSegment
from panokit_datasets.writer import Sample

Color = tuple[int, int, int]

SETTINGS = {
    "phases": [{"size": 64, "batch": 4, "samples": 32}],
    "network": {
        "classes": 1, "pyramid_width": 32, "semantic_width": 32, "instance_width": 32,
        "head_width": 16, "context_dilations": [1],
    },
    "warmup_samples": 4, "cooldown_samples": 8, "save_every": 1000, "validate_every": 1000,
}  # fmt: skip
"""Settings of `panokit train` for a try: a few steps at 64 pixels. They prove the way, not the
network."""


@dataclass
class Scene:
    """A picture that is drawn, with its labels."""

    classes: ClassList
    width: int
    height: int
    rng: np.random.Generator
    rgb: NDArray[np.uint8] = field(init=False)
    ids: NDArray[np.int32] = field(init=False)
    segments: list[TruthSegment] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.rgb = np.zeros((self.height, self.width, 3), np.uint8)
        self.ids = np.zeros((self.height, self.width), np.int32)

    def draw(self, mask: NDArray[np.bool_], name: str, color: Color) -> None:
        """Draw a segment: all stuff of one class is one."""
        channel = self.classes.taxonomy.channel(self.classes.taxonomy.get(name).id)
        thing = self.classes.taxonomy.categories[channel].is_thing
        same = [s.id for s in self.segments if s.channel == channel and not thing]
        if not same:
            self.segments.append(TruthSegment(len(self.segments) + 1, channel, thing))
        self.ids[mask] = same[0] if same else len(self.segments)
        noise = self.rng.normal(0, 6, (self.height, self.width, 1))
        shade = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
        self.rgb[mask] = shade[mask]

    def box(self, x: float, y: float, w: float, h: float) -> NDArray[np.bool_]:
        """The pixels of a rectangle, in shares of the picture."""
        ys, xs = np.mgrid[: self.height, : self.width]
        ys, xs = (ys + 0.5) / self.height, (xs + 0.5) / self.width
        inside: NDArray[np.bool_] = (xs >= x) & (xs < x + w) & (ys >= y) & (ys < y + h)
        return inside

    def oval(self, x: float, y: float, w: float, h: float) -> NDArray[np.bool_]:
        """The pixels of an oval within a rectangle."""
        ys, xs = np.mgrid[: self.height, : self.width]
        ys, xs = (ys + 0.5) / self.height, (xs + 0.5) / self.width
        dx, dy = (xs - x - w / 2) / (w / 2), (ys - y - h / 2) / (h / 2)
        inside: NDArray[np.bool_] = dx * dx + dy * dy < 1
        return inside

    @property
    def truth(self) -> Truth:
        """Its labels; what is covered entirely is none."""
        there = set(np.unique(self.ids).tolist())
        return Truth(self.ids, tuple(s for s in self.segments if s.id in there))


def street(scene: Scene, moment: float) -> None:
    """Sky, buildings, a road, cars and people; they move with the ``moment``, 0 to 1."""
    r = scene.rng.uniform
    scene.draw(scene.box(0, 0, 1, 0.45), "sky", (120, 170, 230))
    for x in (0.0, 0.3, 0.62):
        scene.draw(scene.box(x, r(0.1, 0.2), 0.27, 0.4), "building", (150, 120, 100))
    scene.draw(scene.box(0, 0.45, 1, 0.55), "road", (90, 90, 95))
    for i, color in enumerate([(200, 30, 30), (40, 60, 190)]):
        x = (0.15 + 0.4 * i + (0.6 if i else -0.5) * moment) % 1.1 - 0.15
        scene.draw(scene.box(x, 0.6 + 0.12 * i, 0.2, 0.16), "car", color)
    x = 0.1 + 0.75 * moment
    scene.draw(scene.box(x, 0.5, 0.05, 0.24), "person", (230, 180, 60))


def tissue(scene: Scene, moment: float) -> None:
    """A slide: background, tissue, and some lesions."""
    r = scene.rng.uniform
    scene.draw(scene.box(0, 0, 1, 1), "glass", (225, 225, 225))
    scene.draw(scene.oval(0.05, 0.08, 0.9, 0.84), "tissue", (150, 150, 150))
    for _ in range(int(r(1, 4))):
        size = r(0.1, 0.22)
        scene.draw(scene.oval(r(0.2, 0.6), r(0.2, 0.6), size, size), "lesion", (70, 70, 70))


def land(scene: Scene, moment: float) -> None:
    """From above: fields, a road, houses and cars."""
    r = scene.rng.uniform
    scene.draw(scene.box(0, 0, 1, 1), "field", (90, 140, 70))
    scene.draw(scene.box(0, r(0.4, 0.5), 1, 0.12), "road", (110, 110, 110))
    for _ in range(3):
        scene.draw(scene.box(r(0, 0.8), r(0, 0.25), 0.16, 0.12), "house", (170, 80, 60))
    for _ in range(2):
        scene.draw(scene.box(r(0, 0.9), r(0.44, 0.5), 0.07, 0.04), "car", (230, 230, 240))


CITY = ClassList.named("cityscapes").evaluated
SLIDE = ClassList.from_json({"things": ["lesion"], "stuff": ["glass", "tissue"]})
ABOVE = ClassList.from_json({"things": ["house", "car"], "stuff": ["field", "road"]})


def main() -> None:
    """Write the sample that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain", choices=sorted(DOMAINS))
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    DOMAINS[arguments.domain](arguments.out)
    sys.stdout.write(f"{arguments.out}\n")


def driving(out: Path) -> None:
    """Cityscapes' layout, two splits."""
    data_set(out / "city", "cityscapes", CITY, street, {"train": 10, "val": 4}, (256, 128))
    settings(out, CITY)


def medical(out: Path) -> None:
    """16-bit grey slides with PNGs of classes and instances, and one large slide."""
    data_set(out / "slides", "label-pngs", SLIDE, tissue, {"train": 10, "val": 4}, (128, 128))
    for path in sorted((out / "slides/images").glob("*/*.png")):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 257).save(path)
    large = Scene(SLIDE, 900, 700, np.random.default_rng(9))
    tissue(large, 0)
    Image.fromarray(large.rgb[..., 0].astype(np.uint16) * 40 + 500).save(out / "slide.tif")
    settings(out, SLIDE)


def aerial(out: Path) -> None:
    """COCO instances as an annotation tool exports them, and one large picture."""
    data_set(out / "tiles", "coco-panoptic", ABOVE, land, {"train": 10, "val": 4}, (128, 128))
    large = Scene(ABOVE, 1200, 800, np.random.default_rng(9))
    land(large, 0)
    Image.fromarray(large.rgb).save(out / "area.tif")
    settings(out, ABOVE)


def surveillance(out: Path) -> None:
    """MOTChallenge-STEP's layout: frames of a camera that stands still."""
    classes = ClassList.named("motchallenge_step")
    out.mkdir(parents=True, exist_ok=True)
    (out / "person.png").write_bytes(sample_photos()["astronaut"].read_bytes())
    data_set(
        out / "camera", "motchallenge-step", classes, square, {"train": 10, "val": 8}, (192, 128)
    )
    settings(out, classes)


def square(scene: Scene, moment: float) -> None:
    """A square with people who walk, who stay the same while the ``moment`` goes on."""
    scene.draw(scene.box(0, 0, 1, 0.4), "building", (150, 120, 100))
    scene.draw(scene.box(0, 0.4, 1, 0.6), "sidewalk", (130, 130, 130))
    for i, color in enumerate([(230, 60, 60), (60, 60, 230)]):
        x = 0.1 + 0.4 * i
        y = 0.1 + 0.6 * moment if i == 0 else 0.65 - 0.55 * moment
        scene.draw(scene.box(x, y, 0.09, 0.28), "person", color)


def data_set(
    out: Path,
    kind: str,
    classes: ClassList,
    draw: Callable[[Scene, float], None],
    splits: dict[str, int],
    size: tuple[int, int],
) -> None:
    """Scenes in the layout of a kind of data set."""
    for number, (split, count) in enumerate(splits.items()):
        writer = writers()[kind](out, split, classes)
        records = []
        with tempfile.TemporaryDirectory() as folder:
            for i in range(count):
                scene = Scene(classes, *size, np.random.default_rng(100 * number + i))
                draw(scene, i / max(1, count - 1))
                photo = Path(folder) / f"{i:06d}.png"
                Image.fromarray(scene.rgb).save(photo)
                records.append(writer.write(Sample(i, f"{i:06d}", "", photo, scene.truth)))
        writer.finish(records)


def settings(out: Path, classes: ClassList) -> None:
    """Settings of a short training."""
    network = {**SETTINGS["network"], "classes": len(classes.classes)}  # type: ignore[dict-item]
    text = json.dumps({**SETTINGS, "network": network}, indent=1)
    (out / "settings.json").write_text(text + "\n", encoding="utf-8")


def phone(out: Path) -> None:
    """Photos of a phone, without any labels."""
    (out / "photos").mkdir(parents=True, exist_ok=True)
    for i in range(4):
        scene = Scene(CITY, 320, 240, np.random.default_rng(i))
        street(scene, i / 3)
        Image.fromarray(scene.rgb).save(out / "photos" / f"photo_{i}.jpg", quality=92)
    text = json.dumps({"phases": [{"size": 64, "batch": 2, "samples": 4}]})
    (out / "settings.json").write_text(text + "\n", encoding="utf-8")


DOMAINS: dict[str, Callable[[Path], None]] = {
    "driving": driving, "medical": medical, "aerial": aerial, "surveillance": surveillance,
    "phone": phone,
}  # fmt: skip


if __name__ == "__main__":
    main()
