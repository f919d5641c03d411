"""A file that was made, and what there is to say about it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NotedFile"]


@dataclass(frozen=True)
class NotedFile:
    """The ``content`` of a file, and ``notes``: a sentence for each layer that was not treated as
    the recipe says, with the reason."""

    content: bytes
    notes: tuple[str, ...] = ()
