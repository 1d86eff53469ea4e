"""JSON read value by value, from pieces of text: the arrays that are of interest are never in memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from epigone.corpus.readers.limits import MOST_PART_BYTES, Limits
from epigone.errors import TextUnreadable

DECODER = json.JSONDecoder(strict=False)
"""It takes control characters in strings, which some programs write."""
SPACE = " \t\n\r\ufeff"
DEEPEST_PATH = 12
SAVE_AGAIN = "The file may be damaged or incomplete. Export it again."
Path = tuple[str | None, ...]
"""Where in a document a value is: the names of members, and None for an element of an array."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value, or the end of an object or array whose values came before it."""

    path: Path
    value: object = None
    is_end: bool = False


class JsonReader:
    """Reads one JSON document from its pieces."""

    def __init__(self, pieces: Iterator[str], limits: Limits) -> None:
        self.pieces, self.limits = pieces, limits
        self.text, self.position = "", 0

    def skip_to(self, mark: str) -> None:
        """Skip what stands before a mark, and the mark, if it is near."""
        self._peek()
        found = self.text.find(mark, self.position, self.position + 200)
        self.position = found + len(mark) if found >= 0 else self.position

    def walk(self, enter: Callable[[Path], bool], path: Path = ()) -> Iterator[Found]:
        """All values in order; of objects and arrays at paths that `enter` accepts, each value and the end.

        Raises TextUnreadable for what is not JSON, is nested too deeply, or has a value of more than 64 MB.
        """
        self.limits.check_depth(len(path), DEEPEST_PATH)
        opening = self._peek()
        if opening not in ("[", "{") or not enter(path):
            yield Found(path, self._read_value())
            return
        closing = "]" if opening == "[" else "}"
        self.position += 1
        while self._peek() != closing:
            name: str | None = None
            if opening == "{":
                found = self._read_value()
                if not isinstance(found, str):
                    raise self._damaged()
                name = found
                self._take(":")
            yield from self.walk(enter, (*path, name))
            if self._peek() != closing:
                self._take(",")
        self.position += 1
        yield Found(path, is_end=True)

    def _peek(self) -> str:
        """The next character that is not white space. Raises TextUnreadable at the end."""
        while True:
            while self.position < len(self.text):
                if self.text[self.position] not in SPACE:
                    return self.text[self.position]
                self.position += 1
            if not self._read_more():
                raise self._damaged()

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            raise self._damaged()
        self.position += 1

    def _read_value(self) -> object:
        self._peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
            except RecursionError:
                raise self.limits.refuse("its parts are nested too deeply") from None
            except ValueError:
                if not self._read_more():
                    raise self._damaged() from None
                continue
            if end < len(self.text) or not self._read_more():  # a number at the end of a piece may go on
                self.position = end
                return value

    def _read_more(self) -> bool:
        """Read twice as much as there is, so that a value that is read again and again takes linear time."""
        held = [self.text[self.position :]]
        n_needed = n_held = len(held[0])
        if n_held > MOST_PART_BYTES:
            raise self.limits.refuse(f"a part of it has more than {MOST_PART_BYTES >> 20:,} MB")
        while (n_held <= n_needed * 2 or not n_held) and (piece := next(self.pieces, "")):
            held.append(piece)
            n_held += len(piece)
        self.text, self.position = "".join(held), 0
        return n_held > n_needed

    def _damaged(self) -> TextUnreadable:
        return TextUnreadable(f"{self.limits.name} is damaged: what is in it is not JSON throughout.", hint=SAVE_AGAIN)
