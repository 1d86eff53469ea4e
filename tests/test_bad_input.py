"""What cannot work ends with one line that says why, one that says what to do, and exit code 2; nothing is spoilt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from epigone.errors import EpigoneError
from helpers_front import TINY, Outcome, command, hash_tree, shared_run, sonnets, workshop, write_sonnets
from standin import make_standin

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00" * 100


@cache
def standin() -> Path:
    """An untrained GPT-2 in a folder."""
    return make_standin(workshop() / "untrained", text=sonnets(20_000), n_layer=1, n_embd=32, n_positions=64)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test here reaches a hub or anybody's cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def refused(*arguments: str | Path) -> Outcome:
    """What the command says, once it is known to be said as it should be."""
    outcome = command(*arguments)
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    first, second = outcome.err.splitlines()
    assert first.startswith("error: ") and first.endswith((".", ")")) and "Traceback" not in first
    assert second.startswith("  ") and len(second) > 12
    return outcome


def make_llama(folder: Path) -> Path:
    base = shutil.copytree(standin(), folder / "llama")
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"model_type": "llama"}), "utf-8")
    return base


def make_truncated(folder: Path) -> Path:
    base = shutil.copytree(standin(), folder / "truncated")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return base


def make(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def make_folder(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content, "utf-8")
    return folder


Case = tuple[Callable[[Path], list[str | Path]], str]
TEXTS: dict[str, Case] = {
    "missing file": (lambda here: [here / "none.txt"], "There is no file"),
    "misspelt file": (lambda here: [here / "txet.txt"], "Did you mean"),
    "missing folder": (lambda here: [here / "no" / "such.txt"], "There is no folder"),
    "empty file": (lambda here: [make(here / "empty.txt", b"")], "empty.txt is empty"),
    "white space": (lambda here: [make(here / "white.txt", b" \n" * 3000)], "only white space"),
    "picture": (lambda here: [make(here / "cover.txt", PNG)], "PNG"),
    "folder without text": (lambda here: [make_folder(here / "empty")], "has no text in it"),
    "too short": (lambda here: [make(here / "short.txt", sonnets(1_900).encode())], "at least 2,000 are needed"),
    "glob without a match": (lambda here: [str(here / "*.rtf")], "No file matches"),
    "no such sample": (lambda here: ["sample:odes"], "sample:sonnets"),
    "no address": (lambda here: ["ftp://example.org/a.txt"], "only http and https"),
    "held-out text missing": (lambda here: [here / "text.txt", "--validation", "none.txt"], "There is no file"),
}


READ_BY_TRAIN = ("missing file", "too short", "held-out text missing")
"""Of what `plan` refuses these show that `train` refuses it as well; both read texts by the same function."""
VERBS = [(name, "plan") for name in TEXTS] + [(name, "train") for name in READ_BY_TRAIN]


@pytest.mark.parametrize(
    ("verb", "arguments", "message"), [(verb, *TEXTS[name]) for name, verb in VERBS], ids=map("-".join, VERBS)
)
def test_a_text_that_cannot_be_read_is_refused(
    tmp_path: Path, verb: str, arguments: Callable[[Path], list[str | Path]], message: str
) -> None:
    write_sonnets(tmp_path)
    out = ["--out", str(tmp_path / "run")] if verb == "train" else []
    assert message in refused(verb, *arguments(tmp_path), *TINY, *out).err


FLAGS: dict[str, Case] = {
    "no epochs": (lambda here: ["--epochs", "0"], "--epochs must be greater than 0"),
    "endless epochs": (lambda here: ["--epochs", "inf"], "--epochs must be"),
    "no such size": (lambda here: ["--size", "5x"], "LAYERSxWIDTH"),
    "no such encoding": (lambda here: ["--encoding", "cp1253x"], "Did you mean"),
    "encoding that does not fit": (lambda here: ["--encoding", "utf-32"], "text.txt is not utf-32"),
    "documents of one file": (lambda here: ["--split", "documents"], "One file cannot be split"),
    "block that does not fit": (lambda here: ["--block-size", "8192"], "one block needs more than 8,192"),
    "argument of no schedule": (lambda here: ["--schedule-arguments", "wings=2"], "wings"),
    "argument that is no pair": (lambda here: ["--schedule-arguments", "wings"], "name=value"),
    "argument of the wrong kind": (
        lambda here: ["--schedule", "polynomial", "--schedule-arguments", "power=abc"],
        "power=abc",
    ),
    "argument of the wrong kind, used late": (
        lambda here: ["--schedule", "greedy", "--schedule-arguments", "patience=x"],
        "patience=x",
    ),
    "argument of a constant": (lambda here: ["--schedule", "constant", "--schedule-arguments", "a=1"], "takes no"),
    "fp16 on a processor": (lambda here: ["--device", "cpu", "--precision", "fp16"], "needs an NVIDIA or AMD GPU"),
    "no such base": (lambda here: ["--base", "no-such-model"], "neither a folder nor complete in the cache"),
    "no such folder as base": (lambda here: ["--base", "./no-such-folder"], "There is no folder"),
    "a file as base": (lambda here: ["--base", str(here / "text.txt")], "is a file"),
    "a folder without a model": (lambda here: ["--base", str(make_folder(here / "nothing"))], "no config.json"),
    "a llama as base": (lambda here: ["--base", str(make_llama(here))], "'llama', not a GPT-2"),
    "a truncated base": (lambda here: ["--base", str(make_truncated(here))], "damaged or incomplete"),
    "a vocabulary for a base": (lambda here: ["--base", str(standin()), "--vocab-size", "512"], "--vocab-size 512"),
    "a block longer than the base": (lambda here: ["--base", str(standin()), "--block-size", "65"], "64 positions"),
    "no such settings": (lambda here: ["--settings", str(here / "none.toml")], "cannot be read"),
    "an out that is a file": (lambda here: ["--out", str(make(here / "there", b"x"))], "is a file; a run is a folder"),
    "an out below a file": (lambda here: ["--out", "/dev/null/run"], "cannot be created"),
    "an out in /proc": (lambda here: ["--out", "/proc/run"], "cannot be created"),
    "an out with something in it": (lambda here: ["--out", str(make_folder(here / "full", a="x"))], "something else"),
}


@pytest.mark.benchmark  # some wrong values are only noticed when a learner is made
@pytest.mark.parametrize(("flags", "message"), FLAGS.values(), ids=FLAGS)
def test_a_setting_that_cannot_work_is_refused(
    tmp_path: Path, flags: Callable[[Path], list[str | Path]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = write_sonnets(tmp_path)
    assert message in refused("train", text, *flags(tmp_path)).err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("verb", ["train", "write"])
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, verb: str) -> None:
    first = [write_sonnets(tmp_path), "--out", tmp_path / "run"] if verb == "train" else [shared_run().path]
    assert "device cuda is not available" in refused(verb, *first, "--device", "cuda").err


WRITING: dict[str, Case] = {
    "a folder without a run": (lambda here: ["write", make_folder(here / "f")], "holds neither a run nor a model"),
    "nothing there": (lambda here: ["write", here / "none"], "There is no folder"),
    "a file": (lambda here: ["write", write_sonnets(here)], "is a file"),
    "out that is there": (lambda here: ["write", "x", "--out", write_sonnets(here)], "already exists"),
    "out in no folder": (
        lambda here: ["write", shared_run().path, "--length", "2", "--out", "/dev/null/x.txt"],
        "cannot be written",
    ),
    "nothing to write": (lambda here: ["write", "x", "--length", "0"], "--length must be"),
    "no share": (lambda here: ["write", "x", "--top-p", "0"], "--top-p must be greater than 0"),
    "resume of no run": (lambda here: ["resume", make_folder(here / "g")], "holds neither a run nor a model"),
    "resume of nothing": (lambda here: ["resume", here / "none"], "There is no run"),
    "resume of a file": (lambda here: ["resume", write_sonnets(here)], "is a file; a run"),
}


@pytest.mark.parametrize(("arguments", "message"), WRITING.values(), ids=WRITING)
def test_writing_and_resuming_refuse_what_is_not_a_run(
    tmp_path: Path, arguments: Callable[[Path], list[str | Path]], message: str
) -> None:
    assert message in refused(*arguments(tmp_path)).err


def test_a_run_is_never_trained_over() -> None:
    run = shared_run()
    before = hash_tree(run.path)
    found = refused("train", run.path.parent / "sonnets.txt", *TINY, "--out", run.path)
    assert f"epigone resume {run.path}" in found.err
    assert hash_tree(run.path) == before


@pytest.mark.benchmark
def test_a_run_that_failed_before_it_began_blocks_no_second_try(tmp_path: Path) -> None:
    text, run = write_sonnets(tmp_path), tmp_path / "run"
    refused("train", text, *TINY, "--schedule-arguments", "wings=2", "--out", run)
    refused("train", tmp_path / "none.txt", *TINY, "--out", run)
    assert command("train", text, *TINY, "--quiet", "--out", run).code == 0


def test_broken_checkpoints_are_named_and_the_model_still_writes(tmp_path: Path) -> None:
    run = shutil.copytree(shared_run().path, tmp_path / "run")
    for weights in run.glob("checkpoints/*/weights.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    assert "weights.safetensors is not what was written" in refused("resume", run, "--epochs", "7").err
    assert command("write", run, "--length", "3").code == 0


def test_the_checkpoint_before_a_broken_one_is_used(tmp_path: Path) -> None:
    run = shutil.copytree(shared_run().path, tmp_path / "run")
    *_, newest = sorted(run.glob("checkpoints/step-*"))
    (newest / "weights.safetensors").write_bytes(b"")
    outcome = command("resume", run, "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["reason"] == "done"


@pytest.mark.parametrize("spoil", ["run.json", "settings.toml"])
def test_a_spoilt_run_says_which_file_is_spoilt(tmp_path: Path, spoil: str) -> None:
    run = shutil.copytree(shared_run().path, tmp_path / "run")
    (run / spoil).write_text("{", "utf-8")
    assert f"{run}: {spoil} is not what was written" in refused("report", run).err
    outcome = command("resume", run)
    assert outcome.code == 0 and f"{spoil} is not what was written; restored from step-" in outcome.out
    assert command("report", run).code == 0


def test_a_run_without_a_model_says_how_to_get_one(tmp_path: Path) -> None:
    run = shutil.copytree(shared_run().path, tmp_path / "run")
    (run / "model" / "model.safetensors").unlink()
    assert f"epigone resume {run}" in refused("write", run).err


def test_a_model_that_was_cut_off_is_damaged_and_no_traceback(tmp_path: Path) -> None:
    run = shutil.copytree(shared_run().path, tmp_path / "run")
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "model/model.safetensors is not what was written" in refused("write", run).err
    assert f"epigone resume {run} restores it" in refused("score", run, run / "settings.toml").err


def test_two_processes_cannot_work_in_one_run(tmp_path: Path) -> None:
    run = shutil.copytree(shared_run().path, tmp_path / "run")
    from epigone.runs.folder import RunFolder

    with RunFolder(run).lock():
        assert "Another process" in refused("resume", run).err
    assert command("resume", run, "--quiet").code == 0


def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path: Path) -> None:
    outcome = command(
        "train", write_sonnets(tmp_path), *TINY, "--epochs", "2", "--learning-rate", "1e30", "--out", tmp_path / "run"
    )
    assert outcome.code == 1 and outcome.err.startswith("error: The loss became")
    assert "--learning-rate" in outcome.err and "Traceback" not in outcome.err


def test_a_held_out_loss_that_is_not_a_number_ends_the_run(tmp_path: Path) -> None:
    """One step only: its training loss is from before the damage."""
    outcome = command("train", write_sonnets(tmp_path), *TINY, "--learning-rate", "1e30", "--out", tmp_path / "run")
    assert (
        outcome.code == 1 and outcome.err.startswith("error: The loss became") and "The model is in" not in outcome.out
    )


def test_every_error_of_ours_has_an_exit_code() -> None:
    def descend(kind: type[EpigoneError]) -> list[type[EpigoneError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in descend(child))]

    assert {kind.exit_code for kind in descend(EpigoneError)} == {1, 2}


def test_a_run_is_found_in_runs_and_a_missing_one_names_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "epigone train TEXT" in refused("write", "runs/novel").err
    shutil.copytree(shared_run().path, tmp_path / "runs" / "sonnets")
    assert "Runs here: runs/sonnets" in refused("write", "runs/novel").err
    newest = command("write", "-l", "3")
    assert newest.code == 0 and newest.err == "Using the newest run: runs/sonnets\n"
    assert command("write", "sonnets", "-l", "3") == command("write", "runs/sonnets", "-l", "3")


def test_a_part_of_a_run_or_a_text_is_not_taken_for_a_model(tmp_path: Path) -> None:
    checkpoint = sorted(shared_run().path.glob("checkpoints/step-*"))[0]
    assert str(shared_run().path) in refused("write", checkpoint).err.splitlines()[1]
    text = write_sonnets(tmp_path)
    assert f"epigone train {text}" in refused("write", text).err
    assert f"epigone score {shared_run().path} {text}" in refused("score", text, shared_run().path).err
