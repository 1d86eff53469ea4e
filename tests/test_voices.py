"""Several voices: a run of all texts and one for each author, from the texts to what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

import epigone
from epigone.cli.train import _find_share
from epigone.cli.write import describe_source
from epigone.errors import RunExists, SettingsError, TextNotFound, TextTooShort
from epigone.evaluation.judge import TextJudge
from epigone.report.views import compare_voices
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from epigone.voices import divide_voices, match_voice, measure_held_out, read_voices
from helpers_front import TINY, command, make_once, shared_run, sonnets
from helpers_hub import publishing_to
from helpers_serving import serving
from helpers_training import make_tokens, manifest_for, plan_for

TEXT = "Shall I compare thee to a summer's day"
HOW = ("--length", "8", "--words", "any", "--seed", "1", "--quiet")


def make_authors(folder: Path) -> Path:
    """Two authors: one with a folder of two files, one with a file."""
    text = sonnets(18_000)
    (folder / "first").mkdir(parents=True)
    (folder / "first" / "a.txt").write_text(text[:5_000], "utf-8")
    (folder / "first" / "b.txt").write_text(text[5_000:10_000], "utf-8")
    (folder / "second.txt").write_text(text[10_000:], "utf-8")
    return folder


def read(*folders: str) -> str:
    """The texts in these folders."""
    return "".join(path.read_text("utf-8") for folder in folders for path in sorted(Path(folder).rglob("*.txt")))


# -- texts


def test_what_a_voice_holds_out_is_held_out_of_the_run_of_all_texts(tmp_path: Path) -> None:
    shared, *voices = divide_voices([str(make_authors(tmp_path / "in"))], TrainSettings(by="folder"), tmp_path / "out")
    assert [run.folder for run in voices] == [tmp_path / "out" / "voices" / name for name in ("first", "second")]
    assert shared.folder == tmp_path / "out"
    assert shared.settings.base == "auto"
    assert {run.settings.base for run in voices} == {str(tmp_path / "out")}
    assert read(*shared.texts) == read(*(text for run in voices for text in run.texts))
    assert read(str(shared.settings.validation)) == read(*(str(run.settings.validation) for run in voices))
    for run in voices:
        own = read(str(run.settings.validation))
        assert 0.05 < len(own) / len(read(*run.texts)) < 0.2
        assert own[100:400] not in read(*shared.texts)


def test_every_character_is_learned_or_held_out_and_counted(tmp_path: Path) -> None:
    made = divide_voices([str(make_authors(tmp_path / "in"))], TrainSettings(by="folder"), tmp_path / "out")
    found = read(*made[0].texts, str(made[0].settings.validation))
    assert sorted(found) == sorted(read(str(tmp_path / "in")))
    record = read_voices(tmp_path / "out")
    assert record is not None
    assert sum(record.voices.values()) == sum(file.n_bytes_kept for file in record.files) == len(found.encode())


def test_minutes_are_divided(tmp_path: Path) -> None:
    settings = TrainSettings(by="folder", minutes=8.0)
    made = divide_voices([str(make_authors(tmp_path / "in"))], settings, tmp_path / "out")
    first, *others = (run.settings.minutes for run in made if run.settings.minutes != "none")
    assert first == 4
    assert sum(others) == pytest.approx(4)


def test_how_long_a_voice_needs_is_said_by_the_time_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings(by="folder", minutes=8.0)
    run = divide_voices([str(make_authors(tmp_path / "in"))], settings, tmp_path / "out")[1]
    manifest = manifest_for(plan_for(make_tokens(), minutes=run.settings.minutes, n_steps_in_time=5))
    monkeypatch.setattr(RunFolder, "read_manifest", lambda folder: manifest)
    assert _find_share(RunFolder(tmp_path / "out"), RunFolder(run.folder)) == run.settings.minutes / 8
    assert _find_share(RunFolder(run.folder), RunFolder(run.folder)) == 1, "of a run alone"


def write_chat(folder: Path) -> Path:
    """A chat of two people, who say a line in turn."""
    words = [line.strip() for line in sonnets(20_000).split("\n") if line.strip()]
    lines = [
        f"[{1 + n // 500:02}/02/2024, {10 + n // 60 % 10}:{n % 60:02}:00] {('Anna', 'Ben')[n % 2]}: {line} {n}"
        for n, line in enumerate(words)
    ]
    (folder / "chat.txt").write_text("\n".join(lines), "utf-8")
    return folder / "chat.txt"


def test_chats_are_divided_by_the_people_that_are_named(tmp_path: Path) -> None:
    settings = TrainSettings(by="speaker", speaker=("Anna", "Ben"))
    _, anna, ben = divide_voices([str(write_chat(tmp_path))], settings, tmp_path / "out")
    assert (anna.folder.name, ben.folder.name) == ("Anna", "Ben")
    assert f"{sonnets(100).strip().splitlines()[0].strip()} 0" in read(*anna.texts, str(anna.settings.validation))
    assert not set(read(*anna.texts).split("\n")) & set(read(*ben.texts).split("\n")) - {""}
    assert anna.settings.speaker == ()  # it is not a chat any more


def make_documents(folder: Path) -> list[str]:
    """Two web pages, a post and records, by two authors whose names are spelled in several ways."""
    text = sonnets(40_000)
    parts = [text[at : at + 6_000] for at in range(0, 36_000, 6_000)]
    for name, author, part in zip(("one.html", "two.html"), ("Ann Lee", "Lee, Ann"), parts[:2], strict=True):
        page = f"<html><head><meta name=author content='{author}'></head><body><p>{part}</p></body></html>"
        (folder / name).write_text(page, "utf-8")
    (folder / "post.md").write_text(f"---\nauthor: ben  MARSH\n---\n\n{parts[2]}", "utf-8")
    by = zip(("Ben Marsh", "ANN LEE", "Ben Marsh"), parts[3:], strict=True)
    records = [json.dumps({"author": author, "text": part}) for author, part in by]
    (folder / "all.jsonl").write_text("\n".join(records), "utf-8")
    return [str(folder / name) for name in ("one.html", "two.html", "post.md", "all.jsonl")]


def test_documents_are_divided_by_the_authors_that_they_name(tmp_path: Path) -> None:
    texts, settings = make_documents(tmp_path), TrainSettings(by="author")
    found = []
    for place in ("new", "from the caches"):
        _, ann, ben = divide_voices(texts, settings, tmp_path / place)
        assert (ann.folder.name, ben.folder.name) == ("Ann-Lee", "Ben-Marsh")
        found.append([len(read(*run.texts, str(run.settings.validation))) for run in (ann, ben)])
    assert found[0] == found[1] == pytest.approx([18_000, 18_000], rel=0.03)
    (tmp_path / "nameless.md").write_text(sonnets(3_000), "utf-8")
    with pytest.raises(SettingsError, match=r"nameless.md does not name its author\."):
        divide_voices([*texts, str(tmp_path / "nameless.md")], settings, tmp_path / "not")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"by": "folder", "validation": "other.txt"}, "--validation"),
        ({"by": "folder", "teacher": "self"}, "--teacher"),
        ({"by": "speaker"}, "names of two people"),
        ({"by": "author"}, "does not name its author"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(more: dict[str, Any], says: str, tmp_path: Path) -> None:
    texts = [str(make_authors(tmp_path / "in"))]
    with pytest.raises(SettingsError, match=says):
        divide_voices(texts, TrainSettings(**more), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_one_voice_and_a_folder_in_use_are_refused(tmp_path: Path) -> None:
    authors, settings = make_authors(tmp_path / "in"), TrainSettings(by="folder")
    with pytest.raises(SettingsError, match="needs a folder"):
        divide_voices([str(authors / "second.txt")], settings, tmp_path / "out")
    with pytest.raises(RunExists):
        divide_voices([str(authors)], settings, authors)
    (authors / "first" / "b.txt").unlink()
    with pytest.raises(SettingsError, match="found 1 voice with enough text: a"):
        divide_voices([str(authors / "first")], settings, tmp_path / "out")


def make_named(folder: Path, *names: str) -> Path:
    """A folder for each author with these names."""
    text = sonnets(4_000 * len(names))
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        (folder / name / "text.txt").write_text(text[4_000 * number :][:4_000], "utf-8")
    return folder


def list_voices(folder: Path, out: Path, **more: Any) -> list[str]:
    """What the voices of these authors are called."""
    _, *voices = divide_voices([str(folder)], TrainSettings(by="folder", **more), out)
    return [run.folder.name for run in voices]


def test_names_keep_their_letters_and_marks(tmp_path: Path) -> None:
    names = ("Jane  Austen", "Zoe\u0308 \u00dcnal \U0001f98a", "प्रेमचंद", "O'Brien, J. (ed.)", "\u2764\ufe0f")
    voices = list_voices(make_named(tmp_path / "in", *names), tmp_path / "out")
    assert sorted(voices) == sorted(["Jane-Austen", "Zo\u00eb-\u00dcnal", "प्रेमचंद", "O-Brien-J.-ed", "voice"])


def test_a_voice_is_found_by_its_name_as_people_write_it() -> None:
    voices = ("Zoë-Ünal", "Jane-Austen", "Bjorn", "Björn")
    for name in ("zoë ünal", "Zoe Unal", "ZOE\u0308-U\u0308NAL"):
        assert match_voice(name, voices) == "Zoë-Ünal"
    assert match_voice("jane  austen", voices) == "Jane-Austen"
    assert (match_voice("bjorn", voices), match_voice("björn", voices)) == ("Bjorn", "Björn")
    assert match_voice("Jane", voices) is None


def test_names_that_differ_in_capitals_or_signs_only_are_refused(tmp_path: Path) -> None:
    """On some machines they would be one folder."""
    for number, (one, other) in enumerate((("Austen", "austen.d"), ("A B", "a-b"), ("Zo\u00eb", "Zoe\u0308!"))):
        place = make_named(tmp_path / str(number), one, other)
        if other == "austen.d":
            (place / other).rename(place / "rest")
            (place / "austen.txt").write_text(sonnets(4_000), "utf-8")
        with pytest.raises(SettingsError, match=r"would be called .* and ") as refused:
            list_voices(place, tmp_path / "out")
        assert str(place / one) in str(refused.value)
        assert "Rename one of them" in refused.value.hint
    settings = TrainSettings(by="speaker", speaker=("Anna", "anna "))
    with pytest.raises(SettingsError, match="Anna and anna"):
        divide_voices([str(place)], settings, tmp_path / "out")


def test_a_voice_without_enough_text_is_named(tmp_path: Path) -> None:
    place = make_named(tmp_path / "in", "full", "other")
    (place / "empty").mkdir()
    with pytest.raises(TextNotFound, match="empty") as refused:
        list_voices(place, tmp_path / "out")
    assert f"move it out of {place}" in refused.value.hint
    (place / "empty" / "a.txt").write_text(sonnets(2_100), "utf-8")  # enough, but for what is held out
    with pytest.raises(TextTooShort, match=r"The voice empty has 1,\d\d\d characters to learn from"):
        list_voices(place, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_authors_first_name_comes_first_and_capitals_last(tmp_path: Path) -> None:
    names = ("Wilde, Oscar", "OSCAR WILDE", "Ann Lee, Ben Marsh", "Ben Marsh, Ann Lee")
    records = [{"author": name, "text": sonnets(20_000)[4_000 * at :][:4_000]} for at, name in enumerate(names)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    made = divide_voices([str(tmp_path / "all.jsonl")], TrainSettings(by="author"), tmp_path / "out")
    assert [run.folder.name for run in made[1:]] == ["Ben-Marsh-Ann-Lee", "Oscar-Wilde"]


def test_authors_with_next_to_nothing_are_left_out_and_named(tmp_path: Path) -> None:
    records = [{"author": name, "text": sonnets(9_000)[:length]} for name, length in (("Ann", 9_000), ("Ben", 900))]
    records.append({"author": "Cid", "text": sonnets(5_000)})
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    settings = TrainSettings(by="author")
    made = divide_voices([str(tmp_path / "all.jsonl")], settings, tmp_path / "out")
    assert [run.folder.name for run in made[1:]] == ["Ann", "Cid"]
    record = read_voices(tmp_path / "out")
    assert record is not None
    assert [line for line in record.skipped if line.startswith("Ben: 8")]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, records[:2])), "utf-8")
    with pytest.raises(SettingsError, match=r"found 1 voice with enough text: Ann\. Ben: 8"):
        divide_voices([str(tmp_path / "all.jsonl")], settings, tmp_path / "not")


def test_each_speakers_files_have_their_name(tmp_path: Path) -> None:
    _, first, second = divide_voices(
        [str(write_chat(tmp_path))], TrainSettings(by="speaker", speaker=("Anna", "Ben")), tmp_path / "out"
    )
    record = read_voices(tmp_path / "out")
    assert record is not None
    assert [file.name for file in record.files] == ["chat.txt, Anna", "chat.txt, Ben"]
    assert {first.folder.name, second.folder.name} == {"Anna", "Ben"}


def test_a_picture_beside_the_authors_is_passed_over(tmp_path: Path) -> None:
    place = make_named(tmp_path / "in", "first", "second")
    (place / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\0")
    assert list_voices(place, tmp_path / "out") == ["first", "second"]
    record = read_voices(tmp_path / "out")
    assert record is not None
    assert record.skipped == ("cover.jpg is not read: it is of no known kind.",)
    with pytest.raises(TextNotFound, match="There is no folder") as refused:
        list_voices(tmp_path / "inn", tmp_path / "not")
    assert "Did you mean" in refused.value.hint


def test_authors_are_one_with_and_without_accents_and_long_names_stay_apart(tmp_path: Path) -> None:
    text, long = sonnets(20_000), "The Society for the Publication of Letters and Diaries, Volume"
    names = ("Emily Brontë", "Bronte, Emily", f"{long} One", f"{long} Two", "Emily Bronte\u0308")
    records = [{"author": name, "text": text[4_000 * at :][:4_000]} for at, name in enumerate(names)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
    made = divide_voices([str(tmp_path / "all.jsonl")], TrainSettings(by="author"), tmp_path / "out")
    sizes = {run.folder.name: len(read(*run.texts, str(run.settings.validation))) for run in made[1:]}
    record = read_voices(tmp_path / "out")
    assert record is not None
    assert [file.name for file in record.files] == ["all.jsonl"]  # once, though it is of three voices
    assert [name[:20] for name in sizes] == ["Emily-Brontë", "The-Society-for-the-", "The-Society-for-the-"]
    assert list(sizes.values()) == pytest.approx([12_000, 4_000, 4_000], rel=0.03)


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    authors = make_authors(tmp_path / "in")
    with pytest.raises(SettingsError):
        epigone.train(authors, by="folder", out=tmp_path / "out", base="small", vocab_size=300)
    assert not (tmp_path / "out").exists()
    (authors / "second.txt").write_text("Too short.", "utf-8")
    with pytest.raises(TextTooShort):
        epigone.train(authors, by="folder", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- from the command to what is written


def train_in(folder: Path) -> None:
    """Train two voices, and keep what the command said."""
    done = command("train", make_authors(folder / "in"), "--by-folder", "--out", folder / "out", *TINY, "--json")
    assert done.code == 0, done.err
    (folder / "said.json").write_text(done.out, "utf-8")


@pytest.fixture(scope="module")
def authors() -> tuple[Path, Any]:
    """A run of two voices, and what the command said."""
    folder = make_once("voices", train_in)
    return folder / "out", json.loads((folder / "said.json").read_text("utf-8"))


def test_each_voice_is_a_run_from_the_run_of_all_texts(authors: tuple[Path, Any]) -> None:
    folder, said = authors
    run = epigone.open_run(folder)
    assert list(run.voices) == list(said["voices"]) == ["first", "second"]
    for name, voice in run.voices.items():
        before, after = voice.evaluations[0], voice.best
        assert before.step == 0  # the run of all texts, on this voice's held-out text
        assert after is not None
        assert after.loss <= before.loss
        assert voice.folder.read_model_facts().base == str(folder)
        assert len(said["voices"][name]) == len(voice.evaluations)
    assert len(said["evaluations"]) == len(run.evaluations)


def test_a_voice_writes_and_is_mixed_and_turned_up(authors: tuple[Path, Any]) -> None:
    folder, _ = authors
    other = folder / "voices" / "second"
    for more in ((), ("--mix", f"{other}:0.5"), ("--guidance", "1.5")):
        done = command("write", folder, "--voice", "first", *HOW, *more)
        assert done.code == 0, done.err
    one, both = (command("write", folder, "--voice", "first", *HOW), command("write", folder, *HOW))
    assert one.out != both.out
    assert "first, second" in command("write", folder, "--voice", "third", *HOW).err
    assert "Did you mean second? Its voices" in command("write", folder, "--voice", "second one", *HOW).err
    assert one.out == command("write", folder, "--voice", "FIRST", *HOW).out
    assert "has no voices" in command("write", shared_run().path, "--voice", "first", *HOW).err


def test_voices_are_listed_and_named(authors: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = authors
    listed = command("list", folder).out
    assert [line.split()[0] for line in listed.splitlines()[1:]] == ["out", "out/first", "out/second"]
    monkeypatch.chdir(folder.parent)
    assert command("write", "out/first", *HOW).out == command("write", folder, "--voice", "first", *HOW).out


def test_a_voice_is_called_by_its_run_and_its_name(authors: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = authors
    monkeypatch.chdir(folder.parent)
    refused = command("judge", "out", "--voice", "first")
    assert refused.code == 2
    assert "RUN/VOICE" in refused.err
    assert command("write", "out/FIRST", *HOW).out == command("write", "out/first", *HOW).out
    refused = command("write", "out/third one", *HOW)
    assert refused.code == 2  # not taken for a prompt
    assert "no voice third one" in refused.err
    refused = command("write", "out/first", "--mix", "third:0.5", *HOW)
    assert "no run or voice third to mix" in refused.err
    assert "first, second" in refused.err
    for voice in ("out/first", "out"):
        done = command("write", voice, "--mix", "second:0.5", *HOW)
        assert done.code == 0, done.err
    letter = folder.parent / "in" / "second.txt"
    told = command("attribute", letter, "out", "--json")
    assert told.code == 0, told.err
    assert {one["name"] for one in json.loads(told.out)["candidates"]} == {"out/first", "out/second"}


def test_pages_and_cards_have_the_names_of_voices_and_no_path(authors: tuple[Path, Any]) -> None:
    folder, _ = authors
    for run, title, command_for in (
        (folder, "First, Second", "out"),
        (folder / "voices" / "first", "First", "out/first"),
    ):
        page, card = (path.read_text("utf-8") for path in (run / "report.html", run / "model" / "README.md"))
        assert f">{title}<" in page
        assert f"epigone judge {command_for}<" in page
        assert f"\n# {title}\n" in card
        assert str(folder.parent) not in page + card
    assert "fine-tuned from <code>out</code>, made with" in card  # which was trained from scratch


def test_voices_are_served_by_their_names(authors: tuple[Path, Any]) -> None:
    with serving(runs=[authors[0]]) as client:
        names = ["out", "out/first", "out/second"]
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == names
        assert client.get("/v1/models/out/first").json()["id"] == "out/first"
        assert client.get("/api/runs/out%2Fsecond").json()["title"] == "second"
        asked = {"model": "out/first", "mix": {"out/second": 0.5}, "max_tokens": 3, "prompt": "Shall"}
        assert client.post("/v1/completions", json=asked).status_code == 200


def test_a_run_that_was_moved_with_its_voices_finds_them(authors: tuple[Path, Any], tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(authors[0], moved)
    record = moved / "voices" / "first" / "run.json"
    record.write_text(record.read_text("utf-8").replace(str(authors[0]), "/gone"), "utf-8")
    assert RunFolder.find(moved / "voices" / "first").read_model_facts().base == str(moved)


def test_resume_makes_what_is_not_made_yet(authors: tuple[Path, Any], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(authors[0], folder)
    shutil.rmtree(folder / "voices" / "second")
    done = command("resume", folder)
    assert done.code == 0, done.err
    assert list(epigone.open_run(folder).voices) == ["first", "second"]
    assert "second" in done.out + done.err
    refused = command("resume", folder, "--epochs", "9")
    assert refused.code == 2
    assert "several voices" in refused.err


def test_the_plan_names_the_voices(tmp_path: Path) -> None:
    done = command("plan", make_authors(tmp_path / "in"), "--by-folder", *TINY)
    assert done.code == 0, done.err
    assert "3 runs" in done.out
    assert "(within 1 %), in less time" in " ".join(done.out.split())
    assert "second" in done.out
    assert "Plan of the run of all texts" in done.out
    assert "up to as long again" in done.out


def test_bits_of_little_text_are_called_a_guess(authors: tuple[Path, Any]) -> None:
    seen = epigone.open_run(authors[0]).evaluations
    (row,) = compare_voices({"anna": seen}, {"anna": 240})
    assert row.reason.endswith("by the run of all texts, of 240 bytes: a guess")
    (row,) = compare_voices({"anna": seen}, {"anna": 24_000})
    assert row.reason.endswith("by the run of all texts")
    held_out = sum(path.stat().st_size for path in (authors[0] / "voices/texts/held-out/second").iterdir())
    assert measure_held_out(authors[0], "second") == held_out > 0


def copy_voices(authors: Path, place: Path) -> Path:
    """A copy of the run with its voices, where it can be changed; returns that of the first voice."""
    shutil.copytree(authors, place)
    first = place / "voices" / "first"
    record = first / "run.json"
    record.write_text(record.read_text("utf-8").replace(str(authors), str(place)), "utf-8")
    return first


def test_copies_are_looked_for_in_the_texts_of_all_voices(authors: tuple[Path, Any], tmp_path: Path) -> None:
    voice = epigone.open_run(copy_voices(authors[0], tmp_path / "out"))
    other = epigone.open_run(tmp_path / "out" / "voices" / "second").folder.read_documents()
    passage = str(other[0])[100:300]
    generator = voice.open_generator()
    assert passage not in "".join(map(str, generator.documents))
    found = generator.find_source(f"x {passage} x")
    assert found is not None
    assert found.n_characters >= 150
    assert "that the run it was tuned from has read" in describe_source(found, len(generator.documents))
    judged = TextJudge(voice._read_author()).judge(passage * 10, "x")
    assert next(verdict for verdict in judged.verdicts if verdict.topic == "copies").grade == "bad"
    own = voice.folder.read_documents()
    assert voice.folder.read_before(own) == other  # each text once
    shutil.rmtree(tmp_path / "out" / "tokens")
    assert voice.folder.read_before(own) == []


def test_the_card_of_a_voice_names_what_else_its_model_has_read(authors: tuple[Path, Any]) -> None:
    read = "\nThe model that it was fine-tuned from has also read these"
    both, first = (
        (run / "model" / "README.md").read_text("utf-8") for run in (authors[0], authors[0] / "voices/first")
    )
    assert read not in both
    own, before = first.split(read)
    assert "first-0001.txt" in own
    assert "second" in before
    assert "first-0001.txt" not in before


# by the client to itself, where it uploads by LFS
@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")
def test_a_voice_is_published_as_a_model_that_transformers_loads(
    authors: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(authors[0].parent)
    with publishing_to(tmp_path / "hub", monkeypatch):
        done = command("publish", "out/first", "jane/first", "--licence", "mit", "--language", "en", "--yes")
    assert done.code == 0, done.err
    shown = " ".join((done.out + done.err).split())
    assert "names your text: first-0001.txt, first-0002.txt, second/second-0001.txt." in shown
    published, run = tmp_path / "hub" / "jane" / "first", authors[0] / "voices" / "first"
    assert not list(published.rglob("*.txt"))
    assert "license: mit" in (published / "README.md").read_text("utf-8")
    model, tokenizer = GPT2LMHeadModel.from_pretrained(published), AutoTokenizer.from_pretrained(published)
    assert len(tokenizer) == model.config.vocab_size  # no token stands for a voice
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(TEXT).input_ids]])
    theirs = model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    assert theirs == pytest.approx(epigone.open_run(run).score(TEXT).nats, rel=1e-4)
    assert theirs != pytest.approx(epigone.open_run(authors[0]).score(TEXT).nats, rel=1e-4)
    assert model.generate(ids, max_new_tokens=5, do_sample=True).shape[1] == ids.shape[1] + 5
