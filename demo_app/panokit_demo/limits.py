"""How much the demo server takes on: bytes, pixels, seconds, jobs at once, memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from panokit.errors import ArgumentError

__all__ = ["DemoLimits"]


@dataclass(frozen=True)
class DemoLimits:
    """Limits of the demo server; each is at least 1.

    ``upload_bytes`` of a photo and ``dump_bytes`` of a device dump; ``pixels`` of a photo, as its
    header states them, before it is decoded; ``least_side`` and ``longest_side`` in pixels.
    ``working_side`` is the longest side of the copy that the page shows and edits, ``draft_side``
    that of drafts while a slider moves; a download is made from the whole photo. A session keeps
    ``backgrounds`` pictures of its user, made smaller to ``background_side``. ``seconds`` a
    job may take, ``download_seconds`` for a picture at full size, and ``photo_seconds`` of
    processor time the decoding of a photo. ``workers`` processes work at once and ``waiting`` more
    jobs may wait; others are sent away with 503. A client may have ``per_client`` jobs inside;
    more are sent away with 429. At most ``sessions``
    photos of ``session_bytes`` altogether are remembered, each for ``session_minutes`` after its
    last use.
    """

    upload_bytes: int = 40_000_000
    dump_bytes: int = 120_000_000
    pixels: int = 64_000_000
    least_side: int = 16
    longest_side: int = 20_000
    working_side: int = 1280
    draft_side: int = 640
    backgrounds: int = 8
    background_side: int = 2560
    seconds: int = 30
    download_seconds: int = 90
    photo_seconds: int = 5
    workers: int = 2
    waiting: int = 12
    per_client: int = 4
    edits: int = 50
    sessions: int = 32
    session_bytes: int = 600_000_000
    session_minutes: int = 20

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(
                    f.name, f"{f.name} is {value!r}; expected a whole number from 1"
                )

    def to_json(self) -> dict[str, int]:
        """A JSON-ready dict."""
        return asdict(self)
