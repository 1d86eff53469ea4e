"""The best sentences that a model wrote: complete, not copied from the training text, without repetition."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from epigone.corpus.large_text import Text, read_some
from epigone.corpus.words import PRINTED_WORD, SENTENCE_END
from epigone.text_reuse.hashing import normalise
from epigone.text_reuse.matches import measure_longest

FEWEST_WORDS, MOST_WORDS = 6, 30
LONGEST_COPY = 50
"""Characters in a row that no sentence may share with the training text."""
HOW_CHOSEN = (
    f"Complete sentences of {FEWEST_WORDS} to {MOST_WORDS} words from what the kept model wrote. None shares "
    f"{LONGEST_COPY} characters in a row with the training text, and none repeats itself. Those with the fewest words "
    "that do not occur in the training text come first, and among them those with rarer words."
)


def choose_sentences(texts: Sequence[str], documents: Sequence[Text], count: int) -> list[str]:
    """At most `count` sentences from `texts`, chosen as `HOW_CHOSEN` says; `documents` are the training text."""
    found = list(dict.fromkeys(sentence for text in texts for sentence in list_sentences(text) if _is_fit(sentence)))
    if not found:
        return []
    counts = Counter(word for document in read_some(documents) for word in PRINTED_WORD.findall(normalise(document)))
    ranked = sorted(found, key=lambda sentence: _rank(sentence, counts))
    copied = measure_longest(ranked, documents, LONGEST_COPY)
    return [sentence for sentence, n_copied in zip(ranked, copied, strict=True) if not n_copied][:count]


def list_sentences(text: str) -> Iterator[str]:
    """The complete sentences of a text. Each begins where another has ended, so the first words are skipped."""
    start = None
    for match in SENTENCE_END.finditer(text + "\n"):
        if start is not None:
            yield text[start : match.end()].strip()
        start = match.end()


def _is_fit(sentence: str) -> bool:
    """Whether it is neither too short nor too long, starts at its beginning, and repeats no pair of words."""
    words = PRINTED_WORD.findall(sentence.casefold())
    groups = list(pairwise(words))
    first = next((letter for letter in sentence if letter.isalpha()), "a")
    return (
        FEWEST_WORDS <= len(words) <= MOST_WORDS
        and not first.islower()
        and not re.search(r"\n\n|\s{3}", sentence)
        and sentence.count('"') % 2 == 0
        and sentence.count("“") == sentence.count("”")
        and len(set(groups)) == len(groups)
        and len(set(words)) >= 0.7 * len(words)
    )


def _rank(sentence: str, counts: Counter[str]) -> tuple[float, float]:
    """The share of unknown words, then how common the known ones are on average: the lower, the better."""
    words = PRINTED_WORD.findall(normalise(sentence))
    known = [math.log(counts[word]) for word in words if word in counts]
    return 1 - len(known) / len(words), sum(known) / max(1, len(known))
