"""Passages that show what will be read of a corpus: its beginning, its end and three places between."""

from __future__ import annotations

from dataclasses import dataclass

from epigone.corpus.corpus import Corpus

EXCERPT_CHARACTERS = 600
PLACES = ("beginning", "a quarter in", "middle", "three quarters in", "end")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A passage of a corpus."""

    place: str
    document: str
    """Name of the file."""
    text: str


def choose_excerpts(corpus: Corpus, n_characters: int = EXCERPT_CHARACTERS) -> list[Excerpt]:
    """Five passages at even distances, each from the start of a line; fewer if the corpus is short."""
    found: list[Excerpt] = []
    n_all, last = corpus.n_characters, 0
    for number, place in enumerate(PLACES):
        start = (n_all - n_characters) * number // (len(PLACES) - 1)
        if number and start < last:
            continue
        before = 0
        for document in corpus.documents:
            if start < before + len(document.text) or document is corpus.documents[-1]:
                break
            before += len(document.text)
        text = document.text[max(0, start - before) : start - before + n_characters]
        if number and "\n" in text[: n_characters // 2]:
            text = text[text.index("\n") + 1 :]
        found.append(Excerpt(place, document.name, text.strip("\n")))
        last = start + n_characters
    return found
