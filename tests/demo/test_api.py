"""The REST API and the server's answers, over the real workers and the shipped network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from panokit.dump import dump_stages, write_dump
from panokit.effects import EDIT_KINDS, portrait_blur
from panokit.photo import Photo
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from tests.demo.test_uploads import archive, bomb, encoded, heic

pytest.importorskip("fastapi")
pytest.importorskip("skimage")
from fastapi import FastAPI
from fastapi.testclient import TestClient

from panokit_demo.answers import add_handlers
from panokit_demo.limits import DemoLimits
from panokit_demo.security import BodyLimit, Guard
from panokit_demo.server import create_app
from panokit_demo.workers import (
    ClientBusyError,
    JobBusyError,
    JobCrashedError,
    JobFailedError,
    JobKilledError,
    JobTooSlowError,
)

LIMITS = DemoLimits(workers=1, working_side=400, draft_side=200, dump_bytes=50_000_000)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(limits=LIMITS), base_url="http://localhost") as running:
        yield running


@pytest.fixture(scope="module")
def astronaut() -> bytes:
    return sample_photos()["astronaut"].read_bytes()


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.open(threads=1)


@pytest.fixture(scope="module")
def session(client: TestClient, astronaut: bytes) -> dict[str, Any]:
    answer = client.post("/api/sessions", files={"photo": ("me.png", astronaut)})
    assert answer.status_code == 200, answer.text
    opened: dict[str, Any] = answer.json()
    return opened


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def person_tap(session: dict[str, Any]) -> list[float]:
    """A point on the person, in pixels of the whole photo."""
    result = session["result"]
    ids = np.frombuffer(base64.b64decode(result["map"]["data"]), np.uint8)
    person = next(s for s in result["segments"] if s["category"] == "person")
    y, x = np.argwhere(ids.reshape(result["map"]["shape"]) == person["id"])[500]
    scale = session["full_wh"][0] / result["map"]["shape"][1]  # the astronaut is square
    return [float((x + 0.5) * scale), float((y + 0.5) * scale)]


def test_info_says_what_there_is(client: TestClient) -> None:
    info = client.get("/api/info").json()
    assert info["default"] == "tflite-int8"
    (artifact,) = info["artifacts"]
    assert artifact["bytes"] > 1_000_000
    assert artifact["tensors"]["image"]["shape"] == [1, 320, 320, 3]
    assert "astronaut" in info["samples"]
    assert "blur_background" in info["edits"]
    assert list(info["edits"]) == list(EDIT_KINDS)
    for name, kind in EDIT_KINDS.items():
        assert info["edits"][name] == kind.describe()
    assert info["limits"]["working_side"] == 400
    assert info["device"]["ready"] == (info["device"]["missing"] is None)


def test_segment_equals_the_sdk(client: TestClient, astronaut: bytes, segmenter: Segmenter) -> None:
    expected = segmenter.segment(astronaut)
    found = client.post("/api/segment", files={"photo": ("a.png", astronaut)}).json()
    ids = np.asarray(picture(base64.b64decode(found["id_map_png"])))
    assert (ids == expected.id_map).all()
    assert found["segments"] == expected.to_json()["segments"]
    assert found["artifact"] in {a["id"] for a in client.get("/api/info").json()["artifacts"]}
    answer = client.post(
        "/api/segment", files={"photo": ("a.png", astronaut)}, data={"output": "ids"}
    )
    assert answer.headers["content-type"] == "image/png"
    assert (np.asarray(picture(answer.content)) == expected.id_map).all()
    answer = client.post(
        "/api/segment", files={"photo": ("a.png", astronaut)}, data={"output": "overlay"}
    )
    assert picture(answer.content).size == (512, 512)


def test_effect_equals_the_sdk(client: TestClient, astronaut: bytes, segmenter: Segmenter) -> None:
    photo = Photo.open(astronaut)
    expected = portrait_blur(photo, segmenter.segment(photo), strength=0.6)
    answer = client.post(
        "/api/effect",
        files={"photo": ("a b.png", astronaut)},
        data={"edits": '[{"do": "blur_background", "strength": 0.6}]', "format": "png"},
    )
    assert answer.status_code == 200
    assert (np.asarray(picture(answer.content)) == expected.image_hwc).all()
    assert unquote(answer.headers["x-panokit-message"]) == expected.message
    assert float(answer.headers["x-panokit-milliseconds"]) > 0
    assert answer.headers["content-disposition"].endswith("''a%20b-edited.png")


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ("nonsense", "JSON as in edits.json"),
        ('{"version": 2}', "an object with 'version' 1"),
        ('[{"do": "explode"}]', "edit's 'do' is 'explode'; expected one of"),
        ('[{"do": "lift"}]', "lacks its pick"),
        ('[{"do": "lift", "pick": {"tap": [9999, 3]}}]', "lies outside"),
        ('[{"do": "replace_sky", "fill": {"photo": "/etc/passwd"}}]', "No sky|path inside"),
        ('[{"do": "replace_background", "fill": {"photo": "../x.jpg"}}]', "path inside"),
        ('[{"do": "replace_background", "fill": {"photo": "http://x/y.jpg"}}]', "path inside"),
        (json.dumps([{"do": "replace_sky", "fill": {"color": "#fff000"}}] * 51), "at most 50"),
    ],
)
def test_edits_that_cannot_be_done_are_refused(
    client: TestClient, astronaut: bytes, edits: str, sentence: str
) -> None:
    answer = client.post(
        "/api/effect", files={"photo": ("a.png", astronaut)}, data={"edits": edits}
    )
    if answer.status_code == 200:  # a photo without sky: the fill is never opened
        assert "No sky" in unquote(answer.headers["x-panokit-message"])
    else:
        assert answer.status_code == 422
        assert any(s in answer.json()["detail"] for s in sentence.split("|")), answer.json()


HOSTILE = {
    "svg": ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "bomb": ("a.png", bomb(60_000, 60_000), "far too large"),
    "strip": ("a.png", encoded("PNG", (4000, 1)), "expected at least 16 on each side"),
    "polyglot": ("a.jpg", encoded("JPEG") + archive(), "a second format"),
    "path": ("../../etc/cron.d/x.jpg", encoded("JPEG"), "has a file name with a path"),
    "empty": ("a.jpg", b"", "is empty"),
    "damaged": ("a.jpg", encoded("JPEG")[:300], "is damaged"),
}


@pytest.mark.parametrize("path", ["/api/segment", "/api/sessions"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_uploads_get_a_4xx_and_a_sentence(client: TestClient, path: str, case: str) -> None:
    name, data, sentence = HOSTILE[case]
    answer = client.post(path, files={"photo": (name, data)})
    assert 400 <= answer.status_code < 500
    detail = answer.json()["detail"]
    assert sentence in detail
    assert "/tmp" not in detail
    assert detail.startswith(("The photo ", "a."))
    assert detail[-1] in ".)"


def test_200_megabytes_are_refused(client: TestClient) -> None:
    answer = client.post(
        "/api/segment", files={"photo": ("a.jpg", b"\xff\xd8\xff" + bytes(200_000_000))}
    )
    assert answer.status_code == 413
    assert answer.json()["detail"] == "The file is too large; expected at most 50 MB."


def test_a_large_body_that_is_no_form_is_refused_unread(client: TestClient) -> None:
    edits = {"version": 1, "edits": [], "photo": "x" * 500_000}
    answer = client.post("/api/sessions/any/effect", json={"edits": edits})
    assert answer.status_code == 413
    assert answer.json()["detail"] == "The request is too large; expected at most 400 kB."


def test_a_body_without_a_length_is_counted() -> None:
    import asyncio

    async def whole() -> int:
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while (await receive()).get("more_body"):
                pass

        async def receive() -> dict[str, Any]:
            receive.left -= 1  # type: ignore[attr-defined]
            return {"type": "http.request", "body": b"x" * 60, "more_body": receive.left > 0}  # type: ignore[attr-defined]

        receive.left = 5  # type: ignore[attr-defined]

        async def send(message: Any) -> None:
            sent.append(message)

        await BodyLimit(app, most=100)({"type": "http", "headers": []}, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(whole()) == 413


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (JobBusyError(), 503, "is busy with other photos"),
        (ClientBusyError(), 429, "4 requests from your address are under way"),
        (JobTooSlowError(30.0), 422, "took more than 30 seconds and"),
        (JobTooSlowError(5, " of processor time"), 422, "more than 5 seconds of processor time"),
        (JobFailedError("secret"), 500, "a fault of the program"),
        (JobCrashedError("secret"), 422, "cannot be used"),
        (JobKilledError("secret"), 503, "try again"),
    ],
    ids=["busy", "client busy", "slow", "bomb", "failed", "crashed", "killed"],
)
def test_what_the_pool_says_is_answered(error: Exception, status: int, sentence: str) -> None:
    app = FastAPI()
    add_handlers(app, LIMITS)

    @app.get("/")
    async def fail() -> None:
        raise error

    answer = TestClient(app).get("/")
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == ("1" if status in (429, 503) else None)


def test_heic_and_small_photos_open(client: TestClient) -> None:
    answer = client.post("/api/sessions", files={"photo": ("x.heic", heic())})
    assert answer.status_code == 200
    assert answer.json()["full_wh"] == [64, 48]


def test_a_session_shows_a_smaller_copy_and_its_map(
    session: dict[str, Any], client: TestClient
) -> None:
    assert session["full_wh"] == [512, 512]
    assert session["size_wh"] == [400, 400]
    assert session["result"]["map"]["shape"] == [320, 320]
    shown = client.get(f"/api/sessions/{session['session']}/photo?format=png")
    assert picture(shown.content).size == (400, 400)
    assert shown.headers["cache-control"] == "no-store"


def test_edits_of_a_session_by_tap_at_both_sizes(
    session: dict[str, Any], client: TestClient, astronaut: bytes
) -> None:
    edit = {"do": "pixelate", "pick": {"tap": person_tap(session)}}
    body = {"edits": {"version": 1, "edits": [edit]}, "format": "png"}
    url = f"/api/sessions/{session['session']}"
    small, large = (client.post(f"{url}/{what}", json=body) for what in ("effect", "download"))
    assert small.status_code == large.status_code == 200
    assert unquote(small.headers["x-panokit-message"]) == "Pixelated the person."
    assert unquote(large.headers["x-panokit-message"]) == "Pixelated the person."
    assert picture(small.content).size == (400, 400)
    changed = np.asarray(picture(large.content)) != Photo.open(astronaut).rgb_hwc
    assert 0.05 < changed.any(axis=-1).mean() < 0.9
    draft = client.post(f"{url}/effect", json={**body, "draft": True})
    assert picture(draft.content).size == (200, 200)
    assert unquote(draft.headers["x-panokit-message"]) == "Pixelated the person."
    assert "me-edited.png" in large.headers["content-disposition"]


def test_a_tap_on_void_means_the_same_place_at_every_size(client: TestClient) -> None:
    opened = client.post("/api/sessions", data={"sample": "coffee"}).json()
    (w, h), (small_w, small_h) = opened["full_wh"], opened["size_wh"]
    assert (w, small_w) == (600, 400)
    edit = {"do": "lift", "pick": {"tap": [0.72 * w, 0.62 * h]}}  # the saucer
    body = {"edits": {"version": 1, "edits": [edit]}, "format": "png"}
    url = f"/api/sessions/{opened['session']}"
    alphas = []
    for what in ("effect", "download"):
        answer = client.post(f"{url}/{what}", json=body)
        assert unquote(answer.headers["x-panokit-message"]) == "Lifted the object."
        alpha = picture(answer.content).getchannel("A").resize((small_w, small_h))
        alphas.append(np.asarray(alpha) > 127)
    small, large = alphas
    assert (small & large).sum() > 0.7 * (small | large).sum()


def test_a_lifted_object_is_transparent_and_no_jpeg(
    session: dict[str, Any], client: TestClient
) -> None:
    edit = {"do": "lift", "pick": {"tap": person_tap(session)}}
    url = f"/api/sessions/{session['session']}"
    shown = client.post(f"{url}/effect", json={"edits": {"version": 1, "edits": [edit]}})
    assert shown.headers["content-type"] == "image/webp"
    assert picture(shown.content).mode == "RGBA"
    body = {"edits": {"version": 1, "edits": [edit]}, "format": "jpg"}
    refused = client.post(f"{url}/download", json=body)
    assert refused.status_code == 422
    assert "for a transparent picture" in refused.json()["detail"]


def test_an_own_picture_is_put_behind(session: dict[str, Any], client: TestClient) -> None:
    url = f"/api/sessions/{session['session']}"
    edit = {"do": "replace_background", "fill": {"photo": "red.png"}, "match_light": 0.0}
    body = {"edits": {"version": 1, "edits": [edit]}, "format": "png"}
    early = client.post(f"{url}/effect", json=body)
    assert early.status_code == 422
    assert "'red.png'; expected a picture that was added" in early.json()["detail"]
    out = io.BytesIO()
    Image.new("RGB", (300, 900), (250, 0, 0)).save(out, "PNG")
    added = client.post(f"{url}/background", files={"photo": ("red.png", out.getvalue())})
    assert added.json() == {"name": "red.png"}
    for what, side in (("effect", 400), ("download", 512)):
        answer = client.post(f"{url}/{what}", json=body)
        assert answer.status_code == 200, answer.text
        assert unquote(answer.headers["x-panokit-message"]).endswith("before another background.")
        shown = picture(answer.content)
        assert shown.size == (side, side)
        r, g, b = np.asarray(shown)[8, side // 2]
        assert r > 240
        assert max(g, b) < 12
    other = client.post("/api/sessions", data={"sample": "astronaut"}).json()["session"]
    assert client.post(f"/api/sessions/{other}/effect", json=body).status_code == 422


def test_backgrounds_are_uploads_too(session: dict[str, Any], client: TestClient) -> None:
    opened = client.post("/api/sessions", data={"sample": "coffee"}).json()
    url = f"/api/sessions/{opened['session']}/background"
    for name, data, sentence in HOSTILE.values():
        answer = client.post(url, files={"photo": (name, data)})
        assert answer.status_code == 422
        assert sentence in answer.json()["detail"]
    for i in range(LIMITS.backgrounds):
        good = client.post(url, files={"photo": (f"{i}.jpg", encoded("JPEG"))})
        assert good.status_code == 200
    assert client.post(url, files={"photo": ("0.jpg", encoded("JPEG"))}).status_code == 200
    full = client.post(url, files={"photo": ("more.jpg", encoded("JPEG"))})
    assert full.status_code == 422
    assert "expected at most 8 a photo" in full.json()["detail"]
    gone = client.post("/api/sessions/x/background", files={"photo": ("0.jpg", encoded("JPEG"))})
    assert gone.status_code == 404


def test_a_closed_session_is_gone(client: TestClient) -> None:
    opened = client.post("/api/sessions", data={"sample": "coffee"}).json()
    url = f"/api/sessions/{opened['session']}"
    assert client.delete(url).json() == {"forgotten": True}
    for answer in (client.get(f"{url}/photo"), client.post(f"{url}/segment", json={})):
        assert answer.status_code == 404
        assert "choose it again" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"sample": "nobody"}, "expected one of astronaut"),
        ({}, "either a photo or the name of a sample"),
        ({"sample": "coffee", "artifact": "no"}, "artifact is 'no'; expected one of: tflite-int8"),
    ],
    ids=["sample", "nothing", "artifact"],
)
def test_sessions_that_cannot_begin(
    client: TestClient, data: dict[str, str], sentence: str
) -> None:
    answer = client.post("/api/sessions", data=data)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_validate_passes_a_good_dump_and_names_what_is_wrong_with_others(
    client: TestClient, segmenter: Segmenter, tmp_path: Path
) -> None:
    stages = segmenter.stages(sample_photos()["chelsea"])
    dump = dump_stages(stages, segmenter.artifact, "litert")
    data = write_dump(dump, tmp_path / "d.safetensors").read_bytes()
    good = client.post("/api/validate", files={"dump": ("d.safetensors", data)}).json()
    assert good["verdict"] == "pass"
    dump.tensors["input"][...] = dump.tensors["input"][..., ::-1]
    data = write_dump(dump, tmp_path / "bgr.safetensors").read_bytes()
    bad = client.post("/api/validate", files={"dump": ("bgr.safetensors", data)}).json()
    assert bad["verdict"] == "fail"
    assert bad["first_bad_stage"] == "input"
    refused = client.post("/api/validate", files={"dump": ("d.safetensors", data[:-9])})
    assert refused.status_code == 422
    assert "truncated" in refused.json()["detail"]
    refused = client.post("/api/validate", files={"dump": ("d.pickle", data)})
    assert ".safetensors or .npz" in refused.json()["detail"]


def test_the_model_is_served_as_it_is(client: TestClient, segmenter: Segmenter) -> None:
    data = client.get("/api/artifacts/tflite-int8/model").content
    assert data == segmenter.bundle.path(segmenter.artifact).read_bytes()
    assert client.get("/api/artifacts/other/model").status_code == 404


def test_requests_of_other_sites_and_names_are_refused(client: TestClient) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.post("/api/sessions", data={"sample": "coffee"}, headers=headers)
        assert answer.status_code == 403
        assert "other sites" in answer.json()["detail"]
    answer = client.get("/api/info", headers={"Host": "Evil.example:80"})
    assert answer.status_code == 403
    assert "--allow-host evil.example" in answer.json()["detail"]
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.delete("/api/sessions/x", headers=own).status_code == 200
    assert client.get("/api/info", headers={"Host": "192.168.0.7:8008"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["[", "[::1", "[::1]x", "a b", "", "a@b", "127.0.0.1:99999", "[1]"]
)
def test_hosts_that_cannot_be_read_are_refused_with_the_headers(
    client: TestClient, host: str
) -> None:
    answer = client.get("/api/info", headers={"Host": host})
    assert (answer.status_code, "Host header" in answer.json()["detail"]) == (400, True)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "origin", ["http://[", "null", "http://localhost:81", "file://", "//localhost", "http://[v1.x]"]
)
def test_origins_of_no_page_of_ours_are_refused(client: TestClient, origin: str) -> None:
    answer = client.delete("/api/sessions/x", headers={"Origin": origin})
    assert answer.status_code == 403


def test_a_fault_of_the_program_has_the_headers_and_a_sentence() -> None:
    app = FastAPI()

    @app.get("/")
    async def fail() -> None:
        raise RuntimeError("secret")

    app.add_middleware(Guard, hosts=frozenset({"localhost"}), public=frozenset())
    answer = TestClient(app, base_url="http://localhost").get("/")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/", "/docs", "/api/info", "/static/js/app.js", "/nothing"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["x-content-type-options"] == "nosniff"


def test_the_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/docs", "/static/app.css"):
        text = client.get(path).text
        assert "http://" not in text
        assert "https://" not in text
        assert "url(" not in text


def test_the_api_is_described(client: TestClient) -> None:
    spec = client.get("/openapi.json").json()
    assert {"/api/segment", "/api/effect", "/api/validate"} <= set(spec["paths"])
    for methods in spec["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            assert {"400", "403", "404", "413", "422", "429", "503"} <= set(operation["responses"])


def test_static_files_do_not_lead_out(client: TestClient) -> None:
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static/js/..%2f..%2fcli.py"):
        assert client.get(path).status_code == 404
