"""The numbers are those that transformers and scikit-learn find, over every token once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch.nn import functional
from transformers import GPT2LMHeadModel

from epigone.tokens.dataset import Batches, TokenSplit
from epigone.training.distributed import make_accelerator
from epigone.training.evaluate import Evaluation, evaluate
from epigone.training.trainer import NextTokenLoss
from helpers_plan import change
from helpers_training import (
    BYTES_PER_TOKEN,
    VOCABULARY,
    make_part,
    make_tokens,
    plan_for,
    random_ids,
    tiny_model,
)

BLOCK = 16


class Fortuneteller(torch.nn.Module):
    """A model that knows that ids count up, and is wrong wherever `lie` is among them."""

    def __init__(self, lie: int = -1) -> None:
        super().__init__()
        self.lie = lie
        self.seen: list[torch.Tensor] = []

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        self.seen.append(input_ids)
        said = torch.where(input_ids == self.lie, input_ids, (input_ids + 1) % VOCABULARY)
        return SimpleNamespace(logits=functional.one_hot(said, VOCABULARY) * 100.0)


def look(
    model: object, part: TokenSplit, *, block_size: int = BLOCK, batch_size: int = 4, precision: str = "fp32"
) -> Evaluation:
    accelerator = make_accelerator(plan_for(make_tokens(), precision=precision).compute)
    return evaluate(model, part, block_size=block_size, batch_size=batch_size, accelerator=accelerator)  # type: ignore[arg-type]


@pytest.fixture
def model() -> GPT2LMHeadModel:
    """Untrained, with room for one token more than a block, and far from uniform."""
    plan = plan_for(make_tokens(), dropout=0.3)
    model = tiny_model(change(plan, shape=replace(plan.model.shape, n_positions=BLOCK + 1)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


@pytest.fixture
def part() -> TokenSplit:
    """Six blocks and a shorter one."""
    return make_part(random_ids(6 * BLOCK + 8, seed=4))


def cut(part: TokenSplit) -> Iterator[torch.Tensor]:
    """Blocks, each with the token that follows it."""
    for first in range(0, len(part.ids) - 1, BLOCK):
        yield torch.from_numpy(part.ids[first : first + BLOCK + 1].astype(np.int64))[None]


# -- beside others


def test_the_loss_is_that_of_transformers(model: GPT2LMHeadModel, part: TokenSplit) -> None:
    found = look(model, part)
    model.eval()
    nats = sum(model(input_ids=block, labels=block).loss.item() * (block.shape[1] - 1) for block in cut(part))
    assert found.loss == pytest.approx(nats / (len(part.ids) - 1), rel=1e-5)
    assert abs(found.loss - math.log(VOCABULARY)) > 0.2, "a model that knows nothing shows little"


def test_the_accuracy_is_that_of_scikit_learn(model: GPT2LMHeadModel, part: TokenSplit) -> None:
    """Over random ids of which one in three is made to be what the model expects."""
    model.eval()
    for place in range(3, len(part.ids), 3):
        context = torch.from_numpy(part.ids[(place - 1) // BLOCK * BLOCK : place].astype(np.int64))
        part.ids[place] = int(model(input_ids=context[None]).logits[0, -1].argmax())
    said = torch.cat([model(input_ids=block).logits[0, :-1].argmax(-1) for block in cut(part)])
    found = look(model, part)
    assert found.accuracy == pytest.approx(accuracy_score(part.ids[1:], said), abs=1e-12)
    assert 0.3 < found.accuracy < 0.5


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_tokenizer(part: TokenSplit) -> None:
    model = tiny_model(plan_for(make_tokens()))
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
    found = look(model, part)
    assert found.loss == pytest.approx(math.log(VOCABULARY), rel=1e-6)
    assert found.perplexity == pytest.approx(VOCABULARY, rel=1e-5)


def test_a_model_that_knows_everything_is_always_right() -> None:
    found = look(Fortuneteller(), make_part(np.arange(103, dtype=np.uint16) % VOCABULARY))
    assert (found.accuracy, found.n_tokens) == (1.0, 102)
    assert found.loss == pytest.approx(0, abs=1e-6) and found.perplexity == pytest.approx(1)


def test_each_mistake_counts_once() -> None:
    """Of 102 targets two follow a 7; a wrong answer costs the hundred nats by which it is preferred."""
    found = look(Fortuneteller(lie=7), make_part(np.arange(103, dtype=np.uint16) % VOCABULARY))
    assert found.accuracy == pytest.approx(100 / 102) and found.loss == pytest.approx(2 * 100 / 102)


@pytest.mark.parametrize(("block_size", "batch_size"), [(1, 1), (7, 3), (16, 4), (51, 1), (102, 2), (500, 8)])
def test_every_token_but_the_first_is_counted_once_whatever_the_sizes(block_size: int, batch_size: int) -> None:
    model = Fortuneteller(lie=7)
    found = look(
        model, make_part(np.arange(103, dtype=np.uint16) % VOCABULARY), block_size=block_size, batch_size=batch_size
    )
    assert found.n_tokens == 102 and found.accuracy == pytest.approx(100 / 102)
    assert torch.equal(torch.cat([ids.flatten() for ids in model.seen]), torch.arange(102) % VOCABULARY)


def test_processes_together_count_what_one_would(model: GPT2LMHeadModel, part: TokenSplit) -> None:
    """Two accelerators that stand for two processes, and whose sums come together."""
    sums: list[torch.Tensor] = []

    def add(mine: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        sums.append(mine)
        return torch.stack(sums).sum(0)

    for process in range(2):
        fake = SimpleNamespace(
            num_processes=2, process_index=process, device=torch.device("cpu"), autocast=nullcontext, reduce=add
        )
        found = evaluate(model, part, block_size=BLOCK, batch_size=2, accelerator=fake)  # type: ignore[arg-type]
    alone = look(model, part)
    assert (found.n_tokens, found.accuracy) == (alone.n_tokens, alone.accuracy)
    assert found.loss == pytest.approx(alone.loss, rel=1e-6)
    assert all(float(each[2]) < alone.n_tokens for each in sums)


# -- its units


def test_bits_per_byte_do_not_depend_on_the_tokenizer(model: GPT2LMHeadModel, part: TokenSplit) -> None:
    found = look(model, part)
    assert found.n_bytes == part.n_bytes == BYTES_PER_TOKEN * found.n_tokens
    assert found.bits_per_byte == pytest.approx(found.loss * found.n_tokens / math.log(2) / part.n_bytes)
    coin = Evaluation(loss=math.log(2), accuracy=0.5, n_tokens=8, n_bytes=1)
    assert coin.bits_per_byte == pytest.approx(8), "eight flips of a coin are a byte"


def test_a_hopeless_loss_still_has_a_perplexity() -> None:
    assert math.isfinite(Evaluation(loss=1e6, accuracy=0.0, n_tokens=1, n_bytes=1).perplexity)


# -- what it leaves alone


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_model_is_left_as_it_was(
    model: GPT2LMHeadModel, part: TokenSplit, training: bool
) -> None:
    model.train(training)
    before = torch.get_rng_state()
    assert look(model, part) == look(model, part)
    assert model.training is training and all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), before), "a look must not move what is learned next"


def test_a_model_can_learn_on_after_it(model: GPT2LMHeadModel, part: TokenSplit) -> None:
    look(model, part)
    ids, targets = Batches(part.ids, block_size=BLOCK, blocks_per_step=2, seed=0).read(0)
    NextTokenLoss(model)(ids, targets).objective.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_half_precision_costs_little(model: GPT2LMHeadModel, part: TokenSplit) -> None:
    full, half = look(model, part), look(model, part, precision="bf16")
    assert half.loss == pytest.approx(full.loss, rel=0.02) and half.loss != full.loss


# -- the loss that is learned from


def test_loss_and_gradients_in_training_are_those_of_transformers(model: GPT2LMHeadModel, part: TokenSplit) -> None:
    model.eval()
    ids, targets = Batches(part.ids, block_size=BLOCK, blocks_per_step=4, seed=0).read(0)
    ours = NextTokenLoss(model)(ids, targets).objective
    ours.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    blocks = torch.cat([ids, targets[:, -1:]], dim=1)
    theirs = model(input_ids=blocks, labels=blocks).loss
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    for name, parameter in model.named_parameters():
        largest = float(parameter.grad.abs().max())
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-5 * largest, msg=name)
