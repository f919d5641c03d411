"""A camera for Chromium: a clip made of a sample photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from panokit.samples import sample_photos

__all__ = ["camera_options", "write_clip"]


def write_clip(path: Path, frames: int = 60) -> None:
    """The astronaut, before a camera that turns to and fro, as raw video (YUV4MPEG2)."""
    whole = Image.open(sample_photos()["astronaut"]).convert("RGB").resize((760, 760))
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for i in range(frames):
            x = int(60 + 50 * np.sin(2 * np.pi * i / frames))
            view = np.asarray(whole.crop((x, 40, x + 640, 520)).convert("YCbCr"))
            planes = (view[..., 0], view[::2, ::2, 1], view[::2, ::2, 2])
            file.write(b"FRAME\n" + b"".join(p.tobytes() for p in planes))


def camera_options(clip: Path) -> list[str]:
    """Options for Chromium whose camera shows a clip."""
    return [
        "--no-sandbox",
        "--disable-background-networking",
        "--enable-unsafe-swiftshader",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    ]
