"""What a language model has to beat: a byte n-gram model, a general compressor (LZMA) and the base before training.

All are measured in bits per byte of the author's held-out text, so models with different tokenizers can be compared.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import torch
from torch.nn import functional

from epigone.evaluation.ngram_model import measure_byte_bits
from epigone.evaluation.verdict import UNTOUCHED, Measure, Reference, Verdict, percent
from epigone.model.decoder import Decoder
from epigone.tokens.dataset import TokenSplit, read_in_order
from epigone.training.events import Grade

ORDER = 4
"""Bytes of context. On texts of 50 KB to 1 MB by Shakespeare, Kipling and Austen, more or fewer predicted worse."""
LONGEST_COUNTED = 20_000_000
"""Bytes of the training text that the n-gram model reads, from its end; the rest would change little."""
LONGEST_COMPRESSED, LONGEST_HELD_OUT = 2_000_000, 100_000
"""Bytes that the compressor reads, of the training and of the held-out text; it takes a second."""
TOKENS_AT_ONCE = 1024
"""Tokens in a batch: their logits take 0.2 GB with GPT-2's vocabulary."""
LEARNED_MORE = 0.97
"""A model with fewer bits than this share of the best baseline's has learned what the baselines cannot."""
WIDE_GAP = 0.75
"""Bits on the training text over bits on held-out text: below this, much of the training text was memorized."""
OTHERS_UNKNOWN = (
    "How well the model predicts other authors was not measured: the bundled ones are word counts, not texts. "
    "Give their texts with --reference-authors FOLDER to measure it."
)


@torch.inference_mode()
def measure_model(decoder: Decoder, part: TokenSplit, block_size: int) -> float:
    """Bits per byte of a part under a model, which reads it as `evaluate` does: in blocks that do not overlap."""
    n_rows, nats = max(1, TOKENS_AT_ONCE // block_size), 0.0
    for ids, targets in read_in_order(part.ids, block_size=block_size, batch_size=n_rows):
        logits = decoder.read_all(ids.to(decoder.device))
        targets = targets.to(decoder.device).flatten()
        nats += functional.cross_entropy(logits, targets, reduction="sum").item()
    return nats / math.log(2) / part.n_bytes


def measure_ngrams(train: bytes, held_out: bytes, order: int = ORDER) -> float:
    """Bits per byte of the held-out text under a byte n-gram model of the training text. `order` is at most 7."""
    return measure_byte_bits(train[-LONGEST_COUNTED:], held_out, order)


def measure_compressed(train: bytes, held_out: bytes) -> float:
    """Bits per byte that the held-out text adds to the training text under LZMA."""
    train, held_out = train[-LONGEST_COMPRESSED:], held_out[:LONGEST_HELD_OUT]
    with ThreadPoolExecutor(2) as pool:  # LZMA releases Python's lock: half the time on two cores
        both, alone = map(len, pool.map(lzma.compress, (train + held_out, train)))
    return 8 * (both - alone) / len(held_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningScore:
    """Bits per byte under the model and under the baselines."""

    held_out: float
    """Of the author's held-out text, under the model."""
    training: float | None = None
    """Of training text, under the model."""
    base: float | None = None
    """Of the held-out text, under the base before training, if there was one."""
    counts: float
    """Of the held-out text, under the n-gram model."""
    packed: float
    """Of the held-out text, under LZMA."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Of other authors' texts, under the model."""


def judge_learning(score: LearningScore) -> Verdict:
    """What the model has learned of the author that simpler means have not."""
    baselines = [
        Reference(name="a general compressor", value=score.packed),
        Reference(name="a letter n-gram model", value=score.counts),
    ]
    if score.base is not None:
        baselines.append(Reference(name=UNTOUCHED, value=score.base))
    best = min(baselines, key=lambda baseline: baseline.value)
    ceiling = None if score.training is None else Reference(name="the text it learned from", value=score.training)
    held_out = Measure(
        name="the author's held-out text", value=score.held_out, unit="bits per byte", floor=best, ceiling=ceiling
    )
    rest = {f"the same, under {baseline.name}": baseline.value for baseline in baselines} | dict(score.others)
    measures = [Measure(name=name, value=value, unit="bits per byte") for name, value in rest.items()]
    grade, sentence = _grade_learning(score, best)
    facts = asdict(score) | {"others": dict(score.others), "notes": [] if score.others else [OTHERS_UNKNOWN]}
    return Verdict(topic="learned", grade=grade, sentence=sentence, measures=(held_out, *measures), facts=facts)


def _grade_learning(score: LearningScore, best: Reference) -> tuple[Grade, str]:
    if score.held_out >= best.value:
        return "bad", f"It predicts the author no better than {best.name} does."
    saved = percent(1 - score.held_out / best.value, 0)
    gained = f"It predicts text by the author that it has never seen with {saved} fewer bits than {best.name}"
    if score.held_out > LEARNED_MORE * best.value:
        return "fair", f"{gained}, which is little."
    if score.training is not None and score.training < WIDE_GAP * score.held_out:
        return "fair", f"{gained}, but it has memorized much of its training text."
    return "good", f"{gained}."
