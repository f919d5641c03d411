"""A process that trains asks the system for memory once."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")

SCRIPT = """
import resource
import torch
from panokit_network.training.memory import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults(3)
kept = keep_freed_memory()
faults(20)  # until pieces that lie side by side are large enough with their alignment
print(int(kept), given_back, faults(3))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's malloc that is set")
def test_freed_memory_is_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    kept, given_back, after = map(int, done.stdout.split())
    if not kept:
        pytest.skip("the C library is not glibc")
    assert after < given_back / 20
