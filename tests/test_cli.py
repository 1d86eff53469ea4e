"""The command says what it does to people, and only what was asked to programs."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

import epigone
from epigone.cli import main
from epigone.run import open_run
from epigone.runs.folder import RunFolder
from epigone.settings import Schedule, TrainSettings
from helpers_front import (
    TINY,
    command,
    hash_one,
    hash_tree,
    shared_run,
    sonnets,
    train_once,
    write_sonnets,
)
from helpers_plan import find_value


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_sonnets(tmp_path)


def read_plan(folder: Path) -> dict[str, object]:
    """What was planned; what was measured is left out."""
    plan: dict[str, object] = json.loads((folder / "run.json").read_text("utf-8"))["plan"]
    return plan


# -- what stands on standard output


def test_quiet_verbs_print_nothing_but_the_text(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert command("train", text, *TINY, "--quiet", "--out", run).out == ""
    assert command("train", text, *TINY, "--quiet", "--out", tmp_path / "again").err == ""
    assert command("resume", run, "--quiet").out == command("resume", run, "--epochs", "2", "--quiet").err == ""
    written = command("write", run, "--quiet", "--length", "5", "--prompt", "Once")
    assert written.err == "" and written.out.startswith("Once") and written.out.count("\n") >= 1


def test_json_is_one_object_and_nothing_else(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    planned = command("plan", text, *TINY, "--json")
    assert set(json.loads(planned.out)) == {"plan", "estimate", "receipt"}
    trained = json.loads(command("train", text, *TINY, "--json", "--out", run).out)
    assert (trained["run"], trained["reason"]) == (str(run), "done")
    assert trained["evaluations"] == [asdict(item) for item in open_run(run).evaluations]
    resumed = json.loads(command("resume", run, "--epochs", "2", "--json").out)
    assert resumed["reason"] == "done" and resumed["evaluations"][-1]["epoch"] >= 2
    written = json.loads(command("write", run, "--json", "--count", "2", "--length", "3", "--seed", "5").out)
    assert [item["seed"] for item in written["texts"]] == [5, 6]
    assert written["settings"]["length"] == 3


def test_an_error_is_json_as_well() -> None:
    outcome = command("train", "no-such-file.txt", "--json")
    assert json.loads(outcome.out)["kind"] == "TextNotFound"
    assert outcome.code == 2 and outcome.err.startswith("error: ")


def test_a_wrong_flag_is_json_as_well() -> None:
    outcome = command("train", "text.txt", "--json", "--epohcs", "3")
    assert json.loads(outcome.out)["kind"] == "SettingsError" and outcome.code == 2


def test_a_pipe_gets_no_escape_codes() -> None:
    outcome = train_once()[1]
    assert outcome.code == 0 and "\x1b" not in outcome.out + outcome.err
    assert [letter for letter in outcome.out if not letter.isprintable() and letter not in "\n\t"] == []


def test_a_pipe_sees_what_was_read_planned_and_learned() -> None:
    out = train_once()[1].out
    assert "Read\n" in out and "Plan\n" in out
    assert re.search(r"training text +[\d,]+ characters, [\d,]+ tokens", out)
    assert len(re.findall(r"^epoch .* validation loss ", out, re.M)) == len(shared_run().evaluations)
    assert f"epigone write {shared_run().path}" in out


def test_the_end_says_how_long_the_whole_took_beside_training(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((1_000.0, 1_125.0, 2_000.0, 2_070.0))
    monkeypatch.setattr("epigone.cli.train.time", SimpleNamespace(monotonic=lambda: next(clock)))
    said = command("train", text, *TINY, "--out", tmp_path / "run").out
    assert re.search(r"^Trained for \d+ s\. ", said, re.M)
    assert "\nIn all it took 2 min 05 s, with loading, reading and judging.\n" in said
    said = command("resume", tmp_path / "run", "--epochs", "0.6").out
    assert "\nThis time it took 1 min 10 s, with loading, reading and judging.\n" in said


def test_a_prompt_is_printed_before_what_follows_it() -> None:
    outcome = command("write", shared_run().path, "--prompt", "From fairest", "--length", "8")
    assert outcome.out.startswith("From fairest") and outcome.out.endswith("\n")


def test_writing_to_a_file_prints_no_text_and_says_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "new.txt"
    outcome = command("write", shared_run().path, "--length", "8", "--count", "2", "--out", file)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", f"The texts are in {file}.\n")
    assert file.read_text("utf-8").count("--- ") == 2
    quiet = command("write", shared_run().path, "--length", "2", "--out", tmp_path / "other.txt", "--quiet")
    assert (quiet.out, quiet.err) == ("", "") and (tmp_path / "other.txt").exists()


def test_a_prompt_may_begin_with_dashes() -> None:
    assert command("write", shared_run().path, "--prompt=--- Scene", "--length", "3").out.startswith("--- Scene")


def test_without_a_verb_the_verbs_are_listed() -> None:
    outcome = command()
    assert outcome.code == 0 and all(verb in outcome.out for verb in ("train", "plan", "write", "score", "resume"))


COMMANDS = [*main.cli.commands]


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_has_help_under_both_names_and_an_example_that_parses(verb: str) -> None:
    short, long = command(verb, "-h"), command(verb, "--help")
    assert short == long and short.code == 0 and short.out.startswith(f"Usage: epigone {verb}")
    assert command("help", verb).out == long.out
    assert f"epigone {verb}" in short.out.partition("Examples:")[2] or verb == "version"


def test_help_is_shown_whatever_else_is_wrong() -> None:
    assert command("train", "--no-such-option", "-h").out == command("train", "--help").out


def test_the_common_options_come_first() -> None:
    short, shown = command("train", "--help").out, command("train", "--help-all").out
    assert len(re.findall(r"^  -", short.partition("Common options:")[2].partition("\n\n")[0], re.M)) == 8
    assert "--optimizer" not in short and "--help-all" in short and command("train", "x", "--help-all").out == shown
    order = ["Examples:", "Arguments:", "Common options:", "--base NAME", "--minutes TIME", "Training:", "--optimizer"]
    assert sorted(order, key=shown.index) == order


def test_help_has_no_colour_even_where_colour_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in command("train", "--help").out + command("train", "--epohcs", "3").err


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"]], ids=" ".join)
def test_the_version_is_one_line(words: list[str]) -> None:
    outcome = command(*words)
    assert outcome.code == 0 and outcome.out == f"epigone {epigone.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_for_that_shell(shell: str) -> None:
    outcome = command("completion", shell)
    assert outcome.code == 0 and f"_EPIGONE_COMPLETE={shell}_complete" in outcome.out
    assert command("completion", "csh").code == 2


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("epigone tr", "train"),
        ("epigone train --learn", "--learning-rate"),
        ("epigone train --device c", "cuda"),
        ("epigone train --help-a", "--help-all"),
        ("epigone write nov", "novel"),
        ("epigone resume nov", "novel"),
        ("epigone score nov", "novel"),
        ("epigone attribute letter.txt nov", "novel"),
        ("epigone mix nov", "novel"),
        ("epigone write --mix nov", "novel"),
        ("epigone serve nov", "novel"),
        ("epigone train --size mic", "micro"),
        ("epigone train --base mod", "modern"),
        ("epigone write --base disti", "distilgpt2"),
        ("epigone completion z", "zsh"),
        ("epigone help tra", "train"),
    ],
)
def test_the_shell_gets_completions(words: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "novel").mkdir(parents=True)
    (tmp_path / "runs" / "novel" / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_EPIGONE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert found in command().out


def test_words_after_the_run_are_the_prompt() -> None:
    run = shared_run().path
    assert command("write", run, "From", "fairest", "-l", "8") == command("write", run, "-p", "From fairest", "-l", "8")
    assert "two prompts" in command("write", run, "Once", "--prompt", "Once").err
    assert "--unit words" in command("write", run, "--length", "100", "words").err


def test_a_prompt_may_come_from_standard_input() -> None:
    run = shared_run().path
    told = command("write", run, "-p", "From fairest\ncreatures", "-l", "8")
    for arguments in (["-p", "-"], ["-"]):
        assert (
            command("write", run, *arguments, "-l", "8", stdin="\ufeffFrom fairest\r\ncreatures\r\n".encode()) == told
        )
    refused = command("write", run, "--prompt", "-", "--interactive")
    assert refused.code == 2 and "--prompt -" in refused.err


@pytest.mark.parametrize("kind", ["interrupt", "memory", "option", "command", "value"])
def test_every_error_is_json_under_json(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> int:
        raise KeyboardInterrupt if kind == "interrupt" else MemoryError("no memory")

    monkeypatch.setattr(main.cli.commands["plan"], "callback", fail)
    words = {"option": ["plan", "x", "-Z"], "command": ["paln"], "value": ["plan", "x", "--epochs", "0"]}
    outcome = command(*words.get(kind, ["plan", "x"]), "--json")
    found = json.loads(outcome.out)
    assert set(found) == {"error", "hint", "kind"} and found["error"]
    codes = {"interrupt": (130, "KeyboardInterrupt"), "memory": (1, "OutOfMemory")}
    assert (outcome.code, found["kind"]) == codes.get(kind, (2, "SettingsError"))


# -- what is read


def test_without_a_text_the_sonnets_are_offered() -> None:
    outcome = command("train")
    assert outcome.code == 2 and "epigone train sample:sonnets" in outcome.err


def receipt_of(*arguments: str | Path, stdin: bytes = b"") -> dict[str, list[dict[str, object]]]:
    outcome = command("plan", *arguments, *TINY, "--json", stdin=stdin)
    assert outcome.code == 0, outcome.err
    receipt: dict[str, list[dict[str, object]]] = json.loads(outcome.out)["receipt"]
    return receipt


def test_a_dash_reads_standard_input(text: Path) -> None:
    piped, named = receipt_of("-", stdin=text.read_bytes()), receipt_of(text)
    assert piped["fingerprint"] == named["fingerprint"]
    assert [file["name"] for file in piped["files"]] == ["standard input"]


def test_files_a_folder_and_a_glob_read_the_same(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name, part in (("a.txt", sonnets(2_000)), ("b.txt", sonnets(4_000)[2_000:])):
        (shelf / name).write_text(part, "utf-8")
    receipts = [receipt_of(shelf / "a.txt", shelf / "b.txt"), receipt_of(shelf), receipt_of(shelf / "*.txt")]
    assert len({str(receipt["fingerprint"]) for receipt in receipts}) == 1
    assert [file["name"] for file in receipts[0]["files"]] == ["a.txt", "b.txt"]


def test_a_text_of_its_own_can_be_held_out(text: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(sonnets(9_000)[6_000:], "utf-8")
    receipt = receipt_of(text, "--validation", other)
    assert [file["name"] for file in receipt["held_out_files"]] == ["other.txt"]
    assert receipt["validation"]["n_characters"] == 3_000  # type: ignore[call-overload]
    assert receipt["train"]["n_characters"] == 4_000  # type: ignore[call-overload]


@pytest.mark.parametrize("split", ["auto", "spread", "tail", "documents"])
def test_every_way_to_split_holds_out_about_the_share(tmp_path: Path, split: str) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for number in range(8):
        (shelf / f"{number}.txt").write_text(sonnets(8_000)[number * 1_000 : (number + 1) * 1_000], "utf-8")
    receipt = receipt_of(shelf, "--split", split, "--validation", "0.25")
    assert receipt["split"]["how"] == {"auto": "spread"}.get(split, split)  # type: ignore[call-overload]
    assert 0.2 <= receipt["validation"]["n_characters"] / 8_000 <= 0.3  # type: ignore[call-overload]


# -- every option


ASKED = {
    "encoding": "utf-8",
    "format": "text",
    "code": "keep",
    "furniture": "keep",
    "anonymize": True,
    "keep_boilerplate": True,
    "unwrap": "no",
    "validation": 0.2,
    "split": "tail",
    "base": "none",
    "size": "1x32",
    "vocab_size": 300,
    "block_size": 24,
    "dropout": 0.15,
    "lora": "none",
    "teacher": "none",
    "epochs": 0.5,
    "minutes": 1.5,
    "batch_size": 2,
    "gradient_accumulation": 3,
    "optimizer": "muon",
    "learning_rate": 0.002,
    "schedule": "cosine_with_restarts",
    "schedule_arguments": ("num_cycles=2",),
    "warmup_ratio": 0.2,
    "weight_decay": 0.05,
    "max_grad_norm": 0.5,
    "patience": 4,
    "keep_best": "quality",
    "seed": 3,
    "device": "cpu",
    "precision": "fp32",
    "compile": "off",
    "shard": "off",
    "gradient_checkpointing": "off",
    "process_timeout": 60.0,
    "evaluate_every": 50,
    "sample_prompt": ("Once", "Twice"),
    "sample_length": 3,
    "samples": 1,
}


def test_every_option_of_train_is_taken_up(text: Path, tmp_path: Path) -> None:
    """But for those that are refused for a plain text."""
    others = {"field": (), "speaker": (), "by": "none"}
    assert set(ASKED) | set(others) == set(TrainSettings.model_fields)
    flags: list[str] = []
    for name, value in ASKED.items():
        flag = "--" + name.replace("_", "-")
        values = value if isinstance(value, tuple) else (value,)
        flags += [flag] if value is True else [word for one in values for word in (flag, str(one))]
    assert command("train", text, *flags, "--quiet", "--out", tmp_path / "run").code == 0
    folder = RunFolder(tmp_path / "run")
    assert folder.read_settings().model_dump() == ASKED | others
    plan = folder.read_manifest().plan
    same = {
        "block_size",
        "dropout",
        "batch_size",
        "gradient_accumulation",
        "learning_rate",
        "warmup_ratio",
        "max_grad_norm",
        "patience",
    }
    same |= {"seed", "device", "precision", "schedule", "weight_decay", "evaluate_every", "minutes", "epochs"}
    same |= {"optimizer", "compile", "keep_best"}
    assert {name: find_value(plan, name) for name in same} == {name: ASKED[name] for name in same}
    assert (find_value(plan, "size"), find_value(plan, "vocab_size")) == ("1x32", 300)
    sampled = next((tmp_path / "run" / "samples").iterdir()).read_text("utf-8")
    assert "Once" in sampled and "Twice" in sampled


# By the step, and by the evaluation; test_rate.py knows what each one gives.
QUICK_SCHEDULES = ("cosine", "reduce_lr_on_plateau")


@pytest.mark.parametrize(
    "schedule",
    [name if name in QUICK_SCHEDULES else pytest.param(name, marks=pytest.mark.slow) for name in get_args(Schedule)],
)
def test_every_schedule_trains(text: Path, tmp_path: Path, schedule: str) -> None:
    outcome = command(
        "train", text, *TINY, "--epochs", "1", "--schedule", schedule, "--json", "--out", tmp_path / "run"
    )
    assert outcome.code == 0, outcome.err
    *_, last = json.loads(outcome.out)["evaluations"]
    assert 4 < last["loss"] < 6 and last["learning_rate"] >= 0  # guessing among its entries costs 5.8


# -- nothing left, and the same again


def test_a_plan_trains_nothing_and_leaves_nothing(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    before = hash_tree(tmp_path)
    outcome = command("plan", text, *TINY)
    assert outcome.code == 0 and "validation loss" not in outcome.out and "Plan\n" in outcome.out
    assert hash_tree(tmp_path) == before and list(temporary.iterdir()) == []


def test_equal_settings_give_equal_plans_and_models(text: Path, tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for folder, seed in ((one, "3"), (two, "3"), (other, "4")):
        command("train", text, *TINY, "--dropout", "0.1", "--seed", seed, "--quiet", "--out", folder)
    assert read_plan(one) == read_plan(two)
    weights = [hash_one(folder / "model" / "model.safetensors") for folder in (one, two, other)]
    assert weights[0] == weights[1] != weights[2]


def test_a_bug_is_called_one_and_json_stays_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_arguments: object) -> int:
        raise KeyError("lost")

    monkeypatch.setattr(main, "run", fail)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(KeyError) as found:
        main.main(["plan", "x.txt", "--json"])
    sys.excepthook(found.type, found.value, found.tb)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["kind"] == "KeyError" and "bug in epigone" in json.loads(shown.out)["hint"]
    assert "Traceback" in shown.err and shown.err.rstrip().endswith("epigone resume continues a run.")
