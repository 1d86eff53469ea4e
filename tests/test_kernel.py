"""The C kernel computes what transformers computes, row by row, and torch goes on where it cannot be had."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from epigone.model import decoder as decoders
from epigone.model import kernel
from epigone.model.decoder import FastDecoder, make_decoder
from epigone.model.kernel import Slots, load_kernel, pack_matrix
from test_decoder import look_up, make_ids
from test_forward import make_model

SHAPES: list[dict[str, int]] = [
    {},
    {"n_embd": 20, "n_head": 5},
    {"n_embd": 72, "n_head": 3, "vocab_size": 97},
    {"n_embd": 96, "n_head": 1, "n_layer": 1, "n_inner": 100},
]
NEEDS_COMPILER = pytest.mark.skipif(load_kernel() is None, reason="there is no C compiler here")


def make_rounded_model(**config: int) -> GPT2LMHeadModel:
    """All weights are bf16 numbers, so that packing them loses nothing."""
    model = make_model(**config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


def make_fast(model: GPT2LMHeadModel, form: Any) -> FastDecoder:
    decoder = make_decoder(model, form)
    assert isinstance(decoder, FastDecoder)
    return decoder


def round_keys_and_values(_: torch.nn.Module, given: Any, qkv: torch.Tensor) -> torch.Tensor:
    """A hook of transformers' layer that computes them, after the queries."""
    queries, *pairs = qkv.chunk(3, -1)
    return torch.cat([queries, *(part.bfloat16().float() for part in pairs)], -1)


def assert_steps_are_those_of_transformers(config: dict[str, int]) -> None:
    """With keys and values that are rounded as the kernel rounds them; a sum may fall on the other side of a number."""
    model, ids = make_rounded_model(**config), make_ids(5, 30)
    decoder = make_fast(model, "bf16")
    for block in model.transformer.h:
        block.attn.c_attn.register_forward_hook(round_keys_and_values)
    theirs = look_up(model, ids)
    with torch.inference_mode():
        state = decoder.begin(ids[:, :2], 30, 5)
        for place in range(2, 30):
            torch.testing.assert_close(state.step(ids[:, place]), theirs[:, place], rtol=1e-4, atol=3e-4)


@NEEDS_COMPILER
@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_step_by_step_it_computes_what_transformers_computes(
    config: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FastDecoder, "_read", forbidden)
    assert_steps_are_those_of_transformers(config)


def forbidden(*_: Any) -> torch.Tensor:
    raise AssertionError("torch computed what the kernel should have")


@NEEDS_COMPILER
@pytest.mark.parametrize("n_out", [64, 97])
def test_eight_bit_weights_are_multiplied_as_they_are_packed(n_out: int) -> None:
    """A model with nothing but a head: what the packed numbers and scales stand for, times the last norm's output."""
    model = make_rounded_model(n_layer=1, vocab_size=n_out)
    with torch.no_grad():
        for name, parameter in model.transformer.h.named_parameters():
            if "c_proj" in name:
                parameter.zero_()
    packed, scales = pack_matrix(model.lm_head.weight.detach().t(), "int8")
    assert scales is not None
    rows = packed.permute(1, 0, 3, 2).reshape(64, -1)[:, :n_out].float() * scales
    assert float((rows - model.lm_head.weight.detach().t()).abs().max() / scales.max()) <= 0.5001
    with torch.inference_mode():
        ids = torch.tensor([3, 5, 8])
        x = model.transformer.wte(ids) + model.transformer.wpe(torch.zeros(3, dtype=torch.int64))
        expected = model.transformer.ln_f(x) @ rows
        state = make_fast(model, "int8").begin(ids[:, None], 4, 3)
    torch.testing.assert_close(state.logits, expected, rtol=1e-5, atol=1e-5)


@NEEDS_COMPILER
@pytest.mark.parametrize("form", kernel.FORMATS)
def test_a_row_has_the_same_bits_in_any_company_and_with_any_number_of_threads(form: Any) -> None:
    decoder, ids = make_fast(make_model(n_embd=192, n_head=4), form), make_ids(9, 20)
    before = torch.get_num_threads()
    try:
        with torch.inference_mode():
            torch.set_num_threads(1)
            alone = [decoder.begin(ids[row : row + 1, : 2 + row], 20, 1) for row in range(9)]
            together = [state.copy() for state in alone]
            expected = torch.cat([state.step(ids[row : row + 1, 15]) for row, state in enumerate(alone)])
            torch.set_num_threads(3)
            assert torch.equal(decoder.step_together(together, ids[:, 15]), expected)
    finally:
        torch.set_num_threads(before)


@NEEDS_COMPILER
@pytest.mark.parametrize("form", kernel.FORMATS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_prompt_is_read_at_once_as_token_by_token(form: Any, n_threads: int) -> None:
    decoder, ids = make_fast(make_model(n_embd=192, n_head=4), form), make_ids(2, 20)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        with torch.inference_mode():
            slowly = decoder.begin(ids[:1, :1], 20, 1)
            for place in range(1, 11):
                logits = slowly.step(ids[:1, place])
            quickly = decoder.begin(ids[:1, :11], 20, 2)
            assert torch.equal(quickly.logits, logits.repeat(2, 1))
            assert torch.equal(quickly.step(ids[:, 12])[:1], slowly.step(ids[:1, 12]))
    finally:
        torch.set_num_threads(before)


@NEEDS_COMPILER
def test_many_rows_that_have_to_be_alike_are_all_computed_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, ids = make_fast(make_model(), "int8"), make_ids(decoders.MANY_ROWS + 4, 3)
    decoder.make_rows_alike(len(ids))
    monkeypatch.setattr(FastDecoder, "_read", forbidden)
    with torch.inference_mode():
        state = decoder.begin(ids[:1, :2], 5, len(ids))
        logits = state.step(ids[:, 2])
        other = decoder.begin(ids[:1, :2], 5, 1)
        assert torch.equal(other.step(ids[7:8, 2]), logits[7:8])


@NEEDS_COMPILER
@pytest.mark.parametrize("amx", [False, True])
def test_steps_of_many_rows_are_computed_by_it_unless_torch_has_amx(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "has_amx", lambda: amx)
    state = make_fast(make_model(), "bf16").begin(make_ids(1, 3), 5, decoders.MANY_ROWS)
    monkeypatch.setattr(FastDecoder, "_read", forbidden)
    with pytest.raises(AssertionError, match="torch computed") if amx else nullcontext(), torch.inference_mode():
        assert len(state.step(torch.arange(decoders.MANY_ROWS))) == decoders.MANY_ROWS


@NEEDS_COMPILER
@pytest.mark.parametrize("token", [-1, 96, 2**40])
def test_a_token_outside_the_vocabulary_is_an_error(token: int) -> None:
    state = make_fast(make_model(), "int8").begin(make_ids(1, 3), 9, 1)
    with pytest.raises(IndexError, match="vocabulary of 96"):
        state.step(torch.tensor([token]))


@NEEDS_COMPILER
def test_infinite_weights_give_no_numbers_and_no_crash() -> None:
    model = make_model()
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.bias.fill_(torch.inf)
        model.transformer.h[1].attn.c_attn.bias.fill_(torch.nan)
    assert make_fast(model, "bf16").begin(make_ids(1, 3), 9, 1).logits.isnan().all()


# -- compiling


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The kernel as a new user has it: not yet compiled. Yields the folder that it goes to."""
    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path))
    load_kernel.cache_clear()
    yield tmp_path / "kernel"
    load_kernel.cache_clear()


@NEEDS_COMPILER
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-mavx2", "-mfma"), marks=pytest.mark.skipif(platform.machine() != "x86_64", reason="for x86")),
        (),
    ],
    ids=str,
)
def test_for_other_processors_it_computes_the_same(
    options: tuple[str, ...], fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "VARIANTS", (("-mno-such-option",), options))
    assert_steps_are_those_of_transformers(SHAPES[1])
    assert len(list(fresh.iterdir())) == 1


@NEEDS_COMPILER
def test_it_is_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_kernel()
    load_kernel.cache_clear()
    monkeypatch.setattr(kernel.subprocess, "run", forbidden)
    assert load_kernel()


@NEEDS_COMPILER
def test_one_that_is_damaged_is_compiled_again(fresh: Path) -> None:
    compiler = kernel._find_compiler()
    assert compiler
    fresh.mkdir()
    damaged = fresh / f"{kernel._describe(compiler)}.so"
    damaged.write_bytes(b"\x7fELF")
    assert load_kernel()
    assert damaged.stat().st_size > 10_000


def switch_it_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPIGONE_KERNEL", "off")


def lose_the_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")


def break_the_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")


def block_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("a file where the folder should be")


def open_the_folder_to_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone else may have put a library there."""
    load_kernel()
    load_kernel.cache_clear()
    folder.chmod(0o777)


@pytest.mark.parametrize(
    "spoil",
    [switch_it_off, lose_the_compiler, break_the_compiler, block_the_cache]
    + ([open_the_folder_to_all] if os.name == "posix" else []),
)
def test_without_it_torch_computes_the_same(spoil: Any, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(fresh, monkeypatch)
    assert load_kernel() is None
    model, ids = make_rounded_model(), make_ids(2, 6)
    decoder = make_fast(model, "bf16")
    state = decoder.begin(ids[:, :5], 9, 2)
    torch.testing.assert_close(state.step(ids[:, 5]), look_up(model, ids)[:, -1], rtol=0.02, atol=0.05)


def test_slots_say_where_a_token_goes() -> None:
    cache = torch.zeros(2, 2, 3, 2, 5, 8)
    rows = list(kernel._list_rows([Slots(cache, 4), Slots(cache[:, :, 1:2], 2)]))
    assert [row.cache - cache.data_ptr() for row in rows] == [4 * 80 * row for row in (0, 1, 2, 1)]
    assert [row.slot for row in rows] == [4, 4, 4, 2]
    assert {(row.layer_step, row.pair_step, row.head_step, row.slot_step) for row in rows} == {(480, 240, 40, 8)}
