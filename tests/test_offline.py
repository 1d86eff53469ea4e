"""With the weights in the cache nothing is asked of the network, and nobody is told anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers_front import early_sonnets, environment, workshop
from test_finetune import DEAD, QUICK, fetch_then_go_without

NO_NETWORK = """
import socket

def refuse(*_, **__):
    open({told!r}, "a").write("a connection was tried\\n")
    raise OSError("no network in this test")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
"""


def run_without_network(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process in which every connection fails and leaves a trace."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(NO_NETWORK.format(told=str(folder / "told.txt")), "utf-8")
    variables = environment(HF_HOME=str(workshop() / "fetched" / "cache"), HF_ENDPOINT="https://huggingface.co")
    variables["PYTHONPATH"] = f"{folder}{os.pathsep}{variables['PYTHONPATH']}"
    code = "import json, sys\nfrom epigone.cli import run\nfor words in json.loads(sys.argv[1]): assert run(words) == 0"
    whole = json.dumps([[str(word) for word in words] for words in arguments])
    return subprocess.run(
        [sys.executable, "-c", code, whole], env=variables, capture_output=True, text=True, timeout=200
    )


def test_a_whole_run_makes_no_connection(tmp_path: Path) -> None:
    assert fetch_then_go_without().first.code == 0
    train = ["train", early_sonnets(), *QUICK, "--base", "gpt2", "--quiet", "--out", tmp_path / "run"]
    resume = ["resume", tmp_path / "run", "--epochs", "1.5", "--quiet"]
    write = ["write", tmp_path / "run", "--length", "5", "--quiet"]
    done = run_without_network(tmp_path / "site", train, resume, write)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "site" / "told.txt").exists()


@pytest.mark.slow
def test_the_trap_catches_what_does_connect(tmp_path: Path) -> None:
    done = run_without_network(tmp_path / "site", ["write", "owner/not-in-the-cache"])  # type: ignore[arg-type]
    assert done.returncode != 0 and (tmp_path / "site" / "told.txt").exists()


def test_importing_switches_the_hubs_telemetry_off() -> None:
    code = "import os, epigone; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    variables = {name: value for name, value in environment().items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_the_dead_endpoint_is_dead() -> None:
    """Port 9 of this machine answers nobody, or the tests that rely on it would show nothing."""
    import socket

    host, port = DEAD.removeprefix("http://").split(":")
    with socket.socket() as one:
        assert one.connect_ex((host, int(port))) != 0
