"""The blind test is blind and fair, and its numbers are right."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from scipy.stats import binomtest

from epigone.errors import TextTooShort
from epigone.evaluation.quiz import (
    CUT,
    Question,
    choose_author_passages,
    count_words,
    describe_result,
    find_contexts,
    find_quoted,
    judge_answers,
    list_starts,
    make_pair,
    make_quiz,
    measure_interval,
)
from helpers_front import command, shared_run, sonnets

PROSE = " ".join(f"Sentence number {n} tells of {'a quiet ' * (n % 4)}thing." for n in range(400))
QUESTIONS = [Question(text=f"Text {n}.", genuine=n % 2 == 0) for n in range(20)]


def answer(n_right: int, n_all: int = 20) -> dict[int, bool]:
    return {n: QUESTIONS[n].genuine == (n < n_right) for n in range(n_all)}


# -- answers


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (13, 20), (1, 3), (50, 100)])
def test_the_interval_is_that_of_wilson(hits: int, n: int) -> None:
    known = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert measure_interval(hits, n) == pytest.approx((known.low, known.high), abs=1e-9)


def test_without_answers_nothing_is_known() -> None:
    assert measure_interval(0, 0) == (0.0, 1.0)
    assert describe_result(judge_answers(QUESTIONS, {}), QUESTIONS) == ["No question was answered."]


@pytest.mark.parametrize(
    ("right", "of", "verdict"),
    [
        (13, 20, "You could not tell them apart."),
        (14, 20, "You could not tell them apart."),
        (15, 20, "You could tell them apart."),
        (2, 20, "You told them apart, but mistook one for the other."),
        (5, 5, "Fewer than 10 answers say little."),
    ],
)
def test_the_sentence_follows_from_the_interval(right: int, of: int, verdict: str) -> None:
    result = judge_answers(QUESTIONS, answer(right, of))
    assert (result.n_hits, result.n_answers) == (right, of)
    assert describe_result(result, QUESTIONS)[1] == verdict


def test_the_wrong_answers_are_named() -> None:
    lines = describe_result(judge_answers(QUESTIONS, answer(18)), QUESTIONS)
    assert lines[0].startswith("Right: 18 of 20, 90 % (95 % interval: 70 to 97 %;")
    assert lines[2] == "Wrong: 19 (the author's), 20 (the model's)."


# -- passages


def test_sentences_begin_where_others_end() -> None:
    text = "One. Two!\n\n  Three\n\nFour"
    assert [text[start:].split()[0] for start in list_starts(text)] == ["One.", "Two!", "Three", "Four"]


def test_genuine_passages_are_whole_and_separate_and_as_long_as_asked() -> None:
    spans = choose_author_passages([PROSE], [], 12, 40, random.Random(1))
    assert len(spans) == 12
    for span in spans:
        passage = PROSE[span.start : span.end]
        assert passage.startswith("Sentence") and passage.endswith("thing.") and 30 <= count_words(passage) <= 50
    ordered = sorted(spans)
    assert all(one.end <= other.start for one, other in pairwise(ordered))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("“One. Two.” Three. Four.", ["Two"]),
        ('"One. Two." Three. "Four," said I, "five. Six."', ["Two", "Six"]),
        ("‘It’s one. The boys’ two.’ Three. It’s four.", ["The"]),
        ("„Eins. Zwei.“ Drei. »Vier. Fünf.« Sechs. „Sieben. Acht.” Neun.", ["Zwei", "Fünf", "Acht"]),
        ("« Un. Deux. » Trois. « Quatre. « Cinq.\n\nSix.", ["Deux", "» Trois", "« Cinq"]),
        ("“One. Two.\n\nThree. “Four. ‘Five. Six.’ Seven.” Eight.", ["Two", "‘Five", "Six", "Seven"]),
        ("He said—“one. Two”—and went. 5 o’clock. Three.", ["Two"]),
        ("It is 6'2\" high. One. Two.", []),
    ],
)
def test_sentences_within_a_quotation_are_known(text: str, quoted: list[str]) -> None:
    places = find_quoted(text, list_starts(text))
    assert sorted(places) == [text.index(word) for word in quoted]


def test_passages_begin_outside_quotations_where_there_is_a_sentence_outside() -> None:
    text = " ".join(
        f"Number {n} is told. “I know it of {n}. So do I. And I of number {n}.” So it is." for n in range(90)
    )
    spans = choose_author_passages([text], [], 6, 20, random.Random(1))
    passages = [text[span.start : span.end] for span in spans]
    assert len(passages) == 6 and all(one.startswith(("Number", "“I", "So it")) for one in passages)
    assert all(one.count("“") == one.count("”") for one in passages)
    only_speech = "“" + " ".join(f"I have said {n} things to a friend of mine." for n in range(90)) + "”"
    assert len(choose_author_passages([only_speech], [], 3, 20, random.Random(1))) == 3


def test_what_the_model_wrote_begins_outside_a_quotation_too() -> None:
    written = (
        "and so on. “He came. He saw the town of old. He won it.” It was a long day and an old one. " + "It went. " * 9
    )
    pair = make_pair("A day that was long. It went. It came to an end.", written, 12)
    assert pair is not None and pair[1].startswith(("“He came", "It was"))


def test_no_genuine_passage_is_in_the_training_text() -> None:
    secret = "This very sentence was in the text that it has learned from."
    held_out = [f"{secret} And another one, which is new, follows it here. "]
    learned = [f"Before. {secret.upper()} After."]

    def count_shown(learned: list[str]) -> int:
        spans = choose_author_passages(held_out, learned, 1, 20, random.Random(0))
        return sum(secret in held_out[0][span.start : span.end] for span in spans)

    assert count_shown([]) == 1 and count_shown(learned) == 0


def test_the_text_that_the_model_continues_is_never_shown() -> None:
    spans = choose_author_passages([PROSE], [], 10, 30, random.Random(0))
    contexts = find_contexts([PROSE], spans, 10, random.Random(0))
    assert len(contexts) == 10
    for context in contexts:
        start = PROSE.index(context)
        assert not any(span.start < start + len(context) and start < span.end for span in spans)
    assert find_contexts(["Short."], [], 2, random.Random(0)) == ["", ""]


def test_a_pair_is_equally_long_and_cut_alike() -> None:
    written = "and on it goes. " + PROSE[500:1500]
    genuine = PROSE[: PROSE.index("thing.", 180) + 6]
    pair = make_pair(genuine, written, 30)
    assert pair is not None and pair[0] == genuine and pair[1].startswith("Sentence") and pair[1].endswith("thing.")
    assert abs(count_words(pair[1]) - count_words(genuine)) <= 0.25 * count_words(genuine)


def test_without_sentence_ends_both_are_cut_after_as_many_words() -> None:
    pair = make_pair(PROSE[:300].rpartition(".")[0] + ".", "word " * 100, 30)
    assert pair is not None and all(text.endswith(CUT) for text in pair)
    assert count_words(pair[0]) == count_words(pair[1])
    assert make_pair("One two three four five six. " * 5, "word word", 30) is None


def test_a_quiz_is_balanced_and_the_same_for_the_same_seed() -> None:
    pairs = [(f"author {n}", f"model {n}") for n in range(10)]
    quiz = make_quiz(pairs, random.Random(4))
    assert sum(question.genuine for question in quiz) == 10 and len(quiz) == 20
    assert all(question.genuine == question.text.startswith("author") for question in quiz)
    assert quiz == make_quiz(pairs, random.Random(4)) != make_quiz(pairs, random.Random(5))
    with pytest.raises(TextTooShort):
        make_quiz([], random.Random(0))


# -- a run's own


def test_a_run_asks_about_its_own_text() -> None:
    run = shared_run()
    quiz = run.quiz(count=6, length=12, seed=3)
    assert quiz == run.quiz(count=6, length=12, seed=3)
    assert sum(question.genuine for question in quiz) == len(quiz) / 2 >= 1
    cut = [question.genuine for question in quiz if question.text.endswith(CUT)]
    assert sum(cut) * 2 == len(cut), "a cut passage must not tell who wrote it"
    (held_out,), (learned,) = run.folder.read_held_out(), run.folder.read_documents()
    for question in quiz:
        stands = question.text.removesuffix(CUT) in held_out
        assert stands == question.genuine
        assert not question.genuine or question.text.removesuffix(CUT) not in learned
    assert held_out[:200] in sonnets(12_000)


class _Answering:
    """Stands for ask_line: gives one answer after another, then nothing."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def __call__(self, _mark: str) -> str | None:
        answer = self.answers.pop(0) if self.answers else None
        if answer == "^C":
            raise KeyboardInterrupt
        return answer


def hold(monkeypatch: pytest.MonkeyPatch, *answers: str) -> str:
    monkeypatch.setattr("epigone.cli.interactive.ask_line", _Answering(*answers))
    monkeypatch.setattr("epigone.cli.quiz.can_answer", lambda: True)
    outcome = command("quiz", shared_run().path, "--count", "4", "--length", "10")
    assert outcome.code == 0, outcome.err
    return outcome.out


def test_the_quiz_asks_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    quiz = shared_run().quiz(count=4, length=10)
    right = ["a" if question.genuine else "m" for question in quiz]
    said = hold(monkeypatch, "what?", *right)
    assert f"Right: {len(quiz)} of {len(quiz)}, 100 %" in said and "Type a or m; q quits" in said
    line = f"I got {len(quiz)} of {len(quiz)} right in a quiz on “Sonnets”, made with epigone."
    assert f"copy this line:\nWritten by the author or by a model? {line}\n" in said
    assert all(" ".join(question.text.split()) in " ".join(said.split()) for question in quiz)


@pytest.mark.parametrize("end", [(), ("q",), ("^C",)], ids=["end of input", "q", "Ctrl-C"])
def test_an_interrupted_quiz_ends_with_the_result_so_far(monkeypatch: pytest.MonkeyPatch, end: tuple[str, ...]) -> None:
    said = hold(monkeypatch, "a", *end)
    assert re.search(r"Right: [01] of 1,", said) and "say little" in said


def test_a_quiz_without_a_terminal_is_an_error() -> None:
    outcome = command("quiz", shared_run().path)
    assert outcome.code == 2 and "--out quiz.html" in outcome.err


def test_a_run_that_is_not_there_is_named_before_the_quiz_asks_for_a_terminal(tmp_path: Path) -> None:
    assert f"There is no run {tmp_path / 'none'}" in command("quiz", tmp_path / "none").err


@pytest.mark.parametrize("flags", [("--count", "1"), ("--length", "2"), ("--length", "5000")], ids=" ".join)
def test_an_impossible_quiz_is_an_error(tmp_path: Path, flags: tuple[str, str]) -> None:
    outcome = command("quiz", shared_run().path, *flags, "--page", tmp_path / "q.html")
    assert outcome.code == 2 and outcome.err.startswith("error: ") and not (tmp_path / "q.html").exists()


def test_a_quiz_can_be_a_page(tmp_path: Path) -> None:
    outcome = command("quiz", shared_run().path, "--count", "4", "--length", "10", "--page", tmp_path / "q.html")
    page = (tmp_path / "q.html").read_text("utf-8")
    assert outcome.code == 0 and "q.html" in outcome.out
    assert page.count('data-is="author"') == page.count('data-is="model"') >= 1
