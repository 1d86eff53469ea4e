"""The server goes on, and says what is so, when clients leave, models change under it, and when it is told to end."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

import load
from conftest import Reliability, keeping
from epigone.model.gpt2 import load_model
from epigone.runs.folder import RunFolder
from epigone.serving.library import ModelLibrary
from helpers_front import environment, finish, shared_run, start, wait_for_line
from helpers_serving import Live, join_chunks, live, read_events, wait_until

GROUP = "The server"
LONG: dict[str, Any] = {"prompt": "Thou", "max_tokens": 4000, "stop_at": "anywhere", "seed": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live() as server:
        yield server


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder of runs with one that the test may change."""
    shutil.copytree(shared_run().path, tmp_path / "runs" / "novel")
    return tmp_path / "runs"


# -- clients


def test_nothing_is_computed_for_a_client_who_has_left(server: Live, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "a client leaves in mid-stream"):
        engine, n_left = server.service.engine, server.service.counts.n_left
        with server.open_stream(**LONG):
            assert engine.n_rows == 1
        wait_until(lambda: engine.n_rows == 0, 1)
        wait_until(lambda: (server.service.counts.n_open, server.service.counts.n_left) == (0, n_left + 1), 1)


def test_one_who_waits_for_the_whole_answer_may_leave_too(server: Live, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "a client leaves that waits for a whole answer"):
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{server.url}/v1/completions", json=LONG, timeout=0.3)
        wait_until(lambda: server.service.engine.n_rows == 0, 1)
        wait_until(lambda: server.service.counts.n_open == 0, 1)


def test_a_client_who_leaves_and_one_who_does_not_read_harm_no_other(server: Live, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "a client does not read what it asked for"):
        how = {"prompt": "When", "max_tokens": 60, "seed": 5, "logprobs": 1}
        alone = server.post(**how).json()["choices"]
        with server.open_stream(**LONG | {"logprobs": 20}):  # of which nothing more is read
            with server.open_stream(**LONG):
                pass
            assert server.post(**how).json()["choices"] == alone
            assert httpx2.get(f"{server.url}/health").status_code == 200


def test_what_comes_slowly_or_not_at_all_holds_nothing_up(
    server: Live, monkeypatch: pytest.MonkeyPatch, reliability: Reliability
) -> None:
    with keeping(reliability, GROUP, "twenty connections on which nothing comes, or slowly"):
        monkeypatch.setattr("epigone.serving.server.IDLE_SECONDS", 0.2)
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for connection in silent[10:]:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert server.post(prompt="Thou", max_tokens=2).status_code == 200
        for connection in silent:
            connection.settimeout(5)
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
            connection.close()


def test_silent_connections_keep_no_one_out(
    server: Live, monkeypatch: pytest.MonkeyPatch, reliability: Reliability
) -> None:
    """At the limit the oldest of them makes place; where all ask for something, a new one is closed."""
    with keeping(reliability, GROUP, "more connections than there may be"):
        monkeypatch.setattr("epigone.serving.server.MOST_CONNECTIONS", 5)
        connections = server.server.server_state.connections
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
        assert server.post(prompt="Thou", max_tokens=2).status_code == 200
        assert len(connections) <= 5
        for connection in held:
            connection.close()
        wait_until(lambda: not connections, 10)
        with ExitStack() as running:
            for _ in range(5):
                running.enter_context(server.open_stream(**LONG))
            with pytest.raises(httpx2.TransportError):
                server.post(prompt="Thou", max_tokens=2)
        wait_until(lambda: not connections, 10)
        assert server.post(prompt="Thou", max_tokens=2).status_code == 200


# -- models


def test_a_run_that_goes_on_learning_is_read_again(copied: Path, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "a run goes on learning while it is served"):
        how: dict[str, Any] = {"model": "novel", "prompt": "Thou", "max_tokens": 20, "seed": 1}
        library = ModelLibrary(copied, with_bases=False)
        with live(library) as server:
            before = server.post(**how).json()
            assert server.post(**how).json()["choices"] == before["choices"] and library.n_loads == 1
            with server.open_stream(**LONG | {"max_tokens": 300, "model": "novel"}) as running:
                folder = RunFolder(copied / "novel")
                model = load_model(folder.model)
                with torch.no_grad():
                    model.transformer.wte.weight *= 1.5
                folder.keep_best(model)
                after = server.post(**how).json()
                assert after["system_fingerprint"] != before["system_fingerprint"] and library.n_loads == 2
                assert after["choices"][0]["text"] != before["choices"][0]["text"]
                assert b"[DONE]" in read_all(running)


def test_a_run_that_is_deleted_is_gone_and_a_new_one_is_there(copied: Path, reliability: Reliability) -> None:
    fault = "a run is deleted while it is served"
    with keeping(reliability, GROUP, fault), live(ModelLibrary(copied, with_bases=False)) as server:
        with server.open_stream(**LONG | {"max_tokens": 300, "model": "novel", "max_copy": 30}) as running:
            shutil.rmtree(copied / "novel")
            gone = server.post(model="novel")
            assert gone.status_code == 404 and gone.json()["error"]["code"] == "model_not_found"
            assert b"[DONE]" in read_all(running)
        shutil.copytree(shared_run().path, copied / "poems")
        assert server.post(model="poems", max_tokens=2).status_code == 200


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_is_an_error_of_its_own(copied: Path, name: str, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "a model is damaged while it is served"):
        shutil.copytree(copied / "novel", copied / "other")
        file = copied / "novel" / "model" / name
        whole = file.read_bytes()
        with live(ModelLibrary(copied, with_bases=False)) as server:
            file.write_bytes(whole[: len(whole) // 2])
            broken = server.post(model="novel", max_tokens=2)
            assert broken.status_code == 503 and str(copied) not in broken.text
            assert server.post(model="other", max_tokens=2).status_code == 200
            for path in ("/v1/models", "/api/models", "/api/runs/novel"):
                assert httpx2.get(server.url + path).status_code == 200
            file.write_bytes(whole)
            assert server.post(model="novel", max_tokens=2).status_code == 200


def test_models_are_unloaded_when_memory_is_short(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("second", "third"):
        shutil.copytree(copied / "novel", copied / name)
    library = ModelLibrary(copied, with_bases=False)
    for name in ("novel", "second"):
        library.load(library.find(name))
    assert library.loaded == ["novel", "second"]
    library.load(library.find("novel"))
    monkeypatch.setattr("epigone.serving.library.find_free_bytes", lambda _: 0 if len(library.loaded) > 1 else 1 << 40)
    library.load(library.find("third"))
    assert library.loaded == ["novel", "third"], "the one that was used last stays"


def test_a_failure_of_the_model_harms_no_later_request(
    server: Live, monkeypatch: pytest.MonkeyPatch, reliability: Reliability
) -> None:
    with keeping(reliability, GROUP, "a step of the model fails"):

        def fail(*_: object) -> None:
            raise RuntimeError("a broken step")

        with monkeypatch.context() as broken:
            broken.setattr("epigone.generation.batch.Generation.advance", fail)
            answer = server.post(prompt="Thou")
            assert answer.status_code == 500 and "broken" not in answer.text
            chunks = server.post(prompt="Thou", stream=True).text
            assert json.loads(chunks.removeprefix("data: "))["error"]["type"] == "server_error"
        assert server.post(prompt="Thou", max_tokens=2).status_code == 200


# -- a run that is learning


def test_what_a_run_records_is_sent_as_it_comes(copied: Path) -> None:
    metrics = copied / "novel" / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join(lines[:3]))
    with live(ModelLibrary(copied, with_bases=False)) as server:
        assert httpx2.get(f"{server.url}/api/runs/novel").json()["state"] == "learning"
        with httpx2.stream("GET", f"{server.url}/api/runs/novel/live?past=1", timeout=20) as answer:
            events = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
            first = [next(events) for _ in range(3)]
            with metrics.open("ab") as file:
                file.write(lines[3][:20])
                file.flush()
                time.sleep(0.6)
                file.write(lines[3][20:])
            later = next(events)
    assert [event["event"] for event in [*first, later]] == [json.loads(line)["event"] for line in lines[:4]]


# -- its end


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side has nothing more to say."""
    received = b""
    connection.settimeout(60)
    while b"[DONE]" not in received and (data := connection.recv(65536)):
        received += data
    return received


def test_texts_in_progress_end_where_they_are_when_time_is_up(reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "shut down, and texts take too long"):
        with live(drain_seconds=0.2) as server:
            running = server.open_stream(**LONG)
            server.server.should_exit = True
            wait_until(lambda: server.service.draining)
            received = read_all(running).decode()
            running.close()
        assert '"finish_reason":"length"' in received and received.rstrip("0\r\n").endswith("data: [DONE]")


@pytest.mark.slow
def test_it_ends_cleanly_in_mid_stream_and_starts_again_after_a_kill(tmp_path: Path, reliability: Reliability) -> None:
    """SIGTERM lets the text finish, ends with exit code 0; after SIGKILL the same port and answers are there again."""
    with keeping(reliability, GROUP, "kill -9 and a new start; SIGTERM in mid-stream"):
        arguments = ("serve", str(shared_run().path), "--port")
        first = start(*arguments, "0")
        url = wait_for_line(first, "epigone serves at").split()[-1].rstrip("/")
        port = int(url.rpartition(":")[2])
        how = {"prompt": "Thou", "max_tokens": 40, "seed": 1, "stop_at": "anywhere"}
        text = httpx2.post(f"{url}/v1/completions", json=how, timeout=60).json()["choices"][0]["text"]
        first.kill()
        finish(first)
        second = start(*arguments, port)
        wait_for_line(second, "epigone serves at")
        with httpx2.stream(
            "POST", f"{url}/v1/completions", json=how | {"stream": True, "max_tokens": 400}, timeout=60
        ) as answer:
            parts = answer.iter_text()
            begun = next(parts)
            second.send_signal(signal.SIGTERM)
            chunks = read_events(begun + "".join(parts))
        assert join_chunks(chunks)[0].startswith(text[:20])
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        outcome = finish(second)
        assert outcome.code == 0 and "Traceback" not in outcome.err


# -- the machine


@pytest.mark.slow
def test_a_full_disk_changes_no_answer(tmp_path: Path, reliability: Reliability) -> None:
    """Nothing is written for an answer. The kernel is compiled before, else torch computes other bits."""
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": "Thou", "max_tokens": 30, "seed": 1, "max_copy": 30}),
        ("/v1/completions", {"prompt": "Thou", "max_tokens": 30, "seed": 2, "best_of": 3, "best_by": "style"}),
        ("/v1/score", {"text": "Shall I compare thee to a summer's day?"}),
        ("/api/copies", {"text": "Shall I compare thee to a summer's day?"}),
        ("/api/quiz", {"count": 2, "length": 10}),
    ]
    answers = []
    with keeping(reliability, GROUP, "a full disk: no file can grow"):
        for limit in ("unlimited", "0"):
            arguments = [sys.executable, "-m", "epigone", "serve", str(shared_run().path), "--port", "0"]
            server = subprocess.Popen(
                ["sh", "-c", f'ulimit -f {limit}; exec "$@"', "sh", *arguments],
                env=environment(EPIGONE_CACHE=str(tmp_path)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            url = wait_for_line(server, "epigone serves at").split()[-1].rstrip("/")
            found = [httpx2.post(url + path, json=body, timeout=60) for path, body in requests]
            answers.append([(answer.status_code, drop_names(answer.json())) for answer in found])
            server.send_signal(signal.SIGTERM)
            assert finish(server).code == 0
        assert answers[0] == answers[1] and {status for status, _ in answers[0]} == {200}


def drop_names(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what each has of its own."""
    return {name: value for name, value in answer.items() if name not in ("id", "created")}


@pytest.mark.slow
def test_thousands_of_silent_connections_keep_no_one_out(reliability: Reliability) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    n_connections = min(10_000, most - 1_000)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_connections + 1_000, most))
    held: list[socket.socket] = []
    try:
        with keeping(reliability, GROUP, f"{n_connections:,} silent connections"), load.serving() as server:
            url = f"http://127.0.0.1:{server.port}/v1/completions"
            for number in range(n_connections):
                held.append(socket.create_connection(("127.0.0.1", server.port), timeout=30))
                if number % 1_000 == 999:
                    answer = httpx2.post(url, json={"prompt": "Thou", "max_tokens": 2}, timeout=30)
                    assert answer.status_code == 200
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_hours_at_the_limit_lose_and_mix_nothing(reliability: Reliability) -> None:
    """Half a minute of them here; `python tools/load.py soak --minutes 30` for longer."""
    fault = "64 clients at a queue of 48 for half a minute, half of whom break off"
    with keeping(reliability, GROUP, fault), load.serving("--queue", "48") as server:
        result = asyncio.run(load.soak(server, minutes=0.5, n_clients=64, model="small"))
        assert result.is_sound, (result.counts, result.errors[:5], result.n_open)
        assert result.counts["answered"] > 10 and result.counts["broken off"] > 10 and result.counts["429"]
        assert result.growth < 60
