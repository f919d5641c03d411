"""Video files, frame by frame, through PyAV (FFmpeg's libraries): memory holds one frame.

Sound is copied, packet by packet, or turned into AAC where the new file cannot hold it; times of
frames stay as they are, so both stay in step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panokit._files import replacing
from panokit._places import plain_file
from panokit.errors import ArgumentError, MissingExtraError, PhotoError
from panokit.photo import MAX_PIXELS

__all__ = ["VIDEO_SUFFIXES", "Transcoded", "frames_of", "transcode"]

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
"""What is written."""

LEAST = 16
"""Least width and height of a frame, pixels."""

_BAD_PACKETS = 100  # in a row: the rest is damaged
_COPIED = {
    ".mp4": {"aac", "mp3", "ac3", "alac", "opus"},
    ".mov": {"aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s24le"},
    ".mkv": {"aac", "mp3", "ac3", "alac", "opus", "vorbis", "flac", "pcm_s16le"},
}

Work = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""A frame, uint8 ``[H,W,3]`` sRGB upright, to one of the same size."""


class Transcoded(NamedTuple):
    """What was written: frames, seconds, size, and the sound: its codec, or nothing. ``damaged``:
    packets that could not be decoded."""

    frames: int
    seconds: float
    size_wh: tuple[int, int]
    sound: str
    damaged: int


def frames_of(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video, uint8 ``[H,W,3]``, upright, all of the first one's size."""
    with ExitStack() as stack:
        source = _Source(path, stack)
        for packet in source.packets([source.video]):
            for frame in source.decoded(packet):
                yield source.pixels(frame)


def transcode(
    path: Path, out: Path, work: Work, progress: Callable[[int, int], None] = lambda *_: None
) -> Transcoded:
    """Write a video whose frames went through ``work``; the sound is kept.

    ``progress`` gets how many frames are done, and how many there may be (0: unknown). Raises
    ``PhotoError`` for a file that is no video, or of which no frame can be read.
    """
    suffix = out.suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        expected = ", ".join(VIDEO_SUFFIXES)
        raise ArgumentError("out", f"out is {str(out)!r}; expected a name ending in {expected}")
    with ExitStack() as stack:
        source = _Source(path, stack)
        partial = stack.enter_context(replacing(out))
        target = _Target(partial, source, suffix, stack)
        streams = [source.video] + ([source.sound] if source.sound is not None else [])
        for packet in source.packets(streams):
            if packet.stream is source.sound:
                target.add_sound(packet)
                continue
            for frame in source.decoded(packet):
                target.add_frame(work(source.pixels(frame)), frame)
                progress(target.frames, source.expected)
        if not target.frames:
            raise PhotoError(path, "holds no frame that can be decoded")
        target.finish()
        return Transcoded(
            target.frames, target.seconds, target.size_wh, target.sound_codec, source.damaged
        )


class _Source:
    """An opened file: its first video stream, and its first sound."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        av = _av()
        self.path, self.damaged = path, 0
        try:
            self.container = stack.enter_context(av.open(str(plain_file(path))))
        except FileNotFoundError:
            raise PhotoError(path, "no such file") from None
        except (av.FFmpegError, OSError, ValueError) as error:
            raise PhotoError(path, f"is no video that can be read ({_short(error)})") from None
        known = [s for s in self.container.streams.video if s.codec_context is not None]
        videos = [s for s in known if not _is_picture(s)]
        if not known and self.container.streams.video:
            raise PhotoError(path, "holds a video of a kind that cannot be decoded here")
        if not videos:
            raise PhotoError(path, "holds no video stream; a photo goes to `panokit segment`")
        self.video = videos[0]
        self.video.thread_type = "AUTO"
        sounds = [s for s in self.container.streams.audio if s.codec_context is not None]
        self.sound = sounds[0] if sounds else None
        width, height = self.video.codec_context.width, self.video.codec_context.height
        if min(width, height) < LEAST or width * height > MAX_PIXELS:
            expected = f"{LEAST} pixels a side or more, and at most {MAX_PIXELS} in all"
            raise PhotoError(path, f"its frames are {width} x {height}; expected {expected}")
        self._size: tuple[int, int] | None = None
        self._bad = 0

    @property
    def expected(self) -> int:
        """How many frames there may be; headers are not believed beyond a day."""
        count = self.video.frames
        if not count and self.video.duration and self.video.average_rate:
            count = int(self.video.duration * self.video.time_base * self.video.average_rate)
        return count if 0 < count < 10_000_000 else 0

    def packets(self, streams: list[Any]) -> Iterator[Any]:
        """The packets of streams. Where the rest of a file is damaged, they end."""
        packets = self.container.demux(streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (_av().FFmpegError, OSError, ValueError):
                self.damaged += 1
                return
            yield packet

    def decoded(self, packet: Any) -> Iterator[Any]:
        """The frames of a packet; damaged ones are counted and left out."""
        try:
            yield from packet.decode()
            self._bad = 0
        except (_av().FFmpegError, OSError, ValueError) as error:
            self.damaged += 1
            self._bad += 1
            if self._bad > _BAD_PACKETS:
                reason = f"is damaged: {self._bad} packets in a row cannot be decoded"
                raise PhotoError(self.path, f"{reason} ({_short(error)})") from None

    def pixels(self, frame: Any) -> NDArray[np.uint8]:
        """A frame's pixels, upright. One of another size than the first is scaled to it."""
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        size = (frame.width, frame.height)
        if size[0] * size[1] > MAX_PIXELS or min(size) < 1:
            raise PhotoError(self.path, f"a frame is {size[0]} x {size[1]} pixels: too large")
        if self._size is None:
            self._size = size
        if size == self._size:
            rgb = frame.to_ndarray(format="rgb24")
        else:
            rgb = frame.reformat(*self._size, format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, turns))


class _Target:
    """The file that is written."""

    def __init__(self, path: Path, source: _Source, suffix: str, stack: ExitStack) -> None:
        av = _av()
        self._av, self._source = av, source
        kind = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}[suffix]
        self._container = stack.enter_context(av.open(str(path), "w", format=kind))
        self._suffix = suffix
        self._video: Any = None
        self._sound: Any = None
        self._waiting: list[Any] = []
        self._last = -1
        self.frames, self.seconds = 0, 0.0
        self.size_wh = (0, 0)
        self.sound_codec = ""
        self._copies = False

    def add_frame(self, rgb: NDArray[np.uint8], like: Any) -> None:
        """Write a frame at the time of another."""
        h, w = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2  # the codec wants even sides
        if self._video is None:
            self._begin(w, h)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:h, :w]), "rgb24")
        base = like.time_base or self._base
        pts = like.pts if like.pts is not None else self._last + 1
        at = round(Fraction(pts) * base / self._base)
        self._last = max(self._last + 1, at)  # times go up, whatever a file says
        frame.pts, frame.time_base = self._last, self._base
        for packet in self._video.encode(frame):
            self._container.mux(packet)
        self.frames += 1
        self.seconds = float(self._last * self._base)

    def add_sound(self, packet: Any) -> None:
        """Write a packet of sound, or keep it until the first frame has come."""
        if self._video is None:
            if len(self._waiting) < 10_000:
                self._waiting.append(packet)
            return
        if self._sound is None or packet.dts is None:
            return
        if self._copies:
            packet.stream = self._sound
            self._container.mux(packet)
            return
        for frame in self._source.decoded(packet):
            for made in self._sound.encode(frame):
                self._container.mux(made)

    def finish(self) -> None:
        """Write what the codecs still hold."""
        for stream in (self._video, self._sound):
            if stream is None or (stream is self._sound and self._copies):
                continue
            for packet in stream.encode(None):
                self._container.mux(packet)

    def _begin(self, width: int, height: int) -> None:
        rate = self._source.video.average_rate
        good = rate is not None and 0 < rate <= 1000
        rate = Fraction(rate).limit_denominator(100_000) if good else Fraction(30)
        base = self._source.video.time_base
        usable = base is not None and 0 < base <= 1
        self._base = Fraction(base) if usable else 1 / rate
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        self._video = self._container.add_stream(codec, rate=rate)
        self._video.width, self._video.height = width, height
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = self._base
        if codec == "libx264":
            self._video.options = {"crf": "18", "preset": "veryfast"}
        self.size_wh = width, height
        self._begin_sound()
        for packet in self._waiting:
            self.add_sound(packet)
        self._waiting.clear()

    def _begin_sound(self) -> None:
        sound = self._source.sound
        if sound is None:
            return
        name = sound.codec_context.name
        if name in _COPIED[self._suffix]:
            self._sound = self._container.add_stream_from_template(sound)
            self._copies = True
        else:
            name = "aac"
            self._sound = self._container.add_stream(name, rate=sound.codec_context.sample_rate)
        self.sound_codec = name


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise MissingExtraError("`panokit video`", "video") from None
    return av


def _is_picture(stream: Any) -> bool:
    """Whether a stream is a cover picture."""
    still = {"mjpeg", "png", "bmp", "webp", "gif"}
    attached = "ATTACHED_PIC" in str(getattr(stream, "disposition", "")).upper()
    return attached or (stream.codec_context.name in still - {"mjpeg"} and stream.frames == 1)


def _short(error: BaseException) -> str:
    text = str(error).splitlines()
    return (text[0] if text else type(error).__name__)[:200]


def seconds_of(path: Path) -> float:
    """How long a video says it is, in seconds; 0 where it does not say."""
    with ExitStack() as stack:
        source = _Source(path, stack)
        length = source.container.duration
        seconds = length / 1e6 if length else 0.0
        return seconds if math.isfinite(seconds) else 0.0
