"""Asking for help is quick: nothing heavy is loaded before it is needed."""

import json
import resource
import subprocess
import sys
from functools import cache

import pytest

from helpers_front import shared_run

HEAVY = {"torch", "transformers", "numpy", "accelerate", "tokenizers", "matplotlib", "huggingface_hub"} | {
    "starlette",
    "uvicorn",
}
ONLY_TO_LEARN = {"transformers", "transformers.models.gpt2.modeling_gpt2", "torch._dynamo", "scipy", "accelerate"}
MOST_SECONDS = 0.5
LOADING = ["-c", "import click; from pydantic import BaseModel"]
MOST_LOADS = 4
"""On slow machines: so many times what loading these two libraries takes."""
HELPS = ["", "--help", "--version", "train -h", "write --help", "judge --help", "score --help", "report --help"]
HELPS += ["quiz --help", "serve --help", "completion bash", "train --help-all", "--help-all", "list"]
ASK = """
import contextlib, io, json, sys

def list_loaded():
    return sorted({name.partition(".")[0] for name in sys.modules})

import epigone
loaded = {"import epigone": list_loaded()}
from epigone.cli.main import main
for words in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(words.split())
    loaded[words] = list_loaded() if out.getvalue() else []
import numpy
loaded["import numpy"] = list_loaded()
print(json.dumps(loaded))
"""
USE = """
import json, sys
from epigone.run import open_generator
open_generator(sys.argv[1])
loaded = {"write": sorted(sys.modules)}
import epigone.evaluation.judge, epigone.report.publish
loaded["judge"] = sorted(sys.modules)
print(json.dumps(loaded))
"""


def run(*arguments: str) -> dict[str, list[str]]:
    """What a fresh Python says that it has loaded, step by step."""
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, encoding="utf-8", check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@cache
def list_loaded() -> dict[str, set[str]]:
    """The packages that are loaded after each help, one after another in one process."""
    return {step: set(packages) for step, packages in run(ASK, *HELPS).items()}


@pytest.mark.parametrize("step", ["import epigone", *HELPS])
def test_help_loads_nothing_heavy(step: str) -> None:
    assert "epigone" in list_loaded()[step], "it printed nothing"
    assert not list_loaded()[step] & HEAVY


def test_something_heavy_would_be_found() -> None:
    assert "numpy" in list_loaded()["import numpy"] & HEAVY


def test_to_write_or_judge_with_a_model_nothing_is_loaded_that_only_learning_needs() -> None:
    """A page of a small model is written in less time than these take to load."""
    loaded = run(USE, str(shared_run().path))
    assert "torch" in loaded["write"]
    assert not (ONLY_TO_LEARN | {"matplotlib"}) & set(loaded["write"])
    assert not ONLY_TO_LEARN & set(loaded["judge"])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help-all"], ["list"]], ids=" ".join)
def test_help_takes_little_processor_time(arguments: list[str]) -> None:
    most = max(MOST_SECONDS, MOST_LOADS * measure_processor_seconds(LOADING))
    assert min(measure_processor_seconds(["-m", "epigone", *arguments]) for _ in range(3)) < most


def measure_processor_seconds(arguments: list[str]) -> float:
    """What a whole process spends, its start included; waiting for others on a busy machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
