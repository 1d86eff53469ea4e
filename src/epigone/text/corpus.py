"""What the user named → `Corpus`: documents, each with a receipt of what was read and cut, and one fingerprint."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from epigone.errors import TextNotFound, TextTooShort, TextUnreadable
from epigone.text.cleaning import Cut, cut_boilerplate
from epigone.text.reading import decode, find_codec, measure_bytes
from epigone.text.sources import Source, find_sources

SMALLEST_CORPUS = 2_000
"""Bytes in UTF-8. Below this a held-out tenth is a sentence or two, and its loss says nothing."""
END_OF_TEXT = "<|endoftext|>"
BLOCK_CHARACTERS = 1 << 22
"""A text is encoded in blocks, so that a large one is not held twice."""
_NO_CUTS: tuple[Cut, ...] = ()
LINE = re.compile(r"[^\n]+")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """The text of one file, ready to learn from."""

    name: str
    text: str
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


def read_corpus(
    texts: Sequence[str],
    *,
    encoding: str = "auto",
    keep_boilerplate: bool = False,
    smallest_bytes: int = SMALLEST_CORPUS,
) -> Corpus:
    """Everything that `texts` name (files, folders, globs, "-", addresses, "sample:sonnets"), read and cleaned.

    What a folder or a glob holds besides text is skipped and named; what was named itself must be text. To learn from
    it takes SMALLEST_CORPUS bytes; who wants something else of a text may ask for fewer.
    Raises TextNotFound, TextUnreadable or TextTooShort.
    """
    if encoding != "auto":
        find_codec(encoding)  # no file could be read in one that does not exist
    found = find_sources(texts)
    documents, skipped = [], list(found.skipped)
    for source in found.sources:
        try:
            documents.append(read_document(source, encoding=encoding, keep_boilerplate=keep_boilerplate))
        except (TextUnreadable, TextTooShort) as error:
            if source.named:
                raise
            skipped.append(str(error))
    _check_size(documents, skipped, smallest_bytes)
    return make_corpus(documents, skipped)


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
        for block in _encode_blocks(document.text):
            digest.update(block)
    return Corpus(documents=documents, skipped=tuple(skipped), fingerprint=digest.hexdigest())


def read_document(source: Source, *, encoding: str = "auto", keep_boilerplate: bool = False) -> Document:
    """One file, decoded and cleaned. Raises TextUnreadable, or TextTooShort if nothing but white space is left."""
    data = source.read()
    decoded = decode(data, name=source.name, encoding=encoding)
    text, cuts = decoded.text, _NO_CUTS
    if not keep_boilerplate:
        text, cuts = cut_boilerplate(text, lambda start, end: measure_bytes(data, decoded, start, end))
    if not text or text.isspace():
        what = "Project Gutenberg's header and licence" if cuts else "white space"
        raise TextTooShort(f"{source.name} holds nothing but {what}.", hint="Give a file with text in it.")
    n_bytes_cut = sum(cut.n_bytes for cut in cuts)
    receipt = FileReceipt(
        name=source.name,
        sha256=hashlib.sha256(data).hexdigest(),
        n_bytes=decoded.n_bytes,
        n_bytes_bom=decoded.n_bytes_bom,
        n_bytes_newlines=decoded.n_bytes_newlines,
        n_bytes_cut=n_bytes_cut,
        n_bytes_kept=decoded.n_bytes - decoded.n_bytes_bom - decoded.n_bytes_newlines - n_bytes_cut,
        n_bytes_utf8=sum(map(len, _encode_blocks(text))),
        encoding=decoded.encoding,
        reason=decoded.reason,
        warning=decoded.warning,
        n_characters=len(text),
        n_lines=text.count("\n") + (not text.endswith("\n")),
        longest_line=max(match.end() - match.start() for match in LINE.finditer(text)),
        cuts=cuts,
        first_lines=_find_first_lines(text),
        n_end_of_text=text.count(END_OF_TEXT),
    )
    return Document(name=source.name, text=text, receipt=receipt)


def _find_first_lines(text: str) -> tuple[str, ...]:
    lines = (match[0].strip()[:80] for match in LINE.finditer(text))
    return tuple(itertools.islice(filter(None, lines), 3))


def _encode_blocks(text: str) -> Iterable[bytes]:
    return (text[start : start + BLOCK_CHARACTERS].encode() for start in range(0, len(text), BLOCK_CHARACTERS))
