"""Chooses what to show of a model: the best of several texts, the best sentences, and passages for a short quiz."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from epigone.corpus.large_text import Text
from epigone.errors import TextTooShort
from epigone.evaluation.best_sentences import choose_sentences
from epigone.evaluation.candidates import CandidateRanking
from epigone.evaluation.quiz import Question, choose_passages, make_pair, make_quiz
from epigone.generation.records import GeneratedText
from epigone.runs.records import ShowcaseRecord, ShownQuestion

N_QUESTIONS, QUESTION_WORDS = 3, 50
MOST_SENTENCES = 8
LONE_NUMBER = re.compile(r"^[^\S\n]*\d+[^\S\n]*\n\s*", re.MULTILINE)
"""Of a page or a poem: the model leaves them out, so that they would tell who wrote a passage."""


def make_showcase(
    records: Sequence[GeneratedText],
    ranking: CandidateRanking,
    held_out: Sequence[str],
    model_sha256: str,
    *,
    language: str = "",
    seed: int = 0,
) -> ShowcaseRecord:
    """What to show of a model, from several texts that it wrote without a prompt.

    The passages of the quiz are from other texts than the one that is shown.
    """
    best, documents = ranking.choose(records), ranking.documents
    others = [record.text for record in records if record.seed != best.seed]
    questions = choose_questions(others, documents, held_out, random.Random(seed))
    return ShowcaseRecord(
        model_sha256=model_sha256,
        text=best.text,
        seed=best.seed,
        n_candidates=len(records),
        why=best.why,
        sentences=tuple(choose_sentences([record.text for record in records], documents, MOST_SENTENCES)),
        questions=tuple(ShownQuestion(text=one.text, genuine=one.genuine) for one in questions),
        language=language,
    )


def choose_questions(
    written: Sequence[str], documents: Sequence[Text], held_out: Sequence[str], chance: random.Random
) -> tuple[Question, ...]:
    """Passages of which at least one is the author's and one is the model's; none where there is too little text."""
    held_out, written = ([LONE_NUMBER.sub("", text) for text in texts] for texts in (held_out, written))
    passages = choose_passages(held_out, documents, N_QUESTIONS - 1, QUESTION_WORDS, chance)
    found = [make_pair(passage, text, QUESTION_WORDS) for (passage, _), text in zip(passages, written, strict=False)]
    pairs = [pair for pair in found if pair is not None]
    try:
        questions = make_quiz(pairs, chance)[:N_QUESTIONS]
    except TextTooShort:
        return ()
    return questions if len(questions) == N_QUESTIONS else ()
