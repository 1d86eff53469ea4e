"""A run that comes from another machine or version continues with what is here, and says what has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Reliability
from epigone import __version__, hardware
from epigone.errors import RunDamaged, RunIncompatible
from epigone.hardware import find_hardware
from epigone.pipeline import list_versions
from epigone.planning.plan import Plan, adapt_to_machine
from epigone.runs.folder import RunFolder
from epigone.runs.records import FORMAT, ModelFacts, read_model_facts
from epigone.settings import TrainSettings
from helpers_faults import copy, find_differences, go_on, plain_pictures, prepared, uninterrupted
from helpers_front import command, shared_run, write_sonnets
from test_damage import stopped

GROUP = "Runs that moved"
Change = Callable[[dict[str, Any]], None]
ELSEWHERE: dict[str, Any] = {
    "machine": "arm64 NEON, 64 cores",
    "n_threads": 64,
    "precision": "bf16",
    "compile": "layers",
}


def change_compute(run: Path, **changes: Any) -> RunFolder:
    """As if the run had been planned on another machine."""
    folder = RunFolder.open(run)
    manifest = folder.read_manifest()
    plan = replace(manifest.plan, compute=replace(manifest.plan.compute, **changes))
    folder.write_manifest(manifest.model_copy(update={"plan": plan}))
    return folder


def adapt(plan: Plan, **settings: Any) -> tuple[Plan, list[str]]:
    notes: list[str] = []
    return adapt_to_machine(plan, TrainSettings(**settings), notes.append), notes


@cache
def own_plan() -> Plan:
    return RunFolder.open(prepared()).read_manifest().plan


def changed(**changes: Any) -> Plan:
    return replace(own_plan(), compute=replace(own_plan().compute, **changes))


# -- another machine


def test_a_run_from_another_machine_is_fitted_to_this_one_with_one_note(
    tmp_path: Path, reliability: Reliability
) -> None:
    """What it then comes to is, bit for bit, what it would have come to here."""
    run = copy(stopped(), tmp_path / "run")
    change_compute(run, **ELSEWHERE)
    with plain_pictures():
        (note,) = go_on(run)
    parts = ("64 cores", "thread instead of 64", "fp32 instead of bf16", "off instead of layers")
    said = all(part in note for part in parts)
    good = said and not find_differences(run, uninterrupted())
    reliability(GROUP, "planned for another machine: threads, precision, compilation", tried=1, survived=int(good))
    assert good, note
    with plain_pictures():
        assert go_on(run) == [], "from now on it is a run of this machine"


def test_on_its_own_machine_a_plan_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of threads torch would take now: the bits depend on it."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: own_plan().compute.n_threads + 1)
    assert adapt(own_plan()) == (own_plan(), [])


def test_more_threads_than_there_are_cores_are_not_used() -> None:
    plan, (note,) = adapt(changed(n_threads=4_096))
    assert plan.compute.n_threads == find_hardware("cpu").n_threads and "instead of 4096" in note


def test_a_missing_device_is_replaced_by_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for settings in ({}, {"device": "cuda"}, {"device": "cuda", "precision": "fp16"}):
        plan, (note,) = adapt(changed(device="cuda", precision="fp16", machine="x86_64, 8 cores, a card"), **settings)
        assert plan.compute.device == "cpu" and plan.compute.precision != "fp16"
        assert "device cpu instead of cuda" in note and "8 cores, a card" in note


def test_without_a_compiler_it_continues_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_has_compiler", lambda: False)
    plan, (note,) = adapt(changed(compile="full"))
    assert plan.compute == replace(own_plan().compute, compile="off") and "compile off instead of full" in note


def test_what_the_user_asked_for_is_kept_elsewhere() -> None:
    plan, _ = adapt(changed(**ELSEWHERE), precision="bf16", device="cpu", compile="off")
    assert (plan.compute.precision, plan.compute.compile) == ("bf16", "off")


# -- other versions


def test_other_versions_are_named_in_one_line(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    folder = RunFolder.open(run)
    manifest = folder.read_manifest()
    versions = manifest.versions | {"torch": "2.4.0", "epigone": "0.0.1", "something": "1"}
    folder.write_manifest(manifest.model_copy(update={"versions": versions}))
    with plain_pictures():
        (note,) = go_on(run)
    here = list_versions()
    assert f"torch 2.4.0 (here {here['torch']})" in note and f"epigone 0.0.1 (here {__version__})" in note
    assert "transformers" not in note and "something" not in note


def add_field(values: dict[str, Any]) -> None:
    values["plan"]["something_new"] = 1
    values["versions"]["epigone"] = "99.1.0"


def drop_field(values: dict[str, Any]) -> None:
    del values["plan"]["optimizer"]["beta2"]
    values["versions"]["epigone"] = "0.0.1"


def raise_format(values: dict[str, Any]) -> None:
    values["format"] = FORMAT + 1
    values["plan"] = {"in another": "shape"}
    values["versions"]["epigone"] = "99.1.0"


def spoil(values: dict[str, Any]) -> None:
    values["plan"]["seed"] = "x"


CHANGES = (add_field, drop_field, raise_format, spoil)


def change_manifest(place: Path, change: Change) -> Path:
    run = Path(shutil.copytree(shared_run().path, place))
    values = json.loads((run / "run.json").read_text("utf-8"))
    change(values)
    RunFolder(run).write_known(run / "run.json", json.dumps(values).encode())
    return run


@pytest.mark.parametrize("change", CHANGES)
def test_writing_and_scoring_do_not_depend_on_the_plan(
    tmp_path: Path, reliability: Reliability, change: Change
) -> None:
    run, text = change_manifest(tmp_path / "run", change), write_sonnets(tmp_path, 600)
    same = []
    for arguments in (
        ("write", run, "--prompt", "From fairest", "--length", "3", "--stop-at", "line"),
        ("score", run, text),
    ):
        expected = command(*(shared_run().path if part == run else part for part in arguments))
        same.append(command(*arguments) == expected)
    reliability(
        GROUP, "a plan of another version, or damaged: write and score do as before", tried=2, survived=sum(same)
    )
    assert all(same)


@pytest.mark.parametrize("change", CHANGES[:3])
@pytest.mark.parametrize("verb", ["resume", "report"])
def test_what_depends_on_the_plan_names_the_version_it_needs(tmp_path: Path, verb: str, change: Change) -> None:
    """And does not send the user to a command that fails in the same way."""
    run = change_manifest(tmp_path / "run", change)
    before = json.loads((run / "run.json").read_text("utf-8"))
    outcome = command(verb, run)
    first, second = outcome.err.splitlines()
    assert outcome.code == 2 and f"epigone {before['versions']['epigone']}" in first and __version__ in first
    assert "pip install" in second and "resume" not in second and "epigone write" in second


def test_a_plan_of_this_version_that_does_not_fit_is_damaged_and_restored(tmp_path: Path) -> None:
    run = change_manifest(tmp_path / "run", spoil)
    with pytest.raises(RunDamaged, match=r"plan\.seed"):
        RunFolder.open(run).read_manifest()
    assert command("resume", run, "--quiet").code == 0
    assert RunFolder.open(run).read_manifest() == RunFolder.open(shared_run().path).read_manifest()


def test_a_run_of_another_version_is_judged(tmp_path: Path) -> None:
    run = change_manifest(tmp_path / "run", add_field)
    before = (run / "report.html").read_bytes()
    outcome = command("judge", run, "--characters", "300")
    assert outcome.code == 0 and (run / "judgement.json").exists(), outcome
    assert (run / "report.html").read_bytes() == before, "the page shows the plan"
    with pytest.raises(RunIncompatible):
        RunFolder.open(run).read_manifest()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"plan": 3}', b"[" * 100_000, b'{"tokens": "../x"}'])
def test_facts_that_are_missing_or_do_not_fit_are_the_usual_ones(data: bytes) -> None:
    assert read_model_facts(data) == ModelFacts()


def test_each_fact_is_taken_for_itself() -> None:
    data = (shared_run().path / "run.json").read_bytes()
    plan = RunFolder.open(shared_run().path).read_manifest().plan
    assert read_model_facts(data) == ModelFacts(
        base=plan.model.base,
        start_text=plan.start_text,
        stop_at=plan.stop_at,
        block_size=plan.batch.block_size,
        precision=plan.compute.precision,
        tokens=json.loads(data)["tokens"],
    )
    values = json.loads(data)
    values["plan"]["batch"]["block_size"] = -1
    assert read_model_facts(json.dumps(values).encode()).block_size is None
    assert read_model_facts(json.dumps(values).encode()).start_text == plan.start_text
