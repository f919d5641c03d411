"""Train for so many minutes on a machine that is lent for a while: packs in, weights out.

    python scripts/train_in_time.py --packs packs --out OUT --minutes 9 --init W.safetensors
    python scripts/train_in_time.py --packs packs --out OUT2 --minutes 9 --state OUT

The first call measures how fast each phase of the config goes here and scales all phases alike,
so that the schedule ends in time; a later call with `--state` goes on where that one stopped. OUT
gets, every minute and at the end, the state in parts that are small enough to send
(`checkpoint.00`, …), the averaged weights, the figures as JSON lines, and the config. It needs
what `panokit train` needs and the folders `sdk`, `datasets` and `network` of this project, but no
installation, no ImageNet package, and whatever PyTorch the machine has.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("sdk", "datasets", "network")]

import torch  # noqa: E402

from panokit.preprocessing import sides  # noqa: E402
from panokit_datasets.packs import PackFolder  # noqa: E402
from panokit_network.training.cache import PhotoCache  # noqa: E402
from panokit_network.training.config import TrainConfig  # noqa: E402
from panokit_network.training.scenes import loader  # noqa: E402
from panokit_network.training.trainer import CHECKPOINT, METRICS, WEIGHTS, Trainer  # noqa: E402
from panokit_network.training.validate import Validator  # noqa: E402

log = logging.getLogger("train_in_time")

PART_BYTES = 15 * 2**20
CONFIG = "config.json"
MARGIN = 0.94  # of the time left; the rest is for loading, saving and a slower hour
WARM_STEPS, TIMED_STEPS = 5, 40
TIMED_SHARE = 0.03  # of the time for everything: most that one phase's measurement may take


def main() -> None:
    """Unpack, resume, train, save."""
    args = _arguments()
    started = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    folder = PackFolder.open(args.packs)
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    training = [p for p in folder.photos if p.split.endswith("_train")]
    cache = PhotoCache.build(training, folder.taxonomy, args.work / "cache", processes=workers)
    seconds = time.monotonic() - started
    log.info("%d photos in %.0f s, %d left out", len(cache), seconds, len(cache.skipped))
    splits = [n for n in args.validate.split(",") if n]
    held = {n: PhotoCache.build(folder.split(n), folder.taxonomy, args.work) for n in splits}
    run = args.work / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    options = {
        "workers": workers,
        "imagenet": False,
        "init": args.init,
        "backbone": args.backbone,
        "compiled": args.compile,
    }
    budget = 60 * args.minutes
    if args.state is not None:
        config = _join(args.state, run)
        channels_last = True
    else:
        given = TrainConfig.load(args.config)
        most = TIMED_SHARE * budget
        rates, channels_last = args.rates, True
        if rates is None:
            trial = args.work / "trial"
            rates, channels_last = _measure(given, cache, folder, trial, options, most)
        left = MARGIN * (budget - (time.monotonic() - started))
        config = _fitted(given, rates, left)
    validator = Validator(held, folder.taxonomy) if held else None
    save = partial(_split, run, args.out)

    def open_trainer(config: TrainConfig) -> Trainer:
        (run / CONFIG).write_text(json.dumps(config.to_json(), indent=2), encoding="utf-8")
        return Trainer(
            config,
            cache,
            folder.taxonomy,
            run,
            validator,
            on_save=save,
            channels_last=channels_last,
            **options,
        )

    trainer = open_trainer(config)
    if trainer.resume():
        log.info("resumed at %d of %d samples", trainer.samples, config.total_samples)
    first, at = trainer.samples, time.monotonic()
    end = started + budget - 60 * args.reserve
    while True:
        minutes = max((end - time.monotonic()) / 60, 0.05)
        before, since = trainer.samples, time.monotonic()
        result = trainer.run(stop_after=_next_look(config, trainer.step), minutes=minutes)
        left = end - time.monotonic()
        if result.finished or result.interrupted or left <= 0:
            break
        rate = (result.samples - before) / (time.monotonic() - since)
        shorter = _in_time(config, result.samples, rate, MARGIN * left)
        if shorter != config:
            config, trainer = shorter, open_trainer(shorter)
            trainer.resume()
    _split(run, args.out)
    rate = (result.samples - first) / (time.monotonic() - at)
    log.info(
        "%d of %d samples, %.0f samples/s, %s on %s",
        result.samples,
        config.total_samples,
        rate,
        "finished" if result.finished else "to be continued",
        torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packs", type=Path, required=True, help="folder of packs")
    parser.add_argument("--out", type=Path, required=True, help="folder for what comes back")
    parser.add_argument("--minutes", type=float, required=True, help="time for everything")
    own = ROOT / "network" / "panokit_network" / "configs" / "camera-gpu.json"
    parser.add_argument("--config", type=Path, default=own, help="config of a first call")
    parser.add_argument("--state", type=Path, help="OUT of the call to go on from")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--backbone", type=Path, help="weights the backbone alone starts from")
    parser.add_argument("--validate", default="", help="splits, comma separated")
    parser.add_argument("--work", type=Path, default=Path("runs/in-time"), help="scratch folder")
    parser.add_argument("--workers", type=int, help="loader processes; one a core by default")
    parser.add_argument("--compile", action="store_true", help="have PyTorch compile the network")
    parser.add_argument(
        "--rates",
        type=lambda text: [float(part) for part in text.split(",")],
        help="samples a second of each phase, separated by commas, instead of measuring them",
    )
    parser.add_argument("--reserve", type=float, default=0.15, help="minutes kept for saving")
    return parser.parse_args()


def _measure(
    config: TrainConfig,
    cache: PhotoCache,
    folder: PackFolder,
    scratch: Path,
    options: dict[str, Any],
    most_seconds: float,
) -> tuple[list[float], bool]:
    """Samples a second of each phase, and whether channels-last is the faster memory order (on a
    GPU; CPUs always want it)."""
    layouts = (True, False) if torch.cuda.is_available() else (True,)
    rates: dict[bool, list[float]] = {}
    for channels_last in layouts:
        trainer = Trainer(
            config, cache, folder.taxonomy, scratch, channels_last=channels_last, **options
        )
        rates[channels_last] = []
        first = 0
        for phase in config.phases:
            trainer.loop.step = first
            rates[channels_last].append(_rate(trainer, first, phase.batch, most_seconds))
            first += phase.steps
        log.info("channels last %s: %s samples/s", channels_last, rates[channels_last])
    shutil.rmtree(scratch, ignore_errors=True)
    best = max(layouts, key=lambda c: sum(rates[c]))
    return rates[best], best


def _rate(trainer: Trainer, first: int, batch: int, most_seconds: float) -> float:
    """Samples a second from step ``first`` on. The steps before the timed ones start the loader and
    let the machine choose its kernels; on a slow machine the last of them alone counts."""
    end = first + WARM_STEPS + TIMED_STEPS
    ends = [time.monotonic()]
    for loaded in loader(trainer.stream, first, trainer.workers, end):
        trainer.train_step(loaded)  # it waits for the device
        ends.append(time.monotonic())
        if len(ends) > 2 and ends[-1] - ends[0] > most_seconds:
            break
    since = min(WARM_STEPS, len(ends) - 2)
    return round((len(ends) - 1 - since) * batch / (ends[-1] - ends[since]), 1)


def _fitted(config: TrainConfig, rates: list[float], seconds: float) -> TrainConfig:
    """The config with all phases scaled alike so that they take so many seconds."""
    whole = sum(p.samples / r for p, r in zip(config.phases, rates, strict=True))
    if seconds <= 0:
        sys.exit("too little time: loading and measuring took all of it; give more --minutes")
    scale = seconds / whole
    phases = tuple(replace(p, samples=max(1, round(p.samples * scale))) for p in config.phases)
    fitted = replace(
        config,
        phases=phases,
        warmup_samples=max(1, round(config.warmup_samples * min(1.0, scale))),
        cooldown_samples=max(1, round(config.cooldown_samples * scale)),
        validate_every=max(1, round(config.validate_every * scale)),
        save_every=max(1, round(60 * min(rates))),
    )
    log.info("%d samples planned: %s", fitted.total_samples, [p.samples for p in phases])
    return fitted


def _next_look(config: TrainConfig, step: int) -> int:
    """The step at which to see whether the schedule is in time: after a third of a phase, and where
    it ends."""
    first = 0
    for phase in config.phases:
        for look in (first + phase.steps // 3, first + phase.steps):
            if step < look:
                return look
        first += phase.steps
    return config.total_steps


def _in_time(config: TrainConfig, done: int, rate: float, seconds: float) -> TrainConfig:
    """The config with what is left of it made shorter, if it would not end within ``seconds``.

    ``rate`` (samples a second) is that of the phase under way; of later ones it is told by the
    pixels of their scenes. The learning rate goes on from where it is."""
    left: list[int] = []
    first = 0
    for phase in config.phases:
        whole = phase.steps * phase.batch
        left.append(max(0, first + whole - max(done, first)))
        first += whole
    now = next(p for p, rest in zip(config.phases, left, strict=True) if rest)
    cost = sum(
        rest * math.prod(sides(p.size)) / math.prod(sides(now.size)) / rate
        for p, rest in zip(config.phases, left, strict=True)
    )
    if cost <= seconds:
        return config
    share = seconds / cost
    phases = tuple(
        replace(p, samples=max(1, p.steps * p.batch - rest + round(rest * share)))
        for p, rest in zip(config.phases, left, strict=True)
    )
    log.info("behind time: what is left is cut to %.0f %%", 100 * share)
    return replace(
        config, phases=phases, cooldown_samples=max(1, round(config.cooldown_samples * share))
    )


def _split(run: Path, out: Path) -> None:
    """Copy the run to ``out``, the checkpoint in parts."""
    data = (run / CHECKPOINT).read_bytes()
    for old in out.glob("checkpoint.*"):
        old.unlink()
    for number, at in enumerate(range(0, len(data), PART_BYTES)):
        (out / f"checkpoint.{number:02d}").write_bytes(data[at : at + PART_BYTES])
    for name in (WEIGHTS, METRICS, CONFIG):
        if (run / name).is_file():
            shutil.copy(run / name, out / name)


def _join(state: Path, run: Path) -> TrainConfig:
    """Put what :func:`_split` wrote into the run's folder; its config."""
    parts = sorted(state.glob("checkpoint.*"))
    if not parts:
        sys.exit(f"{state}: holds no checkpoint.00; name the OUT of an earlier call")
    with (run / CHECKPOINT).open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
    if (state / METRICS).is_file():
        shutil.copy(state / METRICS, run / METRICS)
    return TrainConfig.load(state / CONFIG)


if __name__ == "__main__":
    main()
