"""A text to learn from and one held out in; how well simple means foretell it, beside a model, as a verdict, out."""

from __future__ import annotations

import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from torch.nn import functional

from epigone.corpus.words import WORD_OR_MARK
from epigone.evaluation.verdict import UNTOUCHED, Measure, Reference, Verdict
from epigone.model.decoder import Decoder, ReferenceDecoder
from epigone.tokens.dataset import TokenSplit, read_in_order
from epigone.training.events import Grade

Symbols = NDArray[np.int64]
Hashes = NDArray[np.uint64]
N_KEPT = {0: 20, 90_000: 80}
"""From so many words of the author's on: how many words and marks count as themselves where order is judged.

The others are a few kinds, by their endings. Of 10 to 150 these tell a bigram model best from held-out text.
"""
ENDINGS = ("ing", "ed", "ly", "s")


class NgramModel:
    """How often each symbol followed each context, for contexts of 0 to `order` - 1 symbols."""

    def __init__(self, symbols: Symbols, order: int, n_symbols: int) -> None:
        self.n_symbols, self.order = n_symbols, order
        hashes = list(_hash(symbols, order))
        self.tables = [_tabulate(*pair) for pair in pairwise(hashes)]

    def measure_bits(self, symbols: Symbols) -> NDArray[np.float64]:
        """Bits for each symbol of another text by chains of each order: [order, symbol]."""
        chance = np.full(len(symbols), 1.0 / self.n_symbols)
        found = []
        hashes = pairwise(_hash(symbols, self.order))
        for length, (table, (starts, whole)) in enumerate(zip(self.tables, hashes, strict=True), 1):
            grams, numbers, contexts, followed, kinds = table
            seen, known = _look_up(grams, numbers, whole), _find(contexts, starts[: len(whole)])
            n, new = _take(followed, known), np.maximum(1, _take(kinds, known))
            chance = chance.copy()
            chance[length - 1 :] = (seen + new * chance[length - 1 :]) / (n + new)
            found.append(-np.log2(chance))
        return np.array(found)


def _tabulate(starts: Hashes, whole: Hashes) -> tuple[Hashes, Symbols, Hashes, Symbols, Symbols]:
    """Grams of one length with their numbers; their contexts, how often each was followed and by how many kinds."""
    order = whole.argsort()  # np.unique would sort stably, in three times the time
    edges = np.flatnonzero(np.diff(whole[order], prepend=~whole[order[:1]]))
    contexts, followed = np.unique(starts[: len(whole)], return_counts=True)
    kinds = np.bincount(contexts.searchsorted(np.sort(starts[order[edges]])), minlength=len(contexts))
    return whole[order[edges]], np.diff(edges, append=len(whole)), contexts, followed, kinds


def _hash(symbols: Symbols, order: int) -> Iterator[Hashes]:
    """The hash of each window of 0, 1 ... `order` symbols."""
    hashed = np.zeros(len(symbols) + 1, np.uint64)
    yield hashed
    for length in range(1, order + 1):
        n = max(0, len(symbols) - length + 1)
        hashed = (hashed[:n] + symbols[length - 1 :].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
        yield hashed


def _look_up(keys: Hashes, values: Symbols, wanted: Hashes) -> Symbols:
    return _take(values, _find(keys, wanted))


def _find(keys: Hashes, wanted: Hashes) -> Symbols:
    """The place of each wanted key, or else -1."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def _take(values: Symbols, places: Symbols) -> Symbols:
    return np.where(places >= 0, values[places], 0)


# -- symbols


def split_words(normalised: str) -> list[str]:
    """The words and marks of a normalised text."""
    return WORD_OR_MARK.findall(normalised)


class FunctionWordMask:
    """What stays of a text when all but the author's commonest words are only known by their kind."""

    def __init__(self, words: Sequence[str]) -> None:
        n_kept = max(n for least, n in N_KEPT.items() if len(words) >= least)
        common = (word for word, _ in Counter(words).most_common(n_kept))
        self.places = {word: place for place, word in enumerate(common, len(ENDINGS) + 2)}
        self.n_symbols = len(self.places) + len(ENDINGS) + 2

    def number(self, words: Sequence[str]) -> Symbols:
        """One symbol for each word."""
        known = {word: self.places.get(word, _name_kind(word)) for word in set(words)}
        return np.array([known[word] for word in words], np.int64)


def _name_kind(word: str) -> int:
    if not word[0].isalnum():
        return 1
    return next((kind for kind, ending in enumerate(ENDINGS, 2) if word.endswith(ending)), 0)


def number_characters(normalised: str) -> Symbols:
    """One symbol for each character."""
    return np.frombuffer(normalised.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)


# -- texts that must not pass


def shuffle(words: Sequence[str], source: np.random.Generator) -> list[str]:
    """The same words in another order: every frequency stays."""
    return [words[place] for place in source.permutation(len(words))]


def sample_ngram_text(parts: Sequence[str], n_parts: int, order: int, source: np.random.Generator) -> list[str]:
    """So many words or characters from a chain: each as it followed the `order` before it somewhere in `parts`."""
    followers: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for place in range(len(parts) - order):
        followers[tuple(parts[place : place + order])].append(parts[place + order])
    start = int(source.integers(len(parts) - order))
    written = list(parts[start : start + order])
    for draw in source.random(n_parts):
        choices = followers.get(tuple(written[-order:])) or parts
        written.append(choices[int(draw * len(choices))])
    return written


Grams = npt.NDArray[np.uint64]
ORDER = 4
"""Bytes of context. On texts of 50 KB to 1 MB by Shakespeare, Kipling and Austen more or fewer foretold less."""
LONGEST_COUNTED = 20_000_000
"""Bytes of the text that are counted; what lies before them changes little."""
LONGEST_PACKED, LONGEST_HELD_OUT = 2_000_000, 100_000
"""Bytes that the compressor is shown, and of what is held out; it takes a second."""
TOKENS_AT_ONCE = 1024
"""Whose chances are computed together: 0.2 GB with GPT-2's vocabulary."""
LEARNED_MORE = 0.97
"""A model that needs fewer bits than the best simple means times this has learned what they cannot."""
OTHERS_UNKNOWN = (
    "How well the model foretells other authors was not measured: those that come with epigone are word counts and "
    "not texts. --others FOLDER gives it texts."
)
WIDE_GAP = 0.75
"""Training bits per byte over those held out; below it much was learned by heart."""


@torch.inference_mode()
def measure_model(decoder: Decoder | ReferenceDecoder, part: TokenSplit, block_size: int) -> float:
    """Bits per byte of a part by a model that reads it as in `evaluate`: in blocks that do not overlap."""
    n_rows, nats = max(1, TOKENS_AT_ONCE // block_size), 0.0
    for ids, targets in read_in_order(part.ids, block_size=block_size, batch_size=n_rows):
        logits = decoder.read_all(ids.to(decoder.device))
        targets = targets.to(decoder.device).flatten()
        nats += functional.cross_entropy(logits, targets, reduction="sum").item()
    return nats / math.log(2) / part.n_bytes


def measure_ngrams(train: bytes, held_out: bytes, order: int = ORDER) -> float:
    """Bits per byte of the held-out text under counts of the other's byte sequences, each order smoothed by the last.

    Interpolated as by Witten and Bell (1991). `order` is at most 7.
    """
    known, asked = (np.frombuffer(text, np.uint8).astype(np.uint64) for text in (train[-LONGEST_COUNTED:], held_out))
    chances = np.full(len(asked), 1 / 256)
    for n_context in range(order + 1):
        chances = _refine(_list_grams(known, n_context), _list_grams(asked, n_context), chances)
    return float(-np.log2(chances).mean())


def _list_grams(text: Grams, n_context: int) -> Grams:
    """For each byte the `n_context` before it and itself in one number; before the text stand zeros."""
    grams = text.copy()
    for distance in range(1, n_context + 1):
        grams[distance:] |= text[:-distance] << np.uint64(8 * distance)
    return grams


def _refine(known: Grams, asked: Grams, chances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The chances of one order, where its context is known; a context with many followers trusts itself less."""
    grams, counts = np.unique(known, return_counts=True)
    contexts, starts, n_followers = np.unique(grams >> np.uint64(8), return_index=True, return_counts=True)
    n_seen = np.add.reduceat(counts, starts)
    place = np.minimum(contexts.searchsorted(asked >> np.uint64(8)), len(contexts) - 1)
    is_known = contexts[place] == asked >> np.uint64(8)
    at = np.minimum(grams.searchsorted(asked), len(grams) - 1)
    count = np.where(grams[at] == asked, counts[at], 0)
    refined = (count + n_followers[place] * chances) / (n_seen[place] + n_followers[place])
    return np.where(is_known, refined, chances)


def measure_compressed(train: bytes, held_out: bytes) -> float:
    """Bits per byte that the held-out text adds to the other in a general compressor (LZMA)."""
    train, held_out = train[-LONGEST_PACKED:], held_out[:LONGEST_HELD_OUT]
    with ThreadPoolExecutor(2) as pool:  # it leaves Python's lock alone, and takes half the time on two cores
        both, alone = map(len, pool.map(lzma.compress, (train + held_out, train)))
    return 8 * (both - alone) / len(held_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningScore:
    """Bits per byte."""

    held_out: float
    """Of the author's own text that was held out, by the model."""
    training: float | None = None
    """Of text that was learned from."""
    base: float | None = None
    """Of what is held out, by the untouched base, where there was one."""
    counts: float
    packed: float
    others: Mapping[str, float] = field(default_factory=dict)
    """Of other authors' texts, by the model."""


def judge_learning(found: LearningScore) -> Verdict:
    """What the model knows of the author that simpler means do not."""
    floors = [
        Reference(name="a general compressor", value=found.packed),
        Reference(name="counts of letters", value=found.counts),
    ]
    if found.base is not None:
        floors.append(Reference(name=UNTOUCHED, value=found.base))
    floor = min(floors, key=lambda mark: mark.value)
    ceiling = None if found.training is None else Reference(name="the text it learned from", value=found.training)
    held_out = Measure(
        name="the author's text that was held out",
        value=found.held_out,
        unit="bits per byte",
        floor=floor,
        ceiling=ceiling,
    )
    rest = [Measure(name=f"the same by {mark.name}", value=mark.value, unit="bits per byte") for mark in floors]
    rest += [Measure(name=name, value=value, unit="bits per byte") for name, value in found.others.items()]
    tone, sentence = _put_in_words(found, floor)
    facts = {
        "held_out": found.held_out,
        "training": found.training,
        "base": found.base,
        "counts": found.counts,
        "packed": found.packed,
        "others": dict(found.others),
        "notes": [] if found.others else [OTHERS_UNKNOWN],
    }
    return Verdict(topic="learned", tone=tone, sentence=sentence, measures=(held_out, *rest), facts=facts)


def _put_in_words(found: LearningScore, floor: Reference) -> tuple[Grade, str]:
    saved = 1 - found.held_out / floor.value
    if found.held_out >= floor.value:
        return "bad", f"It foretells the author no better than {floor.name} can."
    gained = f"It foretells the author's own unseen text with {saved:.0%} fewer bits than {floor.name}"
    gained = gained.replace("%", " %")
    if found.held_out > LEARNED_MORE * floor.value:
        return "fair", f"{gained}: little more."
    if found.training is not None and found.training < WIDE_GAP * found.held_out:
        return "fair", f"{gained}, and knows much of what it learned from by heart."
    return "good", f"{gained}."
