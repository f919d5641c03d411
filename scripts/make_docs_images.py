"""Make the pictures of README and docs with the shipped bundle; photos of installed packages."""

from __future__ import annotations

from pathlib import Path

import skimage
from PIL import Image

from panokit import Photo, Segmenter
from panokit.effects import portrait_blur
from panokit.samples import sample_photos

HEIGHT = 300
FAILURES = ("camera.png", "motorcycle_left.png", "coffee.png", "astronaut.png")
OUT = Path(__file__).parent.parent / "docs" / "images"


def row(pictures: list[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures of one height side by side on white."""
    scaled = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT)) for p in pictures]
    width = sum(p.width for p in scaled) + gap * (len(scaled) - 1)
    sheet = Image.new("RGB", (width, HEIGHT), "white")
    x = 0
    for picture in scaled:
        sheet.paste(picture, (x, 0))
        x += picture.width + gap
    return sheet


def main() -> None:
    """Write overlays.jpg, portraits.jpg and failures.jpg."""
    segmenter = Segmenter.open()
    overlays, portraits = [], []
    for path in sample_photos().values():
        photo = Photo.open(path)
        result = segmenter.segment(photo)
        overlays.append(result.overlay())
        effect = portrait_blur(photo, result, strength=0.6)
        if effect.applied:
            portraits += [Image.fromarray(photo.rgb_hwc), effect.image]
    mistaken = []
    for name in FAILURES:
        photo = Photo.open(Path(skimage.__file__).parent / "data" / name)
        mistaken += [Image.fromarray(photo.rgb_hwc), segmenter.segment(photo).overlay()]
    OUT.mkdir(parents=True, exist_ok=True)
    row(mistaken).save(OUT / "failures.jpg", quality=85)
    row(overlays).save(OUT / "overlays.jpg", quality=88)
    if portraits:
        row(portraits).save(OUT / "portraits.jpg", quality=88)


if __name__ == "__main__":
    main()
