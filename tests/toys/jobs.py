"""Work for the workers of the search's tests: importable by name in another process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from panokit.errors import ArgumentError


def note(payload: dict[str, Any]) -> dict[str, Any]:
    """Note the start in a file; a job marked ``deadly`` kills its process the first time, one
    marked ``wrong`` fails deliberately."""
    starts = Path(payload["starts"])
    with starts.open("a", encoding="utf-8") as file:
        file.write(payload["name"] + "\n")
    first = starts.read_text(encoding="utf-8").split().count(payload["name"]) == 1
    if payload.get("always_deadly") or (payload.get("deadly") and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if payload.get("wrong"):
        raise ArgumentError("job", f"job {payload['name']!r} is wrong")
    time.sleep(0.05)
    return {"name": payload["name"], "square": payload["number"] ** 2}
