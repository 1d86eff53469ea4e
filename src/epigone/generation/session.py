"""A writer and a person's words in; a text that the two write in turns, and its way back, out. Needs no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from epigone.files import append_text
from epigone.generation.generator import TextGenerator
from epigone.settings import WriteSettings

MOST_SEEDS = 2**32


class Change(NamedTuple):
    """What the text was before it was changed, and who changed it."""

    before: str
    by_model: bool


class WritingSession:
    """A text in the making. Every change can be taken back, down to the first beginning."""

    def __init__(self, writer: TextGenerator, settings: WriteSettings) -> None:
        """Continuations have `settings.length` tokens; the first is drawn with `settings.seed`, each other with the

        seed after the one before, whether it goes on or tries again.
        """
        self.writer = writer
        self.settings = settings.model_copy(update={"count": 1})
        self.text = ""
        self.seed = settings.seed
        """Of the next continuation."""
        self._changes: list[Change] = []
        self._kept: tuple[str, Path] | None = None

    def begin(self, text: str) -> None:
        """Put a new text in place of the one so far."""
        if self.text:
            self._change(text)
        self.text = text

    def add(self, words: str) -> None:
        """Put the user's own words behind the text, as they are."""
        self._change(self.text + words)

    def go_on(self) -> Iterator[str]:
        """Let the model go on from where the text ends: pieces, each in the text already when it comes out.

        What has come stays where the reader stops early.
        """
        settings = self.settings.model_copy(update={"seed": self.seed})
        self.seed = (self.seed + 1) % MOST_SEEDS
        before = self.text
        self._change(before, by_model=True)
        for piece in self.writer.stream(before, settings):
            self.text += piece.text
            yield piece.text

    @property
    def can_retry(self) -> bool:
        """Whether the last change was a continuation."""
        return bool(self._changes) and self._changes[-1].by_model

    def retry(self) -> Iterator[str]:
        """Take the last continuation back at once, and go on with another seed. Only where `can_retry`."""
        self.undo()
        return self.go_on()

    def undo(self) -> bool:
        """Take the last change back: a continuation, the user's words or a new beginning. False: there was none."""
        if not self._changes:
            return False
        self.text = self._changes.pop().before
        return True

    def keep(self, path: Path) -> None:
        """Append the text to a file, with a newline at its end. Raises OutputError."""
        append_text(path, self.text if self.text.endswith("\n") else f"{self.text}\n")
        self._kept = self.text, path

    @property
    def kept_in(self) -> Path | None:
        """The file to which the text, as it is now, was last appended; None if it was not."""
        return self._kept[1] if self._kept and self._kept[0] == self.text else None

    def _change(self, text: str, *, by_model: bool = False) -> None:
        self._changes.append(Change(self.text, by_model))
        self.text = text
