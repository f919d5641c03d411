"""Install LiteRT.js with npm, for the demo's runs in the browser; without npm say what is missing.

    python scripts/install_litertjs.py

Exit code 0 in both cases: the demo works without it.
"""

from __future__ import annotations

from rich.console import Console

from panokit.errors import PanokitError
from panokit_demo.litertjs import install_litertjs

if __name__ == "__main__":
    console = Console(highlight=False, soft_wrap=True)
    try:
        console.print(f"LiteRT.js is in {install_litertjs()}")
    except PanokitError as error:
        console.print(f"{error} The demo works without it, except for runs in the browser.")
