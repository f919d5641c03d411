"""Dumps over HTTP, from servers that lie, dribble and lead elsewhere."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from panokit.dump import Dump, write_dump
from panokit.errors import DumpError
from panokit_validation import web
from panokit_validation.sources import DumpOpener, find_dumps
from panokit_validation.web import sibling


class _Server(ThreadingHTTPServer):
    """Answers from a table; notes what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.odd: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        try:
            if self.path in self.server.odd:
                self.server.odd[self.path](self)
                return
            content = self.server.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")
        except OSError:
            pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def dump() -> Dump:
    return Dump(tensors={"semantic": np.arange(24, dtype=np.float32).reshape(2, 3, 4)})


def written(dump: Dump, path: Path) -> bytes:
    return write_dump(dump, path).read_bytes()


def labels(url: str) -> list[str]:
    return [ref.label for ref in find_dumps([url])]


def why(url: str) -> str:
    """Why the one dump at a URL cannot be had."""
    (ref,) = find_dumps([url])
    with DumpOpener() as opener, pytest.raises(DumpError) as caught:
        opener.open(ref)
    assert url in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.dump.json", "a.zip"])
def test_a_dump_comes_as_it_is(server: _Server, dump: Dump, tmp_path: Path, name: str) -> None:
    if name == "a.zip":
        write_dump(dump, tmp_path / "b.npz")
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(tmp_path / "b.npz", "in/b.npz")
    else:
        write_dump(dump, tmp_path / name)
    server.files = {f"/d/{p.name}": p.read_bytes() for p in tmp_path.iterdir()}
    (ref,) = find_dumps([f"{server.url}/d/{name}"])
    with DumpOpener() as opener:
        got = opener.open(ref)
    assert np.array_equal(got.tensors["semantic"], dump.tensors["semantic"])


def page(*links: str) -> bytes:
    return "".join(f'<a href="{link}">x</a>' for link in links).encode()


def test_a_folder_gives_what_lies_below_it(server: _Server) -> None:
    other = "http://127.0.0.1:1/f/z.npz"
    server.files = {
        "/f/": page("b.npz", "a.safetensors", "note.txt", "sub/", "sub/", "?C=N", "#top",
                    "../x.npz", "/top.npz", "..%2fx.npz", "sub/../../x.npz", other,
                    "//127.0.0.1:1/f/y.npz", "file:///etc/z.npz", "http://[", "/f/c.zip.npz"),
        "/f/sub/": page("d.npz", "../b.npz", "/f/", "./"),
    }  # fmt: skip
    got = [label.removeprefix(server.url) for label in labels(f"{server.url}/f/")]
    assert got == ["/f/a.safetensors", "/f/b.npz", "/f/c.zip.npz", "/f/sub/d.npz"]
    assert sorted(server.asked) == ["/f/", "/f/sub/"]


def test_a_redirect_is_told_and_not_followed(server: _Server) -> None:
    with _Server() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for n, place in enumerate((f"{other.url}/s.npz", "/r0.npz", "file:///etc/hostname")):

            def lead(handler: BaseHTTPRequestHandler, place: str = place) -> None:
                handler.send_response(302)
                handler.send_header("Location", place)
                handler.end_headers()

            server.odd[f"/r{n}.npz"] = lead
            reason = why(f"{server.url}/r{n}.npz")
            assert f"the server leads to {place!r}" in reason
        other.shutdown()
        assert other.asked == []


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "500000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b"x" * 20)


def large(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2000000000")
    handler.end_headers()


ODD = {
    "silent": (lambda handler: time.sleep(3), "silent or too slow"),
    "drip": (drip, "silent or too slow"),
    "endless": (endless, "goes on after"),
    "short": (short, "truncated|IncompleteRead"),
    "large": (large, "expected at most 1000000000 bytes, got 2000000000"),
    "fault": (lambda handler: handler.send_error(500), "answers 500"),
    "no HTTP": (lambda handler: handler.wfile.write(b"\xff\xfe\n\n"), "cannot be fetched"),
    "nothing": (lambda handler: None, "cannot be fetched"),
}


@pytest.mark.parametrize(("way", "reason"), ODD.values(), ids=ODD)
def test_servers_that_are_no_use_cost_little(
    server: _Server,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[BaseHTTPRequestHandler], None],
    reason: str,
) -> None:
    monkeypatch.setattr(web, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(web, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(web, "MAX_UNSTATED_BYTES", 5_000_000)
    server.odd["/a.npz"] = way
    began = time.monotonic()
    assert any(word in why(f"{server.url}/a.npz") for word in reason.split("|"))
    assert time.monotonic() - began < 2.5


def test_what_is_not_there(server: _Server) -> None:
    assert why(f"{server.url}/none.npz") == "no such dump file"
    assert "cannot be fetched" in why("http://127.0.0.1:1/a.npz")
    assert "cannot be fetched" in why("http:///a.npz")
    (ref,) = find_dumps([f"{server.url}/none/"])
    assert "cannot be listed" in ref.problem


def test_numbers_beside_a_description_stay_beside_it() -> None:
    home = "http://h/d/a.dump.json"
    assert sibling(home, "a b?.bin") == "http://h/d/a%20b%3F.bin"
    for name in ("../x.bin", "/x.bin", "http://other/x.bin", "..%2fx", ""):
        if name in ("http://other/x.bin", "..%2fx"):  # a name, not an address: quoted, it lies here
            assert sibling(home, name).startswith("http://h/d/")
        else:
            with pytest.raises(DumpError, match="leads out of the folder"):
                sibling(home, name)
