"""The pieces of a file in; what is learned from of each, and in the end a receipt of where every byte went, out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from epigone.text.cleaning import Cut, Where, cut_boilerplate, ends_near_name, join_cuts
from epigone.text.reading import Decoded, Piece, join_pieces, measure_bytes

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


class Tally:
    """Counts what goes by."""

    def __init__(self) -> None:
        self.cuts: tuple[Cut, ...] = ()
        self.is_blank = True
        self._first: Decoded | None = None
        self._digest = hashlib.sha256()
        self._n_bytes = self._n_bytes_bom = self._n_bytes_newlines = self._n_bytes_utf8 = self._n_characters = 0
        self._n_newlines = self._longest_line = self._n_end_of_text = 0
        self._first_lines: list[str] = []
        self._where = Where()
        self._last_line, self._tail = 0, ""

    def take(self, piece: Piece, *, clean: bool) -> str:
        """The text of the next piece; if `clean`, without Project Gutenberg's header and licence."""
        raw, decoded = piece
        self._first = self._first or decoded
        self._digest.update(raw)
        self._n_bytes += decoded.n_bytes
        self._n_bytes_bom += decoded.n_bytes_bom
        self._n_bytes_newlines += decoded.n_bytes_newlines
        text = decoded.text
        if clean:
            text, cuts = cut_boilerplate(text, lambda start, end: measure_bytes(raw, decoded, start, end), self._where)
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


def gather(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same pieces, those joined between which a header or a licence might be parted."""
    held: Piece | None = None
    for piece in pieces:
        held = piece if held is None else join_pieces(held, piece)
        text = held[1].text
        if len(text) > MOST_GATHERED_CHARACTERS or not ends_near_name(text):
            yield held
            held = None
    if held is not None:
        yield held
