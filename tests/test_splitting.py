"""Every character is training or validation text, never both, and sentences stay whole if the text allows it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigone.corpus.corpus import Corpus, make_corpus, read_corpus, read_document
from epigone.corpus.sources import Source
from epigone.corpus.split import Split, split_corpus
from epigone.errors import SettingsError, TextTooShort

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no texts at EPIGONE_TEST_DATA")
How = Literal["auto", "spread", "tail", "documents"]

PARAGRAPH = "Mr. Brown was not at home. He had, as his sister said, gone out to see\nDr. Green! “Has he?” asked I.\n\n"


def make(*texts: str) -> Corpus:
    sources = (Source(name=f"{i}.txt", read=text.encode) for i, text in enumerate(texts))
    return make_corpus([read_document(source) for source in sources])


def split(corpus: Corpus, how: How = "spread", share: float = 0.1, seed: int = 0) -> Split:
    return split_corpus(corpus, how=how, share=share, seed=seed)


def n_held(split: Split) -> int:
    return sum(map(len, split.validation))


def assert_partition(corpus: Corpus, split: Split) -> None:
    """Sorted, the spans of both parts cover every document without gaps."""
    assert split.train and split.validation
    ends = [0] * len(corpus.documents)
    for span in sorted((*split.train, *split.validation), key=lambda span: (span.document, span.start)):
        assert span.start == ends[span.document] < span.end
        ends[span.document] = span.end
    assert ends == [len(document.text) for document in corpus.documents]
    for part in (split.train, split.validation):
        assert list(part) == sorted(part, key=lambda span: (span.document, span.start))


words = st.text(st.sampled_from("ab.!” \n\n。é"), min_size=1, max_size=300).map(lambda text: "x" + text + "y")


@given(
    texts=st.lists(st.one_of(words, words.map(lambda text: text * 50)), min_size=1, max_size=12),
    how=st.sampled_from(["auto", "spread", "tail", "documents"]),
    share=st.floats(0.001, 0.9),
    seed=st.integers(0, 5),
)
def test_every_character_is_in_one_part(texts: Sequence[str], how: How, share: float, seed: int) -> None:
    corpus = make(*texts)
    if how == "documents" and len(texts) == 1:
        with pytest.raises(SettingsError):
            split(corpus, how, share, seed)
    elif how != "tail" or int(corpus.n_characters * (1 - share)) > 0:
        assert_partition(corpus, split(corpus, how, share, seed))


def test_the_parts_return_their_texts() -> None:
    corpus = make(PARAGRAPH * 100)
    parts = split(corpus, "tail", 0.25)
    assert "".join(parts.train_texts(corpus)) + "".join(parts.validation_texts(corpus)) == PARAGRAPH * 100


# -- tail


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_tail_is_cut_at_exactly_the_share(share: float) -> None:
    corpus = make("a" * 997, "b" * 500, "c" * 40)
    parts = split(corpus, "tail", share)
    assert sum(map(len, parts.train)) == int(1_537 * (1 - share))
    assert parts.validation[-1].end == 40


@needs_data
def test_the_tail_of_tinyshakespeare_is_the_usual_one() -> None:
    corpus = read_corpus([str(DATA / "tinyshakespeare.txt")])
    parts = split(corpus, "tail")
    assert (sum(map(len, parts.train)), n_held(parts)) == (1_003_854, 111_540)


# -- spread


def test_a_long_file_gives_eight_even_spans_and_not_its_beginning() -> None:
    corpus = make(PARAGRAPH * 5_000)
    parts = split(corpus)
    size = corpus.n_characters
    assert len(parts.validation) == 8
    assert len(parts.train) == 9
    for i, span in enumerate(parts.validation):
        assert abs((span.start + span.end) / 2 / size - (i + 0.5) / 8) < 0.02


@pytest.mark.parametrize(("n_characters", "n_spans"), [(10_000, 1), (45_000, 2), (90_000, 4), (1_000_000, 8)])
def test_a_short_file_gives_fewer_spans(n_characters: int, n_spans: int) -> None:
    corpus = make(PARAGRAPH * (n_characters // len(PARAGRAPH)))
    assert len(split(corpus).validation) == n_spans


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("n_characters", [20_000, 200_000])
def test_the_share_is_met_within_a_tenth(share: float, n_characters: int) -> None:
    corpus = make(PARAGRAPH * (n_characters // len(PARAGRAPH)))
    assert n_held(split(corpus, share=share)) == pytest.approx(share * corpus.n_characters, rel=0.1)


def test_many_short_files_meet_the_share_together() -> None:
    corpus = make(*(PARAGRAPH * 6 + str(i) for i in range(9)))
    assert n_held(split(corpus)) == pytest.approx(0.1 * corpus.n_characters, rel=0.25)


def edges(corpus: Corpus, parts: Split) -> list[tuple[str, str]]:
    """The text before and after each end of each held-out span."""
    text = corpus.documents[0].text
    return [(text[:at], text[at:]) for span in parts.validation for at in (span.start, span.end)]


def test_spans_are_between_paragraphs() -> None:
    corpus = make(PARAGRAPH * 400)
    assert all(before.endswith("I.\n\n") and after.startswith("Mr.") for before, after in edges(corpus, split(corpus)))


@pytest.mark.parametrize("join", [" ", "\n"])
def test_without_paragraphs_spans_end_with_sentences(join: str) -> None:
    text = join.join(PARAGRAPH.replace("\n", " ").strip() for _ in range(400))
    corpus = make(text)
    for before, after in edges(corpus, split(corpus)):
        assert re.search(r"(home\.|Green!)\s$", before), before[-20:]
        assert not after[0].isspace()


def test_a_title_or_an_initial_does_not_end_a_sentence() -> None:
    corpus = make("We saw Mr. Brown and Mrs. Grey with J. R. Smith, who asked Dr. White! " * 400)
    assert all(before.endswith("White! ") for before, _ in edges(corpus, split(corpus)))


def test_a_stop_within_a_sentence_does_not_end_it() -> None:
    corpus = make("“Come!” cried he, and they went... slowly, step by step, out. " * 400)
    assert all(before.endswith("out. ") for before, _ in edges(corpus, split(corpus)))


def test_chinese_sentences_stay_whole() -> None:
    corpus = make("床前明月光，疑是地上霜。「举头望明月！」低头思故乡。" * 800)
    assert all(re.search("[。！]」?$", before) for before, _ in edges(corpus, split(corpus)))
    assert not any(after.startswith("」") for _, after in edges(corpus, split(corpus)))


def test_verse_without_stops_is_cut_between_stanzas_and_lines_of_a_list_between_lines() -> None:
    verse = make("  a line of verse\n  and another one\n  and one more\n\n" * 400)
    assert all(before.endswith("more\n\n") and after[:3] == "  a" for before, after in edges(verse, split(verse)))
    lines = make("\tbread and butter\n" * 2_000)
    assert all(before.endswith("butter\n") and after[0] == "\t" for before, after in edges(lines, split(lines)))


def test_words_stay_whole_without_lines() -> None:
    corpus = make("word " * 10_000)
    assert all(before.endswith(" ") and after.startswith("word") for before, after in edges(corpus, split(corpus)))


def test_one_line_without_a_space_is_split_as_well() -> None:
    corpus = make("a" * 100_000)
    parts = split(corpus)
    assert_partition(corpus, parts)
    assert n_held(parts) == 10_000


@pytest.mark.parametrize("text", ["ab", "abc", "a b", "One. Two. Three.", PARAGRAPH])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5])
def test_a_tiny_text_has_two_parts(text: str, share: float) -> None:
    corpus = make(text)
    assert_partition(corpus, split(corpus, share=share))


def test_a_text_that_cannot_be_divided_is_too_short() -> None:
    with pytest.raises(TextTooShort, match="1 characters are too few to divide"):
        split(make("a"))


@pytest.mark.parametrize("text", [". " + " " * 300_000 + "a", "?" * 300_000, "a\n" + " \n" * 150_000, "_" * 300_000])
def test_odd_texts_are_split_quickly(text: str) -> None:
    corpus = make(text + "x")
    start = time.perf_counter()
    split(corpus)
    assert time.perf_counter() - start < 2


@needs_data
@pytest.mark.parametrize("name", ["gutenberg/austen-158.txt", "gutenberg/melville-15.txt", "unseen/wilde-verse.txt"])
def test_a_real_book_is_held_out_in_whole_paragraphs(name: str) -> None:
    corpus = read_corpus([str(DATA / name)])
    parts = split(corpus)
    assert n_held(parts) == pytest.approx(corpus.n_characters / 10, rel=0.03)
    assert all(re.search(r"[.!?…][\"'”’)_]*\s*\n\n$", before[-30:]) for before, _ in edges(corpus, parts))


# -- documents


def test_whole_files_are_held_out_near_the_share() -> None:
    corpus = make(*("x" * (900 + 20 * i) for i in range(10)))
    parts = split(corpus, "documents", 0.3)
    assert_partition(corpus, parts)
    assert all(len(span) == len(corpus.documents[span.document].text) for span in parts.validation)
    assert n_held(parts) == pytest.approx(0.3 * corpus.n_characters, rel=0.2)


def test_the_seed_chooses_the_files() -> None:
    corpus = make(*("x" * 1_000 for _ in range(20)))
    chosen = {split(corpus, "documents", seed=seed).validation for seed in range(5)}
    assert len(chosen) > 1
    assert split(corpus, "documents", seed=3) == split(corpus, "documents", seed=3)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [(10, 1), (1, 10_000), (5, 5), (1, 1, 10_000)])
def test_each_part_keeps_a_file(sizes: Sequence[int], share: float) -> None:
    corpus = make(*("x" * size for size in sizes))
    assert_partition(corpus, split(corpus, "documents", share))


def test_one_file_cannot_be_split_by_documents() -> None:
    with pytest.raises(SettingsError, match="One file") as caught:
        split(make(PARAGRAPH), "documents")
    assert "spread" in caught.value.hint


@pytest.mark.parametrize(
    ("sizes", "how"),
    [([1_000], "spread"), ([1_000] * 9, "spread"), ([1_000] * 10, "documents"), ([100] * 9 + [100_000], "spread")],
)
def test_auto_holds_out_whole_files_if_there_are_enough_similar_ones(sizes: Sequence[int], how: str) -> None:
    assert split(make(*("x" * size for size in sizes)), "auto").how == how


# -- a text of its own


def test_with_a_validation_text_all_of_the_other_is_training_text() -> None:
    corpus, held_out = make("a" * 10, "b" * 5), make("c" * 7)
    parts = split_corpus(corpus, how="auto", share=0.1, seed=0, held_out=held_out)
    assert parts.how == "file"
    assert list(parts.train_texts(corpus)) == ["a" * 10, "b" * 5]
    assert list(parts.validation_texts(corpus, held_out)) == ["c" * 7]
    with pytest.raises(SettingsError):
        parts.validation_texts(corpus)


def test_a_validation_text_that_is_training_text_as_well_is_reported() -> None:
    corpus = make("a" * 10)
    assert "says nothing" in split_corpus(corpus, how="auto", share=0.1, seed=0, held_out=corpus).reason


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_an_invalid_share_is_an_error(share: float) -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        split(make(PARAGRAPH), share=share)
