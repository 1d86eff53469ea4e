"""What the tests of the server share: one application for the tests' run, asked in this process, and its answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
from starlette.testclient import TestClient

from epigone.serving.app import Limits, Service, make_app
from epigone.serving.engine import Engine
from epigone.serving.guard import AccessRules
from epigone.serving.library import ModelLibrary
from epigone.serving.server import Server, bind, serve
from helpers_front import shared_run

HERE = "http://127.0.0.1"
N_THREADS = 2
"""Model threads, as on a machine with two cores."""


@contextmanager
def serving(
    rules: AccessRules | None = None,
    limits: Limits | None = None,
    *,
    runs: Sequence[Path] = (),
    plain: bool = False,
    base_url: str = HERE,
) -> Iterator[TestClient]:
    """A client of a server that has these runs, or that of all tests, and nothing else."""
    library = ModelLibrary(None, runs or [shared_run().path], with_bases=False)
    app = make_app(library, rules or AccessRules(), limits or Limits(), engine=Engine(N_THREADS), plain=plain)
    with TestClient(app, base_url=base_url, raise_server_exceptions=False) as client:
        yield client


@dataclass(frozen=True)
class Live:
    """A server on a socket."""

    url: str
    port: int
    server: Server

    @property
    def service(self) -> Service:
        return self.server.service

    def post(self, path: str = "/v1/completions", **fields: Any) -> Any:
        """The answer to a request."""
        return httpx2.post(self.url + path, json=fields, timeout=60)

    def open_stream(self, **fields: Any) -> socket.socket:
        """A connection on which a streamed answer has begun; 100 bytes and more of it were read."""
        body = json.dumps({"stream": True, **fields}).encode()
        lines = ["POST /v1/completions HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}"])
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        received = b""
        while b"data: " not in received:
            received += connection.recv(4096)
        return connection


@contextmanager
def live(
    library: ModelLibrary | None = None, limits: Limits | None = None, *, drain_seconds: float = 5
) -> Iterator[Live]:
    """A server that runs in a thread of this process; it has the run of all tests, or another library."""
    library = library or ModelLibrary(None, [shared_run().path], with_bases=False)
    app = make_app(library, AccessRules(), limits or Limits(), engine=Engine(N_THREADS))
    server = Server(app, drain_seconds=drain_seconds)
    address, started = bind("127.0.0.1", 0), Event()
    thread = Thread(target=serve, args=(server, address, started.set))
    thread.start()
    try:
        assert started.wait(30)
        yield Live(address.name().rstrip("/"), address.port, server)
    finally:
        server.should_exit = True
        thread.join(60)


def wait_until(happens: Callable[[], object], seconds: float = 5) -> None:
    """Fails where it does not happen in time."""
    ends = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


def complete(client: TestClient, prompt: Any = "", **more: Any) -> dict[str, Any]:
    """The answer to a request for completions."""
    answer = client.post("/v1/completions", json={"prompt": prompt, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def list_texts(answer: dict[str, Any]) -> list[str]:
    """Of its choices."""
    return [choice["text"] for choice in answer["choices"]]


def read_events(body: str) -> list[Any]:
    """The objects of a stream, which has to end as it should."""
    events = [event.removeprefix("data: ") for event in body.split("\n\n") if event]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def stream(client: TestClient, prompt: Any = "", **more: Any) -> list[Any]:
    """The chunks of a streamed answer."""
    answer = client.post("/v1/completions", json={"prompt": prompt, "stream": True, **more})
    assert answer.headers["content-type"].startswith("text/event-stream")
    return read_events(answer.text)


def join_chunks(chunks: list[Any]) -> dict[int, str]:
    """The text of each choice."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return texts
