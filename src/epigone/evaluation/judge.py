"""Judge a text or a model against an author: style, sense, copying, repetition; of a model also learning, memorization.

Every number comes with the same number for the author's own held-out text, for a floor, and for the untouched base.
"""

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
from epigone.evaluation.sense import Critic, SenseJudge
from epigone.evaluation.style import LEAST, StyleJudge
from epigone.evaluation.stylometry import load_authors, normalise_for_counting
from epigone.evaluation.verdict import UNTOUCHED, Judgement, Measure, Reference, Topic, Verdict
from epigone.generation.known_words import read_words
from epigone.hardware import find_hardware
from epigone.model.base_profile import BASES, find_root
from epigone.model.decoder import open_decoder
from epigone.model.gpt2 import read_shape
from epigone.model.hub import find_base
from epigone.runs.folder import RunFolder
from epigone.tokens.dataset import encode_beginning, slice_part
from epigone.tokens.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from epigone.generation.generator import TextGenerator


Texts = Mapping[str, Sequence[str]]
ENOUGH_HELD_OUT = 20_000
"""Characters that show an author's own range; if fewer are held out, training text is used as well."""
RANGE_CHARACTERS = 400_000
"""Then this much of it."""
MOST_HELD_OUT = 1 << 22
"""Characters of held-out text that style, repetition and the baselines are measured on."""
READ_BUDGET, MOST_TOKENS = 2e11, 16_384
"""Training tokens that the model reads again: parameters times tokens, and tokens, which give the mean to 1 %."""
TEXT_SEPARATOR = "\n\n"
WORD_BASE = "small"
"""The bundled base whose words are known."""
COPY_BARRIER = "\n#\n"
"""Between texts that are searched for copies: a passage could extend across white space, but not across this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Author:
    """The author that a text is compared with."""

    name: str
    documents: Sequence[Text]
    """The training text; for a text of unknown origin, other text by the author."""
    held_out: Sequence[Text] = ()
    """Text by the author that was not trained on."""
    before: Sequence[Text] = ()
    """Other texts, which the model has read before: copies are searched for there, too."""
    searched: Sequence[Text] | None = None
    """Where copies are searched for, if not in `documents` and `before`."""
    share: float = 1.0
    """Of the training text, what `documents` are: a very long one is not read whole."""


def judge_text(
    text: str | Sequence[str],
    name: str,
    author: Author,
    others: Texts | None = None,
    *,
    critic: Critic | None = None,
    seed: int = 0,
) -> Judgement:
    """Judge any text, or several as one, whatever their origin, as `TextJudge` does."""
    return TextJudge(author, others, critic=critic, seed=seed).judge(text, name)


class TextJudge:
    """Judges texts against one author. What is measured of the author is measured once."""

    def __init__(
        self,
        author: Author,
        others: Texts | None = None,
        *,
        critic: Critic | None = None,
        least_style: int = LEAST,
        seed: int = 0,
    ) -> None:
        """`others`: texts of reference authors instead of the bundled ones. `critic`: a model that has not learned from
        the author, to be asked how surprising a text is. `least_style`: as `least` of `StyleJudge`."""
        self.author = author
        own, held_out = read_some(author.documents), TEXT_SEPARATOR.join(read_some(author.held_out, MOST_HELD_OUT))
        self.style = StyleJudge(own, held_out, others, least=least_style, seed=seed)
        words = list_language(own)
        self.sense = SenseJudge(TEXT_SEPARATOR.join(own), held_out, words=words, critic=critic, seed=seed)
        self._range = _text_for_range(author, held_out)

    def judge(self, text: str | Sequence[str], name: str) -> Judgement:
        """Judge a text, or several as one. Raises TextTooShort if none of the others has enough text."""
        texts, author = [text] if isinstance(text, str) else text, self.author
        text = TEXT_SEPARATOR.join(texts)
        style = self.style.judge(text)
        searched = [*author.documents, *author.before] if author.searched is None else author.searched
        verdicts = (
            style,
            self.sense.judge(text),
            judge_copying(COPY_BARRIER.join(texts), searched, author.held_out if author.searched is None else ()),
            judge_repetition(text, self._range),
        )
        notes = (*_say_share(author.share), *style.facts.get("notes", ()))
        return Judgement(text=name, against=author.name, n_characters=len(text), verdicts=verdicts, notes=notes)


def _say_share(share: float) -> tuple[str, ...]:
    if share == 1:
        return ()
    return (f"The training text is very long: {share:.1%} of it was searched for copies, in stretches all over it.",)


def list_language(own: Sequence[str]) -> tuple[str, ...]:
    """The bundled base's words if the author writes its language; none if not."""
    return read_words(BASES[WORD_BASE].folder) if is_english(own) else ()


def is_english(own: Sequence[str]) -> bool:
    """Whether an author's text is in the language of the bundled authors, base and words."""
    return load_authors().shares_language(normalise_for_counting(read_beginning(own, TEXT_SEPARATOR, 200_000)))


def _text_for_range(author: Author, held_out: str) -> str:
    if len(held_out) >= ENOUGH_HELD_OUT:
        return held_out
    return read_beginning([held_out, *author.documents], TEXT_SEPARATOR, RANGE_CHARACTERS)


def judge_model(
    texts: Sequence[str],
    judge: TextJudge,
    generator: TextGenerator,
    learning: LearningScore,
    *,
    seed: int = 0,
) -> Judgement:
    """Judge what a model has written, and the model itself."""
    author = judge.author
    judgement = judge.judge(texts, name_written(texts))
    probed = probe_memorization(generator, author.documents, author.held_out, seed=seed)
    learned = judge_learning(learning)
    verdicts = [_add_probe(verdict, probed) if verdict.topic == "copies" else verdict for verdict in judgement.verdicts]
    return replace(judgement, verdicts=(*verdicts, learned), notes=(*judgement.notes, *learned.facts["notes"]))


def name_written(texts: Sequence[str]) -> str:
    """What was judged, in words."""
    return f"{len(texts):,} texts that the model wrote"


def add_base_reference(judgement: Judgement, base: Judgement) -> Judgement:
    """The judgement with the untouched base's value for each number that both judgements have."""
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
    """Bits per byte under the run's best model and the baselines; `held_out` and `base` are known from the run."""
    facts, tokenizer, tokens = folder.read_model_facts(), load_tokenizer(folder.model), folder.load_tokens()
    shape, hardware = read_shape(find_base(str(folder.model)).config), find_hardware(device)
    n_time = min(facts.block_size or shape.n_positions, shape.n_positions)
    form = "bf16" if facts.precision == "bf16" and hardware.bf16 else "fp32"  # as `held_out` was measured
    decoder, root = open_decoder(folder.model, form, hardware), find_root(facts.base)
    n_tokens = min(max(1000, len(tokens.validation.ids)), int(READ_BUDGET / shape.n_parameters), MOST_TOKENS)
    parts = {
        name: encode_beginning(TEXT_SEPARATOR.join(texts), tokenizer, n_tokens)
        for name, texts in (others or {}).items()
    }
    if root != facts.base:  # what it was tuned from is a run, whose base is meant
        base = None
        if root in BASES:
            unread = slice_part(tokens.validation, 0, n_tokens, tokenizer)
            base = measure_model(open_decoder(BASES[root].folder, form, hardware), unread, n_time)
    read_again = slice_part(tokens.train, len(tokens.train.ids) // 3, n_tokens, tokenizer)
    learned = read_end(author.documents, TEXT_SEPARATOR, LONGEST_COUNTED).encode("utf-8", "replace")
    unseen = read_beginning(author.held_out, TEXT_SEPARATOR, MOST_HELD_OUT).encode("utf-8", "replace")
    return LearningScore(
        held_out=held_out,
        training=measure_model(decoder, read_again, n_time),
        base=base,
        counts=measure_ngrams(learned, unseen),
        packed=measure_compressed(learned, unseen),
        others={f"the same, of {name}": measure_model(decoder, part, n_time) for name, part in parts.items()},
    )
