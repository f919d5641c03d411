"""Make docs/images/effects-sheet.jpg: every effect on the sample photos.

The masks are rough polygons drawn by hand on the network's grid of 320 pixels, so that the sheet
shows the effects and not one set of weights; ``--bundle`` uses what the shipped bundle finds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from panokit import Bundle, PanopticResult, Photo, Segment, Segmenter
from panokit.effects import (
    Blur,
    BlurBackground,
    Edit,
    EditList,
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
from panokit.preprocessing import letterbox
from panokit.samples import sample_photos

WIDTH, HEIGHT, GAP, LABELS = 232, 232, 6, 150
OUT = Path(__file__).parent.parent / "docs" / "images" / "effects-sheet.jpg"

# Photo → class and outline in photo pixels, later ones on top; first the backdrop's class.
BACKDROPS = {"astronaut": "wall", "grace_hopper": "wall", "coffee": "table", "chelsea": "wall"}
SHAPES: dict[str, list[tuple[str, str]]] = {
    "astronaut": [
        (
            "person",
            "150,75 158,40 190,15 230,12 275,22 298,50 302,85 285,120 268,132 258,175 290,205 "
            "303,235 330,270 352,300 362,350 330,362 300,395 285,440 285,511 15,511 20,430 30,360 "
            "42,305 65,262 118,225 112,185 125,160 165,150 178,150 170,125 152,105",
        ),
        (
            "object",
            "382,60 392,40 398,0 432,0 438,40 452,45 455,110 452,170 474,225 474,262 478,286 "
            "352,286 362,262 358,235 378,170 376,80",
        ),
    ],
    "grace_hopper": [
        ("sky", "235,0 511,0 511,470 330,420 300,50"),
        (
            "person",
            "260,22 300,35 335,55 350,75 370,90 372,170 378,190 370,240 358,270 345,300 335,315 "
            "400,345 480,375 500,400 511,450 511,605 12,605 20,520 30,440 50,380 100,355 190,320 "
            "195,305 170,275 168,240 158,190 160,150 160,100 175,75 200,45",
        ),
        ("object", "76,480 165,484 172,512 80,508"),
    ],
    "coffee": [
        (
            "drinkware",
            "175,90 180,55 215,28 265,16 315,17 360,32 392,60 408,66 425,72 420,95 410,115 440,135 "
            "465,175 478,225 470,275 445,320 405,355 350,378 290,388 225,382 165,362 118,325 "
            "90,280 78,230 85,175 110,130 145,100",
        ),
        (
            "object",
            "316,250 322,236 362,248 372,225 408,212 412,250 410,300 392,322 340,328 322,300",
        ),
    ],
    "chelsea": [
        (
            "cat",
            "35,60 40,30 45,0 385,0 372,50 345,85 368,118 348,150 322,190 332,230 312,265 272,300 "
            "0,300 0,180 30,150 38,110",
        ),
        ("object", "352,118 400,128 452,150 452,262 400,225 356,190 346,150"),
    ],
}
PARTS = ("coffee", "chelsea")
MAIN = {"astronaut": 0, "grace_hopper": 1, "coffee": 0, "chelsea": 0}
REMOVED = {"astronaut": 1, "grace_hopper": 2, "coffee": 1, "chelsea": 1}
TAPS = {"astronaut": (215, 100), "grace_hopper": (256, 250), "coffee": (280, 150)}


def drawn(photo: Photo, name: str, shapes: list[tuple[str, str]]) -> PanopticResult:
    """A result with drawn outlines: segment 1 is the backdrop, then the shapes in order."""
    taxonomy = Bundle.open(None).manifest.taxonomy
    transform = letterbox(photo.size_wh, (320, 320))
    w, h = transform.content_wh
    small = Image.new("L", (w, h), 1)
    names = [BACKDROPS[name]]
    for k, (category, outline) in enumerate(shapes):
        points = [tuple(float(v) for v in p.split(",")) for p in outline.split()]
        scaled = [(x * w / photo.size_wh[0], y * h / photo.size_wh[1]) for x, y in points]
        ImageDraw.Draw(small).polygon(scaled, fill=k + 2)
        names.append(category)
    id_map = np.asarray(small.resize(photo.size_wh, Image.Resampling.NEAREST)).astype(np.int32)
    segments = []
    for k, category in enumerate(names):
        rows, cols = np.nonzero(id_map == k + 1)
        box = (int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1)
        segments.append(Segment(k + 1, taxonomy.get(category), 1.0, len(rows), box))
    return PanopticResult(photo, id_map, tuple(segments), taxonomy, transform)


def edits(main: Pick, removed: Pick) -> dict[str, Edit]:
    """Every effect by its title."""
    return {
        "blur_background": BlurBackground(main, strength=0.7),
        "lift": Lift(main),
        "remove": Remove(removed),
        "recolor": Recolor(main, color="#2f6fd0"),
        "highlight": Highlight(main, dim=0.15),
        "pixelate": Pixelate(main, part="head"),
        "blur": Blur(main, part="head"),
        "replace_background": ReplaceBackground(Fill(gradient=("#27408b", "#f2c9a0")), main),
        "replace_sky": ReplaceSky(Fill(gradient=("#f08a3c", "#f7d9a8"))),
    }


def tile(image: Image.Image) -> Image.Image:
    """The picture cut to the tile's shape; transparency shows a checkerboard."""
    if image.mode == "RGBA":
        y, x = np.mgrid[0 : image.height, 0 : image.width]
        side = max(8, image.width // 40)
        board = np.where((y // side + x // side) % 2, 205, 240).astype(np.uint8)
        under = Image.fromarray(np.repeat(board[..., None], 3, axis=2)).convert("RGBA")
        image = Image.alpha_composite(under, image)
    scale = max(WIDTH / image.width, HEIGHT / image.height)
    w, h = WIDTH / scale, HEIGHT / scale
    left, top = (image.width - w) / 2, (image.height - h) / 2
    box = (left, top, left + w, top + h)
    rgb = image.convert("RGB")
    return rgb.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box)


def pictures(photo: Photo, name: str) -> dict[str, Image.Image | None]:
    """The photo, its segments, and every effect (None where it has nothing to do)."""
    if "--bundle" in sys.argv:
        result = whole = Segmenter.open().segment(photo)
    else:
        whole = drawn(photo, name, SHAPES[name])
        # What is removed from a cup or a cat is else a part of it.
        result = whole if name not in PARTS else drawn(photo, name, SHAPES[name][:-1])
    made: dict[str, Image.Image | None] = {
        "photo": Image.fromarray(photo.rgb_hwc),
        "segments": whole.overlay(),
    }
    if "--bundle" in sys.argv:
        main = removed = Pick(tap=TAPS.get(name, (200, 150)))
    else:
        main, removed = Pick(segment=MAIN[name] + 2), Pick(segment=REMOVED[name] + 2)
    for title, edit in edits(main, removed).items():
        segments = whole if title == "remove" else result
        done = EditList((edit,)).replay(photo, segments)
        made[title] = done.image if done.applied else None
    return made


def main() -> None:
    """Write the sheet."""
    rows = []
    for name, path in sample_photos().items():
        photo = Photo.open(path)
        rows.append(pictures(photo, name))
    titles = list(rows[0])
    # Effects run down, photos across: a sheet that fits a page.
    size = (LABELS + len(rows) * (WIDTH + GAP), len(titles) * (HEIGHT + GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for j, title in enumerate(titles):
        top = j * (HEIGHT + GAP)
        draw.text((8, top + HEIGHT / 2), title, fill="black", font=font, anchor="lm")
        for i, row in enumerate(rows):
            left = LABELS + i * (WIDTH + GAP)
            picture = row[title]
            if picture is None:
                middle = (left + WIDTH / 2, top + HEIGHT / 2)
                draw.text(middle, "left as it is", "grey", font, "mm")
            else:
                sheet.paste(tile(picture), (left, top))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(OUT, quality=86)


if __name__ == "__main__":
    main()
