"""Several voices: the texts of each author, and the runs that learn them: one of all texts and, from it, one for each.

What the authors have in common, such as how their texts are laid out, is learned from all of them, and then what is an
author's own (docs/dev/findings.md has what else was tried). The run of all texts is a run as any other, and has those
of the voices in its folder `voices`. All are stock models that began from the same weights, so that they can be mixed.
"""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from epigone.corpus.missing import suggest
from epigone.corpus.readers.formats import SUFFIXES
from epigone.corpus.readers.reader import find_suffix
from epigone.corpus.sources import name_skipped
from epigone.corpus.split import Split, group_spans, split_corpus
from epigone.errors import RunDamaged, RunExists, SettingsError, TextError, TextNotFound, TextTooShort, pluralize
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
LEAST_LEARNED = 2_000
"""Characters of a voice that are learned."""
NAME_CHARACTERS = 60
ACCENTS = re.compile("[\u0300-\u036f]")
"""Behind the letters that they belong to, in NFD."""
FAMILY_FIRST = re.compile(r"^\s*(\w+),\s*([^,]+?)\s*$")
"""As in "Wilde, Oscar"; two authors with a comma between them have more words before it."""
VARIANTS = re.compile("[\ufe00-\ufe0f]")
"""Marks that choose how the sign before them looks, such as an emoji in colour."""


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
    splits, left_out = _split_voices(voices, settings)
    places = folder / VOICES / TEXTS
    sizes = {name: _write_texts(voices[name], split, places, name) for name, split in splits.items()}
    files = tuple(dict.fromkeys(file for name in splits for file in _list_files(voices[name], name, settings)))
    skipped = tuple(dict.fromkeys([*(line for corpus in voices.values() for line in corpus.skipped), *left_out]))
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
    meant = match_voice(name, record.voices)
    if meant is None:
        alike = difflib.get_close_matches(fold_name(name), {fold_name(voice): voice for voice in record.voices}, n=1)
        suggestion = [f"Did you mean {voice}? " for voice in record.voices if fold_name(voice) in alike]
        hint = f"{''.join(suggestion[:1])}Its voices: {', '.join(record.voices)}."
        raise SettingsError(f"{folder} has no voice {name}.", hint=hint)
    return folder / VOICES / meant


def measure_held_out(folder: Path, voice: str) -> int:
    """Bytes of what is held out of a voice's run."""
    return sum(path.stat().st_size for path in (folder / VOICES / TEXTS / "held-out" / voice).glob("*.txt"))


def match_voice(name: str, voices: Iterable[str]) -> str | None:
    """The voice that is meant by a name as people write it: "jane austen" is Jane-Austen, "zoe" is Zoë."""
    known = list(voices)
    if name in known:
        return name
    for fold in (fold_name, lambda text: drop_accents(fold_name(text))):
        alike = [voice for voice in known if fold(voice) == fold(name)]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def fold_name(text: str) -> str:
    """Equal for names that could not be told apart as folders everywhere."""
    return unicodedata.normalize("NFC", _as_name(text).casefold())


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
        _check_names([(one, one) for one in settings.speaker], "Give that speaker's name once.")
        asked = {_as_name(one): settings.model_copy(update={"speaker": (one,)}) for one in settings.speaker}
        return {name: read(texts, changed) for name, changed in asked.items()}
    listed, skipped = _list_places(texts)
    places = [(one.name if one.is_dir() else one.stem, one) for one in listed]
    _check_names([(name, str(place)) for name, place in places], "Rename one of them, or put both into one folder.")
    found = {_as_name(name): _read_place(place, partial(read, asked=settings)) for name, place in places}
    return {name: replace(corpus, skipped=(*corpus.skipped, *skipped)) for name, corpus in found.items()}


def _read_place(place: Path, read: Callable[[Sequence[str]], Corpus]) -> Corpus:
    """The texts of a folder or file that is a voice. Raises TextError."""
    try:
        return read([str(place)])
    except TextError as error:
        error.hint += f" Or move it out of {place.parent}, where each folder and each file is a voice."
        raise


def _check_names(named: Iterable[tuple[str, str]], hint: str) -> None:
    """Raise SettingsError where two voices would have one name. `named`: names, and what has them."""
    known: dict[str, str] = {}
    for name, what in named:
        if other := known.get(fold_name(name)):
            raise SettingsError(f"Two voices would be called {_as_name(name)}: {other} and {what}.", hint=hint)
        known[fold_name(name)] = what


def _list_files(corpus: Corpus, voice: str, settings: TrainSettings) -> Iterator[FileReceipt]:
    """The files of a voice; where all voices are from the same ones, with its name behind theirs."""
    behind = f", {voice}" if settings.by == "speaker" else ""
    yield from (replace(file, name=f"{file.name}{behind}") for file in corpus.files)


def _list_places(texts: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The folders and files in the folders that were named, and what is said of files that no text is read from."""
    found, skipped = list[Path](), list[str]()
    for text in texts:
        folder = Path(text).expanduser()
        if not folder.exists():
            raise TextNotFound(f"There is no folder {text}.", hint=suggest(folder, folders=True))
        if not folder.is_dir():
            raise SettingsError(
                f"--by folder needs a folder with a folder or a file for each author; {text} is not a folder.",
                hint="To divide files by the author that they name: --by author.",
            )
        places = sorted(place for place in folder.iterdir() if not place.name.startswith("."))
        if not places:
            raise TextNotFound(f"{folder} is empty.", hint="It needs a folder or a file for each author.")
        found += [place for place in places if place.is_dir() or find_suffix(place.name) in SUFFIXES]
        skipped += name_skipped(text, [place.name for place in places if place not in found])
    return found, skipped


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
    found: dict[str, Corpus] = {}
    for several in sorted(by_author.values(), key=_choose_spelling):
        name = _number(_as_name(_choose_spelling(several)), found)
        found[name] = make_corpus(several, () if found else corpus.skipped)
    return found


def _number(name: str, taken: Iterable[str]) -> str:
    """The name, with a number if it is taken, as long names that begin alike may be."""
    folded = {fold_name(one) for one in taken}
    numbered = (f"{name[: NAME_CHARACTERS - 6]}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if fold_name(one) not in folded)


def _order_words(author: str) -> tuple[str, ...]:
    """Equal for "Wilde, Oscar" and "OSCAR WILDE", and for "Brontë" and "Bronte"."""
    return tuple(sorted(re.findall(r"\w+", drop_accents(author).casefold())))


def drop_accents(text: str) -> str:
    """The text with plain letters: "Bronte" for "Brontë"."""
    return unicodedata.normalize("NFC", ACCENTS.sub("", unicodedata.normalize("NFD", text)))


def _choose_spelling(documents: Sequence[Document]) -> str:
    """How an author is most often spelled, with the first name first and not in capitals only."""
    counts = Counter(FAMILY_FIRST.sub(r"\2 \1", document.author) for document in documents)
    return max(counts, key=lambda author: (not author.isupper(), not author.islower(), counts[author], author))


def _as_name(text: str) -> str:
    """A name for a folder: letters with their marks, digits, dots and dashes."""
    name = ""
    for one in unicodedata.normalize("NFC", text):
        is_mark = unicodedata.category(one) in ("Mn", "Mc") and not VARIANTS.match(one)
        name += one if one.isalnum() or one in "_.-" or (is_mark and name[-1:] not in ("", *"_.-")) else "-"
    name = re.sub("--+", "-", name).strip(".-")[:NAME_CHARACTERS] or "voice"
    return f"{name}-" if name.casefold() in (TEXTS, FACTS) else name


def _split_voices(voices: Mapping[str, Corpus], settings: TrainSettings) -> tuple[Mapping[str, Split], Sequence[str]]:
    """What is learned and what is held out of each voice, and what is left out. Raises TextTooShort.

    Of the authors of documents, who are found and not named, those with too little text are left out.
    """
    share = settings.validation if isinstance(settings.validation, float) else 0.0
    splits: dict[str, Split] = {}
    left_out = []
    for name, corpus in voices.items():
        split = split_corpus(corpus, how=settings.split, share=share, seed=settings.seed)
        n_learned = sum(map(len, split.train))
        if n_learned >= LEAST_LEARNED:
            splits[name] = split
            continue
        why = f"{pluralize(n_learned, 'character')} to learn from; a voice needs {LEAST_LEARNED:,}"
        if settings.by != "author":
            raise TextTooShort(f"The voice {name} has {why}.", hint="Give more of its text, or leave it out.")
        left_out.append(f"{name}: {why}")
    if len(splits) < FEWEST:
        found = f"--by {settings.by} found {pluralize(len(splits), 'voice')} with enough text: {', '.join(splits)}"
        hint = "For one voice, leave --by out."
        raise SettingsError(". ".join([found.rstrip(": "), *left_out[:3], ""]).strip(), hint=hint)
    return splits, left_out


def _write_texts(corpus: Corpus, split: Split, folder: Path, name: str) -> int:
    """Write what is learned of a voice and what is held out; returns the bytes."""
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
