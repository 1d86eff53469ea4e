"""An exported page holds the model and nothing else, and its script computes what Python does with the same weights."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from epigone.errors import OutputError, SettingsError
from epigone.export import offline_page
from epigone.export.offline_page import PAGE, export_page, join_scripts, pack_model, render_page
from epigone.export.wasm import assemble
from epigone.generation.generator import TextGenerator
from epigone.model.decoder import FastDecoder
from epigone.model.weights import quantize_rows
from epigone.settings import WriteSettings, make_settings
from epigone.tokens.tokenizer import encode, list_token_bytes
from helpers_export import MODELS, ask_page, dequantize, find_model, list_lines, needs_node, open_model
from helpers_front import command, make_once, shared_run, sonnets
from helpers_page import Reader
from standin import hub_root

GREEDY = {"temperature": 0, "stop_at": "anywhere", "loop_guard": "off", "words": "any", "marks": "any"}
LENGTH = 90
"""Tokens to write: more than the context of the test's models has room for."""


SPACED = ["From fairest creatures ", "From fairest  ", "From fairest\n "]


@cache
def page_of(name: str) -> Path:
    return make_once(f"page-{name}.html", lambda path: export_page(open_model(name), path))


@cache
def html_of(name: str) -> str:
    return page_of(name).read_text("utf-8")


def find_content(html: str, name: str) -> str:
    return re.search(rf'id="{name}">([^<]*)<', html)[1]  # type: ignore[index]


def write_greedily(name: str, prompts: list[list[int]], length: int) -> list[list[int]]:
    """The likeliest tokens by our own decoder with the page's weights."""
    source = open_model(name)
    generator = TextGenerator(FastDecoder(dequantize(source)), source.tokenizer)
    settings = make_settings(WriteSettings, GREEDY | {"length": length})
    return [[step[0] for step in generator.stream_tokens(prompt, settings)] for prompt in prompts]


def list_prompts(name: str) -> list[list[int]]:
    source = open_model(name)
    return [[source.tokenizer.end_of_text_id], encode("From fairest creatures", source.tokenizer)]


@cache
def answers(name: str, kernel: bool = True) -> dict[str, Any]:
    job = {"page": str(page_of(name)), "texts": list_lines(1_000) if kernel else [], "prompts": list_prompts(name)}
    job |= {"length": LENGTH, "kernel": kernel, "seeds": [1, 1, 2], "spaced": SPACED}
    folder = make_once(f"answers-{name}-{kernel}", lambda path: (path.mkdir(), ask_page(job, path)))
    found: dict[str, Any] = json.loads((folder / "answer.json").read_text("utf-8"))
    return found


# -- what the file holds


def test_only_its_own_script_and_style_may_run():
    html, reader = html_of("run"), Reader(html_of("run"))
    assert reader.faults == []
    policy = next(found["content"] for tag, found in reader.tags if found.get("http-equiv"))
    script, style = (re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL) for tag in ("script", "style"))
    assert len(script) == len(style) == 1
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script[0], style[0])]
    assert policy is not None and f"script-src 'sha256-{hashes[0]}' 'wasm-unsafe-eval'" in policy
    assert f"style-src 'sha256-{hashes[1]}'" in policy and policy.startswith("default-src 'none';")
    assert "unsafe-inline" not in policy and "connect-src" not in policy
    attributes = {name for _, found in reader.tags for name in found}
    assert not {name for name in attributes if name.startswith("on") or name in ("style", "src")}


def test_nothing_is_loaded_from_elsewhere_and_no_text_becomes_html():
    for path in PAGE.iterdir():
        text = path.read_text("utf-8")
        assert not re.search(r"https?://|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|importScripts", text), (
            path.name
        )
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        assert max(map(len, text.splitlines())) <= 140 or path.suffix in (".html", ".css")


def test_every_element_that_the_script_asks_for_is_on_the_page():
    ids = [found["id"] for _, found in Reader(html_of("run")).tags if "id" in found]
    asked = set(re.findall(r"\bget\('([^']+)'\)", join_scripts()))
    assert len(ids) == len(set(ids)) and asked and asked <= set(ids)
    for _, found in Reader(html_of("run")).tags:
        named = [found[name] for name in ("for", "aria-describedby") if name in found]
        assert set(named) <= set(ids)


def test_no_text_of_the_author_is_in_it():
    html = html_of("run")
    data = base64.b64decode(find_content(html, "weights"))
    lines = [line.strip() for line in sonnets(12_000).splitlines() if len(line.strip()) > 15]
    assert len(lines) > 100
    assert not [line for line in lines if line in html or line.encode() in data]
    assert "From fairest" not in html, "the prompt of the run's samples"
    assert str(shared_run().path.parent) not in html


def test_it_says_what_it_is():
    text = re.sub(r"<[^>]*>", "", html_of("run"))
    for said in (
        "language model of",
        "runs on your device",
        "invented",
        "may repeat passages",
        "no text",
        "learned from its",
    ):
        assert said in text


def test_names_have_no_power(tmp_path: Path):
    name = "<img src=x onerror=alert(1)>\u202e&amp;'\""
    run = tmp_path / name
    shutil.copytree(shared_run().path, run)
    assert command("export", run, "--to", "page").code == 0
    (path,) = (run / "export").iterdir()
    assert path.name == "img-src-x-onerror-alert-1-amp.html"
    html = path.read_text("utf-8")
    assert "<img" not in html and "&lt;img src=x onerror=alert(1)&gt;⟨202E⟩&amp;amp;" in html
    assert Reader(html).faults == []


def test_tokens_cannot_end_their_element():
    text = offline_page._as_json({"tokens": ["</script><script>", "<!--", "&", "\u2028"]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text)["tokens"] == ["</script><script>", "<!--", "&", "\u2028"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["modern", "small"])
def test_a_bundled_base_takes_less_than_a_byte_and_a_half_a_parameter(name: str, tmp_path: Path):
    source = open_model(name)
    assert export_page(source, tmp_path / "page.html").stat().st_size < 1.5 * source.weights.n_parameters


def test_a_page_goes_into_the_folder_that_is_given(tmp_path: Path) -> None:
    page = export_page(open_model("standin"), tmp_path)
    assert page.parent == tmp_path and page.suffix == ".html" and Reader(page.read_text("utf-8")).faults == []


def test_the_command_replaces_its_own_page_and_no_other_file(tmp_path: Path):
    out = tmp_path / "ghost.html"
    for _ in range(2):
        done = command("export", find_model("standin"), "--to", "page", "--out", out)
        assert done.code == 0 and "open it in a browser" in done.err + done.out
    assert out.read_text("utf-8") == render_page(open_model("standin"))
    out.write_text("<html>mine</html>", "utf-8")
    with pytest.raises(OutputError, match="did not write it"):
        export_page(open_model("standin"), out)


def test_a_large_model_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(offline_page, "MOST_PARAMETERS", 1_000)
    with pytest.raises(SettingsError, match="a page is for models of") as found:
        export_page(open_model("run"))
    assert "--to gguf" in found.value.hint


def test_eight_bits_are_within_half_a_step_of_the_weights():
    matrix = torch.randn(5, 37, generator=torch.Generator().manual_seed(0))
    matrix[2] = 0
    integers, scales = quantize_rows(matrix)
    assert integers.abs().amax(1).tolist() == [127, 127, 0, 127, 127]
    assert bool(((integers * scales[:, None] - matrix).abs() <= scales[:, None] * 0.5001).all())


def test_an_instruction_that_the_assembler_does_not_know_is_an_error():
    text = (PAGE / "multiply.wat").read_text("utf-8")
    with pytest.raises(ValueError, match=r"f32x4\.relaxed"):
        assemble(text.replace("f32x4.mul", "f32x4.relaxed"))


# -- what its script computes


@needs_node
@pytest.mark.parametrize("name", MODELS)
def test_its_tokens_are_those_of_the_tokenizer(name: str):
    lines, tokenizer = list_lines(1_000), open_model(name).tokenizer
    assert answers(name)["ids"] == [encode(line, tokenizer) for line in lines]
    assert answers(name)["texts"] == lines


@needs_node
@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_that_of_python_with_the_same_weights(name: str):
    prompts = list_prompts(name)
    assert open_model(name).weights.config.n_positions < LENGTH, "the context is read again in part"
    assert answers(name)["greedy"] == write_greedily(name, prompts, LENGTH)
    decoder = FastDecoder(dequantize(open_model(name)))
    for prompt, found in zip(prompts, answers(name)["logits"], strict=True):
        with torch.inference_mode():
            own = decoder.begin(torch.tensor([prompt]), len(prompt), 1).logits[0]
        assert torch.tensor(found).sub(own).abs().max() < 1e-4


@needs_node
@pytest.mark.parametrize("name", MODELS)
def test_a_space_at_the_end_of_a_prompt_begins_the_first_word_as_in_python(name: str):
    source = open_model(name)
    token_bytes = list_token_bytes(source.tokenizer)
    generator = TextGenerator(FastDecoder(dequantize(source)), source.tokenizer)
    settings = make_settings(WriteSettings, GREEDY | {"length": LENGTH})
    healed = 0
    for prompt, found in zip(SPACED, answers(name)["spaced"], strict=True):
        [own] = generator.write(prompt, settings)
        generation = generator.begin(prompt, settings)
        written = b"".join(token_bytes[token] for token in found["tokens"]).decode("utf-8", "replace")
        assert written[generation.healing is not None :] == own
        if generation.healing is not None:
            healed += 1
            assert all(token_bytes[token].startswith(b" ") for token, _ in found["top"])
    assert healed


@needs_node
def test_a_browser_without_simd_gets_the_same_bits():
    with_kernel, without = answers("run"), answers("run", kernel=False)
    assert with_kernel["valid"]
    for name in ("logits", "greedy", "sampled"):
        assert with_kernel[name] == without[name]


@needs_node
def test_a_seed_decides_what_is_drawn():
    one, again, other = ([token["id"] for token in text] for text in answers("run")["sampled"])
    assert one == again != other
    end = open_model("run").tokenizer.end_of_text_id
    assert end not in one + other
    for token in answers("run")["sampled"][0]:
        shares = [share for _, share in token["top"]]
        assert shares == sorted(shares, reverse=True) and 0 < token["probability"] <= 1 >= sum(shares) > shares[0]


@needs_node
def test_what_is_drawn_follows_the_probabilities():
    found = answers("run")
    assert all(mine == pytest.approx(own, rel=1e-9) for mine, own in found["exp"])
    weights = [math.exp(2 * logit) for logit in (3, 1, 2, 2)]
    expected = [weight / sum(weights) for weight in weights]
    assert found["shares"] == pytest.approx([*expected, 0.0])
    assert found["likeliest"] == [[0, 2, 3], [0, 2, 3, 1, 4]]
    draws, picked = found["draws"], Counter(found["picked"])
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.02) and min(draws) >= 0 and max(draws) < 1
    assert len(set(draws)) == len(draws)
    assert set(picked) == {0, 2, 3}, "the rest is beyond 95 %"
    assert picked[0] / len(draws) == pytest.approx(expected[0] / sum(expected[i] for i in (0, 2, 3)), abs=0.03)


@needs_node
def test_an_odd_shape_and_a_head_of_its_own_work(tmp_path: Path):
    source = open_model("standin")
    tensors = dict(source.weights.tensors)
    head = torch.randn(source.vocabulary_size, source.width, generator=torch.Generator().manual_seed(1)) / 8
    tensors["lm_head.weight"] = head
    odd = open_model.__wrapped__("standin")
    object.__setattr__(odd, "weights", source.weights._replace(tensors=tensors))
    assert not odd.is_tied and len(pack_model(odd)) > len(pack_model(source))
    page = export_page(odd, tmp_path / "page.html")
    found = ask_page({"page": str(page), "prompts": list_prompts("standin")}, tmp_path)
    decoder = FastDecoder(dequantize(odd))
    prompt = list_prompts("standin")[1]
    with torch.inference_mode():
        own = decoder.begin(torch.tensor([prompt]), len(prompt), 1).logits[0]
    assert torch.tensor(found["logits"][1]).sub(own).abs().max() < 1e-4


def test_a_start_that_is_more_than_white_space_is_left_out():
    source = open_model("run")
    for start, expected in (
        ("\n", encode("\n", source.tokenizer)),
        ("From fairest", [source.tokenizer.end_of_text_id]),
    ):
        other = open_model.__wrapped__("run")
        object.__setattr__(other, "facts", source.facts.model_copy(update={"start_text": start}))
        assert offline_page.make_header(other, 0)["start"] == expected


def test_the_stand_in_is_fine_tuned_and_says_nothing_of_its_pieces():
    assert "learned from its" not in html_of("standin") and (hub_root() / "gpt2").exists()
