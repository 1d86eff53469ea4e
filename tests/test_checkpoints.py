"""A checkpoint counts when every hash matches; whatever breaks, a sound one is found or the damage is named."""

from __future__ import annotations

import errno
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from epigone.errors import OutputError, RunDamaged
from epigone.runs import checkpoints
from epigone.runs.checkpoints import find_checkpoint, find_fault, list_checkpoints, load_checkpoint, save_checkpoint
from epigone.training import distributed
from epigone.training.state import TrainerState
from helpers_faults import watch_files
from helpers_front import hash_tree
from helpers_training import are_equal

FILES = ("weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json", "manifest.json")
TENSOR_FILES = [name for name in FILES if name.endswith(".safetensors")]


def make_packed(step: int = 1) -> TrainerState:
    """Tensors of every kind that a learner has, others for another step."""
    generator = torch.Generator().manual_seed(step)
    return TrainerState(
        weights={"a.weight": torch.randn(6, 4, generator=generator), "a.bias": torch.randn(4, generator=generator)},
        optimizer={
            "a.weight:step": torch.tensor(float(step)),
            "a.weight:exp_avg": torch.randn(6, 4, generator=generator).to(torch.bfloat16),
            "a.bias:exp_avg": torch.randn(4, generator=generator).double(),
        },
        random={"cpu": torch.randint(256, (50,), generator=generator, dtype=torch.uint8)},
        facts={"progress": {"step": step, "best_loss": math.inf, "losses": [0.1, 2 / 3]}, "rate": {}, "name": "Größe"},
    )


def save(folder: Path, *steps: int) -> list[Path]:
    return [save_checkpoint(folder, step, make_packed(step), {"metrics_size_bytes": step}) for step in steps]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 0b100
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_something_else(path: Path) -> None:
    path.write_text("[1, 2]")


DAMAGES: list[Callable[[Path], None]] = [flip_a_bit, cut_short, empty, write_something_else, Path.unlink]


# -- there and back


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    packed = make_packed()
    loaded = load_checkpoint(save_checkpoint(tmp_path / "new" / "folder", 7, packed, {"metrics_size_bytes": 12}))
    for name in ("weights", "optimizer", "random"):
        ours, theirs = getattr(loaded, name), getattr(packed, name)
        assert are_equal(ours, theirs)
        assert [tensor.dtype for tensor in ours.values()] == [theirs[key].dtype for key in ours]
    assert loaded.facts == packed.facts | {"metrics_size_bytes": 12}


def test_a_learner_that_never_took_a_step_can_be_saved(tmp_path: Path) -> None:
    packed = replace(make_packed(), optimizer={})
    assert not load_checkpoint(save_checkpoint(tmp_path, 0, packed, {})).optimizer


def test_a_checkpoint_is_tensors_and_json(tmp_path: Path) -> None:
    """Nothing in it can run code: safetensors begin with the length of a header in JSON."""
    (place,) = save(tmp_path, 3)
    assert sorted(path.name for path in place.iterdir()) == sorted(FILES)
    for path in place.iterdir():
        content = path.read_bytes()
        header = content[8 : 8 + int.from_bytes(content[:8], "little")] if path.suffix == ".safetensors" else content
        assert isinstance(json.loads(header), dict)
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_its_sums_are_those_that_anybody_finds(tmp_path: Path) -> None:
    (place,) = save(tmp_path, 3)
    listed = json.loads((place / "manifest.json").read_text("utf-8"))["files"]
    sums = hash_tree(place)
    sums.pop("manifest.json")
    assert {name: facts["sha256"] for name, facts in listed.items()} == sums
    assert {name: facts["size_bytes"] for name, facts in listed.items()} == {
        name: (place / name).stat().st_size for name in sums
    }


# -- damage


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    (place,) = save(tmp_path, 3)
    assert find_fault(place) is None
    damage(place / name)
    fault = find_fault(place)
    assert fault is not None
    if damage is Path.unlink:
        assert fault == f"{name} is missing"
    elif name != "manifest.json":
        assert fault == f"{name} is not what was written"


@pytest.mark.parametrize("place", range(0, 100, 9))
def test_one_bit_anywhere_is_enough(tmp_path: Path, place: int) -> None:
    (checkpoint,) = save(tmp_path, 3)
    file = checkpoint / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1 - place] ^= 1
    file.write_bytes(content)
    assert find_fault(checkpoint) == "weights.safetensors is not what was written"


@pytest.mark.parametrize("name", FILES)
def test_the_one_before_is_used_and_the_broken_one_set_aside(tmp_path: Path, name: str) -> None:
    older, newer = save(tmp_path, 3, 6)
    flip_a_bit(newer / name)
    found, (line,) = find_checkpoint(tmp_path)
    assert found == older and load_checkpoint(older).facts["progress"]["step"] == 3
    assert line.startswith("step-000006 is damaged (") and line.endswith("was renamed to step-000006.broken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000006.broken"]
    assert find_checkpoint(tmp_path) == (older, ())


def test_a_second_broken_one_of_the_same_step_does_not_take_its_place(tmp_path: Path) -> None:
    save(tmp_path, 3)
    for _ in range(3):
        (newer,) = save(tmp_path, 6)
        flip_a_bit(newer / "state.json")
        find_checkpoint(tmp_path)
    aside = [path.name for path in tmp_path.iterdir() if ".broken" in path.name]
    assert sorted(aside) == ["step-000006.broken", "step-000006.broken+", "step-000006.broken++"]


def test_a_broken_one_gives_way_when_its_step_is_saved_again(tmp_path: Path) -> None:
    (place,) = save(tmp_path, 6)
    flip_a_bit(place / "random.safetensors")
    assert save(tmp_path, 6) == [place]
    assert find_fault(place) is None and (tmp_path / "step-000006.broken").exists()


def test_if_all_are_broken_it_says_so_and_touches_none(tmp_path: Path) -> None:
    older, newer = save(tmp_path, 3, 6)
    flip_a_bit(older / "weights.safetensors")
    (newer / "manifest.json").unlink()
    before = hash_tree(tmp_path)
    with pytest.raises(RunDamaged) as caught:
        find_checkpoint(tmp_path)
    assert "step-000003: weights.safetensors is not what was written" in str(caught.value)
    assert "step-000006: manifest.json is missing" in str(caught.value)
    assert "epigone write" in caught.value.hint and hash_tree(tmp_path) == before


@pytest.mark.parametrize("name", [*TENSOR_FILES, "state.json"])
@pytest.mark.parametrize("damage", [cut_short, empty, Path.unlink], ids=lambda damage: damage.__name__)
def test_loading_what_breaks_later_is_our_own_error(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    (place,) = save(tmp_path, 3)
    damage(place / name)
    with pytest.raises(RunDamaged, match="step-000003 cannot be read"):
        load_checkpoint(place)


# -- which one


def test_where_none_was_written_there_is_none(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "nowhere") == (None, ())
    assert find_checkpoint(tmp_path) == (None, ())


def test_one_that_was_being_written_is_passed_over_and_written_again(tmp_path: Path) -> None:
    (sound,) = save(tmp_path, 3)
    half = tmp_path / "step-000006.partial"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half of it")
    assert find_checkpoint(tmp_path) == (sound, ())
    assert list_checkpoints(tmp_path) == [sound]
    assert find_fault(*save(tmp_path, 6)) is None and not half.exists()


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 2, 9, 10, 11, 100)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000100", "step-000011"]
    assert len(list(tmp_path.iterdir())) == 2


def test_past_a_million_steps_the_newest_is_still_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 999_998, 999_999, 1_000_000, 12_000_000)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-12000000", "step-1000000"]
    found, _ = find_checkpoint(tmp_path)
    assert found is not None and load_checkpoint(found).facts["progress"]["step"] == 12_000_000
    assert len(list(tmp_path.iterdir())) == 2


def test_the_same_step_is_not_written_twice_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt just after an evaluation asks for what was just saved."""
    (place,) = save(tmp_path, 3)
    monkeypatch.setattr(checkpoints, "save_file", lambda *_: pytest.fail("it was written again"))
    assert save(tmp_path, 3) == [place]


def test_a_later_state_of_the_same_step_takes_its_place(tmp_path: Path) -> None:
    """It was saved, evaluated after a resume, and the evaluation must not be forgotten."""
    save(tmp_path, 1, 3)
    later = make_packed(3)
    later.facts["progress"]["best_loss"] = 1.5
    place = save_checkpoint(tmp_path, 3, later, {"metrics_size_bytes": 400})
    assert find_fault(place) is None
    assert load_checkpoint(place).facts == later.facts | {"metrics_size_bytes": 400}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000003"]


# -- a disk that fails


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("IoError: full")])
@pytest.mark.parametrize("name", TENSOR_FILES)
def test_on_a_full_disk_the_ones_before_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    older = save(tmp_path, 3, 6)
    before = [hash_tree(place) for place in older]

    def save_until_full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name == name:
            path.write_bytes(b"half of it")
            raise error
        save_file(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", save_until_full)
    with pytest.raises(OutputError, match=r"step-000009 cannot be written: .*(full|No space)") as caught:
        save(tmp_path, 9)
    assert "epigone resume" in caught.value.hint
    assert [hash_tree(place) for place in older] == before
    assert find_checkpoint(tmp_path) == (older[1], ())
    monkeypatch.setattr(checkpoints, "save_file", save_file)
    assert find_checkpoint(tmp_path)[0] == older[1]
    assert save(tmp_path, 9) == [find_checkpoint(tmp_path)[0]], "with room again it goes on"


def test_old_ones_go_only_when_the_new_one_is_known_to_be_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that spoils the new one at the moment it is put in place."""
    older = save(tmp_path, 3, 6)

    def flush_and_spoil(path: Path) -> None:
        if path == tmp_path:
            flip_a_bit(tmp_path / "step-000009" / "weights.safetensors")

    monkeypatch.setattr(checkpoints, "flush", flush_and_spoil)
    with pytest.raises(OutputError, match=r"step-000009 was not written correctly: weights\.safetensors"):
        save(tmp_path, 9)
    assert all(find_fault(place) is None for place in older)
    assert find_checkpoint(tmp_path)[0] == older[1]


def test_every_file_is_flushed_before_the_manifest_vouches_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def watch(path: Path) -> None:
        assert not (path.parent / "manifest.json").exists()
        flushed.append(path.name)

    monkeypatch.setattr(checkpoints, "flush", watch)
    save(tmp_path, 3)
    assert sorted(flushed[:-1]) == sorted(set(FILES) - {"manifest.json"})
    assert flushed[-1] == tmp_path.name, "and the folder when its new name is in it"


def test_the_manifest_comes_last_then_the_name_then_the_check_and_only_then_an_older_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 3, 6)
    done: list[str] = []
    verify = checkpoints._verify

    def verify_and_tell(checkpoint: Path, packed: TrainerState) -> None:
        done.append(f"check {checkpoint.name}")
        verify(checkpoint, packed)

    def see(what: str, path: Path) -> None:
        if what.startswith("after") and path.name not in ("", tmp_path.name):
            done.append(f"{what.removeprefix('after ')} {path.name}")

    monkeypatch.setattr(checkpoints, "_verify", verify_and_tell)
    with watch_files(see):
        save(tmp_path, 9)
    manifest, named = done.index("rename manifest.json"), done.index("rename step-000009.partial")
    checked, gone = done.index("check step-000009"), done.index("rename step-000003")
    assert manifest < named < checked < gone
    made = [number for number, what in enumerate(done) if what.startswith(("save", "write")) and "manifest" not in what]
    assert made and max(made) < manifest, done


# -- in parts, by all processes that divide the model

N_PARTS = 3
PART_FILES = [f"{kind}-0000{part}-of-00003.safetensors" for kind in ("weights", "optimizer") for part in (1, 2, 3)]


def divide(whole: TrainerState, part: int) -> TrainerState:
    """The rows of one process; what has none, like a number, is the first one's."""
    kinds = {}
    for kind in ("weights", "optimizer"):
        tensors = {name: tensor for name, tensor in getattr(whole, kind).items() if tensor.dim() or part == 0}
        rows = {name: tensor.chunk(N_PARTS) if tensor.dim() else (tensor,) for name, tensor in tensors.items()}
        kinds[kind] = {name: found[part].contiguous() for name, found in rows.items() if part < len(found)}
    return replace(whole, **kinds, part=part, n_parts=N_PARTS)


class Threads:
    """Processes that write a checkpoint together, each a thread here, and the store in which they meet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.store, self.changed = threading.local(), dict[tuple[int, int], str](), threading.Condition()
        self.has_failed = False
        monkeypatch.setattr(distributed, "gather_strings", self.gather)

    def gather(self, value: str) -> list[str]:
        number = self.own.number = self.own.number + 1
        keys = [(number, part) for part in range(N_PARTS)]
        with self.changed:
            self.store[number, self.own.part] = value
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.has_failed or all(key in self.store for key in keys), 10)
            return [self.store[key] for key in keys]  # KeyError: another one failed, which ends the others

    def save(self, folder: Path, step: int) -> list[BaseException | None]:
        """What each came to."""
        self.store.clear()
        self.has_failed = False

        def work(part: int) -> None:
            self.own.part, self.own.number = part, 0
            try:
                save_checkpoint(folder, step, divide(make_packed(step), part), {"metrics_size_bytes": step})
            except BaseException:
                with self.changed:
                    self.has_failed = True
                    self.changed.notify_all()
                raise

        with ThreadPoolExecutor(N_PARTS) as threads:
            outcomes = [threads.submit(work, part) for part in range(N_PARTS)]
            return [outcome.exception() for outcome in outcomes]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Threads:
    return Threads(monkeypatch)


def test_what_several_wrote_is_loaded_whole(tmp_path: Path, together: Threads) -> None:
    assert together.save(tmp_path, 7) == [None] * N_PARTS
    (place,) = list_checkpoints(tmp_path)
    names = sorted(path.name for path in place.iterdir())
    assert names == sorted([*PART_FILES, "random.safetensors", "state.json", "manifest.json"])
    loaded, whole = load_checkpoint(place), make_packed(7)
    for kind in ("weights", "optimizer", "random"):
        assert are_equal(getattr(loaded, kind), getattr(whole, kind))
    assert loaded.facts == whole.facts | {"metrics_size_bytes": 7} and loaded.n_parts == 1


@pytest.mark.parametrize("name", [*PART_FILES, "random.safetensors", "state.json", "manifest.json"])
def test_damage_of_any_part_is_found_and_the_one_before_used(tmp_path: Path, together: Threads, name: str) -> None:
    together.save(tmp_path, 3)
    together.save(tmp_path, 6)
    newer, older = list_checkpoints(tmp_path)
    flip_a_bit(newer / name)
    found, (line,) = find_checkpoint(tmp_path)
    assert found == older and line.startswith("step-000006 is damaged (")


@pytest.mark.parametrize("n_parts", [0, -1, "3", None, 4, 2])
def test_a_wrong_number_of_parts_is_damage(tmp_path: Path, together: Threads, n_parts: object) -> None:
    together.save(tmp_path, 3)
    (place,) = list_checkpoints(tmp_path)
    manifest = json.loads((place / "manifest.json").read_text("utf-8"))
    (place / "manifest.json").write_text(json.dumps(manifest | {"parts": n_parts}), "utf-8")
    assert find_fault(place) is not None
    with pytest.raises(RunDamaged, match="cannot be read"):
        load_checkpoint(place)


@pytest.mark.parametrize("name", PART_FILES)
def test_where_one_cannot_write_its_part_the_ones_before_stay(
    tmp_path: Path, together: Threads, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    together.save(tmp_path, 3)
    before = hash_tree(tmp_path)

    def save_until_full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name == name:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", save_until_full)
    outcomes = together.save(tmp_path, 6)
    assert any(isinstance(error, OutputError) and "No space left" in str(error) for error in outcomes)
    assert all(outcomes) and find_checkpoint(tmp_path) == (tmp_path / "step-000003", ())
    assert {name: found for name, found in hash_tree(tmp_path).items() if ".partial" not in name} == before
    monkeypatch.setattr(checkpoints, "save_file", save_file)
    assert together.save(tmp_path, 6) == [None] * N_PARTS and len(list(tmp_path.iterdir())) == 2


def test_a_part_that_a_disk_spoils_is_noticed_by_all_before_an_older_checkpoint_goes(
    tmp_path: Path, together: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (3, 6):
        together.save(tmp_path, step)

    def flush_and_spoil(path: Path) -> None:
        if path == tmp_path:
            flip_a_bit(tmp_path / "step-000009" / PART_FILES[-1])

    monkeypatch.setattr(checkpoints, "flush", flush_and_spoil)
    outcomes = together.save(tmp_path, 9)
    assert all(
        isinstance(one, OutputError) and f"{PART_FILES[-1]} is not what was written" in str(one) for one in outcomes
    )
    assert find_checkpoint(tmp_path)[0] == tmp_path / "step-000006" and find_fault(tmp_path / "step-000003") is None


def test_what_several_wrote_is_not_written_again_for_nothing(
    tmp_path: Path, together: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    together.save(tmp_path, 3)
    monkeypatch.setattr(checkpoints, "save_file", lambda *_: pytest.fail("it was written again"))
    assert together.save(tmp_path, 3) == [None] * N_PARTS
