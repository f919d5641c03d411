"""Reading COCO-panoptic folders to train on: true labels first, pseudo-labels where they are not.

The folder is as :mod:`panokit_datasets.coco_panoptic` says, with ``DIR/taxonomy.json`` and, if
there are any, pseudo-labels (:mod:`panokit_datasets.pseudo`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from panokit.errors import DataError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import (
    PanopticFolder,
    TruthPhoto,
    decode_ids,
    load_truth,
    open_photo,
)
from panokit_datasets.pseudo import PseudoLabels, merge_boxes, merge_labels, read_pseudo_labels
from panokit_datasets.records import DecodedPhoto, PhotoRecord, SegmentRecord

__all__ = ["FolderPhoto", "load_split"]

PERSON = "person"


@dataclass(frozen=True)
class FolderPhoto:
    """A photo of a folder, with where its labels lie; see :class:`LabelledPhoto`."""

    truth: TruthPhoto
    taxonomy: Taxonomy
    pseudo: PseudoLabels | None = None

    @property
    def name(self) -> str:
        return self.truth.name

    @property
    def source(self) -> str:
        return self.truth.source

    @property
    def key(self) -> str:
        paths = [self.truth.image_path, self.truth.panoptic_path]
        if self.pseudo is not None:
            paths += [p for p in (self.pseudo.index_path, self.pseudo.person_path) if p]
        stamps = [(p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p.is_file()]
        return hashlib.sha256(repr((self.truth, self.pseudo, stamps)).encode()).hexdigest()

    def decode(self) -> DecodedPhoto:
        """Pixels, true labels, and pseudo-labels on what those leave open."""
        truth = self.truth
        ids = decode_ids(truth)
        lookup = np.zeros(int(ids.max(initial=0)) + 1, np.uint16)
        for index, segment in enumerate(truth.segments, 1):
            if segment.id < len(lookup):
                lookup[segment.id] = index
        segments = tuple(
            SegmentRecord(s.channel, s.is_thing, s.is_crowd, s.ignore) for s in truth.segments
        )
        absent = truth.labelled
        record = PhotoRecord(
            truth.name, truth.source, truth.size_wh, segments, absent, truth.complete
        )
        photo = DecodedPhoto(record, open_photo(truth).rgb_hwc, lookup[ids])
        pseudo = self.pseudo
        if pseudo is None or truth.complete:
            return photo
        if pseudo.size_wh != truth.size_wh:
            reason = f"expected size {truth.size_wh} as the photo, got {pseudo.size_wh}"
            raise DataError(pseudo.index_path, reason)
        photo = merge_labels(photo, self.taxonomy, pseudo.segments, pseudo.index_map())
        if truth.person_boxes:
            person = self.taxonomy.channel(self.taxonomy.get(PERSON).id)
            photo = merge_boxes(photo, truth.person_boxes, person)
        return DecodedPhoto(photo.record, photo.image_hwc, photo.segment_map, pseudo.person_map())


def load_split(
    folder: PanopticFolder, name: str, pseudo_root: str | Path | None = None
) -> list[FolderPhoto]:
    """The photos of ``annotations/NAME.json`` with their pseudo-labels; no image is opened.

    Pseudo-labels in ``pseudo_root`` go before those of the folder itself. Splits that do not end in
    ``_train`` have none: validation compares with true labels alone.

    Raises ``DataError`` as :func:`panokit_datasets.coco_panoptic.load_truth` does.
    """
    photos = load_truth(folder.root, name, folder.taxonomy)
    roots = [folder.root, Path(pseudo_root)] if pseudo_root else [folder.root]
    labels: dict[str, PseudoLabels] = {}
    if name.endswith("_train"):
        for root, source in product(roots, sorted({Path(p.name).parts[0] for p in photos})):
            labels |= read_pseudo_labels(root, source, folder.taxonomy)
    return [FolderPhoto(p, folder.taxonomy, labels.get(p.name)) for p in photos]
