"""What every request must keep to and every answer says: who may ask, how much, and what a page of
this server may load."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["BodyLimit", "Guard", "content_security_policy"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAINED_BYTES = 512_000_000
"""So much of a body that is too long is read and thrown away, for the answer to be heard."""

_INLINE_SCRIPT = re.compile(r"<script[^>]*>(?P<body>[^<]+)</script>")


def content_security_policy(page: str) -> str:
    """The policy of a page: its own scripts and styles, the inline import map by its hash, and
    WebAssembly; nothing from elsewhere."""
    hashes = [
        base64.b64encode(hashlib.sha256(m["body"].encode()).digest()).decode()
        for m in _INLINE_SCRIPT.finditer(page)
    ]
    scripts = " ".join(["'self'", "'wasm-unsafe-eval'", *(f"'sha256-{h}'" for h in hashes)])
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {scripts}",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


class Guard:
    """Refuses other sites' requests and foreign host names, and puts the headers on answers.

    Without the check of the host name a page elsewhere could reach a server on this computer by
    giving its own name this computer's address (DNS rebinding).
    """

    def __init__(self, app: App, *, policy: str, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts
        self._headers = [
            (b"content-security-policy", policy.encode()),
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

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        problem = self._problem(scope["method"], headers)
        if problem is None:
            await self._app(scope, receive, with_headers)
        else:
            await refuse(with_headers, 403, problem)

    def _problem(self, method: str, headers: dict[str, str]) -> str | None:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if not (host in self._hosts or _is_address(host)):
            return "This server answers to its own address only."
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return "This server takes no requests from pages of other sites."
        return None


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


async def refuse(send: Send, status: int, sentence: str) -> None:
    """Answer with a sentence, as the API's errors do."""
    import json

    body = json.dumps({"detail": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_address(host: str) -> bool:
    """Whether a host is written as numbers: no name can be rebound to this computer then."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
