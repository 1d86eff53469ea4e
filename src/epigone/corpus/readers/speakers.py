"""Speakers of chats, mails and subtitles: how often each speaks, who of them is wanted, and what hides their names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from string import ascii_uppercase

from epigone.corpus.readers.layout import INVISIBLE
from epigone.errors import TextTooShort

DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Marks of the writing direction, which chats put around names and their own notices, and halves of characters."""
SPACES = re.compile(r"[^\S\n]+")
FOR_SPEAKERS = "--speaker is for chats, mails and subtitles. To learn the whole text, leave it out."
MOST_NAMED, MOST_NOTED = 12, 4
"""Speakers that are listed in an error, and in a note."""


@lru_cache(maxsize=4096)
def clean_name(name: str) -> str:
    """A speaker's name as it is shown: on one line, without marks around it."""
    return SPACES.sub(" ", INVISIBLE.sub("", DIRECTIONS.sub("", name)).replace("\n", " ")).strip(" ~:\t")


def fold(name: str) -> str:
    """A name for comparison."""
    return unicodedata.normalize("NFC", clean_name(name)).casefold()


@dataclass(slots=True)
class Speakers:
    """Who speaks in the texts that are read together, how often, and who of them is wanted."""

    wanted: tuple[str, ...] = ()
    """Names that were asked for; all speakers if there are none."""
    hidden: bool = False
    """Whether names are replaced by "Person A" and so on, in the order in which they come."""
    counts: Counter[str] = field(default_factory=Counter)
    """Messages of each speaker, by name."""
    labels: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Each name and what stands for it if names are hidden, by the folded name."""
    in_turns: bool = False
    """Whether they speak with each other, and their names stand in the text."""
    found: set[str] = field(default_factory=set)
    """Those of the wanted names, folded, that were found."""

    def count(self, name: str, *others: str) -> bool:
        """Count a message; returns whether its speaker is wanted. `others`: further names of the same speaker."""
        if not name:
            return not self.wanted
        self.counts[name] += 1
        self.label(name)
        if not self.wanted:
            return True
        found = {fold(one) for one in (name, *others)} & {fold(one) for one in self.wanted}
        self.found |= found
        return bool(found)

    def label(self, name: str) -> str:
        """What is shown for a name: itself, or what stands for it."""
        if not self.hidden:
            return name
        folded = fold(name)
        if folded not in self.labels:
            self.labels[folded] = name, f"Person {_spell(len(self.labels))}"
        return self.labels[folded][1]

    def add(self, other: Speakers) -> None:
        """Count what was counted elsewhere."""
        self.counts.update(other.counts)
        self.found |= other.found

    def start_file(self) -> Speakers:
        """An own count for one file, with the same labels."""
        return Speakers(self.wanted, self.hidden, labels=self.labels)

    def describe(self, n_most: int = MOST_NAMED, *, hidden: bool = False) -> str:
        """Who speaks how often, the most frequent first."""
        shown = self.counts.most_common(n_most)
        found = [f"{self.label(name) if hidden else name} ({n:,})" for name, n in shown]
        if len(self.counts) > n_most:
            found.append(f"{len(self.counts) - n_most:,} more")
        return ", ".join(found)

    def describe_all(self) -> list[str]:
        """A note about who speaks, if more than one does."""
        if len(self.counts) < 2:
            return []
        what = "speakers" if self.in_turns else "authors"
        how = "" if self.wanted else "; --speaker NAME learns one"
        return [f"{len(self.counts):,} {what}: {self.describe(MOST_NOTED, hidden=self.hidden)}{how}"]

    def check(self, where: str) -> None:
        """Raise TextTooShort if a speaker who is wanted has said nothing."""
        if self.wanted and not self.counts:
            raise TextTooShort(f"There are no speakers in {where}.", hint=FOR_SPEAKERS)
        for name in self.wanted:
            if fold(name) not in self.found:
                raise TextTooShort(
                    f'There is no speaker "{name}" in {where}. The speakers, with their messages: {self.describe()}.',
                    hint=self._suggest(name),
                )

    def _suggest(self, name: str) -> str:
        folded = {fold(one): one for one in self.counts}
        alike = difflib.get_close_matches(fold(name), list(folded), n=1, cutoff=0.6)
        alike = alike or [one for one in folded if fold(name) and fold(name) in one][:1]
        return f'Did you mean --speaker "{folded[alike[0]]}"?' if alike else "Give a name as it is written in the list."


def _spell(number: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    before, last = divmod(number, len(ascii_uppercase))
    return (_spell(before - 1) if before else "") + ascii_uppercase[last]
