"""Who wrote a text: one of several candidates, by their models and their style, or none of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import epigone
from epigone.errors import SettingsError, TextTooShort
from epigone.evaluation import attribution
from epigone.evaluation.attribution import find_probabilities, measure_styles, wrap
from epigone.evaluation.stylometry import load_authors
from epigone.hardware import find_hardware
from epigone.model.decoder import open_decoder
from epigone.report.views import describe_attribution, summarise_attribution
from epigone.run import score
from epigone.tokens.tokenizer import load_tokenizer
from helpers_front import command, shared_run, sonnets

NONE = np.array([np.nan, np.nan])


# -- from evidence to probabilities


def test_the_probabilities_of_all_candidates_and_of_none_add_up_to_1() -> None:
    shares, none = find_probabilities(
        5_000, np.array([1.9, 2.0]), np.array([0.2, 0.1]), np.array([0.2, 0.2]), np.array([3.0, 1.0])
    )
    assert shares.sum() + none == pytest.approx(1)
    assert shares[0] > shares[1]


@pytest.mark.parametrize("kind", ["model", "style", "both"])
def test_more_text_makes_it_more_certain(kind: str) -> None:
    gains = NONE if kind == "style" else np.array([0.2, 0.17])
    own = NONE if kind == "style" else np.array([0.2, 0.2])
    styles = None if kind == "model" else np.array([3.0, 2.7])
    ratios = []
    for length in (2_000, 5_000, 25_000, 50_000):
        shares, _ = find_probabilities(length, np.array([1.9, 1.9]), gains, own, styles)
        ratios.append(shares[0] / shares[1])
    assert ratios == sorted(ratios)
    assert ratios[2] == ratios[3]  # lengths for which the weights were not fitted are not more certain


def test_a_text_far_from_all_models_and_styles_is_by_none() -> None:
    alike = {"bits": np.array([1.9, 1.9]), "own": np.array([0.2, 0.2])}
    shares, none = find_probabilities(25_000, gains=np.array([-0.05, -0.1]), styles=np.array([-1.0, -1.0]), **alike)
    assert none > 0.9 > shares.sum()
    shares, none = find_probabilities(25_000, gains=np.array([0.2, 0.0]), styles=np.array([5.0, 0.0]), **alike)
    assert none < 0.1 < shares[0]


def test_a_text_that_is_near_to_all_candidates_may_be_by_another_author_of_their_time() -> None:
    """The reference authors are of other times: of people who all write blogs today, everyone is nearer than those."""
    alike = {"bits": np.array([1.9, 1.9, 1.9]), "gains": np.zeros(3), "own": np.full(3, 0.1)}
    _, near_to_all = find_probabilities(25_000, styles=np.array([5.0, 4.8, 4.7]), **alike)
    _, near_to_one = find_probabilities(25_000, styles=np.array([5.0, 0.5, 0.4]), **alike)
    assert near_to_one < 0.2 < 0.6 < near_to_all


def test_without_any_evidence_of_other_authors_nothing_is_said_of_them() -> None:
    shares, none = find_probabilities(25_000, np.array([1.9, 2.5]), NONE, NONE, None)
    assert none == 0.5
    assert shares[0] > shares[1]


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
            name=f"run{number}", probability=one, bits_per_byte=1.5, gain=0.1, own_gain=0.1, style=style
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
