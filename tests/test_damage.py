"""Whatever file of a run is torn, zeroed, changed, missing or swapped: it goes on to the same end and names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

import pytest

from conftest import Reliability
from epigone.errors import RunDamaged
from epigone.resumption import resume_training
from epigone.run import open_run
from epigone.runs.checkpoints import list_checkpoints
from epigone.runs.folder import RunFolder
from helpers_faults import copy, find_differences, go_on, plain_pictures, prepared, uninterrupted
from helpers_front import command, hash_one, hash_tree, workshop

GROUP = "Damaged files"
Damage = Callable[[Path], None]
PATTERN = "step-*[0-9]"


# -- what is done to a file


def tear(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def zero(path: Path) -> None:
    """What some file systems leave after the power went."""
    path.write_bytes(bytes(path.stat().st_size))


def zero_the_end(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def delete(path: Path) -> None:
    path.unlink()


def swap(path: Path) -> None:
    """With its neighbour. Files swapped between all checkpoints there are would break them all."""
    other = next(one for one in sorted(path.parent.iterdir()) if one.is_file() and one != path)
    ours, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(ours)


DAMAGES: tuple[Damage, ...] = (tear, zero, zero_the_end, empty, flip_a_bit, delete, swap)
IN_CHECKPOINT = ("weights", "optimizer", "random")
FILES = {
    "a checkpoint": (
        *(f"{PATTERN}/{name}.safetensors" for name in IN_CHECKPOINT),
        *(f"{PATTERN}/{name}" for name in ("state.json", "manifest.json", "metrics.jsonl", "run.json", "config.json")),
    ),
    "model/": tuple(
        f"model/{name}"
        for name in (
            *("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"),
            "generation_config.json",
        )
    ),
    "the run's own": ("metrics.jsonl", "run.json", "settings.toml", "receipt.json", "sums.json"),
}
CASES = [(place, name, damage) for place, names in FILES.items() for name in names for damage in DAMAGES]


@cache
def stopped(n_steps: int = 16) -> Path:
    """A run with three checkpoints, the newest in the middle of an epoch: what it lost there it learns again."""
    run, calls = copy(prepared(), workshop() / "faults" / f"stopped-{n_steps}"), count()
    with plain_pictures():
        go_on(run, should_stop=lambda: next(calls) >= n_steps)
    return run


def find(run: Path, name: str) -> Path:
    if not name.startswith(PATTERN):
        return run / name
    return list_checkpoints(run / "checkpoints")[0] / Path(name).name


def damage_and_go_on(place: Path, name: str, damage: Damage) -> tuple[list[str], list[str]]:
    """In what it differs at the end, and what was noted."""
    run = copy(stopped(), place)
    damage(find(run, name))
    with plain_pictures():
        notes = go_on(run)
    differences = find_differences(run, uninterrupted())
    shutil.rmtree(run)
    return differences, notes


@pytest.mark.parametrize(
    ("name", "damage", "remedy"),
    [
        (f"{PATTERN}/optimizer.safetensors", zero_the_end, "step-000016.broken"),
        ("model/model.safetensors", flip_a_bit, "from the checkpoint of step 13"),
        ("model/tokenizer.json", tear, "from step-000016"),
        ("metrics.jsonl", tear, "from step-000016"),
        ("run.json", zero, "from step-000016"),
    ],
)
def test_some_damage_is_mended_and_named(tmp_path: Path, name: str, damage: Damage, remedy: str) -> None:
    differences, notes = damage_and_go_on(tmp_path / "run", name, damage)
    assert not differences
    assert Path(name).name in notes[0] and remedy in notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("place", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_any_damage_is_mended(tmp_path: Path, reliability: Reliability, place: str, damage: Damage) -> None:
    wrong = []
    for name in FILES[place]:
        differences, _ = damage_and_go_on(tmp_path / "run", name, damage)
        wrong += [name] if differences else []
    fault = f"a file of {place} {SAID[damage]}"
    n_tried = len(FILES[place])
    lost = "what came after the checkpoint before" if place == "a checkpoint" else "nothing"
    reliability(GROUP, fault, tried=n_tried, survived=n_tried - len(wrong), lost=lost)
    assert not wrong


SAID = {
    tear: "torn",
    zero: "zeroed",
    zero_the_end: "zeroed from its middle on",
    empty: "emptied",
    flip_a_bit: "with a bit flipped",
    delete: "missing",
    swap: "swapped with another",
}


# -- what cannot be mended is named


def test_the_best_model_comes_back_even_when_newer_checkpoints_took_its_place(tmp_path: Path) -> None:
    """The best epoch's checkpoint stays as long as it is that."""
    run = copy(stopped(), tmp_path / "run")
    newest = list_checkpoints(run / "checkpoints")[0]
    facts = json.loads((newest / "state.json").read_text("utf-8"))["progress"]
    before = hash_one(run / "model" / "model.safetensors")
    assert facts["best_step"] < facts["step"]
    flip_a_bit(run / "model" / "model.safetensors")
    with pytest.raises(RunDamaged, match=r"model/model\.safetensors is not what was written") as caught:
        open_run(run).write(length=2)
    assert f"epigone resume {run}" in caught.value.hint
    calls = count()
    with plain_pictures():
        notes = go_on(run, should_stop=lambda: next(calls) >= 0)
    assert any(f"taken from the checkpoint of step {facts['best_step']}" in note for note in notes)
    assert hash_one(run / "model" / "model.safetensors") == before and open_run(run).write(length=2)


def test_where_the_best_model_and_its_checkpoint_are_lost_the_next_best_is_kept(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    newest, *older = list_checkpoints(run / "checkpoints")
    for checkpoint in older:
        shutil.rmtree(checkpoint)
    tear(run / "model" / "model.safetensors")
    with plain_pictures():
        notes = go_on(run)
    assert any("no checkpoint of step" in note for note in notes) and newest.exists()
    assert open_run(run).write(length=2) and open_run(run).best is not None


@pytest.mark.parametrize("name", ["run.json", "receipt.json", "settings.toml", "model/tokenizer.json"])
def test_before_the_first_checkpoint_damage_is_one_clear_error(tmp_path: Path, name: str) -> None:
    run = copy(prepared(), tmp_path / "run")
    tear(run / name)
    outcome = command("resume", run, "--quiet")
    assert outcome.code == 2 and Path(name).name in outcome.err and "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) <= 2


def test_damaged_tokens_are_one_clear_error(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    flip_a_bit(next((run / "tokens").rglob("train.npy")))
    outcome = command("resume", run, "--quiet")
    assert outcome.code == 2 and "train.npy is not what was written" in outcome.err


def test_a_damaged_frame_is_built_again_where_nothing_was_learned_yet(tmp_path: Path) -> None:
    run = copy(prepared(), tmp_path / "run")
    (run / "model" / "config.json").unlink()
    with plain_pictures():
        go_on(run)
    assert not find_differences(run, uninterrupted())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    plan = RunFolder(run).read_manifest().plan
    (checkpoint := run / "checkpoints").rename(tmp_path / "aside")
    other = copy(stopped(), tmp_path / "other")
    shape = json.loads((other / "run.json").read_text("utf-8"))
    shape["plan"]["model"]["shape"]["n_embd"] *= 2
    assert plan.model.shape.n_embd * 2 == shape["plan"]["model"]["shape"]["n_embd"]
    (tmp_path / "aside").rename(checkpoint)
    config = json.loads((run / "model" / "config.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps(shape), "utf-8")
    (run / "model" / "config.json").write_text(json.dumps(config | {"n_embd": 2 * config["n_embd"]}), "utf-8")
    (run / "sums.json").unlink()
    with pytest.raises(RunDamaged, match="is of another run"):
        list(resume_training(run, {}))


# -- the only checkpoint


def test_the_only_checkpoint_broken_early_costs_no_more_than_it_held(tmp_path: Path, reliability: Reliability) -> None:
    run, calls = copy(prepared(), tmp_path / "run"), count()
    with plain_pictures():
        go_on(run, should_stop=lambda: next(calls) >= 3)
        (only,) = list_checkpoints(run / "checkpoints")
        flip_a_bit(only / "weights.safetensors")
        notes = go_on(run)
    differences = find_differences(run, uninterrupted())
    reliability(
        GROUP, "the only checkpoint broken", tried=1, survived=int(not differences), lost="what that checkpoint held"
    )
    assert not differences and "is damaged" in notes[0] and (run / "checkpoints" / f"{only.name}.broken").exists()


def test_a_run_whose_checkpoints_were_deleted_keeps_its_model(tmp_path: Path) -> None:
    """Beginning again would put a worse one in its place."""
    run = copy(uninterrupted(), tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    before = hash_tree(run)
    with pytest.raises(RunDamaged, match="had 3 evaluations and has no checkpoint left"):
        go_on(run)
    assert hash_tree(run) == before and open_run(run).write(length=2)


def test_damage_leaves_the_other_files_alone(tmp_path: Path) -> None:
    """Mending touches what is damaged and nothing else."""
    run = copy(stopped(), tmp_path / "run")
    before = hash_tree(run)
    tear(run / "receipt.json")
    folder = RunFolder.open(run)
    _, (line,) = folder.load_checkpoint()
    assert "receipt.json is not what was written; restored from step-" in line
    after = hash_tree(run)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= {"metrics.jsonl"}
