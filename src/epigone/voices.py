"""Several voices: the texts of each author, and the runs that learn them: one of all texts and, from it, one for each.

What the authors have in common, such as how their texts are laid out, is learned from all of them, and then what is an
author's own (docs/dev/findings.md has what else was tried). The run of all texts is a run as any other, and has those
of the voices in its folder `voices`. All are stock models that began from the same weights, so that they can be mixed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epigone.corpus.corpus import (
    Corpus,
    Document,
    FileReceipt,
    StageCallback,
    ignore_stages,
    make_corpus,
    read_corpus,
    unwrap_corpus,
)
from epigone.corpus.split import group_spans, split_corpus
from epigone.errors import RunDamaged, RunExists, SettingsError, TextNotFound
from epigone.files import exists, make_folder, read_bytes, write_bytes, write_text
from epigone.runs.listing import LEARNED, VOICES
from epigone.runs.records import Record, read_record
from epigone.settings import TrainSettings
from epigone.training.distributed import count_processes

TEXTS, FACTS = "texts", "voices.json"
"""In the folder of voices: what is learned and held out of each, and which there are."""
SHARED_TIME = 0.5
"""Of the minutes, for the run of all texts; the others divide the rest by the length of their texts."""
FEWEST = 2
NAME_CHARACTERS = 60


class VoicesRecord(Record):
    """voices.json: which voices there are, and how they are trained."""

    voices: dict[str, int]
    """Bytes of each voice's text."""
    settings: TrainSettings
    files: tuple[FileReceipt, ...]
    """What was read, and every change made to it, before it was divided."""
    skipped: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """One of the runs that are to be made."""

    texts: tuple[str, ...]
    settings: TrainSettings
    folder: Path


def divide_voices(
    texts: Sequence[str], settings: TrainSettings, folder: Path, watch: StageCallback = ignore_stages
) -> list[PlannedRun]:
    """Put the texts of each voice into a new run's folder; returns the runs to make from them, that of all texts first.

    What is held out of a voice's run is held out of the run of all texts as well. Raises TextError, SettingsError,
    RunExists, OutputError.
    """
    _check(settings)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunExists(f"{folder} already holds something.", hint="Choose another folder with --out.")
    voices = _read_voices(texts, settings, watch)
    if len(voices) < FEWEST:
        raise SettingsError(
            f"--by {settings.by} found one voice: {', '.join(voices)}.", hint="For one voice, leave --by out."
        )
    sizes = {name: _write_texts(corpus, settings, folder / VOICES / TEXTS, name) for name, corpus in voices.items()}
    files = tuple(file for corpus in voices.values() for file in corpus.files)
    skipped = tuple(line for corpus in voices.values() for line in corpus.skipped)
    record = VoicesRecord(voices=sizes, settings=settings, files=files, skipped=skipped)
    write_bytes(folder / VOICES / FACTS, record.encode())
    return list(_list_runs(record, folder))


def read_voices(folder: Path) -> VoicesRecord | None:
    """Which voices a run has; None where it has none. Raises RunDamaged."""
    path = folder / VOICES / FACTS
    if not exists(path):
        return None
    try:
        return read_record(VoicesRecord, read_bytes(path))
    except (OSError, ValueError, RecursionError):
        raise RunDamaged(f"{path} cannot be read.", hint="Train again from the texts.") from None


def list_planned(folder: Path) -> list[PlannedRun]:
    """The runs of several voices, that of all texts first, whether they are made or not; none of one voice."""
    record = read_voices(folder)
    return [] if record is None else list(_list_runs(record, folder))


def find_voice(folder: Path, name: str) -> Path:
    """The run of a voice. Raises SettingsError, RunDamaged."""
    record = read_voices(folder)
    if record is None:
        raise SettingsError(f"{folder} has no voices.", hint="epigone train FOLDER --by-folder makes some.")
    if name not in record.voices:
        raise SettingsError(f"{folder} has no voice {name}.", hint=f"Its voices: {', '.join(record.voices)}.")
    return folder / VOICES / name


def _check(settings: TrainSettings) -> None:
    if not isinstance(settings.validation, float):
        raise SettingsError("--validation FILE does not go with --by.", hint="Give a share: --validation 10%.")
    if settings.teacher != "none":
        raise SettingsError("--teacher does not go with --by.", hint="Leave out one of the two.")
    if settings.by == "speaker" and len(settings.speaker) < FEWEST:
        raise SettingsError(
            "--by speaker needs the names of two people or more.", hint="For example: --speaker Anna --speaker Ben"
        )
    if count_processes() > 1:
        raise SettingsError("--by is for one process.", hint="Run it without torchrun.")


# -- the texts


def _read_voices(texts: Sequence[str], settings: TrainSettings, watch: StageCallback) -> Mapping[str, Corpus]:
    def read(names: Sequence[str], asked: TrainSettings) -> Corpus:
        corpus = read_corpus(names, asked, watch=lambda n_done, n_all: watch("Reading", n_done, n_all))
        return unwrap_corpus(corpus, settings.unwrap)

    if settings.by == "author":
        return _divide_by_author(read(texts, settings))
    if settings.by == "speaker":
        named = [(one, texts, settings.model_copy(update={"speaker": (one,)})) for one in settings.speaker]
    else:
        places = _list_places(texts)
        named = [(one.name if one.is_dir() else one.stem, [str(one)], settings) for one in places]
    found: dict[str, Corpus] = {}
    for name, own, asked in named:
        if _as_name(name) in found:
            raise SettingsError(f"Two voices are called {_as_name(name)}.", hint="Rename one of them.")
        found[_as_name(name)] = read(own, asked)
    return found


def _list_places(texts: Sequence[str]) -> Iterator[Path]:
    """The folders and files in the folders that were named."""
    for text in texts:
        folder = Path(text).expanduser()
        if not folder.is_dir():
            raise SettingsError(
                f"--by folder needs a folder with a folder or a file for each author; {text} is not a folder.",
                hint="To divide files by the author that they name: --by author.",
            )
        places = sorted(place for place in folder.iterdir() if not place.name.startswith("."))
        if not places:
            raise TextNotFound(f"{folder} is empty.", hint="It needs a folder or a file for each author.")
        yield from places


def _divide_by_author(corpus: Corpus) -> Mapping[str, Corpus]:
    if nameless := list(dict.fromkeys(one.name for one in corpus.documents if not _order_words(one.author))):
        count = f" (and {len(nameless) - 1:,} more do not)" if len(nameless) > 1 else ""
        raise SettingsError(
            f"{nameless[0]} does not name its author{count}.",
            hint="Put the texts of each author into a folder of their own: --by folder.",
        )
    by_author: dict[tuple[str, ...], list[Document]] = {}
    for document in corpus.documents:
        by_author.setdefault(_order_words(document.author), []).append(document)
    named = sorted((_as_name(_choose_spelling(several)), several) for several in by_author.values())
    return {
        name: make_corpus(several, corpus.skipped if not number else ()) for number, (name, several) in enumerate(named)
    }


def _order_words(author: str) -> tuple[str, ...]:
    """Equal for "Wilde, Oscar" and "OSCAR WILDE"."""
    return tuple(sorted(re.findall(r"\w+", author.casefold())))


def _choose_spelling(documents: Sequence[Document]) -> str:
    """How an author is most often spelled, with the first name first."""
    counts = Counter(document.author for document in documents)
    return max(counts, key=lambda author: ("," not in author, not author.islower(), counts[author], author))


def _as_name(text: str) -> str:
    """A name for a folder: letters, digits, dots and dashes."""
    name = re.sub(r"[^\w.-]+", "-", text).strip(".-")[:NAME_CHARACTERS] or "voice"
    return f"{name}-" if name in (TEXTS, FACTS) else name


def _write_texts(corpus: Corpus, settings: TrainSettings, folder: Path, name: str) -> int:
    """Divide an author's text into what is learned and what is held out; returns its bytes. Raises TextTooShort."""
    share = settings.validation if isinstance(settings.validation, float) else 0.0
    split = split_corpus(corpus, how=settings.split, share=share, seed=settings.seed)
    n_bytes = 0
    for part, spans in (("learned", split.train), ("held-out", split.validation)):
        make_folder(folder / part / name)
        for number, document in enumerate(group_spans(corpus, spans), 1):
            text = "".join(map(str, document))
            write_text(folder / part / name / f"{name}-{number:04}.txt", text)
            n_bytes += len(text.encode())
    return n_bytes


# -- the runs


def _list_runs(record: VoicesRecord, folder: Path) -> Iterator[PlannedRun]:
    asked, place = record.settings, folder.resolve() / VOICES
    as_it_is = {"format": "text", "encoding": "utf-8", "unwrap": "no", "furniture": "keep", "keep_boilerplate": True}
    plain = asked.model_copy(update=as_it_is | {"by": "none", "speaker": (), "field": (), "anonymize": False})

    def make(run: Path, name: str, base: str, share: float) -> PlannedRun:
        minutes = "none" if asked.minutes == "none" else asked.minutes * share
        held_out = str(place / TEXTS / "held-out" / name)
        changed = plain.model_copy(update={"validation": held_out, "base": base, "minutes": minutes})
        if name:  # what a new model is like is decided in the run of all texts
            changed = changed.model_copy(update={"size": "auto", "vocab_size": "auto"})
        return PlannedRun(texts=(str(place / LEARNED / name),), settings=changed, folder=run)

    yield make(folder, "", asked.base, SHARED_TIME)
    for name, n_bytes in record.voices.items():
        share = (1 - SHARED_TIME) * n_bytes / sum(record.voices.values())
        yield make(folder / VOICES / name, name, str(folder.resolve()), share)
