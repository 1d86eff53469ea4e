"""Portions: a corpus of any size divided into pieces of work that processes read without knowing of each other.

A portion is a stretch of a long text or of JSON Lines, some row groups of a Parquet table, a file of another format, or
some small files. How a corpus is divided depends on names and sizes alone, so that every process divides it alike.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, cast

from epigone.corpus.corpus import Corpus, Document, read_alone, unwrap_corpus
from epigone.corpus.large_text import TextSpooler
from epigone.corpus.object_store import is_stored
from epigone.corpus.readers.archives import is_archive
from epigone.corpus.readers.formats import find_format
from epigone.corpus.readers.json_stream import DECODER
from epigone.corpus.readers.parquet import divide_rows
from epigone.corpus.readers.reader import Beginning
from epigone.corpus.readers.records import choose_fields, find_messages, take_sample
from epigone.corpus.sources import Source, find_sources, make_file_source, make_stored_source
from epigone.corpus.split import Span, split_corpus
from epigone.errors import TextTooShort, TextUnreadable
from epigone.settings import ReadSettings

PORTION_BYTES = 1 << 25
"""Read and encoded in about ten seconds by one core: little to do again when a process is lost."""
MOST_FILES = 1_000
"""In one portion."""
EDGE_BYTES = 1 << 20
TEXT_EDGE = re.compile(rb"(?<=\S)\r?\n")
"""Where a text is divided: before the first line end after something else, as no token reaches across it."""
LINE_EDGE = re.compile(rb"(?<=\n)")
FIELDS_BYTES = 1 << 24
"""At the beginning of JSON Lines, in which fields are chosen."""
SMALLEST_SHARE = 0.0001
HELD_OUT_TOGETHER = 1 << 16
"""Bytes at least that are held out of a portion, if any are."""
HowToSplit = Literal["auto", "spread", "tail", "documents"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A file of a portion, or a part of one."""

    place: str
    """Path, address, or "sample:NAME"."""
    name: str
    n_bytes: int
    """To read, or, of Parquet, when it is unpacked."""
    named: bool = True
    listed: bool = False
    kind: Literal["whole", "text", "lines", "rows"] = "whole"
    start: int = 0
    """Bytes of a text or of lines, about: a text is divided at line ends. Row groups of Parquet."""
    end: int = 0
    span: tuple[int, int] | None = None
    field: tuple[str, ...] = ()
    """Chosen at the beginning of the file, for all of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Portion:
    """Some of a corpus, for one process."""

    pieces: tuple[Piece, ...]
    part: Literal["train", "validation"] = "train"
    held_out: float = 0.0
    """Bytes of it to validate on."""

    @property
    def n_bytes(self) -> int:
        """Of all pieces."""
        return sum(piece.n_bytes for piece in self.pieces)

    @property
    def goes_on(self) -> bool:
        """Whether it begins in the middle of a text."""
        return self.pieces[0].kind == "text" and self.pieces[0].start > 0


# -- dividing


def divide(
    texts: Sequence[str], settings: ReadSettings, n_bytes: int = PORTION_BYTES
) -> tuple[list[Portion], list[str]]:
    """The portions of about `n_bytes` of everything that `texts` name, and a line about each file that is not read.

    Raises TextNotFound, TextUnreadable.
    """
    found = find_sources(texts)
    portions: list[Portion] = []
    small: list[Piece] = []
    for source in found.sources:
        pieces = _divide_source(source, settings, n_bytes)
        if len(pieces) == 1 and pieces[0].n_bytes < n_bytes:
            small += pieces
            if sum(piece.n_bytes for piece in small) < n_bytes and len(small) < MOST_FILES:
                continue
            pieces = []
        portions += [Portion(pieces=tuple(small))] if small else []
        small = []
        portions += [Portion(pieces=(piece,)) for piece in pieces]
    portions += [Portion(pieces=tuple(small))] if small else []
    return portions, list(found.skipped)


def _divide_source(source: Source, settings: ReadSettings, n_bytes: int) -> list[Piece]:
    place = source.key if source.path is None else str(source.path.absolute())
    if source.path is None and source.opener is not None and not is_stored(place):
        raise TextUnreadable(f"{source.name} cannot be divided between processes.", hint="Save it in a file.")
    size = source.n_bytes or _count_bytes(source)
    whole = Piece(place=place, name=source.name, n_bytes=size, named=source.named, listed=source.listed)
    if source.n_bytes <= n_bytes * 3 // 2:
        return [whole]
    with source.open() as file:
        known = find_format(file, source.name, settings.format, listed=source.listed)
        kind = known.name if known else "text"
        beginning = Beginning(file, source.name)
        if kind == "parquet":
            return _divide_table(file, whole, settings, n_bytes)
        if kind not in ("jsonl", "text") or (known is None and is_archive(beginning)) or not _is_utf8(beginning.head):
            return [whole]
        fields = _choose_line_fields(file, source.name, settings) if kind == "jsonl" else ()
    count = max(1, round(source.n_bytes / n_bytes))
    edges = [source.n_bytes * number // count for number in range(count + 1)]
    return [
        replace(
            whole,
            name=f"{source.name}, part {number + 1:,} of {count:,}",
            kind="lines" if kind == "jsonl" else "text",
            start=edges[number],
            end=edges[number + 1],
            n_bytes=edges[number + 1] - edges[number],
            field=fields,
        )
        for number in range(count)
    ]


def _count_bytes(source: Source) -> int:
    """The size of a text that has to be read for it: one at an address, or that comes with the package."""
    return 0 if source.path is not None else len(source.read())


def _is_utf8(head: bytes) -> bool:
    """Whether a text begins like one whose line ends are single bytes: UTF-8, and not UTF-16."""
    try:
        head[: head.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def _divide_table(file: BinaryIO, whole: Piece, settings: ReadSettings, n_bytes: int) -> list[Piece]:
    groups = divide_rows(file, whole.name, 4 * n_bytes)  # unpacked, a text takes three or four times as much
    return [
        replace(
            whole,
            name=whole.name if len(groups) == 1 else f"{whole.name}, part {number:,} of {len(groups):,}",
            kind="rows",
            start=found.first,
            end=found.end,
            n_bytes=found.n_bytes,
            span=found.span,
        )
        for number, found in enumerate(groups, 1)
    ]


def _choose_line_fields(file: BinaryIO, name: str, settings: ReadSettings) -> tuple[str, ...]:
    """The fields of JSON Lines that are text; none where it is left to what each part looks like."""
    file.seek(0)
    lines = file.read(FIELDS_BYTES).split(b"\n")[:-1]
    try:
        values = (DECODER.decode(line.decode("utf-8-sig").strip()) for line in lines if line.strip())
        sample = take_sample(value for value in islice(values, 1_000) if isinstance(value, dict))
        if not sample or settings.field or find_messages(sample):
            return settings.field
        fields = choose_fields(sample, name)
    except (ValueError, RecursionError):
        return settings.field
    return () if fields.speaker else fields.texts


# -- reading


def read_portion(
    portion: Portion, settings: ReadSettings, folder: Path, *, unwrap: Literal["auto", "yes", "no"]
) -> Corpus:
    """The documents of a portion, none if it has no text. Long texts go into temporary files in `folder`.

    Raises TextUnreadable, OutputError.
    """
    spooler, documents, skipped = TextSpooler(folder), list[Document](), list[str]()
    for piece in portion.pieces:
        own = settings.model_copy(update={"field": piece.field}) if piece.field else settings
        result = read_alone(_make_source(piece), own, spooler)
        error = result.error
        if isinstance(error, TextTooShort) and piece.kind != "whole":  # between two edges there may be nothing
            continue
        if isinstance(error, TextUnreadable | TextTooShort) and not piece.named:
            skipped.append(str(error))
        elif error is not None:
            raise error
        documents += result.documents
        skipped += result.skipped
    corpus = Corpus(documents=tuple(documents), skipped=tuple(skipped), fingerprint="")
    return unwrap_corpus(corpus, unwrap, folder) if documents else corpus


def split_portion(portion: Portion, corpus: Corpus, how: HowToSplit, seed: int) -> tuple[list[Span], list[Span]]:
    """The spans of a portion's text to train on, and those held out."""
    whole = [
        Span(document=number, start=0, end=len(one.text)) for number, one in enumerate(corpus.documents) if one.text
    ]
    if portion.part == "validation":
        return [], whole
    share = portion.held_out / max(1, corpus.n_bytes)
    if share >= 1:
        return [], whole
    if share < SMALLEST_SHARE or not whole:
        return whole, []
    if how == "documents" and len(whole) < 2:
        how = "spread"
    try:
        found = split_corpus(corpus, how=how, share=share, seed=seed)
    except TextTooShort:
        return whole, []
    return list(found.train), list(found.validation)


def _make_source(piece: Piece) -> Source:
    if is_stored(piece.place):
        source = make_stored_source(piece.place, piece.n_bytes, named=piece.named)
    elif Path(piece.place).is_absolute():
        source = make_file_source(Path(piece.place), piece.name, named=piece.named, listed=piece.listed)
    else:
        (source,) = find_sources([piece.place]).sources
    source = replace(source, name=piece.name)
    if piece.kind == "rows":
        return replace(source, row_groups=(piece.start, piece.end), span=piece.span)
    if piece.kind == "whole":
        return source
    edge = TEXT_EDGE if piece.kind == "text" else LINE_EDGE
    opener = partial(_open_stretch, source, piece.start, piece.end, edge)
    return replace(source, opener=opener, read=lambda: opener().read(), path=None)


def _open_stretch(source: Source, start: int, end: int, edge: re.Pattern[bytes]) -> BinaryIO:
    file = source.open()
    size = file.seek(0, 2)
    if size < end:
        file.close()
        raise TextUnreadable(f"{source.name} has become shorter.", hint="Prepare it again, into another folder.")
    places = _find_edge(file, start, size, edge), _find_edge(file, end, size, edge)
    return cast(BinaryIO, io.BufferedReader(_Stretch(file, *places), EDGE_BYTES))


def _find_edge(file: BinaryIO, place: int, size: int, edge: re.Pattern[bytes]) -> int:
    """The first place from `place` on at which a file may be divided."""
    if place in (0, size):
        return place
    at, held = place - 1, b""
    file.seek(at)
    while data := file.read(EDGE_BYTES):
        data, at = held + data, at - len(held)
        if found := edge.search(data, 1):
            return at + found.start()
        at, held = at + len(data), data[-2:]
    return size


class _Stretch(io.RawIOBase):
    """Some bytes of an open file, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        super().__init__()
        self._file, self._start, self._end, self._at = file, start, max(start, end), start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (self._start, self._at, self._end)[whence]
        self._at = max(self._start, base + offset)
        return self._at - self._start

    def tell(self) -> int:
        return self._at - self._start

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._at)
        data = self._file.read(min(len(buffer), max(0, self._end - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


# -- holding out


def hold_out(portions: Sequence[Portion], n_bytes: float, how: HowToSplit) -> list[Portion]:
    """The portions, some of which hold out together about `n_bytes`.

    Where little is held out of much, it comes from few portions at even distances, so that each passage is long.
    """
    found = list(portions)
    if how == "tail":
        for number in range(len(found) - 1, -1, -1):
            taken = min(n_bytes, found[number].n_bytes)
            found[number], n_bytes = replace(found[number], held_out=taken), n_bytes - taken
        return found
    count = min(len(found), max(1, int(n_bytes / HELD_OUT_TOGETHER)))
    chosen = [(2 * number + 1) * len(found) // (2 * count) for number in range(count)]
    sizes = sum(found[number].n_bytes for number in chosen)
    for number in chosen:
        taken = n_bytes * found[number].n_bytes / max(1, sizes)
        found[number] = replace(found[number], held_out=min(taken, found[number].n_bytes / 2))
    return found
