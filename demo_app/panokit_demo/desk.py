"""What all requests share: the catalog, the workers, the sessions, the sample photos."""

from __future__ import annotations

import asyncio
import io
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request, UploadFile

from panokit.errors import MissingExtraError, PhotoError
from panokit.photo import Photo
from panokit.samples import sample_photos
from panokit_demo.catalog import Catalog
from panokit_demo.jobs import Segmented
from panokit_demo.limits import DemoLimits
from panokit_demo.store import Session, SessionStore
from panokit_demo.uploads import check_name
from panokit_demo.workers import WorkerPool

__all__ = ["Desk"]

THUMBNAIL_SIDE = 320
SWEEP_SECONDS = 30


@dataclass
class Desk:
    """The server's state."""

    limits: DemoLimits
    catalog: Catalog
    pool: WorkerPool
    store: SessionStore
    samples: Mapping[str, Path] = field(default_factory=dict)
    thumbnails: dict[str, bytes] = field(default_factory=dict)

    async def open(self) -> None:
        """Start the workers and draw the samples' thumbnails."""
        try:
            self.samples = sample_photos()
        except MissingExtraError:
            self.samples = {}
        for name, path in self.samples.items():
            self.thumbnails[name] = await asyncio.to_thread(_thumbnail, path)
        await self.pool.start()

    async def sweep(self) -> None:
        """Forget old sessions, for ever and a day."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.store.sweep()

    async def read(self, upload: UploadFile) -> tuple[bytes, str]:
        """An upload's bytes and its name to show."""
        name = check_name(upload.filename)
        return await upload.read(), name

    async def read_sample(self, name: str) -> tuple[bytes, str]:
        """A sample photo's bytes and its file name."""
        path = self.samples.get(name)
        if path is None:
            known = ", ".join(self.samples) or "none"
            raise PhotoError("sample", f"{name[:80]!r} is not here; expected one of {known}")
        return await asyncio.to_thread(path.read_bytes), path.name

    async def work(
        self, request: Request, job: str, *arguments: Any, timeout: float | None = None
    ) -> Any:
        """Do a job for whoever sent the request."""
        return await self.pool.run(job, *arguments, timeout=timeout, client=_client(request))

    async def found(self, request: Request, session: Session, artifact: str | None) -> Segmented:
        """What an artifact found in a session's photo, now or before."""
        chosen = self.catalog.get(artifact).id
        if chosen not in session.found:
            session.found[chosen] = await self.work(request, "segment", session.working, chosen)
        return session.found[chosen]


def _client(request: Request) -> str:
    """Whom a request counts for: its address, of IPv6 the network that one household gets."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network(f"{address.packed.hex(':', 2)}/64", strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _thumbnail(path: Path) -> bytes:
    from PIL import Image

    image = Image.fromarray(Photo.open(path).rgb_hwc)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return out.getvalue()
