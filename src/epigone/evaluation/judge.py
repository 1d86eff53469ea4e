"""A text and an author in, a judgement out; for a model also what it has learned and what it knows by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from epigone.corpus.large_text import Text, read_beginning, read_end, read_some
from epigone.evaluation.baselines import (
    LONGEST_COUNTED,
    LearningScore,
    judge_learning,
    measure_compressed,
    measure_model,
    measure_ngrams,
)
from epigone.evaluation.copying import judge_copying, probe_memorization
from epigone.evaluation.repetition import judge_repetition
from epigone.evaluation.style import judge_style
from epigone.evaluation.verdict import UNTOUCHED, Judgement, Measure, Reference, Topic, Verdict
from epigone.hardware import find_hardware
from epigone.model.decoder import open_decoder
from epigone.runs.folder import RunFolder
from epigone.tokens.dataset import cut_part, load_tokens, make_part
from epigone.tokens.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from epigone.generation.generator import TextGenerator


Texts = Mapping[str, Sequence[str]]
ENOUGH_HELD_OUT = 20_000
"""Characters that show an author's own range; where fewer are held out, his other text is taken."""
RANGE_CHARACTERS = 400_000
MOST_HELD_OUT = 1 << 22
"""Characters of what is held out that his ways are taken from, and that simple means are asked for."""
PARAMETERS_AND_TOKENS, MOST_TOKENS = 2e11, 16_384
"""Of a text that is learned from so many tokens are read again as these allow: of the second number the mean is known
to a hundredth."""
TEXTS_BEGIN = "\n\n"
COPIES_END = "\n#\n"
"""Between texts: no passage goes from one to the next, as over white space it might."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Author:
    """Whose text something is held against."""

    name: str
    documents: Sequence[Text]
    """What was learned from; for a text of unknown making, what stands for it."""
    held_out: Sequence[Text] = ()
    """What was not."""
    searched: Sequence[Text] | None = None
    """Where copies are looked for, if not in `documents`."""


def judge_text(
    text: str | Sequence[str], name: str, author: Author, others: Texts | None = None, *, seed: int = 0
) -> Judgement:
    """Judge any text, or several as one, by whatever they were made.

    `others`: texts of other authors instead of the bundled ones. Raises TextTooShort where none of them has enough.
    """
    texts = [text] if isinstance(text, str) else text
    text = TEXTS_BEGIN.join(texts)
    held_out = TEXTS_BEGIN.join(read_some(author.held_out, MOST_HELD_OUT))
    style = judge_style(text, read_some(author.documents), held_out, others, seed=seed)
    searched = author.documents if author.searched is None else author.searched
    verdicts = (
        style,
        judge_copying(COPIES_END.join(texts), searched, author.held_out if author.searched is None else ()),
        judge_repetition(text, _find_usual(author, held_out)),
    )
    notes = tuple(style.facts.get("notes", ()))
    return Judgement(text=name, against=author.name, n_characters=len(text), verdicts=verdicts, notes=notes)


def _find_usual(author: Author, held_out: str) -> str:
    if len(held_out) >= ENOUGH_HELD_OUT:
        return held_out
    return read_beginning([held_out, *author.documents], TEXTS_BEGIN, RANGE_CHARACTERS)


def judge_model(
    texts: Sequence[str],
    author: Author,
    writer: TextGenerator,
    learning: LearningScore,
    others: Texts | None = None,
    *,
    seed: int = 0,
) -> Judgement:
    """Judge what a model has written, and the model."""
    name = f"{len(texts):,} texts that the model wrote"
    judgement = judge_text(texts, name, author, others, seed=seed)
    probed, learned = probe_memorization(writer, author.documents, author.held_out, seed=seed), judge_learning(learning)
    verdicts = [_add_probe(verdict, probed) if verdict.topic == "copies" else verdict for verdict in judgement.verdicts]
    return replace(judgement, verdicts=(*verdicts, learned), notes=(*judgement.notes, *learned.facts["notes"]))


def add_base_reference(judgement: Judgement, base: Judgement) -> Judgement:
    """The judgement, with the untouched base's value beside each number that it has too."""
    values = {(verdict.topic, measure.name): measure.value for verdict in base.verdicts for measure in verdict.measures}

    def add(topic: Topic, measure: Measure) -> Measure:
        value = values.get((topic, measure.name))
        return measure if value is None else replace(measure, base=Reference(name=UNTOUCHED, value=value))

    verdicts = [
        replace(verdict, measures=tuple(add(verdict.topic, measure) for measure in verdict.measures))
        for verdict in judgement.verdicts
    ]
    return replace(judgement, verdicts=tuple(verdicts))


def _add_probe(verdict: Verdict, probed: Sequence[Measure]) -> Verdict:
    return replace(verdict, measures=(*verdict.measures, *probed))


def measure_learning(
    folder: RunFolder, author: Author, held_out: float, base: float | None, others: Texts | None = None, *, device: str
) -> LearningScore:
    """Bits per byte of the run's best model and of simpler means; `held_out` and `base` are known from the run."""
    plan, more = folder.read_plan()
    tokenizer, tokens = load_tokenizer(folder.model), load_tokens(folder.tokens / more["tokens"])
    hardware = find_hardware(device)
    form = "bf16" if plan.precision == "bf16" and hardware.bf16 else "fp32"  # as what is held out was measured
    decoder = open_decoder(folder.model, form, hardware)
    n_tokens = min(max(1000, len(tokens.validation.ids)), int(PARAMETERS_AND_TOKENS / plan.n_parameters), MOST_TOKENS)
    parts = {name: make_part(TEXTS_BEGIN.join(texts), tokenizer, n_tokens) for name, texts in (others or {}).items()}
    known = cut_part(tokens.train, len(tokens.train.ids) // 3, n_tokens, tokenizer)
    learned = read_end(author.documents, TEXTS_BEGIN, LONGEST_COUNTED).encode("utf-8", "replace")
    unseen = read_beginning(author.held_out, TEXTS_BEGIN, MOST_HELD_OUT).encode("utf-8", "replace")
    return LearningScore(
        held_out=held_out,
        training=measure_model(decoder, known, plan.block_size),
        base=base,
        counts=measure_ngrams(learned, unseen),
        packed=measure_compressed(learned, unseen),
        others={f"the same of {name}": measure_model(decoder, part, plan.block_size) for name, part in parts.items()},
    )
