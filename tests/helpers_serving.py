"""What the tests of the server share: one application for the tests' run, asked in this process, and its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from epigone.serving.app import Limits, make_app
from epigone.serving.guard import AccessRules
from epigone.serving.library import ModelLibrary
from helpers_front import shared_run

HERE = "http://127.0.0.1"


@contextmanager
def serving(
    rules: AccessRules | None = None, limits: Limits | None = None, *, plain: bool = False, base_url: str = HERE
) -> Iterator[TestClient]:
    """A client of a server that has the run of all tests, and nothing else."""
    library = ModelLibrary(None, [shared_run().path], with_bases=False)
    app = make_app(library, rules or AccessRules(), limits or Limits(), plain=plain)
    with TestClient(app, base_url=base_url, raise_server_exceptions=False) as client:
        yield client


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
