"""Every file of a run, spoilt in any way: each verb does its work or ends with one error of ours, never a traceback."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest

from conftest import Counting, Reliability
from epigone.evaluation.judge import Author, judge_text
from helpers_front import command, shared_run, sonnets, workshop, write_sonnets
from helpers_hostile import OUTSIDE, spoil
from standin import make_standin

FILES = (
    *("run.json", "settings.toml", "receipt.json", "metrics.jsonl", "sampling.json", "judgement.json"),
    *("model/config.json", "model/generation_config.json", "model/tokenizer.json", "model/tokenizer_config.json"),
    *("model/model.safetensors", "checkpoints/step-*/state.json", "checkpoints/step-*/manifest.json"),
    *("checkpoints/step-*/optimizer.safetensors", "tokens/*/tokens.json", "tokens/*/train.npy"),
)
VERBS = ("write", "score", "report", "resume")


@cache
def whole_run() -> Path:
    """A run with everything that a run can hold."""
    run = Path(shutil.copytree(shared_run().path, workshop() / "whole"))
    author = Author(name="an author", documents=[sonnets(12_000)], held_out=[sonnets(3_000)])
    (run / "judgement.json").write_text(json.dumps(judge_text(sonnets(4_000), "a text", author).as_json()), "utf-8")
    if not (run / "sampling.json").exists():
        trial = {"temperature": 0.8, "compression": 1.0, "repeated": 0.0}
        found = {"temperature": 0.8, "most_compression": 2.0, "most_repeated": 0.1, "trials": [trial]}
        (run / "sampling.json").write_text(json.dumps(found), "utf-8")
    write_sonnets(workshop(), 300, "scored.txt")
    return run


def copy_with(folder: Path, file: str, change: Callable[[bytes], bytes]) -> Path:
    run = Path(shutil.copytree(whole_run(), folder / "run"))
    path = sorted(run.glob(file))[-1]
    path.write_bytes(change(path.read_bytes()))
    (run / "sums.json").unlink()  # a stranger's would fit what was changed
    if path.name in ("state.json", "optimizer.safetensors"):
        vouch_for(path)
    for checkpoint in run.glob("checkpoints/step-*") if path.parent == run else ():
        if (checkpoint / path.name).exists():  # else the copy would take its place
            vouch_for(Path(shutil.copyfile(path, checkpoint / path.name)))
    return run


def vouch_for(path: Path) -> None:
    """Let a checkpoint's manifest say that a file is what it should be."""
    manifest = path.with_name("manifest.json")
    facts = json.loads(manifest.read_bytes())
    facts["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(facts), "utf-8")


SPOILT = "a spoilt file of a run, the sums forged to fit"


def assert_ends_well(run: Path, verb: str) -> int:
    """The exit code of a verb, once it is known to be a clean end."""
    more = {"write": ("--length", "2"), "score": (workshop() / "scored.txt",), "resume": ("--epochs", "6.2", "--quiet")}
    outcome = command(verb, run, *more.get(verb, ()))
    assert outcome.code in (0, 1, 2), outcome  # anything else than a clean end is raised by `command`
    if outcome.code:
        errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in outcome.err, outcome
    return outcome.code


@pytest.mark.parametrize("file", FILES)
def test_no_spoilt_file_ends_a_verb_in_a_traceback(tmp_path: Path, counting: Counting, file: str) -> None:
    with counting(SPOILT) as tries:
        for seed in range(2):
            run = copy_with(tmp_path / str(seed), file, lambda data, seed=seed: spoil(data, seed))
            verb = VERBS[(seed + FILES.index(file)) % len(VERBS)]
            tries.end(partial(assert_ends_well, run, verb))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("file", ["run.json", "receipt.json", "settings.toml", "judgement.json", "sums.json"])
def test_brackets_without_end_end_no_verb_in_a_traceback(tmp_path: Path, file: str, verb: str) -> None:
    """Which the libraries that read them take for calls without end."""
    nested = b"a = " + b"[" * 100_000 if file.endswith("toml") else b'{"files": ' + b"[" * 100_000
    run = Path(shutil.copytree(whole_run(), tmp_path / "run"))
    if file != "sums.json":
        (run / "sums.json").unlink()
    (run / file).write_bytes(nested)
    assert_ends_well(run, verb)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_no_spoilt_file_ends_any_verb_in_a_traceback(tmp_path: Path, counting: Counting, file: str) -> None:
    with counting(SPOILT) as tries:
        for seed in range(100, 140):
            for verb in VERBS:
                run = copy_with(tmp_path / f"{seed}-{verb}", file, lambda data, seed=seed: spoil(data, seed))
                tries.end(partial(assert_ends_well, run, verb))
                shutil.rmtree(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["run.json", "receipt.json", "metrics.jsonl", "judgement.json", "model/tokenizer.json"]
)
def test_no_spoilt_file_ends_judging_in_a_traceback(tmp_path: Path, counting: Counting, file: str) -> None:
    def judge(run: Path) -> int:
        outcome = command("judge", run, "--characters", "200")
        assert outcome.code in (0, 1, 2), outcome
        return outcome.code

    with counting(SPOILT) as tries:
        for seed in range(200, 205):
            run = copy_with(tmp_path / str(seed), file, lambda data, seed=seed: spoil(data, seed))
            tries.end(partial(judge, run))


def refuse(run: Path, verb: str, said: str) -> int:
    """The exit code of a verb that is known to name what is wrong."""
    outcome = command(verb, run)
    assert outcome.code == 2 and said in outcome.err, outcome
    return outcome.code


def test_a_plan_cannot_lead_out_of_its_folder(tmp_path: Path, counting: Counting) -> None:
    def point_outside(data: bytes) -> bytes:
        return json.dumps(json.loads(data) | {"tokens": "../../elsewhere"}).encode()

    run = copy_with(tmp_path, "run.json", point_outside)
    with counting(OUTSIDE) as tries:
        tries.end(partial(refuse, run, "report", "run.json cannot be read"))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        *(("batch", name) for name in ("block_size", "batch_size", "gradient_accumulation")),
        *(("schedule", "n_steps"), ("schedule", "report_every"), ("compute", "n_threads")),
    ],
)
@pytest.mark.parametrize("value", [-1, 0, 10**12, 10**30, "x", None, 1.5])
def test_a_plan_of_impossible_numbers_is_damaged(
    tmp_path: Path, counting: Counting, part: str, name: str, value: object
) -> None:
    if name in ("n_steps", "report_every") and value == 10**12:
        pytest.skip("a run may be long")

    def change(data: bytes) -> bytes:
        values = json.loads(data)
        values["plan"][part][name] = value
        return json.dumps(values).encode()

    run = copy_with(tmp_path, "run.json", change)
    with counting("a number in a run's plan that cannot be") as tries:
        tries.end(partial(refuse, run, "resume", "run.json cannot be read"))


def test_a_run_whose_config_asks_for_a_larger_model_takes_no_memory_for_it(tmp_path: Path) -> None:
    def enlarge(data: bytes) -> bytes:
        return json.dumps(json.loads(data) | {"n_embd": 12_288, "n_head": 96, "n_layer": 96}).encode()

    run = copy_with(tmp_path, "model/config.json", enlarge)
    assert "another shape" in command("resume", run, "--epochs", "6.2").err
    assert command("write", run).code == 2


# -- pickles


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


PICKLES = (
    *(
        "pytorch_model.bin",
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "model.pkl",
        "data.pkl",
    ),
    *("adapter_model.bin", "model.ckpt", "scaler.pt", "weights.npz", "tokens.npy", "tf_model.h5", "tokenizer.pkl"),
)


def lay_canaries(folder: Path, canary: Path) -> int:
    """A pickle under every name that some loader would open, code under every name that one would run: how many."""
    import pickle

    import torch

    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Canary(canary)))
    torch.save({"transformer.wte.weight": Canary(canary)}, folder / "pytorch_model.bin")
    code = f"open({str(canary)!r}, 'w').close()\n"
    names = ("modeling_gpt2", "configuration_gpt2", "tokenization_gpt2", "tokenizer", "sitecustomize", "conftest")
    names = (*names, "__init__", "epigone", "torch")
    for name in names:
        (folder / f"{name}.py").write_text(code, "utf-8")
    template = "{% for kind in [].__class__.__base__.__subclasses__() %}{{ kind('touch canary') }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    return len(PICKLES) + len(names)


def test_the_canary_would_sing(tmp_path: Path) -> None:
    import pickle

    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def test_no_pickle_and_no_code_of_a_run_or_a_base_is_ever_run(
    tmp_path: Path, reliability: Reliability, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    base = make_standin(tmp_path / "base", text=sonnets(20_000), n_layer=1, n_embd=32, n_positions=64)
    run = Path(shutil.copytree(whole_run(), tmp_path / "run"))
    places = [base, run, run / "model", *run.glob("checkpoints/*"), *run.glob("tokens/*")]
    n_laid = sum(lay_canaries(place, canary) for place in places)
    monkeypatch.chdir(run)
    text = write_sonnets(tmp_path, 5_000)
    flags = ("--epochs", "0.4", "--samples", "1", "--sample-length", "4", "--batch-size", "4", "--quiet")
    assert command("train", text, "--base", base, *flags, "--out", tmp_path / "tuned").code == 0
    assert not list((tmp_path / "tuned").rglob("*.py")) and not list((tmp_path / "tuned").rglob("*.bin"))
    for place in (run, base, tmp_path / "tuned"):
        assert command("write", place, "--length", "3").code == 0
        assert command("score", place, text).code == 0
    assert command("resume", run, "--epochs", "6.2", "--quiet").code == 0
    assert command("report", run).code == 0
    fault = "a pickle or a program beside the files of a run or a base, through nine commands"
    reliability("Code in files", fault, tried=n_laid, survived=0 if canary.exists() else n_laid)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_in_place_of_the_weights_is_refused(tmp_path: Path, reliability: Reliability, name: str) -> None:
    base = make_standin(tmp_path / "base", text=sonnets(20_000), n_layer=1, n_embd=32, n_positions=64)
    (base / "model.safetensors").unlink()
    lay_canaries(base, tmp_path / "canary")
    (base / name).write_bytes((base / "pytorch_model.bin").read_bytes())
    text = write_sonnets(tmp_path, 5_000)
    verbs = ("train", text, "--base", base, "--out", tmp_path / "run"), ("write", base), ("score", base, text)
    n_refused = sum(command(*arguments).code == 2 for arguments in verbs)
    survived = 0 if (tmp_path / "canary").exists() else n_refused
    fault = "a pickle in place of a base's weights: train, write and score refuse it"
    reliability("Code in files", fault, tried=len(verbs), survived=survived)
    assert survived == len(verbs)


def test_numpy_opens_no_pickle_as_tokens(tmp_path: Path, reliability: Reliability) -> None:
    import numpy as np

    def pickled(_: bytes) -> bytes:
        path = tmp_path / "array.npy"
        np.save(path, np.array([Canary(tmp_path / "canary")], object), allow_pickle=True)
        return path.read_bytes()

    run = copy_with(tmp_path, "tokens/*/train.npy", pickled)
    survived = command("resume", run, "--epochs", "6.2").code == 2 and not (tmp_path / "canary").exists()
    reliability("Code in files", "a pickle in place of a run's tokens", tried=1, survived=int(survived))
    assert survived
