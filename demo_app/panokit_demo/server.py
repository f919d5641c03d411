"""The demo server: the page, LiteRT.js for it, and the API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from panokit import __version__
from panokit.errors import ArgumentError
from panokit_demo.answers import add_handlers
from panokit_demo.api import router
from panokit_demo.catalog import Catalog
from panokit_demo.connections import BoundedProtocol
from panokit_demo.desk import Desk
from panokit_demo.limits import DemoLimits
from panokit_demo.litertjs import core_module, find_litertjs
from panokit_demo.security import BelowRoot, BodyLimit, Crowd, Guard
from panokit_demo.store import SessionStore
from panokit_demo.workers import WorkerPool

__all__ = ["create_app", "serve"]

log = logging.getLogger(__name__)

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ABOUT = (
    "Panoptic segmentation of photos, edits on what is in them, and the verdict on what a device "
    "computed. Photos are worked on in memory and forgotten; nothing is fetched from anywhere."
)


def create_app(
    bundles: Sequence[Path | None] = (None,),
    artifact: str | None = None,
    limits: DemoLimits | None = None,
    *,
    hosts: frozenset[str] = LOOPBACK,
    public: frozenset[str] = frozenset(),
    root: str = "",
) -> FastAPI:
    """The application. ``hosts`` are the names of this computer that it answers to, besides
    addresses in numbers; ``public`` those that a proxy gives it, and ``root`` is the path that the
    proxy serves it below, as ``/seg``."""
    limits = limits or DemoLimits()
    catalog = Catalog.open(bundles, artifact)
    pool = WorkerPool(limits, bundles, artifact)
    desk = Desk(limits, catalog, pool, SessionStore(limits))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await desk.open()
        sweeping = asyncio.create_task(desk.sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await desk.pool.close()

    app = FastAPI(
        title="Panokit demo",
        version=__version__,
        description=_ABOUT,
        docs_url=None,  # they would load scripts from elsewhere; /docs is our own page
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
    )
    app.state.desk = desk
    add_handlers(app, limits)
    app.include_router(router)
    _add_pages(app)
    most = max(limits.upload_bytes, limits.dump_bytes) + 300_000
    app.add_middleware(BodyLimit, most=most)
    if root:
        app.add_middleware(BelowRoot, root=root)
    app.add_middleware(Crowd)
    app.add_middleware(Guard, hosts=hosts, public=public)
    return app


def _add_pages(app: FastAPI) -> None:
    static = Path(str(resources.files("panokit_demo").joinpath("static")))

    def page(name: str) -> Callable[[], Any]:
        async def show() -> HTMLResponse:
            text = (static / name).read_text("utf-8")
            return HTMLResponse(text, headers={"Cache-Control": "no-cache"})

        return show

    app.get("/", include_in_schema=False)(page("index.html"))
    app.get("/docs", include_in_schema=False)(page("docs.html"))
    app.mount("/static", _Files(directory=static), "static")
    modules = find_litertjs()
    if modules is not None:

        async def core() -> Response:
            headers = {"Cache-Control": "no-cache"}
            return Response(core_module(modules), media_type="text/javascript", headers=headers)

        app.get("/litertjs/core/dist/index.js", include_in_schema=False)(core)
        app.mount("/litertjs", _Files(directory=modules / "@litertjs"), "litertjs")


class _Files(StaticFiles):
    """Files that a browser asks for again whenever it shows the page, and gets if they changed."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    announce: Callable[[str], None],
    browser: bool,
    proxies: Sequence[str] = (),
) -> None:
    """Serve until Ctrl-C (port 0: a free one). ``announce`` gets the address once it answers.
    ``proxies`` are addresses whose word on who asks (``X-Forwarded-For``) is taken."""
    listening = _listen(host, port)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    shown = f"[{shown}]" if ":" in shown else shown
    url = f"http://{shown}:{listening.getsockname()[1]}/"
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
        http=BoundedProtocol,
        ws="none",
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
    )
    server = uvicorn.Server(config)

    def tell() -> None:
        while not server.started and not server.should_exit:
            stopped.wait(0.05)
        if server.started:
            announce(url)
            if browser:
                webbrowser.open(url)

    stopped = threading.Event()
    threading.Thread(target=tell, daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        server.should_exit = True
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ArgumentError("port", f"port is {port!r}; expected a number from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # on Windows it would let two servers share one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        reason = f"an address that is free here ({error.strerror or error})"
        raise ArgumentError(
            "host and port", f"the server cannot listen at {host}:{port}; expected {reason}"
        ) from None
    return listening
