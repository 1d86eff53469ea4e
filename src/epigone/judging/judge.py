"""A text and an author in, a judgement out; for a model also what it has learned and what it knows by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from accelerate import Accelerator

from epigone.judging.copying import judge_copying
from epigone.judging.memory import probe_memory
from epigone.judging.repetition import judge_repetition
from epigone.judging.style import judge_style
from epigone.judging.verdicts import Judgement, Measure, Verdict
from epigone.judging.yardsticks import Learning, judge_learning, measure_counts, measure_packed
from epigone.model.gpt2 import load_model
from epigone.runs.folder import RunFolder
from epigone.tokens.stream import load_tokens, make_part
from epigone.tokens.vocabulary import load_vocabulary
from epigone.training.evaluation import evaluate

if TYPE_CHECKING:
    from epigone.writing.engine import Writer

Texts = Mapping[str, Sequence[str]]
ENOUGH_HELD_OUT = 20_000
"""Characters that show an author's own range; where fewer are held out, his other text is taken."""
RANGE_CHARACTERS = 400_000
PARAMETERS_AND_TOKENS = 2e11
"""Of a text that is learned from so many tokens are read again as this allows for the model: some seconds."""
TEXTS_BEGIN = "\n\n"
COPIES_END = "\n#\n"
"""Between texts: no passage goes from one to the next, as over white space it might."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Author:
    """Whose text something is held against."""

    name: str
    documents: Sequence[str]
    """What was learned from; for a text of unknown making, what stands for it."""
    held_out: Sequence[str] = ()
    """What was not."""
    searched: Sequence[str] | None = None
    """Where copies are looked for, if not in `documents`."""


def judge_text(
    text: str | Sequence[str], name: str, author: Author, others: Texts | None = None, *, seed: int = 0
) -> Judgement:
    """Judge any text, or several as one, by whatever they were made.

    `others`: texts of other authors instead of the bundled ones. Raises TextTooShort where none of them has enough.
    """
    texts = [text] if isinstance(text, str) else text
    text = TEXTS_BEGIN.join(texts)
    held_out = TEXTS_BEGIN.join(author.held_out)
    style = judge_style(text, author.documents, held_out, others, seed=seed)
    searched = author.documents if author.searched is None else author.searched
    verdicts = (
        style,
        judge_copying(COPIES_END.join(texts), searched, author.held_out if author.searched is None else ()),
        judge_repetition(text, _find_usual(author)),
    )
    notes = tuple(style.facts.get("notes", ()))
    return Judgement(text=name, against=author.name, n_characters=len(text), verdicts=verdicts, notes=notes)


def _find_usual(author: Author) -> str:
    held_out = TEXTS_BEGIN.join(author.held_out)
    if len(held_out) >= ENOUGH_HELD_OUT:
        return held_out
    return TEXTS_BEGIN.join([held_out, *author.documents])[:RANGE_CHARACTERS]


def judge_model(
    texts: Sequence[str], author: Author, writer: Writer, learning: Learning, others: Texts | None = None
) -> Judgement:
    """Judge what a model has written, and the model."""
    name = f"{len(texts):,} texts that the model wrote"
    judgement = judge_text(texts, name, author, others)
    probed = probe_memory(writer, author.documents, author.held_out)
    verdicts = [_add_probe(verdict, probed) if verdict.topic == "copies" else verdict for verdict in judgement.verdicts]
    return replace(judgement, verdicts=(*verdicts, judge_learning(learning)))


def _add_probe(verdict: Verdict, probed: Sequence[Measure]) -> Verdict:
    return replace(verdict, measures=(*verdict.measures, *probed))


def measure_learning(
    folder: RunFolder, author: Author, held_out: float, base: float | None, others: Texts | None = None
) -> Learning:
    """Bits per byte of the run's best model and of simpler means; `held_out` and `base` are known from the run."""
    plan, more = folder.read_plan()
    vocabulary, n_validation = (
        load_vocabulary(folder.model),
        len(load_tokens(folder.tokens / more["tokens"]).validation.ids),
    )
    model, accelerator = load_model(folder.model), Accelerator()
    model.to(accelerator.device)
    n_tokens = min(max(1000, n_validation), int(PARAMETERS_AND_TOKENS / model.num_parameters()))

    def measure(text: str) -> float:
        part = make_part(text, vocabulary, n_tokens)
        sizes = {"block_size": plan.block_size, "batch_size": plan.batch_size}
        return evaluate(model, part, accelerator=accelerator, **sizes).bits_per_byte

    learned, unseen = TEXTS_BEGIN.join(author.documents), TEXTS_BEGIN.join(author.held_out)
    return Learning(
        held_out=held_out,
        training=measure(learned[len(learned) // 3 :]),
        base=base,
        counts=measure_counts(learned.encode("utf-8", "replace"), unseen.encode("utf-8", "replace")),
        packed=measure_packed(learned.encode("utf-8", "replace"), unseen.encode("utf-8", "replace")),
        others={f"the same of {name}": measure(TEXTS_BEGIN.join(texts)) for name, texts in (others or {}).items()},
    )
