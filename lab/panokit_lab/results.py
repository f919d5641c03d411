"""What a recipe came to, as data: sizes, signal-to-noise, quality, latency.

Dicts exist in JSON only: :meth:`RecipeResult.to_json` is the content of ``result.json``, and
:meth:`RecipeResult.load` reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from panokit._reading import read_json
from panokit.decoding import DecodingSettings
from panokit.errors import DataError, PanokitError
from panokit.preprocessing import Size, sides
from panokit.taxonomy import Taxonomy
from panokit_compression.recipes import Recipe
from panokit_datasets.quality import ClassQuality, EvaluationResult, PhotoQuality

__all__ = [
    "RESULT",
    "ArtifactFigures",
    "Latency",
    "Objectives",
    "QualityFigures",
    "RecipeResult",
    "Results",
]

RESULT = "result.json"


@dataclass(frozen=True)
class Latency:
    """One file at one number of threads.

    ``median_ms`` and ``quartiles_ms`` over ``runs``; ``megapixels`` of its input;
    ``ratio`` of its median to the first file's at the same number of threads.
    """

    name: str
    threads: int
    median_ms: float
    quartiles_ms: tuple[float, float]
    runs: int
    megapixels: float
    ratio: float

    @property
    def ms_per_megapixel(self) -> float:
        """Median over the size of the input."""
        return self.median_ms / self.megapixels

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict of all fields, rounded to what they are good for."""
        return {
            "name": self.name,
            "threads": self.threads,
            "median_ms": round(self.median_ms, 3),
            "quartiles_ms": [round(q, 3) for q in self.quartiles_ms],
            "runs": self.runs,
            "megapixels": round(self.megapixels, 4),
            "ms_per_megapixel": round(self.ms_per_megapixel, 2),
            "ratio": round(self.ratio, 3),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Latency:
        """Read what :meth:`to_json` wrote."""
        low, high = data["quartiles_ms"]
        return cls(
            name=data["name"],
            threads=data["threads"],
            median_ms=data["median_ms"],
            quartiles_ms=(low, high),
            runs=data["runs"],
            megapixels=data["megapixels"],
            ratio=data["ratio"],
        )


@dataclass(frozen=True)
class QualityFigures:
    """How well an artifact segments labelled photos: the figures of ``panokit evaluate``.

    ``split`` says in words which ``photos`` (how many) they are of. ``pq``, ``pq_things`` and
    ``pq_stuff`` are means over classes, 0..100. ``miou``, ``person_iou`` and
    ``person_boundary_iou`` (0..1) are of the class of each pixel, those with ``map_`` of the
    panoptic map. ``complete`` is the share of photos (0..1) that are labelled in full.
    ``intervals`` are 95 % intervals over photos. None: nothing to judge, or not measured.
    """

    split: str
    pq: float | None
    pq_things: float | None
    pq_stuff: float | None
    per_class: Mapping[str, ClassQuality]
    miou: float | None
    person_iou: float | None
    person_boundary_iou: float | None
    map_miou: float | None
    map_person_iou: float | None
    map_person_boundary_iou: float | None
    photos: int
    complete: float
    intervals: Mapping[str, tuple[float, float] | None] = field(repr=False)
    per_photo: tuple[PhotoQuality, ...] = field(repr=False)

    @classmethod
    def of(cls, split: str, found: EvaluationResult) -> QualityFigures:
        """The figures of an evaluation; ``split`` says in words what it was made on."""
        return cls(
            split=split,
            pq=found.pq.all,
            pq_things=found.pq.things,
            pq_stuff=found.pq.stuff,
            per_class=found.pq.per_class,
            miou=found.miou,
            person_iou=found.person_iou,
            person_boundary_iou=found.person_boundary_iou,
            map_miou=found.map_miou,
            map_person_iou=found.map_person_iou,
            map_person_boundary_iou=found.map_person_boundary_iou,
            photos=found.photos,
            complete=found.complete,
            intervals=found.intervals,
            per_photo=found.per_photo,
        )

    @property
    def photo_names(self) -> list[str]:
        """The photos that were judged, sorted."""
        return sorted(photo.name for photo in self.per_photo)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, laid out as ``panokit evaluate`` does."""
        return {
            "split": self.split,
            "pq": {
                "all": self.pq,
                "things": self.pq_things,
                "stuff": self.pq_stuff,
                "per_class": {name: c.to_json() for name, c in self.per_class.items()},
            },
            "miou": self.miou,
            "person_iou": self.person_iou,
            "person_boundary_iou": self.person_boundary_iou,
            "panoptic_map": {
                "miou": self.map_miou,
                "person_iou": self.map_person_iou,
                "person_boundary_iou": self.map_person_boundary_iou,
            },
            "photos": self.photos,
            "intervals": {k: list(v) if v else None for k, v in self.intervals.items()},
            "complete": self.complete,
            "per_photo": [asdict(p) for p in self.per_photo],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QualityFigures:
        """Read what :meth:`to_json` wrote; files from before there were figures of the panoptic
        map are read as well."""
        pq, of_map = data["pq"], data.get("panoptic_map", {})
        intervals = data.get("intervals", {})
        return cls(
            split=data["split"],
            pq=pq["all"],
            pq_things=pq["things"],
            pq_stuff=pq["stuff"],
            per_class={name: ClassQuality(**c) for name, c in pq["per_class"].items()},
            miou=data["miou"],
            person_iou=data["person_iou"],
            person_boundary_iou=data["person_boundary_iou"],
            map_miou=of_map.get("miou"),
            map_person_iou=of_map.get("person_iou"),
            map_person_boundary_iou=of_map.get("person_boundary_iou"),
            photos=data["photos"],
            complete=data.get("complete", 1.0),
            intervals={k: (v[0], v[1]) if v else None for k, v in intervals.items()},
            per_photo=tuple(PhotoQuality(**p) for p in data["per_photo"]),
        )


@dataclass(frozen=True)
class ArtifactFigures:
    """One artifact of a recipe: its ``file`` in the recipe's folder, and what was measured of it.

    ``arena_bytes``: planned peak memory of activations (TFLite only). ``sqnr_db``: signal-to-noise
    ratio of each head against the uncompressed network, on the photos ``sqnr_photos``, which
    calibrated nothing. ``runtime`` ran it. ``latency`` by number of threads, where it was timed.
    ``notes`` say which layers could not be stored as the recipe says, and why.
    """

    file: str
    bytes: int
    precision: str
    runtime: str
    arena_bytes: int | None = None
    sqnr_db: Mapping[str, float] | None = None
    sqnr_photos: tuple[str, ...] = ()
    quality: QualityFigures | None = None
    latency: Mapping[int, Latency] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; what was not measured is left out."""
        data: dict[str, Any] = {
            "file": self.file,
            "bytes": self.bytes,
            "precision": self.precision,
        }
        if self.arena_bytes is not None:
            data["arena_bytes"] = self.arena_bytes
        data["runtime"] = self.runtime
        if self.sqnr_db is not None:
            data["sqnr_db"] = dict(self.sqnr_db)
            data["sqnr_photos"] = list(self.sqnr_photos)
        if self.quality is not None:
            data["quality"] = self.quality.to_json()
        if self.latency:
            data["latency"] = {str(n): found.to_json() for n, found in self.latency.items()}
        if self.notes:
            data["notes"] = list(self.notes)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArtifactFigures:
        """Read what :meth:`to_json` wrote."""
        quality = data.get("quality")
        latency = data.get("latency", {})
        return cls(
            file=data["file"],
            bytes=data["bytes"],
            precision=data["precision"],
            runtime=data["runtime"],
            arena_bytes=data.get("arena_bytes"),
            sqnr_db=data.get("sqnr_db"),
            sqnr_photos=tuple(data.get("sqnr_photos", ())),
            quality=None if quality is None else QualityFigures.from_json(quality),
            latency={int(n): Latency.from_json(found) for n, found in latency.items()},
            notes=tuple(data.get("notes", ())),
        )


@dataclass(frozen=True)
class Objectives:
    """What recipes are weighed by: ``bytes``, ``macs`` and ``ms`` should be small, ``pq`` (0..100)
    large. None: not measured."""

    bytes: int
    macs: int
    ms: float | None = None
    pq: float | None = None

    @property
    def costs(self) -> dict[str, float]:
        """All that was measured, the smaller the better."""
        found: dict[str, float] = {"bytes": self.bytes, "macs": self.macs}
        if self.ms is not None:
            found["ms"] = self.ms
        if self.pq is not None:
            found["pq"] = -self.pq
        return found

    def beats(self, other: Objectives) -> bool:
        """Whether this is nowhere worse and somewhere better, in the same measured things."""
        mine, theirs = self.costs, other.costs
        if mine.keys() != theirs.keys() or mine == theirs:
            return False
        return all(mine[k] <= theirs[k] for k in mine)


def _size(value: Any) -> Size:
    """A size from JSON: results of before were of squares, by their side."""
    return value if isinstance(value, int) else (value[0], value[1])


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe came to: the content of ``result.json`` in its folder.

    ``network`` is the name of the uncompressed network, ``weights`` the first 16 hexadecimal
    digits of the SHA-256 of its weights. ``macs`` (multiply-accumulates for one image of
    ``size_wh``) and ``parameters`` are of the compressed network. ``artifacts`` are by
    format, and so are ``failures``, the reasons why there is none. ``notes`` say which layers
    network steps left alone, and why. ``key`` changes with everything that the result depends on.
    """

    recipe: Recipe
    network: str
    weights: str
    size_wh: tuple[int, int]
    taxonomy: Taxonomy
    postprocessing: DecodingSettings
    macs: int
    parameters: int
    artifacts: Mapping[str, ArtifactFigures]
    tools: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The recipe's."""
        return self.recipe.name

    @property
    def remarks(self) -> tuple[str, ...]:
        """All notes on layers, a sentence each."""
        stored = [
            f"{format}: {note}" for format, found in self.artifacts.items() for note in found.notes
        ]
        return (*self.notes, *stored)

    @property
    def objectives(self) -> Objectives:
        """What the recipe is weighed by: those of its TFLite file, or of its first artifact."""
        artifact = self.artifacts.get("tflite") or next(iter(self.artifacts.values()))
        return Objectives(
            bytes=artifact.bytes,
            macs=self.macs,
            ms=artifact.latency[1].median_ms if 1 in artifact.latency else None,
            pq=artifact.quality.pq if artifact.quality else None,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return {
            "recipe": self.recipe.to_json(),
            "network": self.network,
            "weights": self.weights,
            "size": list(self.size_wh),
            "taxonomy": self.taxonomy.to_json(),
            "postprocessing": self.postprocessing.to_json(),
            "macs": self.macs,
            "parameters": self.parameters,
            "tools": dict(self.tools),
            "artifacts": {format: found.to_json() for format, found in self.artifacts.items()},
            **({"failures": dict(self.failures)} if self.failures else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            "key": self.key,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RecipeResult:
        """Read what :meth:`to_json` wrote; ``KeyError``, ``TypeError`` or ``PanokitError`` if it
        is something else."""
        artifacts = data["artifacts"]
        return cls(
            recipe=Recipe.from_json(data["recipe"]),
            network=data["network"],
            weights=data["weights"],
            size_wh=sides(_size(data["size"])),
            taxonomy=Taxonomy.from_json(data["taxonomy"]),
            postprocessing=DecodingSettings.from_json(data["postprocessing"]),
            macs=data["macs"],
            parameters=data["parameters"],
            artifacts={format: ArtifactFigures.from_json(a) for format, a in artifacts.items()},
            tools=data.get("tools", {}),
            key=data.get("key", ""),
            failures=data.get("failures", {}),
            notes=tuple(data.get("notes", ())),
        )

    @classmethod
    def load(cls, path: Path) -> RecipeResult:
        """Read a ``result.json``; ``DataError`` says what is wrong with it."""
        try:
            return cls.from_json(read_json(path))
        except KeyError as error:
            reason = f"it has no {error}"
        except (OSError, ValueError, TypeError, AttributeError, PanokitError) as error:
            reason = str(error)
        do = "remove it and run the recipe again"
        raise DataError(path, f"expected the figures of a recipe, but {reason}; {do}")


Results = dict[str, RecipeResult]
"""Results by the name of the recipe."""
