"""One page of what recipes cost: HTML for people, JSON for machines, PNG for slides."""

from __future__ import annotations

import base64
import html
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from panokit._files import replacing, write_json
from panokit.bundle import Artifact, Bundle, Manifest
from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig
from panokit.runtime import LiteRtRuntime
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_converters.tflite import tflite_specs
from panokit_lab.bench import bench_paths, machine
from panokit_lab.plots import plot_front
from panokit_lab.search import Results, collect, objectives, pareto_front, timed

__all__ = ["write_report"]

log = logging.getLogger(__name__)

BASELINE = "float32"
WORST = 3
CLASSES = 6
THUMBNAIL = 300
Progress = Callable[[str], None]


def write_report(
    runs: Path,
    out: Path,
    data: Path | None = None,
    seconds: float = 20,
    say: Progress = log.info,
    beside: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write ``report.html``, ``report.json``, ``report.md`` and ``pareto.png`` of the recipes under
    ``runs``.

    The TFLite artifacts are timed here, in turns, and so are the files and bundles ``beside``
    (networks of others, say). With ``data`` (the folder that quality was
    measured on) the photos that lost most are shown beside the float network. Differences are to
    the recipe ``float32``, if it is among them. Returns what ``report.json`` holds.
    """
    results = collect(runs)
    if not results:
        raise DataError(runs, "holds no finished recipe; run `panokit compress run` first")
    kinds = {(r["weights"], r["size"]) for r in results.values()}
    if len(kinds) > 1:
        raise ArgumentError("runs", "of one network and one input size", sorted(kinds))
    others = timed(runs, results, seconds, say, bench_paths(beside))
    out.mkdir(parents=True, exist_ok=True)
    front = pareto_front(results)
    plot_front({n: objectives(r) for n, r in results.items()}, front, out / "pareto.png")
    rows = [row for name in _order(results) for row in _rows(name, results)]
    content = {
        "machine": machine(),
        "front": front,
        "rows": rows,
        "beside": [latency.to_json() for latency in others],
        "results": results,
    }
    write_json(out / "report.json", content)
    with replacing(out / "report.md") as partial:
        partial.write_text(_markdown(content), encoding="utf-8")
    say("drawing the photos that lost most")
    pictures = _worst_pictures(runs, results, data) if data else {}
    page = _page(content, pictures, (out / "pareto.png").read_bytes())
    with replacing(out / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return content


def _photos(quality: Mapping[str, Any]) -> list[str]:
    return sorted(photo["name"] for photo in quality["per_photo"])


def _order(results: Results) -> list[str]:
    return sorted(results, key=lambda n: (n != BASELINE, n.startswith("coreml"), n))


def _rows(name: str, results: Results) -> list[dict[str, Any]]:
    """One row per artifact of a recipe, with differences to the float network."""
    figures, rows = results[name], []
    reference = results.get(BASELINE, {}).get("artifacts", {}).get("tflite", {})
    for format, found in figures["artifacts"].items():
        quality, base = found.get("quality"), reference.get("quality")
        same = quality is not None and base is not None and _photos(quality) == _photos(base)
        rows.append(
            {
                "recipe": name,
                "format": format,
                "precision": found["precision"],
                "runtime": found["runtime"],
                "bytes": found["bytes"],
                "macs": figures["macs"],
                "parameters": figures["parameters"],
                "arena_bytes": found.get("arena_bytes"),
                "ms": {k: v["median_ms"] for k, v in found.get("latency", {}).items()},
                "ratio": {k: v["ratio"] for k, v in found.get("latency", {}).items()},
                "sqnr_db": found.get("sqnr_db"),
                "photos": quality["split"] if quality else None,
                "pq": quality["pq"]["all"] if quality else None,
                "pq_change": _change(quality, base, ("pq", "all")) if same else None,
                "person_iou": quality["person_iou"] if quality else None,
                "boundary_iou": quality["person_boundary_iou"] if quality else None,
                "classes": _class_changes(quality, base) if same else [],
                "worst_photos": _lost_most(quality, base) if same else [],
            }
        )
    return rows


def _change(quality: Any, base: Any, keys: tuple[str, ...]) -> float | None:
    for key in keys:
        quality, base = quality[key], base[key]
    return None if quality is None or base is None else quality - base


def _class_changes(quality: Any, base: Any) -> list[dict[str, Any]]:
    """Classes whose PQ changed most, worst first."""
    changes = []
    for name, figures in quality["pq"]["per_class"].items():
        before, after = base["pq"]["per_class"][name]["pq"], figures["pq"]
        if before is not None and after is not None:
            changes.append({"class": name, "float": before, "pq": after, "change": after - before})
    return sorted(changes, key=lambda c: c["change"])


def _lost_most(quality: Any, base: Any) -> list[dict[str, Any]]:
    """Photos whose PQ fell most, worst first."""
    before = {p["name"]: p["pq"] for p in base["per_photo"]}
    found = [
        {"photo": p["name"], "float": before[p["name"]], "pq": p["pq"]}
        for p in quality["per_photo"]
        if p["pq"] is not None and before.get(p["name"]) is not None
    ]
    return sorted(found, key=lambda p: p["pq"] - p["float"])[:WORST]


def _worst_pictures(runs: Path, results: Results, data: Path) -> dict[str, list[str]]:
    """For each TFLite recipe, the photos that lost most: photo, float, recipe as one JPEG each."""
    if BASELINE not in results or "tflite" not in results[BASELINE]["artifacts"]:
        return {}
    reference = _Drawer(runs, results, BASELINE)
    pictures: dict[str, list[str]] = {}
    for name in _order(results):
        if name == BASELINE or "tflite" not in results[name]["artifacts"]:
            continue
        row = next(r for r in _rows(name, results) if r["format"] == "tflite")
        drawer = _Drawer(runs, results, name)
        pictures[name] = []
        for worst in row["worst_photos"]:
            path = data / "images" / worst["photo"]
            if not path.is_file():
                raise DataError(path, "no such photo; give the folder quality was measured on")
            photo = Photo.open(path)
            sheet = [Image.fromarray(photo.rgb_hwc), reference.draw(photo), drawer.draw(photo)]
            caption = f"{worst['photo']}: PQ {worst['float']:.1f} → {worst['pq']:.1f}"
            pictures[name].append(_figure(_jpeg(sheet), caption))
    return pictures


class _Drawer:
    """Overlays of one recipe's TFLite artifact."""

    def __init__(self, runs: Path, results: Results, name: str) -> None:
        figures = results[name]
        path = runs / name / figures["artifacts"]["tflite"]["file"]
        content = path.read_bytes()
        image, heads = tflite_specs(content)
        artifact = Artifact(name, "tflite", path.name, "", len(content), "", image, heads)
        rows = heads["semantic"].shape[1]
        manifest = Manifest(
            name=name,
            taxonomy=Taxonomy.from_json(figures["taxonomy"]),
            preprocessing=PreprocessConfig((figures["size"],) * 2),
            postprocessing=PostprocessConfig.from_json(figures["postprocessing"]),
            stride=figures["size"] // rows,
            artifacts=(artifact,),
        )
        runtime = LiteRtRuntime(path, artifact)
        self._segmenter = Segmenter(Bundle(path.parent, manifest), artifact, runtime)

    def draw(self, photo: Photo) -> Image.Image:
        """The photo with its segments over it."""
        return self._segmenter.segment(photo).overlay()


def _jpeg(pictures: list[Image.Image]) -> bytes:
    small = [p.convert("RGB") for p in pictures]
    small = [p.resize((THUMBNAIL, max(1, round(p.height * THUMBNAIL / p.width)))) for p in small]
    sheet = Image.fromarray(np.concatenate([np.asarray(p) for p in small], axis=1))
    memory = io.BytesIO()
    sheet.save(memory, "JPEG", quality=80)
    return memory.getvalue()


def _figure(jpeg: bytes, caption: str) -> str:
    source = base64.b64encode(jpeg).decode()
    text = html.escape(caption)
    return (f'<figure><img alt="{text}" src="data:image/jpeg;base64,{source}">'
            f"<figcaption>{text}</figcaption></figure>")  # fmt: skip


def _number(value: Any, digits: int = 1, scale: float = 1.0, sign: bool = False) -> str:
    """A figure as text, a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value * scale:{'+' if sign else ''}.{digits}f}"


HEADINGS = (
    "recipe", "format", "runtime", "MB", "MMACs", "arena MB", "ms, 1 thread", "ratio",
    "ms, 2 threads", "ratio", "SQNR dB: semantic", "center", "offset", "PQ", "change",
    "person IoU", "boundary IoU", "photos",
)  # fmt: skip


def _cells(row: Mapping[str, Any]) -> list[str]:
    """The figures of a row in the order of ``HEADINGS``."""
    sqnr = row["sqnr_db"] or {}
    ms, ratio = row["ms"], row["ratio"]
    return [
        row["recipe"], row["format"], row["runtime"],
        _number(row["bytes"], 2, 1e-6), _number(row["macs"], 0, 1e-6),
        _number(row["arena_bytes"], 2, 1e-6),
        *(_number(v, 2) for k in ("1", "2") for v in (ms.get(k), ratio.get(k))),
        *(_number(sqnr.get(head)) for head in ("semantic", "center", "offset")),
        _number(row["pq"], 2), _number(row["pq_change"], 2, sign=True),
        _number(row["person_iou"], 3), _number(row["boundary_iou"], 3), _number(row["photos"]),
    ]  # fmt: skip


def _latencies(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: all that was timed, absolute and per megapixel of input."""
    ours = [
        found
        for row in content["rows"]
        for found in content["results"][row["recipe"]]["artifacts"][row["format"]]
        .get("latency", {})
        .values()
    ]
    by_name: dict[str, dict[int, Any]] = {}
    for found in [*ours, *content["beside"]]:
        by_name.setdefault(found["name"], {})[found["threads"]] = found
    keys = [(count, key) for count in (1, 2) for key in ("median_ms", "ms_per_megapixel")]
    headings = ["file", "input, megapixels"]
    headings += [f"{'ms' if k == 'median_ms' else 'ms/megapixel'}, {n} thread{'s' * (n > 1)}"
                 for n, k in keys]  # fmt: skip
    rows = [
        [name, _number(found[1]["megapixels"], 3), *(_number(found[n][k], 1) for n, k in keys)]
        for name, found in by_name.items()
    ]
    return headings, rows


def _markdown(content: Mapping[str, Any]) -> str:
    """The tables alone, for a pull request or a document."""

    def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        lines = [headings, ["---"] * len(headings), *rows]
        return ["| " + " | ".join(cells) + " |" for cells in lines]

    lines = table(HEADINGS, [_cells(row) for row in content["rows"]])
    if content["beside"]:
        lines += ["", *table(*_latencies(content))]
    return "\n".join(lines) + "\n"


def _html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], first: str) -> str:
        tags = [first, *["td"] * (len(cells) - 1)]
        return "".join(f"<{t}>{html.escape(c)}</{t}>" for t, c in zip(tags, cells, strict=True))

    head = "".join(f"<th>{html.escape(h)}</th>" for h in headings)
    body = "".join(f"<tr>{line(cells, 'th')}</tr>" for cells in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _details(row: Mapping[str, Any], pictures: list[str]) -> str:
    if not row["classes"] and not pictures:
        return ""
    worst, best = row["classes"][:CLASSES], row["classes"][-2:]
    text = ", ".join(f"{c['class']} {c['change']:+.1f}" for c in [*worst, *best])
    return (f"<details><summary>{html.escape(row['recipe'])} ({row['format']})</summary>"
            f"<p>PQ per class, change to float: {html.escape(text)}</p>"
            f"{''.join(pictures)}</details>")  # fmt: skip


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1400px;padding:0 1rem;
color:#1d242b;background:#fff}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}
th,td{padding:.3rem .55rem;text-align:right;border-bottom:1px solid #e3e7eb;white-space:nowrap}
th{text-align:left;font-weight:500}thead th{color:#5a6672;white-space:normal}
img{max-width:100%}figure{margin:.8rem 0}figcaption{color:#5a6672;font-size:13px}
details{border-bottom:1px solid #e3e7eb;padding:.4rem 0}summary{cursor:pointer}
"""


def _page(content: Mapping[str, Any], pictures: Mapping[str, list[str]], front_png: bytes) -> str:
    rows = content["rows"]
    first = next(iter(content["results"].values()))
    where = content["machine"]
    notes = (
        f"Network {first['network']} (weights {first['weights']}), input {first['size']}×"
        f"{first['size']}. Latency: {where['runtime']}, {where['machine']}, all files in turns, "
        "medians; ratios are to the first row and count more than milliseconds. Arena: peak "
        "activation memory planned from the file as TFLite plans it. SQNR: against the "
        "uncompressed network in float32, on calibration photos. Core ML packages are run by "
        "Panokit's interpreter, which says nothing of their speed on a phone; the photos they "
        "are judged on may be fewer, as the last column says."
    )
    table = _html_table(HEADINGS, [_cells(row) for row in rows])
    beside = ""
    if content["beside"]:
        beside = f"<h2>Latency beside other networks</h2>{_html_table(*_latencies(content))}"
    details = "".join(
        _details(row, pictures.get(row["recipe"], []) if row["format"] == "tflite" else [])
        for row in rows
    )
    plot = base64.b64encode(front_png).decode()
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Compression report</title>'
        f"<style>{STYLE}</style></head><body><h1>Compression report</h1>"
        f"<p>{html.escape(notes)}</p>"
        f"{table}{beside}"
        f'<h2>Trade-offs</h2><img alt="PQ against size, MACs and latency" '
        f'src="data:image/png;base64,{plot}">'
        "<h2>Classes, and the photos that lost most</h2>"
        "<p>Each row of pictures: photo, float network, recipe.</p>"
        f"{details}</body></html>\n"
    )
