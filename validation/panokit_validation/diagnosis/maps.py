"""The map of a dump, given the device's heads, or what leads to them if the dump has none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import PanopticMap
from panokit.errors import ArgumentError, DumpError
from panokit_validation import evidence
from panokit_validation.device import half_precision
from panokit_validation.diagnosis.cause import Cause, Finding
from panokit_validation.diagnosis.hypotheses import (
    INPUT_STEPS,
    Injected,
    Score,
    conclude,
    hypotheses,
)
from panokit_validation.diagnosis.replay import Replay
from panokit_validation.faults.app import App
from panokit_validation.faults.bank import FAULTS
from panokit_validation.faults.buffers import rows_without_padding
from panokit_validation.faults.decode import AppDecoding, DecodingReplay, class_tables
from panokit_validation.faults.model import Step, Variant

__all__ = ["explain_map"]


class _Judge:
    """Scores hypotheses by the pixels that they leave different.

    ``complete``: the dump holds all heads, which are then the device's own: what made them is no
    matter here, but where the photo lies in the input is.
    """

    def __init__(self, x: Replay, complete: bool) -> None:
        self.x, self.complete = x, complete
        self.ids, self.channels = x.device_map
        self.replayed_steps = (*INPUT_STEPS, Step.NETWORK)
        steps = INPUT_STEPS if complete else [s for s in Step if s is not Step.DECODE]
        self.known = App.of(x.app.having(*steps))
        self.kernels: tuple[bool, ...] = (True,)

    def decode(self, app: App, fast: bool = True) -> PanopticMap | None:
        """The regions that an app finds."""
        decoder = self.x.decoder(app, self.complete, fast)
        plan = app.decoding(self.x.manifest.center_offset)
        return None if decoder is None else decoder.decode(plan)

    def difference(self, regions: PanopticMap | None, row_padding: int = 0) -> float:
        """Share of pixels 0..1 that differ from the device's map. What lies behind rows is left
        out: nobody knows what the buffer held there."""
        if regions is None:
            return 1.0
        channels = (self.channels, regions.channels)
        known = rows_without_padding(np.ones(self.ids.shape, bool), row_padding)
        return evidence.map_difference(self.ids[known], regions.ids[known], channels)

    def base(self, clean: PanopticMap) -> tuple[float, float]:
        """The difference without a fault, and how much of it may be rounding."""
        floor, base = self.x.config.map_share, self.difference(clean)
        if self.complete:
            return base, floor
        floor = self.x.config.replayed_map_share
        if base > floor:
            others = self.rounded()
            spreads = [evidence.map_difference(o.ids, clean.ids) for o in others]
            floor = max(floor, *(1.5 * s for s in spreads))
            base = min(base, *(self.difference(o) for o in others))
        return base, floor

    def rounded(self) -> list[PanopticMap]:
        """The maps that healthy devices may get where their heads are not at hand: with half
        precision (two draws), and for quantised artifacts with the runtime's other kernels."""
        x, plan = self.x, self.known.decoding(self.x.manifest.center_offset)
        heads, record = x.run(self.known)
        maps: list[PanopticMap] = []
        if record is not None:
            for seed in (1, 2):
                noisy = half_precision({**heads, **x.device_heads}, seed)
                grid = x.manifest.center_offset.grid
                maps.append(DecodingReplay(noisy, record, x.segmenter.taxonomy, grid).decode(plan))
        if x.quantised and x.device(fast=False).own_kernels:
            plain = self.decode(self.known, fast=False)
            if plain is not None:
                self.kernels = (True, False)
                maps.append(plain)
        return maps

    def score(self, app: App, base: float, floor: float) -> Score:
        """The score of a hypothesis beside what is known."""
        try:
            full = App.of((*self.known.causes, *app.causes))
        except ArgumentError:  # changes what is known to be changed already
            return Score(base, False)
        # Another run of the plain kernels is dear; they are tried where one run serves all.
        tried = self.kernels[:1] if app.having(*self.replayed_steps) else self.kernels
        padding = full.decoding(self.x.manifest.center_offset).row_padding
        residual = min(self.difference(self.decode(full, fast), padding) for fast in tried)
        return Score(residual, residual <= min(floor, 0.2 * base))

    def singles(self) -> list[Injected]:
        """The faults that may have made the map."""
        x, config = self.x, self.x.manifest.center_offset
        steps = [Step.DECODE]
        if not any(c[0].step is Step.HEADS for c in x.app.causes):
            steps.append(Step.HEADS)
        if not self.complete:
            steps += self.replayed_steps if x.values is None else [Step.NETWORK]
        plan = AppDecoding.of(config)
        found = [
            (f, v)
            for f, v in hypotheses(steps, x.quantised)
            if f.name != "fp16-rounding"
            and not (f.step is Step.DECODE and App(((f, v),)).decoding(config) == plan)
        ]
        # Heads that are dumped as they should be were probably read so, too; and what needs no
        # run of the network is tried first.
        order = {Step.DECODE: 0, Step.HEADS: 1}
        found.sort(key=lambda s: order.get(s[0].step, 2))
        return found


def explain_map(x: Replay, complete: bool) -> Finding | None:
    """What explains the map; None if it agrees. ``complete``: the dump holds all heads."""
    judge = _Judge(x, complete)
    clean = judge.decode(judge.known)
    if clean is None:
        return None
    if judge.ids.shape != clean.ids.shape:
        reason = f"tensor 'panoptic': expected shape {clean.ids.shape}, got {judge.ids.shape}"
        raise DumpError(x.dump.path or "dump", reason)
    base, floor = judge.base(clean)
    if base <= floor and not (base and "panoptic" in x.failing):
        return None
    for decisive in (_truncated, _renamed):
        finding = decisive(judge, clean, base)
        if finding is not None:
            return finding
    singles = judge.singles()
    cheap = sum(f.step in (Step.DECODE, Step.HEADS) for f, _ in singles)
    padding = evidence.row_padding(_edges(judge.ids), _edges(clean.ids))
    if padding is not None:
        observed = Variant("observed", {"row_padding": padding})
        singles.insert(cheap, (FAULTS["map-row-stride"], observed))
        cheap += 1
    return conclude(
        "panoptic",
        base,
        singles,
        lambda app: judge.score(app, base, floor),
        x.config,
        x.config.explains if complete else x.config.map_explains,
        beam=None if complete else 1,
        cheap=cheap,
    )


def _edges(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Where the id changes along the buffer of a map: the same for any numbering."""
    flat = ids.reshape(-1)
    return np.append(False, flat[1:] != flat[:-1]).reshape(ids.shape)


def _truncated(judge: _Judge, clean: PanopticMap, base: float) -> Finding | None:
    """Ids that the dump lists but the map has only modulo 256."""
    told = judge.x.told_channels
    found = {int(i) for i in np.unique(judge.x.dump.tensors["panoptic"])} - {0}
    if told is None or not found or max(found) > 255:
        return None
    lost = [i for i in told if i > 255 and i not in found]
    strange = [i for i in found if i not in told]
    if not lost or not strange or not set(strange) <= {i % 256 for i in lost}:
        return None
    return _decided("ids-truncated", base, certain=True)


def _renamed(judge: _Judge, clean: PanopticMap, base: float) -> Finding | None:
    """Equal regions whose classes follow another table."""
    if judge.channels is None or evidence.map_difference(judge.ids, clean.ids) > 0.02:
        return None
    pairs: dict[int, set[int]] = {}
    for segment in clean.segments:
        theirs = judge.ids[clean.ids == segment.id]
        device = int(np.bincount(theirs).argmax())
        if device in judge.channels:
            pairs.setdefault(segment.channel, set()).add(judge.channels[device])
    wrong = [c for c, names in pairs.items() if names != {c}]
    if len(wrong) < 2 or any(len(names) != 1 for names in pairs.values()):
        return None
    found = {c: next(iter(names)) for c, names in pairs.items()}
    known = class_tables(len(judge.x.segmenter.taxonomy)).items()
    fitting = (name for name, table in known if all(table[c] == d for c, d in found.items()))
    label = next(fitting, "another-table")
    return _decided("class-table", base, label)


def _decided(name: str, base: float, variant: str = "", certain: bool = False) -> Finding:
    fault = FAULTS[name]
    cause = Cause(fault.name, "panoptic", fault.title, fault.advice, 1.0, variant, certain=certain)
    return Finding("panoptic", base, (cause,))
