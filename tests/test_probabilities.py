"""Tokens are drawn with the probabilities that transformers has, and loops are left."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import pytest
import torch
from scipy.stats import chisquare
from transformers import GPT2LMHeadModel

from epigone.generation.generator import TextGenerator
from epigone.generation.sampling import ROUNDS, SHORTEST_LOOP, LoopGuard
from epigone.model.decoder import make_decoder
from epigone.model.gpt2 import load_model
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import BPETokenizer, encode, load_tokenizer
from helpers_front import shared_run
from helpers_writing import (
    Parrot,
    bytes_only,
    make_random_model,
    make_sampler,
    parrot_generator,
    random_generator,
    random_model,
    random_tokenizer,
)

__all__ = ["bytes_only", "random_model", "random_tokenizer", "random_generator"]


# -- the model's probabilities


def trained_model() -> tuple[GPT2LMHeadModel, BPETokenizer]:
    folder = shared_run().folder.model
    return load_model(folder), load_tokenizer(folder)


@pytest.mark.parametrize("which", ["small", "deep", "trained"])
def test_without_daring_it_is_transformers_generate_token_for_token(random_tokenizer: BPETokenizer, which: str) -> None:
    deep = {"n_layer": 5, "n_embd": 96, "n_head": 6, "n_positions": 64, "initializer_range": 0.2}
    model, tokenizer = make_random_model(random_tokenizer, **(deep if which == "deep" else {})), random_tokenizer
    if which == "trained":
        model, tokenizer = trained_model()
    prompt, end = encode("From fairest", tokenizer), tokenizer.end_of_text_id
    n_new = model.config.n_positions - len(prompt)
    generator = TextGenerator(make_decoder(model), tokenizer)
    settings = WriteSettings(length=n_new, temperature=0, loop_guard="off")
    ours = [ids[0] for ids in generator.stream_tokens(prompt, settings)]
    theirs = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=n_new,
        suppress_tokens=[end],
        pad_token_id=end,
    )
    assert ours == theirs[0, len(prompt) :].tolist()
    assert len(set(ours)) > 3, "a model that repeats itself shows little"


def test_greedy_writing_with_a_penalty_is_transformers_too(
    random_model: GPT2LMHeadModel, random_generator: TextGenerator
) -> None:
    prompt = encode("From fairest", random_generator.tokenizer)
    settings = WriteSettings(length=20, temperature=0, repetition_penalty=1.5, loop_guard="off")
    ours = [ids[0] for ids in random_generator.stream_tokens(prompt, settings)]
    theirs = random_model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        repetition_penalty=1.5,
        max_new_tokens=20,
        suppress_tokens=[random_generator.end_of_text],
        pad_token_id=random_generator.end_of_text,
    )
    assert ours == theirs[0, len(prompt) :].tolist()


def their_probabilities(model: GPT2LMHeadModel, written: torch.Tensor, **how: float) -> torch.Tensor:
    """What transformers' generate would draw the next token from."""
    found = model.generate(
        written,
        attention_mask=torch.ones_like(written),
        do_sample=True,
        max_new_tokens=1,
        output_scores=True,
        return_dict_in_generate=True,
        pad_token_id=0,
        no_repeat_ngram_size=int(how.pop("no_repeat_ngram_size", 0)),
        **{"top_k": 0, "top_p": 1.0, "temperature": 1.0, "repetition_penalty": 1.0} | how,
    )
    return torch.softmax(found.scores[0].float(), -1)


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 1.0, "top_p": 1.0},
        {"temperature": 0.5, "top_p": 1.0},
        {"temperature": 1.7, "top_p": 1.0},
        {"temperature": 1.0, "top_k": 5, "top_p": 1.0},
        {"temperature": 1.0, "top_p": 0.6},
        {"temperature": 1.0, "top_p": 0.05},
        {"temperature": 1.0, "min_p": 0.2, "top_p": 1.0},
        {"temperature": 1.0, "top_k": 9, "min_p": 0.1, "top_p": 1.0},
        {"temperature": 1.0, "no_repeat_ngram_size": 1, "top_p": 0.9},
        {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.4},
        {"temperature": 0.6, "top_k": 7, "top_p": 0.5, "repetition_penalty": 2.0},
    ],
    ids=str,
)
def test_the_probabilities_are_those_of_transformers(
    random_model: GPT2LMHeadModel, random_generator: TextGenerator, how: dict[str, float]
) -> None:
    written = torch.tensor([encode("From fairest creatures we", random_generator.tokenizer)])
    with torch.no_grad():
        logits = random_model(input_ids=written).logits[:, -1]
    with torch.random.fork_rng(devices=[]):
        theirs = their_probabilities(random_model, written, **how)[0].double()
    n_draws = 4_000
    sampler = make_sampler(range(n_draws), **how)
    drawn = sampler.sample(logits.expand(n_draws, -1).contiguous(), written.expand(n_draws, -1))
    counts = torch.bincount(torch.tensor(drawn), minlength=len(theirs))
    assert not counts[theirs == 0].any()
    often = theirs * n_draws >= 5
    seen, expected = (torch.cat([one[often], one[~often].sum()[None]]) for one in (counts, theirs * n_draws))
    if expected[-1] == 0:
        seen, expected = seen[:-1], expected[:-1]
    if len(seen) == 1:
        assert seen[0] == n_draws, "there is only one token to draw"
        assert how.get("top_p") == 0.05
    else:
        assert chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 0.001


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    n_draws = 6_000
    sampler = make_sampler(range(n_draws), temperature=1, top_p=1)
    drawn = sampler.sample(probabilities.log().expand(n_draws, -1), torch.zeros(n_draws, 1, dtype=torch.long))
    counts = torch.bincount(torch.tensor(drawn), minlength=len(probabilities))
    assert chisquare(counts, probabilities.double() / probabilities.double().sum() * n_draws).pvalue > 0.01


def test_draws_of_one_seed_do_not_hang_together() -> None:
    """The next token of a sequence is as independent of its last as another sequence's is."""
    sampler = make_sampler([5], temperature=1, top_p=1)
    written = torch.zeros(1, 1, dtype=torch.long)
    drawn = [sampler.sample(torch.zeros(1, 4), written)[0] for _ in range(4_000)]
    pairs = torch.bincount(torch.tensor([4 * a + b for a, b in pairwise(drawn)]), minlength=16)
    assert chisquare(pairs).pvalue > 0.01


@pytest.mark.parametrize("how", [{"temperature": 1e-3}, {"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_the_safest_settings_take_the_likeliest_token(random_generator: TextGenerator, how: dict[str, float]) -> None:
    greedy = random_generator.write("From", WriteSettings(length=12, temperature=0))
    assert random_generator.write("From", WriteSettings(length=12, seed=4, **how)) == greedy


# -- loops


TOKENS = [chr(ord("A") + number).encode() for number in range(40)]
LINES = [b"\n", b" ", b" who", b"who", b"\nwho", b" was", b"was", b" a", b" prisoner", b", and", b"", b"here"]


def follow(ids: Sequence[int], token_bytes: Sequence[bytes] = TOKENS) -> list[int]:
    """The places in a text whose tokens the guard would have struck out when their turn came."""
    guard, struck = LoopGuard(token_bytes), []
    for place in range(1, len(ids)):
        scores = guard(torch.tensor([ids[:place]]), torch.zeros(1, len(token_bytes)))
        if scores[0, ids[place]] == -torch.inf:
            struck.append(place)
    return struck


@pytest.mark.parametrize("round_of", [[1], [1, 2], [1, 2, 3, 4, 5, 6, 7], list(range(30))])
def test_a_loop_is_left_when_it_would_begin_its_fourth_round(round_of: list[int]) -> None:
    n_rounds = max(4, 30 // len(round_of))
    struck = follow([39, *round_of * n_rounds])
    if len(round_of) >= SHORTEST_LOOP:
        assert struck[0] == 1 + ROUNDS * len(round_of)
    else:
        assert 2 * SHORTEST_LOOP <= struck[0] <= 3 * SHORTEST_LOOP


def test_what_is_not_a_loop_is_left_alone() -> None:
    refrain = [7, 8, 9, 10, 11, 12, 13]
    song = [token for verse in range(20, 32) for token in (verse, verse + 1, *refrain)]
    assert follow(song) == []


def spell(*pieces: bytes) -> list[int]:
    return [LINES.index(piece) for piece in pieces]


def test_a_loop_is_one_wherever_its_lines_break() -> None:
    """The same five words go round, and lines end in other places: the tokens are not the same."""
    in_a_line = spell(b" who", b" was", b" a", b" prisoner", b", and")
    broken = spell(b"\n", b"who", b" was", b" a", b" prisoner", b", and")
    later = spell(b" who", b"\n", b"was", b" a", b" prisoner", b", and")
    text = [LINES.index(b"here"), *in_a_line, *broken, *later, *in_a_line, *broken]
    struck = follow(text, LINES)
    assert struck, "nothing was struck out"
    n_words = sum(bool(LINES[token].strip()) for token in text[1 : struck[0]])
    assert n_words == 5 + 2 * SHORTEST_LOOP, "the first round, and two of the fewest words that count as one"


def test_a_word_that_would_go_on_with_a_loop_is_struck_out_however_it_begins() -> None:
    guard = LoopGuard(LINES)
    text = spell(b"here", *[b" who", b" was", b" a", b" prisoner", b", and"] * 4)
    for end in range(1, 1 + 5 + 2 * SHORTEST_LOOP + 1):
        scores = guard(torch.tensor([text[:end]]), torch.zeros(1, len(LINES)))
    following = LINES[text[end]].strip()
    assert {piece for piece, score in zip(LINES, scores[0].tolist(), strict=True) if score == -torch.inf} == {
        piece for piece in LINES if piece.strip() == following
    }


def test_white_space_without_end_is_a_loop_and_the_end_of_the_text_is_not_struck_out() -> None:
    guard = LoopGuard(LINES)
    text = spell(b"here", *[b"\n", b" "] * 9)
    for end in range(1, len(text) + 1):
        scores = guard(torch.tensor([text[:end]]), torch.zeros(1, len(LINES)))
    struck = {piece for piece, score in zip(LINES, scores[0].tolist(), strict=True) if score == -torch.inf}
    assert struck == {b"\n", b" "}


def test_each_text_has_its_own_loops() -> None:
    guard = LoopGuard(TOKENS)
    looping, other = [1, 2] * 15, list(range(30))
    for place in range(1, 30):
        scores = guard(torch.tensor([looping[:place], other[:place]]), torch.zeros(2, 40))
    assert torch.isinf(scores[0]).sum() == 1 and not torch.isinf(scores[1]).any()


def test_a_model_that_only_repeats_itself_is_brought_to_say_something_else(bytes_only: BPETokenizer) -> None:
    def speak(loop_guard: Literal["on", "off"]) -> str:
        generator = parrot_generator(Parrot(encode("ab", bytes_only), len(bytes_only)), bytes_only)
        return generator.write("x", WriteSettings(length=60, temperature=0, loop_guard=loop_guard))[0]

    assert speak("off") == "ab" * 30
    assert speak("on").startswith("ab" * SHORTEST_LOOP) and "ab" * (2 * SHORTEST_LOOP) not in speak("on")


@pytest.mark.parametrize("word", ["the", "e", "From"])
def test_a_bad_word_is_never_written(word: str) -> None:
    generator = shared_run().open_generator()
    settings = WriteSettings(length=60, count=4, bad_words=(word,), temperature=1.0, stop_at="anywhere")
    steps = generator.stream_tokens(encode("From", generator.tokenizer), settings)
    ids = encode(word, generator.tokenizer)
    for written in map(list, zip(*steps, strict=True)):
        assert not any(written[start : start + len(ids)] == ids for start in range(len(written)))
