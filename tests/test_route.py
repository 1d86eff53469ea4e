"""From which weights to start is chosen by what lies at hand, fits the text and is quick enough, and is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import pytest

from epigone import TrainSettings
from epigone.errors import SettingsError
from epigone.hardware import Hardware
from epigone.planning.choose_base import CLEARLY, BaseChoice, BaseFit, BaseTrial, choose_base
from epigone.settings import flag_name
from epigone.tokens.tokenizer import encode
from helpers_tokens import DATA, gpt2_tokenizer, make_hardware, needs_data

ENGLISH = 4.0
"""Bytes of English that one of GPT-2's tokens stands for."""
PROSE = BaseTrial(untouched={"modern": 1.7, "small": 1.6}, best="small")
CHAT = BaseTrial(
    untouched={"modern": 2.6, "small": 3.8}, compared={"modern": 2.4, "small": 2.7}, best="modern", tuned=2.2, fresh=2.5
)
CHINESE = BaseTrial(untouched={"modern": 15.0, "small": 14.4}, best="small", tuned=5.0, fresh=2.4)
POEM_OF_ANOTHER_SCRIPT = (
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n床前明月光，疑是地上霜。举头望明月，低头思故乡。\n"
)
GIGABYTE = 1_000_000_000


def must_not_be_asked(*_: object) -> NoReturn:
    raise AssertionError("GPT-2's tokenizer was asked for")


def route(
    settings: TrainSettings,
    *,
    n_bytes: int = 100_000,
    fit: float | Callable[[], float] = ENGLISH,
    at_hand: bool = True,
    bundled: BaseTrial | Callable[[Sequence[str]], BaseTrial] = PROSE,
    hardware: Hardware | None = None,
) -> BaseChoice:
    fits = BaseFit(
        gpt2=(fit if callable(fit) else lambda: fit) if at_hand else None,
        bundled=bundled if callable(bundled) else lambda _: bundled,
    )
    return choose_base(settings, n_bytes=n_bytes, fits=fits, hardware=hardware or make_hardware())


# -- left to the plan


def test_an_english_text_starts_from_the_gpt2_that_is_at_hand() -> None:
    chosen = route(TrainSettings())
    assert (chosen.base.value, chosen.vocab_size.value) == ("gpt2", 0)
    assert chosen.base.reason and chosen.vocab_size.reason == "gpt2's own"


def test_without_gpt2_the_small_base_is_taken_and_it_is_said_how_to_get_gpt2() -> None:
    chosen = route(TrainSettings(), at_hand=False, fit=must_not_be_asked)
    assert (chosen.base.value, chosen.vocab_size.value) == ("small", 0)
    assert "not on this machine" in chosen.base.reason and "--base gpt2" in chosen.base.reason


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_text_that_no_base_fits_gets_a_model_of_its_own(at_hand: bool) -> None:
    chosen = route(TrainSettings(), fit=1.3, bundled=CHINESE, at_hand=at_hand)
    assert chosen.base.value == "none"
    assert (
        "before training the base small needs 14.40 bits per byte of this text, modern 15.00" in chosen.base.reason
        and "small reached 5.00, a new model in the same time 2.40" in chosen.base.reason
    )
    assert ("1.3 bytes" in chosen.base.reason) == at_hand


def test_a_text_that_the_small_base_fits_as_it_comes_needs_no_trial() -> None:
    chosen = route(TrainSettings(), at_hand=False, bundled=PROSE)
    assert (
        chosen.base.value == "small"
        and "before training the base small needs 1.60 bits per byte of this text, modern 1.70;" in chosen.base.reason
    )


def test_a_smaller_base_that_is_a_little_behind_is_taken_and_it_is_said_why() -> None:
    recipes = BaseTrial(untouched={"modern": 2.0, "small": 3.1}, compared={"modern": 1.9, "small": 2.0}, best="small")
    reason = route(TrainSettings(), at_hand=False, bundled=recipes).base.reason
    assert (
        "small needs 2.00 bits per byte of this text, modern 1.90, but a smaller base gains more afterwards" in reason
    )
    assert "gains more" not in route(TrainSettings(), at_hand=False, bundled=CHAT).base.reason


def test_a_base_that_needs_many_bits_untouched_is_taken_where_it_learns_fast() -> None:
    chosen = route(TrainSettings(), at_hand=False, bundled=CHAT)
    assert chosen.base.value == "modern"
    assert (
        "after a few seconds of training the base modern needs 2.40 bits per byte of this text, small 2.70"
        in chosen.base.reason
    )


@pytest.mark.parametrize("tuned", [2.0, 4.0])
def test_only_a_fresh_model_that_clearly_wins_the_trial_is_taken(tuned: float) -> None:
    """As long as both are as good as each other the base is taken, since it ends higher up than it is after seconds."""
    before: dict[str, Any] = {"untouched": {"small": 9.0}, "best": "small", "tuned": tuned}
    trials = [BaseTrial(**before, fresh=share * tuned) for share in (1.2, 1.0, CLEARLY + 0.01)]
    assert {route(TrainSettings(), at_hand=False, bundled=trial).base.value for trial in trials} == {"small"}
    won = BaseTrial(**before, fresh=(CLEARLY - 0.01) * tuned)
    assert route(TrainSettings(), at_hand=False, bundled=won).base.value == "none"


def test_the_library_of_a_lifetime_gets_a_model_of_its_own() -> None:
    chosen = route(TrainSettings(), n_bytes=GIGABYTE, at_hand=False, bundled=must_not_be_asked)
    assert chosen.base.value == "none" and "1,000,000,000 bytes" in chosen.base.reason


def test_more_context_than_the_bundled_bases_have_needs_a_fresh_model() -> None:
    chosen = route(TrainSettings(block_size=512), at_hand=False, bundled=must_not_be_asked)
    assert chosen.base.value == "none" and "256 tokens" in chosen.base.reason
    assert route(TrainSettings(block_size=256), at_hand=False).base.value == "small"


@pytest.mark.parametrize("asked", [{"size": "6x256"}, {"vocab_size": 512}])
def test_a_size_or_a_tokenizer_needs_a_fresh_model(asked: dict[str, Any]) -> None:
    chosen = route(TrainSettings(**asked), fit=must_not_be_asked, bundled=must_not_be_asked)
    assert chosen.base.value == "none" and f"{flag_name(next(iter(asked)))} needs a new model" in chosen.base.reason


def test_gpt2_is_not_begun_with_where_the_minutes_allow_no_pass() -> None:
    allowed = [route(TrainSettings(minutes=minutes)).base.value for minutes in (2.0, 20.0)]
    assert allowed == ["small", "gpt2"]


@needs_data
def test_what_fits_is_told_by_gpt2_s_own_tokenizer() -> None:
    play = (DATA / "tinyshakespeare.txt").read_text("utf-8")[:100_000]
    for text, base in ((play, "gpt2"), (POEM_OF_ANOTHER_SCRIPT * 50, "small")):
        fit = len(text.encode()) / len(encode(text, gpt2_tokenizer()))
        assert route(TrainSettings(), fit=fit).base.value == base


def test_a_machine_that_would_take_hours_for_one_pass_begins_with_less() -> None:
    chosen = route(TrainSettings(), n_bytes=10_000_000)
    assert chosen.base.value == "small" and "minutes" in chosen.base.reason


def test_what_is_too_slow_for_one_machine_is_not_for_another() -> None:
    """The more threads, and with bf16, and on a GPU, the longer the text that can be read through in time."""
    machines = [
        make_hardware(n_threads=1),
        make_hardware(n_threads=8),
        make_hardware(n_threads=8, bf16=True),
        make_hardware("cuda", bf16=True),
    ]
    readable = [
        max(n_bytes for n_bytes in (2**power for power in range(12, 40)) if is_chosen(n_bytes, machine))
        for machine in machines
    ]
    assert readable == sorted(readable) and len(set(readable)) == 4


def is_chosen(n_bytes: int, hardware: Hardware) -> bool:
    return route(TrainSettings(), n_bytes=n_bytes, hardware=hardware).base.value == "gpt2"


# -- asked for


@pytest.mark.parametrize("base", ["gpt2", "owner/other", "./folder"])
def test_a_base_that_is_asked_for_is_taken_whatever_speaks_against_it(base: str) -> None:
    chosen = route(TrainSettings(base=base), at_hand=False, fit=must_not_be_asked, n_bytes=GIGABYTE)
    assert (chosen.base.value, chosen.vocab_size.value, chosen.base.reason) == (base, 0, "as asked")
    assert base in chosen.vocab_size.reason


def test_no_base_is_taken_where_none_is_asked_for() -> None:
    chosen = route(TrainSettings(base="none"), fit=must_not_be_asked)
    assert (chosen.base.value, chosen.base.reason) == ("none", "as asked")


# -- the vocabulary


def test_a_tokenizer_that_is_asked_for_is_learned() -> None:
    chosen = route(TrainSettings(base="none", vocab_size=777))
    assert (chosen.vocab_size.value, chosen.vocab_size.reason) == (777, "as asked")


def test_longer_texts_get_larger_vocabularies() -> None:
    chosen = [route(TrainSettings(base="none"), n_bytes=10**power) for power in range(3, 10)]
    sizes = [each.vocab_size.value for each in chosen]
    assert sizes == sorted(sizes) and 257 <= sizes[0] < sizes[3] < sizes[-1] <= 65_536
    assert all(each.vocab_size.reason for each in chosen)


@pytest.mark.parametrize("base", ["gpt2", "small"])
def test_a_base_brings_its_own_tokenizer_and_another_cannot_be_asked_for(base: str) -> None:
    with pytest.raises(SettingsError, match=f"--vocab-size 500 needs a new model, but {base}") as caught:
        route(TrainSettings(base=base, vocab_size=500))
    assert "--base none" in caught.value.hint
    assert route(TrainSettings(base="none", vocab_size=500)).vocab_size.value == 500
