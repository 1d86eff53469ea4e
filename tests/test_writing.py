"""What is written is what the model says: transformers' own probabilities, whole characters, no traces elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from scipy.stats import chisquare
from transformers import GPT2Config, GPT2LMHeadModel

from epigone.model.gpt2 import load_model
from epigone.settings import WritingSettings
from epigone.tokens.vocabulary import Vocabulary, encode, end_of_text_id, learn_vocabulary, load_vocabulary
from epigone.writing.decoder import ReferenceDecoder, make_decoder
from epigone.writing.engine import Writer
from epigone.writing.sampling import ROUNDS, SHORTEST_LOOP, Chooser, LoopGuard, make_processors
from helpers_front import shared_run, sonnets

LETTERS = "Größe 🦊 漢字 e\u0301 ﬁn 🇩🇪 ok"
"""Characters of one to four bytes, and some that are made of several."""


class Parrot(torch.nn.Module):
    """A model that says given ids, one after another, whatever it reads."""

    def __init__(self, ids: Sequence[int], n_entries: int) -> None:
        super().__init__()
        self.ids, self.n_entries, self.said = list(ids), n_entries, 0
        self.config = GPT2Config(n_positions=1024, n_layer=1, n_embd=32, n_head=1, vocab_size=n_entries)
        self.config.activation_function = "relu"  # no GPT-2 that could be computed otherwise than by calling it
        self.device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        logits = torch.full((len(input_ids), 1, self.n_entries), -1e4)
        logits[:, :, self.ids[self.said % len(self.ids)]] = 0.0
        self.said += 1
        return SimpleNamespace(logits=logits)


def parrot_writer(parrot: Parrot, vocabulary: Vocabulary) -> Writer:
    return Writer(ReferenceDecoder(parrot), vocabulary)  # type: ignore[arg-type]


def make_chooser(seeds: Sequence[int], **how: Any) -> Chooser:
    settings = WritingSettings(**{"loop_guard": "off"} | how)
    return Chooser(settings, list(seeds), make_processors(settings, []))


@pytest.fixture(scope="module")
def bytes_only() -> Vocabulary:
    """A vocabulary of the 256 bytes and the end of text."""
    return learn_vocabulary(["ab"], 257)


def make_random_model(vocabulary: Vocabulary, **more: Any) -> GPT2LMHeadModel:
    """An untrained model with sharp, far from uniform probabilities."""
    end = end_of_text_id(vocabulary)
    shape = {"n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.4} | more
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = GPT2Config(vocab_size=len(vocabulary), bos_token_id=end, eos_token_id=end, **shape)
        return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def random_vocabulary() -> Vocabulary:
    return learn_vocabulary([sonnets(20_000)], 300)


@pytest.fixture(scope="module")
def random_model(random_vocabulary: Vocabulary) -> GPT2LMHeadModel:
    return make_random_model(random_vocabulary)


@pytest.fixture(scope="module")
def random_writer(random_model: GPT2LMHeadModel, random_vocabulary: Vocabulary) -> Writer:
    return Writer(make_decoder(random_model), random_vocabulary)


# -- characters


def test_pieces_never_end_within_a_character(bytes_only: Vocabulary) -> None:
    ids = encode(LETTERS, bytes_only)
    assert len(ids) == len(LETTERS.encode())
    writer = parrot_writer(Parrot(ids, len(bytes_only)), bytes_only)
    pieces = [piece.text for piece in writer.stream("x", WritingSettings(length=len(ids), temperature=0))]
    assert "".join(pieces) == LETTERS and all(len(piece) == 1 for piece in pieces)


def test_half_a_character_at_the_end_is_not_shown(bytes_only: Vocabulary) -> None:
    ids = encode("a🦊", bytes_only)
    writer = parrot_writer(Parrot(ids, len(bytes_only)), bytes_only)
    assert writer.write("x", WritingSettings(length=len(ids) - 1, temperature=0)) == ["a"]


def test_bytes_that_are_no_character_become_replacement_characters(bytes_only: Vocabulary) -> None:
    ids = [encode("é", bytes_only)[0], *encode("ok", bytes_only)]
    writer = parrot_writer(Parrot(ids, len(bytes_only)), bytes_only)
    assert writer.write("x", WritingSettings(length=3, temperature=0)) == ["\ufffdok"]


def test_a_stop_string_is_found_across_tokens_and_characters(bytes_only: Vocabulary) -> None:
    text = "one 🦊🦊 two"
    for stop, kept in (("🦊🦊", "one "), ("🦊 t", "one 🦊"), ("wo", "one 🦊🦊 t"), ("one", ""), ("x", text)):
        writer = parrot_writer(Parrot(encode(text, bytes_only), len(bytes_only)), bytes_only)
        settings = WritingSettings(length=len(text.encode()), temperature=0, stop=(stop,))
        assert writer.write("x", settings) == [kept]


def test_the_end_of_text_is_never_written(bytes_only: Vocabulary) -> None:
    """A model that wants nothing else has to say something else."""
    end = end_of_text_id(bytes_only)
    writer = parrot_writer(Parrot([end], len(bytes_only)), bytes_only)
    for temperature in (0.0, 1.0):
        chooser = make_chooser([0], temperature=temperature)
        tokens = [ids[0] for ids in writer._write_tokens([1], 1, 50, chooser)]
        assert len(tokens) == 50 and end not in tokens


# -- the model's probabilities


def trained_model() -> tuple[GPT2LMHeadModel, Vocabulary]:
    folder = shared_run().folder.model
    return load_model(folder), load_vocabulary(folder)


@pytest.mark.parametrize("which", ["small", "deep", "trained"])
def test_without_daring_it_is_transformers_generate_token_for_token(random_vocabulary: Vocabulary, which: str) -> None:
    deep = {"n_layer": 5, "n_embd": 96, "n_head": 6, "n_positions": 64, "initializer_range": 0.2}
    model, vocabulary = make_random_model(random_vocabulary, **(deep if which == "deep" else {})), random_vocabulary
    if which == "trained":
        model, vocabulary = trained_model()
    prompt, end = encode("From fairest", vocabulary), end_of_text_id(vocabulary)
    n_new = model.config.n_positions - len(prompt)
    chooser = make_chooser([0], temperature=0)
    writer = Writer(make_decoder(model), vocabulary)
    ours = [ids[0] for ids in writer._write_tokens(prompt, 1, n_new, chooser)]
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
    random_model: GPT2LMHeadModel, random_writer: Writer
) -> None:
    prompt = encode("From fairest", random_writer.vocabulary)
    chooser = make_chooser([0], temperature=0, repetition_penalty=1.5)
    ours = [ids[0] for ids in random_writer._write_tokens(prompt, 1, 20, chooser)]
    theirs = random_model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        repetition_penalty=1.5,
        max_new_tokens=20,
        suppress_tokens=[random_writer.end_of_text],
        pad_token_id=random_writer.end_of_text,
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
        no_repeat_ngram_size=int(how.pop("no_repeat_ngram", 0)),
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
        {"temperature": 1.0, "no_repeat_ngram": 1, "top_p": 0.9},
        {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.4},
        {"temperature": 0.6, "top_k": 7, "top_p": 0.5, "repetition_penalty": 2.0},
    ],
    ids=str,
)
def test_the_probabilities_are_those_of_transformers(
    random_model: GPT2LMHeadModel, random_writer: Writer, how: dict[str, float]
) -> None:
    written = torch.tensor([encode("From fairest creatures we", random_writer.vocabulary)])
    with torch.no_grad():
        logits = random_model(input_ids=written).logits[:, -1]
    with torch.random.fork_rng(devices=[]):
        theirs = their_probabilities(random_model, written, **how)[0].double()
    n_draws = 4_000
    chooser = make_chooser(range(n_draws), **how)
    drawn = chooser.choose(logits.expand(n_draws, -1).contiguous(), written.expand(n_draws, -1))
    counts = torch.bincount(drawn, minlength=len(theirs))
    assert not counts[theirs == 0].any()
    often = theirs * n_draws >= 5
    seen, expected = (torch.cat([one[often], one[~often].sum()[None]]) for one in (counts, theirs * n_draws))
    if expected[-1] == 0:
        seen, expected = seen[:-1], expected[:-1]
    assert len(seen) == 1 or chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 0.001


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    n_draws = 6_000
    chooser = make_chooser(range(n_draws), temperature=1, top_p=1)
    drawn = chooser.choose(probabilities.log().expand(n_draws, -1), torch.zeros(n_draws, 1, dtype=torch.long))
    counts = torch.bincount(drawn, minlength=len(probabilities))
    assert chisquare(counts, probabilities.double() / probabilities.double().sum() * n_draws).pvalue > 0.01


def test_draws_of_one_seed_do_not_hang_together() -> None:
    """The next token of a sequence is as independent of its last as another sequence's is."""
    chooser = make_chooser([5], temperature=1, top_p=1)
    written = torch.zeros(1, 1, dtype=torch.long)
    drawn = [int(chooser.choose(torch.zeros(1, 4), written)[0]) for _ in range(4_000)]
    pairs = torch.bincount(torch.tensor([4 * a + b for a, b in pairwise(drawn)]), minlength=16)
    assert chisquare(pairs).pvalue > 0.01


@pytest.mark.parametrize("how", [{"temperature": 1e-3}, {"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_the_safest_settings_take_the_likeliest_token(random_writer: Writer, how: dict[str, float]) -> None:
    greedy = random_writer.write("From", WritingSettings(length=12, temperature=0))
    assert random_writer.write("From", WritingSettings(length=12, seed=4, **how)) == greedy


# -- batches


def test_a_batch_writes_what_its_texts_alone_would_be() -> None:
    """Sums in another order may tip one draw in very many."""
    run = shared_run()
    together = [text for first in range(0, 40, 8) for text in run.write("Thou", count=8, length=24, seed=first)]
    alone = [run.write("Thou", length=24, seed=seed)[0] for seed in range(40)]
    assert sum(one == other for one, other in zip(together, alone, strict=True)) >= 0.99 * 40


def test_past_the_context_a_text_goes_on_from_its_second_half(
    random_model: GPT2LMHeadModel, random_writer: Writer
) -> None:
    """A fresh reading of the last 24 tokens foretells what comes when the 48 positions are used up."""
    prompt = encode("From", random_writer.vocabulary)
    chooser = make_chooser([0], temperature=0)
    tokens = [ids[0] for ids in random_writer._write_tokens(prompt, 1, 100, chooser)]
    written = prompt + tokens
    with torch.no_grad():
        logits = random_model(input_ids=torch.tensor([written[49 - 24 : 49]])).logits[0, -1]
    logits[random_writer.end_of_text] = -torch.inf
    assert written[49] == int(logits.argmax())


# -- nobody else's state


def test_writing_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    shared_run().write(length=5, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_random_numbers_do_not_move_a_text() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = shared_run().write(length=20)
        torch.manual_seed(2)
        assert shared_run().write(length=20) == first


@pytest.mark.parametrize("training", [True, False])
def test_writing_leaves_the_model_as_it_was(
    random_model: GPT2LMHeadModel, random_vocabulary: Vocabulary, training: bool
) -> None:
    model, random_writer = random_model, Writer(ReferenceDecoder(random_model), random_vocabulary)
    model.train(training)
    first = random_writer.write("From", WritingSettings(length=5))
    assert model.training is training and all(parameter.grad is None for parameter in model.parameters())
    stream = random_writer.stream("From", WritingSettings(length=50))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.training is training
    model.eval()
    assert random_writer.write("From", WritingSettings(length=5)) == first, "dropout was on"


# -- loops


def follow(guard: LoopGuard, ids: Sequence[int], n_entries: int = 40) -> list[int]:
    """For each token of a text, whether the guard would have struck it out when its turn came."""
    struck = []
    for place in range(1, len(ids)):
        scores = guard(torch.tensor([ids[:place]]), torch.zeros(1, n_entries))
        if scores[0, ids[place]] == -torch.inf:
            struck.append(place)
    return struck


@pytest.mark.parametrize("round_of", [[1], [1, 2], [1, 2, 3, 4, 5, 6, 7], list(range(30))])
def test_a_loop_is_left_when_it_would_begin_its_fourth_round(round_of: list[int]) -> None:
    n_rounds = max(4, 30 // len(round_of))
    struck = follow(LoopGuard(), [39, *round_of * n_rounds])
    if len(round_of) >= SHORTEST_LOOP:
        assert struck[0] == 1 + ROUNDS * len(round_of)
    else:
        assert 2 * SHORTEST_LOOP <= struck[0] <= 3 * SHORTEST_LOOP


def test_what_is_no_loop_is_left_alone() -> None:
    refrain = [7, 8, 9, 10, 11, 12, 13]
    song = [token for verse in range(20, 32) for token in (verse, verse + 1, *refrain)]
    assert follow(LoopGuard(), song) == []


def test_each_text_has_its_own_loops() -> None:
    guard = LoopGuard()
    looping, other = [1, 2] * 15, list(range(30))
    for place in range(1, 30):
        scores = guard(torch.tensor([looping[:place], other[:place]]), torch.zeros(2, 40))
    assert torch.isinf(scores[0]).sum() == 1 and not torch.isinf(scores[1]).any()


def test_a_model_that_only_repeats_itself_is_brought_to_say_something_else(bytes_only: Vocabulary) -> None:
    def speak(loop_guard: Literal["on", "off"]) -> str:
        writer = parrot_writer(Parrot(encode("ab", bytes_only), len(bytes_only)), bytes_only)
        return writer.write("x", WritingSettings(length=60, temperature=0, loop_guard=loop_guard))[0]

    assert speak("off") == "ab" * 30
    assert speak("on").startswith("ab" * SHORTEST_LOOP) and "ab" * (2 * SHORTEST_LOOP) not in speak("on")


@pytest.mark.parametrize("word", ["the", "e", "From"])
def test_a_bad_word_is_never_written(word: str) -> None:
    texts = shared_run().write("From", length=60, count=4, bad_words=(word,), temperature=1.0)
    vocabulary = shared_run().open_writer().vocabulary
    ids = encode(word, vocabulary)
    for text in texts:
        written = encode(text, vocabulary)
        assert not any(written[start : start + len(ids)] == ids for start in range(len(written)))
