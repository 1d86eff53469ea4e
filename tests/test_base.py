"""The small base that comes with the package: stock, small, ready to write, and strange to what we measure on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

import epigone
from epigone.corpus import large_text
from epigone.evaluation.copying import build_books_filter, judge_copying, open_books_filter, search_training_books
from epigone.evaluation.verdict import UNTOUCHED
from epigone.model.base_profile import BASES, PROFILE, BaseProfile, automatic_bases, read_profile
from epigone.model.hub import GENERATION, WEIGHTS, find_base
from epigone.run import Run, judging_write_settings, open_run, read_base_samples, save_base_samples
from helpers_front import SONNETS, Outcome, command, early_sonnets, sonnets, workshop
from helpers_plan import find_value
from helpers_tokens import DATA, needs_data
from standin import make_standin

LIBRARY = Path(os.environ.get("EPIGONE_LIBRARY", DATA / "library"))
needs_library = pytest.mark.skipif(not LIBRARY.is_dir(), reason="no unpacked library at EPIGONE_LIBRARY")
PACKAGE = Path(__file__).parents[1] / "src" / "epigone"
SENTENCE = "The old man looked out of the window and said that"
POEM = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n床前明月光，疑是地上霜。举头望明月，低头思故乡。\n"


def test_it_is_found_by_its_name_and_by_no_request() -> None:
    base = find_base("small", download=False)
    assert (base.name, base.source) == ("small", "package")
    assert 4_000_000 < sum(n for n in count_parameters(base.folder).values()) < 8_000_000


def count_parameters(folder: Path) -> dict[str, int]:
    with safe_open(folder / "model.safetensors", "pt") as found:
        tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118  # it is not a dict
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    return {name: tensor.numel() for name, tensor in tensors.items()}


def test_transformers_loads_it_and_finds_english_likely() -> None:
    folder = find_base("small").folder
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "GPT2LMHeadModel" and 256 <= model.config.n_positions <= 512
    losses = []
    for text in (SENTENCE, " ".join(reversed(SENTENCE.split()))):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            losses.append(float(model(ids, labels=ids).loss))
    assert losses[0] < losses[1] - 0.5


def test_what_it_writes_untouched_lies_beside_it() -> None:
    folder, asked = find_base("small").folder, judging_write_settings(25_000)
    for start in ("", "\n"):
        kept = read_base_samples(folder, start, asked)
        assert kept is not None, "the base is another one since: python tools/bundle.py"
        assert len(set(kept)) == asked.count and sum(map(len, kept)) >= 25_000
    assert read_base_samples(folder, "", asked.model_copy(update={"seed": 1})) is None
    assert read_base_samples(folder, "", asked.model_copy(update={"count": 14})) is None
    assert read_base_samples(folder, "Once", asked) is None


def test_texts_of_other_weights_are_not_taken_for_its_own(tmp_path: Path) -> None:
    asked = judging_write_settings(3_000)
    for name in (WEIGHTS, "tokenizer.json", GENERATION):
        (tmp_path / name).write_bytes(name.encode())
    assert read_base_samples(tmp_path, "", asked) is None
    save_base_samples(tmp_path, asked, {"": ["one", "two"]})
    assert read_base_samples(tmp_path, "", asked) == ["one", "two"]
    (tmp_path / GENERATION).write_bytes(b"warmer")
    assert read_base_samples(tmp_path, "", asked) is None


def test_it_writes_before_any_training() -> None:
    done = command("write", "--base", "small", "--prompt", SENTENCE, "--length", "20", "--temperature", "0")
    assert done.code == 0 and done.out.startswith(SENTENCE) and len(done.out) > len(SENTENCE) + 20


@pytest.mark.parametrize("words", [[], ["runs/a", "--base", "small"]])
def test_write_needs_a_run_or_a_base_and_not_both(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the project's own folder has runs after `make demo`
    done = command("write", *words)
    assert done.code == 2 and "error:" in done.err


@pytest.mark.slow
@pytest.mark.trial
def test_a_text_that_it_learns_slowly_goes_to_a_fresh_model_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(POEM * 200, "utf-8")
    plan = json.loads(command("plan", path, "--json").out)["plan"]
    assert plan["model"]["base"] == "none" and "trial" in plan["reasons"]["base"]


def test_short_texts_that_lie_on_the_disk_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_text, "HELD_CHARACTERS", 100)
    for number in range(5):
        text = sonnets(12_000)[number * 2_000 :][:1_500]
        (tmp_path / f"{number}.txt").write_text(text, "utf-8")
    plan = json.loads(command("plan", tmp_path, "--json").out)["plan"]
    assert plan["model"]["base"] == "small"


@cache
def tuned_run() -> tuple[Run, Outcome]:
    """Half a pass over 12 KB of the sonnets. Shared: none may change it but by judging it."""
    folder = workshop() / "tuned"
    folder.mkdir()
    done = command("train", early_sonnets(), "--out", folder / "run", "--epochs", "0.5", "--samples", "0")
    return open_run(folder / "run"), done


def test_a_short_english_text_starts_from_it_and_the_untouched_base_is_epoch_0() -> None:
    run, done = tuned_run()
    base = run.folder.read_manifest().plan.model.base
    assert done.code == 0 and base in BASES and base in done.out
    assert run.evaluations[0].epoch == 0
    assert run.best is not None and run.best.loss <= run.evaluations[0].loss


def test_the_untouched_base_is_judged_beside_the_tuned_model() -> None:
    run, _ = tuned_run()
    judgement = run.judge(4_000)
    told = [verdict for verdict in judgement.verdicts if verdict.topic in ("copies", "repeats")]
    assert len(told) == 2  # it is too short to say whether it sounds like the author or makes sense
    for verdict in told:
        beside = [measure.base for measure in verdict.measures]
        assert any(mark is not None and mark.name == UNTOUCHED for mark in beside), verdict.topic
    learned = judgement.as_json()["learned"]
    assert learned["base"] == pytest.approx(run.evaluations[0].bits_per_byte)
    assert run.report().read_text("utf-8").count(UNTOUCHED) >= 3


def test_its_style_can_be_exaggerated_against_it() -> None:
    run, _ = tuned_run()
    usual, strong = (run.write("Shall I", length=20, guidance=strength) for strength in (1.0, 4.0))
    assert usual != strong


# -- what it has read, and what it has not


def test_it_has_not_read_the_sample_texts() -> None:
    assert open_books_filter().measure_share(SONNETS.read_text("utf-8"))[0] < 0.01


@needs_data
@pytest.mark.parametrize("name", ["tinyshakespeare.txt", *(path.name for path in sorted(DATA.glob("unseen/*.txt")))])
def test_it_has_not_read_the_texts_that_are_measured_on(name: str) -> None:
    path = next(DATA.rglob(name))
    share, n_looked_at = open_books_filter().measure_share(path.read_text("utf-8"))
    assert n_looked_at > 1_000 and share < 0.005


@needs_data
def test_a_book_that_it_has_read_is_known() -> None:
    huckleberry = (DATA / "gutenberg" / "twain-76.txt").read_text("utf-8")
    assert open_books_filter().measure_share(huckleberry)[0] > 0.3


@needs_library
def test_what_is_kept_of_the_library_is_what_stands_in_it() -> None:
    book = next(iter(sorted(LIBRARY.glob("dickens/*.txt")))).read_text("utf-8", errors="replace")
    assert open_books_filter().measure_share(book)[0] > 0.95


# -- the filter


def test_the_share_of_a_copied_text_is_measured_as_it_is() -> None:
    """Half of a text copied, half of it in no book: the estimate is within chance of a half."""
    book = SONNETS.read_text("utf-8")
    library = build_books_filter([book[: len(book) // 2]])
    share, n_looked_at = library.measure_share(book)
    assert n_looked_at > 1_000 and abs(share - 0.5) < 0.05
    assert (
        library.measure_share(book[len(book) // 2 :])[0]
        < 0.01
        < 0.99
        < library.measure_share(book[: len(book) // 3])[0]
    )


def test_case_and_white_space_hide_nothing() -> None:
    book = SONNETS.read_text("utf-8")
    library = build_books_filter([book])
    assert library.measure_share(book.upper().replace("\n", "\n\n  "))[0] > 0.99


def test_a_text_copied_from_other_books_is_graded_bad() -> None:
    book, own = (
        SONNETS.read_text("utf-8"),
        "Nobody ever wrote a word of all that stands in here, and nobody reads it. " * 200,
    )
    library = build_books_filter([book])
    assert search_training_books(book[:30_000], own, library).grade == "bad"
    assert search_training_books(own, own, library).grade == "good"
    assert (
        search_training_books(book[:30_000], book[40_000:70_000], library).grade == "good"
    )  # the author's own books are among them
    assert search_training_books(book[:1_000], own, library).share is None


def test_the_verdict_on_copying_tells_of_other_books() -> None:
    verdict = judge_copying(SONNETS.read_text("utf-8")[:30_000], ["Another text."], [])
    assert verdict.facts["library_share"] < 0.01
    assert any("bundled bases" in measure.name for measure in verdict.measures)


# -- bases are data


@pytest.fixture
def second_base(tmp_path: Path) -> Iterator[BaseProfile]:
    """Another bundled base, made of files alone: a stand-in with a profile that differs from small's."""
    folder = make_standin(tmp_path / "tiny", text=sonnets(20_000), n_positions=64)
    profile = (BASES["small"].folder / PROFILE).read_text("utf-8")
    changed = profile.replace("momentum = 0.95", "momentum = 0.9").replace("least = 3\n", "least = 2\n")
    changed = changed.replace("at = 3\n", "at = 2\n").replace('patience = "none"', "patience = 4")
    (folder / PROFILE).write_text(changed, "utf-8")
    with mock.patch.dict(BASES, {"tiny": read_profile(folder)}):
        yield BASES["tiny"]


def test_a_second_base_is_added_by_a_folder_with_a_profile(second_base: BaseProfile, tmp_path: Path) -> None:
    found = find_base("tiny", download=False)
    assert (found.source, found.folder) == ("package", second_base.folder)
    plan = epigone.plan(early_sonnets(), base="tiny", samples=0).plan
    small = epigone.plan(early_sonnets(), base="small", samples=0, block_size=64).plan
    named = ("optimizer", "momentum", "epochs", "patience")
    assert [find_value(plan, name) for name in named] == ["muon", 0.9, 3.0, 4]
    assert [find_value(small, name) for name in named[1:]] == [0.95, 5.0, None]
    done = command("train", early_sonnets(), "--out", tmp_path / "run", "--base", "tiny", "--epochs", "0.2")
    assert done.code == 0 and open_run(tmp_path / "run").folder.read_manifest().plan.model.base == "tiny"


def test_the_plan_tries_the_bases_whose_profiles_allow_it_the_largest_first(second_base: BaseProfile) -> None:
    assert [base.name for base in automatic_bases()] == ["modern", "small", "tiny"]
    with mock.patch.dict(BASES, {"small": BASES["small"].model_copy(update={"automatic": False})}):
        assert [base.name for base in automatic_bases()] == ["modern", "tiny"]


def test_a_profile_with_an_unknown_name_is_refused(second_base: BaseProfile) -> None:
    path = second_base.folder / PROFILE
    path.write_text(path.read_text("utf-8").replace("momentum", "momemtum"), "utf-8")
    with pytest.raises(ValueError, match="momemtum"):
        read_profile(second_base.folder)


@pytest.mark.parametrize(
    ("n_bytes", "rate", "epochs", "tokens"),
    [
        (1_000, 1.2e-3, 8.0, 512),
        (10_000, 9.724e-4, 5.0, 512),
        (50_000, 6e-4, 3.0, 512),
        (1_000_000, 6e-4, 3.0, 2048),
    ],
)
def test_the_profile_of_small_has_the_numbers_that_were_measured(
    n_bytes: int, rate: float, epochs: float, tokens: int
) -> None:
    profile = BASES["small"]
    assert profile.learning_rate(n_bytes) == pytest.approx(rate, rel=1e-3)
    assert round(profile.epochs(n_bytes)) == epochs and profile.choose_tokens_per_step(n_bytes) == tokens
    assert profile.n_positions == 256
