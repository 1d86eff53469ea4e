"""Every training run ends with a quick judgement and with the best of what the model wrote, which the run keeps."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from epigone.evaluation.candidates import CandidateRanking
from epigone.evaluation.showcase import choose_questions, make_showcase
from epigone.evaluation.verdict import Judgement
from epigone.generation.records import GeneratedText
from epigone.model.gpt2 import load_model
from epigone.report.publish import read_judgement
from epigone.report.views import describe_quick_judgement
from epigone.run import QUICK_CHARACTERS, QUICK_TEXTS, open_run
from epigone.runs.folder import RunFolder
from helpers_front import TINY, command, shared_run, sonnets, train_once, write_sonnets
from helpers_page import make_showcase as make_record

TEXT = sonnets(40_000)
LONE = "Whose speechless song being many, seeming one.\n\n9\n\nIs it for fear to wet a widow's eye? "


def record(text: str, seed: int, likelihood: float = -3.0) -> GeneratedText:
    return GeneratedText(
        prompt="", text=text, seed=seed, n_tokens=10, log_probability=10 * likelihood, longest_shared=None
    )


def test_a_run_ends_with_a_quick_judgement_and_says_what_it_found() -> None:
    run, outcome = train_once()
    judgement = read_judgement(run.folder)
    assert judgement is not None and judgement.quick
    assert QUICK_TEXTS * QUICK_CHARACTERS <= judgement.n_characters < 1.6 * QUICK_TEXTS * QUICK_CHARACTERS
    assert [verdict.topic for verdict in judgement.verdicts] == ["sounds like", "makes sense", "copies", "repeats"]
    found, more = describe_quick_judgement(judgement, run.path)
    assert found.startswith("Judged quickly, by 1") and f"judge {run.path}" in more
    said = " ".join(outcome.out.split())
    assert " ".join(found.split()) in said and "To judge it thoroughly: epigone judge" in said


def test_what_is_shown_is_the_best_of_what_was_written() -> None:
    showcase = shared_run().folder.read_showcase()
    assert showcase is not None and showcase.n_candidates == QUICK_TEXTS
    assert len(showcase.text) >= QUICK_CHARACTERS and f"Best of {QUICK_TEXTS}" in showcase.why
    _, outcome = train_once()
    shown = outcome.out.partition("From the best of 10 texts that it wrote without a prompt:")[2]
    assert shown.split()[:6] == showcase.text.split()[:6]
    page = shared_run().folder.report.read_text("utf-8")
    assert "The best of 10 texts" in page and page.index('class="hero"') < page.index('id="training"')


def test_a_copy_is_not_shown_though_it_is_as_likely() -> None:
    ranking = CandidateRanking([TEXT[:30_000]], -3.0, None)
    records = [record(TEXT[1_000:2_000], 1), record("Roses are red and violets are blue, as all men knew. " * 10, 2)]
    shown = make_showcase(records, ranking, [TEXT[30_000:]], "hash")
    assert shown.seed == 2 and "nothing copied" in shown.why


def test_three_passages_are_by_both_and_none_is_from_the_text_that_is_shown() -> None:
    documents, held_out = [TEXT[:30_000]], [TEXT[30_000:]]
    rest = "So it was said and so it will be done by us. " * 40
    written = [f"{name} and I are friends. {rest}" for name in ("Ann", "Ben")]
    for seed in range(20):
        questions = choose_questions(written, documents, held_out, random.Random(seed))
        assert len(questions) == 3 and {one.genuine for one in questions} == {True, False}
        assert all((one.text[:40] in held_out[0]) == one.genuine for one in questions)


def test_numbers_of_poems_do_not_tell_who_wrote_a_passage() -> None:
    held_out = [TEXT[30_000:] + LONE * 40]
    questions = [choose_questions([TEXT[:3_000]] * 2, [TEXT[:9_000]], held_out, random.Random(n)) for n in range(9)]
    assert all(questions)
    assert not any(line.strip().isdigit() for several in questions for one in several for line in one.text.splitlines())


def test_without_enough_held_out_text_there_is_no_quiz() -> None:
    assert choose_questions(["One. Two. " * 50] * 2, ["Three."], ["Four."], random.Random(0)) == ()


def test_a_showcase_counts_only_for_the_model_that_wrote_it(tmp_path: Path) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert folder.read_showcase() is not None
    model = load_model(folder.model)
    with torch.no_grad():
        model.transformer.wpe.weight[0, 0] += 0.01
    folder.keep_best(model)
    assert folder.read_showcase() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"format": 99}'])
def test_a_showcase_that_cannot_be_read_counts_as_none(tmp_path: Path, content: str) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.showcase.write_text(content, "utf-8")
    assert folder.read_showcase() is None
    folder.write_showcase(make_record("Text.").model_copy(update={"format": 99, "model_sha256": folder.hash_model()}))
    assert folder.read_showcase() is None
    assert command("report", folder.path).code == 0


def test_a_thorough_judgement_stays_when_a_quick_one_comes(tmp_path: Path) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    run = open_run(tmp_path / "run")
    plain = json.loads(run.folder.judgement.read_text("utf-8"))
    run.folder.write_judgement({**plain, "quick": False, "text": "much"}, run.folder.hash_model())
    found = run.judge_quickly()
    assert found is not None and (found.quick, found.text) == (False, "much")
    assert read_judgement(run.folder) == found


def test_a_large_model_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    run = open_run(tmp_path / "run")
    monkeypatch.setattr("epigone.run.MOST_PARAMETERS", 1_000)
    assert run.judge_quickly() is None


def test_a_judgement_of_an_earlier_version_is_not_a_quick_one() -> None:
    plain = json.loads(shared_run().folder.judgement.read_text("utf-8"))
    plain.pop("quick"), plain.pop("model_sha256")
    assert Judgement.from_json(plain).quick is False


def test_json_of_training_has_the_judgement(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path)
    outcome = command("train", text, *TINY, "--json", "--out", tmp_path / "run")
    assert outcome.code == 0 and json.loads(outcome.out)["judgement"] is None, "no run of the tests is judged"
