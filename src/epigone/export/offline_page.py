"""The offline page: one HTML file that holds a model with 8-bit weights, and the program that writes with it.

It loads nothing and asks no network, so that it works from a disk and in a mail; its content security policy allows
its own script and style by their hashes, and WebAssembly. No text of the author is in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from epigone import __version__
from epigone.errors import SettingsError, quote_command
from epigone.export.source import TOP_P, SourceModel, check_may_replace, list_tokens, make_place
from epigone.export.wasm import assemble
from epigone.files import write_bytes
from epigone.model.weights import PREFIX, quantize_rows
from epigone.report.escape import show_controls, show_name
from epigone.report.pages import GENERATOR
from epigone.tokens.tokenizer import encode

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("tokenizer.js", "model.js", "sampling.js", "main.js")
"""In the order in which they stand in the page, where they are one script."""
MOST_PARAMETERS = 25_000_000
"""Larger models make files of more than 35 MB that write a few words a second on a phone."""
COLUMNS = 8
"""Rows are filled up with zeros to a multiple of so many columns, which the kernel reads at a step."""
MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""Of a block, in the order in which the page has them."""


def export_page(source: SourceModel, out: Path | None = None) -> Path:
    """Write the page of a model, in a folder or as the file that `out` names, and return its path.

    Raises SettingsError, OutputError.
    """
    check_size(source)
    path = make_place(source.place) if out is None else out
    if path.is_dir():
        path /= f"{source.file_name}.html"
    check_may_replace(path, [GENERATOR.encode()])
    return write_bytes(path, render_page(source).encode("utf-8", "replace"))


def check_size(source: SourceModel) -> None:
    """Raise SettingsError for a model that is too large for a page."""
    if source.weights.n_parameters > MOST_PARAMETERS:
        raise SettingsError(
            f"{source.name} has {source.weights.n_parameters / 1e6:,.0f} million parameters; a page is for models of "
            f"at most {MOST_PARAMETERS / 1e6:,.0f} million.",
            hint=f"For a larger one: {quote_command('epigone', 'export', source.name)} --to gguf",
        )


def render_page(source: SourceModel) -> str:
    """The page as HTML."""
    script, style = join_scripts(), (PAGE / "style.css").read_text("utf-8")
    kernel = assemble((PAGE / "multiply.wat").read_text("utf-8"))
    packed = pack_model(source)
    return (
        _environment()
        .get_template("page.html")
        .render(
            version=__version__,
            name=show_name(source.name),
            parameters=f"{source.weights.n_parameters / 1e6:,.1f}",
            vocabulary=f"{len(source.tokenizer):,}",
            temperature=f"{source.temperature:.2f}",
            stop_at=source.facts.stop_at,
            is_run=source.is_run,
            origin=_describe_origin(source),
            style=Markup(style),
            style_hash=Markup(_hash(style)),
            script=Markup(script),
            script_hash=Markup(_hash(script)),
            header=Markup(_as_json(make_header(source, len(packed)))),
            kernel=Markup(base64.b64encode(kernel).decode()),
            weights=Markup(base64.b64encode(packed).decode()),
        )
    )


def _environment() -> Environment:
    """Values are escaped for HTML, with control characters shown as signs."""
    return Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: show_controls(value) if type(value) is str else value,
    )


def _describe_origin(source: SourceModel) -> str:
    """Whose words the vocabulary is made of."""
    if source.is_from_scratch:
        return "The pieces were learned from its text, so frequent words of it are among them."
    return ""


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _as_json(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def join_scripts() -> str:
    """The modules as one script: without their imports and exports, in a function of its own."""
    parts = [(PAGE / name).read_text("utf-8") for name in SCRIPTS]
    joined = "\n".join(re.sub(r"^import .*\n", "", part, flags=re.MULTILINE) for part in parts)
    return "(() => {\n'use strict';\n" + re.sub(r"^export ", "", joined, flags=re.MULTILINE) + "})();\n"


def make_header(source: SourceModel, n_bytes: int) -> dict[str, Any]:
    """What the script has to know beside the weights: sizes, tokens, and how to write."""
    config = source.weights.config
    added = source.tokenizer.backend.get_added_tokens_decoder()
    start = source.facts.start_text
    return {
        "shape": {
            "width": config.n_embd,
            "inner": source.n_inner,
            "nLayer": config.n_layer,
            "nHead": config.n_head,
            "nPositions": config.n_positions,
            "nVocabulary": source.vocabulary_size,
            "isTied": source.is_tied,
            "epsilon": config.layer_norm_epsilon,
        },
        "nBytes": n_bytes,
        "wideMerges": source.vocabulary_size > 1 << 16,
        "tokens": list_tokens(source),
        "added": sorted(added),
        "hidden": sorted(number for number, token in added.items() if token.special),
        # Only white space, so that a run can bring no text of its author here.
        "start": (start.isspace() and encode(start, source.tokenizer)) or [source.tokenizer.end_of_text_id],
        "stopAt": source.facts.stop_at,
        "temperature": round(source.temperature, 2),
        "topP": TOP_P,
    }


# -- weights


def pack_model(source: SourceModel) -> bytes:
    """All integers, then all other numbers in fp32, then the merges; in the order in which model.js reads them."""
    quantized = [quantize_rows(matrix.float()) for matrix in list_matrices(source)]
    integers = b"".join(_fill_up(rows).tobytes() for rows, _ in quantized)
    scales = [scale for _, scale in quantized]
    numbers = b"".join(vector.numpy().astype("<f4").tobytes() for vector in _list_vectors(source, scales))
    merges = np.array(list(_list_merges(source)), "<u4" if source.vocabulary_size > 1 << 16 else "<u2")
    return integers + bytes(-len(integers) % 4) + numbers + merges.tobytes()


def list_matrices(source: SourceModel) -> list[torch.Tensor]:
    """All of the model, as rows [out, in]: embeddings, those of each block, and the head where it is another."""
    tensors = source.weights.tensors
    found = [tensors[f"{PREFIX}wte.weight"], tensors[f"{PREFIX}wpe.weight"]]
    for layer in range(source.weights.config.n_layer):
        found += [tensors[f"{PREFIX}h.{layer}.{name}.weight"].t() for name in MATRICES]
    return found + ([] if source.is_tied else [source.weights.head])


def _list_vectors(source: SourceModel, scales: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Norms, scales and biases; `scales` are those of `list_matrices`."""
    tensors = source.weights.tensors
    yield from scales[:2]
    for layer in range(source.weights.config.n_layer):
        for norm in ("ln_1", "ln_2"):
            yield from (tensors[f"{PREFIX}h.{layer}.{norm}.{part}"] for part in ("weight", "bias"))
        for number, name in enumerate(MATRICES):
            yield scales[2 + layer * len(MATRICES) + number]
            yield tensors[f"{PREFIX}h.{layer}.{name}.bias"]
    yield from (tensors[f"{PREFIX}ln_f.{part}"] for part in ("weight", "bias"))
    if not source.is_tied:
        yield scales[-1]


def _fill_up(rows: torch.Tensor) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.pad(rows.numpy(), ((0, 0), (0, -rows.shape[1] % COLUMNS)))


def _list_merges(source: SourceModel) -> Iterator[tuple[int, int]]:
    """Pairs of ids, the first ones first."""
    backend = source.tokenizer.backend
    ids = backend.get_vocab()
    for pair in json.loads(backend.to_str())["model"]["merges"]:
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        yield ids[left], ids[right]
