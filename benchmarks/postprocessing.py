"""The postprocessing reference beside the published torch algorithm, on the same heads.

The other side is our transcription of the grouping of Panoptic-DeepLab (Cheng et al., CVPR 2020,
https://arxiv.org/abs/1911.10194, section 3.2 and appendix) as its authors published it for torch:
keypoint suppression by max pooling, all pixels against all centres in one distance matrix, then a
majority vote per instance and a pass per class. It gives no scores; ours does, in its time. Both
run on one core, in this process, from float32 heads; each in its own layout (torch NCHW).
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from panokit.bundle import Bundle
from panokit.decoding import Heads, PostprocessConfig, postprocess
from panokit.preprocessing import letterbox
from panokit.taxonomy import Taxonomy

WINDOW, THRESHOLD, TOP_K, STUFF_AREA = 7, 0.25, 200, 256


def heads_with(size: int, centers: int, channels: int) -> Heads:
    """Smooth made-up heads of ``size``² cells: half things, half stuff, offsets that lead to the
    nearest centre and tremble, noise on everything."""
    rng = np.random.default_rng(size + centers)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    semantic = rng.normal(0, 0.5, (size, size, channels)).astype(np.float32)
    for c in range(channels):
        angle, length = rng.uniform(0, np.pi), rng.uniform(20, 60)
        wave = np.sin((np.cos(angle) * y + np.sin(angle) * x) / length * 6 + c)
        semantic[..., c] += 3 * wave
    side = size // 8  # one centre at most in a block of 8×8 cells, so that none suppresses another
    blocks = rng.choice(side * side, centers, replace=False)
    rows, cols = blocks // side * 8 + 4, blocks % side * 8 + 4
    center = rng.normal(-6, 0.5, (size, size)).astype(np.float32)
    center[rows, cols] = rng.uniform(0, 4, centers)
    nearest = ((y[..., None] - rows) ** 2 + (x[..., None] - cols) ** 2).argmin(-1)
    offset = np.stack([rows[nearest] - y, cols[nearest] - x], -1) * 4
    offset += rng.normal(0, 3, offset.shape)
    return Heads(semantic, center, offset.astype(np.float32))


class Published:
    """The published algorithm in torch, semantic and offset at the size of the decode grid."""

    def __init__(self, heads: Heads, taxonomy: Taxonomy, stride: int, size: int | None) -> None:
        import torch

        self.torch = torch
        self.semantic = torch.from_numpy(heads.semantic).permute(2, 0, 1)[None].contiguous()
        self.center = torch.from_numpy(heads.center)[None, None]
        self.offset = torch.from_numpy(heads.offset).permute(2, 0, 1)[None].contiguous() / stride
        self.things = [c for c in range(len(taxonomy)) if taxonomy.thing_mask[c]]
        self.size = size

    def __call__(self) -> Any:
        """The panoptic map, class·1000 + instance, -1 where nothing is."""
        semantic, center, offset = self.semantic, self.center, self.offset
        if self.size:  # the published network upsamples all heads before it groups
            resize = self.torch.nn.functional.interpolate
            scale = self.size / center.shape[-1]
            semantic, center, offset = (
                resize(v, size=(self.size, self.size), mode="bilinear", align_corners=False)
                for v in (semantic, self.center.sigmoid(), offset * scale)
            )
        else:
            center = center.sigmoid()
        classes = semantic.argmax(1)  # [1,H,W]
        instances = self.instances(center, offset) * self.things_in(classes)
        return self.merge(classes, instances)

    def things_in(self, classes: Any) -> Any:
        mask = self.torch.zeros_like(classes)
        for c in self.things:
            mask[classes == c] = 1
        return mask

    def centers(self, heatmap: Any) -> Any:
        functional = self.torch.nn.functional
        heatmap = functional.threshold(heatmap, THRESHOLD, -1)
        pooled = functional.max_pool2d(heatmap, WINDOW, stride=1, padding=WINDOW // 2)
        heatmap = heatmap.clone()
        heatmap[heatmap != pooled] = -1
        heatmap = heatmap.squeeze()
        cells = self.torch.nonzero(heatmap > 0)
        if len(cells) < TOP_K:
            return cells
        scores, _ = self.torch.topk(heatmap.flatten(), TOP_K)
        return self.torch.nonzero(heatmap > scores[-1])

    def instances(self, heatmap: Any, offset: Any) -> Any:
        torch = self.torch
        cells = self.centers(heatmap)
        _, _, height, width = offset.shape
        if len(cells) == 0:
            return torch.zeros((1, height, width), dtype=torch.int64)
        y = torch.arange(height, dtype=torch.float32).view(-1, 1).expand(height, width)
        x = torch.arange(width, dtype=torch.float32).view(1, -1).expand(height, width)
        at = torch.stack([y, x]) + offset[0]
        at = at.reshape(2, -1).transpose(1, 0)[None]  # [1,HW,2]
        distance = torch.norm(cells[:, None].float() - at, dim=-1)  # [k,HW]
        return distance.argmin(0).reshape(1, height, width) + 1

    def merge(self, classes: Any, instances: Any) -> Any:
        torch = self.torch
        thing = self.things_in(classes)  # the published merge finds them again for itself
        panoptic = torch.full_like(classes, -1)
        seen: dict[int, int] = {}
        for instance in torch.unique(instances):
            if instance == 0:
                continue
            mask = (instances == instance) & (thing == 1)
            if torch.nonzero(mask).size(0) == 0:
                continue
            c = int(torch.mode(classes[mask].view(-1))[0])
            seen[c] = seen.get(c, 0) + 1
            panoptic[mask] = c * 1000 + seen[c]
        for c in torch.unique(classes):
            if int(c) in self.things:
                continue
            mask = (classes == c) & (instances == 0)
            if torch.nonzero(mask).size(0) >= STUFF_AREA:
                panoptic[mask] = c * 1000
        return panoptic


def interleaved(calls: list[Callable[[], Any]], seconds: float = 2.0) -> list[float]:
    """Median milliseconds of each call; they take turns in blocks, so that each finds its own
    data in the cache as it would in an app."""
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for call, kept in zip(calls, times, strict=True):
            call()
            for _ in range(4):
                started = time.perf_counter()
                call()
                kept.append(time.perf_counter() - started)
    return [1e3 * statistics.median(t) for t in times]


def peak_megabytes(call: Callable[[], Any]) -> float:
    """Most memory that a call holds at once beyond what it was given (NumPy reports to
    tracemalloc)."""
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def agreement(ids: Any, panoptic: Any) -> float:
    """Share of pixels that lie in the same segment in both maps, segments paired by overlap."""
    pairs, counts = np.unique(
        np.stack([ids.ravel(), panoptic.numpy().ravel()]), axis=1, return_counts=True
    )
    best: dict[int, int] = {}
    for (ours, _), n in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        best[ours] = max(best.get(ours, 0), n)
    return sum(best.values()) / int(ids.size)


def main() -> None:
    """Print a table."""
    import torch

    torch.set_num_threads(1)
    taxonomy = Bundle.open().manifest.taxonomy
    print("postprocessing | published torch ms | panokit ms | times faster | MB at peak | same")
    for cells, grid in ((80, "head"), (160, "head"), (80, "input")):
        for centers in (1, 10, 100):
            heads = heads_with(cells, centers, len(taxonomy))
            size = cells * 4
            transform = letterbox((size, size), (size, size))
            config = PostprocessConfig(THRESHOLD, WINDOW, TOP_K, 0, STUFF_AREA, grid)  # type: ignore[arg-type]
            theirs = Published(heads, taxonomy, 4, size if grid == "input" else None)

            def ours(heads: Heads = heads, t: Any = transform, c: Any = config) -> Any:
                return postprocess(heads, taxonomy, t, c)

            slow, fast = interleaved([theirs, ours])
            shown = size if grid == "input" else cells
            same = agreement(ours().ids, theirs())
            print(
                f"{shown}×{shown} ({grid} grid), {centers:3} centres | {slow:7.2f} | {fast:6.2f} | "
                f"{slow / fast:5.1f} | {peak_megabytes(ours):5.1f} | {same:.1%}"
            )
