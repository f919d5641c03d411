"""Data sets as their makers lay them out: one file each, found by itself.

::

    open_dataset("cityscapes", split="val")   a Reader: len, photo(i), truth(i), taxonomy
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from panokit.errors import ArgumentError, DataError
from panokit_datasets.problems import Complain, refuse
from panokit_datasets.reader import Options, Reader
from panokit_datasets.writer import Writer

DEFAULTS = Options()

__all__ = ["find_datasets", "kinds", "open_dataset", "writers"]


@cache
def kinds() -> dict[str, type[Reader]]:
    """All kinds of data sets, by the word that names each."""
    return dict(sorted(_classes()[0].items()))


@cache
def writers() -> dict[str, type[Writer]]:
    """What writes each kind that can be written."""
    return dict(sorted(_classes()[1].items()))


@cache
def _classes() -> tuple[dict[str, type[Reader]], dict[str, type[Writer]]]:
    readers: dict[str, type[Reader]] = {}
    made: dict[str, type[Writer]] = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Reader) and value.kind:
                readers[value.kind] = value
            elif isinstance(value, type) and issubclass(value, Writer) and value.kind:
                made[value.kind] = value
    return readers, made


def find_datasets(root: str | Path, options: Options = DEFAULTS) -> dict[type[Reader], list[str]]:
    """What kinds of data set a folder (or a JSON file) is, with the splits of each; the likeliest
    first."""
    path = Path(root)
    if not path.exists():
        raise DataError(path, "no such folder or file")
    ranked = sorted(kinds().values(), key=lambda k: -k.rank)
    found = {kind: kind.splits_in(path, options) for kind in ranked}
    return {kind: splits for kind, splits in found.items() if splits}


def open_dataset(
    root: str | Path,
    split: str | None = None,
    kind: str | None = None,
    options: Options = DEFAULTS,
    complain: Complain = refuse,
) -> Reader:
    """Open a split of a data set.

    ``split`` may be left out where there is only one; ``kind`` is a word of :func:`kinds`, by
    default the likeliest. Raises ``DataError`` where the folder is no data set that is known, or
    has no such split.
    """
    path = Path(root)
    if kind is not None and kind not in kinds():
        raise ArgumentError.unknown("kind of data set", kind, kinds())
    found = find_datasets(path, options)
    if kind is not None:
        found = {k: s for k, s in found.items() if k.kind == kind}
    if not found:
        known = ", ".join(kinds()) if kind is None else kind
        raise DataError(
            path,
            f"looks like none of the data sets that are known here ({known}); say --layout for a "
            "folder of photos and label PNGs of your own, or see the page on data sets",
        )
    reader, splits = next(iter(found.items()))
    if split is None and len(splits) > 1:
        raise DataError(path, f"has several splits; say which: {', '.join(splits)}")
    chosen = splits[0] if split is None else split
    if chosen not in splits:
        raise DataError(path, f"no split {chosen!r}; splits here: {', '.join(splits)}")
    return reader.open(path, chosen, options, complain)
