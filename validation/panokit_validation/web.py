"""Dumps over HTTP: fetched whole, in bounded time and size, from the very place that was named.

A server that validates other people's URLs must not be led into its own network: no redirect is
followed, and of a folder's page only links to what lies below it count.
"""

from __future__ import annotations

import http.client
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import IO, Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from panokit.errors import DumpError

__all__ = ["fetch", "is_web", "list_page", "sibling"]

SILENT_SECONDS = 10.0
"""A server that says nothing for so long is given up."""

GRACE_SECONDS, LEAST_BYTES_PER_SECOND = 15.0, 20_000
"""A file may take so long, and a second more for so many of its bytes that have come."""

MAX_UNSTATED_BYTES = 200_000_000
"""Most bytes of a file whose length the server does not state."""

MAX_PAGE_BYTES = 4_000_000
MAX_DEPTH = 6
MAX_PAGES = 1000
"""Pages of folders, one below the other and altogether."""

_BLOCK = 1 << 20


def is_web(url: str) -> bool:
    """Whether a URL is one of HTTP."""
    return url.lower().startswith(("http://", "https://"))


def fetch(url: str, most: int) -> tuple[IO[bytes], int]:
    """What lies at ``url``, at most so many bytes, as a temporary file that goes when it is closed;
    its size. ``DumpError`` says why it cannot be had."""
    out: IO[bytes] = tempfile.TemporaryFile(prefix="panokit-")  # noqa: SIM115 - the caller's
    try:
        with _asked(url) as answer:
            size = _copy(answer, out, most, url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        out.close()
        raise DumpError(url, _reason(error)) from None
    except BaseException:
        out.close()
        raise
    out.seek(0)
    return out, size


def list_page(url: str) -> Iterator[str]:
    """The files below a folder's page, as links on it and on pages of folders below it."""
    waiting, seen = [(url, 0)], {url}
    while waiting and len(seen) <= MAX_PAGES:
        page, depth = waiting.pop(0)
        file, _ = fetch(page, MAX_PAGE_BYTES)
        with file:
            text = file.read().decode("utf-8", "replace")
        for link in _links_below(page, text):
            if link in seen:
                continue
            seen.add(link)
            if not link.endswith("/"):
                yield link
            elif depth < MAX_DEPTH:
                waiting.append((link, depth + 1))


def sibling(url: str, name: str) -> str:
    """The URL of a file that lies beside (or below) the one at ``url``."""
    found = _below(urljoin(url, "."), quote(name))
    if found is None:
        raise DumpError(url, f"file {name[:80]!r} leads out of the folder")
    return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        """None: the answer stays what it is, an error with the address it leads to."""


def _asked(url: str) -> Any:
    opener = urllib.request.build_opener(_NoRedirects)
    request = urllib.request.Request(url, headers={"User-Agent": "panokit"})  # noqa: S310 - is_web
    return opener.open(request, timeout=SILENT_SECONDS)


def _copy(answer: Any, out: IO[bytes], most: int, url: str) -> int:
    stated = answer.headers.get("Content-Length")
    if stated is None:
        most = min(most, MAX_UNSTATED_BYTES)
    elif int(stated) > most:
        raise DumpError(url, f"expected at most {most} bytes, got {int(stated)}")
    began, size = time.monotonic(), 0
    while block := answer.read1(_BLOCK):
        size += len(block)
        if size > most:
            raise DumpError(url, f"goes on after {most} bytes; expected at most so many")
        if time.monotonic() - began > GRACE_SECONDS + size / LEAST_BYTES_PER_SECOND:
            raise TimeoutError
        out.write(block)
    if stated is not None and size != int(stated):
        raise DumpError(url, f"ends after {size} of {int(stated)} bytes: truncated")
    return size


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if 300 <= error.code < 400:
            place = error.headers.get("Location", "")[:200]
            return f"is not here: the server leads to {place!r}; give that address if you trust it"
        return "no such dump file" if error.code in (404, 410) else f"answers {error.code}"
    inner = getattr(error, "reason", error)
    if isinstance(error, TimeoutError) or isinstance(inner, TimeoutError):
        return "does not come along; the server is silent or too slow"
    return f"cannot be fetched: {str(inner)[:300] or type(inner).__name__}"


class _Links(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where a link leads."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _links_below(page: str, text: str) -> list[str]:
    parser = _Links()
    parser.feed(text)
    links = (_below(page, link) for link in parser.found)
    return sorted({link for link in links if link is not None})


def _below(folder: str, link: str) -> str | None:
    """The URL that a link in a folder leads to, if it lies below the folder."""
    try:
        target, home = urlsplit(urljoin(folder, link.partition("#")[0])), urlsplit(folder)
    except ValueError:
        return None
    steps = unquote(target.path).replace("\\", "/").split("/")
    inside = target.path.startswith(home.path) and len(target.path) > len(home.path)
    if target[:2] != home[:2] or target.query or not inside or ".." in steps:
        return None
    return target.geturl()
