"""A run in; its tokens out, made anew of the text, bit for bit, where their files are damaged and the text is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from epigone.errors import EpigoneError, OutputError, RunDamaged, TextNotFound, first_line
from epigone.files import hash_file
from epigone.preparing import group_stretches, read_and_split
from epigone.runs.folder import RunFolder
from epigone.settings import Settings
from epigone.text.corpus import Corpus
from epigone.text.fetching import hide_password, is_kept
from epigone.text.sources import ADDRESS, find_sources
from epigone.text.splitting import Split
from epigone.tokens.stream import FACTS, Tokens, encode_parts, load_tokens, name_content
from epigone.tokens.vocabulary import Vocabulary

PIPE, SAMPLE = "-", "sample:"
PARTS = ("learned", "held_out")
HINT = (
    "Put the text back as it was (receipt.json has its sha256) where it lay or, if nothing is there, into the folder "
    "where you are; then give the command again. The best model and the checkpoints are untouched: epigone write works."
)


# -- what is noted while there is nothing wrong


def hash_tokens(folder: Path, tokens: Tokens) -> str:
    """The sha256 of the file that vouches for the others: what is made anew is held against it."""
    return hash_file(folder / tokens.key / FACTS)


def name_texts(texts: Sequence[str], settings: Settings, run: Path) -> dict[str, list[str]]:
    """How the texts are found again: places as they are seen from the run's folder, anything else as it was named."""
    held_out = [] if isinstance(settings.validation, float) else [settings.validation]
    return {
        "learned": [_name_from(run, text) for text in texts],
        "held_out": [_name_from(run, text) for text in held_out],
    }


def _name_from(run: Path, text: str) -> str:
    if text == PIPE or text.startswith(SAMPLE) or ADDRESS.match(text):
        return hide_password(text)
    path = Path(text).expanduser()
    with suppress(ValueError):  # on Windows there is no way from one drive to another
        return Path(os.path.relpath(path.parent.resolve() / path.name, run.resolve())).as_posix()
    return path.absolute().as_posix()


# -- what is done where something is


def open_tokens(folder: RunFolder, vocabulary: Vocabulary, on_note: Callable[[str], None]) -> Tokens:
    """The tokens of a run; `on_note` hears of it if they had to be made anew. Raises RunDamaged, OutputError."""
    _, more = folder.read_plan()
    place = folder.tokens / more["tokens"]
    try:
        tokens = load_tokens(place)
        if more.get("tokens_sha256") in (None, hash_tokens(folder.tokens, tokens)):
            return tokens
        fault = f"{place / FACTS} is not what was written"
    except RunDamaged as error:
        fault = str(error).removesuffix(".")
    tokens = _remake(folder, more, vocabulary, fault)
    on_note(f"{fault}; the tokens are made anew of the text and are the same, bit for bit.")
    return tokens


def _remake(folder: RunFolder, more: dict[str, Any], vocabulary: Vocabulary, fault: str) -> Tokens:
    try:
        corpus, held_out, split = _read_again(folder, more)
        parts = group_stretches(corpus, split.train), group_stretches(held_out or corpus, split.validation)
        if name_content(*parts, vocabulary) != more["tokens"]:
            raise TextNotFound(_say_what_changed(folder, corpus, held_out))
        (folder.tokens / more["tokens"] / FACTS).unlink(missing_ok=True)  # it may vouch for what another run had
        tokens = encode_parts(*parts, vocabulary, folder.tokens)
    except (RunDamaged, OutputError):
        raise
    except (EpigoneError, OSError, ValueError) as error:
        raise _give_up(fault, first_line(error)) from None
    if hash_tokens(folder.tokens, tokens) != more.get("tokens_sha256"):
        raise _give_up(fault, "Made anew of the text they are others: was the run made with other versions?")
    return tokens


def _read_again(folder: RunFolder, more: dict[str, Any]) -> tuple[Corpus, Corpus | None, Split]:
    """Raises TextError where the text is not there any more."""
    settings = folder.read_settings()
    try:
        learned, held_out = ([_find_again(folder.path, str(name)) for name in more["texts"][part]] for part in PARTS)
    except (KeyError, TypeError):
        raise TextNotFound("The plan, as one of an earlier version, does not say where the text lay.") from None
    settings = settings.model_copy(update={"validation": held_out[0]} if held_out else {})
    return read_and_split(learned, settings, folder.tokens)


def _find_again(run: Path, name: str) -> str:
    """The text where it was, or else one of that name in the folder where the command is given."""
    if name == PIPE:
        raise TextNotFound("The text came through a pipe.")
    if ADDRESS.match(name) and not is_kept(name):  # nobody is asked because of what a run says
        raise TextNotFound(f"The text came from {name} and is not kept in the cache any more.")
    if name.startswith(SAMPLE) or ADDRESS.match(name):
        return name
    for place in (run.resolve() / name, Path(Path(name).name)):
        with suppress(TextNotFound):
            find_sources([str(place)])
            return str(place)
    raise TextNotFound(f"The text is not in {os.path.normpath(run.resolve() / name)} any more.")


def _say_what_changed(folder: RunFolder, corpus: Corpus, held_out: Corpus | None) -> str:
    receipt = folder.read_receipt()
    known = {file["sha256"] for file in [*receipt["files"], *receipt["held_out_files"]]}
    found = [*corpus.documents, *(held_out.documents if held_out else ())]
    changed = [document.name for document in found if document.receipt.sha256 not in known]
    n_read = len(receipt["files"]) + len(receipt["held_out_files"])
    if changed:
        return f"{changed[0]} is not what was read then: its sha256 is another."
    if len(found) != n_read:
        return f"The text is not what was read then: {n_read:,} files, of which {len(found):,} are there."
    return "The text is what it was, but this version of epigone makes other tokens of it."


def _give_up(fault: str, why: str) -> RunDamaged:
    return RunDamaged(f"{fault}. {why}", hint=HINT)
