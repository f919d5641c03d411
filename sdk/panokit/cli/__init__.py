"""The one program, ``panokit``.

Exit code 0: good. 1: the checked thing fails. 2: wrong use or bad input. 130: ended by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import sys

from panokit._lazy import lazy
from panokit.cli.noise import without_noise

__all__ = ["app", "main"]

__getattr__ = lazy(__name__, {"shell": ("app",)})

DEBUG = "--debug"
"""Shows tracebacks and what libraries say; it may stand anywhere on the line."""


def main() -> None:
    """Run the program. What it needs is loaded in here, so that Ctrl-C is heeded from the start."""
    debug = DEBUG in sys.argv[1:]
    code = 130
    with contextlib.suppress(KeyboardInterrupt), _quiet_unless(debug):
        from panokit.cli.shell import run

        code = run([a for a in sys.argv[1:] if a != DEBUG], debug)
    sys.exit(code)


def _quiet_unless(debug: bool) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if debug else without_noise()
