"""What the user named → `Corpus`: documents, each with a receipt of what was read and cut, and one fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epigone.errors import TextNotFound, TextTooShort, TextUnreadable
from epigone.text.deciding import find_codec
from epigone.text.reading import read_pieces
from epigone.text.receipts import FileReceipt, Tally, gather
from epigone.text.sources import Source, find_sources, unreadable
from epigone.text.storing import Store, Text, read_blocks

SMALLEST_CORPUS = 2_000
"""Bytes in UTF-8. Below this a held-out tenth is a sentence or two, and its loss says nothing."""
Watch = Callable[[int, int], None]
"""Hears what is done, and of how much in all."""


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
    watch: Watch = lambda n_done, n_all: None,
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
    store, count = Store(folder), _Counter(watch, sum(source.n_bytes for source in found.sources))
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

    def __init__(self, watch: Watch, n_all: int) -> None:
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
    return _read(source, encoding, Store(), nobody, clean=not keep_boilerplate)


def _read(source: Source, encoding: str, store: Store, count: _Counter, *, clean: bool) -> Document:
    tally = Tally()
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
