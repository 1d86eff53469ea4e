"""What the tests of exported models share: models to export, node, and llama.cpp where node-llama-cpp is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from epigone.export.offline_page import PAGE
from epigone.export.source import SourceModel, open_source
from epigone.model.weights import Weights, quantize_rows
from helpers_front import SONNETS, shared_run, workshop
from standin import hub_root

NODE = shutil.which("node") or ""
LLAMA = os.environ.get("EPIGONE_NODE_LLAMA", "")
"""The folder in which `npm install node-llama-cpp` was run."""
needs_node = pytest.mark.skipif(not NODE, reason="needs node")
needs_llama = pytest.mark.skipif(
    not NODE or not Path(LLAMA, "node_modules", "node-llama-cpp").is_dir(),
    reason="needs node-llama-cpp in the folder that EPIGONE_NODE_LLAMA names",
)
MODELS = ("run", "standin")
"""A small model from scratch in a run, and a fine-tuned checkpoint in the layout of the published GPT-2."""
ODD_LINES = (
    "naïve café — “quoted” …",
    "日本語のテキスト、漢字とかな",
    "👩‍👩‍👧 👍🏽 e\u0301 \U0001f1e9\U0001f1ea",
    "שלום \u202eabc\u202c",
    " \t two  spaces and\ttabs ",
    "a\u00a0b\u2003c\u3000d\u0085e\ufefff\u180eg",
    "it's we'll THEY'RE I'D x'll '' 's",
    "12,345.67 ¼ ² ⅷ ٣٤ 一二",
    "\n\n  \n\r\n x \n",
    "\x00\x01\x7f\u0080",
    "ﬁ ǅ ŉ ß İ ı ﷽",
    "$x^2$ <|endoftex|> <script>&amp;</script>",
)
"""What a tokenizer may stumble over."""


@cache
def open_model(name: str) -> SourceModel:
    return open_source(find_model(name))


def find_model(name: str) -> str:
    """What the command is given for a model of `MODELS`, or the name of a bundled base."""
    return {"run": lambda: str(shared_run().path), "standin": lambda: str(hub_root() / "gpt2")}.get(
        name, lambda: name
    )()


def list_lines(count: int) -> list[str]:
    """Lines of the sonnets' end, each once and with odd ones among them."""
    lines = [line for line in SONNETS.read_text("utf-8").splitlines() if line.strip()]
    return [*ODD_LINES, *lines[-(count - len(ODD_LINES)) :]]


def run_node(script: Path, *arguments: str | Path, given: str = "", seconds: float = 120) -> str:
    done = subprocess.run(
        [NODE, str(script), *map(str, arguments)],
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout


def ask_llama(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What llama.cpp answers (llama_cpp.mjs)."""
    answer = folder / "answer.json"
    run_node(Path(__file__).with_name("llama_cpp.mjs"), answer, given=json.dumps(job), seconds=600)
    found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return found


@cache
def page_folder() -> Path:
    """The page's modules where node takes them for modules, and the program that asks them."""
    folder = workshop() / "page-modules"
    folder.mkdir()
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    for path in [*PAGE.glob("*.js"), Path(__file__).with_name("export_page.mjs")]:
        shutil.copy(path, folder)
    return folder


def ask_page(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the page's modules answer (export_page.mjs)."""
    answer = folder / "answer.json"
    run_node(page_folder() / "export_page.mjs", answer, given=json.dumps(job, ensure_ascii=False), seconds=600)
    found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return found


def dequantize(source: SourceModel) -> Weights:
    """The weights with which a page computes, as fp32."""
    rounded = {}
    for name, tensor in source.weights.tensors.items():
        if tensor.ndim == 2:
            is_matrix = ".h." in name
            integers, scales = quantize_rows(tensor.t() if is_matrix else tensor)
            rows = integers * scales[:, None]
            rounded[name] = rows.t().contiguous() if is_matrix else rows
    return source.weights._replace(tensors={**source.weights.tensors, **rounded})
