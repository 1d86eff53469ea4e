"""Keeps generated text to words that exist: those of the author, of the prompt, and of a bundled base's list.

A small model spells its words from pieces, and some of what it spells is not a word. A token is drawn again where no
known word begins with the letters that it would make: the distribution is that of the model, restricted to words.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from epigone.corpus.words import KANA_AND_HAN_ALL
from epigone.generation.guard import Guard, Tokens, decode
from epigone.model.base_profile import BASES, find_profile, find_root

LETTERS = re.compile(r"[^\W\d_]+")
"""A word here: letters only, so that "o'clock" is two and "mother-in-law" three."""
UNSPACED = re.compile(rf"[{KANA_AND_HAN_ALL}\u0e00-\u109f\u1780-\u17ff]")
"""Scripts without spaces between words: Japanese, Chinese, Thai, Lao, Tibetan, Burmese, Khmer."""
SAME_LANGUAGE = 0.5
"""A text is in the list's language if so many of its different words are in the list: 0.25 of a French novel's are, and
0.87 to 0.99 of those of 13 English texts, verse, recipes and a chat among them."""
MOST_FOUND = 1 << 16
"""Answers that are remembered: about 15 MB. Most tokens are drawn after the same few letters, or after a word."""
MOST_MARKED = 1 << 22
"""Bytes of what is remembered of all tokens at once."""
LAST = chr(0x10FFFF)
"""Comes after all letters."""
LAST_ASCII = "\x7f"
"""Stands for a letter that is not in ASCII, of which not all bytes are known yet."""
WORDS = "words.txt"
"""Words of several books and other texts, one a line, case-folded and sorted: in the folder of a bundled base that has
a list of its own, beside the folders for all others."""


Mask = NDArray[np.bool_]


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
    """The words of texts and, where `base` is a bundled one or was tuned from it, of its list.

    The list is left out for texts in another language.
    """
    words: set[str] = set()
    mixed: set[str] = set()
    for text in texts:
        words |= list_words(text)
        mixed |= list_mixed_words(text)
    profile = find_profile(base)
    listed = read_words(profile.folder) if profile else ()
    if len(words.intersection(listed)) < SAME_LANGUAGE * len(words):
        listed = ()
    return KnownWords(listed, words, mixed=mixed)


class KnownWords:
    """Words, and whether letters may begin one of them."""

    def __init__(self, *lists: Iterable[str], mixed: Iterable[str] = ()) -> None:
        """The words of all lists, each case-folded, and the known spellings with capitals inside. Tuples have to be
        sorted."""
        self._lists = [words if isinstance(words, tuple) else tuple(sorted(words)) for words in lists]
        self._mixed = frozenset(mixed)
        self._mixed_beginnings = frozenset(word[:end] for word in self._mixed for end in range(1, len(word) + 1))

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

    def list_beginning(self, letters: str) -> Iterator[str]:
        """The words that begin with these case-folded letters."""
        for words in self._lists:
            first = bisect_left(words, letters)
            yield from words[first : bisect_left(words, letters + LAST, first)]

    def add(self, text: str) -> KnownWords:
        """These words and those of a text: the same where it has no others."""
        words = {word for word in list_words(text) if not self.has(word)}
        mixed = {word for word in list_mixed_words(text) if word not in self._mixed}
        if not (words or mixed):
            return self
        return KnownWords(*self._lists, words, mixed=self._mixed | mixed)

    def _find(self, letters: str) -> Iterator[str]:
        """Of each list the first word that does not come before these letters."""
        for words in self._lists:
            place = bisect_left(words, letters)
            if place < len(words):
                yield words[place]


State = tuple[str, bytes]
"""The letters of an unfinished word, and the bytes of an unfinished character."""
Steps = dict[int, tuple[bool, State]]
"""Of tokens that were looked at in a state: whether they are forbidden there, and the state behind them."""


NOTHING: State = ("", b"")


class WordStates:
    """Which tokens make letters that neither are a known word nor begin one. Shared by the texts of one prompt.

    What was found is remembered, so that most tokens cost a look into a dictionary.
    """

    def __init__(self, known: KnownWords, token_bytes: Sequence[bytes]) -> None:
        """`token_bytes`: the bytes of each token, as from `list_token_bytes`."""
        self._known, self._token_bytes = known, token_bytes
        self._steps: dict[State, Steps] = {}
        self._n_steps = 0
        self._allowed: dict[State, Mask] = {}

    def add(self, prompt: str) -> WordStates:
        """The same if the words of a prompt are known as well."""
        known = self._known.add(prompt)
        return self if known is self._known else WordStates(known, self._token_bytes)

    def begin(self, prompt: str) -> State:
        """The state behind a prompt."""
        return self._read("", prompt)[0], b""

    def find_steps(self, state: State) -> Steps:
        """What is known of tokens in this state; `look` adds to it."""
        return self._steps.setdefault(state, {})

    def look(self, state: State, steps: Steps, token: int) -> tuple[bool, State]:
        """Whether a token is forbidden, and the state behind it."""
        found = steps.get(token)
        if found is None:
            if self._n_steps >= MOST_FOUND:
                self._n_steps = 0
                self._steps.clear()
            self._n_steps += 1
            found = steps[token] = self._step(state, self._token_bytes[token])
        return found

    def _step(self, state: State, piece: bytes) -> tuple[bool, State]:
        text, pending = decode(state[1] + piece)
        letters, are_known = self._read(state[0], text)
        word = letters.casefold()
        if pending and not self._has(letters):  # the character will end the word, or go on with it
            word += LAST_ASCII
        is_spelled = self._known.has_spelling(letters, whole=False)
        return not (are_known and is_spelled and self._known.has_beginning(word)), (letters, pending)

    def _read(self, letters: str, text: str) -> tuple[str, bool]:
        """The unfinished word after more text, and whether all words that it ends are known."""
        are_known = True
        for character in text:
            if _is_letter(character):
                letters += character
            elif letters:
                are_known = are_known and self._has(letters)
                letters = ""
        return letters, are_known

    def _has(self, letters: str) -> bool:
        return not letters or (self._known.has_spelling(letters, whole=True) and self._known.has(letters.casefold()))

    # -- all tokens at once

    def find_allowed(self, state: State) -> Mask:
        """For each token whether it is allowed. What `look` says, in a twentieth of the time."""
        allowed = self._allowed.get(state)
        if allowed is None:
            if len(self._allowed) * len(self._token_bytes) >= MOST_MARKED:
                self._allowed.clear()
            steps = self.find_steps(state)
            is_word = state[0] and not state[1]
            allowed = self._find_allowed(state[0]) if is_word else np.zeros(len(self._token_bytes), np.bool_)
            for token in self._pieces.others if is_word else range(len(self._token_bytes)):
                allowed[token] = not self.look(state, steps, token)[0]
            self._allowed[state] = allowed
        return allowed

    def _find_allowed(self, letters: str) -> Mask:
        """The same behind letters, but for `others`."""
        allowed, pieces, known = np.zeros(len(self._token_bytes), np.bool_), self._pieces, self._known
        if self._has(letters):
            allowed[pieces.apart] = self._may_begin[pieces.apart]
        folded = letters.casefold()
        rests = {word[len(folded) :] for word in known.list_beginning(folded)}
        beginnings = {rest[:end] for rest in rests for end in range(1, min(len(rest), pieces.longest) + 1)}
        for more, (open_, ended) in pieces.by_letters.items():
            rest = more.casefold()
            if rest in beginnings and known.has_spelling(letters + more, whole=False):
                allowed[open_] = True
            if rest in rests and known.has_spelling(letters + more, whole=True):
                allowed[ended] = self._may_begin[ended]
        return allowed

    @cached_property
    def _pieces(self) -> _Pieces:
        return _sort_pieces(tuple(self._token_bytes))

    @cached_property
    def _may_begin(self) -> Mask:
        """Of each token whether what follows the letters that it begins with may stand behind a word."""
        found = {rest: not self._step(NOTHING, rest.encode())[0] for rest in set(self._pieces.rests)}
        return np.array([found[rest] for rest in self._pieces.rests])


class _Pieces(NamedTuple):
    """Tokens by the letters that they begin with."""

    by_letters: dict[str, tuple[list[int], list[int]]]
    """Those that are these letters and nothing else, and those that go on behind them."""
    apart: list[int]
    """Tokens that begin with something else."""
    others: list[int]
    """Tokens that end within a character, or are empty."""
    rests: list[str]
    """Of each token what follows the letters."""
    longest: int
    """Letters, case-folded."""


@lru_cache(maxsize=4)
def _sort_pieces(token_bytes: tuple[bytes, ...]) -> _Pieces:
    by_letters: dict[str, tuple[list[int], list[int]]] = {}
    apart, others, rests = list[int](), list[int](), list[str]()
    for token, piece in enumerate(token_bytes):
        text, pending = decode(piece)
        letters = "".join(takewhile(_is_letter, text))
        rests.append(text[len(letters) :])
        if pending or not text:
            others.append(token)
        elif letters:
            by_letters.setdefault(letters, ([], []))[bool(rests[-1])].append(token)
        else:
            apart.append(token)
    return _Pieces(by_letters, apart, others, rests, max((len(each.casefold()) for each in by_letters), default=0))


def _is_letter(character: str) -> bool:
    return character.isalpha() and not UNSPACED.match(character)


class WordGuard(Guard):
    """For one text, which tokens would make letters that neither are a known word nor begin one.

    Scripts without spaces between words are not looked at.
    """

    def __init__(self, states: WordStates, prompt: str = "") -> None:
        """`states`: of the known words and those of the prompt."""
        self._states, self._state = states, states.begin(prompt)
        self._steps = states.find_steps(self._state)

    def forbids(self, token: int) -> bool:
        """Whether this token would make something that is not a word."""
        return self._states.look(self._state, self._steps, token)[0]

    def select(self, tokens: Tokens) -> Tokens:
        """Those of these tokens that make words."""
        return tokens[self._states.find_allowed(self._state)[tokens]]

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        self._state = self._states.look(self._state, self._steps, token)[1]
        self._steps = self._states.find_steps(self._state)
