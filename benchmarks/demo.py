"""The demo server: how long one person waits, and sixteen at once for a minute.

    python -m benchmarks.demo [--seconds 60] [--clients 16]

Starts `panokit demo` itself, on a free port. "loop" is how late the server's event loop comes to
its next turn, which it measures itself; memory is of the server and its workers together.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from panokit.samples import sample_photos

SERVER = """
import asyncio, contextlib, sys, time
from panokit_demo import server
from panokit_demo.desk import Desk

worst = 0.0

async def watch():
    global worst
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        worst = max(worst, time.perf_counter() - before - 0.005)

async def sweep(desk):
    watching = asyncio.create_task(watch())
    try:
        while True:
            await asyncio.sleep(1)
            desk.store.sweep()
    finally:
        watching.cancel()

Desk.sweep = sweep
app = server.create_app()

@app.get("/worst")
async def worst_turn():
    global worst
    value, worst = worst, 0.0
    return {"milliseconds": 1e3 * value}

if __name__ == "__main__":
    server.serve(app, "127.0.0.1", 0, announce=lambda u: print(u, flush=True), browser=False)
"""

EDITS: list[dict[str, Any]] = [
    {"do": "blur_background", "strength": 0.3},
    {"do": "blur_background", "strength": 0.8},
    {"do": "pixelate", "pick": {"class": "person"}},
    {"do": "highlight", "pick": {"class": "person"}},
    {"do": "recolor", "pick": {"class": "person"}, "color": "#2060c0"},
    {"do": "remove", "pick": {"class": "person"}},
]


def photo(side: int = 1000) -> bytes:
    """A photo of a million pixels as JPEG."""
    image = Image.open(sample_photos()["astronaut"]).convert("RGB").resize((side, side))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children, shared pages counted once; NaN where the
    system does not tell (anywhere but on Linux)."""
    if not Path("/proc").is_dir():
        return math.nan
    pids = [pid, *(int(p) for p in subprocess.getoutput(f"pgrep -P {pid}").split())]
    total = 0
    for each in pids:
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def milliseconds(values: list[float]) -> str:
    """Median and the slowest of some seconds."""
    return f"{1e3 * statistics.median(values):.0f} ms (slowest {1e3 * max(values):.0f})"


async def one_person(client: httpx2.AsyncClient, data: bytes, runs: int = 8) -> None:
    """What one person waits for."""
    overlay: list[float] = []
    effects: dict[str, list[float]] = {}
    session = ""
    for _ in range(runs):
        started = time.perf_counter()
        answer = await client.post("/api/sessions", files={"photo": ("a.jpg", data)})
        opened = answer.raise_for_status().json()
        base64.b64decode(opened["result"]["map"]["data"])
        session = opened["session"]
        (await client.get(f"/api/sessions/{session}/photo")).raise_for_status()
        overlay.append(time.perf_counter() - started)
    for edit in EDITS:
        for draft in (True, False):
            times = effects.setdefault(f"{'draft' if draft else 'whole'} {json.dumps(edit)}", [])
            for k in range(runs):
                changed = dict(edit)
                if "strength" in changed:
                    changed["strength"] = round(edit["strength"] + 0.01 * k, 2)
                started = time.perf_counter()
                body = {"edits": {"version": 1, "edits": [changed]}, "draft": draft}
                answer = await client.post(f"/api/sessions/{session}/effect", json=body)
                answer.raise_for_status()
                times.append(time.perf_counter() - started)
    print(f"photo to overlay, 1 megapixel: {milliseconds(overlay)}")
    for name, times in effects.items():
        print(f"effect change, {name}: {milliseconds(times)}")


async def one_client(
    url: str, data: bytes, until: float, seed: int, counts: Counter[int], times: list[float]
) -> None:
    """A client that opens photos and edits them, and waits a moment when it is sent away."""
    rng = np.random.default_rng(seed)
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        session = None
        while time.perf_counter() < until:
            started = time.perf_counter()
            if session is None or rng.random() < 0.25:
                answer = await client.post("/api/sessions", files={"photo": ("a.jpg", data)})
                if answer.status_code == 200:
                    session = answer.json()["session"]
            else:
                body = {"edits": {"version": 1, "edits": [EDITS[rng.integers(len(EDITS))]]}}
                answer = await client.post(f"/api/sessions/{session}/effect", json=body)
            counts[answer.status_code] += 1
            if answer.status_code in (429, 503):
                await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
            elif answer.status_code == 404:
                session = None  # forgotten for others
            else:
                times.append(time.perf_counter() - started)


async def measure(url: str, pid: int, clients: int, seconds: float) -> bool:
    """Print all figures; whether they are what they should be."""
    data = photo()
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        await one_person(client, data, 2)  # warm
        print("--- one person")
        await one_person(client, data)
        await client.get("/worst")
        print(f"--- {clients} clients for {seconds:.0f} s")
        counts: Counter[int] = Counter()
        times: list[float] = []
        until = time.perf_counter() + seconds
        memory: list[float] = []

        async def watch() -> None:
            while time.perf_counter() < until:
                await asyncio.sleep(seconds / 12)
                memory.append(await asyncio.to_thread(memory_mb, pid))

        jobs = [one_client(url, data, until, i, counts, times) for i in range(clients)]
        await asyncio.gather(watch(), *jobs)
        worst = (await client.get("/worst")).json()["milliseconds"]
    errors = {k: v for k, v in counts.items() if k not in (200, 404, 429, 503)}
    print(f"answers by status: {dict(counts)}; {len(times) / seconds:.1f} photos or edits a second")
    print(f"waited: {milliseconds(times)}; event loop late by at most {worst:.0f} ms")
    print("memory over time, MB: " + " ".join(f"{m:.0f}" for m in memory))
    return not errors and worst <= 100


def main() -> None:
    """Start the server, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    path = Path(tempfile.gettempdir()) / f"panokit-demo-{os.getpid()}.py"
    path.write_text(SERVER)
    try:
        with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            started = time.perf_counter()
            url = server.stdout.readline().strip()
            print(f"answers after {time.perf_counter() - started:.1f} s")
            try:
                good = asyncio.run(measure(url, server.pid, arguments.clients, arguments.seconds))
            finally:
                server.terminate()
    finally:
        path.unlink()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
