"""With the weights in the cache nothing is asked of the network, and nothing is reported."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

import conftest
from conftest import Reliability
from epigone.errors import BaseNotFound
from epigone.model.hub import find_base
from helpers_front import early_sonnets, environment, workshop
from test_finetune import DEAD, QUICK, fetch

WATCH = """
import sys

WATCHED = ("connect", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo", "sendto", "sendmsg")

def watch(event, arguments):
    place, _, what = event.partition(".")
    if place != "socket" or what not in WATCHED:
        return
    if what in ("connect", "sendto", "sendmsg") and isinstance(arguments[1], (str, bytes)):
        return  # another process of this machine, by a file
    with open({told!r}, "a") as file:
        file.write(f"{{event}} {{arguments[1:] or arguments}}\\n")
    raise OSError("no network in this test")

sys.addaudithook(watch)
"""
"""What Python itself asks of the network is written down and refused, and that cannot be undone within the process."""

INTERPOSER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void tell(const char *what) {
    FILE *file = fopen(getenv("TOLD"), "a");
    if (file) { fprintf(file, "%s\n", what); fclose(file); }
}
int connect(int one, const struct sockaddr *to, socklen_t size) {
    int (*genuine)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    if (to->sa_family == AF_UNIX) return genuine(one, to, size);
    tell("libc: connect"); errno = ENETUNREACH; return -1;
}
ssize_t sendto(int one, const void *what, size_t n, int flags, const struct sockaddr *to, socklen_t size) {
    ssize_t (*genuine)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    if (!to || to->sa_family == AF_UNIX || to->sa_family == AF_NETLINK) return genuine(one, what, n, flags, to, size);
    tell("libc: sendto"); errno = ENETUNREACH; return -1;
}
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    tell("libc: getaddrinfo"); return EAI_AGAIN;
}
struct hostent *gethostbyname(const char *name) { tell("libc: gethostbyname"); return 0; }
"""
"""The same for what is written in C, C++ or Rust and asks the system's library."""

TURNED_OFF = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK", "DISABLE_TELEMETRY")
TURNED_OFF = (*TURNED_OFF, "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK", "WANDB_MODE", "WANDB_DISABLED")
"""Variables that would keep a dependency silent: it has to be without them."""
INVITING = {"WANDB_API_KEY": "0" * 40, "COMET_API_KEY": "0", "MLFLOW_TRACKING_URI": DEAD, "HF_TOKEN": "hf_" + "0" * 34}
INVITING |= {"NEPTUNE_API_TOKEN": "0", "CLEARML_API_ACCESS_KEY": "0", "HF_ENDPOINT": "https://huggingface.co"}
"""Variables that would make a tracker speak or give a client a server to speak to."""


@cache
def interposer() -> Path | None:
    """The compiled library to load before all others; None where there is no compiler."""
    if sys.platform != "linux" or shutil.which("g++") is None:
        return None
    source, library = workshop() / "watch.c", workshop() / "watch.so"
    source.write_text(INTERPOSER, "utf-8")
    command = ["g++", "-x", "c", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


Watched = tuple[subprocess.CompletedProcess[str], str]
"""A process that has ended, and what it tried to reach."""


def run_watched(folder: Path, code: str, *arguments: str) -> Watched:
    """Python in a process in which all that would go out fails, and what was tried all the same."""
    folder.mkdir(exist_ok=True)
    told = folder / "told.txt"
    (folder / "sitecustomize.py").write_text(WATCH.format(told=str(told)), "utf-8")
    variables = environment(HF_HOME=str(workshop() / "fetched" / "cache"), TOLD=str(told), **INVITING)
    variables = {name: value for name, value in variables.items() if name not in TURNED_OFF}
    variables["PYTHONPATH"] = f"{folder}{os.pathsep}{variables['PYTHONPATH']}"
    if interposer() is not None:
        variables["LD_PRELOAD"] = str(interposer())
    words = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=500)
    return done, told.read_text("utf-8") if told.exists() else ""


def run_without_network(folder: Path, *commands: list[str | Path]) -> Watched:
    """The commands, one after another in one watched process, and what was tried."""
    code = "import json, sys\nfrom epigone.cli.main import run\n"
    code += "for words in json.loads(sys.argv[1]): assert run(words) == 0"
    return run_watched(folder, code, json.dumps([[str(word) for word in words] for words in commands]))


def keep_quiet(reliability: Reliability, what: str, n_commands: int, found: Watched) -> None:
    """The row of commands of which none may have tried to reach anybody; and that it is so."""
    done, told = found
    good = done.returncode == 0 and told == ""
    reliability("Without a network", what, tried=n_commands, survived=n_commands if good else 0)
    assert done.returncode == 0, done.stderr
    assert told == ""


def list_verbs(run: Path, folder: Path) -> list[list[str | Path]]:
    """All that can be done with a run."""
    return [
        ["write", run, "--length", "5", "--quiet", "--max-copy", "40"],
        ["score", run, early_sonnets()],
        ["judge", run, "--characters", "3000", "--json"],
        ["quiz", run, "--count", "2", "--length", "20", "--page", folder / f"{run.name}-quiz.html"],
        ["report", run, "--out", folder / f"{run.name}.html"],
        ["resume", run, "--epochs", "1.5", "--quiet"],
    ]


@pytest.mark.slow
def test_a_whole_run_from_a_cached_base_makes_no_connection(tmp_path: Path, reliability: Reliability) -> None:
    """Every verb, the base by its name: chosen, learned from, looked up again to resume and to tone the style down."""
    assert fetch().first.code == 0
    run = tmp_path / "run"
    commands: list[list[str | Path]] = [
        ["plan", early_sonnets(), "--json"],
        ["train", early_sonnets(), *QUICK, "--samples", "1", "--base", "gpt2", "--quiet", "--out", run],
        *list_verbs(run, tmp_path),
        ["write", run, "--length", "5", "--quiet", "--guidance", "1.5"],
        ["write", "gpt2", "--length", "5", "--quiet"],
        ["score", "gpt2", early_sonnets()],
    ]
    what = "all that can be done with a run from a base in the cache"
    keep_quiet(reliability, what, len(commands), run_without_network(tmp_path / "site", *commands))


@pytest.mark.slow
def test_a_whole_run_from_scratch_makes_no_connection(tmp_path: Path, reliability: Reliability) -> None:
    run = tmp_path / "run"
    scratch = ("--base", "none", "--size", "1x32", "--samples", "1", "--epochs", "1", "--block-size", "64")
    commands: list[list[str | Path]] = [
        ["train", early_sonnets(), *scratch, "--quiet", "--out", run],
        *list_verbs(run, tmp_path),
    ]
    what = "all that can be done with a run from scratch"
    keep_quiet(reliability, what, len(commands), run_without_network(tmp_path / "site", *commands))


@pytest.mark.slow
def test_nor_does_a_compiled_run_or_one_with_adapters(tmp_path: Path, reliability: Reliability) -> None:
    assert fetch().first.code == 0
    compiled = ["--base", "none", "--size", "1x32", "--compile", "layers", "--epochs", "1", "--samples", "0"]
    commands: list[list[str | Path]] = [
        ["train", early_sonnets(), *compiled, "--quiet", "--out", tmp_path / "compiled"],
        ["train", early_sonnets(), *QUICK, "--base", "gpt2", "--lora", "4", "--quiet", "--out", tmp_path / "lora"],
        ["resume", tmp_path / "lora", "--epochs", "1.5", "--quiet"],
    ]
    what = "a compiled run, and one with adapters"
    keep_quiet(reliability, what, len(commands), run_without_network(tmp_path / "site", *commands))


ATTEMPTS = {
    "a look-up": "import socket; socket.getaddrinfo('example.org', 80)",
    "a connection": "import socket; socket.socket().connect(('192.0.2.1', 80))",
    "a quiet connection": "import socket; socket.socket().connect_ex(('192.0.2.1', 80))",
    "a datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))",
    "the hub's client": "import huggingface_hub; huggingface_hub.HfApi().model_info('owner/name', timeout=3)",
    "its telemetry": "from huggingface_hub import utils; utils.send_telemetry('x', library_name='y');"
    "import time; time.sleep(3)",
    "another library": "import ctypes; ctypes.CDLL(None).gethostbyname(b'example.org')",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_trap_catches_what_is_tried_even_where_the_error_is_hidden(tmp_path: Path, attempt: str) -> None:
    if attempt == "another library" and interposer() is None:
        pytest.skip("there is no compiler")
    code = f"try:\n    exec({ATTEMPTS[attempt]!r})\nexcept Exception:\n    pass"
    done, told = run_watched(tmp_path / "site", code)
    assert done.returncode == 0 and told != "", done.stderr


@pytest.mark.slow
def test_the_trap_catches_what_does_connect(tmp_path: Path) -> None:
    done, told = run_without_network(tmp_path / "site", ["write", "owner/not-in-the-cache"])
    assert done.returncode != 0 and told != ""


def test_a_test_that_leaves_this_machine_is_noticed() -> None:
    """The guard that every test has, in conftest.py: this one asks the hub, and hides that nothing came of it."""
    with suppress(BaseNotFound):
        find_base("owner/no-such-model")
    assert conftest.attempts
    conftest.attempts.clear()


def test_importing_switches_the_hubs_telemetry_off() -> None:
    code = "import os, epigone; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    variables = {name: value for name, value in environment().items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_the_dead_endpoint_is_dead() -> None:
    """Nothing answers at port 9 of this machine, or the tests that rely on it would show nothing."""
    host, port = DEAD.removeprefix("http://").split(":")
    with socket.socket() as one:
        assert one.connect_ex((host, int(port))) != 0
