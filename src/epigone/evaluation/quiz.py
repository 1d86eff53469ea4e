"""Blind test: can a reader tell the author's held-out passages from the model's? Questions, and what the answers show.

The two passages of a pair are cut alike, so that neither gives itself away: each begins and ends with a sentence, and
both are equally long. If that is impossible, both are cut after the same number of words.
"""

from __future__ import annotations

import math
import random
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from epigone.corpus.large_text import Text
from epigone.corpus.words import SENTENCE_END, SPACED_WORD
from epigone.errors import TextTooShort
from epigone.text_reuse.hashing import normalise
from epigone.text_reuse.matches import measure_longest

UNEVEN = 0.25
"""How much longer one passage of a pair may be, as a share of its words."""
CONTEXT_CHARACTERS = 300
"""Characters of held-out text that the model continues."""
DISTINCT_CHARACTERS = 40
"""A held-out sentence of this length that is also in the training text would not be a fair test."""
CANDIDATES = 4
"""Passages that are searched for together in the training text, for each one that is asked for."""
FEWEST_ANSWERS = 10
Z95 = 1.959963984540054
"""95 % of the normal distribution lie between minus and plus this."""
CUT = " …"
CLOSING = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "‘": "’", "「": "」", "『": "』"}
"""Quotation marks that open, and what closes each; the straight single one is an apostrophe nearly always."""
MARKS = re.compile(r"\n[^\S\n]*\n|[\"“”„«»‘「」『』]|’(?!\w)")
"""Those, and the ends of paragraphs, with which quotations end."""
OPENS_AFTER = re.compile(r"[\s(\[{—–=*_-]")
"""What a straight mark that opens stands behind."""


class WordSpan(NamedTuple):
    """A passage of one of several documents, in characters."""

    document: int
    start: int
    end: int

    def overlaps(self, other: WordSpan) -> bool:
        """Whether the two share a character."""
        return self.document == other.document and self.start < other.end and other.start < self.end


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A passage of unknown origin, and the answer."""

    text: str
    genuine: bool
    """Whether the author wrote it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The answers counted."""

    n_answers: int
    n_hits: int
    low: float
    high: float
    """The 95 % interval of the hit rate, 0 to 1 (Wilson 1927)."""
    wrong: tuple[int, ...]
    """The numbers, from 0, of the questions that were answered wrongly."""

    @property
    def rate(self) -> float:
        """The share of right answers; 0.5 if there are none."""
        return self.n_hits / self.n_answers if self.n_answers else 0.5


# -- passages


def list_starts(text: str) -> list[int]:
    """Where sentences begin: at the beginning of the text, after another one, and after an empty line."""
    ends = {match.end() for match in SENTENCE_END.finditer(text)}
    ends |= {match.end() for match in re.finditer(r"\n[^\S\n]*\n", text)} | {0}
    return sorted({start for end in ends if (start := _skip_space(text, end)) < len(text)})


def find_quoted(text: str, places: Iterable[int], start: int = 0) -> set[int]:
    """Those of these places that lie within a quotation, seen from `start`, which lies in none."""
    left, quoted, closing = deque(sorted(places)), set[int](), ""
    for mark in MARKS.finditer(text, start, max(left, default=start)):
        while left and left[0] <= mark.start():
            place = left.popleft()
            quoted |= {place} if closing else set()
        found = mark[0]
        if closing:
            closing = "" if found in closing or found.isspace() else closing
        elif found != '"' or mark.start() == start or OPENS_AFTER.match(text[mark.start() - 1]):
            closing = CLOSING.get(found, "")
    return quoted | (set(left) if closing else set())


def _skip_space(text: str, place: int) -> int:
    """The place of the first character from here on that is not white space."""
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def count_words(text: str) -> int:
    """The words of a text."""
    return len(SPACED_WORD.findall(text))


def find_passage_end(text: str, start: int, n_words: int) -> int | None:
    """The sentence end closest to `n_words` after the start, outside a quotation if possible; None if none is close."""
    words = [match.end() for match in SPACED_WORD.finditer(text, start, start + 40 * n_words + 400)]
    boundaries = SENTENCE_END.finditer(text, start, start + 40 * n_words + 400)
    ends = {match.end(): sum(word <= match.end() for word in words) for match in boundaries}
    near = [end for end, count in ends.items() if abs(count - n_words) <= UNEVEN * n_words]
    quoted = find_quoted(text, near, start)
    return min(near, key=lambda end: (end in quoted, abs(ends[end] - n_words)), default=None)


def cut_words(text: str, n_words: int) -> str:
    """The first `n_words` words, and a sign that more follows."""
    ends = [match.end() for match in SPACED_WORD.finditer(text)]
    return text[: ends[n_words - 1]] + CUT if 0 < n_words < len(ends) else text


def choose_author_passages(
    documents: Sequence[str], learned: Sequence[Text], count: int, n_words: int, generator: random.Random
) -> list[WordSpan]:
    """At most `count` held-out passages of about `n_words` words that do not overlap.

    Each begins with a sentence, and shares no long sentence with the training text. Those that begin within a
    quotation, whose first mark is then missing, are taken where there are no others.
    """
    starts = _list_all_starts(documents, generator)
    spans: list[WordSpan] = []
    n_each = max(1, CANDIDATES * count)
    for first in range(0, len(starts), n_each):
        found = [_cut_span(documents, *start, n_words) for start in starts[first : first + n_each]]
        candidates = [span for span in found if span is not None]
        known = find_in_training([documents[span.document][span.start : span.end] for span in candidates], learned)
        for span, is_known in zip(candidates, known, strict=True):
            if len(spans) < count and not is_known and not any(map(span.overlaps, spans)):
                spans.append(span)
        if len(spans) == count:
            break
    return spans


def _list_all_starts(documents: Sequence[str], generator: random.Random) -> list[tuple[int, int]]:
    """The document and place of each beginning of a sentence, in random order, those within quotations at the end."""
    found = [list_starts(text) for text in documents]
    quoted = [find_quoted(text, starts) for text, starts in zip(documents, found, strict=True)]
    all_starts = [(number, start) for number, starts in enumerate(found) for start in starts]
    generator.shuffle(all_starts)
    return sorted(all_starts, key=lambda place: place[1] in quoted[place[0]])


def _cut_span(documents: Sequence[str], number: int, start: int, n_words: int) -> WordSpan | None:
    text = documents[number]
    end = find_passage_end(text, start, n_words) or _nth_word_end(text, start, n_words)
    return None if end is None else WordSpan(number, start, end)


def _nth_word_end(text: str, start: int, n_words: int) -> int | None:
    for number, match in enumerate(SPACED_WORD.finditer(text, start), 1):
        if number == n_words:
            return match.end()
    return None


def find_in_training(passages: Sequence[str], learned: Sequence[Text]) -> list[bool]:
    """For each passage, whether a long sentence of it is in a document. The documents are read once for all of them."""
    sentences = [(number, one) for number, passage in enumerate(passages) for one in _list_distinct(passage)]
    shared = measure_longest([one for _, one in sentences], learned, DISTINCT_CHARACTERS) if sentences else []
    known = {number for (number, one), size in zip(sentences, shared, strict=True) if size == len(one)}
    return [number in known for number in range(len(passages))]


def _list_distinct(passage: str) -> Iterator[str]:
    """The long sentences of a passage, normalised."""
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(passage)), len(passage)]
    sentences = (normalise(passage[a:b]).strip() for a, b in pairwise(ends))
    return (sentence for sentence in sentences if len(sentence) >= DISTINCT_CHARACTERS)


def find_contexts(
    documents: Sequence[str], shown: Sequence[WordSpan], count: int, generator: random.Random
) -> list[str]:
    """For each text that the model will write, held-out text to continue: it ends with a sentence and is never shown.

    Empty strings if there is no room for any; the model then begins by itself.
    """
    free: list[str] = []
    for number, end in _list_all_starts(documents, generator):
        span = WordSpan(number, max(0, end - CONTEXT_CHARACTERS), end)
        if end - span.start >= CONTEXT_CHARACTERS // 3 and not any(map(span.overlaps, shown)):
            free.append(documents[number][span.start : end])
    return [free[number % len(free)] if free else "" for number in range(count)]


def choose_passages(
    documents: Sequence[str], learned: Sequence[Text], count: int, n_words: int, generator: random.Random
) -> list[tuple[str, str]]:
    """At most `count` held-out passages of about `n_words` words, each with another text for the model to continue."""
    spans = choose_author_passages(documents, learned, count, n_words, generator)
    contexts = find_contexts(documents, spans, len(spans), generator)
    passages = [documents[span.document][span.start : span.end] for span in spans]
    return list(zip(passages, contexts, strict=True))


# -- questions


def make_pair(genuine: str, written: str, n_words: int) -> tuple[str, str] | None:
    """The author's passage and one of the model's, equally long; None if the model wrote too little."""
    starts = [start for start in list_starts(written) if start < len(written) // 2]
    quoted = find_quoted(written, starts)
    for start in sorted(starts[1:], key=lambda start: start in quoted) + starts[:1]:
        end = find_passage_end(written, start, count_words(genuine))
        if end is not None and genuine.rstrip()[-1:] in ".!?…。！？\"'”’»)]" and not written[start].islower():
            return genuine.strip(), written[start:end].strip()
    rest = written[starts[1] if len(starts) > 1 and count_words(written[starts[1] :]) > n_words else 0 :].strip()
    n_same = min(n_words, count_words(genuine) - 1, count_words(rest) - 1)
    return (cut_words(genuine.strip(), n_same), cut_words(rest, n_same)) if n_same >= n_words // 2 else None


def make_quiz(pairs: Sequence[tuple[str, str]], generator: random.Random) -> tuple[Question, ...]:
    """The passages of all pairs in random order, half of them the author's. Raises TextTooShort if there are none."""
    if not pairs:
        raise TextTooShort(
            "There is too little held-out text for passages of this length, or the model wrote too little.",
            hint="Ask for shorter passages: a smaller length.",
        )
    questions = [Question(text=text, genuine=number == 0) for pair in pairs for number, text in enumerate(pair)]
    generator.shuffle(questions)
    return tuple(questions)


# -- answers


def judge_answers(questions: Sequence[Question], answers: Mapping[int, bool]) -> Result:
    """Count the answers: for each question answered, by its number from 0, whether it was taken for the author's."""
    wrong = tuple(number for number in sorted(answers) if answers[number] != questions[number].genuine)
    return make_result(len(answers) - len(wrong), len(answers), wrong)


def make_result(n_hits: int, n_answers: int, wrong: tuple[int, ...] = ()) -> Result:
    """A number of right answers, with the 95 % interval of their share."""
    low, high = measure_interval(n_hits, n_answers)
    return Result(n_answers=n_answers, n_hits=n_hits, low=low, high=high, wrong=wrong)


def measure_interval(n_hits: int, n_all: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0 to 1 (Wilson 1927); the whole of it without any data."""
    if n_all == 0:
        return 0.0, 1.0
    share, square = n_hits / n_all, Z95**2
    middle = (share + square / (2 * n_all)) / (1 + square / n_all)
    half = Z95 * math.sqrt(share * (1 - share) / n_all + square / (4 * n_all**2)) / (1 + square / n_all)
    return max(0.0, middle - half), min(1.0, middle + half)


def describe_result(result: Result, questions: Sequence[Question]) -> list[str]:
    """The hit rate with its interval, what it means, and which answers were wrong."""
    if not result.n_answers:
        return ["No question was answered."]
    lines = [
        f"Right: {result.n_hits} of {result.n_answers}, {100 * result.rate:.0f} % "
        f"(95 % interval: {100 * result.low:.0f} to {100 * result.high:.0f} %; guessing gives 50 %).",
        judge_rate(result),
    ]
    names = [f"{number + 1} ({name_writer(questions[number])})" for number in result.wrong]
    return lines + ([f"Wrong: {', '.join(names)}."] if names else [])


def describe_outcomes(questions: Sequence[Question]) -> list[str]:
    """What to say for each number of right answers, from 0 on, when all are given."""
    n_all = len(questions)
    return [" ".join(describe_result(make_result(n_hits, n_all), questions)) for n_hits in range(n_all + 1)]


def describe_share(n_hits: int, n_answers: int, title: str) -> str:
    """One line for others: how many passages were told right, and in which quiz. Nothing of the text is in it."""
    return (
        f"Written by the author or by a model? I got {n_hits} of {n_answers} right in a quiz on “{title}”, "
        "made with epigone."
    )


def list_shares(n_questions: int, title: str) -> list[str]:
    """That line for each number of right answers, from 0 on, when all are given."""
    return [describe_share(n_hits, n_questions, title) for n_hits in range(n_questions + 1)]


def judge_rate(result: Result) -> str:
    """What a hit rate means, in one sentence."""
    if result.n_answers < FEWEST_ANSWERS:
        return f"Fewer than {FEWEST_ANSWERS} answers say little."
    if result.low <= 0.5 <= result.high:
        return "You could not tell them apart."
    return "You could tell them apart." if result.low > 0.5 else "You told them apart, but mistook one for the other."


def name_writer(question: Question) -> str:
    """Who wrote a passage, in words."""
    return "the author's" if question.genuine else "the model's"
