"""Processes and hosts that fail: a rank or a host is killed, a cable is cut, folders differ; torchrun starts again.

Hosts are network namespaces of this machine, with a name of their own and a cable between them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest

from conftest import Reliability, keeping
from epigone.run import open_run
from helpers_front import Outcome, command, environment, hash_one, make_once, write_sonnets

GROUP = "Several processes and hosts"
SAVED = "what came after the last save"
FLAGS = (
    "--size",
    "1x32",
    "--block-size",
    "64",
    "--batch-size",
    "3",
    "--base",
    "none",
    "--samples",
    "0",
    "--device",
    "cpu",
)
FLAGS = (*FLAGS, "--dropout", "0.1", "--epochs", "12", "--patience", "none", "--precision", "fp32")
TIMEOUT = 15
MOST_SECONDS = 60
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals and gloo as Unix has them")]


# -- one host, torchrun


def torchrun(*arguments: str | Path, flags: tuple[str, ...] = (), cwd: Path | None = None) -> subprocess.Popen[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *flags, "-m", "epigone"]
    return subprocess.Popen(
        [sys.executable, *launch, *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def text_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_sonnets(folder, 6_000)


def _train(place: Path) -> None:
    process = torchrun("train", text_in(place), *FLAGS, "--out", place / "run")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


@cache
def uninterrupted() -> Path:
    """What two processes come to that nothing happens to."""
    return make_once("two-uninterrupted", _train) / "run"


def is_same(run: Path) -> bool:
    ours, theirs = ([item.loss for item in open_run(one).evaluations] for one in (run, uninterrupted()))
    return (
        ours == theirs and len({hash_one(one / "model" / "model.safetensors") for one in (run, uninterrupted())}) == 1
    )


def wait_until(done: Callable[[], object], seconds: float = 200) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.05)


def count_evaluations(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text("utf-8").count('"evaluated"') if metrics.exists() else 0


def find_ranks(process: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    return {child.environ().get("RANK", ""): child for child in psutil.Process(process.pid).children()}


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_process_ends_the_other_and_the_run_goes_on(
    tmp_path: Path, reliability: Reliability, rank: str
) -> None:
    """torchrun ends the other one too; this is about what is said, and about the run."""
    with keeping(reliability, GROUP, "kill -9 of one of two processes: the other ends, and says how to go on", SAVED):
        run = tmp_path / "run"
        process = torchrun("train", text_in(tmp_path), *FLAGS, "--out", run)
        wait_until(lambda: count_evaluations(run) >= 3)
        ranks, began = find_ranks(process), time.monotonic()
        ranks[rank].kill()
        _, err = process.communicate(timeout=MOST_SECONDS)
        assert time.monotonic() - began < MOST_SECONDS and not any(each.is_running() for each in ranks.values())
        ours = err.partition("torch/distributed/elastic/multiprocessing/api.py:1002")[0]
        assert err.count(f"error: Process {rank} ended or cannot be reached.") == 1
        assert err.count(f"epigone resume {run}") == 1 and "gloo" not in err and "Traceback" not in ours
        again = torchrun("resume", run)
        assert again.communicate(timeout=300) and again.returncode == 0
        assert is_same(run)


def test_torchrun_starts_again_what_it_began(tmp_path: Path, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "kill -9 under torchrun --max-restarts 1: it goes on by itself", SAVED):
        run = tmp_path / "run"
        process = torchrun("train", text_in(tmp_path), *FLAGS, "--out", run, flags=("--max-restarts", "1"))
        wait_until(lambda: count_evaluations(run) >= 3)
        find_ranks(process)["1"].kill()
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.count("Continuing after step") == 1 and is_same(run)


def test_torchrun_does_not_go_on_with_the_run_of_another(tmp_path: Path, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "torchrun --max-restarts 1 into the folder of another run: left as it is"):
        run = Path(shutil.copytree(uninterrupted(), tmp_path / "run"))
        before = (run / "run.json").stat().st_mtime_ns
        process = torchrun("train", text_in(tmp_path), *FLAGS, "--out", run, flags=("--max-restarts", "1"))
        _, err = process.communicate(timeout=300)
        assert process.returncode != 0 and err.count("already holds a run") == 2
        assert (run / "run.json").stat().st_mtime_ns == before


def test_a_run_of_two_goes_on_in_one_and_four(tmp_path: Path, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "a run of two processes is resumed with one: equal but for rounding (dropout 0)"):
        run = tmp_path / "run"
        flags = (*FLAGS, "--dropout", "0", "--epochs", "6")
        process = torchrun("train", text_in(tmp_path), *flags, "--out", run)
        wait_until(lambda: count_evaluations(run) >= 2)
        find_ranks(process)["1"].kill()
        process.communicate(timeout=300)
        assert command("resume", run).code == 0
        assert command("train", text_in(tmp_path), *flags, "--out", tmp_path / "alone").code == 0
        ours, theirs = ([item.loss for item in open_run(tmp_path / name).evaluations] for name in ("run", "alone"))
        assert len(ours) == len(theirs) and max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-5


# -- two hosts


class Hosts:
    """Two hosts with a cable between them; each has its own name."""

    NAMES = ("epigone-a", "epigone-b")
    CABLES = ("epigone-ca", "epigone-cb")

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Hosts:
        for name in self.NAMES:
            _ip("netns", "add", name)
        _ip("link", "add", self.CABLES[0], "type", "veth", "peer", "name", self.CABLES[1])
        for number, (name, cable) in enumerate(zip(self.NAMES, self.CABLES, strict=True), 1):
            _ip("link", "set", cable, "netns", name)
            _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", cable)
            for device in (cable, "lo"):
                _ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        for name in self.NAMES:
            _ip("netns", "del", name, check=False)

    def start(self, host: int, folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
        """`epigone ARGUMENTS` on a host, as one of two processes."""
        launch = {"RANK": str(host), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        launch |= {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29577", "GLOO_SOCKET_IFNAME": self.CABLES[host]}
        named = f'hostname {self.NAMES[host]} && exec "$@"'
        enter = ["ip", "netns", "exec", self.NAMES[host], "unshare", "--uts", "sh", "-c", named, "sh"]
        process = subprocess.Popen(
            [*enter, sys.executable, "-m", "epigone", *map(str, arguments)],
            env=environment(**launch),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def cut(self) -> None:
        """From here on nothing comes through the cable, not even the end of a connection."""
        _ip("-n", self.NAMES[0], "link", "set", self.CABLES[0], "down")


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def _can_make_hosts() -> bool:
    try:
        with Hosts():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if not _can_make_hosts():
        pytest.skip("network namespaces cannot be made here: this needs Linux, root and the command ip")
    with Hosts() as hosts:
        yield hosts


def finish(process: subprocess.Popen[str], seconds: float = 200) -> Outcome:
    out, err = process.communicate(timeout=seconds)
    ours = "".join(line for line in err.splitlines(keepends=True) if "c10d" not in line)  # torch on names of hosts
    return Outcome(code=process.returncode, out=out, err=ours)


def start_both(hosts: Hosts, folders: tuple[Path, Path], *arguments: str | Path) -> list[subprocess.Popen[str]]:
    return [hosts.start(number, folder, *arguments) for number, folder in enumerate(folders)]


def test_two_hosts_that_share_a_folder_make_one_run(tmp_path: Path, reliability: Reliability, hosts: Hosts) -> None:
    with keeping(reliability, GROUP, "two hosts and a folder that both have: as two processes of one, bit for bit"):
        text_in(tmp_path)
        a, b = map(finish, start_both(hosts, (tmp_path, tmp_path), "train", "text.txt", *FLAGS, "--out", "run"))
        assert (a.code, b.code, a.err, b.out, b.err) == (0, 0, "", "", "")
        assert is_same(tmp_path / "run")


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_two_hosts_with_folders_of_their_own_are_told_at_the_start(
    tmp_path: Path, reliability: Reliability, hosts: Hosts, verb: str
) -> None:
    with keeping(reliability, GROUP, f"two hosts with folders of their own, {verb}: one error at the start, on both"):
        folders = tmp_path / "a", tmp_path / "b"
        for folder in folders:
            text_in(folder)
        if verb == "resume":
            shutil.copytree(uninterrupted(), folders[0] / "run")
        what = ("train", "text.txt", *FLAGS, "--out", "run") if verb == "train" else ("resume", "run")
        outcomes = list(map(finish, start_both(hosts, folders, *what)))
        for outcome in outcomes:
            assert outcome.code == 2 and outcome.out == ""
            assert outcome.err.count("error: ") == 1 and len(outcome.err.splitlines()) == 2
            assert "Process 1 on epigone-b" in outcome.err or "run does not exist" in outcome.err
        assert not (folders[1] / "run").exists()


def test_only_the_first_host_needs_the_text(tmp_path: Path, reliability: Reliability, hosts: Hosts) -> None:
    with keeping(reliability, GROUP, "two hosts, of which only the first has the text: as two processes of one"):
        folders, run = (tmp_path / "a", tmp_path / "b"), tmp_path / "run"
        for folder in folders:
            folder.mkdir()
        text_in(folders[0])
        a, b = map(finish, start_both(hosts, folders, "train", "text.txt", *FLAGS, "--out", run))
        assert (a.code, b.code, a.err, b.out, b.err) == (0, 0, "", "", "")
        assert is_same(run)


@pytest.mark.parametrize("fault", ["the cable is cut", "the second host loses its power"])
def test_a_host_that_is_lost_ends_the_other(tmp_path: Path, reliability: Reliability, hosts: Hosts, fault: str) -> None:
    with keeping(reliability, GROUP, f"{fault}: what is left ends and says how to go on", SAVED):
        text_in(tmp_path)
        flags = (*FLAGS, "--process-timeout", str(TIMEOUT))
        a, b = start_both(hosts, (tmp_path, tmp_path), "train", "text.txt", *flags, "--out", "run")
        wait_until(lambda: count_evaluations(tmp_path / "run") >= 3)
        hosts.cut()
        began = time.monotonic()
        left = [(a, "Process 1 on epigone-b")]
        if "power" in fault:
            b.kill()
        else:
            left.append((b, "Process 0 on epigone-a"))
        for process, lost in left:
            outcome = finish(process, MOST_SECONDS)
            assert outcome.code == 1 and outcome.err.startswith(f"error: {lost} ended or cannot be reached.\n")
            assert outcome.err.count("epigone resume run") == 1 and len(outcome.err.splitlines()) == 2
        assert time.monotonic() - began < MOST_SECONDS
        again = torchrun("resume", tmp_path / "run")
        assert again.communicate(timeout=300) and again.returncode == 0
        assert is_same(tmp_path / "run")


def test_a_process_that_hangs_ends_the_other(tmp_path: Path, reliability: Reliability) -> None:
    with keeping(
        reliability, GROUP, "one of two processes hangs (SIGSTOP): the other ends and says how to go on", SAVED
    ):
        run = tmp_path / "run"
        process = torchrun("train", text_in(tmp_path), *FLAGS, "--process-timeout", str(TIMEOUT), "--out", run)
        wait_until(lambda: count_evaluations(run) >= 3)
        find_ranks(process)["1"].send_signal(signal.SIGSTOP)
        _, err = process.communicate(timeout=2 * MOST_SECONDS)  # torchrun waits half a minute for the one that hangs
        assert (
            err.count("error: Process 1 ended or cannot be reached.") == 1 and err.count(f"epigone resume {run}") == 1
        )
