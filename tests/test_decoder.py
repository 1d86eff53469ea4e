"""Decoders compute what transformers computes, token by token, in every format, whatever is computed beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from epigone.errors import SettingsError
from epigone.hardware import Hardware
from epigone.model import decoder as decoders
from epigone.model.combination import GuidedDecoder
from epigone.model.decoder import (
    FastDecoder,
    ReferenceDecoder,
    choose_weight_format,
    find_least_rows,
    make_decoder,
    pad_rows,
)
from epigone.model.lora import add_adapters
from test_forward import make_model

TOLERANCE = {"fp32": 2e-5, "bf16": 0.05, "int8": 0.05}
FORMS = list(TOLERANCE)


def make_ids(count: int, n_time: int) -> torch.Tensor:
    return torch.randint(96, (count, n_time), generator=torch.Generator().manual_seed(2))


def look_up(model: GPT2LMHeadModel, ids: torch.Tensor) -> torch.Tensor:
    """transformers' own logits at every position."""
    model.eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, form: str) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[form] * float(theirs.abs().max()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("config", [{}, {"n_head": 1}, {"n_layer": 1, "n_embd": 96, "n_head": 3}], ids=str)
def test_step_by_step_the_logits_are_those_of_transformers(form: Any, config: dict[str, int]) -> None:
    model, ids = make_model(**config), make_ids(3, 12)
    theirs, state = look_up(model, ids), make_decoder(model, form).begin(ids[:, :4], 12, 3)
    assert_near(state.logits, theirs[:, 3], form)
    for place in range(4, 12):
        assert state.room_left == 12 - place
        assert_near(state.step(ids[:, place]), theirs[:, place], form)
    assert state.room_left == 0


@pytest.mark.parametrize("make", [make_decoder, ReferenceDecoder])
def test_a_beginning_that_all_texts_share_is_read_once(make: Any) -> None:
    model, ids = make_model(), make_ids(1, 6).expand(4, -1)
    more = make_ids(4, 2)
    theirs, state = look_up(model, torch.cat([ids, more], dim=1)), make(model).begin(ids[:1], 12, 4)
    assert_near(state.logits, theirs[:, 5], "fp32")
    assert_near(state.step(more[:, 0]), theirs[:, 6], "fp32")
    assert_near(state.step(more[:, 1]), theirs[:, 7], "fp32")


@pytest.mark.parametrize("make", [make_decoder, ReferenceDecoder])
def test_two_states_of_one_decoder_do_not_touch_each_other(make: Any) -> None:
    model, ids, others = make_model(), make_ids(2, 9), make_ids(3, 30)[:, 9:]
    decoder = make(model)
    theirs, theirs_of_others = look_up(model, ids), look_up(model, others)
    first = decoder.begin(ids[:, :5], 32, 2)
    second = decoder.begin(others[:, :12], 32, 3)
    for place in range(4):
        assert_near(first.step(ids[:, 5 + place]), theirs[:, 5 + place], "fp32")
        assert_near(second.step(others[:, 12 + place]), theirs_of_others[:, 12 + place], "fp32")


@pytest.mark.parametrize("make", [make_decoder, ReferenceDecoder])
def test_there_is_no_more_room_than_the_model_has_positions(make: Any) -> None:
    state = make(make_model()).begin(make_ids(1, 31), 10_000, 1)
    assert state.room_left == 1
    state.step(torch.tensor([1]))
    assert state.room_left == 0
    with pytest.raises(ValueError, match="no room"):
        state.step(torch.tensor([1]))


# -- rows that did not begin together


def make_guided(model: GPT2LMHeadModel) -> GuidedDecoder:
    """All of its strength is the model's own."""
    return GuidedDecoder(make_decoder(model), make_decoder(make_model(n_layer=1)), 1.0)


MAKERS = [make_decoder, ReferenceDecoder, make_guided]


def assert_same_predictions(logits: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(logits.log_softmax(-1), theirs.log_softmax(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("starts", [(3, 9), (9, 3), (5, 5)], ids=str)
def test_states_that_step_together_get_the_logits_of_transformers(make: Any, starts: tuple[int, int]) -> None:
    """Two rows are some tokens into their texts when a third begins with a prompt of another length."""
    model, ids, other = make_model(), make_ids(2, 20), make_ids(1, 25)[:, 3:]
    theirs, theirs_of_other = look_up(model, ids), look_up(model, other)
    decoder = make(model)
    with torch.inference_mode():
        first = decoder.begin(ids[:, : starts[0]], 20, 2)
        first.step(ids[:, starts[0]])
        second = decoder.begin(other[:, : starts[1]], 22, 1)
        for step in range(8):
            place, place_of_other = starts[0] + 1 + step, starts[1] + step
            tokens = torch.cat([ids[:, place], other[:, place_of_other]])
            logits = decoder.step_together([first, second], tokens)
            assert_same_predictions(logits, torch.cat([theirs[:, place], theirs_of_other[:, place_of_other]]))


@pytest.mark.parametrize("make", MAKERS)
def test_a_copy_goes_on_by_itself(make: Any) -> None:
    model, ids = make_model(), make_ids(2, 20)
    theirs, decoder = look_up(model, torch.cat([ids[:1, :5].expand(2, -1), ids[:, 5:]], dim=1)), make(model)
    with torch.inference_mode():
        states = [decoder.begin(ids[:1, :5], 20, 1)]
        states.append(states[0].copy())
        assert_same_predictions(states[1].logits, theirs[:1, 4])
        for place in range(5, 9):
            assert_same_predictions(decoder.step_together(states, ids[:, place]), theirs[:, place])


@pytest.mark.parametrize("form", FORMS)
def test_a_row_has_the_same_bits_whatever_is_computed_beside_it(form: Any) -> None:
    """States of different lengths, alone and together, once the rows are made alike."""
    decoder, ids = make_decoder(make_model(), form), make_ids(9, 20)
    decoder.make_rows_alike(9)
    prompts = [ids[row : row + 1, : 2 + row] for row in range(9)]
    with torch.inference_mode():
        alone = [decoder.begin(prompt, 20, 1) for prompt in prompts]
        together = [decoder.begin(prompt, 20, 1) for prompt in prompts]
        for place in range(12, 17):
            logits = decoder.step_together(together, ids[:, place])
            expected = [state.step(ids[row : row + 1, place]) for row, state in enumerate(alone)]
            assert torch.equal(logits, torch.cat(expected))


def test_rows_that_are_not_alike_would_be_noticed() -> None:
    """The negative control: a product that is computed otherwise from four rows on."""

    def multiply(x: torch.Tensor) -> torch.Tensor:
        return x * (1.0 if len(x) < 4 else 1.0000001)

    assert find_least_rows(multiply, 8, 9, torch.device("cpu")) == 4
    assert find_least_rows(pad_rows(multiply, 4), 8, 9, torch.device("cpu")) == 1


def test_where_padding_does_not_help_states_are_computed_one_by_one() -> None:
    model, ids = make_model(), make_ids(2, 6)
    decoder, plain = make_decoder(model), make_decoder(model)
    assert isinstance(decoder, FastDecoder)
    whole = decoder._head
    decoder._head = lambda x: whole(x) * (1 + 0.001 * len(x))
    decoder.make_rows_alike(12)
    with torch.inference_mode():
        logits = decoder.step_together([decoder.begin(ids[row : row + 1, :5], 9, 1) for row in range(2)], ids[:, 5])
        expected = plain.begin(ids[:, :5], 9, 2).step(ids[:, 5]) * 1.001
    torch.testing.assert_close(logits, expected)


def test_in_fp32_it_follows_a_model_that_goes_on_learning() -> None:
    model, ids = make_model(), make_ids(1, 5)
    decoder = make_decoder(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.1
    assert_near(decoder.begin(ids, 8, 1).logits, look_up(model, ids)[:, -1], "fp32")


def test_adapters_count() -> None:
    model, ids = make_model(), make_ids(1, 5)
    add_adapters(model, 4, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05
    assert_near(make_decoder(model).begin(ids, 8, 1).logits, look_up(model, ids)[:, -1], "fp32")


def test_what_it_does_not_know_is_left_to_transformers() -> None:
    assert isinstance(make_decoder(make_model(), "fp32"), FastDecoder)
    model, ids = make_model(activation_function="relu"), make_ids(2, 7)
    decoder = make_decoder(model, "fp32")
    assert isinstance(decoder, ReferenceDecoder)
    theirs = look_up(model, ids)
    model.train()
    state = decoder.begin(ids[:, :6], 9, 2)
    assert_near(state.logits, theirs[:, 5], "fp32")
    assert_near(state.step(ids[:, 6]), theirs[:, 6], "fp32")
    assert model.training


def test_eight_bits_cost_little() -> None:
    """Rounded weights change the loss on what the model knows by far less than a percent."""
    model, ids = make_model(), make_ids(4, 32)
    decoder = make_decoder(model, "int8")
    exact = look_up(model, ids)
    state = decoder.begin(ids[:, :1], 32, 4)
    rounded = torch.stack([state.logits, *(state.step(ids[:, place]) for place in range(1, 32))], dim=1)
    losses = [
        torch.nn.functional.cross_entropy(one[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) for one in (exact, rounded)
    ]
    assert abs(losses[1] / losses[0] - 1) < 0.005
    assert not torch.equal(exact, rounded)


@pytest.mark.parametrize("computes", [True, False])
def test_of_many_rows_nothing_is_rounded_to_eight_bits(computes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "computes_bf16", lambda: computes)
    model, ids = make_model(), make_ids(1, decoders.MANY_ROWS + 1)
    theirs, decoder = look_up(model, ids), make_decoder(model, "int8")
    state = decoder.begin(ids[:, :-1], 64, 1)
    assert_near(state.logits, theirs[:, -2], "int8")
    assert_near(state.step(ids[:, -1]), theirs[:, -1], "int8")
    read = decoder.read_all(ids)
    assert_near(read, theirs[0], "bf16" if computes else "fp32")


@pytest.mark.parametrize(("form", "amx", "dtype"), [("int8", True, "bfloat16"), ("bf16", False, "float32")])
def test_keys_are_in_bf16_only_where_attention_over_them_is_fast(
    form: Any, amx: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "has_amx", lambda: amx)
    monkeypatch.setattr(decoders, "load_kernel", lambda: None)  # its keys are in bf16 anyhow
    decoder = make_decoder(make_model(), form)
    assert decoder.make_cache(1, 8).tensor.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.5])
def test_style_goes_from_the_base_to_the_tuned_model_and_beyond(strength: float) -> None:
    base, tuned, ids = make_model(), make_model(n_layer=1), make_ids(2, 8)
    styled = GuidedDecoder(make_decoder(tuned), make_decoder(base), strength)
    theirs = [look_up(model, ids).log_softmax(-1) for model in (base, tuned)]
    expected = theirs[0] + strength * (theirs[1] - theirs[0])
    state = styled.begin(ids[:, :6], 12, 2)
    assert_near(state.logits, expected[:, 5], "fp32")
    assert_near(state.step(ids[:, 6]), expected[:, 6], "fp32")
    assert_near(state.step(ids[:, 7]), expected[:, 7], "fp32")
    assert_near(styled.read_all(ids), expected.flatten(0, 1), "fp32")


def test_two_models_go_on_as_far_as_the_one_with_fewer_positions() -> None:
    styled = GuidedDecoder(make_decoder(make_model(n_positions=12)), make_decoder(make_model()), 2.0)
    state = styled.begin(make_ids(1, 11), 100, 1)
    assert state.room_left == 1
    state.step(torch.tensor([1]))
    assert state.room_left == 0


def test_the_format_is_chosen_by_the_model_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Hardware(device="cpu", name="a processor", n_threads=2, memory_bytes=2**33, bf16=True)
    plain = Hardware(device="cpu", name="a processor", n_threads=2, memory_bytes=2**33, bf16=False)
    card = Hardware(device="cuda", name="a card", n_threads=2, memory_bytes=2**33, bf16=True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(decoders, "load_kernel", lambda: True)
    assert choose_weight_format("auto", 124_000_000, machine) == "int8"
    assert choose_weight_format("auto", 124_000_000, card) == "bf16"
    assert choose_weight_format("bf16", 124_000_000, machine) == "bf16"
    monkeypatch.setattr(decoders, "load_kernel", lambda: None)
    assert choose_weight_format("auto", 5_000_000, machine) == "int8"
    assert choose_weight_format("auto", 5_000_000, plain) == "int8"
    assert choose_weight_format("auto", 5_000_000, card) == "fp32"
    assert choose_weight_format("auto", 124_000_000, machine) == "bf16"
    assert choose_weight_format("auto", 124_000_000, plain) == "int8"
    assert choose_weight_format("auto", 124_000_000, card) == "bf16"
    assert choose_weight_format("fp32", 124_000_000, plain) == "fp32"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert choose_weight_format("auto", 5_000_000, plain) == "fp32"
    assert choose_weight_format("int8", 5_000_000, plain) == "int8"
    with pytest.raises(SettingsError, match="for processors"):
        choose_weight_format("int8", 124_000_000, card)
