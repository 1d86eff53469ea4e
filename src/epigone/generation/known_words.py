"""Keeps generated text to words that exist: those of the author, of the prompt, and of a bundled base's list.

A small model spells its words from pieces, and some of what it spells is not a word. A token is drawn again where no
known word begins with the letters that it would make: the distribution is that of the model, restricted to words.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from epigone.corpus.words import KANA_AND_HAN_ALL
from epigone.model.base_profile import BASES, find_profile, find_root

LETTERS = re.compile(r"[^\W\d_]+")
"""A word here: letters only, so that "o'clock" is two and "mother-in-law" three."""
UNSPACED = re.compile(rf"[{KANA_AND_HAN_ALL}\u0e00-\u109f\u1780-\u17ff]")
"""Scripts without spaces between words: Japanese, Chinese, Thai, Lao, Tibetan, Burmese, Khmer."""
MOST_FOUND = 1 << 16
"""Answers that are remembered: about 10 MB. Most tokens are drawn after the same few letters, or after a word."""
LAST_ASCII = "\x7f"
"""Stands for a letter that is not in ASCII, of which not all bytes are known yet."""
WORDS = "words.txt"
"""Words of several books and other texts, one a line, case-folded and sorted: in the folder of a bundled base that has
a list of its own, beside the folders for all others."""


def list_words(text: str) -> set[str]:
    """The words of a text, case-folded."""
    return set(map(str.casefold, LETTERS.findall(text)))


def list_mixed_words(text: str) -> set[str]:
    """The words of a text with capitals inside, such as "McAllister" and "JavaScript", as they are written."""
    return set(filter(has_mixed_case, LETTERS.findall(text)))


def has_mixed_case(letters: str) -> bool:
    """Whether there is a capital after the first letter, and not capitals alone."""
    return any(map(str.isupper, letters[1:])) and any(map(str.islower, letters))


def read_words(folder: Path) -> tuple[str, ...]:
    """The sorted list of words of a base: its own, or the one that lies beside its folder; none where there is none."""
    paths = (folder / WORDS, folder.parent / WORDS)
    return next((_read_list(path) for path in paths if path.exists()), ())


@lru_cache(maxsize=4)
def _read_list(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text("utf-8").split("\n"))


def choose_words(base: str) -> Literal["known", "any"]:
    """Which words a model may write unless the user says: small ones misspell, those from no or a bundled base."""
    return "known" if find_root(base) in (*BASES, "none") else "any"


def gather_words(texts: Iterable[str], base: str) -> KnownWords:
    """The words of texts and, where `base` is a bundled one or was tuned from it, of its list."""
    words: set[str] = set()
    mixed: set[str] = set()
    for text in texts:
        words |= list_words(text)
        mixed |= list_mixed_words(text)
    profile = find_profile(base)
    return KnownWords(read_words(profile.folder) if profile else (), words, mixed=mixed)


class KnownWords:
    """Words, and whether letters may begin one of them."""

    def __init__(self, *lists: Iterable[str], mixed: Iterable[str] = ()) -> None:
        """The words of all lists, each case-folded, and the known spellings with capitals inside. Tuples have to be
        sorted."""
        self._lists = [words if isinstance(words, tuple) else tuple(sorted(words)) for words in lists]
        self._mixed = frozenset(mixed)
        self._mixed_beginnings = frozenset(word[:end] for word in self._mixed for end in range(1, len(word) + 1))
        self.found: dict[tuple[str, bytes], bool] = {}
        """For unfinished words and the bytes after them, whether those make no word: what guards have found."""

    def __bool__(self) -> bool:
        """Whether there is any word."""
        return any(self._lists) or bool(self._mixed)

    def has(self, word: str) -> bool:
        """Whether a case-folded word is known."""
        return any(found == word for found in self._find(word))

    def has_beginning(self, letters: str) -> bool:
        """Whether a known word begins with these case-folded letters; after `LAST_ASCII`, with any other letter."""
        beginning = letters.removesuffix(LAST_ASCII)
        return not letters or any(found.startswith(beginning) for found in self._find(letters))

    def has_spelling(self, letters: str, *, whole: bool) -> bool:
        """Whether a word is, or begins, with these capitals: first letters and whole words may have them anyway."""
        return not has_mixed_case(letters) or letters in (self._mixed if whole else self._mixed_beginnings)

    def _find(self, letters: str) -> Iterator[str]:
        """Of each list the first word that does not come before these letters."""
        for words in self._lists:
            place = bisect_left(words, letters)
            if place < len(words):
                yield words[place]


class WordGuard:
    """For one text, which tokens would make letters that neither are a known word nor begin one.

    Scripts without spaces between words are not looked at.
    """

    def __init__(self, known: KnownWords, token_bytes: Sequence[bytes], prompt: str = "") -> None:
        """`token_bytes`: the bytes of each token, as from `list_token_bytes`."""
        own = KnownWords(list_words(prompt), mixed=list_mixed_words(prompt))
        self._lists, self._token_bytes = (known, own), token_bytes
        self._letters, self._pending = self._read("", prompt)[0], b""
        """The unfinished word, and the bytes of an unfinished character."""
        self._found = own.found if own else known.found

    def forbids(self, token: int) -> bool:
        """Whether this token would make something that is not a word."""
        after = self._letters, self._pending + self._token_bytes[token]
        forbidden = self._found.get(after)
        if forbidden is None:
            if len(self._found) >= MOST_FOUND:
                self._found.clear()
            forbidden = self._found[after] = self._makes_no_word(after[1])
        return forbidden

    def _makes_no_word(self, data: bytes) -> bool:
        text, pending = decode(data)
        letters, are_known = self._read(self._letters, text)
        word = letters.casefold()
        if pending and not self._has(letters):  # the character will end the word, or go on with it
            word += LAST_ASCII
        is_spelled = any(words.has_spelling(letters, whole=False) for words in self._lists)
        return not are_known or not is_spelled or not any(words.has_beginning(word) for words in self._lists)

    def refuse(self, token: int) -> None:
        """Nothing is learned from a token that was drawn and forbidden."""

    def may_end(self) -> bool:
        """The text may end anywhere."""
        return True

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        text, self._pending = decode(self._pending + self._token_bytes[token])
        self._letters = self._read(self._letters, text)[0]

    def _read(self, letters: str, text: str) -> tuple[str, bool]:
        """The unfinished word after more text, and whether all words that it ends are known."""
        are_known = True
        for character in text:
            if character.isalpha() and not UNSPACED.match(character):
                letters += character
            elif letters:
                are_known = are_known and self._has(letters)
                letters = ""
        return letters, are_known

    def _has(self, letters: str) -> bool:
        word, is_spelled = letters.casefold(), any(words.has_spelling(letters, whole=True) for words in self._lists)
        return not word or (is_spelled and any(words.has(word) for words in self._lists))


@lru_cache(maxsize=1 << 16)
def decode(data: bytes) -> tuple[str, bytes]:
    """The text of bytes, and the bytes of an incomplete character at their end."""
    text, n_read = codecs.utf_8_decode(data, "replace", False)
    return text, data[n_read:]
