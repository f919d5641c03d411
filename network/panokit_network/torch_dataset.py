"""Any labelled data set as PyTorch wants it."""

from __future__ import annotations

from typing import Any

import torch

from panokit.taxonomy import Taxonomy
from panokit_datasets.any_photo import AnyPhoto
from panokit_datasets.classes import ClassList
from panokit_datasets.mapping import ClassMapping
from panokit_datasets.reader import Reader

__all__ = ["TorchDataset"]


class TorchDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Photos and labels of a :class:`panokit_datasets.Reader` as tensors, for training loops of
    one's own (``panokit train`` reads data sets itself, and augments them).

    An item is a dict: ``image`` uint8 ``[3,H,W]``, sRGB, upright; ``ids`` int32 ``[H,W]``, 0 is
    void; ``segment_ids`` int64 ``[N]``; ``labels`` int64 ``[N]``, the channel of each segment's
    class; ``is_thing`` and ``is_crowd`` bool ``[N]`` (what is ignored is a crowd); ``masks``
    bool ``[N,H,W]`` if they are asked for; ``name``. Photos are of their own sizes: a loader with a
    batch size above 1 needs a ``collate_fn``.
    """

    def __init__(
        self, reader: Reader, taxonomy: Taxonomy | None = None, *, masks: bool = False
    ) -> None:
        """``taxonomy``: other classes, into which the reader's are mapped by name."""
        mapping = None
        if taxonomy is not None and taxonomy.categories != reader.taxonomy.categories:
            target = ClassList.of(taxonomy).recognized()
            mapping = ClassMapping.between(reader.classes, target)
        self.photos = [AnyPhoto(reader, i, mapping) for i in range(len(reader))]
        self.taxonomy = taxonomy or reader.taxonomy
        self.masks = masks

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One photo; ``LabelError`` names what cannot be read."""
        photo, ids, segments = self.photos[index].load()
        item: dict[str, Any] = {
            "name": self.photos[index].name,
            "image": torch.from_numpy(photo.rgb_hwc.copy()).permute(2, 0, 1).contiguous(),
            "ids": torch.from_numpy(ids),
            "segment_ids": torch.tensor([s.id for s in segments], dtype=torch.int64),
            "labels": torch.tensor([s.channel for s in segments], dtype=torch.int64),
            "is_thing": torch.tensor([s.is_thing for s in segments], dtype=torch.bool),
            "is_crowd": torch.tensor([s.is_crowd or s.ignore for s in segments], dtype=torch.bool),
        }
        if self.masks:
            item["masks"] = item["ids"][None] == item["segment_ids"][:, None, None]
        return item
