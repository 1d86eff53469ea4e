"""The score of a text is what transformers computes, over every token once, however long the text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from epigone import run as run_module
from epigone.errors import TextTooShort, TextUnreadable
from epigone.generation.scoring import Score, list_windows, score_text
from epigone.report.views import describe_worst_lines
from epigone.tokens.tokenizer import BPETokenizer, encode, train_tokenizer
from helpers_front import command, shared_run, sonnets, write_sonnets

ODD = "Größe 🦊 漢字 e\u0301 <|endoftext|>\n\n\tz\u00a0\n"
"""Characters of several tokens, the end of text as a word, lines without a letter."""


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return train_tokenizer([sonnets(20_000)], 300)


@pytest.fixture(scope="module")
def model(tokenizer: BPETokenizer) -> Iterator[GPT2LMHeadModel]:
    """Untrained, with 48 positions, dropout and far from uniform probabilities."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=48, n_embd=32, n_layer=2, n_head=2, initializer_range=0.4
        )
        model = GPT2LMHeadModel(config)
    model.eval()
    yield model


class Pairs(torch.nn.Module):
    """A model that predicts from the last token alone, and keeps how much it was given to read."""

    def __init__(self, n_entries: int, n_positions: int) -> None:
        super().__init__()
        self.config, self.device = SimpleNamespace(n_positions=n_positions), torch.device("cpu")
        self.table = torch.randn(n_entries, n_entries, generator=torch.Generator().manual_seed(1)) * 3
        self.shapes: list[tuple[int, int]] = []

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int, **_: object) -> SimpleNamespace:
        assert input_ids.shape[1] <= self.config.n_positions
        self.shapes.append(tuple(input_ids.shape))  # type: ignore[arg-type]
        return SimpleNamespace(logits=self.table[input_ids][:, -logits_to_keep:])


class Uniform(Pairs):
    """A model whose predictions are uniform."""

    def __init__(self, n_entries: int, n_positions: int = 64) -> None:
        super().__init__(n_entries, n_positions)
        self.table = torch.zeros(n_entries, n_entries)


def agree(score: Score, other: Score) -> bool:
    """Whether two scores are the same but for the rounding of sums."""
    logs = ([token.log_probability for token in one.tokens] for one in (score, other))
    return score.n_tokens == other.n_tokens and torch.allclose(*map(torch.tensor, logs), atol=1e-5)


# -- the numbers


def test_a_text_within_the_context_has_the_loss_of_transformers(
    model: GPT2LMHeadModel, tokenizer: BPETokenizer
) -> None:
    text = "From fairest creatures we desire"
    ids = torch.tensor([[tokenizer.end_of_text_id, *encode(text, tokenizer)]])
    assert ids.shape[1] <= 48
    with torch.no_grad():
        theirs = model(input_ids=ids, labels=ids)
    found = score_text(model, tokenizer, text)
    assert found.loss == pytest.approx(theirs.loss.item(), rel=1e-6)
    right = theirs.logits[0, :-1].argmax(-1) == ids[0, 1:]
    assert found.accuracy == pytest.approx(right.double().mean().item())


def test_the_log_probabilities_add_up_to_everything_else(model: GPT2LMHeadModel, tokenizer: BPETokenizer) -> None:
    text = sonnets(700) + ODD
    found = score_text(model, tokenizer, text)
    nats = -math.fsum(token.log_probability for token in found.tokens)
    assert found.nats == nats == pytest.approx(found.loss * found.n_tokens)
    assert found.perplexity == pytest.approx(math.exp(nats / found.n_tokens))
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / len(text.encode()))
    assert math.fsum(line.nats for line in found.lines) == pytest.approx(nats)
    assert (found.n_tokens, found.n_bytes, found.n_characters) == (
        len(encode(text, tokenizer)),
        len(text.encode()),
        len(text),
    )


def test_a_uniform_model_has_a_perplexity_of_its_vocabulary_size(tokenizer: BPETokenizer) -> None:
    found = score_text(Uniform(len(tokenizer)), tokenizer, sonnets(500))  # type: ignore[arg-type]
    assert found.perplexity == pytest.approx(len(tokenizer))
    assert found.accuracy == encode(sonnets(500), tokenizer).count(0) / found.n_tokens


@pytest.mark.parametrize("n_positions", [1, 2, 7, 48, 10_000])
def test_every_token_is_predicted_once_and_in_order(tokenizer: BPETokenizer, n_positions: int) -> None:
    """Where only the last token matters, windows of any length must give the same."""
    text = sonnets(1_500)
    model = Pairs(len(tokenizer), n_positions)
    stream = torch.tensor([tokenizer.end_of_text_id, *encode(text, tokenizer)])
    expected = -functional.cross_entropy(model.table[stream[:-1]], stream[1:], reduction="none")
    found = score_text(model, tokenizer, text)  # type: ignore[arg-type]
    assert torch.allclose(torch.tensor([token.log_probability for token in found.tokens]), expected, atol=1e-5)


@pytest.mark.parametrize("n_positions", [2, 7, 48])
@pytest.mark.parametrize("n_tokens", [1, 2, 6, 7, 8, 47, 48, 49, 72, 73, 500])
def test_after_the_first_window_every_token_sees_half_a_context(n_tokens: int, n_positions: int) -> None:
    first, *others = list_windows(n_tokens, n_positions)
    assert first == (0, min(n_tokens, n_positions))
    assert sum(window.n_counted for window in (first, *others)) == n_tokens
    counted = first.n_counted
    for window in others:
        assert window.start + n_positions == counted + window.n_counted
        assert counted - window.start + 1 > n_positions / 2 and window.n_counted > 0
        counted += window.n_counted


def test_a_long_text_is_read_as_transformers_reads_its_windows(model: GPT2LMHeadModel, tokenizer: BPETokenizer) -> None:
    text = sonnets(1_000)
    stream = torch.tensor([tokenizer.end_of_text_id, *encode(text, tokenizer)])
    logs: list[torch.Tensor] = []
    for start in range(0, len(stream) - 1 - 48 + 24, 24):
        start = min(start, len(stream) - 1 - 48)
        with torch.no_grad():
            said = model(input_ids=stream[None, start : start + 48]).logits[0].log_softmax(-1)
        own = said.gather(-1, stream[start + 1 : start + 49, None])[:, 0]
        logs.append(own[sum(map(len, logs)) - start :])
    found = score_text(model, tokenizer, text)
    assert found.n_tokens > 5 * 48
    theirs = torch.cat(logs)
    assert torch.allclose(torch.tensor([token.log_probability for token in found.tokens]), theirs, atol=1e-4)


def test_batches_change_nothing(
    model: GPT2LMHeadModel, tokenizer: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = score_text(model, tokenizer, sonnets(3_000))
    monkeypatch.setattr("epigone.generation.scoring.TOKENS_AT_ONCE", 1)
    assert agree(score_text(model, tokenizer, sonnets(3_000)), found)


@pytest.mark.parametrize("training", [True, False])
def test_a_score_leaves_the_model_as_it_was_and_has_no_dropout(
    model: GPT2LMHeadModel, tokenizer: BPETokenizer, training: bool
) -> None:
    found = score_text(model, tokenizer, "From fairest")
    model.train(training)
    again = score_text(model, tokenizer, "From fairest")
    assert model.training is training and again == found
    model.eval()


# -- tokens and lines


def test_the_tokens_spell_the_text(model: GPT2LMHeadModel, tokenizer: BPETokenizer) -> None:
    found = score_text(model, tokenizer, ODD)
    assert "".join(token.text for token in found.tokens) == ODD
    assert "<|endoftext|>" in [token.text for token in found.tokens]
    assert "".join(line.text for line in found.lines) == ODD


def test_a_line_has_its_number_its_text_and_its_nats(model: GPT2LMHeadModel, tokenizer: BPETokenizer) -> None:
    text = "From fairest\ncreatures we\n\nincrease"
    found = score_text(model, tokenizer, text)
    lines = {line.number: line for line in found.lines}
    assert lines[1].text == "From fairest\n" and lines[4].text == "increase"
    assert lines[2].text.startswith("creatures we\n") and "".join(line.text for line in found.lines) == text
    n_tokens = len(encode("From fairest\n", tokenizer))
    assert lines[1].nats == pytest.approx(-sum(token.log_probability for token in found.tokens[:n_tokens]))
    assert lines[1].bits_per_byte == pytest.approx(lines[1].nats / math.log(2) / 13)


def test_the_line_that_fits_least_is_named_first() -> None:
    lines = sonnets(12_000).splitlines()[20:40]
    odd = "zxq jvk pqzx wvuk qqjz"
    found = shared_run().score("\n".join([*lines[:9], odd, "xq", *lines[9:]]))
    (first, *others) = describe_worst_lines(found)
    assert (first[0], first[2]) == ("line 10", odd) and len(others) == 4
    numbers = [float(value.split()[0]) for _, value, _ in (first, *others)]
    assert numbers == sorted(numbers, reverse=True)


def test_where_all_lines_are_short_the_short_ones_are_shown() -> None:
    assert [row[2] for row in describe_worst_lines(shared_run().score("xq"))] == ["xq"]


def test_a_text_that_was_learned_is_likelier_than_the_same_backwards() -> None:
    text = sonnets(4_000)
    assert shared_run().score(text).bits_per_byte < shared_run().score(text[::-1]).bits_per_byte - 0.5


# -- what is refused


def test_nothing_and_half_a_character_have_no_score() -> None:
    with pytest.raises(TextTooShort):
        shared_run().score("")
    with pytest.raises(TextUnreadable, match="at 2"):
        shared_run().score("ab\ud800")


# -- the command


def test_a_run_and_its_model_s_folder_score_alike() -> None:
    run = shared_run()
    assert run_module.score(run.folder.model, "Shall I compare") == run.score("Shall I compare")


def test_the_screen_has_the_numbers_and_the_worst_lines_in_columns(tmp_path: Path) -> None:
    outcome = command("score", shared_run().path, write_sonnets(tmp_path, 3_000))
    assert (outcome.code, outcome.err) == (0, "")
    title, *rows = outcome.out.splitlines()
    assert title == "text.txt" and rows[6] == "Least likely lines"
    assert [row.split("  ")[1] for row in rows[:6]] == [
        *("tokens", "total", "loss", "perplexity", "bits per byte", "accuracy")
    ]
    assert len(rows) == 12 and len({row.index(" bits per byte") for row in rows[7:]}) == 1
    assert f"{shared_run().score(sonnets(3_000)).bits_per_byte:.3f}" in rows[4]


def test_json_is_one_object_with_every_line_and_token(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 600)
    outcome = command("score", shared_run().path, text, "--json")
    found, same = json.loads(outcome.out), shared_run().score(sonnets(600))
    assert outcome.err == "" and (found["text"], found["run"]) == ("text.txt", str(shared_run().path))
    names = ("nats", "loss", "perplexity", "bits_per_byte", "accuracy", "n_tokens", "n_bytes", "n_characters")
    assert [found[name] for name in names] == [getattr(same, name) for name in names]
    assert [token["text"] for token in found["tokens"]] == [token.text for token in same.tokens]
    assert sum(token["log_probability"] for token in found["tokens"]) == pytest.approx(-found["nats"])
    assert found["lines"][0] | {"nats": 0} == {
        "number": 1,
        "text": same.lines[0].text,
        "nats": 0,
        "bits_per_byte": same.lines[0].bits_per_byte,
    }


def test_a_text_comes_in_any_encoding_and_by_a_pipe(tmp_path: Path) -> None:
    text = "Größe blüht überall, fällt früh.\n" * 3
    (tmp_path / "old.txt").write_bytes(text.encode("cp1252"))
    run = shared_run().path
    named = json.loads(command("score", run, tmp_path / "old.txt", "--encoding", "cp1252", "--json").out)
    piped = json.loads(command("score", run, "-", "--json", stdin=text.encode()).out)
    assert piped["text"] == "standard input" and named["tokens"] == piped["tokens"]
    assert piped["nats"] == shared_run().score(text).nats


def make(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def make_shelf(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("Thou", "utf-8")
    return folder


Case = tuple[Callable[[Path], list[str | Path]], str]
WRONG: dict[str, Case] = {
    "no run": (lambda here: [], "score needs RUN"),
    "no file": (lambda here: [shared_run().path], "score needs"),
    "missing file": (lambda here: [shared_run().path, here / "none.txt"], "There is no file"),
    "empty file": (lambda here: [shared_run().path, make(here / "empty.txt", b"")], "empty.txt is empty"),
    "white space": (lambda here: [shared_run().path, make(here / "w.txt", b" \n")], "only white space"),
    "several files": (lambda here: [shared_run().path, make_shelf(here / "shelf")], "contains 2 texts"),
    "not a run": (
        lambda here: [make_shelf(here / "shelf"), make(here / "a.txt", b"Thou")],
        "holds neither a run nor a model",
    ),
    "nothing there": (lambda here: [here / "none", make(here / "a.txt", b"Thou")], "There is no folder"),
    "no such encoding": (lambda here: [shared_run().path, "-", "--encoding", "cp1253x"], "Did you mean"),
    "no such device": (lambda here: [shared_run().path, "-", "--device", "tpu"], "--device must be"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_what_has_no_score_is_refused_in_two_lines(
    tmp_path: Path, arguments: Callable[[Path], list[str | Path]], message: str
) -> None:
    outcome = command("score", *arguments(tmp_path))
    assert outcome.code == 2 and outcome.out == "" and message in outcome.err
    assert outcome.err.startswith("error: ") and len(outcome.err.splitlines()) == 2
