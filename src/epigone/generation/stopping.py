"""Stop conditions: length, stop strings, the end of a sentence, line, paragraph or speech, and the model's own end.

Tokens are decoded as they come, and text is given as soon as it is certain to belong to the result: never part of a
character, nor what may turn out to be a stop string.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from epigone.corpus.words import STOP_BOUNDARIES, WORD_END
from epigone.settings import WriteSettings

LONGER = 1.5
ALLOWANCE = {"tokens": 60, "words": 40, "characters": 200}
"""A text that comes to no end is cut at this many times its length and so much more."""
TOKENS_PER_UNIT = {"tokens": 1, "words": 12, "characters": 4}
"""At most: a character may have four bytes, and each of them be a token."""
UNDECIDED = {"paragraph": re.compile(r"\n[^\S\n]*\Z"), "speech": re.compile(r"\n[^\n]{0,34}\Z")}
"""The end of a text that may turn out to lie behind its boundary."""
LOOK_BACK = 40


def count_most_tokens(settings: WriteSettings) -> int:
    """The most tokens a text may take: at 12 a word, 4 a character, it has ended by then or is cut there."""
    most = find_latest_end(settings) if settings.stop_at in STOP_BOUNDARIES else settings.length
    return most * TOKENS_PER_UNIT[settings.unit]


def find_latest_end(settings: WriteSettings) -> int:
    """The length, in the settings' unit, at which a text is cut that comes to no boundary."""
    return int(LONGER * settings.length) + ALLOWANCE[settings.unit]


class StopDetector:
    """Decodes one text token by token and says where it ends: `stopped`, after `n_tokens` tokens.

    It keeps no more of the text than it may have to look at again.
    """

    def __init__(self, settings: WriteSettings, may_end: Callable[[], bool] = lambda: True) -> None:
        """`may_end` says, of the text up to the last token, whether a boundary in that token may be the end."""
        self.settings, self.stopped, self._may_end = settings, False, may_end
        self._stops = [stop for stop in settings.stop if stop]
        self._longest_stop = max(map(len, self._stops), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        """The end of the text: what is not yet given, and LOOK_BACK characters before that."""
        self.n_tokens = self._n_words = self._n_characters = self._n_given = 0
        """`_n_given` counts from the beginning of what is kept."""
        self.reached_length = False
        """Whether it was stopped by its length, and neither by a stop string or boundary nor by the model."""
        self._reached: int | None = None

    def take(self, piece: bytes, *, last: bool = False) -> str:
        """The text that is certain after one token more. `last`: the model itself ends the text here."""
        if self.stopped:
            return ""
        fresh = self._decoder.decode(piece)
        self.n_tokens += 1
        self._n_characters += len(fresh)
        if self.settings.unit == "words":
            self._n_words += len(WORD_END.findall(self._text[-1:] + fresh))
        self._text += fresh
        end = len(self._text) if last else self._find_end()
        self.stopped = end is not None
        return self._give(len(self._text) - self._count_undecided() if end is None else end)

    def finish(self) -> str:
        """What was held back because it might have begun a stop string or boundary. Part of a character is dropped."""
        return "" if self.stopped else self._give(len(self._text))

    def _give(self, end: int) -> str:
        given = self._text[self._n_given : end]
        self._n_given = max(end, self._n_given)
        self._forget(self._n_given - LOOK_BACK)
        return given

    def _forget(self, n_characters: int) -> None:
        if n_characters > 0:
            self._text, self._n_given = self._text[n_characters:], self._n_given - n_characters
            self._reached = None if self._reached is None else self._reached - n_characters

    def _find_end(self) -> int | None:
        """Where the text ends, if it does by now."""
        ends = [place for stop in self._stops if (place := self._text.find(stop, self._n_given)) >= 0]
        if self._reached is None and self._measure() >= self.settings.length:
            self._reached = self._find_length()
        cut = None
        if self._reached is not None:
            ends += self._find_boundaries(self._reached)
            cut = self._find_cut(self._reached)
        end = min(ends, default=None)
        self.reached_length = cut is not None and (end is None or cut < end)
        return cut if self.reached_length else end

    def _find_cut(self, reached: int) -> int | None:
        """Where its length cuts the text off, whatever comes."""
        if self.settings.stop_at not in STOP_BOUNDARIES:
            return reached
        return len(self._text) if self._measure() >= find_latest_end(self.settings) else None

    def _measure(self) -> int:
        unit = self.settings.unit
        return self.n_tokens if unit == "tokens" else self._n_words if unit == "words" else self._n_characters

    def _find_length(self) -> int:
        """The place where the text has its length, just after a token that has brought it there."""
        if self.settings.unit == "characters":
            return len(self._text) - (self._n_characters - self.settings.length)
        if self.settings.unit == "tokens":
            return len(self._text)
        ends = [word.start() + 1 for word in WORD_END.finditer(self._text)]
        return ends[self.settings.length - 1 - self._n_words]

    def _find_boundaries(self, reached: int) -> list[int]:
        if self.settings.stop_at not in STOP_BOUNDARIES:
            return []
        found = STOP_BOUNDARIES[self.settings.stop_at].finditer(self._text, max(0, reached - LOOK_BACK))
        ends = [match.end() for match in found if match.end() >= reached]
        patience = (self.settings.length + find_latest_end(self.settings)) / 2
        if ends and self._measure() < patience and not self._may_end():
            self._reached = ends[-1] + 1  # this boundary is not the end, a later one is
            return []
        return ends[:1]

    def _count_undecided(self) -> int:
        """Characters at the end that may be the beginning of a stop string or of a boundary."""
        held = self._count_held() if self._stops else 0
        if self.settings.stop_at not in UNDECIDED:
            return held
        rest = UNDECIDED[self.settings.stop_at].search(self._text, max(0, len(self._text) - LOOK_BACK))
        return max(held, len(self._text) - rest.start()) if rest else held

    def _count_held(self) -> int:
        ends = (self._text[-n:] for n in range(min(self._longest_stop - 1, len(self._text)), 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stops)), 0)
