"""The names and the path under which a server is reached, as its owner tells them."""

from __future__ import annotations

import ipaddress
import re

from panokit.errors import ArgumentError

__all__ = ["host_of", "is_address", "path_below", "proxy_address", "public_name"]

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x20\[\]:/@?#\\]+)(?::(\d{1,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
OWN_PATHS = frozenset({"api", "docs", "litertjs", "openapi.json", "static"})
"""What the server's own paths begin with: a root path of that name could not be told from them."""


def host_of(value: str) -> str | None:
    """The host of a ``Host`` header, in lower case without port and brackets; None if it is
    malformed."""
    found = _HOST.fullmatch(value)
    if found is None or int(found[2] or 0) > 65535:
        return None
    host = found[1].lower().removesuffix(".")
    if host.startswith("["):
        host = host[1:-1]
        return host if is_address(host) else None
    return host or None


def is_address(host: str) -> bool:
    """Whether a host is written as numbers: no name can be rebound to this computer then."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def public_name(given: str) -> str:
    """A name of ``--allow-host`` as browsers send it: lower case, without port, in ASCII."""
    host = host_of(given.strip())
    try:
        name = host.encode("idna").decode("ascii") if host else ""
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if not is_address(name) and not all(map(_LABEL.fullmatch, labels)):
        raise ArgumentError(
            "allow-host",
            f"--allow-host is {given!r}; expected a name such as demo.example.org, without https://",
        )
    return name


def path_below(given: str) -> str:
    """The path of ``--root-path`` as ``/a/b``; empty for none."""
    parts = [part for part in given.strip().split("/") if part]
    if any(not _SEGMENT.fullmatch(part) or set(part) == {"."} for part in parts):
        raise ArgumentError(
            "root-path", f"--root-path is {given!r}; expected a path such as /seg, without a name"
        )
    if parts and parts[0] in OWN_PATHS:
        raise ArgumentError(
            "root-path",
            f"--root-path is {given!r}; expected one that does not begin with /{parts[0]}, which "
            "is a path of the demo itself",
        )
    return "".join(f"/{part}" for part in parts)


def proxy_address(given: str) -> str:
    """An address, or a network as 10.0.0.0/8, of ``--trust-proxy``."""
    try:
        return str(ipaddress.ip_network(given.strip())).removesuffix("/32").removesuffix("/128")
    except ValueError:
        raise ArgumentError(
            "trust-proxy", f"--trust-proxy is {given!r}; expected an address such as 127.0.0.1"
        ) from None
