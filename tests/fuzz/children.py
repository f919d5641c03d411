"""Files are used in processes of their own; what ended one, or took too long, is found out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.uses import COMES, PEAK, RAN, REFUSED

__all__ = ["Report", "use_all"]

ROOT = Path(__file__).parent.parent.parent
LIMIT_BYTES = 6 << 30  # address space: libraries reserve more than they use
PEAK_BYTES = 2 << 30
SECONDS_EACH = 20


@dataclass
class Report:
    """How files ended: how many ``ran``, which were ``refused`` and how, and the ``findings``:
    files that ended their process, hung, raised anything else or told no sentence. ``peak_bytes``
    is the most memory that a process held."""

    ran: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)
    peak_bytes: int = 0

    def check(self) -> None:
        """``AssertionError`` if there is a finding, or memory was taken beyond the bound."""
        assert not self.findings, "\n".join(f"{k}: {v}" for k, v in self.findings.items())
        assert self.peak_bytes <= PEAK_BYTES, f"{self.peak_bytes / 2**30:.1f} GiB"


def use_all(kind: str, files: Iterable[Path], seconds_each: float = SECONDS_EACH) -> Report:
    """Use each file as ``kind`` (a name in ``uses.py``). A file that ends its process is tried once
    more alone, so that it is not blamed for what another did to the memory."""
    report = Report()
    waiting = [str(path) for path in files]
    alone: list[str] = []
    while waiting or alone:
        batch, is_alone = ([alone.pop()], True) if alone else (waiting, False)
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.uses", kind, str(seconds_each), str(LIMIT_BYTES)],
            input="\n".join(batch) + "\n", capture_output=True, text=True, check=False, cwd=ROOT,
            errors="backslashreplace",
        )  # fmt: skip
        used = _note(report, done.stdout)
        if not is_alone:
            waiting = waiting[used:]
        if done.returncode == 0:
            continue
        died = batch[used - 1] if used else batch[0]
        how = f"exit code {done.returncode}: {done.stderr[-600:]}"
        if is_alone or not used:
            report.findings[died] = how
        else:
            alone.append(died)
            report.findings[f"{died} (after others)"] = how
        if not used:
            waiting = waiting[1:]
    return report


def _note(report: Report, output: str) -> int:
    """Note what a child said; how many files it had begun."""
    begun, name = 0, ""
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word == COMES:
            begun, name = begun + 1, rest
        elif word == RAN:
            report.ran += 1
        elif word == REFUSED:
            report.refused[name] = rest
        elif word == PEAK:
            report.peak_bytes = max(report.peak_bytes, int(rest) * 1024)
        else:
            report.findings[name] = rest
    return begun
