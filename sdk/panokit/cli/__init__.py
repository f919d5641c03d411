"""The one program, ``panokit``.

Exit code 0: good. 1: the checked thing fails. 2: wrong use or bad input. 130: ended by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from types import FrameType

from panokit._lazy import lazy
from panokit.cli.noise import without_noise

__all__ = ["app", "main"]

__getattr__ = lazy(__name__, {"shell": ("app",)})

DEBUG = "--debug"
"""Shows tracebacks and what libraries say; it may stand anywhere on the line."""


def main() -> None:
    """Run the program. What it needs is loaded in here, so that Ctrl-C is heeded from the start."""
    debug = DEBUG in sys.argv[1:]
    pressed = _watch_for_ctrl_c()
    code = 130
    with contextlib.suppress(KeyboardInterrupt), _quiet_unless(debug):
        from panokit.cli.shell import run

        code = run([a for a in sys.argv[1:] if a != DEBUG], debug, pressed)
    sys.exit(code)


def _watch_for_ctrl_c() -> threading.Event:
    """What tells whether Ctrl-C was pressed: code that is being loaded may make another error of
    the KeyboardInterrupt."""
    pressed = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
    return pressed


def _quiet_unless(debug: bool) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if debug else without_noise()
