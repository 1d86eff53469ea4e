"""A text or a run in; what is thought of it, on the screen or as JSON, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epigone.cli.write import use_idle_threads
from epigone.errors import SettingsError, TextError, TextNotFound
from epigone.settings import JudgeSettings

if TYPE_CHECKING:
    from epigone.corpus.corpus import Document
    from epigone.evaluation.judge import Author
    from epigone.evaluation.verdict import Judgement
    from epigone.generation.scoring import Score


HELD_OUT = 0.1
"""Of an author's text, to hold him against himself."""

# -- scoring


def score(run: str, file: str, device: str, encoding: str, *, keep_boilerplate: bool, json: bool) -> int:
    """What `epigone score` does. Raises EpigoneError."""
    from epigone import run as runs
    from epigone.cli.terminal import print_json

    document = _read_document(file, encoding, keep_boilerplate=keep_boilerplate)
    found = runs.score(run, str(document.text), device, progress=not json)
    if json:
        print_json({"run": run, "text": document.name, **list_numbers(found)})
    else:
        _show_score(document, found)
    return 0


def _read_document(file: str, encoding: str, *, keep_boilerplate: bool) -> Document:
    from epigone.corpus.corpus import read_corpus

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
    from epigone.cli.terminal import open_screen
    from epigone.report.views import describe_cuts, describe_score, describe_worst_lines

    with open_screen(quiet=False, json=False) as screen:
        if document.receipt.warning:
            screen.show_warning(f"{document.name}: {document.receipt.warning}")
        screen.show_facts(document.name, [*describe_cuts(asdict(document.receipt)), *describe_score(found)])
        screen.show_facts("Least likely lines", describe_worst_lines(found))


# -- judging


def judge(target: str, how: JudgeSettings, *, json: bool) -> int:
    """What `epigone judge` does. Raises EpigoneError."""
    others = _read_others(Path(how.others), how.encoding) if how.others else None
    judgement = _judge_file(target, how, others) if how.against else _judge_run(target, how, others)
    if json:
        from epigone.cli.terminal import print_json

        print_json(judgement.as_json())
    else:
        _show_judgement(judgement)
    return 0


def _judge_run(target: str, how: JudgeSettings, others: Mapping[str, Sequence[str]] | None) -> Judgement:
    from epigone.run import open_run
    from epigone.runs.folder import RunFolder

    if Path(target).is_file() and not RunFolder.is_run(Path(target)):
        raise SettingsError(
            f"{target} is a text: whose shall it be?", hint="Name what it is held against: --against FILE"
        )
    use_idle_threads()
    return open_run(target).judge(how.characters, others=others, seed=how.seed, device=how.device)


def _judge_file(target: str, how: JudgeSettings, others: Mapping[str, Sequence[str]] | None) -> Judgement:
    from epigone.evaluation.judge import judge_text

    document = _read_document(target, how.encoding, keep_boilerplate=False)
    return judge_text(str(document.text), document.name, _read_author(how.against, how.encoding), others, seed=how.seed)


def _read_author(texts: Sequence[str], encoding: str) -> Author:
    """The author of some texts, of which a part stands for what was not learned from."""
    from epigone.corpus.corpus import read_corpus
    from epigone.corpus.split import split_corpus
    from epigone.evaluation.judge import Author

    corpus = read_corpus(texts, encoding=encoding)
    split = split_corpus(corpus, how="auto", share=HELD_OUT, seed=0)
    return Author(
        name=", ".join(document.name for document in corpus.documents[:3]),
        documents=list(split.train_texts(corpus)),
        held_out=list(split.validation_texts(corpus)),
        searched=[document.text for document in corpus.documents],
    )


def _read_others(folder: Path, encoding: str) -> dict[str, list[str]]:
    """The texts of each author: what lies in a folder of his, or in one file."""
    from epigone.corpus.corpus import read_corpus

    places = sorted(place for place in folder.iterdir() if not place.name.startswith(".")) if folder.is_dir() else []
    if not places:
        raise TextNotFound(f"{folder} is no folder with texts.", hint="Put a folder or a file for each author into it.")
    found = {place.stem: read_corpus([str(place)], encoding=encoding, smallest_bytes=1) for place in places}
    return {name: [str(document.text) for document in corpus.documents] for name, corpus in found.items()}


def _show_judgement(judgement: Judgement) -> None:
    from epigone.cli.terminal import open_screen
    from epigone.report.views import describe_judged, list_notes, list_rows

    plain = judgement.as_json()
    with open_screen(quiet=False, json=False) as screen:
        screen.show_note(describe_judged(plain))
        for answer, rows in list_rows(plain):
            screen.show_facts(answer, rows)
        for note in list_notes(plain):
            screen.show_note(note)
