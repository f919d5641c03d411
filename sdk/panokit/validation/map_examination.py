"""The map of a dump, given the device's heads, or what leads to them if the dump has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panokit.errors import ArgumentError, DumpError
from panokit.validation import evidence
from panokit.validation.device import half_precision
from panokit.validation.diagnosis import Finding
from panokit.validation.faults.app import App
from panokit.validation.faults.decode import DecodePlan, Decoder, Regions
from panokit.validation.faults.model import Step
from panokit.validation.ranking import Score, conclude, hypotheses

if TYPE_CHECKING:
    from panokit.validation.examination import Examination

__all__ = ["examine_map"]


def examine_map(x: Examination, complete: bool) -> Finding | None:
    """What explains the map; None if it agrees. ``complete``: the dump holds all heads."""
    from panokit.validation.examination import INPUT_STEPS

    ids, channels = x.device_map
    config, floor = x.manifest.postprocessing, x.config.map_share

    def difference(regions: Regions | None) -> float:
        if regions is None:
            return 1.0
        return evidence.map_difference(ids, regions.ids, (channels, regions.channels))

    def decode(app: App, fast: bool = True) -> Regions | None:
        decoder = x.decoder(app, complete, fast)
        return None if decoder is None else decoder.decode(app.plan(config))

    known = App.of(c for c in x.app.causes if c[0].step not in (Step.DECODE,))
    if complete:  # the heads are the device's own: what made them is no matter here
        known = App.of(known.having(*INPUT_STEPS))
    clean = decode(known)
    if clean is None:
        return None
    if ids.shape != clean.ids.shape:
        reason = f"tensor 'panoptic': expected shape {clean.ids.shape}, got {ids.shape}"
        raise DumpError(x.dump.path or "dump", reason)
    kernels: tuple[bool, ...] = (True,)
    base = difference(clean)
    if not complete:
        floor = x.config.replayed_map_share
        if base > floor:
            others, kernels = _rounded(x, known)
            spreads = [evidence.map_difference(o.ids, clean.ids) for o in others]
            floor = max(floor, *(1.5 * s for s in spreads))
            base = min(base, *(difference(o) for o in others))
    if base <= floor:
        return None

    def judge(app: App) -> Score:
        try:
            full = App.of((*known.causes, *app.causes))
        except ArgumentError:  # changes what is known to be changed already
            return Score(base, False)
        replayed = app.having(*INPUT_STEPS, Step.NETWORK)
        tried = kernels[:1] if replayed else kernels
        residual = min(difference(decode(full, fast)) for fast in tried)
        return Score(residual, residual <= min(floor, 0.2 * base))

    steps = [Step.DECODE]
    if not any(c[0].step is Step.HEADS for c in x.app.causes):
        steps.append(Step.HEADS)
    if not complete:
        steps += [Step.NETWORK]
        if x.values is None:
            steps += INPUT_STEPS
    plan = DecodePlan.of(config)
    singles = [
        (f, v)
        for f, v in hypotheses(steps, x.quantised)
        if f.name != "fp16-rounding"
        and not (f.step is Step.DECODE and App(((f, v),)).plan(config) == plan)
    ]
    # Heads that are dumped as they should be were probably read so, too.
    singles.sort(key=lambda s: complete and s[0].step is not Step.DECODE)
    least = x.config.explains if complete else x.config.map_explains
    beam = None if complete else 1
    return conclude("panoptic", base, singles, judge, x.config, least, beam=beam)


def _rounded(x: Examination, known: App) -> tuple[list[Regions], tuple[bool, ...]]:
    """The maps that healthy devices may get where their heads are not at hand: with half
    precision (two draws), and for quantised artifacts with the runtime's other kernels. Also which
    kernels are worth trying for hypotheses."""
    plan = known.plan(x.manifest.postprocessing)
    heads, record = x._run(known)
    heads = {**heads, **x.device_heads}
    maps: list[Regions] = []
    if record is not None:
        for seed in (1, 2):
            noisy = half_precision(heads, seed)
            maps.append(Decoder(noisy, record, x.segmenter.taxonomy).decode(plan))
    if not (x.quantised and x._network(fast=False).own_kernels):
        return maps, (True,)
    plain = x.decoder(known, complete=False, fast=False)
    if plain is not None:
        maps.append(plain.decode(plan))
    return maps, (True, False)
