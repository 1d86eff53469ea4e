"""Clients that others wrote, unmodified, get what they expect from the server: openai, langchain-openai, llm, lm-eval.

And what others send that are not installed here: HTTP as curl, Go's and old clients write it.
"""

from __future__ import annotations

import inspect
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers_front import shared_run
from helpers_serving import Live, live, read_events

PROMPT = "From fairest creatures"


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live() as found:
        yield found


@pytest.fixture(scope="module")
def address(server: Live) -> str:
    """Of the API."""
    return f"{server.url}/v1"


# -- HTTP

BODY = json.dumps({"prompt": PROMPT, "max_tokens": 4, "seed": 4}).encode()
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKS = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:])) + b"0\r\n\r\n"


def send(server: Live, *parts: bytes) -> bytes:
    """All that the server says to these parts, one after another, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        connection.settimeout(30)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    return received


def head(*lines: str, version: str = "1.1", host: str = "Host: 127.0.0.1") -> bytes:
    all_lines = [f"POST /v1/completions HTTP/{version}", host, "content-type: application/json", *lines]
    return ("\r\n".join(all_lines) + "\r\n").encode()


@pytest.mark.parametrize(
    ("parts", "n_answers"),
    [
        ([head("connection: close"), LENGTH.encode(), b"\r\n", BODY], 1),
        ([head("transfer-encoding: chunked", "connection: close", ""), CHUNKS], 1),
        ([head("Connection: close", "Expect: 100-continue"), LENGTH.encode(), b"\r\n", BODY], 1),
        ([head(version="1.0"), LENGTH.encode(), b"\r\n", BODY], 1),
        ([head() + LENGTH.encode() + b"\r\n" + BODY, head("connection: close") + LENGTH.encode() + b"\r\n" + BODY], 2),
    ],
    ids=["in parts", "chunked", "expect", "1.0", "two on one connection"],
)
def test_http_may_be_written_in_every_way(server: Live, parts: list[bytes], n_answers: int) -> None:
    whole = server.post(prompt=PROMPT, max_tokens=4, seed=4).json()["choices"]
    received = send(server, *parts)
    assert received.count(b"HTTP/1.1 200 OK") == n_answers
    answers = [part for part in received.split(b"\r\n\r\n") if part.startswith(b"{")]
    found = [json.JSONDecoder().raw_decode(part.decode())[0]["choices"] for part in answers]
    assert found == [whole] * n_answers


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(server: Live) -> None:
    body = BODY[:-1] + b', "stream": true}'
    received = send(server, head(f"Content-Length: {len(body)}", "", version="1.0"), body)
    start, _, events = received.decode().partition("\r\n\r\n")
    assert "chunked" not in start.lower() and read_events(events)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"]
)
def test_a_client_that_holds_conversations_is_told_what_to_ask_for(server: Live, path: str) -> None:
    answer = server.post(path, messages=[{"role": "user", "content": "hello"}])
    assert answer.status_code == 404 and "POST /v1/completions, with a prompt" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/completions", "/v1/v1/completions", "/v1/completions/", "/api/generate", "/completion"]
)
def test_a_client_with_another_base_url_is_told_the_right_one(server: Live, path: str) -> None:
    answer = server.post(path, prompt=PROMPT)
    assert answer.status_code == 404 and "base URL" in answer.json()["error"]["message"]


# -- openai


@pytest.fixture
def openai(address: str) -> Iterator[Any]:
    module = pytest.importorskip("openai")
    with module.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


def test_openai_gets_texts(openai: Any) -> None:
    answer = openai.completions.create(
        model="run", prompt=PROMPT, max_tokens=20, n=2, seed=4, extra_body={"stop_at": "anywhere"}
    )
    expected = shared_run().write(PROMPT, length=20, count=2, seed=4, stop_at="anywhere")
    assert [choice.text for choice in answer.choices] == expected
    assert answer.usage.completion_tokens == 40 and answer.choices[0].finish_reason == "length"


def test_openai_gets_a_stream(openai: Any) -> None:
    how: dict[str, Any] = {"model": "run", "prompt": PROMPT, "max_tokens": 20, "seed": 4}
    whole = openai.completions.create(**how)
    *chunks, last = openai.completions.create(**how, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text and len(chunks) > 1
    assert last.usage.completion_tokens == whole.usage.completion_tokens > 5 and last.choices == []


def test_openai_may_use_every_parameter_that_it_has(openai: Any) -> None:
    how: dict[str, Any] = {
        "model": "run", "prompt": [PROMPT, "Thou"], "max_tokens": 8, "n": 2, "best_of": 2, "seed": 4, "echo": True,
        "stop": ["Zq", "Zr"], "temperature": 0.7, "top_p": 0.9, "presence_penalty": 0.5, "frequency_penalty": 0.5,
        "logit_bias": {"50": -100}, "logprobs": 3, "user": "me", "suffix": None,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    ours = {"extra_headers", "extra_query", "extra_body", "timeout", "stream"}
    assert set(inspect.signature(openai.completions.create).parameters) - ours == set(how)
    whole = openai.completions.with_raw_response.create(**how)
    assert "x-epigone-ignored" not in whole.headers
    texts = {choice.index: choice.text for choice in whole.parse().choices}
    streamed = dict.fromkeys(texts, "")
    for chunk in openai.completions.create(**how, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == texts and len(texts) == 4


def test_openai_gets_log_probabilities_of_prompts(openai: Any) -> None:
    """As the evaluation harness asks for them: ids, an echo, and the likeliest token."""
    ids = [38, 82, 79, 77]
    answer = openai.completions.create(
        model="run", prompt=[ids, ids[:2]], max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234
    )
    for choice, n_ids in zip(answer.choices, (4, 2), strict=True):
        told = choice.logprobs
        assert len(told.token_logprobs) == len(told.tokens) == len(told.top_logprobs) == n_ids + 1
        assert told.token_logprobs[0] is None and all(value < 0 for value in told.token_logprobs[1:])
        assert all(
            own <= max(best.values()) for own, best in zip(told.token_logprobs[1:], told.top_logprobs[1:], strict=True)
        )
    assert answer.choices[0].logprobs.token_logprobs[1] == answer.choices[1].logprobs.token_logprobs[1]


def test_openai_raises_its_own_errors(openai: Any) -> None:
    import openai as module

    with pytest.raises(module.NotFoundError, match="There is no model"):
        openai.completions.create(model="davinci", prompt=PROMPT)
    with pytest.raises(module.BadRequestError) as wrong:
        openai.completions.create(model="run", prompt=PROMPT, n=99)
    assert wrong.value.param == "n"
    assert openai.completions.create(model="run", prompt=PROMPT, max_tokens=1).choices


def test_openai_lists_models(openai: Any) -> None:
    assert [model.id for model in openai.models.list()] == ["run"]
    assert openai.models.retrieve("run").object == "model"


# -- langchain


@pytest.fixture
def langchain(address: str) -> Any:
    module = pytest.importorskip("langchain_openai")
    return module.OpenAI(base_url=address, api_key="none", model="run", max_tokens=12, seed=3, temperature=0.7)


def test_langchain_gets_texts(langchain: Any) -> None:
    answer = langchain.generate([PROMPT, "Thou", "When"])
    assert len(answer.generations) == 3 and all(texts[0].text for texts in answer.generations)
    assert answer.llm_output["token_usage"]["completion_tokens"] == 36
    assert langchain.invoke(PROMPT) == answer.generations[0][0].text


def test_langchain_gets_a_stream(langchain: Any) -> None:
    pieces = list(langchain.stream(PROMPT))
    assert "".join(pieces) == langchain.invoke(PROMPT) and len(pieces) > 1


# -- llm


@pytest.fixture
def llm(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = pytest.importorskip("llm")
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    model = f"- model_id: epigone\n  model_name: run\n  api_base: {address}\n  completion: true\n"
    (tmp_path / "extra-openai-models.yaml").write_text(model, "utf-8")
    (tmp_path / "keys.json").write_text('{"openai": "none"}', "utf-8")
    return module.get_model("epigone")


@pytest.mark.parametrize("stream", [True, False])
def test_llm_gets_texts(llm: Any, stream: bool) -> None:
    text = llm.prompt(PROMPT, stream=stream, max_tokens=12, seed=3, temperature=0.7).text()
    assert text == llm.prompt(PROMPT, stream=False, max_tokens=12, seed=3, temperature=0.7).text() and text


# -- EleutherAI's evaluation harness


@pytest.fixture(params=[True, False], ids=["tokens", "texts"])
def harness(address: str, request: pytest.FixtureRequest) -> Any:
    module = pytest.importorskip("lm_eval.models.openai_completions")
    how = {"tokenizer": str(shared_run().path / "model"), "max_length": 48, "tokenized_requests": request.param}
    return module.LocalCompletionsAPI(base_url=f"{address}/completions", model="run", batch_size=2, **how)


def test_the_harness_gets_transformers_log_probabilities(harness: Any) -> None:
    from lm_eval.api.instance import Instance
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared_run().path / "model"
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )

    def sum_nats(before: list[int], ids: list[int]) -> float:
        with torch.no_grad():
            found = model(torch.tensor([before + ids])[:, :-1]).logits[0].log_softmax(-1)[-len(ids) :]
        return float(found.gather(1, torch.tensor(ids)[:, None]).sum())

    def ask(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
        asked = [Instance(request_type=kind, doc={}, arguments=each, idx=0) for each in arguments]
        return list(getattr(harness, kind)(asked))

    pairs = [(PROMPT, " we desire increase"), ("Thou", " art"), ("When forty winters", " shall besiege thy brow,\n")]
    for (before, after), (found, _) in zip(pairs, ask("loglikelihood", *pairs), strict=True):
        ids = tokenizer(before)["input_ids"]
        assert found == pytest.approx(sum_nats(ids, tokenizer(before + after)["input_ids"][len(ids) :]), abs=1e-4)
    [rolling] = ask("loglikelihood_rolling", ("Thou art more lovely and more temperate:",))
    whole = tokenizer("Thou art more lovely and more temperate:")["input_ids"]
    assert rolling == pytest.approx(sum_nats([tokenizer.eos_token_id], whole), abs=1e-4)
    written = ask("generate_until", (PROMPT, {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}))
    [text] = shared_run().write(PROMPT, length=12, temperature=0, stop_at="document")
    assert written == [text.split("\n\n")[0]]
