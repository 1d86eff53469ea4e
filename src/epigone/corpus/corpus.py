"""What the user named → `Corpus`: documents, each with a receipt of what was read and cut, and one fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from epigone.corpus.encoding import DecodedPiece, DecodedText, find_codec, join_pieces, measure_bytes, read_pieces
from epigone.corpus.gutenberg import Cut, ScanState, ends_near_name, join_cuts, strip_boilerplate
from epigone.corpus.large_text import Text, TextSpooler, read_blocks
from epigone.corpus.sources import Source, find_sources, unreadable
from epigone.errors import TextNotFound, TextTooShort, TextUnreadable

END_OF_TEXT = "<|endoftext|>"
FIRST_LINES, FIRST_CHARACTERS = 3, 80
MOST_GATHERED_CHARACTERS = 1 << 25
"""Where Project Gutenberg's name stands all over a text, it is parted near one all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileReceipt:
    """What was read from one file and where every byte went; `dataclasses.asdict` gives JSON.

    n_bytes = n_bytes_bom + n_bytes_newlines + n_bytes_cut + n_bytes_kept, all in the source encoding.
    """

    name: str
    sha256: str
    """Of the file's bytes."""
    n_bytes: int
    n_bytes_bom: int
    n_bytes_newlines: int
    """Removed in making every line end one newline."""
    n_bytes_cut: int
    n_bytes_kept: int
    n_bytes_utf8: int
    """Of the kept text, in UTF-8."""
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
    """How often the literal <|endoftext|> stands in the text: it will be learned as a boundary of documents."""


class ReceiptBuilder:
    """Counts what goes by."""

    def __init__(self) -> None:
        self.cuts: tuple[Cut, ...] = ()
        self.is_blank = True
        self._first: DecodedText | None = None
        self._digest = hashlib.sha256()
        self._n_bytes = self._n_bytes_bom = self._n_bytes_newlines = self._n_bytes_utf8 = self._n_characters = 0
        self._n_newlines = self._longest_line = self._n_end_of_text = 0
        self._first_lines: list[str] = []
        self._where = ScanState()
        self._last_line, self._tail = 0, ""

    def take(self, piece: DecodedPiece, *, clean: bool) -> str:
        """The text of the next piece; if `clean`, without Project Gutenberg's header and licence."""
        raw, decoded = piece
        self._first = self._first or decoded
        self._digest.update(raw)
        self._n_bytes += decoded.n_bytes
        self._n_bytes_bom += decoded.n_bytes_bom
        self._n_bytes_newlines += decoded.n_bytes_newlines
        text = decoded.text
        if clean:
            text, cuts = strip_boilerplate(
                text, lambda start, end: measure_bytes(raw, decoded, start, end), self._where
            )
            self.cuts = join_cuts(self.cuts, cuts)
        self._count(text)
        return text

    def _count(self, text: str) -> None:
        self._n_characters += len(text)
        self._n_bytes_utf8 += len(text) if text.isascii() else len(text.encode())
        self.is_blank = self.is_blank and not text.strip()
        lines = text.split("\n")
        if len(self._first_lines) < FIRST_LINES:
            found = filter(None, (line.strip()[:FIRST_CHARACTERS] for line in lines))
            self._first_lines = [*self._first_lines, *found][:FIRST_LINES]
        self._n_newlines += len(lines) - 1
        lengths = list(map(len, lines))
        lengths[0] += self._last_line  # a line may go over several pieces
        self._longest_line = max(self._longest_line, *lengths)
        self._last_line = lengths[-1]
        self._tail += text
        self._n_end_of_text += self._tail.count(END_OF_TEXT)
        self._tail = self._tail[max(self._tail.rfind(END_OF_TEXT) + 1, len(self._tail) - len(END_OF_TEXT) + 1) :]

    def write_receipt(self, name: str) -> FileReceipt:
        """What went by, once all of it did."""
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
            n_bytes_utf8=self._n_bytes_utf8,
            encoding=self._first.encoding,
            reason=self._first.reason,
            warning=self._first.warning,
            n_characters=self._n_characters,
            n_lines=self._n_newlines + bool(self._last_line),
            longest_line=self._longest_line,
            cuts=self.cuts,
            first_lines=tuple(self._first_lines),
            n_end_of_text=self._n_end_of_text,
        )


def gather(pieces: Iterable[DecodedPiece]) -> Iterator[DecodedPiece]:
    """The same pieces, those joined between which a header or a licence might be parted."""
    held: DecodedPiece | None = None
    for piece in pieces:
        held = piece if held is None else join_pieces(held, piece)
        text = held[1].text
        if len(text) > MOST_GATHERED_CHARACTERS or not ends_near_name(text):
            yield held
            held = None
    if held is not None:
        yield held


SMALLEST_CORPUS = 2_000
"""Bytes in UTF-8. Below this a held-out tenth is a sentence or two, and its loss says nothing."""
ProgressCallback = Callable[[int, int], None]
"""Called with how much is done and how much there is in all."""
StageCallback = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is; 0 and 0 where that is not known."""


def ignore_stages(what: str, n_done: int, n_all: int) -> None:
    """A `StageCallback` that does nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """The text of one file, ready to learn from. A long one lies on the disk."""

    name: str
    text: Text
    receipt: FileReceipt


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents in a fixed order. Equal texts have equal fingerprints, wherever and however they were stored."""

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


def read_corpus(  # how to read, and where to keep what was read
    texts: Sequence[str],
    *,
    encoding: str = "auto",
    keep_boilerplate: bool = False,
    smallest_bytes: int = SMALLEST_CORPUS,
    folder: Path | None = None,
    watch: ProgressCallback = lambda n_done, n_all: None,
) -> Corpus:
    """Everything that `texts` name (files, folders, globs, "-", addresses, "sample:sonnets"), read and cleaned.

    What a folder or a glob holds besides text is skipped and named; what was named itself must be text. To learn from
    it takes SMALLEST_CORPUS bytes; who wants something else of a text may ask for fewer. More than some megabytes
    are not held but put into a temporary file in `folder`. `watch` hears of bytes.
    Raises TextNotFound, TextUnreadable, TextTooShort or OutputError.
    """
    if encoding != "auto":
        find_codec(encoding)  # no file could be read in one that does not exist
    found = find_sources(texts)
    documents, skipped = [], list(found.skipped)
    store, count = TextSpooler(folder), _Counter(watch, sum(source.n_bytes for source in found.sources))
    for source in found.sources:
        try:
            documents.append(_read(source, encoding, store, count, clean=not keep_boilerplate))
        except (TextUnreadable, TextTooShort) as error:
            if source.named:
                raise
            skipped.append(str(error))
    _check_size(documents, skipped, smallest_bytes)
    return make_corpus(documents, skipped)


class _Counter:
    """Adds up what was done."""

    def __init__(self, watch: ProgressCallback, n_all: int) -> None:
        self.watch, self.n_done, self.n_all = watch, 0, n_all

    def add(self, n: int) -> None:
        self.n_done += n
        self.watch(self.n_done, max(self.n_done, self.n_all))


def _check_size(documents: Sequence[Document], skipped: Sequence[str], smallest_bytes: int) -> None:
    if not documents:
        shown = " ".join(skipped[:3]) + (" …" if len(skipped) > 3 else "")
        raise TextNotFound(f"There is no text to read. {shown}".strip(), hint="Give at least one file with text in it.")
    n_bytes = sum(document.receipt.n_bytes_utf8 for document in documents)
    if n_bytes < smallest_bytes:
        where = documents[0].name if len(documents) == 1 else f"all {len(documents):,} files together"
        raise TextTooShort(
            f"There is too little text in {where}: {n_bytes:,} bytes; the smallest run needs {smallest_bytes:,}.",
            hint="Give more text, or several files. From about 50,000 bytes on a style can be heard.",
        )


def make_corpus(documents: Iterable[Document], skipped: Iterable[str] = ()) -> Corpus:
    """The corpus of these documents, with its fingerprint."""
    documents = tuple(documents)
    digest = hashlib.sha256()
    for document in documents:
        # The length goes first, so that moving text from one document to the next makes another corpus.
        digest.update(f"{len(document.text)}\n".encode())
        for block in read_blocks(document.text):
            digest.update(block.encode())
    return Corpus(documents=documents, skipped=tuple(skipped), fingerprint=digest.hexdigest())


def read_document(source: Source, *, encoding: str = "auto", keep_boilerplate: bool = False) -> Document:
    """One file, decoded and cleaned. Raises TextUnreadable, or TextTooShort if nothing but white space is left."""
    nobody = _Counter(lambda n_done, n_all: None, 0)
    return _read(source, encoding, TextSpooler(), nobody, clean=not keep_boilerplate)


def _read(source: Source, encoding: str, store: TextSpooler, count: _Counter, *, clean: bool) -> Document:
    tally = ReceiptBuilder()
    try:
        with source.open() as file:
            pieces = read_pieces(file, name=source.name, encoding=encoding)
            for piece in gather(pieces) if clean else pieces:
                store.add(tally.take(piece, clean=clean))
                count.add(piece[1].n_bytes)
        if tally.is_blank:
            what = "Project Gutenberg's header and licence" if tally.cuts else "white space"
            raise TextTooShort(f"{source.name} holds nothing but {what}.", hint="Give a file with text in it.")
        return Document(name=source.name, text=store.finish(), receipt=tally.write_receipt(source.name))
    except OSError as error:
        raise unreadable(source.name, error) from None
    finally:
        store.forget()
