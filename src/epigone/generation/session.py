"""Interactive writing, without a terminal: a text that a person and a model write in turns, with undo and retry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from epigone.files import append_text
from epigone.generation.batch import StreamedText
from epigone.generation.generator import TextGenerator
from epigone.settings import WriteSettings

MOST_SEEDS = 2**32


class Change(NamedTuple):
    """The text before a change, and who changed it."""

    before: str
    by_model: bool


class WritingSession:
    """A text in progress. Every change can be undone, back to the first beginning."""

    def __init__(self, generator: TextGenerator, settings: WriteSettings) -> None:
        """The first continuation is drawn with `settings.seed`, each later one, retries too, with the next seed."""
        self.generator = generator
        self.settings = settings.model_copy(update={"count": 1})
        self.text = ""
        self.seed = settings.seed
        """Of the next continuation."""
        self._changes: list[Change] = []
        self._kept: tuple[str, Path] | None = None

    def begin(self, text: str) -> None:
        """Replace the text."""
        if self.text:
            self._change(text)
        self.text = text

    def add(self, words: str) -> None:
        """Append the user's own words as they are."""
        self._change(self.text + words)

    def go_on(self) -> Iterator[str]:
        """Let the model continue the text: pieces, each already in the text when it is given.

        Where the reader stops early the text keeps what has come so far.
        """
        settings = self.settings.model_copy(update={"seed": self.seed})
        self.seed = (self.seed + 1) % MOST_SEEDS
        before = self.text
        self._change(before, by_model=True)
        for piece in self.generator.stream(before, settings):
            self.text += piece.text
            yield piece.text

    def propose(self, count: int) -> Iterator[StreamedText]:
        """Let the model write continuations to choose from, each with its own seed; the text stays as it is."""
        settings = self.settings.model_copy(update={"seed": self.seed, "count": count})
        self.seed = (self.seed + count) % MOST_SEEDS
        yield from self.generator.stream(self.text, settings)

    def take(self, continuation: str) -> None:
        """Append a continuation that was chosen."""
        self._change(self.text + continuation, by_model=True)

    @property
    def can_retry(self) -> bool:
        """Whether the last change was a continuation."""
        return bool(self._changes) and self._changes[-1].by_model

    def retry(self) -> Iterator[str]:
        """Undo the last continuation at once, and continue with another seed. Only where `can_retry`."""
        self.undo()
        return self.go_on()

    def undo(self) -> str | None:
        """Undo the last change and return what it had put there; None where there is nothing to undo."""
        if not self._changes:
            return None
        after, self.text = self.text, self._changes.pop().before
        return after.removeprefix(self.text)

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
