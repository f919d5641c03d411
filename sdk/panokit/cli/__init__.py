"""The one program, ``panokit``.

Exit code 0: good. 1: the checked thing fails. 2: wrong use or bad input.
"""

from panokit.cli.shell import app, main

__all__ = ["app", "main"]
