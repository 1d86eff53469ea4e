"""Documents from whatever the user named, cleaned, each with a receipt that accounts for every byte of its file."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict

from epigone.corpus import parse_cache
from epigone.corpus.anonymize import Anonymizer, Replaced
from epigone.corpus.encoding import (
    DecodedPiece,
    DecodedText,
    as_piece,
    find_codec,
    join_pieces,
    measure_bytes,
    read_pieces,
)
from epigone.corpus.furniture.cleaner import remove_furniture
from epigone.corpus.gutenberg import Cut, GutenbergCleaner, ends_near_name
from epigone.corpus.large_text import Text, TextSpooler, divide_text, read_blocks, read_some
from epigone.corpus.line_layout import LEAST_CONTINUED, LineJoiner, Wrapping, find_wrapping
from epigone.corpus.overview_pages import find_overview_pages
from epigone.corpus.readers.archives import Member, is_archive, read_members
from epigone.corpus.readers.formats import NEVER_PLAIN, SUFFIXES, find_format
from epigone.corpus.readers.limits import DEEPEST_ARCHIVES, Limits
from epigone.corpus.readers.reader import Beginning, DropLog, Dropped, Format, ReadContext, find_suffix, to_valid
from epigone.corpus.readers.speakers import FOR_SPEAKERS, Speakers
from epigone.corpus.reading_pool import FileResult, read_all
from epigone.corpus.small_file_cache import LARGEST_BYTES, SmallFileCache
from epigone.corpus.sources import Source, find_sources, name_skipped, name_unread, unreadable
from epigone.errors import EpigoneError, TextNotFound, TextTooShort, TextUnreadable, pluralize
from epigone.settings import ReadSettings

DEFAULTS = ReadSettings()
END_OF_TEXT = "<|endoftext|>"
FIRST_LINES, FIRST_CHARACTERS = 3, 80
MOST_GATHERED_CHARACTERS = 1 << 25
"""A text in which Project Gutenberg's name is everywhere is divided near it all the same."""
LAYOUT_CHARACTERS = 1 << 20
"""Of a text, they show whether it is wrapped."""
WRAPPED_FORMATS = ("text", "markdown", "org", "mail")
"""In others a line ends where its author wanted it to."""
LATEX = re.compile(rb"\\(?:documentclass|usepackage|begin|chapter|section|input)\b")
LATEX_SUFFIXES = (".tex", ".ltx", ".latex")
"""Files so named that have such commands are no plain text."""
WITH_PAGES = ("markdown", "org", "html", "epub", "docx", "odt", "fodt", "rtf", "fb2", "pdf", "scrivener")
"""Besides plain text: in these there may be page numbers, notes and contents that their readers do not know as such."""
NEVER_SPOOLED = 1 << 62
PART_CHARACTERS = 1 << 22
"""Of a long document's text, which is cleaned in parts: the whole of it is in memory once only."""
HASHED_BYTES = 1 << 20
COLLECTED_OBJECTS = 20_000
SMALLEST_CORPUS = 2_000
"""Bytes in UTF-8. Below this a held-out tenth is a sentence or two, and its loss means nothing."""
ProgressCallback = Callable[[int, int], None]
"""Called with how much is done and how much there is in all."""
StageCallback = Callable[[str, int, int], None]
"""Called with the name of the stage, how much of it is done and how much there is; 0 and 0 if that is unknown."""


def ignore_stages(stage: str, n_done: int, n_all: int) -> None:
    """A `StageCallback` that does nothing."""


# -- receipts


@dataclass(frozen=True, kw_only=True, slots=True)
class FileReceipt:
    """What was read from one file, and where every byte went; `dataclasses.asdict` gives JSON.

    n_bytes = n_bytes_bom + n_bytes_newlines + n_bytes_cut + n_bytes_kept, all in the source encoding. In formats other
    than plain text only n_bytes is of the file: the others count the text that was found in it, in UTF-8, and what was
    not taken for text is in `dropped`.
    """

    name: str
    sha256: str
    """Of the file's bytes."""
    n_bytes: int
    n_bytes_bom: int
    n_bytes_newlines: int
    """Removed when line ends were made single newlines."""
    n_bytes_cut: int
    n_bytes_kept: int
    n_bytes_utf8: int
    """Of the text that is learned from, in UTF-8."""
    encoding: str
    reason: str
    """Why this encoding."""
    warning: str
    n_characters: int
    n_lines: int
    longest_line: int
    """Characters."""
    cuts: tuple[Cut, ...]
    first_lines: tuple[str, ...]
    """Up to three lines that are not blank, each cut at 80 characters."""
    n_end_of_text: int
    """Occurrences of the literal <|endoftext|> in the text: the model will take them for document boundaries."""
    address: str = ""
    """Where the text was found if the address that was given led elsewhere, without a query."""
    n_lines_joined: int = 0
    """Line breaks within paragraphs that became spaces, after everything else: `n_bytes_kept` has the lines apart."""
    wrap_width: int | None = None
    """Characters at which these lines were wrapped."""
    format: str = "text"
    """The format that it was read as, by its name for --format."""
    title: str = ""
    """What the file says of itself; of several documents in it, what the first one says."""
    author: str = ""
    date: str = ""
    n_documents: int = 1
    """Documents that were found in the file."""
    dropped: tuple[Dropped, ...] = ()
    """What was left out: by a reader, such as menus, or after everything else as page furniture, which `n_bytes_kept`
    still counts."""
    replaced: tuple[Replaced, ...] = ()
    """What was replaced to hide who is meant."""
    notes: tuple[str, ...] = ()
    """What else should be known of how it was read, such as who speaks in it."""


PACKED = tuple(
    field.name for field in fields(FileReceipt) if field.name not in ("name", "address", "cuts", "dropped", "replaced")
)
"""What of a receipt is kept as it is in the cache of small files."""
CUT_FIELDS = tuple(field.name for field in fields(Cut))
DROPPED_FIELDS = tuple(field.name for field in fields(Dropped))
ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


class Counts(TypedDict):
    """Fields of a receipt that are counted in the text."""

    n_bytes_utf8: int
    n_characters: int
    n_lines: int
    longest_line: int
    first_lines: tuple[str, ...]
    n_end_of_text: int


class TextCounter:
    """Counts what a receipt says of a text, which comes in pieces."""

    def __init__(self) -> None:
        self.is_blank = True
        self._n_bytes_utf8 = self._n_characters = self._n_newlines = self._longest_line = self._n_end_of_text = 0
        self._first_lines: list[str] = []
        self._last_line, self._tail = 0, ""

    def add(self, text: str) -> None:
        """Count the next piece."""
        self._n_characters += len(text)
        self._n_bytes_utf8 += len(text) if text.isascii() else len(text.encode())
        self.is_blank = self.is_blank and not text.strip()
        lines = text.split("\n")
        if len(self._first_lines) < FIRST_LINES:
            found = filter(None, (line.strip()[:FIRST_CHARACTERS] for line in lines))
            self._first_lines += islice(found, FIRST_LINES - len(self._first_lines))
        self._n_newlines += len(lines) - 1
        lengths = list(map(len, lines))
        lengths[0] += self._last_line  # a line may span several pieces
        self._longest_line = max(self._longest_line, *lengths)
        self._last_line = lengths[-1]
        self._tail += text
        self._n_end_of_text += self._tail.count(END_OF_TEXT)
        self._tail = self._tail[max(self._tail.rfind(END_OF_TEXT) + 1, len(self._tail) - len(END_OF_TEXT) + 1) :]

    def as_counts(self) -> Counts:
        """The fields of a receipt that were counted."""
        return Counts(
            n_bytes_utf8=self._n_bytes_utf8,
            n_characters=self._n_characters,
            n_lines=self._n_newlines + bool(self._last_line),
            longest_line=self._longest_line,
            first_lines=tuple(self._first_lines),
            n_end_of_text=self._n_end_of_text,
        )


class ReceiptBuilder:
    """Builds the receipt of a file from its pieces, and cleans them if asked to."""

    def __init__(
        self, cleaner: GutenbergCleaner | None = None, drops: DropLog | None = None, *, hashes: bool = True
    ) -> None:
        """`drops`: where page furniture is counted that is left out. `hashes`: whether the pieces are those of the
        file, whose hash the receipt has."""
        self.cleaner, self.drops, self.hashes = cleaner, drops, hashes
        self._first: DecodedText | None = None
        self._digest, self._counter = hashlib.sha256(), TextCounter()
        self._n_bytes = self._n_bytes_bom = self._n_bytes_newlines = 0
        self._earlier_cuts: tuple[Cut, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether no text is left so far."""
        return self._counter.is_blank

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """What was removed so far."""
        return (*self._earlier_cuts, *self.cleaner.cuts) if self.cleaner else ()

    def start_document(self) -> None:
        """The next piece is the beginning of another document in the same file."""
        if self.cleaner:
            self._earlier_cuts, self.cleaner = self.cuts, GutenbergCleaner()

    def add(self, piece: DecodedPiece) -> str:
        """The cleaned text of the next piece."""
        raw, decoded = piece
        self._first = self._first or decoded
        if self.hashes:
            self._digest.update(raw)
        self._n_bytes += decoded.n_bytes
        self._n_bytes_bom += decoded.n_bytes_bom
        self._n_bytes_newlines += decoded.n_bytes_newlines
        text = decoded.text
        if self.cleaner:
            text = self.cleaner.clean(text, lambda start, end: measure_bytes(raw, decoded, start, end))
        if self.drops is not None:
            text = remove_furniture(text, self.drops)
        self._counter.add(text)
        return text

    def finish(self, name: str, address: str = "", **known: Any) -> FileReceipt:
        """The receipt, after the last piece. `known`: what is known better than from the pieces."""
        assert self._first is not None
        cuts = self.cuts
        n_bytes_cut = sum(cut.n_bytes for cut in cuts)
        found: dict[str, Any] = {
            "sha256": self._digest.hexdigest(),
            "n_bytes": self._n_bytes,
            "encoding": self._first.encoding,
            "reason": self._first.reason,
            "warning": self._first.warning,
            "dropped": self.drops.list() if self.drops is not None else (),
            "title": to_valid(self.cleaner.title) if self.cleaner else "",
            "author": to_valid(self.cleaner.author) if self.cleaner else "",
        }
        return FileReceipt(
            name=name,
            n_bytes_bom=self._n_bytes_bom,
            n_bytes_newlines=self._n_bytes_newlines,
            n_bytes_cut=n_bytes_cut,
            n_bytes_kept=self._n_bytes - self._n_bytes_bom - self._n_bytes_newlines - n_bytes_cut,
            cuts=cuts,
            address=address,
            **self._counter.as_counts(),
            **{**found, **known},
        )


def join_near_boilerplate(pieces: Iterable[DecodedPiece]) -> Iterator[DecodedPiece]:
    """The pieces, joined if a header or a licence might otherwise be divided."""
    held: DecodedPiece | None = None
    for piece in pieces:
        held = piece if held is None else join_pieces(held, piece)
        text = held[1].text
        if len(text) > MOST_GATHERED_CHARACTERS or not ends_near_name(text):
            yield held
            held = None
    if held is not None:
        yield held


# -- documents


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text, ready to be learned from. A long one is on the disk."""

    name: str
    text: Text
    receipt: FileReceipt
    """Of the file that it is in, which may have more documents in it."""
    author: str = ""
    """What it says of itself; the receipt has the author of its file's first document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents in a fixed order. Equal texts have equal fingerprints, wherever and however they are stored."""

    documents: tuple[Document, ...]
    skipped: tuple[str, ...]
    """Files that were found but not read, each with the reason."""
    fingerprint: str
    """sha256, in hex, over the documents' texts."""

    @property
    def files(self) -> tuple[FileReceipt, ...]:
        """The receipt of each file, once."""
        return list_files(self.documents)

    @property
    def n_characters(self) -> int:
        """Characters in all documents."""
        return sum(len(document.text) for document in self.documents)

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents in UTF-8."""
        return sum(file.n_bytes_utf8 for file in self.files)


def list_files(documents: Iterable[Document]) -> tuple[FileReceipt, ...]:
    """The receipt of each file that the documents are in, once."""
    return tuple({id(document.receipt): document.receipt for document in documents}.values())


def pack_documents(documents: Sequence[Document]) -> bytes:
    """All documents of one file, for the cache of small files."""
    receipt = documents[0].receipt
    cuts = list(map(attrgetter(*CUT_FIELDS), receipt.cuts))
    dropped = list(map(attrgetter(*DROPPED_FIELDS), receipt.dropped))
    texts = [(document.text[:], document.author) for document in documents]
    found = [attrgetter(*PACKED)(receipt), cuts, dropped, texts]
    return ENCODER.encode(found).encode("utf-8", "surrogatepass")


def restore_documents(entry: bytes, source: Source, spooler: TextSpooler) -> list[Document]:
    """The documents that were packed, as if they had been read from this source. Raises OutputError."""
    known, cuts, dropped, found = json.loads(entry.decode("utf-8", "surrogatepass"))
    texts: list[Text] = []
    for text, _ in found:
        spooler.add(text)
        texts.append(spooler.finish())
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in zip(PACKED, known, strict=True)
    }
    given["cuts"] = tuple(Cut(**dict(zip(CUT_FIELDS, cut, strict=True))) for cut in cuts)
    given["dropped"] = tuple(Dropped(**dict(zip(DROPPED_FIELDS, part, strict=True))) for part in dropped)
    receipt = FileReceipt(name=source.name, address=source.find_address(), **given)
    return [
        Document(name=source.name, text=text, receipt=receipt, author=author)
        for text, (_, author) in zip(texts, found, strict=True)
    ]


def read_corpus(
    texts: Sequence[str],
    settings: ReadSettings = DEFAULTS,
    *,
    smallest_bytes: int = SMALLEST_CORPUS,
    folder: Path | None = None,
    watch: ProgressCallback = lambda n_done, n_all: None,
    labels: dict[str, tuple[str, str]] | None = None,
) -> Corpus:
    """Read and clean everything that `texts` name: files, folders, globs, "-", addresses, "sample:sonnets".

    Files in a folder or a glob that cannot be read are skipped, with the reason; for one that was named itself that is
    an error. Training needs SMALLEST_CORPUS bytes; for other uses `smallest_bytes` can be less. Text beyond some
    megabytes goes into a temporary file in `folder`. `watch` is called with bytes.
    `labels` are those of `Speakers`: two corpora that share them have one label for a person.
    Raises TextNotFound, TextUnreadable, TextTooShort or OutputError.
    """
    if settings.encoding != "auto":
        find_codec(settings.encoding)  # an unknown one fails for every file
    found = find_sources(texts)
    documents, pages, skipped = list[Document](), list[Document](), list(found.skipped)
    progress = _Progress(watch, sum(source.n_bytes for source in found.sources))
    reading = _Reading(settings, TextSpooler(folder), progress, small=open_small_files(settings))
    reading.speakers.labels = {} if labels is None else labels
    with collecting_seldom():
        for source, result in zip(found.sources, _read_sources(reading, found.sources), strict=True):
            if isinstance(result.error, TextUnreadable | TextTooShort) and not source.named:
                reading.skipped.append(str(result.error))
            elif result.error is not None:
                raise result.error
            documents += result.documents
            pages += _find_pages(result.documents, source)
    if reading.small is not None:
        reading.small.close()
    documents, listed = _leave_out_overview_pages(documents, pages)
    if settings.speaker and (reading.speakers.counts or not documents):
        reading.speakers.check("these texts")
    skipped += [*reading.skipped, *name_unread(reading.unread), *listed]
    if settings.anonymize:
        documents, skipped = anonymize(documents, skipped, reading.speakers, folder)
    _check_size(documents, skipped, smallest_bytes)
    return make_corpus(documents, skipped)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let Python search seldom for objects that refer to each other in a circle.

    A book becomes 200,000 objects, none of which do; looking at them again and again is a tenth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0] and max(before[0], COLLECTED_OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _find_pages(documents: Iterable[Document], source: Source) -> Iterator[Document]:
    """Web pages that were not named themselves, but found in a folder or an archive."""
    for document in documents:
        if document.receipt.format == "html" and (source.listed or document.name != source.name):
            yield document


def _leave_out_overview_pages(documents: list[Document], pages: list[Document]) -> tuple[list[Document], list[str]]:
    """The documents without those of the pages that only list others, and one line about these."""
    found = {id(pages[number]) for number in find_overview_pages([page.text for page in pages])}
    names = [document.name for document in documents if id(document) in found]
    if not names:
        return documents, []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    why = f"{pluralize(len(names), 'page')} of beginnings of others: {shown}. To read such a page, name it itself."
    return [document for document in documents if id(document) not in found], [f"Not read: {why}"]


def _read_sources(reading: _Reading, sources: Sequence[Source]) -> Iterator[FileResult]:
    """What was read of each source, by this process or another. Raises OutputError, as does a read in this process."""
    settings = reading.settings
    if settings.speaker or settings.anonymize:  # these look at all conversations together
        yield from map(reading.read_result, sources)
        return
    for result in read_all(sources, settings, reading.read_result):
        if not result.is_own:
            reading.take(result)
        yield result


def open_small_files(settings: ReadSettings) -> SmallFileCache | None:
    """The cache of small files; None where these settings look at all files together."""
    return None if settings.speaker or settings.anonymize else SmallFileCache(settings)


def read_alone(
    source: Source, settings: ReadSettings, spooler: TextSpooler | None = None, small: SmallFileCache | None = None
) -> FileResult:
    """What is in one file, for another process, which adds it to what it has read itself.

    `spooler`: where long texts go, for one that keeps what it reads, and no copy of it in the cache.
    """
    reading = _Reading(
        settings,
        spooler or TextSpooler(held_characters=NEVER_SPOOLED),
        _Progress(lambda n_done, n_all: None, 0),
        caches=spooler is None,
        small=small,
    )
    result = reading.read_result(source)
    return replace(result, skipped=reading.skipped, unread=reading.unread, speakers=reading.speakers, is_own=False)


def anonymize(
    documents: Sequence[Document], skipped: Iterable[str], speakers: Speakers, folder: Path | None = None
) -> tuple[list[Document], list[str]]:
    """Documents and reasons in which nothing says who is meant: not in texts, names of files, and examples.

    Long texts are written again, in `folder`. Raises OutputError.
    """
    anonymizer, spooler = Anonymizer(speakers), TextSpooler(folder)
    found: list[Document] = []
    for _, group in groupby(documents, lambda document: id(document.receipt)):
        found += _anonymize_file(list(group), anonymizer, spooler)
    return found, [anonymizer.replace(reason) for reason in skipped]


def _anonymize_file(documents: Sequence[Document], anonymizer: Anonymizer, spooler: TextSpooler) -> list[Document]:
    counter, counts, texts = TextCounter(), Counter[str](), list[Text]()
    for document in documents:
        for piece in anonymizer.replace_pieces(read_blocks(document.text), counts):
            counter.add(piece)
            spooler.add(piece)
        texts.append(spooler.finish())
    before = documents[0].receipt
    receipt = replace(
        before,
        name=anonymizer.replace(before.name),
        title=anonymizer.replace(before.title),
        author=anonymizer.replace(before.author),
        cuts=tuple(replace(cut, first_line=anonymizer.replace(cut.first_line)) for cut in before.cuts),
        dropped=tuple(replace(part, example=anonymizer.replace(part.example)) for part in before.dropped),
        replaced=tuple(Replaced(what, count) for what, count in counts.items() if count),
        **counter.as_counts(),
    )
    return [
        replace(one, name=receipt.name, text=text, receipt=receipt, author=anonymizer.replace(one.author))
        for one, text in zip(documents, texts, strict=True)
    ]


class _Progress:
    """Adds up what is done, and reports it."""

    def __init__(self, watch: ProgressCallback, n_all: int) -> None:
        self.watch, self.n_done, self.n_all = watch, 0, n_all

    def add(self, n: int) -> None:
        self.n_done += n
        self.watch(self.n_done, max(self.n_done, self.n_all))


def _check_size(documents: Sequence[Document], skipped: Sequence[str], smallest_bytes: int) -> None:
    if not documents:
        shown = " ".join(skipped[:3]) + (" …" if len(skipped) > 3 else "")
        raise TextNotFound(f"No text was found. {shown}".strip(), hint="Give at least one file with text in it.")
    files = list_files(documents)
    n_bytes = sum(file.n_bytes_utf8 for file in files)
    if n_bytes < smallest_bytes:
        where = files[0].name if len(files) == 1 else f"The text in {len(files):,} files"
        raise TextTooShort(
            f"{where} is too short: {pluralize(n_bytes, 'byte')}; at least {smallest_bytes:,} are needed.",
            hint="Give more text, or several files. A style can be recognised from about 10,000 words (30 pages) on.",
        )


def make_corpus(documents: Iterable[Document], skipped: Iterable[str] = ()) -> Corpus:
    """The corpus of these documents, with its fingerprint."""
    documents = tuple(documents)
    digest = hashlib.sha256()
    for document in documents:
        # The length goes first, so that text moved from one document to the next changes the fingerprint.
        digest.update(f"{len(document.text)}\n".encode())
        for block in read_blocks(document.text):
            digest.update(block.encode())
    return Corpus(documents=documents, skipped=tuple(skipped), fingerprint=digest.hexdigest())


def unwrap_corpus(corpus: Corpus, how: Literal["auto", "yes", "no"], folder: Path | None = None) -> Corpus:
    """The corpus with the lines of wrapped paragraphs joined, each counted in the receipt of its file.

    With "auto", only in files that are wrapped prose for the most part; whether a short one is, is seen beside the
    others. A long one is written again, in `folder`. Raises OutputError.
    """
    if how == "no":
        return corpus
    spooler, least = TextSpooler(folder), LEAST_CONTINUED if how == "auto" else 0.0
    usual = find_wrapping(_read_beginnings(corpus.documents), least_continued=least)
    documents: list[Document] = []
    for _, group in groupby(corpus.documents, lambda document: id(document.receipt)):
        of_file = list(group)
        may_be_wrapped = how == "yes" or of_file[0].receipt.format in WRAPPED_FORMATS
        wrapping = find_wrapping(_read_beginnings(of_file), usual, least_continued=least) if may_be_wrapped else None
        documents += _join_lines(of_file, wrapping, spooler) if wrapping else of_file
    is_same = all(new is old for new, old in zip(documents, corpus.documents, strict=True))
    return corpus if is_same else make_corpus(documents, corpus.skipped)


def _read_beginnings(documents: Sequence[Document]) -> str:
    return "\n\n".join(read_some([document.text for document in documents], LAYOUT_CHARACTERS))


def _join_lines(documents: Sequence[Document], wrapping: Wrapping, spooler: TextSpooler) -> list[Document]:
    """The documents of one file."""
    counter, texts, n_joined = TextCounter(), list[Text](), 0
    for document in documents:
        joiner = LineJoiner(wrapping)
        for piece in joiner.join(read_blocks(document.text)):
            counter.add(piece)
            spooler.add(piece)
        texts.append(spooler.finish())
        n_joined += joiner.n_joined
    receipt = replace(documents[0].receipt, n_lines_joined=n_joined, wrap_width=wrapping.width)
    receipt = replace(receipt, **counter.as_counts())
    return [replace(document, text=text, receipt=receipt) for document, text in zip(documents, texts, strict=True)]


def read_document(source: Source, settings: ReadSettings = DEFAULTS) -> Document:
    """Read and clean a file with one text in it. Raises TextUnreadable, or TextTooShort if it is only white space."""
    reading = _Reading(settings, TextSpooler(), _Progress(lambda n_done, n_all: None, 0))
    found = reading.read(source)
    if settings.speaker and reading.speakers.counts:
        reading.speakers.check(source.name)
    if len(found) > 1:
        raise TextUnreadable(f"{source.name} has {len(found):,} documents in it.", hint="Give a file with one text.")
    return anonymize(found, (), reading.speakers)[0][0] if settings.anonymize else found[0]


class _Reading:
    """Reads one file after another."""

    def __init__(
        self,
        settings: ReadSettings,
        spooler: TextSpooler,
        progress: _Progress,
        *,
        caches: bool = True,
        small: SmallFileCache | None = None,
    ) -> None:
        """`caches`: whether the text of parsed files is kept for the next time; that of small ones is in `small`."""
        self.settings, self.spooler, self.progress, self.caches = settings, spooler, progress, caches
        self.small = small
        self.skipped: list[str] = []
        self.unread: list[str] = []
        """Files of a folder that may be texts and may not be."""
        self.speakers = Speakers(settings.speaker, hidden=settings.anonymize)
        """Of all conversations that were read."""

    def read(self, source: Source, outer: Limits | None = None) -> list[Document]:
        """The documents in a file. `outer`: the limits of the archive that it is in. Raises TextError, OutputError."""
        try:
            with source.open() as file:
                found = self._read_small(file, source, outer)
                return self._read_file(file, source, outer) if found is None else found
        except OSError as error:
            raise unreadable(source.name, error) from None
        finally:
            self.spooler.forget()

    def read_result(self, source: Source) -> FileResult:
        """The same, with what was raised in place of documents."""
        try:
            return FileResult(documents=self.read(source))
        except EpigoneError as error:
            return FileResult(error=error)

    def take(self, result: FileResult) -> None:
        """Add what another process has read."""
        self.skipped += result.skipped
        self.unread += result.unread
        self.speakers.add(result.speakers)
        for number, document in enumerate(result.documents):
            self.spooler.add(document.text[:])
            result.documents[number] = replace(document, text=self.spooler.finish())
        self.progress.add(result.documents[0].receipt.n_bytes if result.documents else 0)

    def _read_file(self, file: BinaryIO, source: Source, outer: Limits | None) -> list[Document]:
        found = find_format(file, source.name, self.settings.format, listed=source.listed)
        if found is not None:
            return self._read_parsed(found, file, source, outer)
        beginning = Beginning(file, source.name)
        if source.listed and beginning.suffix in NEVER_PLAIN and self.settings.format == "auto":
            self.unread.append(source.name)
            return []
        if self.settings.format == "auto" and is_archive(beginning):
            return self._read_archive(file, beginning, source, outer)
        if self.settings.format == "auto" and beginning.suffix in LATEX_SUFFIXES and LATEX.search(beginning.head):
            raise TextUnreadable(
                f"{source.name} is not read: it is the source of a LaTeX document.",
                hint=f"Make its text with pandoc: pandoc {source.name} -t plain --wrap=none -o text.txt. "
                "--format text reads it with all its commands.",
            )
        return self._read_plain(file, source)

    def _read_small(self, file: BinaryIO, source: Source, outer: Limits | None) -> list[Document] | None:
        """The documents in a small file, read now or earlier; None if it is not one."""
        if self.small is None or source.row_groups or not isinstance(file, io.BytesIO):
            return None
        data = file.getbuffer()
        if len(data) > LARGEST_BYTES:
            return None
        key = self.small.find_key(data, source.name, listed=source.listed)
        data.release()  # or the file cannot be closed
        if entry := self.small.load(key):
            documents = restore_documents(entry, source, self.spooler)
            self.progress.add(documents[0].receipt.n_bytes)
            return documents
        n_noted, n_messages = len(self.skipped) + len(self.unread), self.speakers.counts.total()
        documents = self._read_file(file, source, outer)
        is_all = n_noted == len(self.skipped) + len(self.unread) and n_messages == self.speakers.counts.total()
        if documents and is_all and documents[0].name == source.name:  # not an archive, whose depth counts too
            self.small.store(key, pack_documents(documents))
        return documents

    def _read_plain(self, file: BinaryIO, source: Source) -> list[Document]:
        """The one document of a plain text, which may be larger than the memory."""
        self._need_fields(source, "plain text", None)
        self._need_speakers(source, "plain text", Speakers())
        receipt = self._start_receipt(DropLog())
        pieces = read_pieces(file, name=source.name, encoding=self.settings.encoding)
        for piece in pieces if self.settings.keep_boilerplate else join_near_boilerplate(pieces):
            self.spooler.add(receipt.add(piece))
            self.progress.add(piece[1].n_bytes)
        if receipt.is_blank:
            what = "Project Gutenberg's header and licence" if receipt.cuts else "white space"
            raise TextTooShort(f"{source.name} contains only {what}.", hint="Give a file with text in it.")
        finished = receipt.finish(source.name, source.find_address())
        text = self.spooler.finish()
        return [Document(name=source.name, text=text, receipt=finished, author=finished.author)]

    def _read_parsed(self, known: Format, file: BinaryIO, source: Source, outer: Limits | None) -> list[Document]:
        """The documents that a reader finds in a file; empty ones are left out."""
        self._need_fields(source, known.title, known)
        start, end = source.span or (0, file.seek(0, 2))
        sha256, n_bytes = _hash(file, start, end), end - start
        file.seek(0)
        limits = Limits(source.name, n_bytes, outer)
        speakers = self.speakers.start_file()
        context = ReadContext(
            name=source.name,
            settings=self.settings,
            limits=limits,
            speakers=speakers,
            row_groups=source.row_groups,
        )
        furniture = DropLog()  # apart, since the cache keeps what the reader has left out
        receipt = self._start_receipt(furniture if known.name in WITH_PAGES else None, hashes=False)
        texts, shared = list[tuple[Text, str]](), None
        found = parse_cache.parse(known, file, context, sha256) if self.caches else known.read(file, context)
        for parsed in found:
            about = (parsed.title, parsed.author, parsed.date)
            shared = about if shared is None else _keep_equal(shared, about)
            if text := self._clean(parsed.text, receipt):
                texts.append((text, to_valid(parsed.author)))
        self.progress.add(n_bytes)
        self.speakers.add(speakers)
        self._need_speakers(source, known.title, speakers)
        if shared is None or not texts:
            what = f"{source.name} is {known.title} with no text in it."
            raise TextTooShort(what, hint="Give a file with text in it.")
        decoded = context.decoded[0] if context.decoded else None
        for part in furniture.list():
            context.drops.add_counted(part)
        title, author, date = shared
        finished = receipt.finish(
            source.name,
            source.find_address(),
            sha256=sha256,
            n_bytes=n_bytes,
            encoding=decoded.encoding if decoded else "utf-8",
            reason=decoded.reason if decoded else known.title,
            warning=decoded.warning if decoded else "",
            format=known.name,
            title=to_valid(title),
            author=to_valid(author),
            date=to_valid(" ".join(date.split())),
            n_documents=len(texts),
            dropped=context.drops.list(),
            notes=tuple(map(to_valid, (*context.notes, *speakers.describe_all()))),
        )
        return [Document(name=source.name, text=text, receipt=finished, author=author) for text, author in texts]

    def _clean(self, text: str, receipt: ReceiptBuilder) -> Text | None:
        """A document's text without boilerplate and page furniture; None if nothing is left."""
        receipt.start_document()
        is_blank = True
        for piece in join_near_boilerplate(map(as_piece, divide_text(text, PART_CHARACTERS))):
            cleaned = receipt.add(piece)
            is_blank = is_blank and not cleaned.strip()
            self.spooler.add(cleaned)
        if is_blank:
            self.spooler.forget()
            return None
        return self.spooler.finish()

    def _read_archive(
        self, file: BinaryIO, beginning: Beginning, source: Source, outer: Limits | None
    ) -> list[Document]:
        """The documents of all files in an archive; those that cannot be read are skipped."""
        limits = Limits(source.name, file.seek(0, 2), outer)
        file.seek(0)
        limits.check_depth(limits.depth, DEEPEST_ARCHIVES)
        documents, unknown = list[Document](), list[str]()
        n_unread, only = len(self.unread), None
        for member in read_members(file, beginning, limits):
            if find_suffix(member.name) not in SUFFIXES:
                unknown.append(member.name)
                continue
            documents += self._read_member(member, source, limits)
            if len(self.unread) == n_unread + 1:
                only = only or member
        if not documents and only and len(self.unread) == n_unread + 1:  # there is nothing else that could be meant
            del self.unread[n_unread:]
            documents += self._read_member(only, source, limits, listed=source.listed)
        self.skipped += name_skipped(source.name, unknown)
        if not documents:
            why = f": {' '.join(self.skipped[-2:])}" if self.skipped else "."
            raise TextTooShort(
                f"{source.name} is an archive with no text in it{why}", hint="Give one with texts in it."
            )
        return documents

    def _read_member(self, member: Member, source: Source, limits: Limits, *, listed: bool = True) -> list[Document]:
        """The documents of a file in an archive; none, and a reason, if it cannot be read."""
        name = f"{source.name}/{member.name}"
        inner = Source(name=name, read=partial(bytes, member.data), named=False, listed=listed)
        try:
            return self.read(inner, limits)
        except (TextUnreadable, TextTooShort) as error:
            self.skipped.append(str(error))
            return []

    def _need_fields(self, source: Source, what: str, known: Format | None) -> None:
        """Raise TextUnreadable if fields are asked for where there are none."""
        if self.settings.field and not (known and known.only_named):
            raise TextUnreadable(
                f"{source.name} has no fields: it is read as {what}.", hint="--field is for tables and JSON."
            )

    def _need_speakers(self, source: Source, what: str, speakers: Speakers) -> None:
        """Raise TextError if a speaker is wanted and none of those says anything."""
        if self.settings.speaker and not speakers.counts:
            raise TextUnreadable(
                f"{source.name} has no speakers: it is read as {what}.",
                hint=FOR_SPEAKERS,
            )
        if self.settings.speaker and not speakers.found:
            speakers.check(source.name)

    def _start_receipt(self, drops: DropLog | None, *, hashes: bool = True) -> ReceiptBuilder:
        cleaner = None if self.settings.keep_boilerplate else GutenbergCleaner()
        return ReceiptBuilder(cleaner, drops if self.settings.furniture == "drop" else None, hashes=hashes)


def _keep_equal(about: tuple[str, str, str], other: tuple[str, str, str]) -> tuple[str, str, str]:
    """Title, author and date that two documents of a file share: the first post's title is not the blog's."""
    title, author, date = (one if one == same else "" for one, same in zip(about, other, strict=True))
    return title, author, date


def _hash(file: BinaryIO, start: int, end: int) -> str:
    """The sha256 of some of an open file's bytes, in hex."""
    digest = hashlib.sha256()
    file.seek(start)
    while piece := file.read(min(HASHED_BYTES, end - file.tell())):
        digest.update(piece)
    return digest.hexdigest()
