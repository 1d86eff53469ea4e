"""A model's name and what is asked of it in; its texts or its opinion of one, on the screen or as JSON, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from epigone.errors import OutputError, SettingsError, TextError
from epigone.settings import WritingSettings

if TYPE_CHECKING:  # these load torch, which takes seconds: each function imports what it needs
    from epigone.text.corpus import Document
    from epigone.writing.engine import Writer
    from epigone.writing.scoring import Score

Manner = Literal["text", "json", "dialogue"]
"""How what is written comes out."""


# -- writing


def choose_manner(*, json: bool, interactive: bool) -> Manner:
    """Raises SettingsError."""
    if json and interactive:
        raise _refuse_beside_dialogue("--json")
    return "json" if json else "dialogue" if interactive else "text"


def write(run: str, prompt: str, out: Path | None, settings: WritingSettings, manner: Manner, *, quiet: bool) -> int:
    """What `epigone write` does. Raises EpigoneError."""
    _check_writing(out, settings, manner)
    from epigone import api

    writer = api.open_writer(run, settings, progress=not quiet)
    if manner == "dialogue":
        _hold_dialogue(writer, prompt, settings, quiet=quiet)
    elif out is None and manner == "text" and settings.count == 1:
        _stream(writer, prompt, settings)
    else:
        _write_whole(writer, prompt, out, settings, manner)
    return 0


def _check_writing(out: Path | None, settings: WritingSettings, manner: Manner) -> None:
    if manner == "dialogue":
        if out is not None:
            raise _refuse_beside_dialogue("--out")
        if settings.count != 1:
            raise _refuse_beside_dialogue("--count")
    if out is not None and out.exists():
        raise OutputError(f"{out} is already there.", hint="Choose another name after --out, or delete it.")


def _refuse_beside_dialogue(flag: str) -> SettingsError:
    return SettingsError(f"{flag} does not go with --interactive.", hint="Leave one of the two out.")


def _hold_dialogue(writer: Writer, prompt: str, settings: WritingSettings, *, quiet: bool) -> None:
    from epigone.dialogue import Dialogue
    from epigone.display import open_screen
    from epigone.writing.conversation import Conversation

    with open_screen(quiet=quiet, json=False) as screen:
        Dialogue(Conversation(writer, settings), screen, quiet=quiet).hold(prompt)


def _stream(writer: Writer, prompt: str, settings: WritingSettings) -> None:
    from epigone.display import print_piece

    print_piece(prompt)
    for piece in writer.stream(prompt, settings):
        print_piece(piece.text)
    print_piece("\n")


def _write_whole(writer: Writer, prompt: str, out: Path | None, settings: WritingSettings, manner: Manner) -> None:
    from epigone.display import print_json, print_piece
    from epigone.files import write_text

    texts = writer.write(prompt, settings)
    found = [{"prompt": prompt, "text": text, "seed": settings.seed + i} for i, text in enumerate(texts)]
    if manner == "json":
        print_json({"texts": found, "settings": settings.model_dump()})
    elif out is None:
        print_piece(_join(prompt, texts))
    if out is not None:
        write_text(out, _join(prompt, texts))


def _join(prompt: str, texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return f"{prompt}{texts[0]}\n"
    return "\n".join(f"--- {number} of {len(texts)}\n{prompt}{text}\n" for number, text in enumerate(texts, 1))


# -- scoring


def score(run: str, file: str, device: str, encoding: str, *, keep_boilerplate: bool, json: bool) -> int:
    """What `epigone score` does. Raises EpigoneError."""
    from epigone import api
    from epigone.display import print_json

    document = _read_document(file, encoding, keep_boilerplate=keep_boilerplate)
    found = api.score(run, document.text, device, progress=not json)
    if json:
        print_json({"run": run, "text": document.name, **list_numbers(found)})
    else:
        _show_score(document, found)
    return 0


def _read_document(file: str, encoding: str, *, keep_boilerplate: bool) -> Document:
    from epigone.text.corpus import read_corpus

    corpus = read_corpus([file], encoding=encoding, keep_boilerplate=keep_boilerplate, smallest_bytes=1)
    if len(corpus.documents) > 1:
        raise TextError(f"{file} holds {len(corpus.documents):,} texts; score reads one.", hint="Name one file.")
    return corpus.documents[0]


def list_numbers(score: Score) -> dict[str, Any]:
    """All that JSON says of a score."""
    names = ("nats", "loss", "perplexity", "bits_per_byte", "accuracy", "n_tokens", "n_bytes", "n_characters")
    lines = [asdict(line) | {"bits_per_byte": line.bits_per_byte} for line in score.lines]
    numbers = {name: getattr(score, name) for name in names}
    return numbers | {"lines": lines, "tokens": [token._asdict() for token in score.tokens]}


def _show_score(document: Document, found: Score) -> None:
    from epigone.display import open_screen
    from epigone.reporting.facts import describe_cuts, describe_score, describe_worst_lines

    with open_screen(quiet=False, json=False) as screen:
        if document.receipt.warning:
            screen.show_warning(f"{document.name}: {document.receipt.warning}")
        screen.show_facts(document.name, [*describe_cuts(asdict(document.receipt)), *describe_score(found)])
        screen.show_facts("Least likely lines", describe_worst_lines(found))
