"""Every effect on every photo at hand, to be looked at: what the pictures still show is in
docs/effects.md.

    python scripts/make_photo_sheet.py OUT [--more FOLDER] [--bundle BUNDLE] [--rows 6]
    python scripts/make_photo_sheet.py --gallery --more FOLDER    # docs/gallery.md

Photos are those of the installed packages (scikit-image, scikit-learn, Matplotlib), and those in
FOLDER, such as wheels that were unpacked there; in the gallery, those that CREDITS names. The
object is the largest person, else the largest thing, else what a tap on the middle proposes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from panokit import PanopticResult, Photo, Segmenter
from panokit._files import write_text
from panokit.effects import (
    Blur,
    BlurBackground,
    Edit,
    Fill,
    Highlight,
    Lift,
    Pick,
    Pixelate,
    Recolor,
    Remove,
    ReplaceBackground,
    ReplaceSky,
)
from panokit.errors import PanokitError
from panokit.samples import sample_photos

DOCS = Path(__file__).resolve().parent.parent / "docs"
SIDE, LABEL = 300, 22
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".avif")
DUSK = Fill(gradient=("#203060", "#e0a070"))
PACKAGED = (
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
EFFECTS: dict[str, Callable[[Pick], Edit]] = {
    "blur_background": lambda pick: BlurBackground(pick, strength=0.6),
    "lift": Lift,
    "remove": lambda pick: Remove(pick, anyway=True),
    "recolor": lambda pick: Recolor(pick, color="#2060c0"),
    "pixelate": Pixelate,
    "blur": Blur,
    "highlight": lambda pick: Highlight(pick, dim=0.6),
    "replace_background": lambda pick: ReplaceBackground(DUSK, pick),
    "replace_sky": lambda pick: ReplaceSky(DUSK),
}


def photos(more: list[Path]) -> list[Path]:
    """The photos of packages, then those in folders."""
    found = list(sample_photos().values())
    for package, name in PACKAGED:
        spec = find_spec(package)
        places = (spec.submodule_search_locations or []) if spec else []
        found += [p for p in (Path(place) / name for place in places) if p.is_file()]
    for folder in more:
        found += sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    return found


COMMONS = "Wikimedia Commons, in Debian's gcompris-qt-data 3.1"
CREDITS = {
    "astronaut": "NASA, public domain; in scikit-image",
    "grace_hopper": "US Navy, public domain; in Matplotlib",
    "coffee": "Rachel Michetti, public domain; in scikit-image",
    "chelsea": "Stefan van der Walt, CC0; in scikit-image",
    "rocket": "SpaceX, CC0; in scikit-image",
    "camera": "Lav Varshney, CC0; in scikit-image",
    "coins": "Brooklyn Museum, no known copyright restrictions; in scikit-image",
    "brick": "CC0Textures, CC0; in scikit-image",
    "grass": "CC0Textures, CC0; in scikit-image",
    "gravel": "CC0Textures, CC0; in scikit-image",
    "china": "danielbuechele, CC BY 2.0, edited; in scikit-learn",
    "flower": "vultilion, CC BY 2.0, edited; in scikit-learn",
    "motorcycle_left": "Daniel Scharstein, CC0; in scikit-image",
    "brandenburg_gate": f"freakyman, CC BY 2.0; {COMMONS}",
    "crocodile": f"Kmanoj, CC BY 3.0; {COMMONS}",
    "great_wall": f"Hao Wei, CC BY 2.0; {COMMONS}",
    "louvre": f"Jean-Pierre Dalbéra, CC BY 2.0; {COMMONS}",
    "moose": f"Ryan Hagerty, public domain; {COMMONS}",
    "mount_rushmore": f"Dean Franklin, CC BY 2.0; {COMMONS}",
    "pan": f"Suricata, public domain; {COMMONS}",
    "panda": f"Aaron Logan, CC BY 1.0; {COMMONS}",
    "pisa": f"Dan Kamminga, CC BY 2.0; {COMMONS}",
    "raccoon": "Judy Weggelaar, public domain; in SciPy 1.9",
    "winter_palace": f"Dezidor, CC BY 3.0; {COMMONS}",
}
"""The photos of the gallery, and whose they are."""

GALLERY = ("blur_background", "lift", "remove", "replace_background")
HEAD = """# Gallery

Made by `python scripts/make_photo_sheet.py --gallery --more FOLDER` with the shipped int8 network,
of 24 photos that come with packages. It was trained on none of them; its decoding was chosen with
the astronaut and Grace Hopper in view. Row by row: the photo, its segments, portrait blur, lifted,
removed, another background; of the largest person, else the largest thing, else of what a tap on
the middle takes. Statues, pans and coins belong to no class of the network. What is wrong in the
effects is in [what is still wrong](effects.md#what-is-still-wrong).
"""


def subject(result: PanopticResult) -> Pick:
    """What the effects are about."""
    things = sorted((s for s in result if s.is_thing), key=lambda s: -s.area)
    persons = [s for s in things if s.category.name == "person"]
    for segment in (*persons, *things):
        return Pick(segment=segment.id)
    h, w = result.id_map.shape
    return Pick(tap=(w / 2, h / 2))


def tile(rgb: NDArray[np.uint8], label: str) -> Image.Image:
    """A picture with a line of text below."""
    image = Image.fromarray(rgb)
    image.thumbnail((SIDE - 4, SIDE - 4))
    out = Image.new("RGB", (SIDE, image.height + LABEL), "white")
    out.paste(image, ((SIDE - image.width) // 2, 0))
    text = ImageDraw.Draw(out)
    text.text((4, image.height + 2), label[:46], fill="black", font=ImageFont.load_default(12))
    return out


def tiles_of(path: Path, segmenter: Segmenter, effects: Collection[str]) -> list[Image.Image]:
    """A photo, its segments, and effects."""
    photo = Photo.open(path)
    result = segmenter.segment(photo)
    pick = subject(result)
    tiles = [tile(photo.rgb_hwc, path.name), tile(np.asarray(result.overlay()), "segments")]
    for name in effects:
        try:
            done = EFFECTS[name](pick).apply(photo, result)
            rgb = done.image_hwc
            if done.transparent:
                alpha = done.alpha_hw[..., None]
                rgb = (alpha * rgb + (1 - alpha) * 200).astype(np.uint8)
            tiles.append(tile(rgb, name if done.applied else f"{name}: nothing done"))
        except PanokitError as error:
            tiles.append(tile(photo.rgb_hwc, f"{name}: {error}"))
    return tiles


def side_by_side(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Tiles in rows."""
    height, rows = max(t.height for t in tiles), -(-len(tiles) // columns)
    out = Image.new("RGB", (SIDE * columns, height * rows), "white")
    for i, one in enumerate(tiles):
        out.paste(one, (i % columns * SIDE, i // columns * height))
    return out


def write_gallery(segmenter: Segmenter, more: list[Path]) -> None:
    """Write docs/gallery.md and its pictures."""
    found: dict[str, Path] = {}
    for path in photos(more):
        found.setdefault(path.stem, path)  # a package's own goes before one of its name in a folder
    if missing := sorted(CREDITS.keys() - found):
        sys.exit(f"these photos are not at hand: {', '.join(missing)}")
    folder = DOCS / "images" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [HEAD]
    for name, credit in CREDITS.items():
        made = side_by_side(tiles_of(found[name], segmenter, GALLERY), 3)
        small = made.resize((made.width * 4 // 5, made.height * 4 // 5))
        small.save(folder / f"{name}.webp", quality=60, method=6)
        parts.append(f"## {name.replace('_', ' ')}\n")
        parts.append(f"![{name} with its effects](images/gallery/{name}.webp)\n")
        parts.append(f"{credit}.\n")
    write_text(DOCS / "gallery.md", "\n".join(parts))


def main() -> None:
    """Write sheets of some rows each, or the gallery."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--gallery", action="store_true")
    parser.add_argument("--more", type=Path, action="append", default=[])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--rows", type=int, default=6)
    given = parser.parse_args()
    segmenter = Segmenter.open(given.bundle)
    if given.gallery:
        write_gallery(segmenter, given.more)
    if given.out is None:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    all_tiles = (tiles_of(path, segmenter, EFFECTS) for path in photos(given.more))
    rows = [side_by_side(tiles, len(tiles)) for tiles in all_tiles]
    for n in range(0, len(rows), given.rows):
        part = rows[n : n + given.rows]
        sheet = Image.new("RGB", (part[0].width, sum(one.height for one in part)), "white")
        for i, one in enumerate(part):
            sheet.paste(one, (0, sum(above.height for above in part[:i])))
        sheet.save(given.out / f"sheet-{n // given.rows + 1}.jpg", quality=90)
    Console().print(f"{len(rows)} photos, {len(EFFECTS)} effects: {given.out}")


if __name__ == "__main__":
    main()
