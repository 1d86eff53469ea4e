"""A writer, what it learned from and what was held out in; how much of each it goes on with by heart out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch

from epigone.judging.verdicts import HELD_OUT, Mark, Measure
from epigone.text.storing import Text
from epigone.tokens.vocabulary import encode
from epigone.writing.decoder import AnyDecoder
from epigone.writing.engine import Writer

N_PROBES = 32
PREFIX_TOKENS = 50
"""As many are asked for. A model gives away what it knows by heart the more surely the more it is told (Carlini et al.
2023)."""
TOKEN_CHARACTERS = 12
"""Hardly any text has more for each token on average."""
TRIES = 20


def probe_memory(
    writer: Writer, documents: Sequence[Text], held_out: Sequence[Text], *, n_probes: int = N_PROBES, seed: int = 0
) -> tuple[Measure, ...]:
    """How much of a text the model says by itself when it is given the 50 tokens before; its likeliest token each time.

    Two numbers: the mean share of 50 tokens that come before the first wrong one, and the share of passages without a
    wrong one. What was held out is their floor, if it is long enough. A model that reads fewer than 100 tokens at once
    is given half of what it reads. There are none where no document is long enough.
    """
    n_tokens = min(PREFIX_TOKENS, writer.decoder.n_positions // 2)
    learned = list(_pick_passages(documents, writer, n_probes, 2 * n_tokens, seed))
    others = list(_pick_passages(held_out, writer, n_probes, 2 * n_tokens, seed))
    if not learned:
        return ()
    numbers = _measure_recall(writer.decoder, learned)
    floors = _measure_recall(writer.decoder, others) if others else (None, None)
    names = ("learned text continued word for word", f"passages of {n_tokens} tokens known by heart")
    return tuple(
        Measure(
            name=name,
            value=number,
            unit="share",
            floor=None if floor is None else Mark(name=HELD_OUT, value=floor),
            ceiling=Mark(name="all known by heart", value=1.0),
        )
        for name, number, floor in zip(names, numbers, floors, strict=True)
    )


def _pick_passages(
    documents: Sequence[Text], writer: Writer, count: int, n_tokens: int, seed: int
) -> Iterator[list[int]]:
    """Ids of passages from anywhere in the documents, all of one length; fewer where the documents are short."""
    documents = [documents] if isinstance(documents, str) else documents
    chance, ends, n_found = random.Random(seed), list(accumulate(map(len, documents))), 0
    for _ in range(TRIES * count if ends and ends[-1] else 0):
        document = chance.choices(documents, cum_weights=ends)[0]
        start = _find_edge(document, chance.randrange(len(document)))
        ids = encode(document[start : start + TOKEN_CHARACTERS * n_tokens], writer.vocabulary)[:n_tokens]
        if len(ids) == n_tokens:
            yield ids
            n_found += 1
        if n_found == count:
            return


def _find_edge(document: Text, place: int) -> int:
    """The white space after a place, before which tokens end; the place itself where words are not so divided."""
    following = document[place : place + 4 * TOKEN_CHARACTERS]
    spaces = (number for number, character in enumerate(following) if character.isspace())
    return place + next(spaces, 0)


@torch.inference_mode()
def _measure_recall(decoder: AnyDecoder, passages: list[list[int]]) -> tuple[float, float]:
    """The mean share of the second halves before the first wrong token, and the share of those without one."""
    ids = torch.tensor(passages, dtype=torch.int64, device=decoder.device)
    prefixes, expected = ids.chunk(2, dim=1)
    logits = decoder.begin(prefixes, ids.shape[1], len(ids))
    right = torch.ones(len(ids), dtype=torch.bool, device=decoder.device)
    n_right = torch.zeros(len(ids), dtype=torch.int64, device=decoder.device)
    for number in range(expected.shape[1]):
        tokens = logits.argmax(-1)
        right &= tokens == expected[:, number]
        n_right += right
        if number + 1 < expected.shape[1] and bool(right.any()):
            logits = decoder.step(tokens)
    return float(n_right.double().mean()) / expected.shape[1], float(right.double().mean())
