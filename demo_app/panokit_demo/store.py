"""What the server remembers of the photos in use: in memory, little, and not for long."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from panokit_demo.jobs import Segmented, WorkingPhoto
from panokit_demo.limits import DemoLimits

__all__ = ["Session", "SessionStore"]


@dataclass
class Session:
    """A photo in use and what was found in it, by artifact."""

    id: str
    working: WorkingPhoto
    found: dict[str, Segmented] = field(default_factory=dict)
    used: float = 0.0

    def add_background(self, name: str, picture: bytes) -> None:
        """Keep a picture for fills that give this name."""
        pictures = {**self.working.backgrounds, name: picture}
        self.working = replace(self.working, backgrounds=pictures)

    @property
    def bytes(self) -> int:
        """Memory it takes, about."""
        return self.working.bytes + sum(s.decoded.ids.nbytes for s in self.found.values())


class SessionStore:
    """Sessions by their unguessable ids; the one longest unused goes first."""

    def __init__(self, limits: DemoLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def bytes(self) -> int:
        """Memory that all sessions take, about."""
        return sum(s.bytes for s in self._sessions.values())

    def add(self, working: WorkingPhoto, found: dict[str, Segmented]) -> Session:
        """A new session; old ones go where the limits ask for it."""
        session = Session(secrets.token_urlsafe(18), working, found, self._clock())
        self._sessions[session.id] = session
        self.sweep()
        return session

    def get(self, session_id: str) -> Session | None:
        """The session, unless it is unknown or was forgotten; using it keeps it."""
        self.sweep()
        session = self._sessions.get(session_id)
        if session is not None:
            session.used = self._clock()
            self._sessions.move_to_end(session_id)
        return session

    def drop(self, session_id: str) -> bool:
        """Forget a session; whether there was one."""
        return self._sessions.pop(session_id, None) is not None

    def sweep(self) -> None:
        """Forget what is old or too much; the newest session stays."""
        oldest = self._clock() - 60 * self._limits.session_minutes
        for session in list(self._sessions.values()):
            if session.used < oldest:
                del self._sessions[session.id]
        while len(self._sessions) > 1 and (
            len(self._sessions) > self._limits.sessions or self.bytes > self._limits.session_bytes
        ):
            self._sessions.popitem(last=False)
