"""During training samples are checked for copying, repetition and, if there is time, style."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from transformers import GPT2LMHeadModel

import epigone
from epigone.cli.terminal import PlainScreen
from epigone.evaluation.sample_checks import TOKENS_BETWEEN, SampleChecker, SampleWriter
from epigone.generation.generator import WriteDefaults
from epigone.generation.known_words import LETTERS, gather_words
from epigone.model.gpt2 import load_model
from epigone.pipeline import make_sample_checker
from epigone.runs.records import append_event, read_events
from epigone.settings import TrainSettings
from epigone.tokens.dataset import DecodedPieces, TokenDataset, decode_documents
from epigone.tokens.tokenizer import load_tokenizer
from epigone.training.events import Event, Finished, Sample, Sampled, SampleStats
from helpers_front import Path, command, shared_run, sonnets


def read_tokens() -> TokenDataset:
    return shared_run().folder.load_tokens()


class FixedSamples(SampleWriter):
    """Gives the samples it was given."""

    def __init__(self, *texts: str) -> None:
        super().__init__(load_tokenizer(shared_run().folder.model), TrainSettings(), WriteDefaults())
        self.texts = texts

    def __call__(self, model: GPT2LMHeadModel) -> tuple[Sample, ...]:
        return tuple(Sample(prompt="", text=text, seed=number) for number, text in enumerate(self.texts))


def check(*texts: str) -> SampleStats:
    samples, found = SampleChecker(FixedSamples(*texts), read_tokens())(None)  # type: ignore[arg-type]
    assert len(samples) == len(texts) and found is not None
    return found


def test_samples_from_the_training_text_are_copied_and_others_are_not() -> None:
    learned = decode_documents(read_tokens().train, load_tokenizer(shared_run().folder.model))[0]
    copied = check(learned[500:900], learned[2000:2400])
    assert copied.copied > 0.99 and copied.longest_copied >= 395 and copied.copying == "bad"
    other = check("Nothing of this was ever written by anyone, here or elsewhere, I should think. " * 3)
    assert other.copied == 0.0 and other.longest_copied < 30 and other.copying == "unsure"


def test_samples_from_what_the_model_has_read_before_are_copied() -> None:
    before = "So many years ago the lamp upon the landing was lit for her alone, and nobody ever asked her why. " * 3

    _, found = SampleChecker(FixedSamples(before), read_tokens(), read_before=lambda own: [before])(None)  # type: ignore[arg-type]
    assert found is not None and found.copied > 0.99 and found.longest_copied > 250
    assert check(before).copied == 0.0


def test_a_run_that_is_tuned_from_a_run_knows_what_that_one_has_read(tmp_path: Path) -> None:
    first, text = shared_run(), tmp_path / "text.txt"
    text.write_text(sonnets(40_000)[25_000:], "utf-8")
    done = command("train", text, "--base", first.path, "--epochs", "0.1", "--out", tmp_path / "run", "--quiet")
    assert done.code == 0, done.err
    run, settings = epigone.open_run(tmp_path / "run").folder, TrainSettings()
    tokens, tokenizer, plan = run.load_tokens(), load_tokenizer(run.model), run.read_manifest().plan
    checker = make_sample_checker(run, tokenizer, settings, tokens, plan)
    checker.sampler = FixedSamples(str(first.folder.read_documents()[0])[500:900])
    _, found = checker(load_model(run.model))
    assert found is not None and found.copied > 0.99


def test_samples_are_what_write_would_write_with_the_model_of_the_run() -> None:
    """The tiny model spells as it likes, begins lines with numbers, and would end anywhere."""
    run, settings = shared_run(), TrainSettings(samples=3, sample_length=60, sample_prompt=("From", ""), seed=4)
    plan, tokenizer = run.folder.read_manifest().plan, load_tokenizer(run.folder.model)
    checker = make_sample_checker(run.folder, tokenizer, settings, read_tokens(), plan)
    samples, _ = checker(load_model(run.folder.model))
    how = {"length": 60, "count": 3, "seed": 4, "temperature": 0.8, "precision": "fp32"}
    assert [sample.text for sample in samples] == [text for prompt in ("From", "") for text in run.write(prompt, **how)]
    known = gather_words(map(str, run.folder.read_documents()), "none")
    words = [word.casefold() for sample in samples for word in LETTERS.findall(f"{sample.prompt}{sample.text}")[:-1]]
    assert len(words) > 100 and all(map(known.has, words))
    assert plan.stop_at == "line" and checker(load_model(run.folder.model))[0] == samples


def test_samples_in_a_loop_are_repetitive() -> None:
    assert check("to be or not to be " * 60).repeated > 0.9
    assert check(sonnets(3_000)[1_000:]).repeated < 0.05


def test_without_samples_there_are_no_statistics() -> None:
    assert SampleChecker(FixedSamples(), read_tokens())(None) == ((), None)  # type: ignore[arg-type]


def test_style_is_measured_if_it_costs_little() -> None:
    tokens = read_tokens()
    n_written = 26_000 * tokens.train.n_tokens / tokens.train.n_characters
    assert SampleChecker(FixedSamples("a"), tokens, TOKENS_BETWEEN * n_written * 1.1).measures_style
    assert not SampleChecker(FixedSamples("a"), tokens, TOKENS_BETWEEN * n_written * 0.9).measures_style


def test_the_text_is_decoded_in_pieces_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    part, tokenizer = read_tokens().train, load_tokenizer(shared_run().folder.model)
    whole = decode_documents(part, tokenizer)
    assert [piece for piece in DecodedPieces(part, tokenizer) if piece] == whole
    monkeypatch.setattr("epigone.tokens.dataset.PIECE_TOKENS", 50)
    monkeypatch.setattr("epigone.tokens.dataset.OVERLAP_TOKENS", 10)
    pieces = [piece for piece in DecodedPieces(part, tokenizer) if piece]
    assert len(pieces) > 20 and all(piece in whole[0] for piece in pieces if "\ufffd" not in piece)


FOUND = SampleStats(
    n_characters=900, copied=0.25, longest_copied=180, copying="bad", repeated=0.02, repeating="good", sounds_like=None
)
EVENT = Sampled(step=3, epoch=1.0, samples=(Sample(prompt="", text="a", seed=0),), found=FOUND)


def test_sample_statistics_are_kept_with_the_metrics(tmp_path: Path) -> None:
    append_event(tmp_path / "metrics.jsonl", EVENT)
    assert list(read_events(tmp_path / "metrics.jsonl")) == [EVENT]
    line = json.loads((tmp_path / "metrics.jsonl").read_text("utf-8"))
    del line["found"]  # as in runs before samples were checked
    (tmp_path / "old.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    assert list(read_events(tmp_path / "old.jsonl")) == [replace(EVENT, found=None)]


def test_the_warning_comes_when_copying_begins_and_not_at_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    screen = PlainScreen(sys.stdout)
    good = replace(EVENT, found=replace(FOUND, copied=0.0, copying="good"))
    for event in (good, EVENT, EVENT, good, EVENT):
        screen.show(event)
    shown = capsys.readouterr().out
    assert shown.count("warning: The model is beginning to copy") == 2
    assert "copied 25.0 %, longest passage 180 characters; repeated 2.0 %" in shown


@pytest.mark.slow
def test_an_overfitted_model_copies_and_its_best_epoch_does_not(tmp_path: Path) -> None:
    """One run, checked at the epoch that was kept and at the last one."""
    text = tmp_path / "text.txt"
    text.write_text(sonnets(24_000), "utf-8")
    seen: list[Event] = []
    how = {"base": "none", "size": "2x192", "vocab_size": 512, "dropout": 0.0, "epochs": 120.0, "patience": "none"}
    how |= {"samples": 3, "sample_length": 400, "seed": 1}
    epigone.train(text, out=tmp_path / "run", on_event=seen.append, **how)
    found = {event.step: event.found for event in seen if isinstance(event, Sampled) and event.found}
    (finished,) = (event for event in seen if isinstance(event, Finished))
    best, last = found[finished.best_step], found[max(found)]
    assert best.copying != "bad" and best.copied < 0.01
    assert last.copying == "bad" and last.copied > 0.5
    judged = epigone.open_run(tmp_path / "run").judge(8_000).as_json()
    assert judged["copies"]["grade"] == "good"
