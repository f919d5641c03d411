"""The demo under other names and below a path, as a proxy serves it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from PIL import Image

from panokit.errors import ArgumentError

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from panokit_demo.limits import DemoLimits
from panokit_demo.names import host_of, path_below, proxy_address, public_name
from panokit_demo.server import create_app

PUBLIC, ROOT = "photos.example.net", "/team/see"
STATIC = Path("demo_app") / "panokit_demo" / "static"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = create_app(
        limits=DemoLimits(workers=1), public=frozenset({PUBLIC, "192.0.2.7"}), root=ROOT
    )
    with TestClient(app, base_url=f"https://{PUBLIC}") as running:
        yield running


@pytest.fixture(scope="module")
def photo() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 200)).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize("kept", [True, False], ids=["the proxy keeps the path", "takes it away"])
def test_everything_lies_below_the_root(client: TestClient, photo: bytes, kept: bool) -> None:
    """As a browser goes about: every address is worked out from the page's own."""

    def get(path: str) -> str:
        assert path.startswith(f"{ROOT}/"), path
        answer = client.get(path if kept else path.removeprefix(ROOT), follow_redirects=False)
        assert answer.status_code == 200, path
        return answer.text

    for page in (f"{ROOT}/", f"{ROOT}/docs"):
        links = re.findall(r'(?:src|href)="([^"#]+)"', get(page))
        assert len(links) > 4
        for link in links:
            get(urlsplit(urljoin(f"https://{PUBLIC}{page}", link)).path)
    script = f"{ROOT}/static/js/api.js"
    (up,) = re.findall(r'new URL\("([./]+)", import.meta.url\)', get(script))
    assert urlsplit(urljoin(f"https://{PUBLIC}{script}", up)).path == f"{ROOT}/"
    for path in ("api/info", "openapi.json", "api/samples/coffee"):
        get(f"{ROOT}/{path}")
    send = f"{ROOT}/api/segment" if kept else "/api/segment"
    answer = client.post(
        send, files={"photo": ("a.jpg", photo)}, headers={"Origin": f"https://{PUBLIC}"}
    )
    assert answer.status_code == 200, answer.text


def test_no_address_in_the_page_begins_at_the_top(root: Path) -> None:
    """It would miss the root: ``addressOf`` of api.js puts that before."""
    quoted = re.compile(r"""["'`]/(?:api|static|litertjs|docs|openapi)|(?:href|src)="/""")
    for path in (root / STATIC).rglob("*"):
        if path.suffix in (".js", ".html", ".css"):
            assert not quoted.search(path.read_text("utf-8")), path.name


def test_the_root_without_its_slash_leads_to_the_page(client: TestClient) -> None:
    answer = client.get(ROOT, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, f"{ROOT}/")


def test_openapi_names_the_root_once(client: TestClient) -> None:
    for _ in range(2):
        assert client.get("/openapi.json").json()["servers"] == [{"url": ROOT}]


@pytest.mark.parametrize("header", [PUBLIC, f"{PUBLIC}:8443", "127.0.0.1:8008", "localhost"])
def test_pages_of_the_public_name_may_send_whatever_name_comes_through(
    client: TestClient, header: str
) -> None:
    headers = {"Host": header, "Origin": f"https://{PUBLIC}", "Sec-Fetch-Site": "same-origin"}
    assert client.delete("/api/sessions/x", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("other.example.net", None),
        (f"{PUBLIC}.evil.example", None),
        (PUBLIC, "https://other.example.net"),
        (PUBLIC, f"https://{PUBLIC}.evil.example"),
        (PUBLIC, "http://localhost"),  # another program's page on this computer
        (PUBLIC, "null"),
    ],
)
def test_other_names_and_pages_stay_out(client: TestClient, host: str, origin: str | None) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert client.delete("/api/sessions/x", headers=headers).status_code == 403


def test_what_a_proxy_may_say_is_not_believed_untold(client: TestClient) -> None:
    """A forwarded name opens nothing: anybody can send that header."""
    for name in ("X-Forwarded-Host", "Forwarded", "X-Original-Host"):
        value = f"host={PUBLIC}" if name == "Forwarded" else PUBLIC
        answer = client.get("/api/info", headers={"Host": "evil.example", name: value})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Demo.Example.org", "demo.example.org"),
        ("demo.example.org:8443", "demo.example.org"),
        ("demo.example.org.", "demo.example.org"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("10.1.2.3", "10.1.2.3"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("intern", "intern"),
    ],
)
def test_names_as_browsers_send_them(given: str, name: str) -> None:
    assert public_name(given) == name
    assert host_of(f"{given.upper()}" if given.isascii() else name) == name


@pytest.mark.parametrize(
    "given", ["https://demo.example.org", "a/b", "", "*", "a b", "-x.org", "[x]"]
)
def test_what_is_no_name(given: str) -> None:
    with pytest.raises(ArgumentError, match=r"--allow-host is .* expected a name such as"):
        public_name(given)


@pytest.mark.parametrize(
    ("given", "path"),
    [("/seg", "/seg"), ("seg/", "/seg"), ("/a/b-c/", "/a/b-c"), ("/", ""), ("", "")],
)
def test_root_paths(given: str, path: str) -> None:
    assert path_below(given) == path


@pytest.mark.parametrize("given", ["https://x/seg", "/a b", "/../x", "/a?b", "/api", "/static/x"])
def test_what_is_no_root_path(given: str) -> None:
    with pytest.raises(ArgumentError, match="--root-path is"):
        path_below(given)


def test_proxies_are_addresses() -> None:
    assert proxy_address("127.0.0.1") == "127.0.0.1"
    assert proxy_address("10.0.0.0/8") == "10.0.0.0/8"
    for given in ("*", "proxy.example", "10.0.0.1/8"):
        with pytest.raises(ArgumentError, match="--trust-proxy"):
            proxy_address(given)
