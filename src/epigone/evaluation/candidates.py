"""Ranks several texts that a model wrote by how near they are to the author: in likelihood, in style, and in novelty.

The likeliest text is not the best one: it is plain, and nearer to what the model has seen most. So the likelihood is
compared with that of the author's held-out text, and both too likely and too unlikely counts against a text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from epigone.corpus.large_text import Text, read_beginning, read_some
from epigone.evaluation.copying import PASSAGE_CHARACTERS
from epigone.evaluation.style import LEAST_TRAINING, StyleScales, divide_own_text, make_style_scales
from epigone.evaluation.stylometry import cut_evenly, normalise_for_counting
from epigone.evaluation.verdict import percent
from epigone.generation.records import GeneratedText
from epigone.text_reuse.matches import find_matches

LIKELIHOOD_SPREAD = 0.25
"""Nats per token: the standard deviation among texts of 300 tokens by one model (findings)."""
COPIED_WEIGHT = 10.0
"""Standard deviations that a text loses if all of it is copied."""
MOST_OWN_WINDOWS = 40
FEWEST_WINDOWS = 6
"""Windows of the author's text, of the length of a candidate, that show how much the scales vary by chance."""
MOST_HELD_OUT = 1 << 18
"""Characters of held-out text."""


class Candidate(BaseModel):
    """One of the texts that were written, and its scores."""

    model_config = ConfigDict(frozen=True)

    seed: int
    text: str
    likelihood: float
    """Mean log-probability of its tokens, in nats."""
    style: float | None
    """Mean of the style scales: 0 is other authors' text, 100 the author's own. None where there is too little text."""
    copied: float
    """Share of it in passages of 50 characters and more from the training text."""
    score: float
    """In standard deviations, the higher the better."""


class BestText(GeneratedText):
    """The best of several texts, and why it was chosen."""

    why: str
    candidates: tuple[Candidate, ...]
    """All of them, the best first."""


class AuthorStyle(NamedTuple):
    """The style scales for texts of one length, and the author's own texts on them."""

    scales: StyleScales
    means: np.ndarray
    deviations: np.ndarray
    known: Mapping[str, np.ndarray]
    """The scores of the texts that were compared, which may be asked for again."""

    def score(self, text: str) -> tuple[float, float]:
        """A text's mean on the scales, and how many standard deviations that is from the author's texts."""
        scores = self.known[text] if text in self.known else _list_scores(self.scales, text)
        return float(scores.mean()), float(((scores - self.means) / self.deviations).mean())


class CandidateRanking:
    """Ranks what a model wrote for one prompt. Made once for texts of about one length by one author."""

    def __init__(self, documents: Sequence[Text], likelihood: float, style: AuthorStyle | None) -> None:
        """`likelihood`: mean log-probability of a held-out token; without `style` that does not count."""
        self.documents, self.likelihood, self.style = documents, likelihood, style

    def choose(self, records: Sequence[GeneratedText]) -> BestText:
        """The best of these texts, of one prompt."""
        copied = find_matches([record.text for record in records], self.documents, PASSAGE_CHARACTERS)
        candidates = [self._score(record, found.share) for record, found in zip(records, copied, strict=True)]
        order = sorted(range(len(records)), key=lambda number: -candidates[number].score)
        ranked, chosen = tuple(candidates[number] for number in order), records[order[0]]
        return BestText(**dict(chosen), why=self._explain(ranked), candidates=ranked)

    def _score(self, record: GeneratedText, copied: float) -> Candidate:
        likelihood = record.log_probability / max(1, record.n_tokens)
        style, deviation = self.style.score(record.text) if self.style and record.text.strip() else (None, 0.0)
        score = deviation - abs(likelihood - self.likelihood) / LIKELIHOOD_SPREAD - COPIED_WEIGHT * copied
        return Candidate(
            seed=record.seed, text=record.text, likelihood=likelihood, style=style, copied=copied, score=score
        )

    def _explain(self, ranked: Sequence[Candidate]) -> str:
        best, others = ranked[0], ranked[1:]
        chance, usual = (math.exp(-likelihood) for likelihood in (best.likelihood, self.likelihood))
        facts = [f"a token's chance is 1 in {chance:,.0f} (in the author's text 1 in {usual:,.0f})"]
        if best.style is not None:
            facts.append(f"style {max(0, min(100, best.style)):.0f} of 100")
        facts.append(f"{percent(best.copied, 0)} copied" if best.copied else "nothing copied")
        middle = f"; score {best.score:+.1f}, the others' {others[len(others) // 2].score:+.1f}" if others else ""
        return f"Best of {len(ranked)}: {', '.join(facts)}{middle}."


def measure_author(documents: Sequence[Text], held_out: Sequence[Text], n_characters: int) -> AuthorStyle | None:
    """To compare texts of `n_characters` with the author's own of that length.

    None where the author's text is too short, or no scale is reliable.
    """
    held = read_beginning(held_out, "\n\n", MOST_HELD_OUT)
    own, held = divide_own_text(read_some(documents), held)[0]
    if len(own) < LEAST_TRAINING or len(held) < FEWEST_WINDOWS * n_characters:
        return None
    return measure_spread(make_style_scales(own, held, n_characters), cut_evenly(held, n_characters)[:MOST_OWN_WINDOWS])


def measure_spread(scales: StyleScales, texts: Sequence[str]) -> AuthorStyle | None:
    """To compare texts with these ones, by how much those differ on the scales; None where no scale is reliable."""
    scales = replace(scales, scales=tuple(scale for scale in scales.scales if scale.is_reliable))
    if not scales.scales:
        return None
    known = {text: _list_scores(scales, text) for text in texts}
    scores = np.array([known[text] for text in texts])
    return AuthorStyle(scales, scores.mean(0), np.maximum(scores.std(0), 1.0), known)


def _list_scores(scales: StyleScales, text: str) -> np.ndarray:
    return np.array([scale.place(normalise_for_counting(text)) for scale in scales.scales])


def count_style_characters(text: str) -> int:
    """The length of a text as the style scales see it."""
    return len(normalise_for_counting(text))
