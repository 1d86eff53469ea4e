"""The decoder computes what transformers computes, token by token, in every format and for every number of texts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from epigone.errors import SettingsError
from epigone.hardware import Hardware
from epigone.model import decoder as decoders
from epigone.model.decoder import Decoder, GuidedDecoder, ReferenceDecoder, choose_weight_format, make_decoder
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
    theirs, decoder = look_up(model, ids), make_decoder(model, form)
    assert_near(decoder.begin(ids[:, :4], 12, 3), theirs[:, 3], form)
    for place in range(4, 12):
        assert not decoder.is_full
        assert_near(decoder.step(ids[:, place]), theirs[:, place], form)
    assert decoder.is_full


@pytest.mark.parametrize("make", [make_decoder, ReferenceDecoder])
def test_a_beginning_that_all_texts_share_is_read_once(make: Any) -> None:
    model, ids = make_model(), make_ids(1, 6).expand(4, -1)
    more = make_ids(4, 2)
    theirs, decoder = look_up(model, torch.cat([ids, more], dim=1)), make(model)
    assert_near(decoder.begin(ids[:1], 12, 4), theirs[:, 5], "fp32")
    assert_near(decoder.step(more[:, 0]), theirs[:, 6], "fp32")
    assert_near(decoder.step(more[:, 1]), theirs[:, 7], "fp32")


@pytest.mark.parametrize("make", [make_decoder, ReferenceDecoder])
def test_beginning_anew_forgets(make: Any) -> None:
    model, ids = make_model(), make_ids(2, 9)
    decoder = make(model)
    decoder.begin(make_ids(2, 20), 32, 2)
    assert_near(decoder.begin(ids, 32, 2), look_up(model, ids)[:, -1], "fp32")


def test_no_more_room_is_taken_than_the_model_has_positions() -> None:
    decoder = make_decoder(make_model())
    decoder.begin(make_ids(1, 31), 10_000, 1)
    assert not decoder.is_full
    decoder.step(torch.tensor([1]))
    assert decoder.is_full


def test_in_fp32_it_follows_a_model_that_goes_on_learning() -> None:
    model, ids = make_model(), make_ids(1, 5)
    decoder = make_decoder(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.1
    assert_near(decoder.begin(ids, 8, 1), look_up(model, ids)[:, -1], "fp32")


def test_adapters_count() -> None:
    model, ids = make_model(), make_ids(1, 5)
    add_adapters(model, 4, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05
    assert_near(make_decoder(model).begin(ids, 8, 1), look_up(model, ids)[:, -1], "fp32")


def test_what_it_does_not_know_is_left_to_transformers() -> None:
    assert isinstance(make_decoder(make_model(), "fp32"), Decoder)
    model, ids = make_model(activation_function="relu"), make_ids(2, 7)
    decoder = make_decoder(model, "fp32")
    assert isinstance(decoder, ReferenceDecoder)
    theirs = look_up(model, ids)
    model.train()
    assert_near(decoder.begin(ids[:, :6], 9, 2), theirs[:, 5], "fp32")
    assert_near(decoder.step(ids[:, 6]), theirs[:, 6], "fp32")
    assert model.training


def test_eight_bits_cost_little() -> None:
    """Rounded weights change the loss on what the model knows by far less than a percent."""
    model, ids = make_model(), make_ids(4, 32)
    decoder = make_decoder(model, "int8")
    exact = look_up(model, ids)
    first = decoder.begin(ids[:, :1], 32, 4)
    rounded = torch.stack([first, *(decoder.step(ids[:, place]) for place in range(1, 32))], dim=1)
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
    seen = decoder.begin(ids[:, :-1], 64, 1), decoder.step(ids[:, -1])
    assert_near(seen[0], theirs[:, -2], "int8")
    assert_near(seen[1], theirs[:, -1], "int8")
    read = decoder.read_all(ids)
    assert_near(read, theirs[0], "bf16" if computes else "fp32")


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.5])
def test_style_goes_from_the_base_to_the_tuned_model_and_beyond(strength: float) -> None:
    base, tuned, ids = make_model(), make_model(n_layer=1), make_ids(2, 8)
    styled = GuidedDecoder(make_decoder(tuned), make_decoder(base), strength)
    theirs = [look_up(model, ids).log_softmax(-1) for model in (base, tuned)]
    expected = theirs[0] + strength * (theirs[1] - theirs[0])
    assert_near(styled.begin(ids[:, :6], 12, 2), expected[:, 5], "fp32")
    assert_near(styled.step(ids[:, 6]), expected[:, 6], "fp32")
    assert_near(styled.step(ids[:, 7]), expected[:, 7], "fp32")


def test_two_models_go_on_as_far_as_the_one_with_fewer_positions() -> None:
    styled = GuidedDecoder(make_decoder(make_model(n_positions=12)), make_decoder(make_model()), 2.0)
    styled.begin(make_ids(1, 11), 100, 1)
    assert not styled.is_full
    styled.step(torch.tensor([1]))
    assert styled.is_full


def test_the_format_is_chosen_by_the_model_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Hardware(device="cpu", name="a processor", n_threads=2, memory_bytes=2**33, bf16=True)
    plain = Hardware(device="cpu", name="a processor", n_threads=2, memory_bytes=2**33, bf16=False)
    card = Hardware(device="cuda", name="a card", n_threads=2, memory_bytes=2**33, bf16=True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
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
