"""Keeps a generated text from saying the same few words again and again, more often than the author does."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from epigone.generation.guard import WORD, Guard, read_letters

LAST = re.compile(r"([^\W\d_]+)\Z")
LENGTHS = 2, 3
"""Words of a phrase."""
WINDOW = 100
"""Words back to which a phrase is looked for: a paragraph or two."""
SHARE = 0.001
"""Of an author's words. What ends a phrase that has stood so often before is rarer than that in the author's text."""
SHORT = 3
"""Letters of words that are compared as they are."""
FEWEST = 1_000
"""Words of a text; a shorter one does not say how often its author repeats a phrase."""

Phrase = tuple[str, ...]


class Repetition(NamedTuple):
    """How often an author repeats phrases within `WINDOW` words."""

    most: tuple[int, ...]
    """For each of `LENGTHS`: how often a phrase may have stood before; empty where there is too little text."""
    own: dict[Phrase, int]
    """Phrases that the author repeats more often than that, with how often."""


UNKNOWN = Repetition((), {})


def find_repetition(texts: Iterable[str]) -> Repetition:
    """How often these texts repeat phrases, one text after another."""
    words = [[_fold(word.casefold()) for word in WORD.findall(text)] for text in texts]
    n_words = sum(map(len, words))
    if n_words < FEWEST:
        return UNKNOWN
    most, own = list[int](), dict[Phrase, int]()
    for length in LENGTHS:
        n_before, highest = Counter[int](), dict[Phrase, int]()
        for phrase, count in (found for text in words for found in _count_before(text, length)):
            n_before[count] += 1
            highest[phrase] = max(count, highest.get(phrase, 0))
        limit = 1
        while sum(n for count, n in n_before.items() if count > limit) > SHARE * n_words:
            limit += 1
        most.append(limit)
        own |= {phrase: count for phrase, count in highest.items() if count > limit}
    return Repetition(tuple(most), own)


def _fold(word: str) -> str:
    """A word without the s of its plural, so that "traitors" does not take the place of "traitor"."""
    return word[:-1] if word.endswith("s") and len(word) > SHORT else word


def _count_before(words: Iterable[str], length: int) -> Iterator[tuple[Phrase, int]]:
    """Each phrase that stood before within the window, and how often."""
    recent = _RecentPhrases(length)
    last = deque[str](maxlen=length)
    for word in words:
        last.append(word)
        phrase = tuple(last)
        if len(phrase) == length:
            if n_before := recent.count(phrase):
                yield phrase, n_before
            recent.add(phrase)


class _RecentPhrases:
    """How often each phrase of some words has stood within the last `WINDOW` words."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._counts = dict[Phrase, int]()
        self._recent = deque[Phrase]()

    def count(self, phrase: Phrase) -> int:
        return self._counts.get(phrase, 0)

    def add(self, phrase: Phrase) -> None:
        self._recent.append(phrase)
        self._counts[phrase] = self.count(phrase) + 1
        if len(self._recent) > WINDOW:
            oldest = self._recent.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]


class RepeatedPhraseGuard(Guard):
    """For one text, which tokens would end a phrase that has stood too often within the last words.

    Punctuation and lines between words do not count.
    """

    def __init__(self, repetition: Repetition, token_bytes: Sequence[bytes], prompt: str = "") -> None:
        """`token_bytes`: the bytes of each token, as from `list_token_bytes`."""
        self._pieces = read_letters(token_bytes)
        self._own = repetition.own
        self._recent = [(most, _RecentPhrases(length)) for length, most in zip(LENGTHS, repetition.most, strict=False)]
        self._words: Phrase = ()
        """The last finished ones."""
        self._word = ""
        """The unfinished one."""
        for word in WORD.findall(prompt):
            self._finish_word()
            self._word = word.casefold()
        if not LAST.search(prompt):
            self._finish_word()

    def forbids(self, token: int) -> bool:
        """Whether this token would spell a word that ends such a phrase."""
        piece = self._pieces[token]
        if piece is None or not piece[1]:
            return False
        begins, letters = piece
        before = (*self._words, _fold(self._word)) if begins and self._word else self._words
        words = (*before, _fold(letters if begins else self._word + letters))
        return any(
            (n_before := recent.count(phrase := words[-recent.length :])) > most and n_before > self._own.get(phrase, 0)
            for most, recent in self._recent
        )

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        piece = self._pieces[token]
        if piece is not None and not piece[0]:
            self._word += piece[1]
        else:
            self._finish_word()
            self._word = piece[1] if piece is not None else ""

    def _finish_word(self) -> None:
        if not self._word:
            return
        words = (*self._words, _fold(self._word))
        for _, recent in self._recent:
            if len(words) >= recent.length:
                recent.add(words[-recent.length :])
        self._words, self._word = words[1 - max(LENGTHS) :], ""
