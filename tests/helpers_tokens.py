"""Tokenizers, tokens, machines and plans for tests."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epigone import TrainSettings
from epigone.hardware import Hardware
from epigone.model.size import Shape
from epigone.planning.choose_base import BaseChoice, BaseFit, BaseTrial, choose_base
from epigone.planning.plan import Plan, PlanInputs, make_plan
from epigone.tokens.dataset import TokenDataset, TokenSplit
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer, train_tokenizer
from helpers_front import sonnets, workshop

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
NOVELS = ("austen-1342", "austen-158", "dickens-98", "melville-15", "twain-76")
"""Of those in DATA / "gutenberg"."""
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no texts at EPIGONE_TEST_DATA")
SMALL_BASE = Shape(n_layer=6, n_embd=256, n_head=4, n_positions=256, vocab_size=4_096)
GPT2_SMALL = Shape(n_layer=12, n_embd=768, n_head=12, n_positions=1024, vocab_size=50_257)


@cache
def small_tokenizer() -> BPETokenizer:
    """400 entries learned from the first sonnets. Shared: none may change it."""
    return train_tokenizer([sonnets(20_000)], 400)


@cache
def gpt2_tokenizer() -> BPETokenizer:
    """GPT-2's own, from the two files that it was published in."""
    folder = workshop() / "gpt2-tokenizer"
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(DATA / "gpt2-tokenizer" / name, folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}', "utf-8")
    return load_tokenizer(folder)


def make_part(n_tokens: int, bytes_per_token: float = 2.0) -> TokenSplit:
    """One document of so many tokens; which ones they are plays no role."""
    n_bytes = round(n_tokens * bytes_per_token)
    ids = np.zeros(n_tokens + 1, np.uint16)
    return TokenSplit(ids=ids, n_tokens=n_tokens, n_documents=1, n_characters=n_bytes, n_bytes=n_bytes)


def make_hardware(device: Any = "cpu", **more: Any) -> Hardware:
    """A machine; a plain processor with two threads where nothing else is said."""
    facts = {"name": f"a {device}", "n_threads": 2, "memory_bytes": 8 << 30, "bf16": False}
    return Hardware(device=device, **{**facts, **more})


NO_BASE_FITS = BaseTrial(untouched={"small": 9.0}, best="small", tuned=5.0, fresh=3.0)


def route_to(settings: TrainSettings, n_bytes: int, hardware: Hardware) -> BaseChoice:
    """The route of a text that no base fits."""
    fits = BaseFit(gpt2=None, bundled=lambda _: NO_BASE_FITS)
    return choose_base(settings, n_bytes=n_bytes, fits=fits, hardware=hardware)


def plan_for(n_tokens: int = 50_000, *, hardware: Hardware | None = None, **asked: Any) -> Plan:
    """The plan for a text of so many tokens. Facts that are no settings go by their own names."""
    names = [name for name in ("base_shape", "base_revision", "start_text", "n_processes") if name in asked]
    more = {name: asked.pop(name) for name in names}
    settings = TrainSettings(**asked)
    train, hardware = make_part(n_tokens), hardware or make_hardware()
    chosen = route_to(settings, train.n_bytes, hardware)
    base_shape = more.get("base_shape")
    inputs = PlanInputs(
        tokens=TokenDataset(train=train, validation=make_part(max(1, n_tokens // 9)), key="0" * 16),
        hardware=hardware,
        chosen=chosen,
        vocab_size=base_shape.vocab_size if base_shape else chosen.vocab_size.value,
        **more,
    )
    return make_plan(settings, inputs)
