"""Asking for help is quick: nothing heavy is loaded before it is needed."""

import json
import resource
import subprocess
import sys

import pytest

from helpers_front import shared_run

HEAVY = {"torch", "transformers", "numpy", "accelerate", "tokenizers", "matplotlib", "huggingface_hub"}
MOST_SECONDS = 0.5
LOADING = ["-c", "import click; from pydantic import BaseModel"]
MOST_LOADS = 4
"""On slow machines: so many times what loading these two libraries takes."""
HELPS = [
    [],
    ["--help"],
    ["--version"],
    ["train", "-h"],
    ["write", "--help"],
    ["judge", "--help"],
    ["score", "--help"],
    ["report", "--help"],
    ["quiz", "--help"],
    ["completion", "bash"],
]
RUN = """
import json, sys
from epigone.cli.main import main
try:
    main(json.loads(sys.argv[1]))
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def list_loaded(code: str, *arguments: str) -> set[str]:
    """The packages that a fresh Python has loaded when it is through."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", HELPS, ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]):
    loaded = list_loaded(RUN, json.dumps(arguments))
    assert "click" in loaded
    assert not loaded & HEAVY


def test_importing_the_package_loads_nothing_heavy():
    code = "import epigone, json, sys; print(json.dumps([n.partition('.')[0] for n in sys.modules]), file=sys.stderr)"
    loaded = list_loaded(code)
    assert "epigone" in loaded
    assert not loaded & HEAVY


def test_something_heavy_would_be_found():
    code = "import numpy, json, sys; print(json.dumps([n.partition('.')[0] for n in sys.modules]), file=sys.stderr)"
    assert "numpy" in list_loaded(code) & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_takes_little_processor_time(arguments: list[str]):
    most = max(MOST_SECONDS, MOST_LOADS * measure_processor_seconds(LOADING))
    assert min(measure_processor_seconds(["-m", "epigone", *arguments]) for _ in range(3)) < most


def measure_processor_seconds(arguments: list[str]) -> float:
    """What a whole process spends, its start included; waiting for others on a busy machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_to_write_with_a_model_nothing_is_loaded_that_only_learning_needs() -> None:
    """A page of a small model is written in less time than these take to load."""
    path = shared_run().path
    heavy = ("transformers.models.gpt2.modeling_gpt2", "torch._dynamo", "matplotlib", "scipy", "accelerate")
    script = f"import sys; from epigone.run import open_generator; open_generator({str(path)!r}); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not set(heavy) & set(found)


def test_to_judge_a_model_nothing_is_loaded_that_only_learning_needs() -> None:
    script = "import sys, epigone.run, epigone.evaluation.judge, epigone.report.publish; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not {"transformers.models.gpt2.modeling_gpt2", "torch._dynamo", "scipy", "accelerate"} & set(found)
