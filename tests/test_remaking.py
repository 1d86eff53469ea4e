"""Tokens whose files are damaged are made again from the text, bit for bit; if that is gone or changed, it says so."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from conftest import Reliability
from epigone.corpus import download
from epigone.errors import RunDamaged
from epigone.pipeline import locate_texts
from epigone.resumption import open_tokens
from epigone.run import open_run
from epigone.runs.folder import RunFolder
from epigone.runs.records import TextLocations
from epigone.settings import TrainSettings
from epigone.tokens.tokenizer import load_tokenizer
from helpers_faults import HOW, copy, find_differences, go_on, plain_pictures, prepared, uninterrupted
from helpers_front import command, hash_tree, prepare_run, sonnets, standard_input, workshop
from test_damage import DAMAGES, SAID, Damage, flip_a_bit, stopped

FILES = ("train.npy", "validation.npy", "tokens.json")
ANEW = "; the tokens were made again from the text and are the same, bit for bit."


@pytest.fixture(autouse=True)
def _text_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs are copies that lie elsewhere: their text is in the folder where the command is given."""
    stopped()
    monkeypatch.chdir(prepared().parent / "text")


def damage_and_go_on(place: Path, name: str, damage: Damage) -> tuple[list[str], list[str]]:
    """In what it differs at the end, its tokens included, and what was noted."""
    run = copy(stopped(), place)
    before = hash_tree(run / "tokens")
    damage(next((run / "tokens").rglob(name)))
    assert hash_tree(run / "tokens") != before
    with plain_pictures():
        notes = go_on(run)
    differences = find_differences(run, uninterrupted()) + ["tokens"] * (hash_tree(run / "tokens") != before)
    shutil.rmtree(run)
    return differences, notes


def test_a_flipped_bit_of_the_tokens_is_mended_and_named_in_one_line(tmp_path: Path) -> None:
    differences, notes = damage_and_go_on(tmp_path / "run", "train.npy", flip_a_bit)
    assert not differences
    (line,) = notes
    assert "train.npy is not what was written" in line and line.endswith(ANEW)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_any_damage_to_the_tokens_is_mended(tmp_path: Path, reliability: Reliability, damage: Damage) -> None:
    wrong = []
    for name in FILES:
        differences, notes = damage_and_go_on(tmp_path / "run", name, damage)
        wrong += [name] if differences or len(notes) != 1 or not notes[0].endswith(ANEW) else []
    reliability(
        "Damaged files", f"a file of tokens/ {SAID[damage]}", tried=len(FILES), survived=len(FILES) - len(wrong)
    )
    assert not wrong


def test_tokens_that_were_deleted_altogether_are_mended(tmp_path: Path, reliability: Reliability) -> None:
    run = copy(stopped(), tmp_path / "run")
    before = hash_tree(run / "tokens")
    shutil.rmtree(run / "tokens")
    folder, notes = RunFolder.open(run), list[str]()
    open_tokens(folder, load_tokenizer(folder.model), notes.append)
    survived = int(hash_tree(run / "tokens") == before and len(notes) == 1)
    reliability("Damaged files", "the folder tokens/ missing", tried=1, survived=survived)
    assert survived


def test_facts_that_vouch_for_other_tokens_are_not_believed(tmp_path: Path) -> None:
    """As where the tokens of another run were put there, each file fit for the others."""
    run = copy(stopped(), tmp_path / "run")
    before, facts = hash_tree(run / "tokens"), next((run / "tokens").rglob("tokens.json"))
    shutil.copyfile(facts.with_name("validation.npy"), facts.with_name("train.npy"))
    values = json.loads(facts.read_text("utf-8"))
    facts.write_text(json.dumps({"train": values["validation"], "validation": values["validation"]}), "utf-8")
    folder, notes = RunFolder.open(run), list[str]()
    open_tokens(folder, load_tokenizer(folder.model), notes.append)
    assert hash_tree(run / "tokens") == before and "tokens.json is not what was written" in notes[0]


def test_tokens_that_come_out_otherwise_are_not_taken(tmp_path: Path) -> None:
    """As with another version of the library that makes them."""
    folder = RunFolder.open(copy(stopped(), tmp_path / "run"))
    folder.write_manifest(folder.read_manifest().model_copy(update={"tokens_sha256": "0" * 64}))
    with pytest.raises(RunDamaged, match="Made again from the text they differ"):
        open_tokens(folder, load_tokenizer(folder.model), print)


# -- where the text is not what it was


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_without_the_text_it_is_one_error_and_nothing_is_lost(
    tmp_path: Path, reliability: Reliability, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run = copy(stopped(), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    if what == "changed":
        (tmp_path / "faults.txt").write_text(sonnets(3_000).replace("fairest", "fastest", 1), "utf-8")
    flip_a_bit(next((run / "tokens").rglob("train.npy")))
    before, metrics = hash_tree(run), (run / "metrics.jsonl").read_bytes()
    outcome = command("resume", run, "--quiet")
    said = {"gone": "The text is not in ", "changed": "faults.txt is not what was read then: its sha256 differs."}
    first, second = outcome.err.splitlines()
    after = hash_tree(run)  # what was told after the last save is told again when it goes on
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    kept = changed <= {"metrics.jsonl"} and metrics.startswith((run / "metrics.jsonl").read_bytes())
    good = outcome.code == 2 and kept and "train.npy is not what was written" in first
    good = good and said[what] in first and "Put the text back as it was" in second
    with plain_pictures():
        monkeypatch.chdir(prepared().parent / "text")
        go_on(run)
    good = good and not find_differences(run, uninterrupted())
    fault = f"tokens/ damaged and the text {what}: one error, and with the text put back it goes on"
    reliability("Damaged files", fault, tried=1, survived=int(good))
    assert good, outcome


def test_who_only_reads_the_tokens_is_told_who_mends_them(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    flip_a_bit(next((run / "tokens").rglob("train.npy")))
    with pytest.raises(RunDamaged, match=r"train\.npy is not what was written") as caught:
        open_run(run).folder.read_documents()
    assert f"epigone resume {run} encodes an unchanged text again" in caught.value.hint


def change_names(run: Path, *names: str) -> RunFolder:
    """Say in the plan that the text lay elsewhere, and damage the tokens."""
    folder = RunFolder.open(run)
    folder.write_manifest(folder.read_manifest().model_copy(update={"texts": TextLocations(train=names)}))
    flip_a_bit(next((run / "tokens").rglob("train.npy")))
    return folder


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("-", "The text came through a pipe"),
        ("https://example.org/a.txt", "is not kept in the cache"),
        ("../\0", "is not in"),
        ("x" * 5_000, "too long|is not in"),
        ("..", "is not what was read"),
    ],
)
def test_a_text_that_cannot_be_found_again_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """Nothing is read from standard input, and no question is asked, because of what a run says."""

    def ask(*_: object) -> None:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(download, "_download", ask)
    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "faults.txt").write_text(sonnets(9_000), "utf-8")
    folder = change_names(copy(stopped(), tmp_path / "run"), name)
    with standard_input(sonnets(3_000).encode()), pytest.raises(RunDamaged, match=said):
        open_tokens(folder, load_tokenizer(folder.model), print)


@pytest.mark.parametrize("texts", [None, 3, {}, {"train": 3}, {"train": [3], "validation": []}])
def test_a_plan_that_does_not_say_where_the_text_lay_is_one_error(tmp_path: Path, texts: object) -> None:
    folder = RunFolder.open(copy(stopped(), tmp_path / "run"))
    values = json.loads(folder.manifest.read_text("utf-8")) | {"texts": texts}
    folder.write_known(folder.manifest, json.dumps(values).encode())
    flip_a_bit(next(folder.tokens.rglob("train.npy")))
    with pytest.raises(RunDamaged):
        open_tokens(folder, load_tokenizer(folder.model), print)


# -- how it is found


@cache
def made_of_several() -> Path:
    """A folder with texts, with one held out beside it, and a run of them."""
    place = workshop() / "several"
    (place / "books").mkdir(parents=True)
    for number in range(3):
        (place / "books" / f"{number}.txt").write_text(sonnets(9_000)[3_000 * number :][:3_000], "utf-8")
    (place / "held.txt").write_text(sonnets(12_000)[9_000:], "utf-8")
    asked = TrainSettings(**HOW | {"validation": str(place / "held.txt")}, base="none")
    prepare_run(place / "books" / "*.txt", place / "runs" / "books", asked)
    return place


def test_a_run_that_was_moved_with_its_texts_finds_them(tmp_path: Path) -> None:
    """A glob and a held-out file, from wherever the command is given."""
    place = Path(shutil.copytree(made_of_several(), tmp_path / "moved"))
    folder = RunFolder.open(place / "runs" / "books")
    before = hash_tree(folder.tokens)
    shutil.rmtree(folder.tokens)
    tokens = open_tokens(folder, load_tokenizer(folder.model), lambda _: None)
    assert hash_tree(folder.tokens) == before and tokens.train.n_documents == 3
    (place / "books" / "1.txt").unlink()
    shutil.rmtree(folder.tokens)
    with pytest.raises(RunDamaged, match="The text is not what was read then"):
        open_tokens(folder, load_tokenizer(folder.model), print)


def test_no_place_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be given to others."""
    monkeypatch.chdir(tmp_path)
    texts = ["a.txt", str(tmp_path / "b*.txt"), "-", "sample:sonnets", "https://me:secret@example.org/c.txt"]
    assert locate_texts(texts, TrainSettings(validation="d.txt"), tmp_path / "runs" / "a") == TextLocations(
        train=("../../a.txt", "../../b*.txt", "-", "sample:sonnets", "https://example.org/c.txt"),
        validation=("../../d.txt",),
    )
    assert str(tmp_path) not in (made_of_several() / "runs" / "books" / "run.json").read_text("utf-8")
