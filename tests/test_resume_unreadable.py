"""What cannot be read now is never called damaged, renamed, restored or trained over: one error, nothing changes."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from conftest import Reliability
from epigone.errors import FileUnreadable
from epigone.run import open_run
from epigone.runs.checkpoints import list_checkpoints
from epigone.runs.folder import RunFolder
from helpers_faults import copy, find_differences, go_on, plain_pictures, prepared, uninterrupted
from helpers_front import hash_tree
from test_damage import flip_a_bit, stopped

GROUP = "Runs of others"
READ_BY_RESUME = (
    *("sums.json", "run.json", "settings.toml", "receipt.json", "metrics.jsonl"),
    *("model/config.json", "model/tokenizer.json", "model/model.safetensors"),
    *("checkpoints/step-*[0-9]/manifest.json", "checkpoints/step-*[0-9]/state.json"),
    *("checkpoints/step-*[0-9]/optimizer.safetensors", "checkpoints/step-*[0-9]/run.json"),
    *("tokens/*/tokens.json", "tokens/*/train.npy"),
)
ERRORS = (errno.EIO, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT)


@contextmanager
def failing(path: Path, number: int, times: float = 1) -> Iterator[None]:
    """The system refuses to open a file, or to list a folder, so many times."""
    left, calls = times, {"io": io.open, "scandir": os.scandir, "listdir": os.listdir}

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def act(name: Any = ".", *arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left > 0 and not isinstance(name, int) and Path(os.fsdecode(name)) == path:
                left -= 1
                raise OSError(number, os.strerror(number), str(path))
            return original(name, *arguments, **more)

        return act

    with (
        mock.patch("io.open", wrap(calls["io"])),
        mock.patch("os.scandir", wrap(calls["scandir"])),
        mock.patch("os.listdir", wrap(calls["listdir"])),
    ):
        yield
    assert left < times, "it was not read"


def newest(run: Path, name: str) -> Path:
    return sorted(run.glob(name))[-1]


def test_no_file_that_cannot_be_read_for_a_moment_is_taken_for_damaged(
    tmp_path: Path, reliability: Reliability
) -> None:
    """Whichever it is: one error, nothing changes but that newer lines of metrics are cut, and then it goes on."""
    wrong = []
    for number, name in enumerate(READ_BY_RESUME):
        run = copy(stopped(), tmp_path / str(number))
        before, path = hash_tree(run), newest(run, name)
        with failing(path, ERRORS[number % len(ERRORS)]), pytest.raises(FileUnreadable) as caught:
            go_on(run)
        same = {name for name in before if hash_tree(run).get(name) != before[name]} <= {"metrics.jsonl"}
        said = f"{path} cannot be read now" in str(caught.value) and "Nothing was lost" in caught.value.hint
        wrong += [] if same and said else [name]
    with plain_pictures():
        assert not go_on(run), "nothing is damaged"
    assert not find_differences(run, uninterrupted())
    fault = "a file that cannot be read for a moment (EIO, EACCES, ESTALE, ETIMEDOUT): not restored, not trained over"
    reliability(GROUP, fault, tried=len(READ_BY_RESUME), survived=len(READ_BY_RESUME) - len(wrong))
    assert not wrong


@pytest.mark.parametrize("number", ERRORS)
def test_the_only_checkpoint_that_cannot_be_read_stays_and_so_does_the_model(tmp_path: Path, number: int) -> None:
    run = copy(stopped(), tmp_path / "run")
    only, *others = list_checkpoints(run / "checkpoints")
    for other in others:
        shutil.rmtree(other)
    before = hash_tree(run)
    with failing(only / "generation_config.json", number), pytest.raises(FileUnreadable, match="cannot be read now"):
        go_on(run)
    assert hash_tree(run) == before


def test_a_newest_checkpoint_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    """What to do where it stays so is said: an older one is there."""
    run = copy(stopped(), tmp_path / "run")
    first, *_ = list_checkpoints(run / "checkpoints")
    before = hash_tree(run)
    with failing(first / "manifest.json", errno.EIO), pytest.raises(FileUnreadable) as caught:
        go_on(run)
    assert hash_tree(run) == before and f"move {first} out of the run" in caught.value.hint
    first.rename(tmp_path / "moved")
    with plain_pictures():
        go_on(run)
    assert not find_differences(run, uninterrupted())


def test_a_damaged_one_is_not_renamed_where_the_next_cannot_be_read(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    first, second, *_ = list_checkpoints(run / "checkpoints")
    flip_a_bit(first / "weights.safetensors")
    before = hash_tree(run)
    with failing(second / "weights.safetensors", errno.EIO), pytest.raises(FileUnreadable):
        go_on(run)
    assert hash_tree(run) == before


@pytest.mark.parametrize("name", ["checkpoints", "tokens"])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(tmp_path: Path, name: str) -> None:
    run = copy(stopped(), tmp_path / "run")
    before = hash_tree(run)
    with failing(run / name, errno.EACCES, times=9), pytest.raises(FileUnreadable, match=f"{name} cannot be read now"):
        go_on(run)
    assert hash_tree(run) == before


@pytest.mark.parametrize("name", ["model/generation_config.json", "model/tokenizer.json", "run.json"])
def test_a_model_that_cannot_be_read_now_is_not_used_otherwise(tmp_path: Path, name: str) -> None:
    """Nor called damaged: its temperature could not be known."""
    run = copy(uninterrupted(), tmp_path / "run")
    with failing(run / name, errno.EACCES), pytest.raises(FileUnreadable) as caught:
        open_run(run).write(length=2)
    assert "Get permission" in caught.value.hint


# -- another user


def as_another_user(act: Callable[[], str]) -> str:
    """What `act` returns, in a process of a user without rights, if these tests have the rights to make one."""
    if os.geteuid() != 0:
        return act()

    def work() -> None:
        os.setgroups([])
        os.setgid(65_534)
        os.setuid(65_534)
        sender.send(act())

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    sender.close()
    said: str = receiver.recv() if receiver.poll(60) else "no answer"
    process.join()
    return said


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that any user may enter and write to."""
    with tempfile.TemporaryDirectory(prefix="epigone-public-") as name:
        Path(name).chmod(0o777)
        monkeypatch.chdir(name)
        yield Path(name)


@pytest.mark.skipif(os.name == "nt", reason="permissions as Unix has them")
@pytest.mark.parametrize("closed", ["checkpoints/step-*[0-9]/optimizer.safetensors", "checkpoints", "model", "."])
def test_another_user_who_may_not_read_everything_changes_nothing(
    public: Path, reliability: Reliability, closed: str
) -> None:
    """The permissions themselves, and not a stand-in for them, with a single checkpoint that anyone may rename."""
    run = copy(stopped(), public / "run")
    for other in list_checkpoints(run / "checkpoints")[1:]:
        shutil.rmtree(other)
    for path in (run, *run.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    path, before = newest(run, closed) if closed != "." else run, hash_tree(run)
    path.chmod(0)

    def try_to_go_on() -> str:
        try:
            go_on(run)
        except FileUnreadable as error:
            return f"{error} {error.hint}"
        return "it went on"

    said = as_another_user(try_to_go_on)
    path.chmod(0o777 if path.is_dir() else 0o666)
    good = "cannot be read now: Permission denied" in said and "Get permission" in said and hash_tree(run) == before
    reliability(GROUP, "another user may not read a part of it: one error, nothing changed", tried=1, survived=good)
    assert good, said


# -- a checkpoint that was read and is damaged


def test_the_model_is_kept_where_training_starts_again_over_it(tmp_path: Path) -> None:
    run, calls = copy(prepared(), tmp_path / "run"), count()
    with plain_pictures():
        go_on(run, should_stop=lambda: next(calls) >= 7)
        (only,) = list_checkpoints(run / "checkpoints")
        flip_a_bit(only / "weights.safetensors")
        before = hash_tree(run / "model")
        calls = count()
        notes = go_on(run, should_stop=lambda: next(calls) >= 1)
    assert "model/model.safetensors" in {f"model/{name}" for name in before}
    assert hash_tree(run / "model.old") == before and any("the model so far is kept in" in note for note in notes)
    with plain_pictures():
        go_on(run)
    assert hash_tree(run / "model.old") == before and not find_differences(run, uninterrupted())
    assert open_run(run).write(length=2) and RunFolder.open(run).path == run
