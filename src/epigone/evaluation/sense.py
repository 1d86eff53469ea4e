"""Does a text make sense, as far as words and sentences go? 0–100 scales between nonsense and the author's own text.

On each scale 0 is text without sense that was made from the author's, and 100 is the author's held-out text. Words: the
share that are in no list. Sentences: a logistic regression that has learned to tell spans of 32 words and marks by the
author from spans of a bigram model of the author, and of the author's sentences with their words shuffled. It sees how
the author's 120 most frequent words and marks, and word endings, stand next to or near each other, so repeated function
words, sentences that do not end and misplaced quotation marks count. Critic: bits per character that another model
needs. No scale sees whether one sentence follows from another.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from epigone.corpus.words import SENTENCE_END, WORD_OR_MARK
from epigone.evaluation.ngram_model import N_KINDS, number_kind, sample_ngram_text, shuffle
from epigone.evaluation.style import (
    BAD,
    GOOD,
    PIECE,
    Folds,
    Scale,
    ScaleScore,
    TextSample,
    average_scales,
    choose_size,
    describe_score,
    divide_in_folds,
    draw_text_sample,
    measure_scale,
    measure_whole,
)
from epigone.evaluation.stylometry import PLAIN_FORMS
from epigone.evaluation.verdict import SENSE_LIMITS, Verdict
from epigone.generation.known_words import LETTERS, KnownWords, list_words
from epigone.model.decoder import Decoder
from epigone.tokens.tokenizer import BPETokenizer, encode
from epigone.training.events import Grade

Values = NDArray[np.float64]
Places = NDArray[np.int64]

LEAST_TEXT, LEAST_OWN = 5_000, 25_000
"""Characters of the text that is judged or held out, and of the author's other text."""
ENOUGH_HELD_OUT = 25_000
"""Characters; if fewer are held out, each third of all the author's text is compared with the rest."""
MOST_READ = 50_000
"""Characters of the text that is judged and of the held-out text that are measured; more would say no more."""
MOST_LEARNED = 400_000
"""Characters of the author's text that sentences are learned from; it takes half a second."""
MOST_CRITICISED = 25_000
"""Characters of each text that the critic reads."""
NONSENSE_CHARACTERS, FLOOR_CHARACTERS = 400_000, 50_000
"""Of the bigram model's text that sentences are learned from, and of the text that is 0 on a scale."""
LETTERS_BEFORE = 3
"""Of the letter model whose words are 0 on the scale of words: about a third of them are in no list."""
WORDS, SENTENCES, CRITIC = "words", "sentences", "critic"
BIGRAMS = "a bigram model of the author"

# -- text that makes no sense

TOKEN = re.compile(rf"\s*(?:{WORD_OR_MARK.pattern})")
PARAGRAPH_OR_TOKEN = re.compile(rf"\n[^\S\n]*\n|{WORD_OR_MARK.pattern}")


def write_bigram_text(text: str, n_characters: int, rng: np.random.Generator) -> str:
    """About so many characters in which each word or mark follows one that it follows somewhere in the text."""
    return "".join(draw_bigrams(TOKEN.findall(text), len(text), n_characters, rng))


def draw_bigrams(tokens: Sequence[str], n_characters: int, n_wanted: int, rng: np.random.Generator) -> list[str]:
    """As many tokens as `n_wanted` characters have, by those of a text of `n_characters`: each as it follows there."""
    return sample_ngram_text(tokens, max(1, len(tokens) * n_wanted // max(1, n_characters)), 1, rng)


def shuffle_sentences(text: str, rng: np.random.Generator) -> str:
    """The text with the words of each sentence in another order."""
    edges = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    sentences = [text[start:end].split() for start, end in pairwise(edges)]
    return " ".join(" ".join(shuffle(words, rng)) for words in sentences if words)


# -- sentences

SPAN, N_KEPT, N_COLUMNS = 32, 120, 1 << 14
"""Words and marks of a span; the most frequent ones that keep their identity; columns that patterns are hashed to.

Of spans of 16 and 32 and of 30, 60 and 120 words these separate a short text best (findings).
"""
RIDGE, RATE, N_STEPS = 10.0, 0.05, 50


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """Tells spans of the author's text from spans of nonsense made from it."""

    places: Mapping[str, int]
    weights: Values

    @classmethod
    def train(cls, own: str, rng: np.random.Generator) -> SentenceModel:
        """Learn from the author's text; nonsense counts as much as the text does, a fifth of it shuffled sentences.

        The rest is bigrams of plain forms, in which fewer words follow each other only once.
        """
        tokens = _list_tokens(own)
        common = Counter(tokens).most_common(N_KEPT)
        places = {token: place for place, (token, _) in enumerate(common, N_KINDS)}
        bigrams = draw_bigrams(tokens, len(own), NONSENSE_CHARACTERS, rng)
        shuffled = _list_tokens(shuffle_sentences(own, rng))
        found = [_list_patterns(several, places) for several in (tokens, bigrams, shuffled)]
        is_own = np.repeat([1.0, -1.0, -1.0], [len(part) for part in found])
        share = np.repeat([0.5, 0.4, 0.1] / np.maximum(1, [len(part) for part in found]), [*map(len, found)])
        return cls(places, _fit_logistic(np.concatenate(found), is_own, share))

    def measure(self, text: str) -> Values:
        """For each span of a text the log-odds that it is the author's."""
        return np.asarray(self.weights[_list_patterns(_list_tokens(text), self.places)].sum(1))


def _fit_logistic(patterns: Places, is_own: Values, share: Values) -> Values:
    """Logistic regression on sparse rows by Adam (Kingma and Ba 2015), the mean loss weighted by `share`."""
    n_own = int((is_own > 0).sum()) * 2
    weights, first, second = (np.zeros(N_COLUMNS) for _ in range(3))
    for step in range(1, N_STEPS + 1):
        slope = -share * is_own / (1 + np.exp(is_own * weights[patterns].sum(1)))
        slopes = np.bincount(patterns.ravel(), np.repeat(slope, patterns.shape[1]), N_COLUMNS).astype(np.float64)
        slopes = slopes + RIDGE / n_own * weights
        first, second = 0.9 * first + 0.1 * slopes, 0.99 * second + 0.01 * slopes**2
        weights = weights - RATE * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-6)
    return weights


def _list_tokens(text: str) -> list[str]:
    """Words, marks and ends of paragraphs, in plain forms."""
    found = PARAGRAPH_OR_TOKEN.findall(text.translate(PLAIN_FORMS).casefold())
    return [token if token[0] != "\n" else "\n" for token in found]


def _list_patterns(tokens: Sequence[str], places: Mapping[str, int]) -> Places:
    """The hashed patterns of each span of a text's tokens: pairs one and two apart, and triples: [span, pattern]."""
    numbers = {token: places.get(token, number_kind(token)) for token in set(tokens)}
    spans = np.array([numbers[token] for token in tokens], np.uint64)[: len(tokens) // SPAN * SPAN].reshape(-1, SPAN)
    size = np.uint64(len(places) + N_KINDS)
    apart = spans[:, :-2] * size + spans[:, 2:]
    triples = (spans[:, :-2] * size + spans[:, 1:-1]) * size + spans[:, 2:]
    farther = spans[:, :-3] * size + spans[:, 3:]
    codes = [codes * np.uint64(3) + np.uint64(kind) for kind, codes in enumerate((apart, triples, farther))]
    hashed = np.concatenate(codes, 1) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(hashed >> np.uint64(64 - N_COLUMNS.bit_length() + 1)).astype(np.int64)


# -- the critic


@dataclass(frozen=True, slots=True)
class Critic:
    """A model that has not learned from the author, and is asked how surprising a text is."""

    name: str
    decoder: Decoder
    tokenizer: BPETokenizer
    n_context: int

    @torch.inference_mode()
    def measure_bits(self, text: str) -> float:
        """Bits that the model needs for all of a text, read in blocks; the first token of each costs nothing."""
        ids, nats = encode(text, self.tokenizer), 0.0
        for start in range(0, len(ids), self.n_context):
            block = torch.tensor([ids[start : start + self.n_context]])
            if block.shape[1] > 1:
                logits = self.decoder.read_all(block[:, :-1].to(self.decoder.device))
                nats += functional.cross_entropy(logits, block[0, 1:].to(self.decoder.device), reduction="sum").item()
        return nats / math.log(2)


# -- scales


def make_sense_scales(
    own: str, held_out: str, size: int, words: Sequence[str], critic: Critic | None, rng: np.random.Generator
) -> list[Scale]:
    """The scales of one author. `words`: a sorted list of words beside the author's own."""
    held, bigrams = draw_text_sample(held_out, size, rng), write_bigram_text(own, FLOOR_CHARACTERS, rng)
    known, model = KnownWords(tuple(words), list_words(own)), SentenceModel.train(own, rng)
    letters = "".join(sample_ngram_text(own[-MOST_LEARNED:], FLOOR_CHARACTERS, LETTERS_BEFORE, rng))

    def count_unknown(sample: TextSample) -> Values:
        found = [[word.casefold() for word in LETTERS.findall(piece)] for piece in sample.pieces]
        lacking = {word for word in set().union(*found) if not known.has(word)}
        unknown = [sum(word in lacking for word in several) for several in found]
        return sample.average(np.array(unknown, float), np.array([max(1, len(several)) for several in found], float))

    def doubt_sentences(sample: TextSample) -> Values:
        doubts = [-model.measure(piece) for piece in sample.pieces]
        return sample.average(
            np.array([doubt.sum() for doubt in doubts]), np.array([max(1, len(doubt)) for doubt in doubts], float)
        )

    scales = [
        _make_scale(WORDS, "a letter n-gram model", count_unknown, letters, held),
        _make_scale(SENTENCES, BIGRAMS, doubt_sentences, bigrams, held),
    ]
    if critic:
        scales.append(_make_scale(CRITIC, BIGRAMS, _ask_critic(critic), bigrams, held))
    return scales


def _make_scale(
    name: str, floor_name: str, distance: Callable[[TextSample], Values], nonsense: str, held: TextSample
) -> Scale:
    return Scale(name, floor_name, measure_whole(distance, nonsense), distance(held), distance)


def _ask_critic(critic: Critic) -> Callable[[TextSample], Values]:
    """Bits per character of at most so many pieces of a text as the critic reads."""

    def distance(sample: TextSample) -> Values:
        every = math.ceil(len(sample.pieces) * PIECE / MOST_CRITICISED)
        bits, sizes = np.zeros(len(sample.pieces)), np.zeros(len(sample.pieces))
        for place in range(0, len(sample.pieces), every):
            bits[place], sizes[place] = critic.measure_bits(sample.pieces[place]), len(sample.pieces[place])
        return sample.average(bits, np.maximum(sizes, 1e-9))

    return distance


def average_folds(
    folds: Folds, n_characters: int, words: Sequence[str], critic: Critic | None, seed: int
) -> tuple[list[Scale], int]:
    """The scales of the folds, averaged, and the size of the windows of the texts that are judged on them."""
    size = choose_size(min(MOST_READ, n_characters), min(MOST_READ, *(len(held) for _, held in folds)))
    made = [
        make_sense_scales(
            own[-MOST_LEARNED:], held[:MOST_READ], size, words, critic, np.random.default_rng([seed, fold])
        )
        for fold, (own, held) in enumerate(folds)
    ]
    return [average_scales(several) for several in zip(*made, strict=True)], size


# -- the verdict

_SENTENCES = {
    "good": "Its words and sentences are built like the author's",
    "fair": "Its words and sentences are built somewhat like the author's",
    "bad": "Its words and sentences are not built like the author's",
}
_OTHERWISE = "A text that makes sense but is written in another way can score as low."
_UNCERTAIN = "Too little text to say: its words and sentences may be built like the author's, or like nonsense: {}."
_ALIKE = (
    "Too short to say: measured by sentences, the author's own held-out text is not certainly better than nonsense."
)


def judge_sense(
    text: str,
    train: str,
    held_out: str,
    *,
    words: Sequence[str] = (),
    critic: Critic | None = None,
    seed: int = 0,
) -> Verdict:
    """Judge whether a text makes sense, as `SenseJudge` does."""
    return SenseJudge(train, held_out, words=words, critic=critic, seed=seed).judge(text)


class SenseJudge:
    """Judges whether texts make sense, as far as their words and sentences show, next to one author's.

    What is measured of the author is measured once.
    """

    def __init__(
        self, train: str, held_out: str, *, words: Sequence[str] = (), critic: Critic | None = None, seed: int = 0
    ) -> None:
        """`words`: a sorted list of words beside the author's own."""
        self.folds = divide_in_folds(train, held_out, ENOUGH_HELD_OUT)
        self.words, self.critic, self.seed = words, critic, seed
        self._made: tuple[list[Scale], int] | None = None

    def judge(self, text: str) -> Verdict:
        """The verdict on a text; the first one decides how long the windows are in which all are compared.

        Facts: "score", "low" and "high" on the lowest scale, which is "least"; "critic" and "size_needed".
        """
        facts: dict[str, Any] = {"size_needed": LEAST_TEXT, "critic": self.critic.name if self.critic else ""}
        if lacking := _describe_lack(len(text), self.folds):
            return Verdict(topic="makes sense", grade="unsure", sentence=lacking, facts=facts)
        if self._made is None:
            self._made = average_folds(self.folds, len(text), self.words, self.critic, self.seed)
        scales, size = self._made
        sample = draw_text_sample(text[:MOST_READ], size, np.random.default_rng(self.seed))
        n_pieces = len(sample.pieces)
        scores = {one.name: _cap(_widen(one.score(sample), n_pieces)) for one in scales if one.is_reliable}
        return _decide_grade(scales, scores, facts)


def _decide_grade(scales: Sequence[Scale], scores: Mapping[str, ScaleScore], facts: dict[str, Any]) -> Verdict:
    measures = tuple(measure_scale(scale, scores[scale.name]) for scale in scales if scale.name in scores)
    if not scores:
        return Verdict(topic="makes sense", grade="unsure", sentence=_ALIKE, facts=facts)
    least = min(scores, key=lambda name: scores[name].score)
    score = scores[least]
    grade, described = _grade_score(score), describe_score(score, least)
    if grade == "unsure" or (SENTENCES not in scores and grade != "bad"):
        sentence = _UNCERTAIN.format(described) if SENTENCES in scores else _ALIKE
        return Verdict(topic="makes sense", grade="unsure", sentence=sentence, measures=measures, facts=facts)
    facts |= {"least": least, "score": score.score, "low": score.low, "high": score.high}
    sentence = f"{_SENTENCES[grade]}: {described}. {_OTHERWISE if grade == 'bad' else SENSE_LIMITS}"
    return Verdict(topic="makes sense", grade=grade, sentence=sentence, measures=measures, facts=facts)


def _grade_score(score: ScaleScore) -> Grade:
    """The grade for a score on the lowest scale: of a short text the band is wide, and only all of it can be bad."""
    if score.high < BAD:
        return "bad"
    if score.low >= GOOD:
        return "good"
    return "unsure" if score.low <= 0 else "fair"


def _describe_lack(n_characters: int, folds: Folds) -> str:
    if n_characters < LEAST_TEXT:
        return f"Too short to say: the text has {n_characters:,} characters, and {LEAST_TEXT:,} are needed."
    own, held = folds[0]
    if len(own) < LEAST_OWN or len(held) < LEAST_TEXT:
        needed = LEAST_OWN * 3 // 2
        return (
            f"Too short to say: the author's own text has {len(own) + len(held):,} characters; {needed:,} are needed."
        )
    return ""


def _widen(score: ScaleScore, n_pieces: int) -> ScaleScore:
    """The band as wide as it should be where so few pieces were resampled: five of them show two thirds of the spread.

    By sqrt(n / (n - 1)), and about the quantile of Student's t next to that of the normal distribution.
    """
    free = max(1, n_pieces - 1)
    factor = math.sqrt(1 + 1 / free) * (1 + 1.2 / free + 1.8 / free**2)
    low, high = (score.score + factor * (end - score.score) for end in (score.low, score.high))
    return ScaleScore(score.score, low, high)


def _cap(score: ScaleScore) -> ScaleScore:
    """No text makes more sense than the author's: what is less surprising than that is plainer, not better."""
    return ScaleScore(*(min(100.0, value) for value in (score.score, score.low, score.high)))
