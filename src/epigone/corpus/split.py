"""Divides a corpus into training and validation text, at sentence and paragraph boundaries where possible.

The spans of the two parts together are the text, every character once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from epigone.corpus.corpus import SMALLEST_CORPUS, Corpus, StageCallback, ignore_stages, read_corpus, unwrap_corpus
from epigone.corpus.large_text import Text, read_blocks, slice_text
from epigone.corpus.words import SPLIT_BOUNDARIES
from epigone.errors import SettingsError, TextTooShort, pluralize
from epigone.settings import TrainSettings

SPANS_PER_FILE = 8
SMALLEST_SPAN = 2_000
"""Characters. In a shorter span, much of the loss is on the first words, which have no context."""
SMALLEST_PIECE = 200
"""Characters worth taking from a short file; a smaller amount is taken from the next file instead. Also the fewest
bytes of a text to validate on: a tenth of the shortest text that can be learned."""
FILES_FOR_DOCUMENTS = 10
"""With this many files, whole ones can be held out and the share still be met."""

PREFERENCES = (
    ("paragraph", 0.1),
    ("sentence", 0.1),
    ("sentence", 0.33),
    ("blank line", 0.1),
    ("line", 0.1),
    ("word", 0.1),
)
"""Kinds of boundary, best first, and the tolerance on the length of a span, as a share of it."""
REACH = 50_000
"""Characters on either side in which a boundary is searched for, so that a long text need not be read."""

USUAL_SHARE = 0.1
FEWEST_CAPPED, CAPPED_SHARE, MOST_HELD_OUT = 1_000_000, 0.02, 10_000_000
"""Characters: of ten million and more, a million or a fiftieth is held out, at most ten million. Ten evaluations then
take less than a tenth of the time of one pass over the text, and the loss is still exact to a thousandth."""
CAPPED = "no more of so long a text, so that evaluations take at most a tenth of the time; --validation says otherwise"

How = Literal["spread", "tail", "documents", "file"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Characters `start` to `end` of a document, counted from 0."""

    document: int
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Every character of the corpus is in exactly one span. Spans are in reading order and not empty."""

    train: tuple[Span, ...]
    validation: tuple[Span, ...]
    """Spans of the corpus or, if `how` is "file", of the held-out corpus."""
    how: How
    reason: str

    def train_texts(self, corpus: Corpus) -> Iterator[Text]:
        """The text of each training span."""
        return _read_spans(corpus, self.train)

    def validation_texts(self, corpus: Corpus, held_out: Corpus | None = None) -> Iterator[Text]:
        """The text of each validation span; `held_out` must be given if `how` is "file"."""
        if self.how == "file" and held_out is None:
            raise SettingsError("The validation text is a separate corpus.", hint="Pass it as held_out.")
        return _read_spans(held_out if self.how == "file" and held_out else corpus, self.validation)


def _read_spans(corpus: Corpus, spans: Sequence[Span]) -> Iterator[Text]:
    return (read_span(corpus, span) for span in spans)


def read_span(corpus: Corpus, span: Span) -> Text:
    """The text of a span."""
    return slice_text(corpus.documents[span.document].text, span.start, span.end)


def split_corpus(
    corpus: Corpus,
    *,
    how: Literal["auto", "spread", "tail", "documents"],
    share: float,
    seed: int,
    held_out: Corpus | None = None,
) -> Split:
    """Hold out about `share` of the characters, or all of `held_out` if it is given.

    Raises TextTooShort if a part would be empty, SettingsError if there is one file and `how` is "documents".
    """
    if held_out is not None:
        return _split_by_file(corpus, held_out)
    if not 0 < share < 1:
        raise SettingsError(f"The held-out share must be between 0 and 1, not {share}.", hint="0.1 is a tenth.")
    if how == "documents" or (how == "auto" and len(corpus.documents) >= FILES_FOR_DOCUMENTS):
        chosen = _choose_documents(corpus, share, seed)
        part = sum(len(corpus.documents[i].text) for i in chosen) / max(1, corpus.n_characters)
        if how == "documents" or share / 2 <= part <= share * 2:
            whole = [_whole(corpus, i) for i in chosen]
            return _make_split(corpus, whole, "documents", f"whole texts: {len(chosen):,} of {len(corpus.documents):,}")
    if how == "tail":
        return _make_split(corpus, _take_tail(corpus, share), "tail", "the end of the text")
    spans = _take_spread(corpus, share)
    return _make_split(corpus, spans, "spread", f"{pluralize(len(spans), 'span')} spread over the text")


def _make_split(corpus: Corpus, validation: Sequence[Span], how: How, what: str) -> Split:
    held = tuple(span for span in validation if len(span))
    train = tuple(_find_rest(corpus, held))
    if not held or not train:
        raise TextTooShort(
            f"{corpus.n_characters:,} characters are too few to divide into training and validation text.",
            hint="Give more text, or hold out another share.",
        )
    n_held = sum(map(len, held))
    reason = f"{what}, {n_held:,} of {corpus.n_characters:,} characters ({n_held / corpus.n_characters:.1%})"
    return Split(train=train, validation=held, how=how, reason=reason)


def _find_rest(corpus: Corpus, held: Sequence[Span]) -> Iterator[Span]:
    """What is between the held-out spans, which are in reading order."""
    of_document: dict[int, list[Span]] = {}
    for span in held:
        of_document.setdefault(span.document, []).append(span)
    for i, document in enumerate(corpus.documents):
        position = 0
        for span in of_document.get(i, ()):
            if span.start > position:
                yield Span(document=i, start=position, end=span.start)
            position = span.end
        if position < len(document.text):
            yield Span(document=i, start=position, end=len(document.text))


def _whole(corpus: Corpus, i: int) -> Span:
    return Span(document=i, start=0, end=len(corpus.documents[i].text))


def _split_by_file(corpus: Corpus, held_out: Corpus) -> Split:
    train = tuple(filter(len, (_whole(corpus, i) for i in range(len(corpus.documents)))))
    validation = tuple(filter(len, (_whole(held_out, i) for i in range(len(held_out.documents)))))
    if not train or not validation:
        raise TextTooShort("The text or the held-out text is empty.", hint="Give files with text in them.")
    reason = f"a separate text, {held_out.n_characters:,} characters"
    learned = {_hash(document.text) for document in corpus.documents}
    if both := [document.name for document in held_out.documents if _hash(document.text) in learned]:
        reason += f"; but {', '.join(both)} is training text as well, so the result says nothing about new text"
    return Split(train=train, validation=validation, how="file", reason=reason)


def _hash(text: Text) -> bytes:
    digest = hashlib.sha256()
    for block in read_blocks(text):
        digest.update(block.encode())
    return digest.digest()


def _take_tail(corpus: Corpus, share: float) -> list[Span]:
    """The end of all documents joined, cut at the exact character: the usual convention, for comparisons."""
    first = int(corpus.n_characters * (1 - share))
    spans = []
    for i, document in enumerate(corpus.documents):
        spans.append(Span(document=i, start=min(max(first, 0), len(document.text)), end=len(document.text)))
        first -= len(document.text)
    return spans


def _choose_documents(corpus: Corpus, share: float, seed: int) -> list[int]:
    """Files in random order, as long as each brings the sum closer to the share; each part keeps at least one."""
    sizes = [len(document.text) for document in corpus.documents]
    if len(sizes) < 2:
        raise SettingsError("One file cannot be split by documents.", hint='Use split "spread" or "tail".')
    order = random.Random(seed).sample(range(len(sizes)), len(sizes))
    target, taken, chosen = share * sum(sizes), 0, list[int]()
    for i in order:
        if abs(taken + sizes[i] - target) < abs(taken - target) and len(chosen) < len(sizes) - 1:
            chosen.append(i)
            taken += sizes[i]
    return sorted(chosen or [min(order, key=lambda i: abs(sizes[i] - target))])


def _take_spread(corpus: Corpus, share: float) -> list[Span]:
    """Spans from each file. If one gives too little or too much, the next one makes up for it."""
    spans: list[Span] = []
    owed = 0.0
    for i, document in enumerate(corpus.documents):
        owed += len(document.text) * share
        if owed >= SMALLEST_PIECE:
            most = len(document.text) * max(share, 0.5)
            spans += (taken := _take_from_text(document.text, i, min(owed, most)))
            owed -= sum(map(len, taken))
    if not spans and corpus.documents:
        longest = max(range(len(corpus.documents)), key=lambda i: len(corpus.documents[i].text))
        spans = _take_from_text(corpus.documents[longest].text, longest, max(1.0, owed))
    return spans


def _take_from_text(text: Text, document: int, wanted: float) -> list[Span]:
    """About `wanted` characters in spans spread evenly, never from the very beginning."""
    if len(text) < 2:
        return []
    wanted = min(wanted, len(text) - 1)
    n_spans = max(1, min(SPANS_PER_FILE, int(wanted / SMALLEST_SPAN)))
    period = len(text) / n_spans
    spans: list[Span] = []
    for i in range(n_spans):
        length = max(1, round((wanted - sum(map(len, spans))) / (n_spans - i)))
        first = spans[-1].end + 1 if spans else 1
        last = len(text) if i == n_spans - 1 else round((i + 1) * period)
        middle = round((i + 0.5) * period)
        if last - first >= 1:
            start, end = _place_span(text, range(first, last + 1), middle - length // 2, length)
            spans.append(Span(document=document, start=start, end=end))
    return spans


def _place_span(text: Text, room: range, ideal: int, length: int) -> tuple[int, int]:
    """Start and end within `room`, close to the ideal start and about `length` apart, at the best kind of boundary.

    Without any boundary (one line without a space) the span is cut at the ideal place.
    """
    ideal = max(room[0], min(ideal, room[-1] - length))
    for kind, tolerance in PREFERENCES:
        if found := _find_pair(text, room, range(ideal, ideal + length), kind, round(length * tolerance)):
            return found
    return ideal, min(ideal + length, room[-1])


def _find_pair(text: Text, room: range, ideal: range, kind: str, slack: int) -> tuple[int, int] | None:
    """The two boundaries of one kind at the right distance whose start is closest to the ideal."""
    length, reach, slack = len(ideal), min(max(len(ideal), SMALLEST_PIECE), REACH), min(slack, REACH)
    starts = _find_boundaries(text, room, ideal[0] - reach, ideal[0] + reach, kind)
    for start in sorted(starts, key=lambda start: abs(start - ideal[0]))[:64]:
        ends = _find_boundaries(text, room, start + max(1, length - slack), start + length + slack, kind)
        if ends:
            return start, min(ends, key=lambda end: abs(end - start - length))
    return None


def _find_boundaries(text: Text, room: range, low: int, high: int, kind: str) -> list[int]:
    """Every boundary of the kind from `low` to `high` and within `room`."""
    low, high = max(low, room[0]), min(high, room[-1])
    margin = 100  # a match begins before its boundary: at the stop, or at the first of several blank lines
    start = max(0, low - 2 * margin)
    window = text[start : min(len(text), high + margin)]
    matches = SPLIT_BOUNDARIES[kind].finditer(window, max(0, low - margin - start))
    return [end for match in matches if low <= (end := start + match.end()) <= high]


def cap_share(share: float, n_characters: int) -> float:
    """The share to hold out; of a long text less than the usual tenth, as it is read again in each evaluation."""
    if share != USUAL_SHARE or not n_characters:
        return share
    return min(share, max(FEWEST_CAPPED, min(CAPPED_SHARE * n_characters, MOST_HELD_OUT)) / n_characters)


def read_and_split(
    texts: Sequence[str],
    settings: TrainSettings,
    folder: Path,
    watch: StageCallback = ignore_stages,
    *,
    is_capped: bool = True,
) -> tuple[Corpus, Corpus | None, Split]:
    """The corpus, the validation corpus if one was named, and the split. Raises TextError, SettingsError, OutputError.

    Long texts go into temporary files in `folder`. `is_capped`: whether less is held out of a long text.
    """
    read = partial(_read, settings=settings, folder=folder, watch=watch, labels={})
    corpus = read(texts)
    held_out = (
        None if isinstance(settings.validation, float) else read([settings.validation], smallest_bytes=SMALLEST_PIECE)
    )
    share, why = 0.0, ""
    if isinstance(settings.validation, float):
        share = cap_share(settings.validation, corpus.n_characters) if is_capped else settings.validation
        why = "" if share == settings.validation else f"; {CAPPED}"
    split = split_corpus(corpus, how=settings.split, share=share, seed=settings.seed, held_out=held_out)
    return corpus, held_out, replace(split, reason=split.reason + why)


def _read(
    texts: Sequence[str],
    *,
    settings: TrainSettings,
    folder: Path,
    watch: StageCallback,
    labels: dict[str, tuple[str, str]],
    smallest_bytes: int = SMALLEST_CORPUS,
) -> Corpus:
    corpus = read_corpus(
        texts,
        settings,
        smallest_bytes=smallest_bytes,
        folder=folder,
        watch=partial(watch, "Reading"),
        labels=labels,
    )
    return unwrap_corpus(corpus, settings.unwrap, folder)


def group_spans(corpus: Corpus, spans: Sequence[Span]) -> list[list[Text]]:
    """The texts of the spans, by document; documents without spans are left out."""
    texts: dict[int, list[Text]] = {}
    for span in spans:
        texts.setdefault(span.document, []).append(read_span(corpus, span))
    return list(texts.values())
