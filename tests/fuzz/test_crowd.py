"""Many clients of every kind at once, while workers are killed: each gets an answer, in its turn.

What clients send: photos, edits, sessions, dumps, files that are none, requests that are none, and
uploads that break off. An answer is 2xx or 4xx, or 429 or 503 with a sentence; never another.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.dump import dump_stages, write_dump
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit_demo.limits import DemoLimits
from tests.fuzz.changes import changed_bytes
from tests.fuzz.rounds import IS_LONG, rounds

pytest.importorskip("fastapi", reason="FastAPI is not installed (extra demo)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' /proc"),
]

SECONDS = rounds(10, 120)
CLIENTS = rounds(12, 32)
KILLS = rounds(1, 10)
LIMITS = DemoLimits()
BOUNDARY = "fuzz-boundary"
GROWTH = 1.15
"""How much more memory the server may hold at the end than after a third of the time."""


@dataclass
class Crowd:
    """What clients were answered: (kind, when asked, when answered, status) and what was strange;
    and what the server's own process held, in kilobytes and open files, each second."""

    answers: list[tuple[str, float, float, int]] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    held: list[tuple[int, int]] = field(default_factory=list)


def _workers(pid: int) -> list[int]:
    """The worker processes: what descends from the server and nothing descends from."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and b"resource_tracker" not in (entry / "cmdline").read_bytes():
                found = re.search(r"PPid:\s+(\d+)", (entry / "status").read_text())
                parents[int(entry.name)] = int(found[1]) if found else 0
    family = {pid}
    for _ in range(3):
        family |= {child for child, parent in parents.items() if parent in family}
    return sorted(family - {pid} - {parents.get(member, 0) for member in family})


def _held(pid: int) -> tuple[int, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+)", status)
    assert match is not None
    return int(match[1]), len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def _server(log: Path) -> Iterator[tuple[int, int]]:
    """The demo on a free port: its port and process id."""
    command = "from panokit.cli import main; main()"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "demo", "--port", "0", "--no-browser"],
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in iter(process.stdout.readline, ""):
                if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                    yield int(found[1]), process.pid
                    break
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)


class Client:
    """One client with an address of its own, which does one thing after another."""

    def __init__(self, number: int, port: int, files: dict[str, bytes], crowd: Crowd) -> None:
        self.source, self.port, self.files, self.crowd = f"127.0.1.{number}", port, files, crowd
        self.rng = np.random.default_rng(number)

    def run(self, until: float) -> None:
        kinds = [self.segment, self.segment, self.edit, self.session, self.dump, self.garbage,
                 self.nonsense, self.broken_off, self.look]  # fmt: skip
        while time.monotonic() < until:
            kind = kinds[int(self.rng.integers(len(kinds)))]
            try:
                kind()
            except Exception as error:
                self.crowd.strange.append(f"{kind.__name__}: {error!r}")

    def ask(
        self, kind: str, method: str, path: str, body: bytes = b"", form: str = ""
    ) -> tuple[int, bytes]:
        """Ask; note the answer, and whatever about it is strange."""
        link = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(self.source, 0)
        )
        began = time.monotonic()
        try:
            link.request(method, path, body, {"Content-Type": form} if form else {})
            answer = link.getresponse()
            status, data = answer.status, answer.read()
            safe = answer.getheader("x-content-type-options")
        finally:
            link.close()
        self.crowd.answers.append((kind, began, time.monotonic(), status))
        if not (200 <= status < 300 or 400 <= status < 500 or status == 503):
            self.crowd.strange.append(f"{kind}: {status} {data[:200]!r}")
        elif status >= 400 and len(str(json.loads(data)["detail"])) < 10:
            self.crowd.strange.append(f"{kind}: {status} without a sentence")
        if safe != "nosniff":
            self.crowd.strange.append(f"{kind}: {status} without the headers of security")
        if status in (429, 503):
            time.sleep(0.1)
        return status, data

    def upload(
        self, kind: str, path: str, data: bytes, name: str = "photo", **fields: str
    ) -> tuple[int, bytes]:
        body = _form(data, name, **fields)
        return self.ask(kind, "POST", path, body, f"multipart/form-data; boundary={BOUNDARY}")

    def segment(self) -> None:
        photo = self.files[("small", "large")[int(self.rng.integers(2))]]
        self.upload("photo", "/api/segment", photo, output="ids")

    def edit(self) -> None:
        edits = '[{"do": "blur_background"}]'
        self.upload("edit", "/api/effect", self.files["small"], edits=edits)

    def session(self) -> None:
        status, data = self.upload("session", "/api/sessions", self.files["small"])
        if status != 200:
            return
        place = f"/api/sessions/{json.loads(data)['session']}"
        body = b'{"edits": {"version": 1, "edits": [{"do": "blur_background"}]}}'
        self.ask("effect", "POST", f"{place}/effect", body, "application/json")
        if self.rng.random() < 0.5:
            self.ask("forget", "DELETE", place)

    def dump(self) -> None:
        self.upload("dump", "/api/validate", self.files["dump"], "dump", diagnose="false")

    def garbage(self) -> None:
        photo = changed_bytes(self.files["small"], self.rng)
        self.upload("garbage", "/api/segment", photo, output="ids")
        dump = changed_bytes(self.files["dump"][:4000], self.rng) + self.files["dump"][4000:]
        self.upload("garbage", "/api/validate", dump, "dump")

    def nonsense(self) -> None:
        self.ask(
            "nonsense", "POST", "/api/sessions/none/effect", b'{"edits": [', "application/json"
        )
        self.ask("nonsense", "GET", "/api/samples/..%2f..%2fetc%2fpasswd")
        self.ask("nonsense", "POST", "/api/segment", b"\0" * 2000, "multipart/form-data")

    def broken_off(self) -> None:
        """Half an upload, and gone; or a job whose client does not wait for its answer."""
        body = _form(self.files["large"], "photo", output="ids")
        head = (
            f"POST /api/segment HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: "
            f"{len(body)}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        )
        link = http.client.HTTPConnection("127.0.0.1", self.port, source_address=(self.source, 0))
        link.connect()
        with link.sock as connection:
            half = body if self.rng.random() < 0.5 else body[: len(body) // 2]
            connection.sendall(head.encode() + half)
            time.sleep(0.05)

    def look(self) -> None:
        self.ask("look", "GET", "/api/info")


def _form(data: bytes, name: str, **fields: str) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
        for k, v in fields.items()
    ]
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; '
        'filename="a.safetensors"\r\n\r\n'
    )
    return b"".join([*(p.encode() for p in parts), head.encode(), data,
                     f"\r\n--{BOUNDARY}--\r\n".encode()])  # fmt: skip


def _jpeg(width: int, height: int) -> bytes:
    rows, cols = np.mgrid[:height, :width]
    planes = [cols * 255 // width, rows * 255 // height, (rows // 16 + cols // 16) % 2 * 120]
    out = io.BytesIO()
    Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(out, "JPEG")
    return out.getvalue()


def _files(folder: Path) -> dict[str, bytes]:
    segmenter = Segmenter.open(threads=1)
    small, large = _jpeg(320, 240), _jpeg(1600, 1200)
    stages = segmenter.stages(Photo.open(small))
    path = write_dump(dump_stages(stages, segmenter.artifact, "litert"), folder / "d.safetensors")
    return {"small": small, "large": large, "dump": path.read_bytes()}


def test_a_crowd_of_every_kind(tmp_path: Path) -> None:
    files, crowd = _files(tmp_path), Crowd()
    with _server(tmp_path / "log") as (port, pid):
        Client(99, port, files, crowd).segment()  # the workers are ready
        began = time.monotonic()
        clients = [Client(n + 1, port, files, crowd) for n in range(CLIENTS)]
        threads = [threading.Thread(target=c.run, args=(began + SECONDS,)) for c in clients]
        for thread in threads:
            thread.start()
        rng, kills = np.random.default_rng(0), 0
        while time.monotonic() < began + SECONDS:
            time.sleep(1)
            crowd.held.append(_held(pid))
            due = (time.monotonic() - began) / SECONDS * (KILLS + 1) > kills + 1
            if due and kills < KILLS and (workers := _workers(pid)):
                os.kill(int(rng.choice(workers)), signal.SIGKILL)
                kills += 1
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        last = Client(100, port, files, crowd).ask("last", "GET", "/api/info")
    _judge(crowd, kills, last[0], (tmp_path / "log").read_text(errors="replace"))


def _judge(crowd: Crowd, kills: int, last: int, log: str) -> None:
    found = Counter((kind, status) for kind, _, _, status in crowd.answers)
    print(f"{kills} kills;", dict(found))
    assert not crowd.strange, "\n".join(sorted(set(crowd.strange))[:20])
    assert kills == KILLS
    assert last == 200
    assert "Traceback" not in log, log[-2000:]
    worked = {"photo", "edit", "session", "effect", "dump"}
    done = [(k, b, e) for k, b, e, s in crowd.answers if s == 200 or (k == "garbage" and s == 422)]
    inside = LIMITS.workers + LIMITS.waiting
    span = max(e for _, _, e in done) - min(b for _, b, _ in done)
    fair = inside * span / len(done)
    ends = np.sort([e for _, _, e in done])
    # Garbage is worked on, too, for longer: a dump that differs has its cause looked for.
    waits = [(b, e) for k, b, e in done if k in worked]
    longest = max(e - b for b, e in waits)
    passed_by = max(int(np.searchsorted(ends, e) - np.searchsorted(ends, b)) for b, e in waits)
    overtaken = max(sum(b2 > b + 0.05 and e2 < e for b2, e2 in waits) for b, e in waits)
    early, late = crowd.held[len(crowd.held) // 3], crowd.held[-1]
    print(f"{len(done)} done; longest wait {longest:.1f} s, in a fair queue {fair:.1f} s")
    print(f"overtaken by at most {overtaken}; at most {passed_by} answers in one's wait")
    print(f"kilobytes and files: {early} -> {late}")
    if not IS_LONG:  # the rest depends on how busy the machine is
        return
    # Whoever waits long, because a worker was just killed or jobs are long, waits in turn.
    assert overtaken <= inside
    assert late[0] < GROWTH * early[0], f"kilobytes {early[0]} -> {late[0]}"
