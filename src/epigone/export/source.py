"""The model that is exported: weights, tokenizer and how it writes, of a run, a bundled base, a folder or the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from epigone.errors import BaseUnusable, OutputError
from epigone.files import is_link, make_folder
from epigone.model.weights import PREFIX, Weights, is_plain, read_temperature, read_weights
from epigone.runs.folder import RunFolder
from epigone.runs.model_folder import find_model_folder
from epigone.runs.records import ModelFacts
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer

TOP_P = 0.95
"""As `WriteSettings.top_p`: what is written elsewhere is drawn from as many tokens as here."""
EXPORTS = "export"
"""The folder in a run where exported files lie."""


@dataclass(frozen=True, kw_only=True)
class SourceModel:
    """A plain GPT-2 in fp32 on the CPU, and what other programs have to know of it."""

    name: str
    """Of the run's folder, or of the base."""
    weights: Weights
    tokenizer: BPETokenizer
    temperature: float
    facts: ModelFacts
    """Of its run; as of a model from scratch where it is a base."""
    is_run: bool
    place: Path
    """The folder where what is exported lies, unless another is named."""

    @property
    def file_name(self) -> str:
        """Its name as a file's and, in Ollama, a model's may be."""
        return make_file_name(self.name)

    @property
    def is_from_scratch(self) -> bool:
        """Whether its vocabulary was learned from the text of its run."""
        return self.is_run and self.facts.base == "none"

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.weights.config.n_embd

    @property
    def n_inner(self) -> int:
        """Width within the feed-forward layers."""
        return len(self.weights.tensors[f"{PREFIX}h.0.mlp.c_proj.weight"])

    @property
    def is_tied(self) -> bool:
        """Whether the embedding is the output matrix too."""
        head = self.weights.tensors.get("lm_head.weight")
        return head is None or head.equal(self.weights.tensors[f"{PREFIX}wte.weight"])

    @property
    def vocabulary_size(self) -> int:
        """Rows of the embedding: tokens, and what fills it up where it is longer than the tokenizer."""
        return len(self.weights.tensors[f"{PREFIX}wte.weight"])


def open_source(name: str | PathLike[str], *, progress: bool = False) -> SourceModel:
    """The model of a run, or any GPT-2 by name. Raises RunNotFound, RunDamaged, BaseError, OutputError."""
    path = Path(name)
    run = RunFolder.find(path) if RunFolder.is_run(path) else None
    folder = find_model_folder(name, progress=progress)
    if run:
        run.check_no_links()
    weights = read_weights(folder, "cpu")
    if not is_plain(weights.config):
        raise BaseUnusable(
            f"{name} computes otherwise than GPT-2 does, in its activation or its attention.",
            hint="It can be used here, and by transformers; other programs would write something else with it.",
        )
    own = path.resolve().name if path.exists() else str(name).rpartition("/")[2]
    return SourceModel(
        name=own,
        weights=weights,
        tokenizer=load_tokenizer(folder),
        temperature=read_temperature(folder),
        facts=run.read_model_facts() if run else ModelFacts(),
        is_run=run is not None,
        place=path / EXPORTS if run else Path(f"{make_file_name(own)}-{EXPORTS}"),
    )


def make_file_name(name: str) -> str:
    """A name in small letters, digits, dots, dashes and underscores, at most 60 of them."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip(".-_")[:60] or "model"


def make_place(folder: Path) -> Path:
    """The folder for exported files, made if it is not there; never through a link. Raises OutputError."""
    if is_link(folder):
        raise OutputError(
            f"{folder} is a link, which is not written through.", hint="Choose another folder with --out."
        )
    try:
        return make_folder(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}.", hint="Choose another with --out.") from None


def list_tokens(source: SourceModel) -> list[str | None]:
    """The tokens by id, each byte of them as a printable character; None for rows of the embedding without a token."""
    tokens: list[str | None] = [None] * source.vocabulary_size
    for token, number in source.tokenizer.backend.get_vocab().items():
        tokens[number] = token
    return tokens


def check_may_replace(path: Path, marks: Sequence[bytes]) -> None:
    """Raise OutputError if there is a file that does not have one of these `marks` in its first bytes."""
    try:
        with path.open("rb") as file:
            beginning = file.read(400)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None
    if not any(mark in beginning for mark in marks):
        raise OutputError(
            f"{path} is already there, and epigone did not write it.",
            hint="Choose another place with --out, or delete it.",
        )
