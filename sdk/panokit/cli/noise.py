"""What libraries say that is no news to a user: left out of standard error, errors are not.

Runtimes and converters write to the process's standard error from their native code. It is sent
through a small process of its own, which leaves out lines of a few known kinds and hands on all
others as they come; so the last words of a library that ends the program are seen as well.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import select
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["is_noise", "our_log", "without_noise"]

_NOISE = re.compile(
    r"""
      WARNING:\ All\ log\ messages\ before\ absl::InitializeLog
    | INFO:\                                                # LiteRT: "INFO: Created … delegate"
    | [IW]\d{4}\ \d\d:\d\d:\d+(\.\d+)?\ +\d+\ \S+:\d+\]     # absl and torch, below an error
    | E\d{4}\ .*\ Unable\ to\ register\ cu\w+\ factory      # TensorFlow beside another CUDA user
    | \d{4}-\d\d-\d\d\ \d\d:\d\d:\d\d\.\d+:\ [IW]\          # TensorFlow's own form
    | To\ enable\ the\ following\ instructions:             # … and how it goes on
    """,
    re.VERBOSE,
)
WAIT_SECONDS = 2.0
"""So long the last lines are waited for."""

_LAST = b"\0the last line of panokit\0"  # is answered when all before it has been handed on

_OURS = re.compile(r"panokit(_\w+)?(\.|$)")


def is_noise(line: str) -> bool:
    """Whether a line of standard error is of a kind that no user needs."""
    return _NOISE.match(line) is not None


def our_log(level: int = logging.WARNING) -> None:
    """Messages of our own loggers from ``level`` on go to standard error, those of others not."""
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, _OurHandler):
            break
    else:
        root.addHandler(_OurHandler())
    root.setLevel(min(level, logging.WARNING))


class _OurHandler(logging.Handler):
    """Lines of our own loggers, to whatever standard error is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        if _OURS.match(record.name):
            from panokit.cli.console import note

            note(self.format(record))


@contextmanager
def without_noise() -> Iterator[None]:
    """Leave out what libraries say, in this process and in those it starts."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
    before = sys.stderr
    filtering = _start_filter(before)
    sys.stderr = _Sieve(sys.stderr)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        sys.stderr = before
        if filtering is not None:
            _end_filter(*filtering)


class _Sieve:
    """A text stream without lines of noise: what Python's loggers write, a record at a time."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._ends_noise = False

    def write(self, text: str) -> int:
        noise = is_noise(text)
        if not noise and not (self._ends_noise and text == "\n"):
            self._stream.write(text)
        self._ends_noise = noise and not text.endswith("\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _start_filter(stream: Any) -> tuple[int, int] | None:
    """Put a process between native code and standard error: the file behind it, and what it answers
    through. ``sys.stderr`` goes on straight to the file."""
    try:
        if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != 2:
            return None
        real = os.dup(2)
    except OSError:
        return None
    incoming, outgoing = os.pipe()
    answer, answering = os.pipe()
    stream.flush()
    try:
        process = os.fork()
    except (AttributeError, OSError):  # Windows has none; or there are too many processes
        for number in (real, incoming, outgoing, answer, answering):
            os.close(number)
        return None
    if process == 0:
        os.close(outgoing)
        os.close(answer)
        _filter(incoming, real, answering)
    os.dup2(outgoing, 2)
    for number in (incoming, outgoing, answering):
        os.close(number)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(os.dup(real), "w"), stream.encoding, stream.errors, line_buffering=True
    )
    return real, answer


def _end_filter(real: int, answer: int) -> None:
    """Standard error is the file again; what is still on its way is waited for. Processes that were
    started may go on to write, so the one between stays as long as they do."""
    with contextlib.suppress(OSError):
        os.write(2, _LAST + b"\n")
        select.select([answer], [], [], WAIT_SECONDS)
    os.dup2(real, 2)
    os.close(real)
    os.close(answer)


def _filter(incoming: int, out: int, answering: int) -> None:
    """The life of the process between: until nobody writes any more. It never returns."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # it goes when the program does
            signal.signal(number, signal.SIG_IGN)
        for other in (0, 1, 2):  # or a reader of the program's output would wait for it
            os.close(other)
        _pass_on(incoming, out, answering)
    finally:
        os._exit(0)


def _pass_on(incoming: int, out: int, answering: int) -> None:
    waiting, after_noise = b"", False
    while True:
        whole = select.select([incoming], [], [], 0.2)[0]
        data = os.read(incoming, 65536) if whole else b""
        if whole and not data:
            break
        waiting += data
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            if line.endswith(_LAST):
                os.write(out, line.removesuffix(_LAST))
                os.write(answering, b".")
                continue
            noise = is_noise(line.decode("utf-8", "replace"))
            if not noise and (line or not after_noise):
                os.write(out, line + b"\n")
            after_noise = noise
        if not whole and waiting and not is_noise(waiting.decode("utf-8", "replace")):
            os.write(out, waiting)  # half a line that does not go on, as a question
            waiting = b""
    if not is_noise(waiting.decode("utf-8", "replace")):
        os.write(out, waiting)
