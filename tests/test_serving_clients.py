"""Clients that others wrote, unmodified, get what they expect from the server: openai, langchain-openai and llm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers_front import shared_run
from helpers_serving import live

PROMPT = "From fairest creatures"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of the API."""
    with live() as server:
        yield f"{server.url}/v1"


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
    whole = openai.completions.create(**how).choices[0].text
    *chunks, last = openai.completions.create(**how, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole and len(chunks) > 1
    assert last.usage.completion_tokens == 20 and last.choices == []


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
