"""Preparation of a run: texts read, split and tokenized, base chosen, plan made and timed, model built."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate.utils import broadcast_object_list
from tokenizers import Tokenizer
from torch._dynamo.exc import TorchDynamoException
from transformers import GPT2LMHeadModel

from epigone.bulk_preparation import (
    BulkText,
    ChooseStart,
    check_unchanged,
    find_prepared,
    is_large,
    is_prepared,
    make_job,
    mend_bulk,
    name_job,
    open_bulk,
    prepare_bulk,
    prepared_key,
    start_from,
)
from epigone.corpus.corpus import Corpus, FileReceipt, StageCallback, ignore_stages
from epigone.corpus.large_text import Text, read_blocks, read_some
from epigone.corpus.line_layout import find_unit
from epigone.corpus.split import Split, group_spans, read_and_split
from epigone.distillation import Distillation
from epigone.errors import EpigoneError, first_line
from epigone.evaluation.sample_checks import SampleWriter
from epigone.generation.generator import WriteDefaults
from epigone.hardware import Hardware, count_own_cores, find_hardware, find_peak_memory
from epigone.model.base_profile import read_base_of_run
from epigone.model.gpt2 import build_model, read_shape
from epigone.model.hub import find_base, is_cached
from epigone.planning.choose_base import BaseChoice, BaseFit, BaseTrial, choose_base
from epigone.planning.plan import Plan, PlanInputs, make_plan, set_length
from epigone.planning.specs import OptimizerSpec
from epigone.runs.folder import RunFolder
from epigone.runs.records import PartReceipt, Receipt, Record, SplitReceipt, read_record
from epigone.settings import SELF, TrainSettings
from epigone.starting_point import StartingPoint
from epigone.tokens.dataset import FACTS, TokenDataset, load_tokens, point_to, tokenize
from epigone.tokens.tokenizer import LEARNING_CHARACTERS, BPETokenizer, encode, load_tokenizer, train_tokenizer
from epigone.training.base_trial import try_bases
from epigone.training.distributed import (
    agree_on_plan,
    ask_main_process,
    connect,
    count_processes,
    is_main_process,
    take_from_main_process,
    wait_until_seen,
)
from epigone.training.evaluate import evaluate
from epigone.training.events import Estimate
from epigone.training.trainer import Trainer
from epigone.voices import VoicesRecord

WARM_UP_STEPS, TIMED_STEPS = 2, 3
TIMED_SECONDS = 0.3
"""On a CPU, so many seconds of steps are measurement enough, be it a single step."""
TIMED_BLOCKS = 8


def measure_speed(
    model: GPT2LMHeadModel,
    tokens: TokenDataset,
    plan: Plan,
    *,
    time_samples: Callable[[GPT2LMHeadModel], float],
    teacher: GPT2LMHeadModel | None = None,
) -> Estimate:
    """Time a few steps of the plan and an evaluation on some held-out text. The model is changed: pass a copy.

    `time_samples` says how many seconds the samples of one evaluation take.
    """
    long_enough = replace(plan.schedule, n_steps=max(plan.schedule.n_steps, WARM_UP_STEPS + TIMED_STEPS))
    trainer = Trainer(model, tokens, replace(plan, schedule=long_enough), teacher=teacher)
    compile_seconds = _time(lambda: _take_steps(trainer, 1), trainer) if plan.compute.compile != "off" else 0.0
    alone = (
        plan.batch.n_processes == 1 and trainer.accelerator.device.type == "cpu"
    )  # all processes have to take equally many steps
    n_enough = int(TIMED_SECONDS / _time(trainer.step, trainer)) if alone else TIMED_STEPS
    n_timed_steps = max(1, min(TIMED_STEPS, n_enough))
    if n_timed_steps == TIMED_STEPS:
        _take_steps(trainer, WARM_UP_STEPS - 1)
    seconds_per_step = _time(lambda: _take_steps(trainer, n_timed_steps), trainer) / n_timed_steps
    n_targets = len(tokens.validation.ids) - 1
    n_timed = min(n_targets, TIMED_BLOCKS * plan.batch.block_size * plan.batch.n_processes)
    few = replace(tokens.validation, ids=tokens.validation.ids[: n_timed + 1])
    with trainer.gathered():
        seconds = _time(
            lambda: evaluate(
                model,
                few,
                block_size=plan.batch.block_size,
                batch_size=-(-plan.batch.largest_share // trainer.parts),
                accelerator=trainer.accelerator,
            ),
            trainer,
        )
        evaluation = seconds * n_targets / n_timed + time_samples(model)
    estimate = Estimate(
        seconds_per_step=seconds_per_step,
        seconds_per_evaluation=evaluation,
        n_evaluations=0,
        seconds=0.0,
        memory_bytes=find_peak_memory(trainer.accelerator.device.type),
        compile_seconds=max(0.0, compile_seconds - seconds_per_step),
        parts=trainer.parts,
    )
    return estimate_run(plan, estimate)


def estimate_run(plan: Plan, measured: Estimate) -> Estimate:
    """The measured times, extrapolated to the whole plan."""
    n_evaluations = count_evaluations(plan)
    seconds = measured.compile_seconds + plan.schedule.n_steps * measured.seconds_per_step
    seconds += n_evaluations * measured.seconds_per_evaluation
    seconds = min(seconds, 60 * plan.schedule.minutes) if plan.schedule.minutes is not None else seconds
    return replace(measured, n_evaluations=n_evaluations, seconds=seconds)


def count_steps_in_time(plan: Plan, estimate: Estimate) -> int:
    """Steps that the plan's minutes allow, with a tenth of the time for evaluations."""
    seconds = 60 * (plan.schedule.minutes or 0) - estimate.compile_seconds
    return max(1, int(0.9 * seconds / estimate.seconds_per_step))


def count_evaluations(plan: Plan) -> int:
    """Evaluations in a plan: of an untouched base, at each epoch, every so many steps, and at the end.

    At most ten under a time limit.
    """
    schedule, batch = plan.schedule, plan.batch
    per_step = batch.blocks_per_step * schedule.evaluations_per_epoch
    n_by_epochs = schedule.n_steps * per_step // batch.n_blocks
    if schedule.minutes is not None:
        return max(1, min(n_by_epochs, 10))
    steps = {math.ceil(number * batch.n_blocks / per_step) for number in range(1, n_by_epochs + 1)}
    if schedule.evaluate_every is not None:
        steps |= set(range(schedule.evaluate_every, schedule.n_steps + 1, schedule.evaluate_every))
    return len(steps | {schedule.n_steps}) + (not plan.model.fresh)


def _take_steps(trainer: Trainer, count: int) -> None:
    for _ in range(count):
        trainer.step()


def _time(work: Callable[[], object], trainer: Trainer) -> float:
    began = time.perf_counter()
    work()
    if trainer.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


LOOKED_AT = 200_000
"""Characters of the text that show whether it is made of sentences or of lines."""
FEW_DOCUMENTS = 8
"""With fewer documents than this, the start of one says little about how to begin a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedText:
    """A text as ids, with what was chosen for it and how it begins and ends."""

    start: StartingPoint
    tokenizer: BPETokenizer
    tokens: TokenDataset
    receipt: Receipt
    start_text: str
    stop_at: Literal["sentence", "line"]
    corpus: Corpus | None = None
    """None where the text was prepared in shards or by another process."""
    split: Split | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRun:
    """A text that has been encoded, the plan for it, and the model that training starts from."""

    settings: TrainSettings
    corpus: Corpus | None
    split: Split | None
    start: StartingPoint
    tokenizer: BPETokenizer
    tokens: TokenDataset
    plan: Plan
    estimate: Estimate
    receipt: Receipt
    model: GPT2LMHeadModel
    teacher: GPT2LMHeadModel | None
    voices: VoicesRecord | None = None
    """What was read of several voices, where this is the run of all of them."""


def prepare(
    texts: Sequence[str],
    settings: TrainSettings,
    folder: Path,
    *,
    is_shared: bool = False,
    progress: bool = True,
    watch: StageCallback = ignore_stages,
) -> PreparedRun:
    """Read, split and encode the texts (tokens go into `folder`), choose a base, plan, build the model and time it.

    `is_shared`: whether several processes share the folder, so that one of them can do it for all. `watch` is called
    with the progress of what takes long. Raises TextError, BaseError, SettingsError, OutputError and RunError.
    """
    hardware = find_hardware(settings.device)
    choose = partial(choose_start, settings, hardware=hardware, progress=progress, watch=watch)
    text = encode_text(texts, settings, folder, choose, is_shared=is_shared, watch=watch)
    start, tokenizer, tokens, receipt = text.start, text.tokenizer, text.tokens, text.receipt
    start.check_text(receipt)
    connect(hardware)
    plan = start.adjust(make_plan(start.settings, _gather_inputs(text, hardware)))
    plan = _add_unwrapping(plan, receipt)
    agree_on_plan(plan)
    watch("Loading the model", 0, 0)
    model = build_model(plan.model, start.folder, tokenizer.end_of_text_id, seed=plan.seed)
    teacher = start.load_teacher()
    watch("Measuring the speed of a step" if plan.compute.compile == "off" else "Compiling the model", 0, 0)
    plan, estimate = fit_to_clock(plan, settings, model, tokenizer, tokens, teacher)
    return PreparedRun(
        settings=settings,
        corpus=text.corpus,
        split=text.split,
        start=start,
        tokenizer=tokenizer,
        tokens=tokens,
        plan=plan,
        estimate=estimate,
        receipt=receipt,
        model=model,
        teacher=teacher,
    )


def prepare_texts(
    texts: Sequence[str],
    settings: TrainSettings,
    folder: Path,
    *,
    n_workers: int | None = None,
    watch: StageCallback = ignore_stages,
) -> BulkText:
    """Read and encode texts of any size into a folder, once for any number of runs: `epigone prepare`.

    All who do the same at the same time, on hosts that share the folder, divide the work between them. `n_workers`:
    processes here, one for each core by default. Where everything is there it is looked through, and what is damaged is
    made again. Raises TextError, BaseError, SettingsError, RunExists, RunDamaged and OutputError.
    """
    hardware = find_hardware(settings.device)
    choose = partial(choose_start, settings, hardware=hardware, progress=False, watch=watch)
    if is_prepared(folder) and (folder / FACTS).exists():
        watch("Looking for damage", 0, 0)
        mend_bulk(folder)
    n_helpers = (n_workers or count_own_cores()) - 1
    return prepare_bulk(make_job(texts, settings), folder, choose, describe_ends, n_helpers=n_helpers, watch=watch)


# -- the text


def encode_text(
    texts: Sequence[str],
    settings: TrainSettings,
    folder: Path,
    choose: ChooseStart,
    *,
    is_shared: bool,
    watch: StageCallback,
) -> EncodedText:
    """The texts as ids in `folder`: as prepared before, in shards by all processes, or by the main process for all."""
    if prepared := find_prepared(texts):
        check_unchanged(prepared, settings)
        found = open_bulk(prepared)
        tokens = _point_to(folder / prepared_key(prepared), prepared)
        return _take_bulk(replace(found, tokens=tokens), start_from(found, settings, prepared))
    if is_shared and ask_main_process(lambda: is_large(texts, settings)):
        job = make_job(texts, settings)
        n_helpers = count_own_cores() - 1
        bulk = prepare_bulk(job, folder / name_job(job), choose, describe_ends, n_helpers=n_helpers, watch=watch)
        return _take_bulk(bulk, _rebuild_start(settings, bulk.choice))
    if is_shared and count_processes() > 1:
        return _encode_for_all(texts, settings, folder, choose, watch)
    return _encode_whole(texts, settings, folder, choose, watch)


def _take_bulk(bulk: BulkText, start: StartingPoint) -> EncodedText:
    return EncodedText(
        start=start,
        tokenizer=bulk.tokenizer,
        tokens=bulk.tokens,
        receipt=bulk.receipt,
        start_text=bulk.record.start_text,
        stop_at=bulk.record.stop_at,
    )


def _point_to(place: Path, prepared: Path) -> TokenDataset:
    if is_main_process():
        point_to(place, prepared)
    wait_until_seen(place / FACTS)
    return load_tokens(place)


def _rebuild_start(settings: TrainSettings, choice: BaseChoice) -> StartingPoint:
    """The starting point that another process, or an earlier one, has chosen."""
    if settings.teacher not in ("none", SELF):
        return Distillation.open(settings)
    base = None if choice.base.value == "none" else find_base(choice.base.value)
    return StartingPoint(settings=settings, choice=choice, base=base)


def _encode_whole(
    texts: Sequence[str], settings: TrainSettings, folder: Path, choose: ChooseStart, watch: StageCallback
) -> EncodedText:
    """Read all of the text, in this process alone."""
    corpus, held_out, split = read_and_split(texts, settings, folder, watch)
    train, validation = group_spans(corpus, split.train), group_spans(held_out or corpus, split.validation)
    spans = [span for document in train for span in document]
    start = choose(spans, corpus.n_bytes)
    tokenizer = start.load_tokenizer() or _train_tokenizer(start.choice, train, watch)
    tokens = tokenize(train, validation, tokenizer, folder, partial(watch, "Encoding"))
    start_text, stop_at = describe_ends(spans, len(train))
    return EncodedText(
        start=start,
        tokenizer=tokenizer,
        tokens=tokens,
        receipt=make_receipt(corpus, held_out, split, tokens),
        start_text=start_text,
        stop_at=stop_at,
        corpus=corpus,
        split=split,
    )


class _Message(Record):
    """What the other processes need to know of a text that the main process has encoded."""

    choice: BaseChoice
    tokenizer: str
    end_of_text: str
    key: str
    start_text: str
    stop_at: Literal["sentence", "line"]
    receipt: Receipt


def _encode_for_all(
    texts: Sequence[str], settings: TrainSettings, folder: Path, choose: ChooseStart, watch: StageCallback
) -> EncodedText:
    """The main process reads the text; the others read nothing, and map the ids once they are there."""
    own: list[EncodedText] = []

    def make() -> str:
        text = _encode_whole(texts, settings, folder, choose, watch)
        own.append(text)
        message = _Message(
            choice=text.start.choice,
            tokenizer=text.tokenizer.backend.to_str(),
            end_of_text=text.tokenizer.end_of_text,
            key=text.tokens.key,
            start_text=text.start_text,
            stop_at=text.stop_at,
            receipt=text.receipt,
        )
        return message.encode().decode("utf-8", "surrogatepass")

    told = take_from_main_process(make)
    if own:
        return own[0]
    found = read_record(_Message, told.encode("utf-8", "surrogatepass"))
    wait_until_seen(folder / found.key / FACTS)
    return EncodedText(
        start=_rebuild_start(settings, found.choice),
        tokenizer=BPETokenizer(Tokenizer.from_str(found.tokenizer), found.end_of_text),
        tokens=load_tokens(folder / found.key),
        receipt=found.receipt,
        start_text=found.start_text,
        stop_at=found.stop_at,
    )


def choose_start(
    settings: TrainSettings,
    texts: Sequence[Text],
    n_bytes: int,
    *,
    hardware: Hardware,
    progress: bool = False,
    watch: StageCallback = ignore_stages,
) -> StartingPoint:
    """The starting point that the settings ask for, or else the best one for a text of so many bytes.

    `texts`: its training text, or a sample of it.
    """
    if settings.teacher not in ("none", SELF):
        return Distillation.open(settings)

    def try_bundled(names: Sequence[str]) -> BaseTrial:
        watch("Trying the bundled bases", 0, 0)
        return try_bases(list(texts), names)

    has_gpt2 = settings.base == "auto" and is_cached("gpt2")
    fits = BaseFit(gpt2=(lambda: _fit_gpt2(texts)) if has_gpt2 else None, bundled=try_bundled)
    choice = _locate_run(choose_base(settings, n_bytes=n_bytes, fits=fits, hardware=hardware))
    base = None if choice.base.value == "none" else find_base(choice.base.value, progress=progress)
    return StartingPoint(settings=settings, choice=choice, base=base)


def _locate_run(choice: BaseChoice) -> BaseChoice:
    """The choice with the whole path of a base that is a run, which is looked for again from other folders."""
    if not read_base_of_run(choice.base.value):
        return choice
    return choice._replace(base=choice.base._replace(value=str(Path(choice.base.value).expanduser().resolve())))


def _fit_gpt2(texts: Sequence[Text]) -> float:
    """Bytes per token of GPT-2's vocabulary, over the first 100,000 characters."""
    tokenizer = load_tokenizer(find_base("gpt2", download=False).folder)
    text = texts[0][:100_000]
    return len(text.encode()) / max(1, len(encode(text, tokenizer)))


def _train_tokenizer(choice: BaseChoice, train: Sequence[Sequence[Text]], watch: StageCallback) -> BPETokenizer:
    watch("Training the tokenizer", 0, 0)
    return train_tokenizer((span for document in train for span in document), choice.vocab_size.value)


def _gather_inputs(text: EncodedText, hardware: Hardware) -> PlanInputs:
    start, base = text.start, text.start.base
    return PlanInputs(
        tokens=text.tokens,
        hardware=hardware,
        chosen=_add_tokenizer_sample(start.choice, text.tokens) if base is None else start.choice,
        vocab_size=len(text.tokenizer),
        base_shape=None if base is None else read_shape(base.config),
        base_revision="" if base is None else base.revision,
        read_before=None if base is None else _find_read_before(Path(start.choice.base.value), text.receipt),
        start_text=text.start_text,
        stop_at=text.stop_at,
        n_processes=count_processes(),
    )


def _find_read_before(base: Path, receipt: Receipt) -> OptimizerSpec | None:
    """How a base was trained, if it is a run that has learned from all of these files, as that of all voices has."""
    with suppress(EpigoneError):
        if RunFolder.is_run(base):
            run = RunFolder.open(base)
            before, known = run.read_manifest().plan, {_name_file(file) for file in run.read_receipt().files}
            if before.model.lora is None and known.issuperset(map(_name_file, receipt.files)):
                return before.optimizer
    return None


def _name_file(file: FileReceipt) -> tuple[str, int]:
    """By the text that was read of it: of a chat it may be one speaker's."""
    return file.sha256, file.n_characters


def _add_tokenizer_sample(choice: BaseChoice, tokens: TokenDataset) -> BaseChoice:
    if tokens.train.n_characters <= LEARNING_CHARACTERS:
        return choice
    part = f"trained on {LEARNING_CHARACTERS:,} characters taken evenly from the text"
    size = choice.vocab_size
    return choice._replace(vocab_size=size._replace(reason=f"{size.reason}; {part}"))


def _add_unwrapping(plan: Plan, receipt: Receipt) -> Plan:
    """The plan that says so where lines were joined."""
    n_joined = sum(file.n_lines_joined for file in receipt.files)
    if not n_joined:
        return plan
    why = f"{n_joined:,} wrapped lines were joined, so that the model writes whole paragraphs"
    return replace(plan, reasons=plan.reasons | {"unwrap": why})


def describe_ends(texts: Sequence[Text], n_documents: int) -> tuple[str, Literal["sentence", "line"]]:
    """How a text of so many documents begins without a prompt, and where it ends; seen on a part of it.

    With a few long documents it begins on a new line; with many, as a document does. Texts made of lines, such as
    verse, end with a line, others with a sentence.
    """
    blocks = (block for text in texts for block in read_blocks(text))
    start_text = "\n" if n_documents < FEW_DOCUMENTS and _has_lines(blocks, 20) else ""
    return start_text, find_unit("\n".join(read_some(texts, LOOKED_AT)))


def _has_lines(blocks: Iterable[str], n_lines: int) -> bool:
    for block in blocks:
        n_lines -= block.count("\n")
        if n_lines <= 0:
            return True
    return False


# -- measuring


def fit_to_clock(
    plan: Plan,
    settings: TrainSettings,
    model: GPT2LMHeadModel,
    tokenizer: BPETokenizer,
    tokens: TokenDataset,
    teacher: GPT2LMHeadModel | None,
) -> tuple[Plan, Estimate]:
    """The plan with as many steps as its minutes allow, and the times measured by the first process.

    The steps are taken on a copy: the model is not changed.
    """
    sampler = SampleWriter(tokenizer, settings, WriteDefaults(start_text=plan.start_text))

    def measure() -> Estimate:
        return measure_speed(deepcopy(model), tokens, plan, time_samples=sampler.time, teacher=teacher)

    try:
        found = measure()
    except TorchDynamoException as error:
        why = f"torch.compile failed here: {first_line(error):.100}"
        plan = replace(plan, compute=replace(plan.compute, compile="off"), reasons=plan.reasons | {"compile": why})
        found = measure()
    if plan.batch.n_processes > 1:
        (found,) = broadcast_object_list([found])
    if found.parts > plan.batch.parts:
        why = "computed in parts: a whole batch does not fit into memory"
        batch = replace(plan.batch, parts=found.parts)
        plan = replace(plan, batch=batch, reasons=plan.reasons | {"batch_size": why})
    if plan.schedule.minutes is not None:
        plan = set_length(plan, settings, count_steps_in_time(plan, found))
    return plan, estimate_run(plan, found)


# -- the receipt


def make_receipt(corpus: Corpus, held_out: Corpus | None, split: Split, tokens: TokenDataset) -> Receipt:
    """What was read and every change made to it, what is trained on and what is held out."""
    return Receipt(
        files=corpus.files,
        held_out_files=held_out.files if held_out else (),
        skipped=tuple(corpus.skipped),
        fingerprint=corpus.fingerprint,
        n_characters=corpus.n_characters,
        n_bytes=corpus.n_bytes,
        split=SplitReceipt(how=split.how, reason=split.reason, held_out=tuple(split.validation)),
        train=PartReceipt.count(tokens.train),
        validation=PartReceipt.count(tokens.validation),
    )
