"""The server answers as OpenAI's API does, and as `epigone write` writes."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient
from transformers import GPT2LMHeadModel

from epigone.model.base_profile import BASES
from epigone.runs.folder import RunFolder
from epigone.serving.app import ChunkWriter, make_app
from epigone.serving.completions import Completion, Piece
from epigone.serving.engine import Engine
from epigone.serving.library import ModelLibrary
from epigone.serving.overview import describe_model
from epigone.serving.schemas import CompletionQuery
from epigone.tokens.tokenizer import list_token_bytes, load_tokenizer
from helpers_front import shared_run
from helpers_serving import HERE, complete, join_chunks, list_texts, serving, stream

PROMPT = "From fairest creatures"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


@pytest.fixture(scope="module")
def stock() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(shared_run().path / "model").eval()


def test_an_answer_has_the_form_of_openai_s(client: TestClient) -> None:
    answer = complete(client, PROMPT, max_tokens=5)
    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
    assert answer["model"] == "run" and isinstance(answer["created"], int)
    choice = answer["choices"][0]
    assert choice["index"] == 0 and choice["logprobs"] is None and choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["total_tokens"] == 5 + answer["usage"]["prompt_tokens"]


def test_what_is_written_is_what_epigone_writes(client: TestClient) -> None:
    settings = {"stop_at": "sentence", "temperature": 0.7, "top_p": 0.9}
    written = shared_run().write(PROMPT, length=30, count=3, seed=5, **settings)
    assert list_texts(complete(client, PROMPT, max_tokens=30, n=3, seed=5, **settings)) == written


def test_prompts_may_be_texts_or_ids_or_lists_or_nothing(client: TestClient) -> None:
    ids = client.post("/tokenize", json={"content": PROMPT}).json()["tokens"]
    for prompt in ([PROMPT], ids, [ids]):
        assert list_texts(complete(client, prompt, seed=3)) == list_texts(complete(client, PROMPT, seed=3))
    for several in ([PROMPT, ""], [ids, []]):
        answer = complete(client, several, n=2, seed=3)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        assert list_texts(answer) == [
            text for prompt in several for text in list_texts(complete(client, prompt, n=2, seed=3))
        ]
    begun = list_texts(complete(client, "", seed=3))
    assert begun == list_texts(complete(client, [], seed=3)) == list_texts(complete(client, None, seed=3))


@pytest.mark.parametrize("logprobs", [None, 3])
def test_a_stream_has_the_same_text_as_an_answer(client: TestClient, logprobs: int | None) -> None:
    how = {"max_tokens": 25, "n": 2, "seed": 9, "logprobs": logprobs, "stop": ["e th", "zzz"]}
    chunks = stream(client, PROMPT, **how)
    assert join_chunks(chunks) == dict(enumerate(list_texts(complete(client, PROMPT, **how))))
    ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert len(ends) == 2


def test_a_stream_with_log_probabilities_has_a_chunk_for_each_token(client: TestClient) -> None:
    whole = complete(client, PROMPT, max_tokens=20, seed=2, logprobs=2)["choices"][0]["logprobs"]
    chunks = [
        choice for chunk in stream(client, PROMPT, max_tokens=20, seed=2, logprobs=2) for choice in chunk["choices"]
    ]
    told = [chunk for chunk in chunks if chunk["logprobs"]]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [chunk["logprobs"][name] for chunk in told] == [[one] for one in whole[name]]


def test_usage_comes_last_in_a_stream_that_is_asked_for_it(client: TestClient) -> None:
    *chunks, last = stream(client, PROMPT, max_tokens=4, stream_options={"include_usage": True})
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 4
    assert all(chunk["usage"] is None for chunk in chunks)


def test_prompts_have_transformers_log_probabilities(client: TestClient, stock: GPT2LMHeadModel) -> None:
    ids = client.post("/tokenize", json={"content": PROMPT}).json()["tokens"]
    answer = complete(client, PROMPT, echo=True, max_tokens=0, logprobs=4)
    told = answer["choices"][0]["logprobs"]
    with torch.inference_mode():
        expected = stock(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
    for place, token in enumerate(ids[1:]):
        assert told["token_logprobs"][place + 1] == pytest.approx(float(expected[place, token]), abs=1e-4)
        best = sorted(expected[place].topk(4).values.tolist())
        assert sorted(told["top_logprobs"][place + 1].values())[-4:] == pytest.approx(best, abs=1e-4)
    assert "".join(told["tokens"]) == answer["choices"][0]["text"] == PROMPT
    assert told["text_offset"][1] == len(told["tokens"][0])


@pytest.mark.slow
@pytest.mark.parametrize("base", list(BASES))
def test_prompts_of_bases_have_transformers_log_probabilities(base: str) -> None:
    """transformers has to be told to compute in fp32: by default it takes the format of the file, bf16."""
    text = (
        "It was the best of times, it was the worst of times.\ndef f(x): return x\nna\u00efve \u201cquoted\u201d \u2026"
    )
    stock = GPT2LMHeadModel.from_pretrained(BASES[base].folder, dtype=torch.float32).eval()
    with TestClient(make_app(ModelLibrary(None), engine=Engine(2)), base_url=HERE) as client:
        answer = complete(client, text, model=base, echo=True, max_tokens=0, logprobs=5, return_token_ids=True)
    told = answer["choices"][0]["logprobs"]
    ids = answer["choices"][0]["prompt_token_ids"]
    with torch.inference_mode():
        expected = stock(torch.tensor([ids])).logits[0].log_softmax(-1)
    own = [float(expected[place, token]) for place, token in enumerate(ids[1:])]
    assert told["token_logprobs"][1:] == pytest.approx(own, abs=1e-4) and len(own) > 20
    for place, best in enumerate(told["top_logprobs"][1:]):
        assert sorted(best.values())[-5:] == pytest.approx(sorted(expected[place].topk(5).values.tolist()), abs=1e-4)


def test_texts_have_transformers_log_probabilities(client: TestClient, stock: GPT2LMHeadModel) -> None:
    """In the number format that is written with, so not to the last digit."""
    answer = complete(client, PROMPT, max_tokens=12, seed=4, logprobs=1, return_token_ids=True)["choices"][0]
    ids = [*answer["prompt_token_ids"], *answer["token_ids"]]
    with torch.inference_mode():
        expected = stock(torch.tensor([ids])).logits[0].log_softmax(-1)
    first = len(answer["prompt_token_ids"])
    own = [float(expected[place - 1, ids[place]]) for place in range(first, len(ids))]
    assert answer["logprobs"]["token_logprobs"] == pytest.approx(own, abs=0.05)


def test_a_space_at_the_end_of_a_prompt_begins_the_first_word_with_log_probabilities_too(
    client: TestClient, stock: GPT2LMHeadModel
) -> None:
    """The page asks for them, and people type a space before they ask for more. A log-probability is then that of the
    token under the condition that it begins with a space."""
    how = {"max_tokens": 9, "seed": 4, "n": 3, "stop_at": "anywhere"}
    plain = complete(client, f"{PROMPT} ", **how)["choices"]
    told = complete(client, f"{PROMPT} ", logprobs=5, **how)["choices"]
    spaced = complete(client, PROMPT, max_tokens=1, return_token_ids=True)["choices"][0]["prompt_token_ids"]
    token_bytes = list_token_bytes(load_tokenizer(shared_run().path / "model"))
    pieces = [piece.decode("utf-8", "replace") for piece in token_bytes]
    with torch.no_grad():
        logits = stock(torch.tensor([spaced])).logits[0, -1]
    logits[[not piece.startswith(" ") for piece in pieces]] = -torch.inf
    best = {pieces[place][1:]: float(logits.log_softmax(-1)[place]) for place in logits.topk(5).indices.tolist()}
    for one, other in zip(plain, told, strict=True):
        assert one["text"] == other["text"] == "".join(other["logprobs"]["tokens"])
        assert not other["text"].startswith(" ") and other["logprobs"]["text_offset"][0] == 0
        first = other["logprobs"]["top_logprobs"][0]
        assert {name: first[name] for name in best} == pytest.approx(best, abs=0.05)
    streamed = join_chunks(stream(client, f"{PROMPT} ", logprobs=5, **how))
    assert streamed == {one["index"]: one["text"] for one in told}


def test_an_echo_goes_before_the_text(client: TestClient) -> None:
    how = {"max_tokens": 6, "seed": 8, "logprobs": 0}
    plain, echoed = (complete(client, PROMPT, echo=echo, **how)["choices"][0] for echo in (False, True))
    assert echoed["text"] == PROMPT + plain["text"]
    n_more = len(echoed["logprobs"]["tokens"]) - len(plain["logprobs"]["tokens"])
    assert echoed["logprobs"]["tokens"][n_more:] == plain["logprobs"]["tokens"]
    assert echoed["logprobs"]["text_offset"][n_more] == len(PROMPT)
    assert join_chunks(stream(client, PROMPT, echo=True, **how)) == {0: echoed["text"]}


def test_a_text_ends_before_a_stop_string(client: TestClient) -> None:
    whole = complete(client, PROMPT, max_tokens=40, seed=1, logprobs=0)["choices"][0]
    stop = whole["text"][20:23]
    cut = complete(client, PROMPT, max_tokens=40, seed=1, stop=stop, logprobs=0)["choices"][0]
    assert cut["finish_reason"] == "stop" and whole["text"].startswith(cut["text"] + stop) and stop not in cut["text"]
    assert all(place < len(cut["text"]) for place in cut["logprobs"]["text_offset"])


def test_a_bias_decides_what_is_written(client: TestClient) -> None:
    ids = client.post("/tokenize", json={"content": "e"}).json()["tokens"]
    answer = complete(client, PROMPT, max_tokens=5, logit_bias={str(ids[0]): 100}, loop_guard="off", words="any")
    assert list_texts(answer) == ["eeeee"]


def test_penalties_count_what_the_text_has(client: TestClient) -> None:
    ids = client.post("/tokenize", json={"content": "e"}).json()["tokens"]
    how = {"max_tokens": 8, "logit_bias": {str(ids[0]): 60}, "loop_guard": "off", "words": "any", "temperature": 0}
    often = list_texts(complete(client, PROMPT, frequency_penalty=10, **how))[0]
    assert often.startswith("eeee") and often != "e" * 8
    assert list_texts(complete(client, PROMPT, presence_penalty=10, **how)) == ["e" * 8]


def test_the_best_of_several_is_the_likeliest(client: TestClient) -> None:
    every = complete(client, PROMPT, n=4, seed=6, logprobs=0, stop_at="anywhere")["choices"]
    means = {each["text"]: math.fsum(each["logprobs"]["token_logprobs"]) for each in every}
    best = complete(client, PROMPT, n=2, best_of=4, seed=6, stop_at="anywhere")
    assert list_texts(best) == sorted(means, key=lambda text: -means[text])[:2]
    assert best["usage"]["completion_tokens"] == 64


def test_the_best_by_style_is_that_of_epigone_write(client: TestClient) -> None:
    best = shared_run().write(PROMPT, best_of=3, seed=6, length=40, stop_at="anywhere")
    asked = complete(client, PROMPT, best_of=3, best_by="style", seed=18, max_tokens=40, stop_at="anywhere")
    assert list_texts(asked) == best


def test_scores_are_those_of_epigone_score(client: TestClient) -> None:
    answer = client.post("/v1/score", json={"text": "Thou art more lovely and more temperate" * 5}).json()
    expected = shared_run().score("Thou art more lovely and more temperate" * 5)
    assert answer["nats"] == pytest.approx(expected.nats, rel=1e-5)
    assert answer["bits_per_byte"] == pytest.approx(expected.bits_per_byte, rel=1e-5)
    found = answer["logprobs"]["token_logprobs"]
    assert found == pytest.approx([token.log_probability for token in expected.tokens], abs=1e-4)


def test_what_is_ignored_is_named(client: TestClient) -> None:
    answer = client.post("/v1/completions", json={"prompt": PROMPT, "tfs": 1, "user": "me", "a\r\nb": 2})
    assert answer.status_code == 200 and answer.headers["x-epigone-ignored"] == "tfs, ?"


WRONG = [
    ({"prompt": 3}, "prompt"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"n": True}, "n"),
    ({"n": 3, "best_of": 2}, "best_of"),
    ({"best_of": 2, "stream": True}, "best_of"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"logprobs": 21}, "logprobs"),
    ({"suffix": "end"}, "suffix"),
    ({"messages": [{"role": "user", "content": "hello"}]}, "messages"),
    ({"stop": ["x"] * 65}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"),
    ({"prompt": [99999999]}, "prompt"),
    ({"prompt": ["a"] * 33}, "prompt"),
    ({"prompt": ["a"] * 20, "n": 16}, "n"),
    ({"stop_at": "never"}, "stop_at"),
]


@pytest.mark.parametrize(("fields", "name"), WRONG, ids=str)
def test_what_is_wrong_is_named_and_harms_nothing(client: TestClient, fields: dict[str, object], name: str) -> None:
    answer = client.post("/v1/completions", json=fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == name and error["type"] == "invalid_request_error" and error["message"].startswith(name)
    assert list_texts(complete(client, PROMPT, max_tokens=1))


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/audio/speech", "/nothing"])
def test_an_address_that_is_not_there_is_said_so_whatever_the_method(client: TestClient, path: str) -> None:
    for answer in (client.get(path), client.post(path, json={"input": "x"})):
        assert answer.status_code == 404 and "nothing at this address" in answer.json()["error"]["message"]
    assert client.get("/v1/completions").status_code == 405


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{"prompt": "a",\n}', "line 2, column 1"),
        (b'{"temperature": NaN}', "(NaN)"),
        (b'{"prompt": "\xe4"}', "not in UTF-8"),
        (b'{"max_tokens": ' + b"9" * 9_000 + b"}", "not valid JSON."),
        (b"[" * 100_000, "not valid JSON."),
        (b"null", "not a JSON object"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_wrong_with_a_body_is_said(client: TestClient, body: bytes, said: str) -> None:
    answer = client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]


def test_a_body_that_is_compressed_is_told_apart_from_one_that_is_broken(client: TestClient) -> None:
    body, headers = gzip.compress(b'{"prompt": "a"}'), {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = client.post("/v1/completions", content=body, headers=headers)
    assert answer.status_code == 415 and "compressed" in answer.json()["error"]["message"]


def test_a_byte_order_mark_does_not_matter(client: TestClient) -> None:
    body = '\ufeff{"prompt": "Thou", "max_tokens": 1}'.encode()
    assert client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"}).status_code == 200


def test_with_a_length_of_minus_one_a_text_goes_on_until_it_is_stopped(client: TestClient) -> None:
    """As llama.cpp and LM Studio have it."""
    (choice,) = complete(client, PROMPT, max_tokens=-1, seed=4, stop=["th", "e"])["choices"]
    whole = complete(client, PROMPT, max_tokens=300, seed=4)["choices"][0]["text"]
    assert choice["finish_reason"] == "stop" and choice["text"] == re.split("th|e", whole)[0]


def test_names_and_forms_of_other_programs_are_understood(client: TestClient) -> None:
    """Those of text-generation-webui, which SillyTavern sends beside OpenAI's, and an empty list where nothing is."""
    theirs = {"max_new_tokens": 9, "stopping_strings": ["\nYou:", "q"], "ban_eos_token": True, "logit_bias": []}
    answer = client.post("/v1/completions", json={"prompt": PROMPT, "seed": 4, **theirs})
    ours = complete(client, PROMPT, seed=4, max_tokens=9, stop=["\nYou:", "q"], ignore_eos=True)
    assert list_texts(answer.json()) == list_texts(ours) and "x-epigone-ignored" not in answer.headers


def test_models_are_listed(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert client.get("/v1/models/").json() == listed
    assert [model["id"] for model in listed["data"]] == ["run"]
    assert client.get("/v1/models/run").json() == listed["data"][0]
    missing = client.post("/v1/completions", json={"model": "../run"})
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_found"


def test_a_text_may_be_longer_than_the_context(client: TestClient) -> None:
    written = shared_run().write(PROMPT * 30, length=90, seed=1, stop_at="anywhere")
    assert list_texts(complete(client, PROMPT * 30, max_tokens=90, seed=1, stop_at="anywhere")) == written


def test_with_a_seed_of_minus_one_another_is_chosen_each_time(client: TestClient) -> None:
    """Programs for many servers send it when none was chosen: two answers that are alike would be an accident."""
    seeds = {complete(client, PROMPT, max_tokens=1, seed=-1)["choices"][0]["seed"] for _ in range(2)}
    assert len(seeds) == 2 and 2**32 - 1 not in seeds


def test_the_same_seed_gives_the_same_text_beside_other_requests(client: TestClient) -> None:
    """Requests of all kinds, which join and leave at different tokens; `token_logprobs` show the last bit."""
    asked: list[dict[str, object]] = [
        {"prompt": PROMPT[: 3 * number], "max_tokens": 20 + 9 * number, "seed": number, "logprobs": 1} | more
        for number, more in enumerate([{}, {"top_k": 5}, {"temperature": 0}, {"n": 3}, {"min_p": 0.1}, {"top_p": 0.5}])
    ]

    def ask(fields: dict[str, object]) -> object:
        return client.post("/v1/completions", json=fields).json()["choices"]

    alone = [ask(fields) for fields in asked]
    counts = client.app.state.service.engine.counts  # type: ignore[attr-defined]
    n_tokens, n_steps = counts.tokens, counts.steps
    with ThreadPoolExecutor(len(asked)) as pool:
        for _ in range(2):
            assert list(pool.map(ask, asked)) == alone
    assert counts.tokens - n_tokens > 1.5 * (counts.steps - n_steps), "they were not computed together"


def test_a_quiz_is_that_of_epigone_quiz(client: TestClient) -> None:
    answer = client.post("/api/quiz", json={"count": 4, "length": 8, "seed": 3}).json()
    expected = shared_run().quiz(4, 8, seed=3)
    assert [(each["text"], each["genuine"]) for each in answer["questions"]] == [
        (each.text, each.genuine) for each in expected
    ]
    assert len(answer["outcomes"]) == len(answer["shares"]) == len(expected) + 1
    assert all("on “Sonnets”" in line for line in answer["shares"]), answer["shares"][0]


def test_copies_are_shown_with_their_place(client: TestClient) -> None:
    line = "beauty's   rose might never DIE,\nBut as the riper"
    documents = shared_run().folder.read_documents()
    (found,) = client.post("/api/copies", json={"text": f"xyz {line} qqq"}).json()["passages"]
    assert f"xyz {line} qqq"[found["start"] : found["end"]].strip() == line
    document = str(documents[found["document"]][:])
    assert document[found["offset"] :].startswith(found["original"])
    assert " ".join(found["original"].lower().split()) == " ".join(line.lower().split())
    assert document[: found["offset"]].endswith(found["before"]) and found["after"]
    assert client.post("/api/copies", json={"text": "Nothing of this was ever written there."}).json() == {
        "model": "run",
        "passages": [],
    }


def test_the_page_is_told_all_of_a_run(client: TestClient) -> None:
    (model,) = client.get("/api/models").json()["models"]
    assert model["state"] == "finished" and model["title"] == "sonnets" and model["usable"]
    assert model["can"] == {"guidance": False, "copies": True, "quiz": True, "style": True}
    run = client.get("/api/runs/run").json()
    assert [each["loss"] for each in run["evaluations"]] == [each.loss for each in shared_run().evaluations]
    assert run["best"]["loss"] == min(each["loss"] for each in run["evaluations"])
    assert all(each["samples"] for each in run["samples"]) and run["steps"]
    shown = json.dumps([model, run])
    assert str(shared_run().path.parent) not in shown


def test_the_metrics_of_a_run_are_read_again_only_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shared_run().path, tmp_path / "novel")
    read, n_read = RunFolder.read_events, list[Path]()
    monkeypatch.setattr(RunFolder, "read_events", lambda folder: n_read.append(folder.path) or read(folder))
    (served,) = ModelLibrary(tmp_path, with_bases=False).list_models()
    first = describe_model(served)
    assert describe_model(served) == first and len(n_read) == 1
    metrics = RunFolder(served.folder).metrics
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join(line for line in lines if b'"finished"' not in line))
    assert describe_model(served) == first | {"state": "learning"} and len(n_read) == 2
    os.utime(metrics, (1, 1))
    assert describe_model(served)["state"] == "stopped", "that it has gone quiet is seen without its having changed"


def test_a_browser_keeps_the_page_s_files_and_asks_whether_they_are_the_same(client: TestClient) -> None:
    first = client.get("/main.js")
    assert first.headers["cache-control"] == "private, no-cache" and first.headers["etag"]
    again = client.get("/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"") and "private" in again.headers["cache-control"]
    assert client.get("/main.js", headers={"If-None-Match": '"other"'}).content == first.content
    assert client.get("/api/models").headers["cache-control"] == "no-store"


def test_an_evaluation_harness_gets_the_numbers_of_score(client: TestClient) -> None:
    """As lm-evaluation-harness asks: ids of different lengths, echoed, with one token more that it ignores."""
    library = ModelLibrary(None, [shared_run().path], with_bases=False)
    end = library.load(library.find("")).generator.end_of_text
    texts = ["From fairest creatures we desire increase", "Thou that art now"]
    scored = [client.post("/v1/score", json={"text": text}).json() for text in texts]
    ids = [[end, *each["token_ids"]] for each in scored]
    answer = complete(client, ids, max_tokens=1, temperature=0, echo=True, logprobs=1, seed=1234)
    for choice, each in zip(answer["choices"], scored, strict=True):
        first, *found, _ = choice["logprobs"]["token_logprobs"]
        assert first is None and found == pytest.approx(each["logprobs"]["token_logprobs"], abs=1e-5)
        assert -sum(found) == pytest.approx(each["nats"], abs=1e-4)


def test_text_that_came_together_is_one_chunk_and_nothing_is_out_of_order(client: TestClient) -> None:
    query = CompletionQuery(prompt=PROMPT, max_tokens=9, n=2, seed=1, logprobs=None)
    library = ModelLibrary(None, [shared_run().path], with_bases=False)
    completion = Completion(query, library.load(library.find("")))
    one, other = completion.choices
    chunks = ChunkWriter(completion)
    for choice, text in ((one, "a"), (other, "x"), (one, "b"), (other, None), (one, "c")):
        choice.reason = "stop" if text is None else None
        chunks.add(choice, None if text is None else Piece(text))
    events = [event.removeprefix("data: ") for event in chunks.take().decode().split("\n\n") if event]
    found = [json.loads(event)["choices"][0] for event in events]
    told = [(each["index"], each["text"], each["finish_reason"]) for each in found]
    assert told == [(1, "x", None), (1, "", "stop"), (0, "abc", None)] and chunks.take() == b""


def test_figures_are_in_prometheus_form(client: TestClient) -> None:
    complete(client, PROMPT, max_tokens=3)
    lines = client.get("/metrics").text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(figures["epigone_tokens_total"]) >= 3 and figures["epigone_requests_open"] == "0"
    assert int(figures['epigone_requests_total{path="/v1/completions",status="200"}']) >= 1
    assert all(line.startswith(("# HELP epigone_", "# TYPE epigone_")) for line in lines if line.startswith("#"))
