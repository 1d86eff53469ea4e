"""An author's held-out text and a model's in; a blind test out: passages to tell apart, and what the answers come to.

Both kinds are cut in the same way: each passage begins where a sentence does and ends where one does, and the two of a
pair are equally long. Where that cannot be had, both are cut after the same number of words.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from epigone.corpus.large_text import Text
from epigone.corpus.words import SENTENCE_END, SPACED_WORD
from epigone.errors import TextTooShort
from epigone.text_reuse.hashing import normalise
from epigone.text_reuse.matches import measure_longest

UNEVEN = 0.25
"""Most by which the words of a pair may differ, as a share of the longer one."""
CONTEXT_CHARACTERS = 300
"""Of held-out text that the model goes on from."""
TELLING_CHARACTERS = 40
"""A held-out sentence that long which the model has learned from would be no test."""
CANDIDATES = 4
"""Passages that are looked for together in what was learned from, for each one that is asked for."""
FEWEST_ANSWERS = 10
Z95 = 1.959963984540054
"""The normal distribution has 95 % between minus and plus this."""
CUT = " …"


class WordSpan(NamedTuple):
    """A passage of one of several documents."""

    document: int
    start: int
    end: int

    def overlaps(self, other: WordSpan) -> bool:
        """Whether the two have a character in common."""
        return self.document == other.document and self.start < other.end and other.start < self.end


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A passage, and who wrote it."""

    text: str
    genuine: bool
    """Whether the author did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What the answers come to."""

    n_answers: int
    n_hits: int
    low: float
    high: float
    """The 95 % interval of the hit rate, 0 to 1 (Wilson 1927)."""
    wrong: tuple[int, ...]
    """The questions, from 0, that were answered wrongly."""

    @property
    def rate(self) -> float:
        """The share of right answers; 0.5 without any."""
        return self.n_hits / self.n_answers if self.n_answers else 0.5


# -- passages


def list_starts(text: str) -> list[int]:
    """Where sentences begin: at the beginning of the text, behind the end of another, and after an empty line."""
    ends = {match.end() for match in SENTENCE_END.finditer(text)}
    ends |= {match.end() for match in re.finditer(r"\n[^\S\n]*\n", text)} | {0}
    return sorted({start for end in ends if (start := _pass_space(text, end)) < len(text)})


def _pass_space(text: str, place: int) -> int:
    """The place of the first character that is not white space."""
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def count_words(text: str) -> int:
    """The words of a text."""
    return len(SPACED_WORD.findall(text))


def find_passage(text: str, start: int, n_words: int) -> int | None:
    """Where the sentence ends whose end is the nearest to `n_words` after the start; None where none is near."""
    words = [match.end() for match in SPACED_WORD.finditer(text, start, start + 40 * n_words + 400)]
    boundaries = SENTENCE_END.finditer(text, start, start + 40 * n_words + 400)
    ends = {match.end(): sum(word <= match.end() for word in words) for match in boundaries}
    near = [end for end, count in ends.items() if abs(count - n_words) <= UNEVEN * n_words]
    return min(near, key=lambda end: abs(ends[end] - n_words), default=None)


def cut_words(text: str, n_words: int) -> str:
    """The first so many words and a mark that more follows."""
    ends = [match.end() for match in SPACED_WORD.finditer(text)]
    return text[: ends[n_words - 1]] + CUT if 0 < n_words < len(ends) else text


def choose_author_passages(
    documents: Sequence[str], learned: Sequence[Text], count: int, n_words: int, generator: random.Random
) -> list[WordSpan]:
    """At most `count` held-out passages that do not overlap and have no sentence in common with what was learned from.

    Each begins with a sentence and is about `n_words` long.
    """
    starts = [(number, start) for number, text in enumerate(documents) for start in list_starts(text)]
    generator.shuffle(starts)
    spans: list[WordSpan] = []
    n_each = max(1, CANDIDATES * count)
    for first in range(0, len(starts), n_each):
        found = [_find_span(documents, *start, n_words) for start in starts[first : first + n_each]]
        candidates = [span for span in found if span is not None]
        known = find_known([documents[span.document][span.start : span.end] for span in candidates], learned)
        for span, is_known in zip(candidates, known, strict=True):
            if len(spans) < count and not is_known and not any(map(span.overlaps, spans)):
                spans.append(span)
        if len(spans) == count:
            break
    return spans


def _find_span(documents: Sequence[str], number: int, start: int, n_words: int) -> WordSpan | None:
    text = documents[number]
    end = find_passage(text, start, n_words) or _find_word_end(text, start, n_words)
    return None if end is None else WordSpan(number, start, end)


def _find_word_end(text: str, start: int, n_words: int) -> int | None:
    for number, match in enumerate(SPACED_WORD.finditer(text, start), 1):
        if number == n_words:
            return match.end()
    return None


def find_known(passages: Sequence[str], learned: Sequence[Text]) -> list[bool]:
    """Of each passage whether a long sentence of it stands in a document; all are looked for in one reading."""
    sentences = [(number, one) for number, passage in enumerate(passages) for one in _list_telling(passage)]
    shared = measure_longest([one for _, one in sentences], learned, TELLING_CHARACTERS) if sentences else []
    known = {number for (number, one), size in zip(sentences, shared, strict=True) if size == len(one)}
    return [number in known for number in range(len(passages))]


def _list_telling(passage: str) -> Iterator[str]:
    """The long sentences of a passage, normalised."""
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(passage)), len(passage)]
    sentences = (normalise(passage[a:b]).strip() for a, b in pairwise(ends))
    return (sentence for sentence in sentences if len(sentence) >= TELLING_CHARACTERS)


def find_contexts(
    documents: Sequence[str], shown: Sequence[WordSpan], count: int, generator: random.Random
) -> list[str]:
    """For each text that the model is to write, held-out text that is nowhere shown and ends with a sentence.

    Empty where there is no room for any: the model then begins by itself.
    """
    free: list[str] = []
    for number, text in enumerate(documents):
        taken = [span for span in shown if span.document == number]
        for end in list_starts(text):
            start = max(0, end - CONTEXT_CHARACTERS)
            if end - start >= CONTEXT_CHARACTERS // 3 and not any(s.start < end and start < s.end for s in taken):
                free.append(text[start:end])
    generator.shuffle(free)
    return [free[number % len(free)] if free else "" for number in range(count)]


# -- questions


def make_pair(genuine: str, written: str, n_words: int) -> tuple[str, str] | None:
    """An author's passage and the model's, equally long; None where the model wrote too little."""
    starts = [start for start in list_starts(written) if start < len(written) // 2]
    for start in starts[1:] + starts[:1]:
        end = find_passage(written, start, count_words(genuine))
        if end is not None and genuine.rstrip()[-1:] in ".!?…。！？\"'”’»)]" and not written[start].islower():
            return genuine.strip(), written[start:end].strip()
    rest = written[starts[1] if len(starts) > 1 and count_words(written[starts[1] :]) > n_words else 0 :].strip()
    same = min(n_words, count_words(genuine) - 1, count_words(rest) - 1)
    return (cut_words(genuine.strip(), same), cut_words(rest, same)) if same >= n_words // 2 else None


def make_quiz(pairs: Sequence[tuple[str, str]], generator: random.Random) -> tuple[Question, ...]:
    """The passages of all pairs in a random order: as many of the author's as of the model's. Raises TextTooShort."""
    if not pairs:
        raise TextTooShort(
            "There is too little held-out text, or the model writes too little, for passages of this length.",
            hint="Ask for shorter ones with --length.",
        )
    questions = [Question(text=text, genuine=number == 0) for pair in pairs for number, text in enumerate(pair)]
    generator.shuffle(questions)
    return tuple(questions)


# -- answers


def judge_answers(questions: Sequence[Question], answers: Mapping[int, bool]) -> Result:
    """What came of it; `answers` say for a question, from 0, whether it was taken for the author's."""
    wrong = tuple(number for number in sorted(answers) if answers[number] != questions[number].genuine)
    n_hits = len(answers) - len(wrong)
    low, high = measure_interval(n_hits, len(answers))
    return Result(n_answers=len(answers), n_hits=n_hits, low=low, high=high, wrong=wrong)


def measure_interval(n_hits: int, n_all: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0 to 1 (Wilson 1927); all of it where nothing is known."""
    if n_all == 0:
        return 0.0, 1.0
    share, square = n_hits / n_all, Z95**2
    middle = (share + square / (2 * n_all)) / (1 + square / n_all)
    half = Z95 * math.sqrt(share * (1 - share) / n_all + square / (4 * n_all**2)) / (1 + square / n_all)
    return max(0.0, middle - half), min(1.0, middle + half)


def describe_result(result: Result, questions: Sequence[Question]) -> list[str]:
    """The hit rate with its interval, what it says, and which answers were wrong."""
    if not result.n_answers:
        return ["No question was answered."]
    lines = [
        f"Right: {result.n_hits} of {result.n_answers}, {100 * result.rate:.0f} % "
        f"(95 % interval: {100 * result.low:.0f} to {100 * result.high:.0f} %; guessing gives 50 %).",
        judge_rate(result),
    ]
    names = [f"{number + 1} ({name_writer(questions[number])})" for number in result.wrong]
    return lines + ([f"Wrong: {', '.join(names)}."] if names else [])


def judge_rate(result: Result) -> str:
    """What a hit rate says, in one sentence."""
    if result.n_answers < FEWEST_ANSWERS:
        return f"Fewer than {FEWEST_ANSWERS} answers say little."
    if result.low <= 0.5 <= result.high:
        return "You could not tell them apart."
    return "You could tell them apart." if result.low > 0.5 else "You told them apart, but took one for the other."


def name_writer(question: Question) -> str:
    """Who wrote a passage, in words."""
    return "the author's" if question.genuine else "the model's"
