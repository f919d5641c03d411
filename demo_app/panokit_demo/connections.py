"""Connections that take no longer than they may: requests have to come along, and answers have to
be fetched."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedProtocol"]

HEADER_SECONDS = 10.0
"""A request's headers have to be there after so long."""

BODY_SECONDS, LEAST_BYTES_PER_SECOND = 10.0, 8_000
"""A body may take so long, and a second more for so many of its bytes that have come."""

FETCH_SECONDS = 30.0
"""An answer that nothing is fetched of for so long is let go."""

MOST_CONNECTIONS = 400
"""Where there are more, the one that waits longest for its request makes room."""

LOOK_SECONDS = 1.0

_SENTENCE = "The request did not come along in time; send it again."


class BoundedProtocol(H11Protocol):
    """One connection of the server's."""

    _since: float | None = None  # when the request that is on its way began to come
    _came = 0  # bytes of its body
    _left = (0, 0.0)  # bytes of the answer that wait to be fetched, and since when they are so many
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As the base class says."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._look = self.loop.call_later(LOOK_SECONDS, self._look_after)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """As the base class says."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As the base class says."""
        before = self.conn.their_state
        if self._since is None:
            self._since = self.loop.time()
        super().data_received(data)
        now = self.conn.their_state
        if before is not now:
            self._since, self._came = self.loop.time(), 0
        self._came += len(data)
        if now not in (h11.IDLE, h11.SEND_BODY):
            self._since = None

    def _make_room(self) -> None:
        if len(self.connections) <= MOST_CONNECTIONS:
            return
        waiting = [c for c in self.connections if isinstance(c, BoundedProtocol) and c._waits]
        if waiting:
            min(waiting, key=lambda c: c._since or 0.0).transport.abort()

    @property
    def _waits(self) -> bool:
        return self._since is not None and self.conn.their_state is h11.IDLE

    def _look_after(self) -> None:
        self._look = self.loop.call_later(LOOK_SECONDS, self._look_after)
        now = self.loop.time()
        left = self.transport.get_write_buffer_size()
        if left != self._left[0]:
            self._left = (left, now)
        elif left and now - self._left[1] > FETCH_SECONDS:
            self.transport.abort()
        elif self._since is not None and self._is_late(now - self._since):
            self._give_up()

    def _is_late(self, seconds: float) -> bool:
        if self.conn.their_state is h11.IDLE:
            return seconds > HEADER_SECONDS
        if self.flow.read_paused:  # it is the server that does not read on
            self._since = self.loop.time()
            return False
        return seconds > BODY_SECONDS + self._came / LEAST_BYTES_PER_SECOND

    def _give_up(self) -> None:
        self._since = None
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = json.dumps({"detail": _SENTENCE}).encode()
            head = (
                "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
                f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
