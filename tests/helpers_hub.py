"""What the tests of bases share: a stand-in for GPT-2, a copy of it to spoil, a hub and a process that asks it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import epigone
from hub_server import HubServer
from standin import make_standin

SOURCE = Path(epigone.__file__).parents[1]
SONNETS = SOURCE / "epigone" / "sample" / "sonnets.txt"
WEIGHTS = "model.safetensors"

# The client reads its environment when it is imported, so that each case is a process of its own.
CLIENT = """
import json, os, socket, sys

connect = socket.socket.connect

def connect_to_loopback(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "127.0.0.1":
        raise AssertionError(f"a request to {address}")
    return connect(self, address)

socket.socket.connect = socket.socket.connect_ex = connect_to_loopback

from epigone.errors import EpigoneError
from epigone.model.hub import find_base, is_cached

answers = []
for call in json.loads(sys.argv[1]):
    try:
        base = find_base(call.pop("name"), **call)
        answers.append({"source": base.source, "folder": str(base.folder), "revision": base.revision})
    except EpigoneError as error:
        answers.append({"error": type(error).__name__, "message": str(error), "hint": error.hint})
    answers[-1]["heavy"] = sorted({"torch", "transformers"} & set(sys.modules))
print(json.dumps(answers))
"""
Answers = list[dict[str, Any]]


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standin") / "base"
    return make_standin(folder, text=SONNETS.read_text("utf-8"), n_layer=1, n_embd=32, n_positions=32)


@pytest.fixture
def copy(standin: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(standin, tmp_path / "copy"))


@pytest.fixture
def hub(standin: Path, tmp_path: Path) -> Iterator[HubServer]:
    shutil.copytree(standin, tmp_path / "hub" / "gpt2")
    with HubServer(tmp_path / "hub") as server:
        yield server


@contextmanager
def publishing_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty hub in a new folder, to which this process publishes as its user."""
    folder.mkdir()
    with HubServer(folder) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        # A loopback server has no Xet storage, which the client's Rust part speaks to; LFS is the other way.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Answers]:
    """Calls `find_base` for each name in a fresh process whose hub is at `url` and whose cache is in `tmp_path`."""

    def run(url: str, *names: str, progress: bool = False, download: bool = True, **environment: str) -> Answers:
        calls = [{"name": name, "progress": progress, "download": download} for name in names]
        hidden = ("HF_", "HUGGING", "TRANSFORMERS_")
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(hidden) and not key.lower().endswith("_proxy")
        }
        settings = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(SOURCE)}
        settings |= {"TQDM_POSITION": "-1"}  # bars also where there is no terminal
        command = [sys.executable, "-W", "error", "-c", CLIENT, json.dumps(calls)]
        done = subprocess.run(
            command, env=inherited | settings | environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        answers: Answers = json.loads(done.stdout)
        answers[-1]["stderr"] = done.stderr
        return answers

    return run


def closed_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shard(folder: Path, names: list[str]) -> None:
    """Spread the tensors over files of these names, in turns."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    weight_map = {tensor: names[i % len(names)] for i, tensor in enumerate(tensors)}
    for name in names:
        if not name.startswith((".", "/")) and "/" not in name:
            save_file({key: tensors[key] for key in tensors if weight_map[key] == name}, folder / name)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
