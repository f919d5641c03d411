"""The REST API: segment, effect and validate in one request each; sessions for the page.

The three remember nothing. A session keeps one photo in memory, until it is closed, forgotten
after a while, or pushed out by others.
"""

from __future__ import annotations

import base64
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from panokit import __version__
from panokit.effects import EDIT_KINDS
from panokit.errors import PhotoError
from panokit_demo.answers import GONE, NO_STORE, describe, describe_session, picture_response
from panokit_demo.catalog import Catalog
from panokit_demo.desk import Desk
from panokit_demo.jobs import Picture, parse_edits
from panokit_demo.litertjs import find_litertjs, missing_sentence
from panokit_demo.store import Session

__all__ = ["router"]


class Problem(BaseModel):
    """Every refusal: a sentence."""

    detail: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request is malformed."},
    403: {"model": Problem, "description": "Another site's page, or an unknown host name."},
    404: {"model": Problem, "description": "It is not here, or no longer kept."},
    408: {"model": Problem, "description": "The request did not come along in time."},
    413: {"model": Problem, "description": "The request is too large."},
    422: {"model": Problem, "description": "The file or the edits cannot be used."},
    429: {"model": Problem, "description": "Too many requests of this address are under way."},
    500: {"model": Problem, "description": "A fault of the program."},
    503: {"model": Problem, "description": "The server is busy; Retry-After says when to come."},
}
"""What any request may be answered besides what it asked for."""

router = APIRouter(prefix="/api", responses=PROBLEMS)

Kind = Literal["jpg", "png", "webp"]
PhotoFile = Annotated[UploadFile, File(description="A JPEG, PNG, WebP, HEIC or AVIF photo.")]
ArtifactName = Annotated[
    str | None, Form(description="Id of an artifact (GET /api/info); the default without it.")
]
EditsText = Annotated[
    str, Form(max_length=200_000, description="JSON as in edits.json, or its list of edits.")
]


class EditsBody(BaseModel):
    """Edits of a session's photo."""

    model_config = ConfigDict(extra="forbid")
    edits: dict[str, Any] = Field(description="The object of edits.json.")
    artifact: str | None = Field(None, description="Whose segments the edits are about.")
    format: Kind | None = Field(None, description="Kind of picture; the best one without it.")
    draft: bool = Field(False, description="A smaller picture, sooner.")


class ArtifactBody(BaseModel):
    """Which artifact to run."""

    model_config = ConfigDict(extra="forbid")
    artifact: str | None = None


@router.get("/info", tags=["about"])
async def info(request: Request) -> JSONResponse:
    """What this server offers: artifacts, sample photos, kinds of edits with their parameters,
    limits."""
    desk: Desk = request.app.state.desk
    ready = find_litertjs() is not None
    return JSONResponse(
        {
            "version": __version__,
            "artifacts": [o.to_json() for o in desk.catalog.offers],
            "default": desk.catalog.default,
            "samples": list(desk.samples),
            "edits": {name: kind.describe() for name, kind in EDIT_KINDS.items()},
            "limits": desk.limits.to_json(),
            "device": {"ready": ready, "missing": None if ready else missing_sentence()},
        },
        headers=NO_STORE,
    )


@router.post("/segment", tags=["one request"])
async def segment(
    request: Request,
    photo: PhotoFile,
    artifact: ArtifactName = None,
    output: Annotated[
        Literal["json", "ids", "overlay"],
        Form(description="JSON with the id map (16-bit PNG, base64), that PNG, or a JPEG."),
    ] = "json",
) -> Response:
    """Segment a photo."""
    desk: Desk = request.app.state.desk
    data, name = await desk.read(photo)
    chosen = desk.catalog.get(artifact).id
    done = await desk.work(request, "segment_once", data, name, chosen, output)
    if isinstance(done, Picture):
        return picture_response(done)
    found, ids = done
    found["id_map_png"] = base64.b64encode(ids).decode("ascii")
    return JSONResponse(found, headers=NO_STORE)


@router.post("/effect", tags=["one request"], response_class=Response)
async def effect(
    request: Request,
    photo: PhotoFile,
    edits: EditsText,
    artifact: ArtifactName = None,
    format: Annotated[Kind, Form(description="What to write.")] = "jpg",
) -> Response:
    """Edit a photo: portrait blur, lift, remove, recolour … as docs/effects.md lists them."""
    desk: Desk = request.app.state.desk
    data, name = await desk.read(photo)
    chosen = desk.catalog.get(artifact).id
    seconds = desk.limits.download_seconds
    picture = await desk.work(
        request, "edit_once", data, name, chosen, parse_edits(edits), format, timeout=seconds
    )
    return picture_response(picture, f"{PurePath(name).stem}-edited.{format}")


@router.post("/validate", tags=["one request"])
async def validate(
    request: Request,
    dump: Annotated[UploadFile, File(description="A device dump, .safetensors or .npz.")],
    artifact: ArtifactName = None,
    diagnose: Annotated[bool, Form(description="Look for the cause of a failure.")] = True,
) -> JSONResponse:
    """Compare what a device computed with the reference; docs/dump.md says what a dump holds."""
    desk: Desk = request.app.state.desk
    data, name = await desk.read(dump)
    chosen = desk.catalog.get(artifact).id
    seconds = desk.limits.download_seconds
    verdict = await desk.work(request, "validate", data, name, chosen, diagnose, timeout=seconds)
    return JSONResponse(verdict, headers=NO_STORE)


@router.get("/samples/{name}", tags=["about"], response_class=FileResponse)
async def sample(request: Request, name: str) -> Response:
    """A sample photo of the installed packages, small."""
    desk: Desk = request.app.state.desk
    picture = desk.thumbnails.get(name)
    if picture is None:
        raise GONE
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})


@router.get("/artifacts/{artifact:path}/model", tags=["about"], response_class=FileResponse)
async def model(request: Request, artifact: str) -> Response:
    """The artifact's own file, for a device to run."""
    catalog: Catalog = request.app.state.desk.catalog
    for offer in catalog.offers:
        if offer.id == artifact and offer.runs_in_browser:
            headers = {"Cache-Control": "no-cache", "ETag": f'"{offer.artifact.sha256}"'}
            path = offer.bundle.path(offer.artifact)
            return FileResponse(path, media_type="application/octet-stream", headers=headers)
    raise GONE


@router.post("/sessions", tags=["sessions"])
async def open_session(
    request: Request,
    photo: Annotated[UploadFile | None, File(description="A photo, or …")] = None,
    sample: Annotated[str | None, Form(description="… the name of a sample photo.")] = None,
    artifact: ArtifactName = None,
) -> JSONResponse:
    """Begin to work on a photo; it is kept for a while."""
    desk: Desk = request.app.state.desk
    chosen = desk.catalog.get(artifact).id
    if (photo is None) == (sample is None):
        raise PhotoError("request", "needs either a photo or the name of a sample")
    if photo is not None:
        data, name = await desk.read(photo)
    else:
        data, name = await desk.read_sample(sample or "")
    working, found = await desk.work(request, "open", data, name, chosen)
    session = desk.store.add(working, {chosen: found})
    return JSONResponse(describe_session(session, found, desk.limits), headers=NO_STORE)


@router.delete("/sessions/{session_id}", tags=["sessions"])
async def close_session(request: Request, session_id: str) -> JSONResponse:
    """Forget a photo at once."""
    desk: Desk = request.app.state.desk
    return JSONResponse({"forgotten": desk.store.drop(session_id)}, headers=NO_STORE)


@router.get("/sessions/{session_id}/photo", tags=["sessions"], response_class=Response)
async def session_photo(
    request: Request,
    session_id: str,
    format: Annotated[Literal["jpg", "png"], Query(description="png: exact pixels")] = "jpg",
) -> Response:
    """The working copy of the photo."""
    desk: Desk = request.app.state.desk
    session = _session(desk, session_id)
    return picture_response(await desk.work(request, "shown", session.working, format))


@router.post("/sessions/{session_id}/segment", tags=["sessions"])
async def session_segment(request: Request, session_id: str, body: ArtifactBody) -> JSONResponse:
    """Segment the photo with another artifact."""
    desk: Desk = request.app.state.desk
    session = _session(desk, session_id)
    found = await desk.found(request, session, body.artifact)
    return JSONResponse(describe(found), headers=NO_STORE)


@router.post("/sessions/{session_id}/background", tags=["sessions"])
async def session_background(request: Request, session_id: str, photo: PhotoFile) -> JSONResponse:
    """Keep a picture that fills can name: ``{"fill": {"photo": NAME}}``. The answer holds NAME."""
    desk: Desk = request.app.state.desk
    session = _session(desk, session_id)
    data, name = await desk.read(photo)
    pictures = session.working.backgrounds
    if name not in pictures and len(pictures) >= desk.limits.backgrounds:
        most = desk.limits.backgrounds
        raise PhotoError(name, f"is one background too many; expected at most {most} a photo")
    session.add_background(name, await desk.work(request, "background", data, name))
    desk.store.sweep()
    return JSONResponse({"name": name}, headers=NO_STORE)


@router.post("/sessions/{session_id}/effect", tags=["sessions"], response_class=Response)
async def session_effect(request: Request, session_id: str, body: EditsBody) -> Response:
    """The working copy with edits; taps are in pixels of the whole photo."""
    desk: Desk = request.app.state.desk
    session = _session(desk, session_id)
    found = await desk.found(request, session, body.artifact)
    kind = body.format or ""
    picture = await desk.work(request, "edit", session.working, found, body.edits, kind, body.draft)
    return picture_response(picture)


@router.post("/sessions/{session_id}/download", tags=["sessions"], response_class=Response)
async def session_download(request: Request, session_id: str, body: EditsBody) -> Response:
    """The whole photo with edits, as a file."""
    desk: Desk = request.app.state.desk
    session = _session(desk, session_id)
    found = await desk.found(request, session, body.artifact)
    kind, seconds = body.format or "jpg", desk.limits.download_seconds
    picture = await desk.work(
        request, "download", session.working, found, body.edits, kind, timeout=seconds
    )
    return picture_response(picture, f"{PurePath(session.working.name).stem}-edited.{kind}")


def _session(desk: Desk, session_id: str) -> Session:
    session = desk.store.get(session_id)
    if session is None:
        raise GONE
    return session
