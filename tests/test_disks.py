"""A full, read-only, vanishing or moved place is one clear error; with it back the run goes on to the same end."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from conftest import Reliability
from epigone import pipeline
from epigone.errors import EpigoneError, OutputError
from epigone.runs.checkpoints import save_checkpoint
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from helpers_faults import (
    HOW,
    act_at,
    copy,
    find_differences,
    go_on,
    list_sound,
    plain_pictures,
    prepared,
    uninterrupted,
    watch_files,
)
from helpers_front import hash_tree, prepare_run, write_sonnets
from test_checkpoints import make_packed

DISKS, OTHERS = "Disks", "Others at work"


# -- a full disk


class Full:
    """A disk that is full from some operation on a file on, until there is room again."""

    def __init__(self, at: int, run: Path) -> None:
        self.at, self.run, self.n_seen = at, run, 0
        self.sound: list[str] = []

    def see(self, what: str, path: Path) -> None:
        if what.startswith("after") or what.endswith(("delete", "rename")):
            return  # these need no room
        self.n_seen += 1
        if self.n_seen == self.at + 1:
            self.sound = list_sound(self.run)
        if self.n_seen > self.at:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))


def fill_and_go_on(run: Path, at: int) -> str:
    """Learn until the disk is full, make room, go on: what went wrong, if anything."""
    full = Full(at, run)
    with plain_pictures():
        try:
            with watch_files(full.see):
                go_on(run)
        except OutputError as error:
            assert error.hint and "\n" not in str(error)
        else:
            assert full.n_seen <= at
        assert set(full.sound) <= set(list_sound(run)), "a good checkpoint was lost"
        go_on(run)
    return ", ".join(find_differences(run, uninterrupted()))


@pytest.mark.parametrize("at", [30, 200])
def test_on_a_full_disk_it_stops_and_with_room_it_goes_on(tmp_path: Path, at: int) -> None:
    assert not fill_and_go_on(copy(prepared(), tmp_path / "run"), at)


@pytest.mark.slow
def test_wherever_the_disk_is_full_nothing_is_lost(tmp_path: Path, reliability: Reliability) -> None:
    full = Full(100_000, copy(prepared(), tmp_path / "all"))
    with plain_pictures(), watch_files(full.see):
        go_on(full.run)
    wrong = []
    for at in range(full.n_seen):
        run = copy(prepared(), tmp_path / "run")
        try:
            wrong += [at] if fill_and_go_on(run, at) else []
        except EpigoneError:
            wrong.append(at)
        shutil.rmtree(run)
    reliability(
        DISKS,
        "the disk full from each write on, then room again",
        tried=full.n_seen,
        survived=full.n_seen - len(wrong),
        lost="what came after the last save",
    )
    assert not wrong


@contextmanager
def limited(n_bytes: int) -> Iterator[None]:
    """No file can be longer than this; the system itself sees to it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_what_the_system_cuts_off_is_not_taken_for_a_checkpoint(tmp_path: Path, reliability: Reliability) -> None:
    """Here the writing itself fails, safetensors' too, and not a stand-in for it."""
    run, tried, survived = copy(prepared(), tmp_path / "run"), 0, 0
    with plain_pictures():
        for n_bytes in (3_000, 60_000, 120_000):
            tried += 1
            with limited(n_bytes), pytest.raises(OutputError, match="cannot be written"):
                go_on(run)
            survived += not list_sound(run)
        go_on(run)
    same = not find_differences(run, uninterrupted())
    reliability(DISKS, "files cut off at some size by the system", tried=tried, survived=survived if same else 0)
    assert same and survived == tried


def mount(place: Path, options: str) -> None:
    """A small file system of its own. Skips the test where that is not allowed."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting needs rights that these tests do not have")


def measure(folder: Path) -> int:
    """Bytes of all files in it, in whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_on_a_small_file_system_that_is_filled_up_it_goes_on_when_there_is_room(
    tmp_path: Path, reliability: Reliability
) -> None:
    """What was learned is there when the other file is gone."""
    place = tmp_path / "small"
    mount(place, "size=24m")
    tried = survived = 0
    try:
        for share in (0.05, 0.2, 0.4, 0.6, 0.8):
            tried += 1
            run = copy(prepared(), place / "run")
            n_free = int(share * (measure(uninterrupted()) - measure(prepared())))
            (place / "other").write_bytes(bytes(shutil.disk_usage(place).free - n_free))
            with plain_pictures():
                with pytest.raises(OutputError):
                    go_on(run)
                (place / "other").unlink()
                go_on(run)
            survived += not find_differences(run, uninterrupted())
            shutil.rmtree(run)
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)
    reliability(DISKS, "a small file system filled up by another", tried=tried, survived=survived)
    assert survived == tried


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_file_system_that_becomes_read_only_is_one_error(tmp_path: Path, reliability: Reliability) -> None:
    mount(tmp_path / "may we?", "size=1m")
    subprocess.run(["umount", tmp_path / "may we?"], check=False)
    tried = survived = 0
    for n_events in (1, 9, 12, 14, 25):
        tried += 1
        run = copy(prepared(), tmp_path / f"run-{n_events}")
        with plain_pictures():
            try:
                with pytest.raises(OutputError):
                    act_at(run, n_events, lambda: turn_read_only(run))  # noqa: B023
                with pytest.raises(OutputError, match="cannot be written to"):
                    go_on(run)
            finally:
                subprocess.run(["umount", "--lazy", run], check=False)
            go_on(run)
        survived += not find_differences(run, uninterrupted())
    reliability(DISKS, "a place that becomes read-only", tried=tried, survived=survived)
    assert survived == tried


def turn_read_only(folder: Path) -> None:
    """From now on it can only be read, by whom it may be: rights would not stop root."""
    subprocess.run(["mount", "--bind", folder, folder], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True, capture_output=True)


# -- room, seen to beforehand


@contextmanager
def little_room(n_bytes: int) -> Iterator[None]:
    usage = shutil.disk_usage("/")
    with mock.patch("epigone.files.shutil.disk_usage", lambda _: usage._replace(free=n_bytes)):
        yield


def test_without_room_for_the_run_it_does_not_begin(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path)
    with little_room(100_000), pytest.raises(OutputError, match=r"This run needs 0\.\d\d GB, and .* has 0\.00 GB"):
        prepare_run(text, tmp_path / "run", TrainSettings(**HOW, base="none"))
    assert not RunFolder.is_run(tmp_path / "run")
    assert pipeline.create_run([str(text)], tmp_path / "run").path, "with room the same command begins"


def test_without_room_for_a_checkpoint_nothing_of_it_is_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, make_packed(3), {})
    before = hash_tree(tmp_path)
    with little_room(10), pytest.raises(OutputError, match=r"The checkpoint .*step-000006 needs .* GB"):
        save_checkpoint(tmp_path, 6, make_packed(6), {})
    assert hash_tree(tmp_path) == before


def test_without_room_to_go_on_it_does_not(tmp_path: Path) -> None:
    run = copy(prepared(), tmp_path / "run")
    with little_room(10), pytest.raises(OutputError, match="This run needs"):
        go_on(run)
    with plain_pictures():
        go_on(run)
    assert not find_differences(run, uninterrupted())
