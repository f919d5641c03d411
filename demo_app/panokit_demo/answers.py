"""From what a worker gave back, or why it gave nothing, to an answer over HTTP."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import quote

import numpy as np
from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from panokit.errors import PanokitError
from panokit_demo.jobs import Picture, Segmented, WorkingPhoto
from panokit_demo.limits import DemoLimits
from panokit_demo.store import Session
from panokit_demo.workers import (
    ClientBusyError,
    JobBusyError,
    JobCrashedError,
    JobFailedError,
    JobKilledError,
    JobRefusedError,
    JobTooSlowError,
    in_words,
)

__all__ = ["GONE", "add_handlers", "describe", "describe_session", "picture_response"]

NO_STORE = {"Cache-Control": "no-store"}
GONE = HTTPException(404, "This photo is no longer kept here; choose it again.")
WORDS = {
    400: "The request cannot be read; send it again.",
    404: "There is nothing at this address; /docs lists what there is.",
    405: "This address is asked in another way; /docs tells how.",
}
"""Sentences in place of a status's own name."""


def describe(found: Segmented) -> dict[str, Any]:
    """What was found in a working photo, with the map on the network's grid, JSON-ready."""
    ids = found.decoded.ids
    small = int(ids.max(initial=0)) < 256
    packed = np.ascontiguousarray(ids, "<u1" if small else "<u2")
    return {
        **found.described,
        "artifact": found.artifact,
        "milliseconds": found.milliseconds,
        "map": {
            "shape": list(ids.shape),
            "dtype": "U8" if small else "U16",
            "data": base64.b64encode(packed.tobytes()).decode("ascii"),
        },
    }


def describe_session(session: Session, found: Segmented, limits: DemoLimits) -> dict[str, Any]:
    """A photo in use and what was found in it, JSON-ready."""
    working: WorkingPhoto = session.working
    return {
        "session": session.id,
        "name": working.name,
        "full_wh": list(working.full_wh),
        "size_wh": list(working.size_wh),
        "orientation": working.orientation,
        "color": working.color,
        "minutes": limits.session_minutes,
        "result": describe(found),
    }


def picture_response(picture: Picture, file_name: str | None = None) -> Response:
    """A picture; the words about it are in headers, percent-encoded."""
    headers = {
        **NO_STORE,
        "X-Panokit-Message": quote(picture.message),
        "X-Panokit-Applied": str(int(picture.applied)),
        "X-Panokit-Transparent": str(int(picture.transparent)),
        "X-Panokit-Milliseconds": f"{picture.milliseconds:g}",
    }
    if file_name is not None:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"
    return Response(picture.data, media_type=picture.media_type, headers=headers)


def add_handlers(app: Any, limits: DemoLimits) -> None:
    """Every error is ``{"detail": sentence}`` with a status that fits."""

    def sentence(status: int, text: str, **headers: str) -> JSONResponse:
        return JSONResponse({"detail": text}, status, {**NO_STORE, **headers})

    async def busy(request: Request, error: Exception) -> JSONResponse:
        text = "The server is busy with other photos; try again in a moment."
        return sentence(503, text, **{"Retry-After": "1"})

    async def many(request: Request, error: Exception) -> JSONResponse:
        text = (
            f"{limits.per_client} requests from your address are under way already; send the next "
            "when one of them is answered."
        )
        return sentence(429, text, **{"Retry-After": "1"})

    async def slow(request: Request, error: Exception) -> JSONResponse:
        seconds, of = limits.seconds, ""
        if isinstance(error, JobTooSlowError):
            seconds, of = round(error.seconds), error.of
        text = f"This took more than {seconds} seconds{of} and was stopped; use a smaller photo."
        return sentence(422, text)

    async def refused(request: Request, error: Exception) -> JSONResponse:
        return sentence(422, in_words(error) if isinstance(error, PanokitError) else str(error))

    async def crashed(request: Request, error: Exception) -> JSONResponse:
        return sentence(422, "This file ended the process that worked on it; it cannot be used.")

    async def killed(request: Request, error: Exception) -> JSONResponse:
        text = "The process that worked on this was ended; try again in a moment."
        return sentence(503, text, **{"Retry-After": "1"})

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return sentence(500, "The work on this photo ended with a fault of the program.")

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        parts = [f"{'.'.join(map(str, p['loc'][1:]))}: {p['msg']}" for p in problems[:3]]
        text = "; ".join(parts) or "it is malformed"
        return sentence(422, f"The request cannot be used: {text}."[:500])

    async def by_status(request: Request, error: Exception) -> JSONResponse:
        refusal = cast(StarletteHTTPException, error)
        status, text = refusal.status_code, refusal.detail
        if text == HTTPStatus(status).phrase:
            text = WORDS.get(status, text)
        return sentence(status, text, **(refusal.headers or {}))

    app.add_exception_handler(StarletteHTTPException, by_status)
    app.add_exception_handler(JobBusyError, busy)
    app.add_exception_handler(ClientBusyError, many)
    app.add_exception_handler(JobTooSlowError, slow)
    app.add_exception_handler(JobRefusedError, refused)
    app.add_exception_handler(PanokitError, refused)
    app.add_exception_handler(JobFailedError, failed)
    app.add_exception_handler(JobCrashedError, crashed)
    app.add_exception_handler(JobKilledError, killed)
    app.add_exception_handler(RequestValidationError, malformed)
