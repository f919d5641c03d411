"""`panokit video`: an effect on every frame of a video."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from panokit._files import write_json
from panokit.cli.console import note, say, working
from panokit.cli.edit_options import edit_from_options, options_of_any, takes
from panokit.cli.options import (
    DO,
    OUTPUT,
    ArtifactOption,
    BundleOption,
    JsonOption,
    OverwriteOption,
    Threads,
    check_not_input,
    output_file,
)
from panokit.effects import EDIT_KINDS
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit.video import VideoSegmenter
from panokit.video_file import transcode

__all__ = ["video"]

SHORT = {"blur": "blur_background", "overlay": "overlay"}
"""Words that people try first."""

EFFECTS = {name: kind for name, kind in EDIT_KINDS.items() if name != "lift"}


@takes(options_of_any(EFFECTS.values(), pick_panel="Which object", panel="Settings of the effect"))
def video(
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="The video.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Video to write (.mp4, .mov, .mkv).",
            callback=output_file,
            rich_help_panel=OUTPUT,
        ),
    ],
    effect: Annotated[
        str,
        typer.Option(
            "--effect",
            help="What to do: blur (the background), overlay (show what is found), or one of "
            + ", ".join(EFFECTS)
            + ".",
            rich_help_panel=DO,
        ),
    ] = "blur",
    hold: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="How steady maps are where nothing moves: frames that a label is kept for. 0: "
            "every frame for itself.",
            rich_help_panel=DO,
        ),
    ] = 8,
    overwrite: OverwriteOption = False,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
    **settings: Any,
) -> None:
    """Do something to every frame of a video; its sound is kept.

    Example: panokit video holiday.mp4 --effect blur --out portrait.mp4

    Objects keep their ids from frame to frame: --segment names one in the whole video (--effect
    overlay shows who is who).
    """
    check_not_input(out, source, overwrite)
    name = SHORT.get(effect, effect)
    if name != "overlay" and name not in EFFECTS:
        raise ArgumentError.unknown("effect", effect, [*SHORT, *EFFECTS])
    step = None
    if name != "overlay":
        step = edit_from_options(name, settings, source.resolve().parent)
    frames = VideoSegmenter(Segmenter.open(bundle, artifact, threads), hold=hold)
    applied = 0

    def work(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        nonlocal applied
        photo = Photo.from_array(rgb)
        result = frames.update(photo)
        if step is None:
            applied += 1
            return np.asarray(result.overlay())
        known = step_result(step, photo, result)
        applied += known is not None
        return rgb if known is None else known

    begun = time.monotonic()
    with working(f"working on {source.name}") as tell:
        done = transcode(
            source,
            out,
            work,
            lambda n, of: tell(f"{source.name}: frame {n}" + f" of {of}" * bool(of)),
        )
    seconds = time.monotonic() - begun
    if done.damaged:
        note(f"{done.damaged} packets are damaged and were left out", style="yellow")
    things = ", ".join(f"{n} × {c}" for c, n in frames.totals.items()) or "no objects"
    sound = f"sound {done.sound}" if done.sound else "no sound"
    size = f"{done.size_wh[0]} x {done.size_wh[1]}"
    say(
        f"{done.frames} frames ({done.seconds:.1f} s, {size}, {sound}) "
        f"at {done.frames / max(seconds, 1e-9):.1f} a second; {name} did something in {applied}"
    )
    say(f"seen: {things}")
    if json is not None:
        write_json(
            json,
            {
                "frames": done.frames,
                "seconds": done.seconds,
                "size_wh": list(done.size_wh),
                "sound": done.sound,
                "damaged_packets": done.damaged,
                "effect": name,
                "applied": applied,
                "objects": frames.totals,
                "frames_a_second": round(done.frames / max(seconds, 1e-9), 2),
            },
        )


def step_result(step: Any, photo: Photo, result: Any) -> NDArray[np.uint8] | None:
    """A frame after an edit; None where there was nothing to do, as when nobody is in the picture
    that the edit picks."""
    pick = getattr(step, "pick", None)
    if pick is not None and not pick.find(result):  # a tap on void means nothing here: what it
        return None  # would pick is another region in each frame
    made = step.apply(photo, result)
    pixels: NDArray[np.uint8] = made.image_hwc
    return pixels if made.applied and pixels.shape == photo.rgb_hwc.shape else None
