"""An app of its own, with mistakes of its own: is the diagnosis right about other people's code?

    python -m benchmarks.independent_app PHOTO… [--bundle DIR] [--artifact NAME] [--limit 8]

    python -m benchmarks.independent_app --docs docs/diagnosis.md RUN.json…

The second line writes what runs found (``--json``) into a document. Letterbox, colours and the rest
are OpenCV's, the decoding is written again from docs/port.md in float64 with loops over segments;
nothing here comes from the bank of faults, so that its definitions are not compared with
themselves. Every mistake is dumped with all stages, with heads and map, and with the map alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from panokit import Photo, Segmenter
from panokit.dump import Dump
from panokit.dump.model import mend
from panokit.photo import photo_paths
from panokit_converters.tflite.inspect import tflite_specs
from panokit_validation import validate_dump
from panokit_validation.verdict import Verdict

Array = NDArray[Any]


@dataclass
class App:
    """One app: where it departs from what it should do."""

    interpolation: int = -1  # -1: area-like triangle, as it should be
    grid: str = "letterbox"
    pad: tuple[int, int, int] = (0, 0, 0)
    corner: bool = False
    round_down: bool = False
    photo: Callable[[Array], Array] = lambda rgb: rgb
    tensor: Callable[[Array], Array] = lambda x: x
    heads: Callable[[dict[str, Array]], dict[str, Array]] = lambda h: h
    threshold: float | None = None
    window: int | None = None
    least: tuple[int, int] | None = None
    least_score: float | None = None
    sigmoid: bool = True
    swap_offset: bool = False
    offset_factor: float = 1.0
    upsample: int = cv2.INTER_LINEAR
    labels: Callable[[int, int], int] = lambda c, n: c
    keep_padding: bool = False
    on_heads: bool = False
    finish: Callable[[Array], Array] = lambda ids: ids
    buffer: int = 0  # side of the input that the app believes in; 0: the right one
    unwritten: float = 0.0  # the last share of the input's bytes, which are still 0
    previous: bool = False  # the model of the last release


def triangle(rgb: Array, size_wh: tuple[int, int]) -> Any:
    """An antialiased triangle in float64."""
    out: Array = rgb.astype(np.float64)
    for axis, n_out in ((0, size_wh[1]), (1, size_wh[0])):
        n_in = out.shape[axis]
        step = n_in / n_out
        at = (np.arange(n_out)[:, None] + 0.5) * step
        weights = np.maximum(0, 1 - np.abs(np.arange(n_in)[None] + 0.5 - at) / max(step, 1))
        weights /= weights.sum(1, keepdims=True)
        out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def picture(app: App, rgb: Any, size_wh: tuple[int, int]) -> tuple[Any, tuple[int, ...]]:
    """The input picture, and top, left, height and width of the photo in it."""
    if app.buffer:
        own, _ = picture(replace(app, buffer=0), rgb, (app.buffer, app.buffer))
        filled = bytearray(size_wh[0] * size_wh[1] * 3)
        data = own.tobytes()[: len(filled)]
        filled[: len(data)] = data
        _, place = picture(replace(app, buffer=0), rgb, size_wh)
        return np.frombuffer(bytes(filled), np.uint8).reshape(*size_wh[::-1], 3), place
    (w_in, h_in), (h, w) = size_wh, rgb.shape[:2]
    scale = min(w_in / w, h_in / h)
    if app.grid == "stretch":
        new_w, new_h = w_in, h_in
    elif app.round_down:
        new_w, new_h = max(1, int(w * scale + 1e-9)), max(1, int(h * scale + 1e-9))
    else:
        new_w, new_h = max(1, int(w * scale + 0.5)), max(1, int(h * scale + 0.5))
    if app.grid == "crop":
        scale = max(w_in / w, h_in / h)
        cut_w, cut_h = round(w_in / scale), round(h_in / scale)
        x, y = (w - cut_w) // 2, (h - cut_h) // 2
        rgb, new_w, new_h = rgb[y : y + cut_h, x : x + cut_w], w_in, h_in
    if app.interpolation < 0:
        small = triangle(rgb, (new_w, new_h))
    else:
        small = cv2.resize(rgb, (new_w, new_h), interpolation=app.interpolation)
    out = np.zeros((h_in, w_in, 3), np.uint8)
    out[:] = app.pad
    top, left = (0, 0) if app.corner else ((h_in - new_h) // 2, (w_in - new_w) // 2)
    out[top : top + new_h, left : left + new_w] = small
    return out, (top, left, new_h, new_w)


class Network:
    """The artifact, or another ``file`` of the same heads, in LiteRT by its own interpreter."""

    def __init__(self, segmenter: Segmenter, file: Path | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.artifact = segmenter.artifact
        path = str(file or segmenter.bundle.path(self.artifact))
        if file is not None:
            image, heads = tflite_specs(file.read_bytes())
            self.artifact = replace(self.artifact, input=image, outputs=heads)
        engine = Interpreter(path, num_threads=1)
        engine.allocate_tensors()
        self.run_signature = engine.get_signature_runner()

    def run(self, values: Array) -> dict[str, Array]:
        """Raw heads by name, ``[h,w,C]``, of real values 0..255."""
        spec = self.artifact.input
        stored = values
        if spec.scale:
            info = np.iinfo(spec.dtype)
            q = np.rint(values / np.float32(spec.scale)) + (spec.zero_point or 0)
            stored = np.clip(q, info.min, info.max)
        found = self.run_signature(**{spec.name: stored.astype(spec.dtype)[None]})
        return {head: found[s.name][0] for head, s in self.artifact.outputs.items()}

    def real(self, raw: dict[str, Array]) -> dict[str, Array]:
        """Real values of raw heads."""
        out = {}
        for name, values in raw.items():
            spec = self.artifact.outputs[name]
            whole = spec.scale is not None and np.issubdtype(values.dtype, np.integer)
            x: Any = values.astype(np.float64)
            out[name] = (x - (spec.zero_point or 0)) * (spec.scale or 1) if whole else x
        return out


def decode(
    app: App, heads: dict[str, Array], place: tuple[int, ...], size_wh: tuple[int, int],
    thing: Array, ids: Array, settings: Any,
) -> tuple[Array, dict[int, int]]:  # fmt: skip
    """The map and the channel of each of its ids, written from the description for ports."""
    (w_in, h_in), (top, left, height, width) = size_wh, place
    semantic, center, offset = heads["semantic"], heads["center"].reshape(-1), heads["offset"]
    h, w, count = semantic.shape
    grid_h, grid_w = (h, w) if app.on_heads else (h_in, w_in)

    def larger(plane: Array) -> Any:
        single = plane.astype(np.float32)
        return cv2.resize(single, (grid_w, grid_h), interpolation=app.upsample)

    planes_: list[Any] = [larger(semantic[..., c]) for c in range(count)]
    logits = np.stack(planes_, -1)
    best = logits.argmax(-1)
    chance = np.exp(logits - logits.max(-1, keepdims=True))
    chance /= chance.sum(-1, keepdims=True)
    y, x = (np.arange(grid_h) + 0.5) * h_in / grid_h, (np.arange(grid_w) + 0.5) * w_in / grid_w
    inside = ((y >= top) & (y < top + height))[:, None] & ((x >= left) & (x < left + width))[None]
    if app.keep_padding:
        inside[:] = True
    scores = center.reshape(h, w)
    if app.sigmoid:
        scores = 1 / (1 + np.exp(-scores))
    reach = (app.window or settings.window) // 2
    least = settings.threshold if app.threshold is None else app.threshold
    peaks = []
    for row, col in np.argwhere(scores >= np.float32(least)):
        cy, cx = (row + 0.5) * h_in / h, (col + 0.5) * w_in / w
        on_photo = top <= cy < top + height and left <= cx < left + width
        if not on_photo and not app.keep_padding:
            continue
        r0, c0 = max(0, row - reach), max(0, col - reach)
        block = scores[r0 : row + reach + 1, c0 : col + reach + 1]
        first = np.unravel_index(block.argmax(), block.shape)
        if (r0 + first[0], c0 + first[1]) == (row, col):
            peaks.append((-scores[row, col], row, col, cy, cx))
    peaks = sorted(peaks)[: settings.top_k]
    out: Any = np.zeros((grid_h, grid_w), np.int32)
    classes: dict[int, int] = {}
    things = thing[best] & inside
    next_id = 1
    if peaks:
        dy, dx = larger(offset[..., 0]), larger(offset[..., 1])
        if app.swap_offset:
            dy, dx = dx, dy
        vote_y, vote_x = y[:, None] + dy * app.offset_factor, x + dx * app.offset_factor
        far = np.stack([(vote_y - p[3]) ** 2 + (vote_x - p[4]) ** 2 for p in peaks])
        nearest = far.argmin(0)
        for k, peak in enumerate(peaks):
            mine = things & (nearest == k)
            if mine.sum() < max(1, (app.least or (settings.min_thing_area, 0))[0]):
                continue
            tally = np.bincount(best[mine], minlength=count)
            channel = max(range(count), key=lambda c: (tally[c], -ids[c]))
            score = -peak[0] * chance[..., channel][mine].mean()
            wanted = settings.min_thing_score if app.least_score is None else app.least_score
            if score < wanted:
                continue
            out[mine], classes[next_id] = next_id, app.labels(channel, count)
            next_id += 1
    for channel in sorted(np.flatnonzero(~thing).tolist(), key=lambda c: ids[c]):
        mine = (best == channel) & inside
        if mine.sum() < max(1, (app.least or (0, settings.min_stuff_area))[1]):
            continue
        out[mine], classes[next_id] = next_id, app.labels(channel, count)
        next_id += 1
    if app.on_heads:
        out = cv2.resize(out, (w_in, h_in), interpolation=cv2.INTER_NEAREST)
    return app.finish(out), classes


# ------------------------------------------------------------------------------------- mistakes


def through_nv(order: int) -> Callable[[Array], Array]:
    """The photo as a 4:2:0 camera buffer, read with the chroma planes in this order."""

    def change(rgb: Array) -> Array:
        even = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]
        yuv: Any = cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420)
        h, w = even.shape[:2]
        luma, chroma = yuv[:h], yuv[h:].reshape(2, -1)
        packed = np.concatenate([luma, np.stack(chroma, 1).reshape(h // 2, w)])
        wrong = cv2.cvtColor(packed, order)
        out = rgb.copy()
        out[:h, :w] = wrong
        return out

    return change


def jpeg(quality: int) -> Callable[[Array], Array]:
    """Through OpenCV's JPEG."""

    def change(rgb: Array) -> Array:
        _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        read: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(read[..., ::-1])

    return change


def curve(power: float) -> Callable[[Array], Array]:
    """A transfer curve."""
    table = np.rint(255 * (np.arange(256) / 255) ** power).astype(np.uint8)
    return lambda rgb: cv2.LUT(rgb, table)


def moved(dy: int, dx: int) -> Callable[[Array], Array]:
    """A picture moved by whole pixels."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    return lambda x: cv2.warpAffine(x, matrix, x.shape[1::-1])


def sheared(pixels: int) -> Callable[[Array], Array]:
    """A row stride that is not known."""

    def change(x: Array) -> Array:
        padded = cv2.copyMakeBorder(x, 0, 0, 0, pixels, cv2.BORDER_CONSTANT)
        return padded.reshape(-1)[: x.size].reshape(x.shape)

    return change


def middle(long: int, short: int) -> Callable[[Array], Array]:
    """The camera's crop rectangle: the middle, along the photo's longer side."""

    def change(rgb: Array) -> Array:
        h, w = rgb.shape[:2]
        aspect = long / short if w >= h else short / long
        keep_w, keep_h = min(w, round(h * aspect)), min(h, round(w / aspect))
        x, y = (w - keep_w) // 2, (h - keep_h) // 2
        return rgb[y : y + keep_h, x : x + keep_w]

    return change


def one_scale(heads: dict[str, Array]) -> dict[str, Array]:
    """All outputs through one 8-bit scale."""
    every = np.concatenate([v.ravel() for v in heads.values()])
    step = (every.max() - every.min()) / 255
    return {n: np.rint(v / step) * step for n, v in heads.items()}


def arg_max(heads: dict[str, Array]) -> dict[str, Array]:
    """The classes decided in the graph."""
    found = dict(heads)
    top = heads["semantic"].max(-1, keepdims=True)
    found["semantic"] = (heads["semantic"] == top).astype(np.float32)
    return found


def planes(heads: dict[str, Array]) -> dict[str, Array]:
    """``[h,w,C]`` written in planes."""
    return {n: v.transpose(2, 0, 1).reshape(v.shape) for n, v in heads.items()}


def zeroed(name: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """One output not read."""
    return lambda heads: {n: v * 0 if n == name else v for n, v in heads.items()}


def first_rows_nan(heads: dict[str, Array]) -> dict[str, Array]:
    """A delegate that overflowed."""
    out = {n: v.copy() for n, v in heads.items()}
    for v in out.values():
        v[:3] = np.nan
    return out


CAFFE = [123.68, 116.78, 103.94]
"""The means of old Caffe networks."""

MISTAKES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "BGR": ({"photo": lambda rgb: rgb[..., ::-1]}, {"bgr"}),
    "NV21 for NV12": ({"photo": through_nv(cv2.COLOR_YUV2RGB_NV21)}, {"uv-swapped"}),
    "JPEG 60": ({"photo": jpeg(60)}, {"jpeg-first"}),
    "JPEG 30": ({"photo": jpeg(30)}, {"jpeg-first"}),
    "linear light fed": ({"photo": curve(2.2)}, {"gamma"}),
    "gamma twice": ({"photo": curve(1 / 2.2)}, {"gamma"}),
    "mirrored": ({"photo": lambda rgb: cv2.flip(rgb, 1)}, {"mirrored"}),
    "upside down": ({"photo": lambda rgb: cv2.flip(rgb, 0)}, {"upside-down"}),
    "rotated": ({"photo": lambda rgb: cv2.rotate(rgb, 0)}, {"rotated"}),
    "nearest": ({"interpolation": cv2.INTER_NEAREST}, {"resize-nearest"}),
    "linear": ({"interpolation": cv2.INTER_LINEAR}, {"resize-no-antialias"}),
    "cubic": ({"interpolation": cv2.INTER_CUBIC}, {"resize-bicubic"}),
    "area": ({"interpolation": cv2.INTER_AREA}, {"resize-area"}),
    "lanczos": ({"interpolation": cv2.INTER_LANCZOS4}, {"resize-lanczos"}),
    "stretched": ({"grid": "stretch"}, {"stretched"}),
    "cropped": ({"grid": "crop"}, {"cropped"}),
    "grey padding": ({"pad": (114, 114, 114)}, {"padding-color"}),
    "top left": ({"corner": True}, {"padding-top-left"}),
    "rounded down": ({"round_down": True}, {"letterbox-rounding"}),
    "one pixel down": ({"tensor": moved(1, 0)}, {"shift-one-pixel"}),
    "0 to 1": ({"tensor": lambda x: x.astype(np.float32) / 255}, {"normalise-twice"}),
    "-1 to 1": ({"tensor": lambda x: x.astype(np.float32) / 127.5 - 1}, {"normalise-twice"}),
    "mean only": ({"tensor": lambda x: x - np.array(CAFFE, np.float32)}, {"mean-only"}),
    "stride, input": ({"tensor": sheared(16)}, {"row-stride"}),
    "transposed input": ({"tensor": lambda x: cv2.transpose(x)}, {"input-transposed"}),
    "planes, heads": ({"heads": planes}, {"head-nchw"}),
    "transposed heads": (
        {"heads": lambda h: {n: v.transpose(1, 0, 2) for n, v in h.items()}}, {"head-transposed"},
    ),
    "no centre": ({"heads": zeroed("center")}, {"head-dead"}),
    "no offsets": ({"heads": zeroed("offset")}, {"head-dead"}),
    "NaN": ({"heads": first_rows_nan}, {"head-not-finite"}),
    "no sigmoid": ({"sigmoid": False}, {"sigmoid-missing", "threshold"}),
    "threshold 0.2": ({"threshold": 0.2}, {"threshold"}),
    "window 3": ({"window": 3}, {"window"}),
    "no least areas": ({"least": (1, 1)}, {"least-areas"}),
    "areas 900": ({"least": (900, 900)}, {"least-areas"}),
    "no least score": ({"least_score": 0.0}, {"thing-score"}),
    "offset x, y": ({"swap_offset": True}, {"offset-swapped"}),
    "offset in cells": ({"offset_factor": 4.0}, {"offset-unscaled"}),
    "nearest heads": ({"upsample": cv2.INTER_NEAREST}, {"head-nearest"}),
    "label + 1": ({"labels": lambda c, n: (c + 1) % n}, {"class-table", "label-off-by-one"}),
    "labels reversed": ({"labels": lambda c, n: n - 1 - c}, {"class-table"}),
    "padding decoded": ({"keep_padding": True}, {"padding-decoded"}),
    "head grid": ({"on_heads": True}, {"head-grid"}),
    "map upside down": ({"finish": lambda m: cv2.flip(m, 0)}, {"map-turned"}),
    "map mirrored": ({"finish": lambda m: cv2.flip(m, 1)}, {"map-turned"}),
    "map transposed": ({"finish": lambda m: cv2.transpose(m)}, {"map-transposed"}),
    "crop 4:3": ({"photo": middle(4, 3)}, {"photo-cropped"}),
    "crop 16:9": ({"photo": middle(16, 9)}, {"photo-cropped"}),
    "buffer of 224": ({"buffer": 224}, {"input-other-size"}),
    "buffer of 512": ({"buffer": 512}, {"input-other-size"}),
    "empty buffer": ({"unwritten": 1.0}, {"input-never-written"}),
    "half a buffer": ({"unwritten": 0.5}, {"input-never-written"}),
    "one scale": ({"heads": one_scale}, {"head-joined-scale"}),
    "argmax in the graph": ({"heads": arg_max}, {"head-one-hot"}),
    "previous model": ({"previous": True}, {"other-artifact"}),
    "BGR and label + 1": (
        {"photo": lambda rgb: rgb[..., ::-1], "labels": lambda c, n: (c + 1) % n}, {"bgr"},
    ),
    "stretched and threshold 0.2": ({"grid": "stretch", "threshold": 0.2}, {"stretched"}),
}  # fmt: skip
"""Mistakes by name: what the app does, and the faults that say so."""

VIEWS = {
    "all stages": ("photo", "input", "semantic", "center", "offset", "panoptic"),
    "heads and map": ("photo", "semantic", "center", "offset", "panoptic"),
    "map alone": ("photo", "panoptic"),
}


@dataclass
class Score:
    """Dumps of one mistake and view."""

    count: int = 0
    first: int = 0
    third: int = 0
    unknown: int = 0
    wrong: int = 0
    passed: int = 0
    named: Counter[str] = field(default_factory=Counter)


def dump_of(app: App, networks: list[Network], segmenter: Segmenter, photo: Photo) -> Dump:
    """What the app dumps of a photo; ``networks``: this release's, and the last one's."""
    network = networks[app.previous]
    manifest = segmenter.bundle.manifest
    size = manifest.preprocessing.size_wh
    rgb = np.ascontiguousarray(app.photo(photo.rgb_hwc))
    image, place = picture(app, rgb, size)
    values = app.tensor(image)
    if app.unwritten:
        spec = network.artifact.input
        values = values.astype(np.float32)
        first = round(values.size * (1 - app.unwritten))
        values.reshape(-1)[first:] = -(spec.zero_point or 0) * (spec.scale or 0)
    raw = network.run(values.astype(np.float32))
    plain = app.heads is App.heads and not app.previous
    read = app.heads(raw if plain else dict(network.real(raw)))
    same = read is raw
    kept = read if same else {n: v.astype(np.float32) for n, v in read.items()}
    taxonomy = segmenter.taxonomy
    ids, classes = decode(
        app, {n: np.nan_to_num(v) for n, v in network.real(kept).items()}, place, size,
        taxonomy.thing_mask, np.asarray(taxonomy.ids), manifest.postprocessing,
    )  # fmt: skip
    stored = values if values.dtype == np.uint8 else values.astype(np.float32)
    tensors, defects = mend({"photo": photo.rgb_hwc, "input": stored, **kept, "panoptic": ids})
    metadata = {
        "artifact": segmenter.artifact.name,
        **({} if app.previous else {"artifact_sha256": segmenter.artifact.sha256}),
        "photo": photo.name,
        "segments": json.dumps([{"id": i, "channel": c} for i, c in classes.items()]),
    }
    return Dump(tensors, metadata, None, defects=defects)


def judge(dump: Dump, segmenter: Segmenter, right: set[str], score: Score) -> None:
    """Count what is said of one dump."""
    verdict = validate_dump(dump, segmenter, diagnose=True)
    causes = [c.name for c in verdict.causes if c.alarm]
    score.count += 1
    score.passed += verdict.verdict is not Verdict.FAIL
    score.first += bool(causes[:1]) and causes[0] in right
    score.third += bool(right & set(causes[:3]))
    if verdict.verdict is Verdict.FAIL and causes[0] not in right:
        score.unknown += causes[0] == "unknown"
        score.wrong += causes[0] != "unknown"
        score.named[causes[0]] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--artifact")
    parser.add_argument("--previous", type=Path, help="the last release's model, a .tflite file")
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--only", help="mistakes whose name contains this")
    parser.add_argument("--views", default=",".join(VIEWS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, help="the arguments are runs; put them in here")
    args = parser.parse_args()
    if args.docs:
        write_into(args.docs, [json.loads(p.read_text()) for p in args.photos])
        return
    segmenter = Segmenter.open(args.bundle, args.artifact, threads=1)
    networks = [Network(segmenter)]
    if args.previous:
        networks.append(Network(segmenter, args.previous))
    paths = list(photo_paths(args.photos).values())
    chosen = [
        paths[i] for i in np.linspace(0, len(paths) - 1, min(args.limit, len(paths))).astype(int)
    ]
    scores: dict[tuple[str, str], Score] = defaultdict(Score)
    clean = Counter[str]()
    for number, path in enumerate(chosen, 1):
        photo = Photo.open(path)
        right = dump_of(App(), networks, segmenter, photo)
        for view, kept in VIEWS.items():
            dump = replace(right, tensors={k: v for k, v in right.tensors.items() if k in kept})
            bad = validate_dump(dump, segmenter).verdict is Verdict.FAIL
            clean[view] += bad
        for name, (change, faults) in MISTAKES.items():
            if (args.only and args.only not in name) or (
                "previous" in change and not args.previous
            ):
                continue
            wrong = dump_of(App(**change), networks, segmenter, photo)
            for view in args.views.split(","):
                kept = VIEWS[view]
                tensors = {k: v for k, v in wrong.tensors.items() if k in kept}
                if (
                    not acts(wrong.tensors, right.tensors, kept)
                    and wrong.metadata == right.metadata
                ):
                    continue
                defects = {k: v for k, v in wrong.defects.items() if k in kept}
                dump = replace(wrong, tensors=tensors, defects=defects)
                judge(dump, segmenter, faults, scores[view, name])
        print(f"\r{number}/{len(chosen)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    report(scores, clean, len(chosen))
    if args.json:
        found = [{"view": v, "mistake": n, **vars(s)} for (v, n), s in scores.items()]
        data = {"artifact": segmenter.artifact.name, "photos": len(chosen), "clean": clean}
        args.json.write_text(json.dumps({**data, "scores": found}))


def acts(wrong: dict[str, Array], right: dict[str, Array], kept: tuple[str, ...]) -> bool:
    """Whether a mistake changes more than a few pixels of what is dumped."""
    for name in kept:
        if name == "photo":
            continue
        a, b = wrong[name], right[name]
        if name == "panoptic":
            if (a != b).mean() > 0.01:
                return True
        elif a.shape != b.shape or np.abs(a.astype(float) - b.astype(float)).max() > 3:
            return True
    return False


BEGIN, END = "<!-- independent app: begin -->", "<!-- independent app: end -->"


def write_into(page: Path, runs: list[dict[str, Any]]) -> None:
    """Put the figures of runs between their marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    text = "\n".join([*_totals(runs), "", *_by_mistake(runs)])
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _totals(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| artifact | dumps hold | dumps | named first | within three | wrong name first | "
        "unknown | passed | clean that fail |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        for view in VIEWS:
            rows = [r for r in run["scores"] if r["view"] == view]
            total = sum(r["count"] for r in rows)
            if not total:
                continue
            shares = [
                f"{sum(r[k] for r in rows) / total:.1%}"
                for k in ("first", "third", "wrong", "unknown", "passed")
            ]
            clean = f"{run['clean'].get(view, 0)} of {run['photos']}"
            cells = [run["artifact"], view, str(total), *shares, clean]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _by_mistake(runs: list[dict[str, Any]]) -> list[str]:
    """Each mistake: of how many dumps it was named first, by view, and what was said instead."""
    lines = [f"| mistake | {' | '.join(VIEWS)} | said instead |", f"|{'---|' * (len(VIEWS) + 2)}"]
    for mistake in MISTAKES:
        rows = [r for run in runs for r in run["scores"] if r["mistake"] == mistake]
        if not rows:
            continue
        cells, instead = [], Counter[str]()
        for view in VIEWS:
            seen = [r for r in rows if r["view"] == view]
            first, count = (sum(r[k] for r in seen) for k in ("first", "count"))
            cells.append(f"{first} of {count}" if count else "–")
            for r in seen:
                instead.update(r["named"])
                instead["(passed)"] += r["passed"]
        said = ", ".join(f"{n} × {name}" for name, n in instead.most_common(4) if n)
        lines.append(f"| {mistake} | {' | '.join(cells)} | {said} |")
    return lines


def report(scores: dict[tuple[str, str], Score], clean: Counter[str], photos: int) -> None:
    """Print what was named."""
    for view in VIEWS:
        rows = {name: s for (v, name), s in scores.items() if v == view}
        total = sum(s.count for s in rows.values())
        if not total:
            continue

        def share(what: str, rows: dict[str, Score] = rows, total: int = total) -> str:
            return f"{sum(getattr(s, what) for s in rows.values()) / total:.1%}"

        print(
            f"{view}: {total} dumps, first {share('first')}, within three {share('third')}, "
            f"wrong name {share('wrong')}, unknown {share('unknown')}, passed {share('passed')}; "
            f"clean that fail: {clean[view]} of {photos}"
        )
        for name, s in rows.items():
            if s.first < s.count:
                print(f"  {name}: {s.first} of {s.count}, passed {s.passed}, {dict(s.named)}")


if __name__ == "__main__":
    main()
