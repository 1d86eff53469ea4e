"""The rule: longer texts and more time make larger models; long reading of a short text makes dropout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from epigone.hardware import Hardware
from epigone.planning.defaults import choose_dropout, choose_epochs_from_scratch, choose_size, choose_vocab_size
from epigone.planning.plan import Plan
from helpers_tokens import plan_for

MACHINE = Hardware(device="cpu", name="two cores", n_threads=2, memory_bytes=2**34, bf16=True, compiles=True)
BYTES = st.integers(1_000, 10**9)


def plan_for_bytes(n_bytes: int, minutes: float | str, machine: Hardware = MACHINE) -> Plan:
    """The plan for a text of so many bytes, with nothing set but the minutes."""
    return plan_for(n_bytes // 2, hardware=machine, base="none", device="cpu", minutes=minutes)


@pytest.mark.parametrize("on_processor", [True, False])
@given(st.tuples(BYTES, BYTES).map(sorted))
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_longer_text_makes_no_smaller_a_model_tokenizer_or_dropout(on_processor: bool, sizes: list[int]) -> None:
    def count(n_bytes: int) -> int:
        size, _ = choose_size(n_bytes, on_processor, lambda _: 1e9)
        names = ["2x64", "2x128", "2x192", "4x192", "6x256", "6x384"]
        names = names if on_processor else ["pico", "micro", "small", "medium", "gpt2"]
        return names.index(size)

    short, long = sizes
    assert count(short) <= count(long)
    assert choose_vocab_size(short)[0] <= choose_vocab_size(long)[0]
    assert choose_epochs_from_scratch(short) >= choose_epochs_from_scratch(long)


@pytest.mark.parametrize("n_bytes", [50_000, 300_000, 1_000_000, 5_000_000, 30_000_000])
def test_more_time_makes_a_larger_model_until_the_text_is_the_limit(n_bytes: int) -> None:
    plans = [plan_for_bytes(n_bytes, minutes) for minutes in (0.5, 1.0, 3.0, 10.0, 60.0, 600.0, "none")]
    sizes = [plan.model.n_parameters for plan in plans]
    assert sizes == sorted(sizes)
    assert sizes[-1] == sizes[-2]


def test_a_slow_machine_makes_a_smaller_model_in_the_same_time() -> None:
    slow = Hardware(device="cpu", name="one core", n_threads=1, memory_bytes=2**34, bf16=False)
    assert plan_for_bytes(5_000_000, 10.0, slow).model.n_parameters < plan_for_bytes(5_000_000, 10.0).model.n_parameters


def test_with_little_time_any_text_is_learned_by_the_smallest_model() -> None:
    assert plan_for_bytes(30_000_000, 0.01).model.shape.n_embd == 64


@given(st.floats(1, 60), st.floats(0.001, 50))
def test_dropout_grows_with_the_passes_and_the_parameters_and_is_bounded(passes: float, per_byte: float) -> None:
    dropout, reason = choose_dropout(passes, per_byte)
    assert 0 <= dropout <= 0.2 and reason
    assert choose_dropout(2 * passes, per_byte)[0] >= dropout
    assert choose_dropout(passes, 2 * per_byte)[0] >= dropout


def test_what_is_read_few_times_is_learned_without_dropout() -> None:
    assert plan_for_bytes(5_000_000, 1.0).model.dropout == 0
    dropouts = [plan_for_bytes(n_bytes, "none").model.dropout for n_bytes in (20_000, 60_000, 300_000)]
    assert dropouts == sorted(dropouts, reverse=True) and 0.2 >= dropouts[0] > dropouts[-1] > 0


@pytest.mark.parametrize(
    ("n_bytes", "minutes", "block_size"),
    [
        (100_000, "none", 64),
        (1_000_000, 1.0, 64),
        (1_000_000, 3.0, 64),
        (1_000_000, 10.0, 128),
        (1_000_000, "none", 128),
    ],
)
def test_short_texts_and_short_times_are_learned_in_short_blocks(
    n_bytes: int, minutes: float | str, block_size: int
) -> None:
    assert plan_for_bytes(n_bytes, minutes).batch.block_size == block_size
    assert plan_for_bytes(n_bytes, minutes).batch.batch_size * block_size == 2048


def test_what_is_read_often_is_learned_with_more_dropout() -> None:
    dropouts = [plan_for(epochs=epochs).model.dropout for epochs in (0.5, 2.0, 20.0, 60.0)]
    assert dropouts == sorted(dropouts) and dropouts[-1] > dropouts[0]


def test_compiling_pays_in_longer_runs_and_in_fp32_only_where_there_is_dropout() -> None:
    slow = Hardware(device="cpu", name="two cores", n_threads=2, memory_bytes=2**34, bf16=False, compiles=True)
    asked = [(MACHINE, 0.2, "off"), (MACHINE, 2.0, "layers"), (MACHINE, 10.0, "full")]
    asked += [(slow, 2.0, "off"), (slow, 10.0, "layers")]
    for machine, minutes, chosen in asked:
        assert plan_for_bytes(1_000_000, minutes, machine).compute.compile == chosen
    without = plan_for(500_000, hardware=slow, base="none", minutes=10.0, dropout=0.0)
    assert without.compute.compile == "off" and "dropout" in without.reasons["compile"]


@pytest.mark.parametrize(
    ("n_bytes", "vocab_size"),
    [(19_999, 320), (20_000, 512), (400_000, 1024), (6_000_000, 2048), (19_999_999, 2048), (20_000_000, 4096)],
)
def test_the_vocabulary_grows_at_the_measured_lengths(n_bytes: int, vocab_size: int) -> None:
    assert choose_vocab_size(n_bytes)[0] == vocab_size


@pytest.mark.parametrize(("passes", "dropout"), [(4.0, 0.0), (6.0, 0.02), (30.0, 0.1), (60.0, 0.2)])
def test_dropout_starts_at_two_percent_and_ends_at_twenty(passes: float, dropout: float) -> None:
    assert choose_dropout(passes, 1.0)[0] == dropout
