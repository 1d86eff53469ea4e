"""What a user names and asks in; everything that training needs, read, counted and planned, out."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch._dynamo.exc import TorchDynamoException
from transformers import GPT2LMHeadModel

from epigone.corpus.corpus import Corpus, StageCallback, ignore_stages
from epigone.corpus.large_text import Text, read_blocks
from epigone.corpus.split import Split, group_spans, read_and_split
from epigone.distillation import Teacher, adjust_plan, adopt_teacher_settings, check_same_text, find_teacher
from epigone.errors import first_line
from epigone.evaluation.sample_checks import SampleWriter
from epigone.hardware import Hardware, find_hardware
from epigone.model.gpt2 import build_model, read_shape
from epigone.model.hub import Base, find_base, is_cached
from epigone.planning.choose_base import BaseChoice, BaseFit, BaseTrial, choose_base
from epigone.planning.plan import Plan, PlanInputs, make_plan, set_length
from epigone.settings import TrainSettings
from epigone.tokens.dataset import TokenDataset, TokenSplit, tokenize
from epigone.tokens.tokenizer import LEARNING_CHARACTERS, BPETokenizer, encode, load_tokenizer, train_tokenizer
from epigone.training.base_trial import try_bases
from epigone.training.distributed import count_processes, main_process_first
from epigone.training.evaluate import evaluate
from epigone.training.events import Estimate
from epigone.training.trainer import Trainer

WARM_UP_STEPS, TIMED_STEPS = 2, 3
SLOW_STEP_SECONDS = 1.0
"""On a processor a step that takes longer is known well enough from one."""
TIMED_BLOCKS = 32


def measure_speed(
    model: GPT2LMHeadModel,
    tokens: TokenDataset,
    plan: Plan,
    *,
    time_samples: Callable[[GPT2LMHeadModel], float],
    teacher: GPT2LMHeadModel | None = None,
) -> Estimate:
    """Take a few steps of the plan and look at some held-out text. The model is changed: give one to spend.

    `time_samples` says how many seconds the samples of one evaluation take.
    """
    long_enough = replace(plan, n_steps=max(plan.n_steps, WARM_UP_STEPS + TIMED_STEPS))
    learner = Trainer(model, tokens, long_enough, teacher=teacher)
    compile_seconds = _time(lambda: _take_steps(learner, 1), learner) if plan.compile != "none" else 0.0
    alone = plan.n_processes == 1 and learner.accelerator.device.type == "cpu"  # processes have to take equally many
    is_slow = _time(learner.step, learner) > SLOW_STEP_SECONDS and alone
    n_warm, n_timed_steps = (1, 1) if is_slow else (WARM_UP_STEPS, TIMED_STEPS)
    _take_steps(learner, n_warm - 1)
    seconds_per_step = _time(lambda: _take_steps(learner, n_timed_steps), learner) / n_timed_steps
    n_targets = len(tokens.validation.ids) - 1
    n_timed = min(n_targets, TIMED_BLOCKS * plan.block_size * plan.n_processes)
    few = replace(tokens.validation, ids=tokens.validation.ids[: n_timed + 1])
    seconds = _time(
        lambda: evaluate(
            model,
            few,
            block_size=plan.block_size,
            batch_size=learner.plan.largest_part,
            accelerator=learner.accelerator,
        ),
        learner,
    )
    evaluation = seconds * n_targets / n_timed + time_samples(model)
    estimate = Estimate(
        seconds_per_step=seconds_per_step,
        seconds_per_evaluation=evaluation,
        n_evaluations=0,
        seconds=0.0,
        memory_bytes=_find_peak_memory(learner.accelerator.device),
        compile_seconds=max(0.0, compile_seconds - seconds_per_step),
        parts=learner.plan.parts,
    )
    return estimate_run(plan, estimate)


def estimate_run(plan: Plan, measured: Estimate) -> Estimate:
    """What the measured times come to over the plan."""
    n_evaluations = count_evaluations(plan)
    seconds = measured.compile_seconds + plan.n_steps * measured.seconds_per_step
    seconds += n_evaluations * measured.seconds_per_evaluation
    seconds = min(seconds, 60 * plan.minutes) if plan.minutes is not None else seconds
    return replace(measured, n_evaluations=n_evaluations, seconds=seconds)


def count_steps_in_time(plan: Plan, estimate: Estimate) -> int:
    """Steps that the plan's minutes allow, with a tenth of them for evaluations."""
    seconds = 60 * (plan.minutes or 0) - estimate.compile_seconds
    return max(1, int(0.9 * seconds / estimate.seconds_per_step))


def count_evaluations(plan: Plan) -> int:
    """Evaluations in a plan: of an untouched base, at each epoch, every so many steps, and at the end.

    Under a time limit ten or so.
    """
    per_step = plan.blocks_per_step * plan.evaluations_per_epoch
    n_by_epochs = plan.n_steps * per_step // plan.n_blocks
    if plan.minutes is not None:
        return max(1, min(n_by_epochs, 10))
    steps = {math.ceil(number * plan.n_blocks / per_step) for number in range(1, n_by_epochs + 1)}
    if plan.evaluate_every is not None:
        steps |= set(range(plan.evaluate_every, plan.n_steps + 1, plan.evaluate_every))
    return len(steps | {plan.n_steps}) + (not plan.fresh)


def _take_steps(learner: Trainer, count: int) -> None:
    for _ in range(count):
        learner.step()


def _time(work: Callable[[], object], learner: Trainer) -> float:
    began = time.perf_counter()
    work()
    if learner.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _find_peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


FEW_DOCUMENTS = 8
"""With fewer documents than this, the start of one says little about how to begin a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRun:
    """A text, read and planned for. `receipt` is what receipt.json holds."""

    settings: TrainSettings
    corpus: Corpus
    split: Split
    base: Base | None
    tokenizer: BPETokenizer
    tokens: TokenDataset
    plan: Plan
    estimate: Estimate
    receipt: dict[str, Any]
    teacher: Teacher | None = None

    def build_model(self) -> GPT2LMHeadModel:
        """The model that training starts from."""
        return build_model(self.plan.model_spec, self.base.folder if self.base else None, self.tokenizer.end_of_text_id)


def prepare(
    texts: Sequence[str],
    settings: TrainSettings,
    folder: Path,
    *,
    progress: bool = True,
    watch: StageCallback = ignore_stages,
) -> PreparedRun:
    """Read the texts, split them, choose a base, learn or load its vocabulary, encode into `folder`, plan and measure.

    `watch` hears of what takes long. Raises TextError, BaseError, SettingsError, OutputError, RunError.
    """
    teacher = find_teacher(settings)
    settled = adopt_teacher_settings(teacher, settings)
    corpus, held_out, split = read_and_split(texts, settings, folder, watch)
    hardware = find_hardware(settings.device)
    with main_process_first(hardware):
        route = _choose_base(settled, corpus, split, hardware, watch)
        base = None if route.base == "none" else find_base(route.base, progress=progress)
        train = group_spans(corpus, split.train)
        if base is None and teacher is None:
            watch("Learning the vocabulary", 0, 0)
        known = teacher.folder.model if teacher else base.folder if base else None
        tokenizer = _get_tokenizer(known, route, train)
        validation = group_spans(held_out or corpus, split.validation)
        tokens = tokenize(train, validation, tokenizer, folder, partial(watch, "Encoding"))
    receipt = write_receipt(corpus, held_out, split, tokens)
    if teacher is not None:
        check_same_text(teacher, receipt)
    facts = PlanInputs(
        tokens=tokens,
        hardware=hardware,
        route=_say_what_was_read(route, tokens) if base is None else route,
        vocab_size=len(tokenizer),
        base_shape=None if base is None else read_shape(base.config),
        base_revision="" if base is None else base.revision,
        start_text=_choose_start(train),
        n_processes=count_processes(),
    )
    first_plan = make_plan(settled, facts)
    if teacher is not None:
        first_plan = adjust_plan(teacher, first_plan, settings)
    model = build_model(first_plan.model_spec, base.folder if base else None, tokenizer.end_of_text_id)
    plan, estimate = _measure(model, tokenizer, tokens, first_plan, settings, teacher)
    return PreparedRun(
        settings=settings,
        corpus=corpus,
        split=split,
        base=base,
        tokenizer=tokenizer,
        tokens=tokens,
        plan=plan,
        estimate=estimate,
        receipt=receipt,
        teacher=teacher,
    )


def _choose_base(
    settings: TrainSettings, corpus: Corpus, split: Split, hardware: Hardware, watch: StageCallback
) -> BaseChoice:
    def fit_small() -> BaseTrial:
        watch("Trying the small base", 0, 0)
        return try_bases(list(split.train_texts(corpus)))

    has_gpt2 = settings.base == "auto" and is_cached("gpt2")
    fits = BaseFit(gpt2=(lambda: _fit_gpt2(corpus)) if has_gpt2 else None, small=fit_small)
    return choose_base(settings, n_bytes=corpus.n_bytes, fits=fits, hardware=hardware)


def _fit_gpt2(corpus: Corpus) -> float:
    """Bytes per token of GPT-2's vocabulary, over the first 100,000 characters."""
    tokenizer = load_tokenizer(find_base("gpt2", download=False).folder)
    text = corpus.documents[0].text[:100_000]
    return len(text.encode()) / max(1, len(encode(text, tokenizer)))


def _say_what_was_read(route: BaseChoice, tokens: TokenDataset) -> BaseChoice:
    if tokens.train.n_characters <= LEARNING_CHARACTERS:
        return route
    part = f"learned from {LEARNING_CHARACTERS:,} characters at even distances in the text"
    return replace(route, vocab_size_reason=f"{route.vocab_size_reason}; {part}")


def _get_tokenizer(known: Path | None, route: BaseChoice, train: Sequence[Sequence[Text]]) -> BPETokenizer:
    """That of a base or a teacher, or one of its own."""
    if known is not None:
        return load_tokenizer(known)
    return train_tokenizer((stretch for document in train for stretch in document), route.vocab_size)


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
    tokenizer: BPETokenizer,
    tokens: TokenDataset,
    plan: Plan,
    settings: TrainSettings,
    teacher: Teacher | None,
) -> tuple[Plan, Estimate]:
    """The plan with the steps that its minutes allow, and what was measured, by the first process for all."""
    sampler = SampleWriter(tokenizer, settings, plan.start_text)
    measure = partial(measure_speed, time_samples=sampler.time, teacher=teacher.load() if teacher else None)
    try:
        found = measure(model, tokens, plan)
    except TorchDynamoException as error:
        why = f"torch.compile failed here: {first_line(error):.100}"
        plan = replace(plan, compile="none", reasons=plan.reasons | {"compile": why})
        found = measure(model, tokens, plan)
    if plan.n_processes > 1:
        (found,) = broadcast_object_list([found])
    if found.parts > plan.parts:
        why = "in parts: it does not fit into memory at once"
        plan = replace(plan, parts=found.parts, reasons=plan.reasons | {"batch_size": why})
    if plan.minutes is not None:
        plan = set_length(plan, settings, count_steps_in_time(plan, found))
    return plan, estimate_run(plan, found)


# -- the receipt


def write_receipt(corpus: Corpus, held_out: Corpus | None, split: Split, tokens: TokenDataset) -> dict[str, Any]:
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


def _describe_part(part: TokenSplit) -> dict[str, Any]:
    return {
        "n_documents": part.n_documents,
        "n_characters": part.n_characters,
        "n_bytes": part.n_bytes,
        "n_tokens": part.n_tokens,
        "bytes_per_token": round(part.bytes_per_token, 4),
    }
