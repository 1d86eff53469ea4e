"""Settings come from flags, a file or defaults, in that order; what cannot be is named, and so is what was meant."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from epigone.cli import main
from epigone.errors import SettingsError
from epigone.settings import (
    SIZES,
    FormatName,
    Frozen,
    JudgeSettings,
    Schedule,
    TrainSettings,
    WriteSettings,
    make_settings,
    parse_size,
    read_settings,
    write_toml,
)
from helpers_front import command, shared_run


def numbers(low: float, high: float, **more: bool) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **more)


AUTO = st.just("auto")
SHARES = numbers(0, 1, exclude_max=True) | AUTO
POSITIVE = numbers(0, 1e300, exclude_min=True)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "encoding": st.text(),
    "format": st.sampled_from(get_args(FormatName)),
    "by": st.sampled_from(["none", "folder", "speaker", "author"]),
    "code": st.sampled_from(["drop", "keep"]),
    "furniture": st.sampled_from(["drop", "keep"]),
    "field": st.lists(st.text(), max_size=3).map(tuple),
    "speaker": st.lists(st.text(), max_size=3).map(tuple),
    "anonymize": st.booleans(),
    "keep_boilerplate": st.booleans(),
    "unwrap": st.sampled_from(["auto", "yes", "no"]),
    "validation": numbers(0, 0.5, exclude_min=True) | st.text().filter(lambda text: text[:1] not in "0123456789."),
    "split": st.sampled_from(["auto", "spread", "tail", "documents"]),
    "base": st.text(),
    "size": st.sampled_from(["auto", *SIZES, "1x32", "96x4096"]),
    "vocab_size": st.integers(257, 65_536) | AUTO,
    "block_size": st.integers(8, 8192) | AUTO,
    "dropout": SHARES,
    "lora": st.integers(1, 1024) | st.just("none"),
    "teacher": st.text(),
    "epochs": POSITIVE | AUTO,
    "minutes": POSITIVE | st.just("none"),
    "batch_size": st.integers(1) | AUTO,
    "gradient_accumulation": st.integers(1) | AUTO,
    "optimizer": st.sampled_from(["auto", "adamw", "muon"]),
    "learning_rate": POSITIVE | AUTO,
    "schedule": st.sampled_from([*get_args(Schedule), "auto"]),
    "schedule_arguments": st.lists(
        st.from_regex(r"[a-z_]+=[!-~]+", fullmatch=True),
        max_size=3,
    ).map(tuple),
    "warmup_ratio": SHARES,
    "weight_decay": numbers(0, 1e300) | AUTO,
    "max_grad_norm": numbers(0, 1e300),
    "patience": st.integers(1) | st.sampled_from(["auto", "none"]),
    "keep_best": st.sampled_from(["loss", "quality"]),
    "seed": st.integers(0, 2**32 - 1),
    "device": st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    "precision": st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
    "compile": st.sampled_from(["auto", "off", "layers", "full"]),
    "shard": st.sampled_from(["auto", "on", "off"]),
    "gradient_checkpointing": st.sampled_from(["auto", "on", "off"]),
    "process_timeout": numbers(5, 1e300),
    "evaluate_every": st.integers(1) | AUTO,
    "sample_prompt": st.lists(st.text(), max_size=3).map(tuple),
    "sample_length": st.integers(1),
    "samples": st.integers(0),
}


def seen_by_train(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> TrainSettings:
    """The settings that the command would train with."""
    seen: list[TrainSettings] = []

    def train(settings: TrainSettings, **_: object) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(main.cli.commands["train"], "callback", train)
    assert main.run(["train", "text.txt", *arguments]) == 0
    return seen[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text('epochs = 3\nseed = 7\nsize = "nano"\nsample_prompt = ["from the file", "and this"]\n', "utf-8")
    return path


# -- where they come from


def test_flags_go_before_the_file_and_the_file_before_the_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = seen_by_train(monkeypatch, "--settings", str(file), "--epochs", "5")
    assert (found.epochs, found.seed, found.size, found.batch_size) == (5.0, 7, "nano", "auto")


def test_a_flag_with_the_default_value_still_goes_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = seen_by_train(monkeypatch, "--epochs", "auto", f"--settings={file}", "--seed=0")
    assert (found.epochs, found.seed, found.size) == ("auto", 0, "nano")


@pytest.mark.parametrize("flag", [["--sample-prompt", "mine"], ["--sample-prompt=mine"], ["--sample_prompt", "mine"]])
def test_a_list_on_the_command_line_replaces_the_list_in_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, flag: list[str]
) -> None:
    assert seen_by_train(monkeypatch, "--settings", str(file)).sample_prompt == ("from the file", "and this")
    assert seen_by_train(monkeypatch, "--settings", str(file), *flag).sample_prompt == ("mine",)


def test_a_list_may_be_given_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    found = seen_by_train(monkeypatch, "--sample-prompt", "one", "--sample-prompt", "two")
    assert found.sample_prompt == ("one", "two")


def test_a_switch_that_a_file_turned_on_can_stay_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "on.toml").write_text("keep_boilerplate = true\n", "utf-8")
    assert seen_by_train(monkeypatch, "--settings", str(tmp_path / "on.toml")).keep_boilerplate is True


def test_schedule_arguments_may_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[schedule_arguments]\nnum_cycles = 3\n", "utf-8")
    values = read_settings(tmp_path / "a.toml", TrainSettings)
    assert make_settings(TrainSettings, values).schedule_arguments == ("num_cycles=3",)


def test_seed_zero_is_a_seed() -> None:
    assert (TrainSettings().seed, make_settings(TrainSettings, {"seed": 0}).seed) == (0, 0)


@pytest.mark.parametrize("kind", [TrainSettings, WriteSettings, JudgeSettings])
def test_every_setting_has_help_on_one_line(kind: type[Frozen]) -> None:
    helps = {name: field.description or "" for name, field in kind.model_fields.items()}
    assert all(text.endswith(".") and "\n" not in text for text in helps.values()), helps


@pytest.mark.parametrize(
    ("verb", "kind"),
    [("train", TrainSettings), ("plan", TrainSettings), ("write", WriteSettings), ("judge", JudgeSettings)],
)
def test_the_help_of_a_verb_lists_every_setting(verb: str, kind: type[Frozen]) -> None:
    shown = command(verb, "--help-all").out
    assert [name for name in kind.model_fields if f"--{name.replace('_', '-')}" not in shown] == []


# -- what cannot be


WRONG = {
    "unknown key": ("epohcs = 3", "unknown setting epohcs", "Did you mean epochs?"),
    "unlike any key": ("zzz = 3", "unknown setting zzz", "epigone train --help"),
    "text for a number": ('epochs = "three"', "epochs must be a number or 'auto', not 'three'", ""),
    "number for a text": ("base = 2", "base must be text, not 2", ""),
    "truth for a number": ("seed = true", "seed must be a whole number, not True", ""),
    "fraction for a whole number": ("batch_size = 2.5", "batch_size must be a whole number", ""),
    "text for a list": ('sample_prompt = "Once"', "sample_prompt must be a list, not 'Once'", ""),
    "too small": ("epochs = 0", "epochs must be greater than 0", ""),
    "too large": ("dropout = 1.0", "dropout must be less than 1", ""),
    "endless": ("epochs = inf", "epochs must be a finite number", ""),
    "no such choice": (
        'split = "tial"',
        "split must be 'auto', 'spread', 'tail' or 'documents'",
        'Did you mean "tail"?',
    ),
    "no such size": ('size = "huge"', "size must be one of pico, nano", ""),
    "no pair": ('schedule_arguments = ["three"]', "written as name=value", ""),
    "no TOML": ("epochs: 3", "is not valid TOML", "epochs = 3"),
}


@pytest.mark.parametrize(("line", "message", "hint"), WRONG.values(), ids=WRONG)
def test_a_wrong_line_in_a_file_is_one_error_that_names_the_file_and_the_right_way(
    tmp_path: Path, line: str, message: str, hint: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(line + "\n", "utf-8")
    outcome = command("train", "text.txt", "--settings", path)
    assert (outcome.code, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert first.startswith(f"error: {path}") and message in first
    assert second.startswith("  ") and hint in second


def test_two_wrong_keys_are_named_together(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epohcs = 3\nsede = 1\n", "utf-8")
    with pytest.raises(SettingsError) as error:
        read_settings(path, TrainSettings)
    assert "unknown setting epohcs; unknown setting sede" in str(error.value)
    assert error.value.hint == "Did you mean epochs? Did you mean seed?"


WRONG_FLAGS = {
    "unknown": (["train", "t", "--epohcs", "3"], "--epohcs", "--epochs"),
    "unlike any": (["train", "t", "--zzz", "3"], "--zzz", ""),
    "of another verb": (["write", "r", "--epochs", "3"], "--epochs", ""),
    "wrong type": (["train", "t", "--epochs", "three"], "--epochs must be a number or 'auto', not 'three'", ""),
    "fraction for a whole number": (["write", "r", "--count", "2.5"], "--count must be a whole number, not '2.5'", ""),
    "out of range": (["train", "t", "--epochs", "0"], "--epochs must be greater than 0 or 'auto', not '0'", ""),
    "out of range when writing": (["write", "r", "--top-p", "1.5"], "--top-p must be at most 1", ""),
    "no such choice": (["train", "t", "--schedule", "lniear"], "--schedule must be", 'Did you mean "linear"?'),
    "no such verb": (["trian", "t"], "trian", "train"),
    "no value": (["train", "t", "--epochs"], "--epochs needs a value", "train --help"),
    "a value for a switch": (["train", "t", "--quiet=3"], "--quiet takes no value", "train --help"),
    "a word too many": (["resume", "r", "s"], 'resume cannot use "s"', "resume --help"),
    "a share that is too large": (["train", "t", "--validation", "10"], "--validation must be a share of at most", ""),
    "nothing to resume": (["resume"], "There is no run in runs/ yet", "epigone train TEXT"),
    "no run to write with": (["write", "--length", "3"], "There is no run in runs/ yet", "--base modern"),
    "wrong type for a longer run": (["resume", "r", "--epochs", "three"], "--epochs must be a number", ""),
}


@pytest.mark.parametrize(("arguments", "message", "hint"), WRONG_FLAGS.values(), ids=WRONG_FLAGS)
def test_a_wrong_flag_is_one_error_that_names_the_right_one(
    arguments: list[str], message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no run is the newest
    outcome = command(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert first.startswith("error: ") and message in first
    assert second.startswith("  ") and hint in second


SYNONYMS = {
    "--lr 1e-4": {"learning_rate": 1e-4},
    "--model gpt2": {"base": "gpt2"},
    "--model-name-or-path gpt2": {"base": "gpt2"},
    "--num-train-epochs 3": {"epochs": 3.0},
    "--per_device_train_batch_size 8": {"batch_size": 8},
    "--gradient-accumulation-steps 4": {"gradient_accumulation": 4},
    "--max-length 128": {"block_size": 128},
    "--lr_scheduler_type cosine": {"schedule": "cosine"},
    "-b small -m 10m": {"base": "small", "minutes": 10.0},
    "--minutes 1h": {"minutes": 60.0},
    "--minutes 90s": {"minutes": 1.5},
    "--validation 10%": {"validation": 0.1},
    "--validation 0.2": {"validation": 0.2},
    "--validation other.txt": {"validation": "other.txt"},
    "--compilation blocks --keep-best verdict": {"compile": "layers", "keep_best": "quality"},
    "--compile none": {"compile": "off"},
    "--vocabulary 512 --clip 0": {"vocab_size": 512, "max_grad_norm": 0.0},
}


@pytest.mark.parametrize(("words", "values"), SYNONYMS.items(), ids=SYNONYMS)
def test_names_of_other_programs_are_understood(
    words: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen_by_train(monkeypatch, *words.split()) == TrainSettings(**values)


@pytest.mark.parametrize("kind", [TrainSettings, WriteSettings, JudgeSettings])
def test_synonyms_lead_to_settings_and_hide_none(kind: type[Frozen]) -> None:
    assert set(kind.synonyms.values()) <= set(kind.model_fields)
    assert not set(kind.synonyms) & set(kind.model_fields)
    assert set(kind.old_values) <= set(kind.model_fields) and set(kind.common) <= set(kind.model_fields)


def test_a_settings_file_may_use_other_names_too_but_not_two_for_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("lr = 0.1\n", "utf-8")
    assert read_settings(path, TrainSettings) == {"learning_rate": 0.1}
    path.write_text("lr = 0.1\nlearning_rate = 0.2\n", "utf-8")
    with pytest.raises(SettingsError, match="unknown setting lr"):
        read_settings(path, TrainSettings)


POINTED = {
    "train x --fp16": "--precision fp16",
    "train x --max-steps 100": "--epochs or --minutes",
    "train x --resume-from-checkpoint r": "epigone resume",
    "write r --do-sample": "--temperature 0",
    "write r --max-length 50": "--length",
    "train x --device gpu": "cuda",
    "train x --epochs 3,5": "3.5",
}


@pytest.mark.parametrize(("words", "hint"), POINTED.items(), ids=POINTED)
def test_what_has_no_counterpart_is_pointed_to_the_nearest(words: str, hint: str) -> None:
    outcome = command(*words.split())
    assert outcome.code == 2 and hint in outcome.err.splitlines()[1]


def test_python_hears_the_same(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown setting epohcs") as error:
        make_settings(TrainSettings, {"epohcs": 3}, source="train()")
    assert error.value.hint == "Did you mean epochs?"


@given(st.text(string.digits + "x.-", max_size=8))
def test_a_size_is_understood_or_refused_and_nothing_else(size: str) -> None:
    try:
        n_layer, width = parse_size(size)
    except ValueError:
        return
    assert 1 <= n_layer <= 96 and width % 32 == 0 and 32 <= width <= 4096


# -- settings.toml


def test_the_values_to_try_cover_every_setting() -> None:
    assert set(VALUES) == set(TrainSettings.model_fields)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_settings_survive_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    settings = make_settings(TrainSettings, values)
    path = tmp_path_factory.getbasetemp() / "round.toml"
    path.write_text(write_toml(settings), "utf-8", newline="")
    assert make_settings(TrainSettings, read_settings(path, TrainSettings)) == settings


def test_a_run_remembers_what_was_asked() -> None:
    found = shared_run().folder.read_settings()
    assert (found.size, found.epochs, found.block_size) == ("2x64", 6.0, 64)
    assert found.sample_prompt == ("From fairest", "")
    assert found == make_settings(TrainSettings, found.model_dump())


def test_a_settings_file_of_a_run_can_be_given_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    run = shared_run()
    assert seen_by_train(monkeypatch, "--settings", str(run.folder.settings)) == run.folder.read_settings()
