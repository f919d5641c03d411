"""Judging one dump after another in one process: bundles, archives and photos stay open."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from panokit.bundle import Bundle
from panokit.config import read_settings, write_settings
from panokit.dump import Dump
from panokit.errors import PanokitError
from panokit.photo import Photo, photo_paths
from panokit.segmenter import Segmenter
from panokit_validation.frames import Frame, with_earlier
from panokit_validation.original import beside_its_file
from panokit_validation.sources import DumpOpener, DumpRef
from panokit_validation.thresholds import ValidationConfig, thresholds_for
from panokit_validation.verdict import PhotoVerdict, Verdict, validate_dump
from panokit_validation.words import sentence_of

__all__ = ["Outcome", "RunConfig", "Worker"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunConfig:
    """How a run judges its dumps.

    ``bundle``: a folder, the shipped one without it. ``artifact``: judge all dumps by this one
    instead of the one that each names. ``photos``: folder of the photos, by name: for dumps without
    their own, and to see whether their own is the file upright. ``thresholds``: overrides by name
    of :class:`ValidationConfig`. ``diagnose``: look for the cause of failures.
    """

    bundle: str | None = None
    artifact: str | None = None
    photos: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    diagnose: bool = True

    def __post_init__(self) -> None:
        # Impossible values show before the first dump is read.
        ValidationConfig.from_json(dict(self.thresholds))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunConfig:
        """Read what :meth:`to_json` wrote."""
        return read_settings(cls, data, "run")


@dataclass(frozen=True)
class Outcome:
    """What came of one dump: the verdict as JSON (``photo``), or the ``reason`` of a refusal."""

    dump: str
    photo: dict[str, Any] | None = None
    reason: str = ""


class Worker:
    """Judges dumps one by one. Use it with ``with``."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._opener = DumpOpener()
        self._segmenters: dict[str | None, Segmenter] = {}

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self._opener.close()

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle; ``BundleError`` if it cannot be opened."""
        return Bundle.open(self.config.bundle)

    @cached_property
    def photos(self) -> dict[str, Path]:
        """The files of the photos, by name."""
        return photo_paths([Path(self.config.photos)]) if self.config.photos else {}

    def segmenter(self, artifact: str | None) -> Segmenter:
        """The segmenter of an artifact, loaded once."""
        if artifact not in self._segmenters:
            self._segmenters[artifact] = Segmenter.open(self.bundle, artifact, threads=1)
        return self._segmenters[artifact]

    def open(self, ref: DumpRef) -> tuple[Dump, Segmenter, Photo | None]:
        """A dump, what it is to be judged by, and its photo if that lies elsewhere."""
        dump = self._opener.open(ref)
        segmenter = self.segmenter(self.config.artifact or dump.metadata.get("artifact"))
        path = None if "photo" in dump.tensors else self.photos.get(dump.name)
        return dump, segmenter, Photo.open(path) if path else None

    def _beside_its_file(self, verdict: PhotoVerdict, dump: Dump) -> PhotoVerdict:
        """The verdict once the file of a dump's own photo was looked at, if it is at hand."""
        path = self.photos.get(dump.name) if "photo" in dump.tensors else None
        if path is None:
            return verdict
        try:
            return beside_its_file(verdict, dump, Photo.open(path))
        except PanokitError as error:
            note = f"the photo's file was not looked at: {error}"
            return replace(verdict, warnings=(*verdict.warnings, note))

    def judge(self, ref: DumpRef) -> Outcome:
        """The verdict on a dump, or why it was refused. Nothing that it holds stops the run."""
        try:
            dump, segmenter, photo = self.open(ref)
            manifest = segmenter.bundle.manifest
            config, sources = thresholds_for(manifest, segmenter.artifact, self.config.thresholds)
            verdict = validate_dump(dump, segmenter, config, photo, diagnose=self.config.diagnose)
            if verdict.verdict is Verdict.FAIL and self.config.diagnose:
                verdict = with_earlier(verdict, Frame(dump, segmenter, photo), self._earlier(ref))
            verdict = self._beside_its_file(verdict, dump)
        except PanokitError as error:
            return Outcome(ref.label, reason=_reason(ref, error))
        except MemoryError:
            return Outcome(ref.label, reason="needs more memory than there is")
        except Exception as error:  # one dump must not end the others' run
            _log.exception("judging %s", ref.label)
            return Outcome(ref.label, reason=f"could not be judged: {error!r}")
        data = verdict.to_json()
        data["dump"] = ref.label
        data["sentence"] = sentence_of(data)
        data["artifact"] = segmenter.artifact.name
        data["threshold_sources"] = sources
        return Outcome(ref.label, data)

    def _earlier(self, ref: DumpRef) -> Iterator[Frame]:
        """What came just before a dump, nearest first; what cannot be opened is left out."""
        for earlier in ref.before:
            try:
                yield Frame(*self.open(earlier))
            except (PanokitError, MemoryError):
                continue


def _reason(ref: DumpRef, error: PanokitError) -> str:
    """The error's sentence without the path that the outcome names anyway."""
    text = str(error)
    for prefix in (ref.label, os.fspath(ref.container), "dump"):
        text = text.removeprefix(f"{prefix}: ")
    return text
