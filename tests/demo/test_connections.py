"""Connections that dribble, crowd or do not fetch what they asked for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn")
import uvicorn

from panokit_demo import connections
from panokit_demo.connections import BoundedProtocol


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers with as many bytes as the path says."""
    if scope["type"] != "http":
        return
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    body = b"x" * int(scope["path"].strip("/") or 2)
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with short limits."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.6)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.6)
    monkeypatch.setattr(connections, "LEAST_BYTES_PER_SECOND", 10_000)
    monkeypatch.setattr(connections, "FETCH_SECONDS", 0.6)
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 10)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listening.close()


def dribble(port: int, first: bytes, piece: bytes, seconds: float = 4.0) -> tuple[float, bytes]:
    """Send a piece every 50 ms; after how long the server hung up, and what it said."""
    began = time.monotonic()
    said = b""
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.settimeout(0.05)
        try:
            link.sendall(first)
            while time.monotonic() - began < seconds:
                try:
                    data = link.recv(65536)
                    if not data:
                        break
                    said += data
                except TimeoutError:
                    if piece:
                        link.sendall(piece)
        except OSError:
            pass
    return time.monotonic() - began, said


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
SLOW = {
    "nothing": (b"", b""),
    "letters of the request line": (b"", b"G"),
    "endless headers": (HEAD, b"X-A: 1\r\n"),
    "a body": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
    "a body in chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a second request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT", b"T"),
}


@pytest.mark.parametrize(("first", "piece"), SLOW.values(), ids=SLOW)
def test_requests_that_do_not_come_along_are_cut_off(port: int, first: bytes, piece: bytes) -> None:
    taken, said = dribble(port, first, piece)
    assert 0.4 < taken < 2.5
    assert b"408 Request Timeout" in said
    assert b"did not come along" in said


def test_a_slow_but_steady_upload_is_taken(port: int) -> None:
    """As from a phone: longer than the limit, but at a fair rate."""
    pieces = 30
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.sendall(HEAD + f"Content-Length: {pieces * 2000}\r\n\r\n".encode())
        for _ in range(pieces):
            link.sendall(b"x" * 2000)
            time.sleep(0.05)
        assert link.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_an_answer_that_is_not_fetched_is_let_go(port: int) -> None:
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", port))
        link.sendall(b"GET /30000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(2.0)
        link.settimeout(5)
        fetched = 0
        try:
            while data := link.recv(1_000_000):
                fetched += len(data)
        except OSError:
            pass
        assert fetched < 30_000_000


def test_a_crowd_of_waiting_connections_makes_room(port: int) -> None:
    crowd = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(40)]
    for link in crowd:
        link.sendall(b"GET /")
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(1000).startswith(b"HTTP/1.1 200 OK")
    for link in crowd:
        link.close()
