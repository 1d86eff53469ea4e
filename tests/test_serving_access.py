"""Only those are answered who may be: by name, origin, token, kind and size of what they send."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from epigone.errors import SettingsError
from epigone.serving.app import Limits
from epigone.serving.guard import AccessRules, split_host
from epigone.serving.server import is_loopback, make_rules
from helpers_serving import HERE, complete, serving

TOKEN = "open-up"
BODY = json.dumps({"prompt": "Thou", "max_tokens": 1})
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(limits=Limits(most_body_bytes=4_000)) as client:
        yield client


@pytest.fixture(scope="module")
def guarded() -> Iterator[TestClient]:
    rules = make_rules("0.0.0.0", names=("Novel.example",), origins=("https://page.example",), token=TOKEN)
    with serving(rules, base_url="http://192.0.2.7:8611") as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8611", "localhost", "LOCALHOST:1", "[::1]", "[::1]:80"])
def test_names_of_this_machine_are_known(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


STRANGE_HOSTS = [
    *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "user@localhost", "localhost:x"),
    *("127.0.0.1:8611:9", "[::1", "::1", "127.1", "0.0.0.0", "localhost.", "192.0.2.7", "localhost/x"),
]


@pytest.mark.parametrize("host", STRANGE_HOSTS)
def test_other_names_are_refused_whatever_is_asked(client: TestClient, host: str) -> None:
    """A name of someone else that leads here (DNS rebinding)."""
    for answer in (
        client.get("/health", headers={"Host": host}),
        client.post("/v1/completions", content=BODY, headers=JSON | {"Host": host}),
    ):
        assert answer.status_code == 403 and answer.json()["error"]["type"] == "permission_error"


def test_two_names_are_refused(client: TestClient) -> None:
    assert client.get("/health", headers=[("Host", "localhost"), ("Host", "localhost")]).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
    ids=str,
)
def test_pages_of_other_sites_get_nothing_done(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/v1/completions", content=BODY, headers=JSON | headers)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_page_of_this_server_may_ask(client: TestClient) -> None:
    own = {"Origin": HERE, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.post("/v1/completions", content=BODY, headers=JSON | own).status_code == 200


def test_a_link_to_the_page_may_be_followed(client: TestClient) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/health", headers=link).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json5", "multipart/form-data"]
)
def test_what_a_form_can_send_is_refused(client: TestClient, kind: str) -> None:
    assert client.post("/v1/completions", content=BODY, headers={"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"3", b'{"prompt": NaN}', b'{"temperature": Infinity}', b'{"prompt": "\xff"}',
        b"[" * 3_000, b'{"a":' * 700, b'{"prompt": "\\ud800"}', b'{"stop": "\\udfff", "prompt": 1}', b'{"n": 1e999}',
    ],
    ids=range(12),
)  # fmt: skip
def test_a_body_that_is_wrong_is_named_so_and_harms_nothing(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/completions", content=body, headers=JSON)
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert complete(client, "Thou", max_tokens=1)["choices"]


def test_a_body_that_is_too_large_is_refused_whether_or_not_its_length_is_told(client: TestClient) -> None:
    def send_in_parts() -> Iterator[bytes]:
        for _ in range(50):
            yield b"x" * 100

    assert client.post("/v1/completions", content=b"x" * 5_000, headers=JSON).status_code == 413
    assert client.post("/v1/completions", content=send_in_parts(), headers=JSON).status_code == 413
    for length in ("99999999999999999999", "-1", "1e3"):
        wrong = client.post("/v1/completions", content=b"{}", headers=JSON | {"Content-Length": length})
        assert wrong.status_code == 413


def test_answers_cannot_be_framed_run_or_kept(client: TestClient) -> None:
    for path in ("/health", "/nothing", "/v1/models"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/static/../app.py",
        "//etc/passwd",
        "/%00",
        "/..\\app.py",
        "/app.py",
    ],
)
def test_no_file_but_the_page_s_can_be_asked_for(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404) and "import" not in answer.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_clients_that_hold_conversations_are_told_what_to_ask_for(client: TestClient, path: str) -> None:
    answer = client.post(path, json={"model": "run", "messages": [{"role": "user", "content": "Thou"}]})
    assert answer.status_code == 404 and "/v1/completions" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "name", ["../run", "/etc/passwd", "run/../run", ".", "", "~", "https://evil.example/gpt2", "gpt2"]
)
def test_a_model_is_a_name_and_never_a_path(client: TestClient, name: str) -> None:
    answer = client.post("/v1/completions", json={"model": name, "max_tokens": 1})
    assert answer.status_code == (404 if name else 200)


# -- beyond this machine


def test_only_this_machine_needs_no_token() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.9", "example.org")] == [False] * 4
    assert make_rules("127.0.0.1", names=(), origins=(), token="").token == ""
    with pytest.raises(SettingsError, match="letters"):
        make_rules("0.0.0.0", names=(), origins=(), token="öffne dich")
    made = {make_rules("0.0.0.0", names=(), origins=(), token="").token for _ in range(3)}
    assert len(made) == 3 and min(map(len, made)) >= 32


def test_without_the_token_nothing_is_answered(guarded: TestClient) -> None:
    paths = [
        "/",
        "/v1/models",
        "/metrics",
        "/openapi.json",
        "/api/models",
        "/api/runs/run",
        "/v1/models/run",
        "/app.js",
    ]
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "epigone_token=x"},
    ):
        for path in paths:
            answer = guarded.get(path, headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert guarded.post("/v1/completions", content=BODY, headers=JSON | headers).status_code == 401
    assert guarded.get("/health").status_code == 200


def test_with_the_token_all_is(guarded: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/v1/models", headers=headers).status_code == 200
    assert guarded.post("/v1/completions", content=BODY, headers=JSON | headers).status_code == 200


def test_a_browser_keeps_the_token_and_does_not_show_it() -> None:
    with serving(AccessRules(token="secret")) as client:
        answer = client.get("/?token=secret", follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/v1/models").status_code == 200
        client.cookies.clear()
        assert client.get("/?token=wrong", follow_redirects=False).status_code == 401


def test_an_origin_that_is_allowed_may_ask_and_read(guarded: TestClient) -> None:
    page = {"Origin": "https://page.example", "Sec-Fetch-Site": "cross-site"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    answer = guarded.options("/v1/completions", headers=page | asked)
    assert answer.status_code == 204 and answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-credentials" not in answer.headers
    allowed = guarded.get("/v1/models", headers=page | {"Authorization": f"Bearer {TOKEN}"})
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == "https://page.example"
    other = guarded.options("/v1/completions", headers=asked | {"Origin": "https://other.example"})
    assert other.status_code == 403 and "access-control-allow-origin" not in other.headers


def test_hosts_beyond_this_machine_are_addresses_or_were_named(guarded: TestClient) -> None:
    for host, status in {"novel.example": 200, "10.1.2.3:80": 200, "[2001:db8::1]": 200, "evil.example": 403}.items():
        assert guarded.get("/health", headers={"Host": host}).status_code == status


def test_the_name_in_a_host_header() -> None:
    assert split_host("LocalHost:80") == "localhost" and split_host("[::1]:80") == "::1"
    assert split_host("a@b") is None and split_host("a b") is None and split_host("") is None


def test_more_requests_than_fit_are_told_to_come_back() -> None:
    with serving(limits=Limits(most_requests=1)) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        with service.admit():
            answer = client.post("/v1/completions", content=BODY, headers=JSON)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert complete(client, "Thou", max_tokens=1)["choices"]
        service.draining = True
        assert client.post("/v1/completions", content=BODY, headers=JSON).status_code == 503
        assert client.get("/health").status_code == 503


def test_a_text_ends_when_its_time_is_over() -> None:
    with serving(limits=Limits(seconds=0.3)) as client:
        (choice,) = complete(client, "Thou", max_tokens=8000, stop_at="anywhere")["choices"]
        assert choice["finish_reason"] == "length" and choice["text"]
