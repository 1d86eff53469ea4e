"""Plans, tokens of made-up ids and tiny models for tests of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import GPT2LMHeadModel

from epigone.hardware import Hardware
from epigone.model.gpt2 import build_model
from epigone.planning.choice import Choice
from epigone.planning.choose_base import BaseChoice
from epigone.planning.plan import Plan, PlanInputs, make_plan, set_length
from epigone.runs.records import Manifest, TextLocations
from epigone.settings import TrainSettings
from epigone.tokens.dataset import Ids, TokenDataset, TokenSplit
from epigone.training.events import Estimate, Event
from epigone.training.trainer import Trainer

ONE_CORE = Hardware(device="cpu", name="one processor core", n_threads=1, memory_bytes=2**33, bf16=False)
VOCABULARY = 50
BYTES_PER_TOKEN = 3
E = TypeVar("E", bound=Event)

torch.set_num_threads(1)  # models as small as these are slower on two threads, and far slower on a busy machine


# -- tokens


def random_ids(n_ids: int, *, seed: int = 0) -> Ids:
    """Ids that can only be memorized."""
    return np.random.default_rng(seed).integers(VOCABULARY, size=n_ids).astype(np.uint16)


def regular_ids(n_ids: int, *, seed: int = 0) -> Ids:
    """Ids of which four in five follow from the one before."""
    random = np.random.default_rng(seed)
    ids = [0]
    while len(ids) < n_ids:
        ids.append((3 * ids[-1] + 7) % VOCABULARY if random.random() < 0.8 else int(random.integers(VOCABULARY)))
    return np.array(ids, np.uint16)


def make_part(ids: Ids) -> TokenSplit:
    n_tokens = len(ids) - 1
    n_bytes = BYTES_PER_TOKEN * n_tokens
    return TokenSplit(ids=ids, n_tokens=n_tokens, n_documents=1, n_characters=n_bytes, n_bytes=n_bytes)


def make_tokens(train: Ids | None = None, validation: Ids | None = None) -> TokenDataset:
    """By default 400 ids for training, or 25 blocks of 16, and 101 for validation; half of both can be predicted."""
    train = regular_ids(400) if train is None else train
    validation = regular_ids(101, seed=1) if validation is None else validation
    return TokenDataset(train=make_part(train), validation=make_part(validation), key="made-up")


# -- a plan and what follows it


def plan_for(
    tokens: TokenDataset,
    *,
    n_processes: int = 1,
    n_steps_in_time: int | None = None,
    hardware: Hardware | None = None,
    **more: Any,
) -> Plan:
    """The project's own plan for a tiny fresh model; `more` are settings by name."""
    usual: dict[str, Any] = {"base": "none", "size": "1x32", "block_size": 16, "batch_size": 4, "epochs": 2.0}
    usual |= {"dropout": 0.0, "patience": "none", "device": "cpu", "precision": "fp32", "samples": 0}
    settings = TrainSettings(**usual | more)
    facts = PlanInputs(
        tokens=tokens,
        hardware=hardware or ONE_CORE,
        chosen=BaseChoice(Choice(settings.base, "as asked"), Choice(VOCABULARY, "small")),
        vocab_size=VOCABULARY,
        n_processes=n_processes,
    )
    return set_length(make_plan(settings, facts), settings, n_steps_in_time)


def manifest_for(plan: Plan, **more: Any) -> Manifest:
    """The manifest of a run with a plan; whatever else it says is made up."""
    estimate = Estimate(
        seconds_per_step=0.1, seconds_per_evaluation=1.0, n_evaluations=2, seconds=1.5, memory_bytes=1 << 20
    )
    made_up: dict[str, Any] = {
        "estimate": estimate,
        "tokens": "key",
        "tokens_sha256": "0" * 64,
        "versions": {"torch": "2"},
    }
    return Manifest(plan=plan, texts=TextLocations(train=("text.txt",)), **made_up | more)


def tiny_model(plan: Plan) -> GPT2LMHeadModel:
    """The fresh model of a plan; equal seeds give equal weights."""
    return build_model(plan.model, None, 0, seed=plan.seed)


def make_learner(plan: Plan, tokens: TokenDataset, **more: Any) -> Trainer:
    return Trainer(tiny_model(plan), tokens, plan, **more)


def pick(events: Iterable[Event], kind: type[E]) -> list[E]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def copy_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def are_equal(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    """Whether they have the same names and the same bits."""
    return some.keys() == others.keys() and all(torch.equal(tensor, others[name]) for name, tensor in some.items())


@contextmanager
def watch_gradients(model: torch.nn.Module) -> Iterator[list[dict[str, torch.Tensor]]]:
    """The gradients that each step hands to the optimizer, whichever that is."""
    seen: list[dict[str, torch.Tensor]] = []

    def look(*_: object) -> None:
        seen.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()
