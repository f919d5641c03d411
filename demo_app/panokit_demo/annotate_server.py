"""The server of `panokit annotate`: photos, their labels, and what is done to them."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from panokit import __version__, coco
from panokit.errors import ArgumentError
from panokit.extents import extents
from panokit_datasets.annotation.project import AnnotationProject, Work
from panokit_demo.answers import NO_STORE, add_handlers
from panokit_demo.limits import DemoLimits
from panokit_demo.security import BodyLimit, Guard
from panokit_demo.server import LOOPBACK

__all__ = ["create_annotate_app"]

MAX_BODY = 2_000_000
SHOWN = 2048
"""Longest side of a photo on the page, pixels."""


class Done(BaseModel):
    """Whether a photo's labels are right."""

    done: bool


def create_annotate_app(project: AnnotationProject, *, hosts: frozenset[str] = LOOPBACK) -> FastAPI:
    """The application: the page, and what it asks for. ``hosts`` are the names of this computer
    that it answers to, besides addresses in numbers."""
    app = FastAPI(
        title="Panokit annotate",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    add_handlers(app, DemoLimits())
    static = Path(str(resources.files("panokit_demo").joinpath("static")))
    page = (static / "annotate.html").read_text("utf-8")

    @app.get("/")
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    _add_api(app, project)
    app.mount("/static", StaticFiles(directory=static), "static")
    app.add_middleware(BodyLimit, most=MAX_BODY)
    app.add_middleware(Guard, hosts=hosts, public=frozenset())
    return app


def _add_api(app: FastAPI, project: AnnotationProject) -> None:
    @app.get("/api/project")
    def describe() -> dict[str, Any]:
        done = set(project.done)
        return {
            "annotator": project.annotator,
            "categories": [c.to_json() for c in project.taxonomy],
            "photos": [{"name": n, "done": i in done} for i, n in enumerate(project.names)],
        }

    @app.get("/api/photos/{index}")
    def labels(index: int) -> dict[str, Any]:
        return _described(project, index, project.work(index))

    @app.post("/api/photos/{index}")
    async def apply(index: int, request: Request) -> dict[str, Any]:
        from anyio import to_thread

        try:
            operation = await request.json()
        except ValueError:
            raise ArgumentError("operation", "the request holds no JSON") from None
        work = await to_thread.run_sync(project.apply, index, operation)
        return await to_thread.run_sync(_described, project, index, work)

    @app.post("/api/photos/{index}/done")
    def done(index: int, body: Done) -> dict[str, Any]:
        (project.finish if body.done else project.reopen)(index)
        return _described(project, index, project.work(index))

    @app.get("/api/photos/{index}/photo.jpg")
    def photo(index: int) -> Response:
        from PIL import Image

        image = Image.fromarray(project.photo(index).rgb_hwc)
        image.thumbnail((SHOWN, SHOWN))
        return _picture(image, "JPEG", quality=92)

    @app.get("/api/photos/{index}/ids.png")
    def ids(index: int) -> Response:
        from PIL import Image

        rgb = coco.ids_to_rgb(project.work(index).labels.ids)
        return _picture(Image.fromarray(rgb), "PNG", compress_level=1)


def _picture(image: Any, kind: str, **options: Any) -> Response:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Response(buffer.getvalue(), media_type=f"image/{kind.lower()}", headers=NO_STORE)


def _described(project: AnnotationProject, index: int, work: Work) -> dict[str, Any]:
    """A photo's labels, JSON-ready, without the map."""
    labels = work.labels
    there = extents(np.asarray(labels.ids))
    return {
        "name": project.names[index],
        "size_wh": [labels.ids.shape[1], labels.ids.shape[0]],
        "segments": [
            {
                "id": s.id,
                "category": int(project.taxonomy.ids[s.channel]),
                "crowd": s.is_crowd,
                "score": labels.scores.get(s.id),
                "area": there[s.id].area,
                "bbox": list(there[s.id].bbox),
            }
            for s in labels.segments.values()
            if s.id in there
        ],
        "can_undo": work.can_undo,
        "can_redo": work.can_redo,
        "done": project.is_done(index),
    }
