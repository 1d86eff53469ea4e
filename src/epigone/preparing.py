"""What a user names and asks in; everything that training needs, read, counted and planned, out."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch._dynamo.exc import TorchDynamoException
from transformers import GPT2LMHeadModel

from epigone.errors import first_line
from epigone.model.gpt2 import build_model, load_model, read_shape
from epigone.model.hardware import Hardware, find_hardware
from epigone.model.hub import SMALL, Base, find_base, is_cached
from epigone.model.plan import Facts, Plan, make_plan, set_length
from epigone.model.route import Fits, Route, choose_route
from epigone.settings import Settings
from epigone.teaching import Teacher, check_text, find_teacher, plan_with, settle
from epigone.text.corpus import Corpus, read_corpus
from epigone.text.splitting import Split, Stretch, read_stretch, split_corpus
from epigone.text.storing import Text, read_blocks
from epigone.tokens.stream import Part, Tokens, encode_parts
from epigone.tokens.vocabulary import (
    LEARNING_CHARACTERS,
    Vocabulary,
    encode,
    learn_vocabulary,
    load_vocabulary,
)
from epigone.training.events import Estimate
from epigone.training.speed import count_steps_in_time, expect, measure_speed
from epigone.training.state import count_processes
from epigone.writing.samples import Sampler
from epigone.writing.scoring import score_text

Watch = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done and how much there is; 0 and 0 where that cannot be said."""
FEW_DOCUMENTS = 8
"""With fewer documents than this, the start of one says little about how to begin a text."""
STRETCHES, STRETCH = 4, 2_500
"""Of how many characters are read to see whether the small base fits."""
PACKED = 1_000_000
"""Bytes at most that are compressed to see the same; it takes half a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """A text, read and planned for. `receipt` is what receipt.json holds."""

    settings: Settings
    corpus: Corpus
    split: Split
    base: Base | None
    vocabulary: Vocabulary
    tokens: Tokens
    plan: Plan
    estimate: Estimate
    receipt: dict[str, Any]
    teacher: Teacher | None = None

    def build_model(self) -> GPT2LMHeadModel:
        """The model that training starts from."""
        return build_model(self.plan, self.base.folder if self.base else None, self.vocabulary.end_of_text_id)


def look_away(what: str, n_done: int, n_all: int) -> None:
    """For a `Watch` where nobody watches."""


def prepare(
    texts: Sequence[str], settings: Settings, folder: Path, *, progress: bool = True, watch: Watch = look_away
) -> Preparation:
    """Read the texts, split them, choose a base, learn or load its vocabulary, encode into `folder`, plan and measure.

    `watch` hears of what takes long. Raises TextError, BaseError, SettingsError, OutputError, RunError.
    """
    teacher = find_teacher(settings)
    settled = settle(teacher, settings)
    corpus, held_out, split = read_and_split(texts, settings, folder, watch)
    hardware = find_hardware(settings.device)
    with one_after_another(hardware):
        route = _find_route(settled, corpus, hardware)
        base = None if route.base == "none" else find_base(route.base, progress=progress)
        train = group_stretches(corpus, split.train)
        if base is None and teacher is None:
            watch("Learning the vocabulary", 0, 0)
        known = teacher.folder.model if teacher else base.folder if base else None
        vocabulary = _find_vocabulary(known, route, train)
        validation = group_stretches(held_out or corpus, split.validation)
        tokens = encode_parts(train, validation, vocabulary, folder, partial(watch, "Encoding"))
    receipt = write_receipt(corpus, held_out, split, tokens)
    if teacher is not None:
        check_text(teacher, receipt)
    facts = Facts(
        tokens=tokens,
        hardware=hardware,
        route=_say_what_was_read(route, tokens) if base is None else route,
        vocabulary_size=len(vocabulary),
        base_shape=None if base is None else read_shape(base.config),
        base_revision="" if base is None else base.revision,
        start_text=_choose_start(train),
        n_processes=count_processes(),
    )
    first_plan = make_plan(settled, facts)
    if teacher is not None:
        first_plan = plan_with(teacher, first_plan, settings)
    model = build_model(first_plan, base.folder if base else None, vocabulary.end_of_text_id)
    plan, estimate = _measure(model, vocabulary, tokens, first_plan, settings, teacher)
    return Preparation(
        settings=settings,
        corpus=corpus,
        split=split,
        base=base,
        vocabulary=vocabulary,
        tokens=tokens,
        plan=plan,
        estimate=estimate,
        receipt=receipt,
        teacher=teacher,
    )


def read_and_split(
    texts: Sequence[str], settings: Settings, folder: Path, watch: Watch = look_away
) -> tuple[Corpus, Corpus | None, Split]:
    """What is learned from and, where that was named, what is held out. Raises TextError, SettingsError, OutputError.

    Long texts are put into temporary files in `folder`.
    """
    corpus = _read(texts, settings, folder, watch)
    held_out = None if isinstance(settings.validation, float) else _read([settings.validation], settings, folder, watch)
    share = settings.validation if isinstance(settings.validation, float) else 0.0
    split = split_corpus(corpus, how=settings.split, share=share, seed=settings.seed, held_out=held_out)
    return corpus, held_out, split


def one_after_another(hardware: Hardware) -> AbstractContextManager[Any]:
    """The first process does it, then the others find it done; alone, just do it."""
    if count_processes() == 1:
        return nullcontext()
    main_first: AbstractContextManager[Any] = PartialState(cpu=hardware.device == "cpu").main_process_first()
    return main_first


def _read(texts: Sequence[str], settings: Settings, folder: Path, watch: Watch) -> Corpus:
    return read_corpus(
        texts,
        encoding=settings.encoding,
        keep_boilerplate=settings.keep_boilerplate,
        folder=folder,
        watch=partial(watch, "Reading"),
    )


def _find_route(settings: Settings, corpus: Corpus, hardware: Hardware) -> Route:
    has_gpt2 = settings.base == "auto" and is_cached("gpt2")
    fits = Fits(gpt2=(lambda: _fit_gpt2(corpus)) if has_gpt2 else None, small=lambda: _fit_small(corpus))
    return choose_route(settings, n_bytes=corpus.n_bytes, fits=fits, hardware=hardware)


def _fit_gpt2(corpus: Corpus) -> float:
    """Bytes per token of GPT-2's vocabulary, over the first 100,000 characters."""
    vocabulary = load_vocabulary(find_base("gpt2", download=False).folder)
    text = corpus.documents[0].text[:100_000]
    return len(text.encode()) / max(1, len(encode(text, vocabulary)))


def _fit_small(corpus: Corpus) -> tuple[float, float]:
    """Bits per byte of a few stretches of the text by the untouched small base, and of more of it by a compressor."""
    folder = find_base(SMALL).folder
    model, vocabulary = load_model(folder), load_vocabulary(folder)
    bits = n_bytes = 0.0
    for stretch in filter(None, _sample_stretches(corpus)):
        scored = score_text(model, vocabulary, stretch)
        bits += scored.bits_per_byte * len(stretch.encode())
        n_bytes += len(stretch.encode())
    beginning = _read_beginning(corpus, PACKED)
    return bits / max(1.0, n_bytes), 8 * len(lzma.compress(beginning)) / max(1, len(beginning))


def _read_beginning(corpus: Corpus, n_most: int) -> bytes:
    """The first bytes of all documents."""
    found = b""
    for document in corpus.documents:
        found += document.text[: n_most - len(found)].encode()
        if len(found) >= n_most:
            break
    return found[:n_most]


def _sample_stretches(corpus: Corpus) -> list[str]:
    """As many stretches as STRETCHES says, spread over the documents."""
    documents = corpus.documents
    texts = [documents[i * len(documents) // STRETCHES].text for i in range(STRETCHES)]
    starts = [i * max(0, len(text) - STRETCH) // STRETCHES for i, text in enumerate(texts)]
    return [text[start : start + STRETCH] for text, start in zip(texts, starts, strict=True)]


def _say_what_was_read(route: Route, tokens: Tokens) -> Route:
    if tokens.train.n_characters <= LEARNING_CHARACTERS:
        return route
    part = f"learned from {LEARNING_CHARACTERS:,} characters at even distances in the text"
    return replace(route, vocabulary_reason=f"{route.vocabulary_reason}; {part}")


def _find_vocabulary(known: Path | None, route: Route, train: Sequence[Sequence[Text]]) -> Vocabulary:
    """That of a base or a teacher, or one of its own."""
    if known is not None:
        return load_vocabulary(known)
    return learn_vocabulary((stretch for document in train for stretch in document), route.vocabulary_size)


def group_stretches(corpus: Corpus, stretches: Sequence[Stretch]) -> list[list[Text]]:
    """For each document that has any the texts of its stretches."""
    texts: dict[int, list[Text]] = {}
    for stretch in stretches:
        texts.setdefault(stretch.document, []).append(read_stretch(corpus, stretch))
    return list(texts.values())


def _choose_start(train: Sequence[Sequence[Text]]) -> str:
    """A few long documents teach how a line begins, and how one text began; many teach how texts begin."""
    blocks = (block for document in train for stretch in document for block in read_blocks(stretch))
    return "\n" if len(train) < FEW_DOCUMENTS and _has_lines(blocks, 20) else ""


def _has_lines(blocks: Iterable[str], n_lines: int) -> bool:
    for block in blocks:
        n_lines -= block.count("\n")
        if n_lines <= 0:
            return True
    return False


# -- measuring


def _measure(
    model: GPT2LMHeadModel,
    vocabulary: Vocabulary,
    tokens: Tokens,
    plan: Plan,
    settings: Settings,
    teacher: Teacher | None,
) -> tuple[Plan, Estimate]:
    """The plan with the steps that its minutes allow, and what was measured, by the first process for all."""
    sampler = Sampler(vocabulary, settings, plan.start_text)
    measure = partial(measure_speed, time_samples=sampler.time, teacher=teacher.load() if teacher else None)
    try:
        found = measure(model, tokens, plan)
    except TorchDynamoException as error:
        why = f"torch.compile failed here: {first_line(error):.100}"
        plan = replace(plan, compilation="none", reasons=plan.reasons | {"compilation": why})
        found = measure(model, tokens, plan)
    if plan.n_processes > 1:
        (found,) = broadcast_object_list([found])
    if found.parts > plan.parts:
        why = "in parts: it does not fit into memory at once"
        plan = replace(plan, parts=found.parts, reasons=plan.reasons | {"batch_size": why})
    if plan.minutes is not None:
        plan = set_length(plan, settings, count_steps_in_time(plan, found))
    return plan, expect(plan, found)


# -- the receipt


def write_receipt(corpus: Corpus, held_out: Corpus | None, split: Split, tokens: Tokens) -> dict[str, Any]:
    """What was read and every change made to it, what is learned from and what is held out: plain values."""
    return {
        "files": [asdict(document.receipt) for document in corpus.documents],
        "held_out_files": [asdict(document.receipt) for document in held_out.documents] if held_out else [],
        "skipped": list(corpus.skipped),
        "fingerprint": corpus.fingerprint,
        "n_characters": corpus.n_characters,
        "n_bytes": corpus.n_bytes,
        "split": {"how": split.how, "reason": split.reason, "held_out": [asdict(item) for item in split.validation]},
        "train": _describe_part(tokens.train),
        "validation": _describe_part(tokens.validation),
    }


def _describe_part(part: Part) -> dict[str, Any]:
    return {
        "n_documents": part.n_documents,
        "n_characters": part.n_characters,
        "n_bytes": part.n_bytes,
        "n_tokens": part.n_tokens,
        "bytes_per_token": round(part.bytes_per_token, 4),
    }
