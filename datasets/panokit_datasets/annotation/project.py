"""Photos being labelled: what a network proposed, what a person did, and what came of it.

The folder is a COCO panoptic one, whole after every photo that is done::

    OUT/annotations/NAME.json, OUT/images/…, OUT/panoptic/NAME/…   what is done, by NAME's work
    OUT/.work/NAME/PHOTO.png, .json, .jsonl                        proposals, and every operation

Every operation is on the disk before its answer, so a program that ends loses nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import write_json
from panokit._reading import read_json
from panokit.coco import ids_to_rgb
from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from panokit_datasets.annotation.operations import Labels, read_operation, write_operation
from panokit_datasets.classes import ClassList
from panokit_datasets.id_png import ids_of, read_id_png
from panokit_datasets.reader import Truth
from panokit_datasets.readers.coco_panoptic import CocoPanopticWriter
from panokit_datasets.truth import TruthSegment
from panokit_datasets.writer import Sample, flat_name, write_rgb

__all__ = ["AnnotationProject", "Propose", "Work"]

Propose = Callable[[Photo], Labels]
"""What labels a photo begins with."""


@dataclass
class Work:
    """The labels of one photo while somebody works on it: ``steps`` of the way, ``at`` where it is
    (undo goes back, redo forward)."""

    proposal: Labels
    steps: list[dict[str, Any]]
    at: int
    labels: Labels

    @property
    def can_undo(self) -> bool:
        return self.at > 0

    @property
    def can_redo(self) -> bool:
        return self.at < len(self.steps)


class AnnotationProject:
    """One person's work on photos. Methods may be called from several threads."""

    def __init__(
        self,
        out: Path,
        photos: Mapping[str, Path],
        taxonomy: Taxonomy,
        propose: Propose,
        annotator: str = "labels",
    ) -> None:
        """``photos`` by name; ``annotator`` names the split that the labels go to."""
        if flat_name(annotator, 0) != annotator:
            raise ArgumentError(
                "annotator", f"annotator is {annotator!r}; expected letters, digits, - and _"
            )
        if not photos:
            raise ArgumentError("photos", "there are no photos to label")
        self.out, self.taxonomy, self.propose, self.annotator = out, taxonomy, propose, annotator
        self.names = list(photos)
        self.paths = dict(photos)
        self._folder = out / ".work" / annotator
        self._lock = threading.RLock()
        self._open: dict[int, Work] = {}
        self._check_taxonomy()

    def __len__(self) -> int:
        return len(self.names)

    def is_done(self, index: int) -> bool:
        """Whether somebody said that a photo's labels are right."""
        return self._file(index, ".done.json").is_file()

    @property
    def done(self) -> list[int]:
        """The photos that are done."""
        return [i for i in range(len(self)) if self.is_done(i)]

    def photo(self, index: int) -> Photo:
        """A photo's pixels."""
        return Photo.open(self.paths[self._name(index)])

    def work(self, index: int) -> Work:
        """The labels of a photo as they are now; proposed, if nobody has seen them yet."""
        with self._lock:
            if index not in self._open:
                if len(self._open) > 8:
                    self._open.pop(next(iter(self._open)))
                self._open[index] = self._read(index)
            return self._open[index]

    def apply(self, index: int, data: Any) -> Work:
        """Do an operation (JSON), ``{"operation": "undo"}`` or ``"redo"``."""
        with self._lock:
            work = self.work(index)
            word = data.get("operation") if isinstance(data, Mapping) else None
            if word in ("undo", "redo"):
                self._move(work, -1 if word == "undo" else 1)
                self._log(index, {"operation": word})
            else:
                operation = read_operation(data)
                work.labels = operation.apply(work.labels, self.taxonomy)
                step = write_operation(operation)
                work.steps[work.at :] = [step]
                work.at += 1
                self._log(index, step)
            self._file(index, ".done.json").unlink(missing_ok=True)
            return work

    def finish(self, index: int) -> None:
        """Say that a photo's labels are right: they are written, with the JSON of all that are
        done."""
        with self._lock:
            labels = self.work(index).labels
            name = self._name(index)
            truth = Truth(labels.ids, tuple(labels.segments.values()))
            writer = CocoPanopticWriter(self.out, self.annotator, ClassList.of(self.taxonomy))
            record = writer.write(Sample(index + 1, name, "", self.paths[name], truth))
            write_json(self._file(index, ".done.json"), record, indent=None)
            writer.finish(self._records())

    def reopen(self, index: int) -> None:
        """Take back that a photo is done."""
        with self._lock:
            self._file(index, ".done.json").unlink(missing_ok=True)
            writer = CocoPanopticWriter(self.out, self.annotator, ClassList.of(self.taxonomy))
            writer.finish(self._records())

    # ----------------------------------------------------------------------------------------------

    def _records(self) -> Iterator[dict[str, Any]]:
        for index in self.done:
            yield read_json(self._file(index, ".done.json"))

    def _name(self, index: int) -> str:
        if not 0 <= index < len(self.names):
            raise ArgumentError("photo", f"photo is {index}; expected 0 to {len(self.names) - 1}")
        return self.names[index]

    def _file(self, index: int, end: str) -> Path:
        return self._folder / f"{flat_name(self._name(index), index + 1)}{end}"

    def _move(self, work: Work, step: int) -> None:
        """Undo or redo: the way is gone again from the proposal."""
        at = work.at + step
        if not 0 <= at <= len(work.steps):
            raise ArgumentError(
                "operation", f"there is nothing to {'undo' if step < 0 else 'redo'}"
            )
        work.at = at
        work.labels = work.proposal
        for done in work.steps[:at]:
            work.labels = read_operation(done).apply(work.labels, self.taxonomy)

    def _log(self, index: int, step: Mapping[str, Any]) -> None:
        path = self._file(index, ".jsonl")
        with path.open("ab") as file:
            file.write(json.dumps(step).encode() + b"\n")
            file.flush()

    def _read(self, index: int) -> Work:
        """The proposal and all operations from the disk; a new proposal where there is none."""
        described = self._file(index, ".json")
        proposal = self._read_proposal(index) if described.is_file() else self._propose(index)
        work = Work(proposal, [], 0, proposal)
        path = self._file(index, ".jsonl")
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        for line in lines[:-1]:  # the last is empty, or was cut off
            try:
                step = json.loads(line)
                if step["operation"] in ("undo", "redo"):
                    at = work.at + (-1 if step["operation"] == "undo" else 1)
                    work.at = min(max(at, 0), len(work.steps))
                    continue
            except (ValueError, KeyError, TypeError):
                continue
            work.steps[work.at :] = [step]
            work.at += 1
        for step in work.steps[: work.at]:
            work.labels = read_operation(step).apply(work.labels, self.taxonomy)
        if lines and lines[-1]:
            path.write_bytes(b"\n".join(lines[:-1]) + b"\n")
        return work

    def _propose(self, index: int) -> Labels:
        labels = self.propose(self.photo(index))
        write_rgb(self._file(index, ".png"), ids_to_rgb(labels.ids))
        segments = [
            {
                "id": s.id,
                "category_id": int(self.taxonomy.ids[s.channel]),
                "iscrowd": int(s.is_crowd),
                "score": labels.scores.get(s.id),
            }
            for s in labels.segments.values()
        ]
        write_json(self._file(index, ".json"), {"segments": segments}, indent=None)
        return labels

    def _read_proposal(self, index: int) -> Labels:
        path = self._file(index, ".json")
        ids: NDArray[np.int32] = ids_of(read_id_png(self._file(index, ".png")))
        segments, scores = {}, {}
        try:
            for s in read_json(path, strict=True)["segments"]:
                channel = self.taxonomy.channel(s["category_id"])
                thing = self.taxonomy.categories[channel].is_thing
                segments[s["id"]] = TruthSegment(s["id"], channel, thing, bool(s["iscrowd"]))
                if s["score"] is not None:
                    scores[s["id"]] = float(s["score"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(path, f"is no proposal of this program ({error}); remove it") from None
        return Labels(ids, segments, scores)

    def _check_taxonomy(self) -> None:
        path = self.out / "taxonomy.json"
        if path.is_file() and Taxonomy.load(path).categories != self.taxonomy.categories:
            raise DataError(
                path, "the labels here have other classes; name another folder, or the same classes"
            )
        write_json(path, self.taxonomy.to_json())
        for name in ("annotations", "images", "panoptic"):
            (self.out / name).mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
