"""With --max-copy a model that has learned its text by heart says nothing longer of it, whatever it is asked."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import epigone
from epigone import WritingSettings
from epigone.errors import SettingsError
from epigone.run import Run, open_writer
from epigone.text.passages import find_longest_shared
from epigone.tokens.stream import encode_parts, spell_documents
from epigone.tokens.vocabulary import learn_vocabulary
from helpers_front import command, shared_run, sonnets, workshop

LIMIT = 30


@cache
def parrot() -> Run:
    """A run that knows 3 KB of the sonnets by heart."""
    text = workshop() / "by-heart.txt"
    text.write_text(sonnets(3_000), "utf-8")
    how = {"size": "2x128", "epochs": 100.0, "dropout": 0.0, "patience": "none", "samples": 0, "block_size": 64}
    more = {"validation": str(text), "batch_size": 4, "base": "none", "precision": "fp32", "compilation": "none"}
    return epigone.train(text, out=workshop() / "by-heart", **how, **more)


def longest_copy(texts: list[str]) -> int:
    found = [find_longest_shared(text, parrot().folder.read_documents()) for text in texts]
    return max((one.n_characters for one in found if one is not None), default=0)


def test_a_run_knows_the_text_that_it_learned_from() -> None:
    assert parrot().folder.read_documents() == [sonnets(3_000)]


@pytest.mark.parametrize("documents", [[["one two "], ["ähnlich 🦊"]], [["a", "b"]], [[""], ["x"]]])
def test_documents_are_spelled_as_they_were(documents: list[list[str]], tmp_path: Path) -> None:
    vocabulary = learn_vocabulary(["one two"], 300)
    tokens = encode_parts(documents, [["held out"]], vocabulary, tmp_path)
    assert spell_documents(tokens.train, vocabulary) == ["".join(document) for document in documents]


@pytest.mark.parametrize(
    "how", [{"temperature": 0.0}, {"temperature": 0.3}, {"top_k": 5}, {"temperature": 1.5}], ids=str
)
def test_no_passage_is_longer_than_allowed(how: dict[str, float]) -> None:
    prompts = ["From fairest creatures", "", "THOU"]
    free = [text for prompt in prompts for text in parrot().write(prompt, length=150, count=2, **how)]
    guarded = [
        text for prompt in prompts for text in parrot().write(prompt, length=150, count=2, max_copy=LIMIT, **how)
    ]
    assert longest_copy(guarded) <= LIMIT
    if how.get("temperature", 1.0) < 1:
        assert longest_copy(free) > 3 * LIMIT


def test_what_is_guarded_alone_and_in_a_batch_is_the_same() -> None:
    together = parrot().write("From", length=80, count=4, max_copy=LIMIT, precision="fp32")
    alone = [parrot().write("From", length=80, seed=seed, max_copy=LIMIT, precision="fp32")[0] for seed in range(4)]
    assert together == alone


def test_a_limit_that_is_never_reached_changes_nothing() -> None:
    how = {"length": 40, "count": 2, "precision": "fp32"}
    assert shared_run().write("Thou", **how, max_copy=5_000) == shared_run().write("Thou", **how)


def test_a_model_whose_text_is_not_known_cannot_be_guarded() -> None:
    writer = open_writer(parrot().folder.model)
    with pytest.raises(SettingsError, match="not known what this model has learned from"):
        writer.write("", WritingSettings(max_copy=50))


def test_the_command_takes_the_limit() -> None:
    asked = ("--prompt", "From fairest", "--length", "100", "--temperature", "0.1", "--max-copy", str(LIMIT), "--quiet")
    outcome = command("write", parrot().path, *asked)
    assert outcome.code == 0, outcome.err
    assert longest_copy([outcome.out.removeprefix("From fairest").rstrip("\n")]) <= LIMIT
