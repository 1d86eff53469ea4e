"""Who wrote a text: one of several candidates, by their models and their style, or none of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import epigone
from epigone.errors import SettingsError, TextTooShort
from epigone.evaluation import attribution
from epigone.evaluation.attribution import (
    Candidate,
    Evidence,
    compare_words,
    find_probabilities,
    fit_offsets,
    measure_gain_shares,
    measure_styles,
    number_words,
    read_with_all,
    wrap,
)
from epigone.evaluation.stylometry import load_authors
from epigone.hardware import find_hardware
from epigone.model.base_profile import BASES
from epigone.model.decoder import open_decoder
from epigone.report.views import describe_attribution, summarise_attribution
from epigone.run import score
from epigone.tokens.tokenizer import load_tokenizer
from helpers_front import command, shared_run, sonnets

NONE = np.array([np.nan, np.nan, np.nan])


def weigh(
    n_characters: int,
    leads: list[float] | None = None,
    gains: list[float] | None = None,
    styles: list[float] | None = None,
) -> tuple[np.ndarray, float]:
    """The probabilities of three candidates, or as many as there are gains."""
    return find_probabilities(
        n_characters,
        Evidence(
            leads=None if leads is None else np.array(leads),
            gains=NONE if gains is None else np.array(gains),
            styles=None if styles is None else np.array(styles),
        ),
    )


# -- from evidence to probabilities


@pytest.mark.parametrize("kind", ["lead", "style", "both", "all"])
def test_the_probabilities_of_all_candidates_and_of_none_add_up_to_1(kind: str) -> None:
    leads = [0.01, -0.02, -0.02] if kind != "style" else [0.0, 0.0, 0.0]
    gains = [0.9, 0.1, 0.0] if kind == "all" else None
    shares, none = weigh(5_000, leads, gains, None if kind == "lead" else [3.0, 1.0, 0.0])
    assert shares.sum() + none == pytest.approx(1)
    assert shares[0] > shares[1]


@pytest.mark.parametrize("kind", ["lead", "style", "both"])
def test_more_text_makes_it_more_certain(kind: str) -> None:
    leads = [0.0, 0.0, 0.0] if kind == "style" else [0.001, 0.0, -0.002]
    styles = None if kind == "lead" else [3.0, 2.7, 1.0]
    ratios = []
    for length in (2_000, 5_000, 25_000, 50_000):
        shares, _ = weigh(length, leads, [0.5, 0.5, 0.5], styles)
        ratios.append(shares[0] / shares[1])
    assert ratios == sorted(ratios)
    assert ratios[2] == ratios[3]  # lengths for which the weights were not fitted are not more certain


def test_a_text_far_from_all_models_and_styles_is_by_none() -> None:
    shares, none = weigh(25_000, [-0.02, -0.02, -0.021], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.2])
    assert none > 0.9 > shares.sum()
    shares, none = weigh(25_000, [0.005, -0.02, -0.02], [0.5, 0.0, 0.0], [5.0, 0.0, 0.0])
    assert none < 0.1 < shares[0]


@pytest.mark.parametrize("gains", [[0.8], [0.8, 0.0], [0.8, 0.0, 0.0]])
def test_of_any_number_of_candidates_one_who_gains_as_on_their_own_text_is_likely(gains: list[float]) -> None:
    leads = None if len(gains) == 1 else [0.005, -0.02, -0.02][: len(gains)]
    _, none = weigh(25_000, leads, gains, [4.0, 0.5, 0.5][: len(gains)])
    assert none < 0.2
    leads = None if len(gains) == 1 else [-0.019, -0.02, -0.02][: len(gains)]
    _, none = weigh(25_000, leads, [-0.8, 0.0, 0.0][: len(gains)], [0.5, 0.4, 0.4][: len(gains)])
    assert none > 0.8


def test_a_text_that_is_near_to_all_candidates_may_be_by_another_author_of_their_time() -> None:
    """The reference authors are of other times: of people who all write blogs today, everyone is nearer than those."""
    leads, gains = [-0.01, -0.02, -0.02], [0.4, 0.4, 0.4]
    _, near_to_all = weigh(25_000, leads, gains, [5.0, 4.8, 4.7])
    _, near_to_one = weigh(25_000, leads, gains, [5.0, 0.5, 0.4])
    assert near_to_one < 0.2 < 0.4 < near_to_all


def test_without_any_evidence_of_other_authors_nothing_is_said_of_them() -> None:
    shares, none = weigh(25_000, [0.02, -0.02], [np.nan, np.nan])
    assert none == 0.5
    assert shares[0] > shares[1]
    assert weigh(25_000, None, [np.nan])[1] == 0.5


# -- how models are compared


def test_no_word_counts_for_more_than_the_limit() -> None:
    """A name that one of the models knows is not the evidence of a whole page."""
    alike = np.full((3, 100), 5.0)
    name = alike.copy()
    name[0, 7] = 0.1
    ahead = compare_words(name)
    assert ahead[0] == pytest.approx(attribution.WORD_LIMIT / np.log(2))
    steady = alike.copy()
    steady[1] -= 0.1
    assert compare_words(steady)[1] > 5 * ahead[0]
    assert compare_words(alike) == pytest.approx(np.zeros(3))


def test_a_model_that_predicts_all_texts_badly_is_not_further_from_its_author() -> None:
    offsets, texts = np.array([0.02, 0.0, -0.05, 0.03]), np.array([0.1, -0.3, 0.0, 0.2])
    table = offsets + texts[:, None]
    table[np.diag_indices(4)] += 0.4  # what a model gains on its own author's text says nothing of the others'
    assert fit_offsets(table) == pytest.approx(offsets - offsets.mean(), abs=1e-3)
    table[1] = np.nan  # a candidate without held-out text
    assert fit_offsets(table) == pytest.approx(offsets - offsets.mean(), abs=1e-3)
    assert fit_offsets(np.full((3, 3), np.nan)).tolist() == [0, 0, 0]
    two = np.array([[0.3, -0.08], [-0.02, 0.3]])
    assert fit_offsets(two) == pytest.approx([0.03, -0.03], abs=1e-3)


@pytest.mark.parametrize("of_base", [0.0, -0.03])
def test_a_gain_counts_from_what_is_gained_on_others_text_to_that_on_ones_own(of_base: float) -> None:
    """Of a base that has read the text, every model gains less."""
    table = np.array([[0.08, -0.02, -0.02], [-0.02, 0.08, -0.02], [-0.02, -0.02, 0.08], [0.08, 0.03, -0.02]]) + of_base
    assert measure_gain_shares(table) == pytest.approx([1.0, 0.5, 0.0])
    assert np.isnan(measure_gain_shares(table * np.nan)).all()
    assert measure_gain_shares(np.array([[0.1], [0.05]])) == pytest.approx([0.5])  # alone: from 0


# -- evidence


def test_bits_are_those_of_score_in_one_context() -> None:
    folder, text = shared_run().path / "model", sonnets(60)
    model = attribution.LanguageModel(open_decoder(folder, "fp32", find_hardware("cpu")), load_tokenizer(folder))
    assert model.measure_bits(text) == pytest.approx(score(shared_run().path, text).bits_per_byte, rel=1e-4)


def test_every_token_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks are read at once."""
    folder, text = shared_run().path / "model", sonnets(3_000)
    model = attribution.LanguageModel(open_decoder(folder, "fp32", find_hardware("cpu")), load_tokenizer(folder))
    bits = model.measure_bits(text)
    monkeypatch.setattr(attribution, "ROWS", 3)
    assert model.measure_bits(text) == pytest.approx(bits, rel=1e-6)


def test_words_are_the_same_with_any_tokenizer() -> None:
    """So models of different bases can be compared by them; each byte belongs to one."""
    text = "One,  two\n\nthrée\t four-five… "
    numbers = number_words(text)
    pieces = [bytes(np.frombuffer(text.encode(), np.uint8)[numbers == number]) for number in range(numbers[-1] + 1)]
    assert b"".join(pieces) == text.encode()
    assert [piece.decode() for piece in pieces] == ["One,", "  two", "\n\nthrée", "\t four-five…", " "]
    folder, text = shared_run().path / "model", sonnets(1_000)
    ours = attribution.LanguageModel(open_decoder(folder, "fp32", find_hardware("cpu")), load_tokenizer(folder))
    base = BASES["small"].folder
    theirs = attribution.LanguageModel(open_decoder(base, "fp32", find_hardware("cpu")), load_tokenizer(base))
    mine, other = ours.measure_words(text), theirs.measure_words(text)
    assert len(mine) == len(other) == len(text.split())
    assert (mine > 0).all() and (other > 0).all()
    assert np.corrcoef(mine, other)[0, 1] > 0.5  # long and rare words are hard for both


def test_every_model_reads_every_candidates_held_out_text() -> None:
    folder, base = shared_run().path / "model", BASES["small"].folder
    tuned, root = (
        attribution.LanguageModel(open_decoder(one, "fp32", find_hardware("cpu")), load_tokenizer(one))
        for one in (folder, base)
    )
    with_base = Candidate(name="a", documents=[], held_out=sonnets(600), model=tuned, base=root)
    without = Candidate(name="b", documents=[], held_out="", model=root, base=None)
    readings = read_with_all(sonnets(2_000)[1_000:], [with_base, without])
    assert np.isfinite(readings.leads).tolist() == [[True, True], [False, False], [True, True]]
    assert np.isfinite(readings.gains).tolist() == [[True, False], [False, False], [True, False]]
    assert readings.gains[-1, 0] == pytest.approx(readings.bits[1] - readings.bits[0], abs=0.3)
    assert np.sign(readings.leads[-1, 0]) == np.sign(readings.bits[1] - readings.bits[0])


def test_wrapping_changes_white_space_only() -> None:
    text = "One paragraph " * 20 + "\n\n" + "and another-one " * 20
    assert wrap(text).split() == text.split()
    assert max(map(len, wrap(text).split("\n"))) <= attribution.WRAP


def test_a_text_in_a_language_of_no_reference_author_has_no_style() -> None:
    assert measure_styles("Вышел месяц из тумана, вынул ножик из кармана. " * 60, []) is None
    assert load_authors().shares_language(sonnets(3_000).casefold())


# -- in words


def found(*probabilities: float, style: float = 1.0) -> attribution.Attribution:
    """What is found of candidates with these probabilities."""
    candidates = tuple(
        attribution.CandidateEvidence(
            name=f"run{number}", probability=one, bits_per_byte=1.5, lead=0.01, gain=0.1, own_gain=0.1, style=style
        )
        for number, one in enumerate(probabilities)
    )
    return attribution.Attribution(candidates=candidates, none=1 - sum(probabilities), n_characters=5_000)


def test_only_what_is_likely_is_called_so() -> None:
    assert summarise_attribution(found(0.8, 0.1)).startswith("It is likely to be by the author of run0: 80")
    assert summarise_attribution(found(0.2, 0.1)).startswith("It is likely to be by none of these: 70")
    assert summarise_attribution(found(0.4, 0.3)).startswith("It cannot be told. First is the author of run0, with 40")


def test_nothing_is_called_certain_or_impossible() -> None:
    assert summarise_attribution(found(0.99999, 0)) == "It is likely to be by the author of run0: over 99.9 %."
    values = [row.value for row in describe_attribution(found(0.99999, 0))]
    assert values == ["over 99.9 %", "under 0.1 %", "under 0.1 %"]


def test_a_style_that_is_far_is_called_far() -> None:
    (row, _) = describe_attribution(found(0.1, style=-1.3))
    assert "1.3 standard deviations farther than other authors" in row.reason


# -- the command


def test_attribute_names_the_author_of_a_run_or_none(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(sonnets(6_000), "utf-8")
    done = command("attribute", text, shared_run().path)
    assert done.code == 0, done.err
    assert "none of these" in done.out
    answer = json.loads(command("attribute", text, shared_run().path, "--json").out)
    (one,) = answer["candidates"]
    assert one["name"] == shared_run().path.name
    assert one["gain"] is None  # it was trained from scratch
    assert one["probability"] + answer["none"] == pytest.approx(1)


def test_attribute_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.txt"
    text.write_text(sonnets(3_000), "utf-8")
    run = shared_run().path
    assert "text comes first" in command("attribute", run, run).err
    assert "not a run" in command("attribute", text, run / "model").err
    named = tmp_path / "runs" / "mine"
    named.parent.mkdir()
    named.symlink_to(run)
    monkeypatch.chdir(tmp_path)
    assert "epigone attribute text.txt mine" in command("attribute", "mine", "text.txt").err
    (tmp_path / "short.txt").write_text("Shall I compare thee to a summer's day?", "utf-8")
    assert "1,000 are needed" in command("attribute", tmp_path / "short.txt", run).err
    with pytest.raises(SettingsError, match="needs a run"):
        epigone.attribute("text")
    with pytest.raises(TextTooShort):
        epigone.attribute("text", run)
