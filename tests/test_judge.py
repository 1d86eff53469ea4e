"""Judging a run, or any text against its author: in words, as JSON and on the run's page."""

from __future__ import annotations

import json
import os
import random
import shutil
from html import unescape
from pathlib import Path

import pytest
import torch

from epigone.errors import RunNotFound
from epigone.evaluation.baselines import LearningScore, judge_learning, measure_model
from epigone.evaluation.judge import Author, TextJudge, judge_model, judge_text
from epigone.model.decoder import ReferenceDecoder, make_decoder
from epigone.model.gpt2 import load_model
from epigone.report import curves
from epigone.report import publish as publishing
from epigone.report.pages import ReportData
from epigone.report.publish import publish
from epigone.report.views import view_verdicts
from epigone.run import Run, open_run
from epigone.runs.folder import RunFolder
from epigone.tokens.dataset import decode_documents, slice_part
from epigone.tokens.tokenizer import list_token_bytes, load_tokenizer
from epigone.training.distributed import make_accelerator
from epigone.training.evaluate import evaluate
from helpers_front import command, shared_run, sonnets

TOPICS = ("sounds_like", "makes_sense", "copies", "repeats", "learned")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(shared_run().path, path)
    run = open_run(path)
    run.judge(3_000, seed=1)
    return run


def test_a_run_is_judged_by_what_it_writes_and_the_judgement_is_kept(judged: Run) -> None:
    kept = judged.folder.read_judgement()
    assert kept and all(kept[topic]["sentence"] for topic in TOPICS)
    assert kept["n_characters"] >= 3_000
    assert kept["learned"]["held_out"] == judged.best.bits_per_byte if judged.best else False
    assert kept["sounds_like"]["grade"] == "unsure", "3,000 characters are too few"
    again = open_run(judged.path).judge(3_000, seed=1).as_json()
    assert json.loads(json.dumps(again)) == kept


def test_the_bands_depend_on_the_seed_and_on_nothing_else() -> None:
    text = sonnets(94_000)
    author = Author(name="Shakespeare", documents=[text[:62_000]], held_out=[text[62_000:]])
    writer, learning = shared_run().open_generator(), LearningScore(held_out=2.0, counts=2.5, packed=2.7)
    one, again, other = (
        judge_model([text[:27_000]], TextJudge(author, seed=seed), writer, learning, seed=seed).as_json()
        for seed in (1, 1, 2)
    )
    assert one == again
    bands = [[measure["low"] for measure in found["sounds_like"]["measures"]] for found in (one, other)]
    assert bands[0] and bands[0] != bands[1]


def test_a_judgement_counts_only_for_the_model_that_was_judged(judged: Run, tmp_path: Path) -> None:
    shutil.copytree(judged.path, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.judgement == judged.judgement and run.judgement is not None
    model = load_model(run.folder.model)
    with torch.no_grad():
        model.transformer.wpe.weight[0, 0] += 0.01
    run.folder.keep_best(model)  # as resume does when a better epoch comes
    assert run.judgement is None
    run.folder.report.unlink()
    publish(run.folder, at_once=True)
    page, card = run.folder.report.read_text("utf-8"), (run.folder.model / "README.md").read_text("utf-8")
    assert 'id="verdicts"' not in page and "Does it copy?" not in page and "Does it copy?" not in card
    run.judge(2_000)
    assert run.judgement is not None and "Does it copy?" in run.folder.report.read_text("utf-8")


def test_a_judgement_draws_the_page_once_and_no_curves(judged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[ReportData] = []
    render = publishing.render_report
    monkeypatch.setattr(publishing, "render_report", lambda data: pages.append(data) or render(data))
    monkeypatch.setattr(curves, "draw_curves", lambda *_, **__: pytest.fail("the curves are what they were"))
    os.utime(judged.folder.report, (0, 0))
    judged.judge(3_000, seed=1)
    assert len(pages) == 1 and pages[0].judgement is not None


def test_a_note_says_that_other_authors_were_not_measured(judged: Run) -> None:
    kept = judged.judgement
    assert kept and any("predicts other authors was not measured" in note for note in kept["notes"])
    assert "predicts other authors was not measured" in judged.folder.report.read_text("utf-8")
    learned = LearningScore(held_out=2.0, counts=2.5, packed=2.7, others={"the same of Bacon": 3.0})
    assert judge_learning(learned).facts["notes"] == []


def test_bits_per_byte_are_those_of_evaluation(judged: Run) -> None:
    folder = judged.folder
    plan, tokenizer, tokens = folder.read_manifest().plan, load_tokenizer(folder.model), folder.load_tokens()
    part = slice_part(tokens.train, 700, 900, tokenizer)
    accelerator = make_accelerator(plan.compute)
    theirs = evaluate(
        load_model(folder.model), part, block_size=plan.batch.block_size, batch_size=3, accelerator=accelerator
    )
    for decoder in (make_decoder(load_model(folder.model)), ReferenceDecoder(load_model(folder.model))):
        assert measure_model(decoder, part, plan.batch.block_size) == pytest.approx(theirs.bits_per_byte, rel=1e-5)
    whole = "".join(map(str, decode_documents(tokens.train, tokenizer)))
    decoded = b"".join(list_token_bytes(tokenizer)[token] for token in part.ids[1:].tolist()).decode()
    assert part.n_tokens == 900 and part.n_bytes == len(decoded.encode()) and decoded in whole


def test_the_page_and_the_card_show_the_judgement(judged: Run) -> None:
    kept = judged.folder.read_judgement()
    assert kept is not None
    page, card = judged.folder.report.read_text("utf-8"), (judged.folder.model / "README.md").read_text("utf-8")
    for words in (
        "Does it copy?",
        "Does it make sense?",
        "a letter n-gram model",
        "training text continued word for word",
    ):
        assert words in page and words in card
    assert "In short: " in card
    passage = " ".join(kept["copies"]["passage"].split())
    assert passage in unescape(page) and "in the author" in page


def test_a_passage_is_found_by_its_line_and_of_several_texts_by_its_text_too() -> None:
    text = sonnets(12_000)
    for documents, where in (([text], "(line 1)"), ([sonnets(30_000)[14_000:], text], "(line 1 of text 2)")):
        judgement = judge_text(text[:600], "known", Author(name="Shakespeare", documents=documents))
        rows = next(view.passages for view in view_verdicts(judgement) if view.question == "Does it copy?")
        assert rows[1].name.endswith(where), rows


def test_training_text_is_a_copy_and_unseen_text_is_not() -> None:
    text = sonnets(90_000)
    author = Author(name="Shakespeare", documents=[text[:60_000]], held_out=[text[60_000:70_000]])
    training = judge_text(text[20_000:32_000], "training", author).as_json()
    unseen = judge_text(text[70_000:82_000], "unseen", author).as_json()
    assert training["copies"]["grade"] == "bad" and training["copies"]["share"] == pytest.approx(1.0)
    assert unseen["copies"]["grade"] == "good" and unseen["copies"]["share"] < 0.01


def test_a_loop_repeats_itself_and_the_author_does_not() -> None:
    text = sonnets(60_000)
    author = Author(name="Shakespeare", documents=[text[:30_000]], held_out=[text[30_000:]])
    looped = judge_text("and all in war with Time for love of you\n" * 200, "a loop", author).as_json()
    assert looped["repeats"]["grade"] == "bad"
    assert judge_text(text[:9_000], "the author's own", author).as_json()["repeats"]["grade"] == "good"


def test_all_of_the_author_s_text_is_searched_for_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = sonnets(60_000)
    for number in range(6):
        place = number * 10_000 + 500
        text = tmp_path / f"text{number}.txt"
        text.write_text("x" * 300 + "\n" + whole[place : place + 200] + "\n" + "y" * 2_000, "utf-8")
        author = tmp_path / "author.txt"
        author.write_text(whole, "utf-8")
        found = json.loads(command("judge", text, "--author", author, "--json").out)["copies"]
        assert found["longest_characters"] == pytest.approx(200, abs=8)
        assert 0 < found["share"] < 0.2


def test_of_a_very_long_training_text_a_part_is_searched_and_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    run = shared_run()
    whole, train = run.folder.read_documents(), run.folder.load_tokens().train
    assert run.folder.read_searched() == (whole, 1.0)
    monkeypatch.setattr("epigone.runs.folder.MOST_SEARCHED", 400)
    monkeypatch.setattr("epigone.tokens.dataset.STRETCH_TOKENS", 100)
    author = run._read_author()
    places = [whole[0][:].find(str(text)) for text in author.documents]
    assert len(places) == 4 and places == sorted(places) and places[0] == 0, "stretches of it, from its beginning on"
    assert whole[0][:].endswith(str(author.documents[-1]))
    assert author.share == pytest.approx(400 / len(train.ids), rel=0.02)
    notes = judge_text(sonnets(3_000), "a text", author).notes
    assert notes[0].startswith(f"The training text is very long: {author.share:.1%} of it was searched")


def test_other_authors_may_be_given(tmp_path: Path) -> None:
    words, source = sonnets(90_000).split(), random.Random(0)
    for name in ("one", "two"):
        (tmp_path / "others" / name).mkdir(parents=True)
        source.shuffle(words)
        (tmp_path / "others" / name / "text.txt").write_text(" ".join(words), "utf-8")
    author, text = tmp_path / "author.txt", tmp_path / "text.txt"
    author.write_text(sonnets(90_000), "utf-8")
    text.write_text(sonnets(30_000), "utf-8")
    done = command("judge", text, "--author", author, "--reference-authors", tmp_path / "others", "--json")
    found = json.loads(done.out)
    assert set(found) >= {"sounds_like", "copies", "repeats"} and "learned" not in found


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("text.txt",), "not a run"),
        (("text.txt", "--author", "nothing.txt"), "nothing.txt"),
        (("text.txt", "--author", "text.txt", "--reference-authors", "nothing"), "nothing is not a folder"),
        (("text.txt", "--characters", "0"), "--sample-characters"),
        (("text.txt", "--auhtor", "text.txt"), "--author"),
        (("nothing",), "nothing"),
    ],
)
def test_one_error_says_what_cannot_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(sonnets(6_000), "utf-8")
    done = command("judge", *arguments)
    assert done.code == 2 and says in done.err and "Traceback" not in done.err


def test_a_run_without_a_model_cannot_be_judged(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    shutil.copy(shared_run().folder.manifest, folder.manifest)
    with pytest.raises(RunNotFound, match="holds no model yet"):
        Run(folder).judge(1_000)
