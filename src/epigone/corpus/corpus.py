"""Documents from whatever the user named, cleaned, each with a receipt that accounts for every byte of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict

from epigone.corpus.encoding import DecodedPiece, DecodedText, find_codec, join_pieces, measure_bytes, read_pieces
from epigone.corpus.gutenberg import Cut, GutenbergCleaner, ends_near_name
from epigone.corpus.large_text import Text, TextSpooler, read_blocks, read_some
from epigone.corpus.line_layout import LEAST_CONTINUED, LineJoiner, Wrapping, find_wrapping
from epigone.corpus.sources import Source, find_sources, unreadable
from epigone.errors import TextNotFound, TextTooShort, TextUnreadable

END_OF_TEXT = "<|endoftext|>"
FIRST_LINES, FIRST_CHARACTERS = 3, 80
MOST_GATHERED_CHARACTERS = 1 << 25
"""A text in which Project Gutenberg's name is everywhere is divided near it all the same."""
LAYOUT_CHARACTERS = 1 << 20
"""Of a text, they show whether it is wrapped."""
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

    n_bytes = n_bytes_bom + n_bytes_newlines + n_bytes_cut + n_bytes_kept, all in the source encoding.
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
            self._first_lines = [*self._first_lines, *found][:FIRST_LINES]
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

    def __init__(self, cleaner: GutenbergCleaner | None = None) -> None:
        self.cleaner = cleaner
        self._first: DecodedText | None = None
        self._digest, self._counter = hashlib.sha256(), TextCounter()
        self._n_bytes = self._n_bytes_bom = self._n_bytes_newlines = 0

    @property
    def is_blank(self) -> bool:
        """Whether no text is left so far."""
        return self._counter.is_blank

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """What was removed so far."""
        return self.cleaner.cuts if self.cleaner else ()

    def add(self, piece: DecodedPiece) -> str:
        """The cleaned text of the next piece."""
        raw, decoded = piece
        self._first = self._first or decoded
        self._digest.update(raw)
        self._n_bytes += decoded.n_bytes
        self._n_bytes_bom += decoded.n_bytes_bom
        self._n_bytes_newlines += decoded.n_bytes_newlines
        text = decoded.text
        if self.cleaner:
            text = self.cleaner.clean(text, lambda start, end: measure_bytes(raw, decoded, start, end))
        self._counter.add(text)
        return text

    def finish(self, name: str, address: str = "") -> FileReceipt:
        """The receipt, after the last piece."""
        assert self._first is not None
        n_bytes_cut = sum(cut.n_bytes for cut in self.cuts)
        return FileReceipt(
            name=name,
            sha256=self._digest.hexdigest(),
            n_bytes=self._n_bytes,
            n_bytes_bom=self._n_bytes_bom,
            n_bytes_newlines=self._n_bytes_newlines,
            n_bytes_cut=n_bytes_cut,
            n_bytes_kept=self._n_bytes - self._n_bytes_bom - self._n_bytes_newlines - n_bytes_cut,
            encoding=self._first.encoding,
            reason=self._first.reason,
            warning=self._first.warning,
            cuts=self.cuts,
            address=address,
            **self._counter.as_counts(),
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
    """The text of one file, ready to be learned from. A long one is on the disk."""

    name: str
    text: Text
    receipt: FileReceipt


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents in a fixed order. Equal texts have equal fingerprints, wherever and however they are stored."""

    documents: tuple[Document, ...]
    skipped: tuple[str, ...]
    """Files that were found but not read, each with the reason."""
    fingerprint: str
    """sha256, in hex, over the documents' texts."""

    @property
    def n_characters(self) -> int:
        """Characters in all documents."""
        return sum(len(document.text) for document in self.documents)

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents in UTF-8."""
        return sum(document.receipt.n_bytes_utf8 for document in self.documents)


def read_corpus(
    texts: Sequence[str],
    *,
    encoding: str = "auto",
    keep_boilerplate: bool = False,
    smallest_bytes: int = SMALLEST_CORPUS,
    folder: Path | None = None,
    watch: ProgressCallback = lambda n_done, n_all: None,
) -> Corpus:
    """Read and clean everything that `texts` name: files, folders, globs, "-", addresses, "sample:sonnets".

    Files in a folder or a glob that are not text are skipped, with the reason; a file that was named itself must be
    text. Training needs SMALLEST_CORPUS bytes; for other uses `smallest_bytes` can be less. Text beyond some megabytes
    goes into a temporary file in `folder`. `watch` is called with bytes.
    Raises TextNotFound, TextUnreadable, TextTooShort or OutputError.
    """
    if encoding != "auto":
        find_codec(encoding)  # an unknown one fails for every file
    found = find_sources(texts)
    documents, skipped = [], list(found.skipped)
    spooler, progress = TextSpooler(folder), _Progress(watch, sum(source.n_bytes for source in found.sources))
    for source in found.sources:
        try:
            documents.append(_read(source, encoding, spooler, progress, clean=not keep_boilerplate))
        except (TextUnreadable, TextTooShort) as error:
            if source.named:
                raise
            skipped.append(str(error))
    _check_size(documents, skipped, smallest_bytes)
    return make_corpus(documents, skipped)


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
    n_bytes = sum(document.receipt.n_bytes_utf8 for document in documents)
    if n_bytes < smallest_bytes:
        where = documents[0].name if len(documents) == 1 else f"The text in {len(documents):,} files"
        raise TextTooShort(
            f"{where} is too short: {n_bytes:,} bytes; at least {smallest_bytes:,} are needed.",
            hint="Give more text, or several files. A style becomes recognisable from about 50,000 bytes on.",
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
    found = [find_wrapping(_read_beginnings([one]), usual, least_continued=least) for one in corpus.documents]
    if not any(found):
        return corpus
    documents = (
        _join_lines(document, wrapping, spooler) if wrapping else document
        for document, wrapping in zip(corpus.documents, found, strict=True)
    )
    return make_corpus(documents, corpus.skipped)


def _read_beginnings(documents: Sequence[Document]) -> str:
    return "\n\n".join(read_some([document.text for document in documents], LAYOUT_CHARACTERS))


def _join_lines(document: Document, wrapping: Wrapping, spooler: TextSpooler) -> Document:
    counter, joiner = TextCounter(), LineJoiner(wrapping)
    for piece in joiner.join(read_blocks(document.text)):
        counter.add(piece)
        spooler.add(piece)
    receipt = replace(document.receipt, n_lines_joined=joiner.n_joined, wrap_width=wrapping.width)
    return replace(document, text=spooler.finish(), receipt=replace(receipt, **counter.as_counts()))


def read_document(source: Source, *, encoding: str = "auto", keep_boilerplate: bool = False) -> Document:
    """Read and clean one file. Raises TextUnreadable, or TextTooShort if only white space is left."""
    silent = _Progress(lambda n_done, n_all: None, 0)
    return _read(source, encoding, TextSpooler(), silent, clean=not keep_boilerplate)


def _read(source: Source, encoding: str, spooler: TextSpooler, progress: _Progress, *, clean: bool) -> Document:
    receipt = ReceiptBuilder(GutenbergCleaner() if clean else None)
    try:
        with source.open() as file:
            pieces = read_pieces(file, name=source.name, encoding=encoding)
            for piece in join_near_boilerplate(pieces) if clean else pieces:
                spooler.add(receipt.add(piece))
                progress.add(piece[1].n_bytes)
        if receipt.is_blank:
            what = "Project Gutenberg's header and licence" if receipt.cuts else "white space"
            raise TextTooShort(f"{source.name} contains only {what}.", hint="Give a file with text in it.")
        return Document(
            name=source.name, text=spooler.finish(), receipt=receipt.finish(source.name, source.find_address())
        )
    except OSError as error:
        raise unreadable(source.name, error) from None
    finally:
        spooler.forget()
