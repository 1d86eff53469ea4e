"""Trial of the bundled bases and of a new model on a sample of the text: which has the lower loss after equal time.

The loss before training says little about the loss after it: for a chat the base went from 3.8 to 2.2 bits per byte in
32 steps (docs/dev/findings.md). So they are trained on the sample, for times that are equal by the arithmetic and not
by a clock: equal texts give equal trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from epigone.corpus.large_text import Text
from epigone.hardware import Hardware, find_hardware
from epigone.model.gpt2 import build_model, read_shape
from epigone.model.hub import Base, find_base
from epigone.model.loss import DTYPES, NextTokenLoss
from epigone.planning.choice import Choice
from epigone.planning.choose_base import FITS, STRANGE, BaseChoice, BaseTrial
from epigone.planning.plan import Plan, PlanInputs, make_plan, set_length
from epigone.settings import TrainSettings
from epigone.tokens.dataset import Batches, TokenDataset, TokenSplit, read_in_order
from epigone.tokens.tokenizer import BPETokenizer, encode, load_tokenizer, train_tokenizer
from epigone.training.lr_schedule import LRSchedule
from epigone.training.optimizer import make_optimizer

SAMPLE, PIECE = 120_000, 2_000
"""Characters of the sample, and of one piece of it; every tenth piece is held out."""
STEPS, TOKENS_PER_STEP, RATE, LOW_RATE = 32, 256, 1e-3, 3e-4
"""Of a bundled base, with AdamW, which is better than Muon in so short a time. A new model takes as many steps as fit
into the same time."""
FRESH_TOKENS_PER_STEP = 1_024
BEHIND_AT_MOST = 1.05
"""A larger base is taken if it needs fewer than so many of the smallest one's bits after equal time, since it learns
more later: 1.03 in the trial became 0.97 in the end, 1.06 became 0.99 (docs/dev/findings.md)."""
MOST_PASSES = 1_000.0
FRESH_SIZE, FRESH_VOCAB_SIZE = "2x64", 512
"""A larger one is still behind after a few seconds."""


def try_bases(texts: Sequence[Text], names: Sequence[str]) -> BaseTrial:
    """Find the bundled base that learns this text best, and try it against a new model if it does not fit well yet.

    All on the CPU. `names`: of the bases, the largest first.
    torch's global random state is neither used nor changed.
    """
    learned, tested = sample_text(texts)
    hardware = find_hardware("cpu")
    with _repeatable():
        tried = {name: _Candidate(find_base(name), learned, tested, hardware) for name in names}
        untouched = {name: candidate.measure() for name, candidate in tried.items()}
        compared = _compare(tried, untouched)
        best = choose_best(compared or untouched, BEHIND_AT_MOST if compared else 1.0)
        if untouched[best] <= FITS or (compared.get(best, math.inf) <= FITS and untouched[best] <= STRANGE):
            return BaseTrial(untouched=untouched, compared=compared, best=best)
        base, fresh = (_Candidate(which, learned, tested, hardware) for which in (find_base(best), None))
        n_steps = max(1, round(STEPS * base.guess_seconds() / fresh.guess_seconds()))
        tuned, new = base.learn(STEPS, RATE), fresh.learn(n_steps, None)
        return BaseTrial(untouched=untouched, compared=compared, best=best, tuned=tuned, fresh=new)


def _compare(tried: Mapping[str, _Candidate], untouched: Mapping[str, float]) -> dict[str, float]:
    """Bits per byte of each base after equal time; none if the smallest one leads already, since it learns the fastest.

    The candidates are changed by it. The rate is low: a higher one spoils what fits before training.
    """
    smallest = list(tried)[-1]
    if choose_best(untouched) == smallest:
        return {}
    seconds = STEPS * tried[smallest].guess_seconds()
    steps = {name: max(1, round(seconds / candidate.guess_seconds())) for name, candidate in tried.items()}
    return {name: candidate.learn(steps[name], LOW_RATE) for name, candidate in tried.items()}


def choose_best(bits: Mapping[str, float], share: float = 1.0) -> str:
    """The smallest base, which is the last, or one that needs less than so many times its bits per byte."""
    smallest = list(bits)[-1]
    return min(bits, key=lambda name: bits[name] if name == smallest else bits[name] / share)


def sample_text(texts: Sequence[Text]) -> tuple[list[str], list[str]]:
    """Pieces taken evenly from the texts: those to train on, and those held out."""
    n_characters = sum(map(len, texts))
    size = max(1, min(PIECE, n_characters // 10))
    places = [(text, start) for text in texts for start in range(0, len(text), size)]
    places = places[:: math.ceil(n_characters / SAMPLE)]
    pieces = [text[start : start + size] for text, start in places]
    return [piece for i, piece in enumerate(pieces) if i % 10 != 5], pieces[5::10] or pieces[-1:]


class _Candidate:
    """A model in the trial, with the sample in its own tokens. `base`: None for a new model."""

    def __init__(self, base: Base | None, learned: list[str], tested: list[str], hardware: Hardware) -> None:
        folder = base.folder if base else None
        tokenizer = load_tokenizer(base.folder) if base else train_tokenizer(learned, FRESH_VOCAB_SIZE)
        train, self.tested = _encode(learned, tokenizer), _encode(tested, tokenizer)
        tokens = TokenDataset(train=train, validation=self.tested, key="")
        self.plan, self.hardware = _make_plan(base, tokenizer, tokens, hardware), hardware
        plan, batch = self.plan, self.plan.batch
        self.model = build_model(plan.model, folder, tokenizer.end_of_text_id, seed=plan.seed)
        self.loss = NextTokenLoss(self.model, attention=plan.model.attention, dtype=DTYPES[plan.compute.precision])
        self.batches = Batches(
            train.ids, block_size=batch.block_size, blocks_per_step=batch.blocks_per_step, seed=plan.seed
        )

    def guess_seconds(self) -> float:
        """Estimated duration of a step."""
        batch = self.plan.batch
        return self.plan.model.shape.guess_seconds(batch.tokens_per_step, batch.block_size, self.hardware)

    def learn(self, n_steps: int, learning_rate: float | None) -> float:
        """Train for so many steps, the learning rate falling to zero; then bits per byte of the held-out pieces."""
        plan = set_length(self.plan, TrainSettings(), n_steps)
        peak = learning_rate or plan.optimizer.learning_rate
        optimizer = make_optimizer(self.model, plan)
        rate = LRSchedule(plan.schedule, peak=peak)
        self.model.train()
        for step in range(n_steps):
            for group in optimizer.param_groups:
                group["lr"] = rate.at(step) * group["share"]
            optimizer.zero_grad()
            self.loss(*self.batches.read(step)).objective.backward()
            clip_grad_norm_(self.model.parameters(), plan.optimizer.max_grad_norm)
            optimizer.step()
        return self.measure()

    @torch.no_grad()
    def measure(self) -> float:
        """Bits per byte of the held-out pieces."""
        self.model.eval()  # type: ignore[no-untyped-call]
        size = self.plan.batch.block_size
        batches = read_in_order(self.tested.ids, block_size=size, batch_size=max(1, 2_048 // size))
        nats = math.fsum(self.loss(ids, targets).nats.item() * targets.numel() for ids, targets in batches)
        return nats / math.log(2) / self.tested.n_bytes


def _encode(pieces: Sequence[str], tokenizer: BPETokenizer) -> TokenSplit:
    """The pieces, each a document of its own."""
    ids = [number for piece in pieces for number in (tokenizer.end_of_text_id, *encode(piece, tokenizer))]
    return TokenSplit(
        ids=np.array(ids, np.uint32),
        n_tokens=len(ids) - len(pieces),
        n_documents=len(pieces),
        n_characters=sum(map(len, pieces)),
        n_bytes=sum(len(piece.encode()) for piece in pieces),
    )


def _make_plan(base: Base | None, tokenizer: BPETokenizer, tokens: TokenDataset, hardware: Hardware) -> Plan:
    """As for any run, but without dropout, which does not help in so short a time."""
    settings = TrainSettings(epochs=MOST_PASSES, dropout=0.0)
    how = {"size": FRESH_SIZE} if base is None else {"optimizer": "adamw"}
    inputs = PlanInputs(
        tokens=tokens,
        hardware=hardware,
        chosen=BaseChoice(Choice(base.name if base else "none", ""), Choice(len(tokenizer), "")),
        vocab_size=len(tokenizer),
        base_shape=read_shape(base.config) if base else None,
    )
    plan = make_plan(settings.model_copy(update=how), inputs)
    at_once = FRESH_TOKENS_PER_STEP if base is None else TOKENS_PER_STEP
    return replace(plan, batch=replace(plan.batch, batch_size=max(1, at_once // plan.batch.block_size)))


@contextmanager
def _repeatable() -> Iterator[None]:
    """Deterministic arithmetic within this context; torch's settings are restored afterwards."""
    filling: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        filling.fill_uninitialized_memory = before[1]
