"""A run that someone else made can neither change nor show a file outside its folder, whatever links it holds."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from conftest import Reliability
from epigone.errors import FileUnreadable, OutputError
from epigone.files import TEMPORARY, create_file, open_to_append, write_bytes, write_whole
from epigone.runs.folder import NAMES, RunFolder
from helpers_faults import copy, find_differences, go_on, plain_pictures, prepared, uninterrupted
from helpers_front import command, hash_tree, shared_run
from test_damage import stopped

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights there")
GROUP = "Runs of others"
DEEPER = ("checkpoints/step-*[0-9]", "checkpoints/step-*[0-9]/receipt.json", "tokens/*", "tokens/*/train.npy")
PLACES = (*NAMES, *DEEPER, "model/model.safetensors", "model/config.json", "model/samples")
VERBS = ("resume", "write", "score", "judge", "quiz", "report")


def put_link(run: Path, name: str, outside: Path) -> Path:
    """A copy of what has the name in a run lies outside it now, and the name is a link to that."""
    path = next(iter(sorted(run.glob(name))), run / name)
    target = outside / "other"
    if path.is_dir():
        shutil.copytree(path, target)
        shutil.rmtree(path)
    elif path.exists():
        path.replace(target)
    else:
        target.write_text("precious", "utf-8")
    path.symlink_to(target)
    return path


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Nothing in the folder changes."""
    before = hash_tree(folder)
    yield
    assert hash_tree(folder) == before


def run_with(link: str, place: Path) -> tuple[Path, Path]:
    """A run with a link, and the folder outside that it leads to."""
    (outside := place / "outside").mkdir()
    run = copy(stopped(), place / "run")
    put_link(run, link, outside)
    return run, outside


def test_no_link_of_a_run_is_read_or_written_through(tmp_path: Path, reliability: Reliability) -> None:
    """Wherever it stands: one error that names it, and neither the run nor what it leads to is changed."""
    wrong = []
    for number, name in enumerate(PLACES):
        (place := tmp_path / str(number)).mkdir()
        run, _ = run_with(name, place)
        before = hash_tree(place)
        with pytest.raises((FileUnreadable, OutputError), match="is a link") as caught:
            go_on(run)
        wrong += [] if hash_tree(place) == before and Path(name).parts[0] in str(caught.value) else [name]
    fault = "a link in place of each of its files and folders: one error, and nothing is read or changed"
    reliability(GROUP, fault, tried=len(PLACES), survived=len(PLACES) - len(wrong))
    assert not wrong


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_a_run_with_a_link_that_leads_out(tmp_path: Path, verb: str) -> None:
    (outside := tmp_path / "outside").mkdir()
    run = Path(shutil.copytree(shared_run().path, tmp_path / "run"))
    put_link(run, "receipt.json", outside)
    (text := tmp_path / "text.txt").write_text("some words", "utf-8")
    with unchanged(tmp_path):
        outcome = command(verb, run, *([text] if verb == "score" else []))
    assert outcome.code == 2 and "receipt.json is a link to something outside" in outcome.err, outcome


def test_a_link_that_stays_inside_is_read_and_not_written_through(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    (run / "settings.toml").replace(run / "mine.toml")
    (run / "settings.toml").symlink_to("mine.toml")
    assert RunFolder.open(run).read_settings() == RunFolder.open(stopped()).read_settings()
    with unchanged(tmp_path), pytest.raises(OutputError, match=r"settings\.toml is a link, and nothing is written"):
        go_on(run)


def test_a_link_that_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    (run / "receipt.json").unlink()
    (run / "receipt.json").symlink_to("receipt.json")
    with pytest.raises(FileUnreadable, match=r"receipt\.json is a link"):
        RunFolder.open(run)


def test_a_run_may_itself_be_reached_by_a_link_and_hold_links_of_its_owner(tmp_path: Path) -> None:
    copy(stopped(), tmp_path / "elsewhere")
    (run := tmp_path / "run").symlink_to("elsewhere")
    (tmp_path / "notes").mkdir()
    (run / "notes").symlink_to(tmp_path / "notes")
    with plain_pictures():
        go_on(run)
    assert not find_differences(run, uninterrupted()) and run.is_symlink() and not any((tmp_path / "notes").iterdir())


@pytest.mark.parametrize("name", ["metrics.jsonl", "model", "samples", "checkpoints", "model/samples"])
def test_a_folder_that_becomes_a_link_while_it_learns_ends_the_training(tmp_path: Path, name: str) -> None:
    (outside := tmp_path / "outside").mkdir()
    folder = RunFolder.open(run := copy(stopped(), tmp_path / "run"))
    with folder.lock():
        folder.check_place()
        put_link(run, name, outside)
        with pytest.raises(OutputError, match="is a link"):
            folder.check_place()


def test_a_pipe_in_a_run_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    run = copy(stopped(), tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(FileUnreadable, match=r"metrics\.jsonl is a pipe or a device"):
        RunFolder.open(run)


def test_metrics_that_share_a_file_with_a_backup_do_not_change_it(tmp_path: Path, reliability: Reliability) -> None:
    """As `cp -al` makes them: a second name of the same file."""
    run = copy(stopped(), tmp_path / "run")
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write("a line after the checkpoint\n")
    (backup := tmp_path / "backup").hardlink_to(run / "metrics.jsonl")
    before = backup.read_bytes()
    with plain_pictures():
        go_on(run)
    same = backup.read_bytes() == before and not find_differences(run, uninterrupted())
    reliability(
        GROUP, "a backup made of second names of the same files (cp -al) stays as it was", tried=1, survived=same
    )
    assert same


# -- temporary files


def test_no_link_that_was_put_where_a_file_is_going_to_be_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where its name could be known beforehand."""
    (precious := tmp_path / "precious").write_text("precious", "utf-8")
    (prepared_name := tmp_path / "prepared").symlink_to(precious)
    monkeypatch.setattr("epigone.files.name_temporary", lambda _: prepared_name)
    assert write_bytes(tmp_path / "new", b"new").read_bytes() == b"new"
    prepared_name.symlink_to(precious)
    write_whole(tmp_path / "new", lambda path: create_file(path, b"newer"))
    assert precious.read_text("utf-8") == "precious" and (tmp_path / "new").read_bytes() == b"newer"
    (tmp_path / "link").symlink_to(precious)
    write_bytes(tmp_path / "link", b"in its place")
    assert precious.read_text("utf-8") == "precious" and not (tmp_path / "link").is_symlink()


def test_nothing_is_appended_through_a_link(tmp_path: Path) -> None:
    (precious := tmp_path / "precious").write_text("precious", "utf-8")
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        open_to_append(tmp_path / "link")
    with open_to_append(tmp_path / "new") as file:
        file.write(b"new")
    assert precious.read_text("utf-8") == "precious" and (tmp_path / "new").read_bytes() == b"new"


def test_temporary_names_cannot_be_guessed_and_what_a_kill_leaves_is_removed(tmp_path: Path) -> None:
    seen = []
    for _ in range(20):
        write_whole(tmp_path / "a", lambda path: seen.append(path.name))
    assert len(set(seen)) == 20 and all(TEMPORARY.fullmatch(name) for name in seen)
    run, names = RunFolder.create(tmp_path / "run"), iter(seen)
    for folder in (run.path, run.samples, run.model / "samples"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / next(names)).write_text("half of it", "utf-8")
    (run.path / (kept := ".epigone-notes.tmp")).write_text("the user's", "utf-8")
    with run.lock():
        assert [path.name for path in run.path.rglob("*") if ".tmp" in path.name] == [kept]


# -- permissions


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o002, 0o664, 0o775), (0o077, 0o600, 0o700)])
def test_every_file_of_a_run_has_the_permissions_of_the_umask(
    tmp_path: Path, mask: int, file_mode: int, folder_mode: int
) -> None:
    """So that a run in a shared folder can be continued by others, and a private one can be read by no one else."""
    with umask(mask), plain_pictures():
        shutil.copytree(prepared(), run := tmp_path / "run", copy_function=shutil.copyfile)
        before, calls = set(run.rglob("*")), count()
        go_on(run, should_stop=lambda: next(calls) >= 8)
    made = [path for path in run.rglob("*") if path not in before]
    modes = {path.relative_to(run).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in made}
    assert any("optimizer.safetensors" in name for name in modes) and "model/model.safetensors" in modes
    expected = {path.relative_to(run).as_posix(): folder_mode if path.is_dir() else file_mode for path in made}
    assert modes == expected
