"""A stand-in for the judging function of a process, which some dumps kill."""

from __future__ import annotations

import os
from pathlib import Path

from panokit_validation.sources import DumpRef
from panokit_validation.worker import Outcome, RunConfig


def judge(config: RunConfig, ref: DumpRef) -> Outcome:
    """End the process at once if the dump's name says so."""
    if "kill" in Path(ref.container).name:
        os._exit(9)
    return Outcome(ref.label, reason="judged")
