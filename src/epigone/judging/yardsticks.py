"""A text to learn from and one held out in; how well simple means foretell it, beside a model, as a verdict, out."""

from __future__ import annotations

import lzma
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from epigone.judging.verdicts import UNTOUCHED, Mark, Measure, Verdict
from epigone.tokens.stream import Part
from epigone.training.batches import read_in_order
from epigone.training.events import Tone
from epigone.writing.decoder import Decoder, ReferenceDecoder

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
def measure_model(decoder: Decoder | ReferenceDecoder, part: Part, block_size: int) -> float:
    """Bits per byte of a part by a model that reads it as in `evaluate`: in blocks that do not overlap."""
    n_rows, nats = max(1, TOKENS_AT_ONCE // block_size), 0.0
    for ids, targets in read_in_order(part.ids, block_size=block_size, batch_size=n_rows):
        logits = decoder.read_all(ids.to(decoder.device))
        targets = targets.to(decoder.device).flatten()
        nats += functional.cross_entropy(logits, targets, reduction="sum").item()
    return nats / math.log(2) / part.n_bytes


def measure_counts(train: bytes, held_out: bytes, order: int = ORDER) -> float:
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


def measure_packed(train: bytes, held_out: bytes) -> float:
    """Bits per byte that the held-out text adds to the other in a general compressor (LZMA)."""
    train, held_out = train[-LONGEST_PACKED:], held_out[:LONGEST_HELD_OUT]
    with ThreadPoolExecutor(2) as pool:  # it leaves Python's lock alone, and takes half the time on two cores
        both, alone = map(len, pool.map(lzma.compress, (train + held_out, train)))
    return 8 * (both - alone) / len(held_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Learning:
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


def judge_learning(found: Learning) -> Verdict:
    """What the model knows of the author that simpler means do not."""
    floors = [Mark(name="a general compressor", value=found.packed), Mark(name="counts of letters", value=found.counts)]
    if found.base is not None:
        floors.append(Mark(name=UNTOUCHED, value=found.base))
    floor = min(floors, key=lambda mark: mark.value)
    ceiling = None if found.training is None else Mark(name="the text it learned from", value=found.training)
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


def _put_in_words(found: Learning, floor: Mark) -> tuple[Tone, str]:
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
