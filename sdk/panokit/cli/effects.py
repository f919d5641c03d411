"""The commands that change photos: blur and edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.options import ArtifactOption, BundleOption, JsonOption, Threads
from panokit.effects import EDIT_KINDS, BlurBackground, Edit, EditList, EffectResult, Fill, Pick
from panokit.errors import ArgumentError
from panokit.photo import SAVED_SUFFIXES, Photo
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter

__all__ = ["blur", "edit"]

PhotoArgument = Annotated[Path, typer.Argument(help="The photo.")]
OutOption = Annotated[Path, typer.Option("--out", help="Picture to write (.jpg, .png, .webp).")]
QualityOption = Annotated[
    str, typer.Option("--quality", help="Matte: fast, or best (extra 'matting').")
]
JpegOption = Annotated[
    int | None,
    typer.Option("--jpeg-quality", min=1, max=100, help="Without it, as the photo's own file."),
]


def blur(
    photo: PhotoArgument,
    out: OutOption,
    strength: Annotated[float, typer.Option(min=0.0, max=1.0, help="How strong, 0..1.")] = 0.5,
    tap: Annotated[
        str, typer.Option("--tap", help="Keep what lies at X,Y sharp; without it, all persons.")
    ] = "",
    blades: Annotated[int, typer.Option(help="Blades of the lens, 5..9; 0 is a disc.")] = 0,
    depth_ramp: Annotated[
        bool, typer.Option("--depth-ramp", help="Let the ground's blur grow (approximate).")
    ] = False,
    quality: QualityOption = "fast",
    jpeg_quality: JpegOption = None,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Blur the background behind the people in a photo."""
    _check_out(out)
    pick = Pick(tap=_point(tap)) if tap else None
    step = BlurBackground(
        pick, strength=strength, blades=blades, depth_ramp=depth_ramp, quality=quality
    )
    opened, result = _segmented(photo, bundle, artifact, threads)
    _finish(step.apply(opened, result), out, jpeg_quality, json)


def edit(
    photo: PhotoArgument,
    out: OutOption,
    do: Annotated[str, typer.Option("--do", help=f"One of {', '.join(EDIT_KINDS)}.")] = "",
    tap: Annotated[str, typer.Option("--tap", help="Pick what lies at X,Y (photo pixels).")] = "",
    class_name: Annotated[str, typer.Option("--class", help="Pick all of a class.")] = "",
    segment: Annotated[int | None, typer.Option("--segment", help="Pick one segment id.")] = None,
    but: Annotated[str, typer.Option("--but", help="Segment ids to leave out, e.g. 1,4.")] = "",
    color: Annotated[str, typer.Option(help="#rrggbb, to recolor or to put behind.")] = "",
    gradient: Annotated[str, typer.Option(help="Colours from top to bottom: #..,#..")] = "",
    background: Annotated[Path | None, typer.Option(help="A photo to put behind.")] = None,
    strength: Annotated[float | None, typer.Option(help="Of blur_background, 0..1.")] = None,
    blocks: Annotated[int | None, typer.Option(help="Of pixelate and blur, 1..32.")] = None,
    part: Annotated[str, typer.Option(help="Of pixelate and blur: all or head.")] = "",
    quality: Annotated[str, typer.Option("--quality", help="Matte: fast or best.")] = "",
    edits: Annotated[
        Path | None,
        typer.Option("--edits", help="Edits to replay first; with --do the longer list is written"),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Drop the last edit of --edits.")] = False,
    jpeg_quality: JpegOption = None,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Edit objects of a photo: remove, lift, recolor, highlight … Edits can be replayed and undone.

    The photo itself is never written. Example: panokit edit party.jpg --tap 410,300 --do remove
    --out without.jpg --edits edits.json
    """
    _check_out(out)
    listed = EditList(photo=photo.name)
    if edits is not None and edits.exists():
        listed = EditList.load(edits)
    elif edits is not None and (undo or not do):
        raise ArgumentError("edits", "an existing file", str(edits))
    listed = listed.undo() if undo else listed
    folder = edits.resolve().parent if edits is not None else photo.resolve().parent
    if do:
        picked = _pick(tap, class_name, segment, but)
        fill = _fill(color, gradient, background, folder) if do.startswith("replace") else None
        given = {
            "pick": None if picked is None else picked.to_json(),
            "fill": None if fill is None else fill.to_json(),
            "color": color if do == "recolor" and color else None,
            "strength": strength,
            "blocks": blocks,
            "part": part or None,
            "quality": quality or None,
        }
        step = {"do": do, **{k: v for k, v in given.items() if v is not None}}
        listed = listed.append(Edit.from_json(step))
    elif not listed.edits and not undo:
        raise ArgumentError("--do", f"given, one of {', '.join(EDIT_KINDS)}, or --edits", "neither")
    opened, result = _segmented(photo, bundle, artifact, threads)
    done = listed.replay(opened, result, folder=folder)
    _finish(done, out, jpeg_quality, json, listed)
    if edits is not None:
        listed.save(edits)


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in SAVED_SUFFIXES:
        raise ArgumentError("out", f"a name ending in {', '.join(SAVED_SUFFIXES)}", str(out))


def _segmented(
    photo: Path, bundle: Path | None, artifact: str | None, threads: int
) -> tuple[Photo, PanopticResult]:
    opened = Photo.open(photo)
    return opened, Segmenter.open(bundle, artifact, threads).segment(opened)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(v) for v in text.split(","))
    except ValueError:
        raise ArgumentError("tap", "written X,Y in photo pixels, e.g. 410,300", text) from None
    return x, y


def _pick(tap: str, class_name: str, segment: int | None, but: str) -> Pick | None:
    """The pick of the options; None if there is none (some edits need none)."""
    if not tap and not class_name and segment is None:
        return None
    try:
        ids = tuple(int(v) for v in but.split(",") if v.strip())
    except ValueError:
        raise ArgumentError("but", "segment ids, e.g. 1,4", but) from None
    return Pick(_point(tap) if tap else None, class_name or None, segment, ids)


def _fill(color: str, gradient: str, background: Path | None, folder: Path) -> Fill:
    if background is None:
        stops = tuple(c.strip() for c in gradient.split(",")) if gradient else None
        return Fill(color or None, stops)
    path = background.resolve()
    if not path.is_relative_to(folder):
        raise ArgumentError("background", f"a photo inside {folder}", str(background))
    return Fill(color or None, None, path.relative_to(folder).as_posix())


def _finish(
    done: EffectResult,
    out: Path,
    jpeg_quality: int | None,
    json: Path | None,
    edits: EditList | None = None,
) -> None:
    done.save(out, quality=jpeg_quality)
    typer.echo(done.message)
    if json:
        data: dict[str, Any] = {
            "applied": done.applied,
            "message": done.message,
            "out": str(out),
        }
        if edits is not None:
            data["edits"] = edits.to_json()
        write_json(json, data)
