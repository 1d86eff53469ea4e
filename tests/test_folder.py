"""A run's folder is taken by one process at a time, never by mistake, and every file in it is whole."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from epigone.errors import OutputError, RunDamaged, RunExists, RunIncompatible, RunLocked, RunNotFound
from epigone.files import flush, hash_file, write_bytes, write_json, write_text, write_whole
from epigone.model.gpt2 import load_weights
from epigone.runs import folder as folder_module
from epigone.runs.folder import RunFolder, name_epoch
from epigone.runs.records import FORMAT
from epigone.settings import TrainSettings
from epigone.training.events import Event, Sample, Sampled, Started
from epigone.training.state import TrainerState
from helpers_plan import change
from helpers_training import are_equal, make_tokens, manifest_for, plan_for, tiny_model

SAMPLES = (Sample(prompt="Thou", text=" art\r\nGröße 🦊", seed=0), Sample(prompt="", text="\ud800", seed=1))
FULL = OSError(errno.ENOSPC, "No space left on device")


def sampled(epoch: float) -> Sampled:
    return Sampled(step=int(epoch * 100), epoch=epoch, samples=SAMPLES)


def started(step: int) -> Started:
    return Started(step=step, n_steps=100, epochs=2.0, resumed=step > 0)


def packed() -> TrainerState:
    tensors = {"a": torch.arange(3.0)}
    return TrainerState(weights=tensors, optimizer={}, random={"cpu": torch.get_rng_state()}, facts={})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


# -- beginning and opening


def test_a_run_is_a_run_once_it_has_a_plan(tmp_path: Path) -> None:
    """Before, training never began, and the folder may be used again."""
    path = tmp_path / "some" / "run"
    folder = RunFolder.create(path)
    assert folder.samples.is_dir() and not RunFolder.is_run(path)
    with pytest.raises(RunNotFound, match="holds no run"):
        RunFolder.open(path)
    folder.write_settings(TrainSettings())
    again = RunFolder.create(path)
    again.write_manifest(manifest_for(plan_for(make_tokens())))
    assert RunFolder.is_run(path) and RunFolder.open(path).path == path


def test_a_run_is_never_begun_over_another(run: RunFolder) -> None:
    run.write_settings(TrainSettings())
    run.write_manifest(manifest_for(plan_for(make_tokens())))
    with pytest.raises(RunExists, match="already holds a run") as caught:
        RunFolder.create(run.path)
    assert f"epigone resume {run.path}" in caught.value.hint and "--out" in caught.value.hint


def test_a_run_is_never_begun_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for name, why in (("folder", "already holds something else"), ("file", "is a file; a run is a folder")):
        with pytest.raises(RunExists, match=why) as caught:
            RunFolder.create(tmp_path / name)
        assert "resume" not in caught.value.hint
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "letter.txt").read_text() == "dear"


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path).samples.is_dir()


def test_where_no_folder_can_be_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be created") as caught:
        RunFolder.create(tmp_path / "file" / "run")
    assert "--out" in caught.value.hint


def test_what_is_not_a_run_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, why in (("nowhere", "does not exist"), ("file", "is not a folder"), (".", "holds no run")):
        with pytest.raises(RunNotFound, match=why) as caught:
            RunFolder.open(tmp_path / name)
        assert "epigone train" in caught.value.hint


# -- the lock


def test_one_at_a_time(run: RunFolder) -> None:
    other = RunFolder(run.path)
    with run.lock(), pytest.raises(RunLocked, match="Another process is working"):
        other.lock()
    with other.lock():
        pass
    with run.lock():
        pass


def test_a_lock_ends_with_its_process_and_not_before(run: RunFolder) -> None:
    code = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held'); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(run.path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline().strip() == b"held"
        with pytest.raises(RunLocked):
            run.lock()
        other.kill()
        other.wait()
        with run.lock():
            pass


def test_what_cannot_be_written_to_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written to"):
        RunFolder(tmp_path / "file" / "run").lock()


# -- what was asked and derived


def test_plan_and_settings_come_back_as_they_were(run: RunFolder) -> None:
    settings = TrainSettings(
        epochs=1.5, schedule="cosine", schedule_arguments=("num_cycles=2",), sample_prompt=("Größe",)
    )
    plan = plan_for(make_tokens(), schedule="cosine", schedule_arguments=("num_cycles=2",), evaluate_every=3)
    run.write_settings(settings)
    run.write_manifest(manifest_for(plan))
    assert run.read_settings() == settings
    assert run.read_manifest() == manifest_for(plan)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"plan": {}}', '{"plan": {"shape": 3}}', "\x00"])
def test_a_damaged_plan_is_named(run: RunFolder, content: str) -> None:
    run.manifest.write_text(content)
    with pytest.raises(RunDamaged, match=r"run\.json cannot be read"):
        run.read_manifest()


# -- what comes while it learns


def test_events_are_kept_and_samples_can_be_read(run: RunFolder) -> None:
    events: list[Event] = [started(0), sampled(1.0), sampled(1.5), Sampled(step=9, epoch=2.0, samples=())]
    for event in events:
        run.record(event)
    assert run.read_events() == tuple(events)
    assert sorted(path.name for path in run.samples.iterdir()) == ["epoch-01.50.txt", "epoch-01.txt"]
    text = (run.samples / "epoch-01.txt").read_bytes().decode("utf-8", "surrogatepass")
    assert text == "--- sample 1\nThou art\r\nGröße 🦊\n\n--- sample 2\n\ud800\n"


@pytest.mark.parametrize(
    ("epoch", "name"),
    [
        (0.0, "00"),
        (0.05, "00.05"),
        (0.999, "01"),
        (1.0, "01"),
        (1.12, "01.12"),
        (9.5, "09.50"),
        (10.0, "10"),
        (120.25, "120.25"),
    ],
)
def test_epochs_sort_by_name(epoch: float, name: str) -> None:
    assert name_epoch(epoch) == name


def test_a_full_disk_is_our_own_error(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(folder_module, "append_event", fail)
    with pytest.raises(OutputError, match=r"metrics\.jsonl cannot be written: No space left"):
        run.record(started(0))


def test_metrics_newer_than_the_checkpoint_come_again(run: RunFolder) -> None:
    run.record(started(0))
    run.save_checkpoint(10, packed())
    run.record(started(10))
    found, broken = run.load_checkpoint()
    assert found is not None and found.weights["a"].tolist() == [0.0, 1.0, 2.0] and broken == ()
    assert run.read_events() == (started(0),)
    run.record(started(11))
    assert run.read_events() == (started(0), started(11))


def test_metrics_go_back_as_far_as_the_checkpoint_that_is_sound(run: RunFolder) -> None:
    for step in (10, 20, 30):
        run.record(started(step))
        run.save_checkpoint(step, packed())
    (run.checkpoints / "step-000030" / "state.json").write_text("{}")
    _, (line,) = run.load_checkpoint()
    assert "step-000030 is damaged" in line
    assert run.read_events() == (started(10), started(20))


def test_without_a_checkpoint_all_metrics_come_again(run: RunFolder) -> None:
    assert run.load_checkpoint() == (None, ())
    run.record(started(0))
    assert run.load_checkpoint() == (None, ()) and run.metrics.read_bytes() == b""


def test_the_best_weights_take_the_place_of_those_before(run: RunFolder) -> None:
    plan = plan_for(make_tokens())
    models = [tiny_model(change(plan, seed=seed)) for seed in (1, 2, 3)]
    for model in models[:2]:
        run.keep_best(model)
    load_weights(models[2], run.model / "model.safetensors")
    assert are_equal(models[2].state_dict(), models[1].state_dict())
    assert [path.name for path in run.model.iterdir()] == ["model.safetensors"]


def test_a_run_can_be_moved(run: RunFolder, tmp_path: Path) -> None:
    run.write_manifest(manifest_for(plan_for(make_tokens())))
    run.record(started(0))
    run.save_checkpoint(1, packed())
    run.path.rename(tmp_path / "elsewhere")
    moved = RunFolder.open(tmp_path / "elsewhere")
    assert moved.load_checkpoint()[0] is not None and moved.read_events() == (started(0),)
    assert str(run.path).encode() not in b"".join(path.read_bytes() for path in moved.path.rglob("*") if path.is_file())


# -- whole files


@pytest.mark.parametrize(
    "error", [FULL, SafetensorError("IoError: full"), PermissionError(errno.EACCES, "Permission denied")]
)
def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, error: Exception) -> None:
    path = write_bytes(tmp_path / "file", b"old")

    def fail(beside: Path) -> None:
        beside.write_bytes(b"half of the n")
        assert path.read_bytes() == b"old"
        raise error

    with pytest.raises(OutputError, match=r"file cannot be written: .*(No space|full|Permission)"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old" and [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_flushed_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bytes(tmp_path / "file", b"old")

    def fail(_: Path) -> None:
        raise FULL

    monkeypatch.setattr("epigone.files.flush", fail)
    with pytest.raises(OutputError):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and [item.name for item in tmp_path.iterdir()] == ["file"]


def test_an_interrupt_while_writing_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "file", b"old")

    def interrupt(beside: Path) -> None:
        beside.write_bytes(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupt)
    assert path.read_bytes() == b"old"
    assert write_bytes(path, b"new").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_files_hold_what_was_written(tmp_path: Path) -> None:
    write_text(tmp_path / "in" / "a.txt", "a\r\nb\n\ud800")
    assert (tmp_path / "in" / "a.txt").read_bytes() == b"a\r\nb\n\xed\xa0\x80"
    write_json(tmp_path / "b.json", {"a": ["Größe"]})
    assert (tmp_path / "b.json").read_text("utf-8") == '{\n  "a": [\n    "Größe"\n  ]\n}\n'


def test_a_file_in_place_of_a_folder_is_our_own_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "a")


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    """The one of FIPS 180-2's first example, and of more than a buffer."""
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(write_bytes(tmp_path / "a", b"abc")) == known
    million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    assert hash_file(write_bytes(tmp_path / "b", b"a" * 1_000_000)) == million


def test_files_and_folders_can_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bytes(tmp_path / "a", b"a")
    flushed: list[int] = []
    monkeypatch.setattr("epigone.files.os.fsync", flushed.append)
    flush(path)
    flush(tmp_path)
    assert len(flushed) == (1 if os.name == "nt" else 2)
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "nothing")


# -- formats of other versions


def write_manifest_values(run: RunFolder, **changes: object) -> None:
    values = manifest_for(plan_for(make_tokens())).as_json() | changes
    run.manifest.write_text(json.dumps(values), "utf-8")


def test_a_run_in_a_newer_format_is_one_error_that_names_the_version_it_needs(run: RunFolder) -> None:
    """Whatever else the newer format holds."""
    write_manifest_values(run, format=FORMAT + 1, versions={"epigone": "9.1"}, something_new=[1])
    for look in (RunFolder.open, lambda path: RunFolder.find(path).read_manifest()):
        with pytest.raises(RunIncompatible, match=f"by epigone 9.1 in format {FORMAT + 1}") as caught:
            look(run.path)
        assert "epigone 9.1 or newer" in caught.value.hint


def test_a_run_in_the_first_format_is_one_error(run: RunFolder) -> None:
    (run.path / "plan.json").write_text("{}")
    with pytest.raises(RunIncompatible, match="older version") as caught:
        RunFolder.open(run.path)
    assert "Train again" in caught.value.hint
    with pytest.raises(RunExists):
        RunFolder.create(run.path)


def test_a_run_in_this_format_is_opened(run: RunFolder) -> None:
    write_manifest_values(run)
    assert RunFolder.open(run.path).read_manifest().format == FORMAT


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("batch", "block_size"), "64", "plan.batch.block_size: Input should be a valid integer"),
        (("schedule", "patience"), 0, "plan.schedule.patience: Input should be greater than or equal to 1"),
        (("schedule", "name"), "sawtooth", "plan.schedule.name: Input should be 'linear'"),
        (("optimizer", "learning_rate"), 0, "plan.optimizer.learning_rate: Input should be greater than 0"),
        (("compute", "magic"), 3, "plan.compute.magic: Unexpected keyword argument"),
        (("model", "shape", "n_layer"), 97, "plan: Value error, there is no model of the shape"),
        (("batch", "batch_size"), 1 << 30, "plan: Value error, a step cannot have"),
    ],
)
def test_a_plan_that_cannot_be_is_damaged_and_the_value_is_named(
    run: RunFolder, place: tuple[str, ...], value: object, said: str
) -> None:
    values = manifest_for(plan_for(make_tokens())).as_json()
    spec = values["plan"]
    for part in place[:-1]:
        spec = spec[part]
    spec[place[-1]] = value
    run.manifest.write_text(json.dumps(values), "utf-8")
    with pytest.raises(RunDamaged, match=re.escape(said)):
        run.read_manifest()


@pytest.mark.parametrize("name", ["tokens", "texts", "estimate", "plan"])
def test_a_manifest_that_lacks_something_is_damaged_and_what_it_lacks_is_named(run: RunFolder, name: str) -> None:
    values = manifest_for(plan_for(make_tokens())).as_json()
    del values[name]
    run.manifest.write_text(json.dumps(values), "utf-8")
    with pytest.raises(RunDamaged, match=f"{name}: Field required"):
        run.read_manifest()


def test_a_file_that_is_open_keeps_its_content_while_another_takes_its_place(tmp_path: Path) -> None:
    """So no reader ever sees a part of the old file and a part of the new one."""
    path = tmp_path / "file.txt"
    write_text(path, "the old content")
    with path.open(encoding="utf-8") as reader:
        write_text(path, "new")
        assert reader.read() == "the old content"
    assert path.read_text("utf-8") == "new" and list(tmp_path.iterdir()) == [path]
