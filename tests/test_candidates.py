"""Of several candidates the one is chosen that is nearest to the author in likelihood and style, and copies least."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import pytest

from epigone.errors import SettingsError
from epigone.evaluation.candidates import CandidateRanking, measure_author
from epigone.generation.records import GeneratedText
from helpers_front import command, shared_run, sonnets

LIKELIHOOD = -3.0


@cache
def ranking() -> CandidateRanking:
    text = sonnets(95_000)
    documents = [text[:76_000], text[77_000:]]
    return CandidateRanking(documents, LIKELIHOOD, measure_author(documents, [], 1_000))


def record(text: str, *, likelihood: float = LIKELIHOOD, seed: int = 0) -> GeneratedText:
    return GeneratedText(
        prompt="", text=text, seed=seed, n_tokens=10, log_probability=10 * likelihood, longest_shared=None
    )


OWN = sonnets(95_000)[76_000:77_000]
"""By the author, but not learned from."""


def test_both_too_likely_and_too_unlikely_counts_against_a_text() -> None:
    found = ranking().choose([record(OWN, likelihood=level, seed=-round(level)) for level in (-1.0, -3.0, -6.0)])
    assert [candidate.seed for candidate in found.candidates] == [3, 1, 6]
    assert (found.text, found.seed) == (OWN, 3)


def test_what_is_not_the_author_s_style_is_not_chosen() -> None:
    words = OWN.split()
    random.Random(0).shuffle(words)
    found = ranking().choose([record(" ".join(words)), record(OWN)])
    own, shuffled = found.candidates
    assert found.text == own.text == OWN
    assert own.style is not None and shuffled.style is not None and own.style > shuffled.style + 10


def test_a_copy_is_not_chosen_however_well_it_sounds() -> None:
    copy = sonnets(95_000)[10_000:11_000]
    found = ranking().choose([record(copy), record(OWN, likelihood=-3.5)])
    assert found.text == OWN
    assert [round(candidate.copied, 1) for candidate in found.candidates] == [0.0, 1.0]


def test_the_reason_is_one_line_with_the_figures() -> None:
    found = ranking().choose([record(OWN), record(OWN, likelihood=-4.0)])
    assert "\n" not in found.why
    assert found.why.startswith("Best of 2: a token's chance is 1 in 20 (in the author's text 1 in")
    assert "nothing copied" in found.why and "style" in found.why
    assert measure_author([OWN], [OWN], 1_000) is None
    assert "style" not in CandidateRanking([OWN], LIKELIHOOD, None).choose([record(OWN)]).why


def test_the_best_is_one_of_the_texts_that_the_seeds_give() -> None:
    how = {"length": 30, "temperature": 1.2, "seed": 5}
    alone = shared_run().write("The ", count=6, **how | {"seed": 15})
    first, second = shared_run().write("The ", count=2, best_of=3, **how)
    assert first in alone[:3] and second in alone[3:]
    assert shared_run().write("The ", best_of=3, **how | {"seed": 6}) == [second]  # the next seed, none of the same
    with pytest.raises(SettingsError, match="known at the end"):
        next(iter(shared_run().stream("The ", best_of=2)))


def test_json_has_all_scores_and_the_screen_the_reason(tmp_path: Path) -> None:
    asked = ("write", shared_run().path, "--best-of", "3", "--length", "20", "--seed", "5")
    shown = command(*asked, "--json")
    (text,) = json.loads(shown.out)["texts"]
    scores = [candidate["score"] for candidate in text["candidates"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert text["text"] == text["candidates"][0]["text"] and text["seed"] in (15, 16, 17)
    plain = command(*asked)
    assert plain.out == text["text"] + "\n" and "Best of 3: " in plain.err
    out = tmp_path / "a.jsonl"
    for count in (1, 2):
        assert command(*asked, "--count", str(count), "--out", out).code == 0
    first, second = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    assert {name: first[name] for name in text} == text and "settings" in first
    assert second["seed"] in (18, 19, 20) and len(second["candidates"]) == 3


def test_best_of_needs_a_run_and_whole_texts() -> None:
    model = command("write", shared_run().path / "model", "--best-of", "2")
    assert model.code == 2 and "--best-of" in model.err
    assert command("write", shared_run().path, "-i", "--best-of", "2").code == 2
