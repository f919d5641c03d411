"""The endless stream of training batches: batch ``step`` depends on the seed and ``step`` alone.

That makes a resumed run see exactly what an uninterrupted one would have seen, whatever the
number of worker processes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from panokit.preprocessing import Size
from panokit.taxonomy import Taxonomy
from panokit_datasets.records import PhotoRecord
from panokit_network.training.augment import Scene, opencv, random_scene
from panokit_network.training.cache import PhotoCache
from panokit_network.training.config import TrainConfig
from panokit_network.training.losses import Batch, Stacked
from panokit_network.training.targets import LabelWeights, make_targets

__all__ = ["SceneStream", "collate", "loader", "photo_probabilities"]


def photo_probabilities(records: Sequence[PhotoRecord], config: TrainConfig) -> NDArray[np.float64]:
    """How often each photo is drawn: by its source's weight, and more often if it holds a rare
    class (repeat factors of Gupta et al., https://arxiv.org/abs/1908.03195)."""
    channels = [{s.channel for s in r.segments if not s.ignore} for r in records]
    counts: dict[int, int] = {}
    for present in channels:
        for c in present:
            counts[c] = counts.get(c, 0) + 1
    least = config.rare_photo_share * len(records)
    repeat = {c: max(1.0, (least / n) ** 0.5) for c, n in counts.items()}
    weights = [
        config.source_weights.get(r.source, 1.0) * max((repeat[c] for c in present), default=1.0)
        for r, present in zip(records, channels, strict=True)
    ]
    total = sum(weights)
    return np.array(weights) / total


def collate(scenes: Sequence[Scene], targets: Sequence[Any], kind: type[Stacked] = Batch) -> Any:
    """Stack scenes and targets, whose fields have the names of the batch's, to a batch."""
    image = np.stack([s.image_hwc for s in scenes])  # [N,S,S,3]: channels-last in memory

    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(t, name) for t in targets]))

    names = [n for n in kind.__dataclass_fields__ if n != "image"]
    return kind(torch.from_numpy(image).permute(0, 3, 1, 2), *(stack(n) for n in names))


class SceneStream(Dataset[Any]):
    """``stream[step]`` is the batch of that step (or this rank's share of it).

    ``make(scene, weights)`` makes the targets of a scene, ``batch`` is their class when stacked.
    """

    def __init__(
        self,
        cache: PhotoCache,
        taxonomy: Taxonomy,
        config: TrainConfig,
        rank: int = 0,
        world_size: int = 1,
        make: Callable[[Scene, LabelWeights], Any] = make_targets,
        batch: type[Stacked] = Batch,
    ) -> None:
        self.cache, self.config = cache, config
        self.make, self.batch = make, batch
        self.weights = LabelWeights.of(taxonomy, config.targets)
        self.cumulative = np.cumsum(photo_probabilities(cache.records, config))
        has_object = [any(s.is_object for s in r.segments) for r in cache.records]
        self.donors = np.flatnonzero(has_object)
        donor_weights = np.diff(self.cumulative, prepend=0.0)[self.donors]
        self.donor_cumulative = np.cumsum(donor_weights / max(donor_weights.sum(), 1e-12))
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.config.total_steps

    def __getitem__(self, step: int) -> Any:
        phase, first = self.config.at(step)
        pairs = [
            self.sample(first + i, phase.size)
            for i in range(self.rank, phase.batch, self.world_size)
        ]
        return collate([s for s, _ in pairs], [t for _, t in pairs], self.batch)

    def sample(self, index: int, size: Size) -> tuple[Scene, Any]:
        """Training sample number ``index`` at ``size``."""
        rng = np.random.default_rng((self.config.seed, index))
        photo = self.cache[self._draw(self.cumulative, rng)]
        donor = None
        if len(self.donors) and rng.random() < self.config.augment.paste_probability:
            donor = self.cache[int(self.donors[self._draw(self.donor_cumulative, rng)])]
        scene = random_scene(photo, donor, size, self.config.augment, rng)
        return scene, self.make(scene, self.weights)

    @staticmethod
    def _draw(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
        at = int(np.searchsorted(cumulative, rng.random(), side="right"))
        return min(at, len(cumulative) - 1)


def _worker_setup(worker: int) -> None:
    # Ctrl-C reaches the whole process group; only the trainer may answer it, by saving.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    opencv().setNumThreads(0)
    torch.set_num_threads(1)


def loader(
    stream: SceneStream, first_step: int, workers: int, end: int | None = None
) -> DataLoader[Any]:
    """Batches from ``first_step`` on (up to ``end``), made by ``workers`` processes (0: in this
    one)."""
    return DataLoader(
        stream,
        pin_memory=torch.cuda.is_available(),
        batch_size=None,
        sampler=range(first_step, len(stream) if end is None else end),
        num_workers=workers,
        worker_init_fn=_worker_setup,
        prefetch_factor=4 if workers else None,
    )
