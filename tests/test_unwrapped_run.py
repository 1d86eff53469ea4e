"""A run whose wrapped prose was learned in whole paragraphs guards, compares and asks as if it had its file's lines."""

from __future__ import annotations

import textwrap
from functools import cache
from pathlib import Path

from epigone.cli.write import describe_source
from epigone.evaluation.copying import find_copied
from epigone.evaluation.quiz import CUT
from epigone.generation.generator import TextGenerator
from epigone.model.decoder import ReferenceDecoder
from epigone.run import Run, open_run
from epigone.settings import WriteSettings
from epigone.text_reuse.matches import find_longest_shared
from epigone.tokens.tokenizer import encode, load_tokenizer
from helpers_front import TINY, command, make_once, sonnets
from helpers_writing import Parrot

LIMIT = 40


def wrapped() -> str:
    """The sonnets as prose whose lines break at 64 characters, also inside the sentences that a test may copy."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in sonnets(9_000).split("\n\n"))
    return "\n\n".join(textwrap.fill(paragraph, 64) for paragraph in paragraphs if len(paragraph) > 20) + "\n"


@cache
def run() -> Run:
    def make(place: Path) -> None:
        place.mkdir()
        (place / "prose.txt").write_text(wrapped(), "utf-8")
        assert command("train", place / "prose.txt", "--out", place / "run", *TINY).code == 0

    return open_run(make_once("unwrapped", make) / "run")


def say(text: str, **how: object) -> str:
    """What a model writes that says this text word for word and knows no other, with this run's training text."""
    tokenizer = load_tokenizer(run().folder.model)
    model = Parrot(encode(text, tokenizer), len(tokenizer))
    decoder = ReferenceDecoder(model)  # type: ignore[arg-type]
    generator = TextGenerator(decoder, tokenizer, read_documents=run().folder.read_documents)
    settings = WriteSettings(length=200, unit="characters", stop_at="anywhere", temperature=0.0, **how)
    return generator.write("", settings)[0]


def learned_passage() -> str:
    """A passage of the file, with its line breaks, that is trained on."""
    learned = " ".join(run().folder.read_documents()[0].split())
    return next(part for part in wrapped().split("\n\n") if part.count("\n") > 3 and " ".join(part.split()) in learned)


def test_it_has_learned_paragraphs() -> None:
    assert run().folder.read_receipt().files[0].n_lines_joined > 50
    assert "\n" in learned_passage() and learned_passage() not in str(run().folder.read_documents()[0])


def test_nothing_longer_than_the_limit_is_copied_from_it_whether_or_not_lines_are_broken_as_in_the_file() -> None:
    for passage in (learned_passage(), " ".join(learned_passage().split())):
        documents = run().folder.read_documents()
        free, guarded = (find_longest_shared(text, documents) for text in (say(passage), say(passage, max_copy=LIMIT)))
        assert free is not None and free.n_characters >= 190
        assert guarded is not None and guarded.n_characters <= LIMIT


def test_a_copy_is_found_in_the_file_and_in_what_was_learned() -> None:
    for passage in (learned_passage(), " ".join(learned_passage().split())):
        for text in (wrapped(), *run().folder.read_documents()):
            assert find_copied(passage, [text]).share == 1.0


def test_the_place_of_a_copy_is_one_of_the_text_that_was_learned() -> None:
    documents = run().folder.read_documents()
    found = find_longest_shared(learned_passage(), documents)
    assert found is not None
    assert f"line {found.line:,} of the text as it was read, without what was held out:" in describe_source(found, 1)
    assert f"of text {found.document + 1} as it was read, without what" in describe_source(found, 2)
    line = str(documents[0]).split("\n")[found.line - 1]
    assert " ".join(found.passage.split()) in line and "\n" in found.passage


def test_the_quiz_shows_paragraphs_of_the_held_out_text() -> None:
    questions = run().quiz(count=4, length=15)
    held_out, file = "\n".join(map(str, run().folder.read_held_out())), " ".join(wrapped().split())
    own = [question.text.removesuffix(CUT) for question in questions if question.genuine]
    assert len(own) >= 1 and all(text in held_out and " ".join(text.split()) in file for text in own)
    assert not any("\n" in text.replace("\n\n", "") for text in own)
