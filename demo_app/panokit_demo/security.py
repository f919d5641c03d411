"""What every request must keep to and every answer says: who may ask, how much, and what a page of
this server may load."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from panokit_demo.names import host_of, is_address

__all__ = ["BelowRoot", "BodyLimit", "Crowd", "Guard"]

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAINED_BYTES = 512_000_000
"""So much of a body that is too long is read and thrown away, for the answer to be heard."""

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""What a page may load: its own scripts and styles, and WebAssembly; nothing from elsewhere."""


class Guard:
    """Refuses other sites' requests and foreign host names, and puts the headers on answers.

    Without the check of the host name a page elsewhere could reach a server on this computer by
    giving its own name this computer's address (DNS rebinding). ``hosts`` are the names of this
    computer, ``public`` those that a proxy or a name server gives it: its owner vouches for them,
    so pages of these names may send requests whatever name the proxy hands on.
    """

    def __init__(self, app: App, *, hosts: frozenset[str], public: frozenset[str]) -> None:
        self._app, self._hosts, self._public = app, hosts | public, public
        self._headers = [
            (b"content-security-policy", POLICY.encode()),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-embedder-policy", b"require-corp"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"permissions-policy", b"geolocation=(), microphone=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        problem = self._problem(scope["method"], headers)
        if problem is not None:
            await refuse(with_headers, *problem)
            return
        try:
            await self._app(scope, receive, with_headers)
        except Exception:
            if started:
                raise
            log.exception("a request to %s ended in a fault of the program", scope["path"][:200])
            await refuse(with_headers, 500, "This request ended in a fault of the program.")

    def _problem(self, method: str, headers: list[tuple[str, str]]) -> tuple[int, str] | None:
        """What is wrong with who asks: a status and a sentence."""
        values = [v for k, v in headers if k == "host"]
        host = host_of(values[0]) if len(values) == 1 else None
        if host is None:
            return 400, "The request names no host that can be read; expected one Host header."
        if not (host in self._hosts or is_address(host)):
            return 403, (
                f"This server does not answer to the name {host[:100]!r}. Whoever runs it can "
                f"allow the name: panokit demo --allow-host {shlex.quote(host[:100])}"
            )
        if method in ("GET", "HEAD"):
            return None
        given = dict(headers)
        if self._is_foreign(given.get("origin"), values[0]):
            return 403, "This server takes no requests from pages of other sites."
        if given.get("sec-fetch-site") in ("cross-site", "same-site"):
            return 403, "This server takes no requests from pages of other sites."
        return None

    def _is_foreign(self, origin: str | None, host: str) -> bool:
        if origin is None:
            return False
        scheme, separator, netloc = origin.partition("://")
        if scheme not in ("http", "https") or not separator:
            return True
        return netloc != host and host_of(netloc) not in self._public


class BelowRoot:
    """Paths below ``root``, whether or not a proxy takes it away; the root without its slash is
    sent to the one with it."""

    def __init__(self, app: App, *, root: str) -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = str(scope["path"])
            if path == self._root:
                location = (b"location", f"{self._root}/".encode())
                await send({"type": "http.response.start", "status": 307, "headers": [location]})
                await send({"type": "http.response.body", "body": b""})
                return
            inner = path.removeprefix(self._root) if path.startswith(f"{self._root}/") else path
            scope = {**scope, "path": self._root + inner, "root_path": self._root}
        await self._app(scope, receive, send)


MOST_REQUESTS = 256
"""Requests that are answered at once; others are sent away."""


class Crowd:
    """Sends requests away where too many are under way."""

    def __init__(self, app: App) -> None:
        self._app, self._inside = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._inside >= MOST_REQUESTS:
            sentence = "The server is busy with other requests; try again in a moment."
            await refuse(send, 503, sentence, retry=True)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


MOST_JSON_BYTES = 400_000
"""Most bytes of a body that is no form with files: it is read in one piece."""


class BodyLimit:
    """Refuses bodies of more than ``most`` bytes (of less where they are no forms with files),
    whether or not they state their length."""

    def __init__(self, app: App, *, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        form = headers.get(b"content-type", b"").startswith(b"multipart/form-data")
        most = self._most if form else min(self._most, MOST_JSON_BYTES)
        sentence = f"The file is too large; expected at most {self._most // 1_000_000} MB."
        if not form:
            sentence = f"The request is too large; expected at most {most // 1000} kB."
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > most:
            await _drain(receive)
            await refuse(send, 413, sentence)
            return
        taken, started = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > most:
                    raise _TooLongError
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _TooLongError:
            if started:
                raise
            await _drain(receive)
            await refuse(send, 413, sentence)


class _TooLongError(Exception):
    """A body went on beyond its limit."""


async def _drain(receive: Receive) -> None:
    read = 0
    while read < DRAINED_BYTES:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


async def refuse(send: Send, status: int, sentence: str, retry: bool = False) -> None:
    """Answer with a sentence, as the API's errors do; ``retry`` says to come again."""
    body = json.dumps({"detail": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *([(b"retry-after", b"1")] if retry else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
