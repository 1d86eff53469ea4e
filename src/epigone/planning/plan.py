"""The plan of a run: every number that training needs, from settings and counted tokens; and its change on a resume.

Equal settings, texts and machines give equal plans, so times are estimated from the arithmetic and not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from epigone.errors import SettingsError, TextTooShort, pluralize
from epigone.hardware import Hardware, choose_precision, find_hardware
from epigone.model.base_profile import BaseProfile, find_profile, name_base
from epigone.model.lora import can_adapt
from epigone.model.loss import Compilation
from epigone.model.size import Attention, ModelSpec, Shape, make_shape
from epigone.planning import defaults
from epigone.planning.choice import Choice, resolve
from epigone.planning.choose_base import BaseChoice
from epigone.planning.defaults import TrainingDefaults
from epigone.planning.specs import BatchSpec, ComputeSpec, OptimizerSpec, ScheduleSpec
from epigone.settings import Schedule, TrainSettings
from epigone.tokens.dataset import TokenDataset

Choices = dict[str, Choice[Any]]
"""By the name of the setting."""
FEWEST_BLOCKS = 16
"""A text is cut into at least this many blocks, so that shuffling has an effect; short texts get shorter blocks."""
WARM_UP_STEPS = 20
"""With fewer, AdamW's first steps at a rate of 3e-3 raised the loss by two nats in trials."""
STEPS_BETWEEN_EVALUATIONS = 20
"""At least, unless an epoch is shorter: an evaluation and the checkpoint after it take time."""
SMALL_PARAMETERS = 50_000_000
MATRIX_SHARE = 4.0
"""Muon's peak rate for a matrix as a multiple of AdamW's for the rest."""
LINEAR: Choice[Schedule] = Choice("linear", "to zero: best in most measurements")
LENGTHS_WORTH_COMPILING: tuple[tuple[float, Compilation, int], ...] = ((240, "full", 8), (30, "layers", 96))
"""Seconds of a run, what then pays off, and for how many layers at most. Two cores compile a block in about 6 s, which
saves a third of each step, and a whole small model in about 15 s, which saves some 7 % more."""
LENGTHS_WORTH_COMPILING_FP32: tuple[tuple[float, Compilation, int], ...] = ((300, "layers", 96),)
"""The same for a CPU that computes in fp32, if there is dropout: a block compiles in about 30 s, which saves a
seventh of each step. Without dropout it saves nothing: the products take most of the time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanInputs:
    """What a plan is made from."""

    tokens: TokenDataset
    hardware: Hardware
    chosen: BaseChoice
    vocab_size: int
    base_shape: Shape | None = None
    """None for a new model."""
    base_revision: str = ""
    read_before: OptimizerSpec | None = None
    """How the base was trained, where it is a run that has learned from this very text, and from more."""
    start_text: str = ""
    stop_at: Literal["sentence", "line"] = "sentence"
    n_processes: int = 1

    @property
    def base(self) -> str:
        """The base to start from; "none" for a new model."""
        return self.chosen.base.value

    @property
    def profile(self) -> BaseProfile | None:
        """Of the bundled base that it starts from, or that the base was tuned from."""
        return find_profile(self.base)

    @property
    def n_bytes(self) -> int:
        """Bytes of the training text."""
        return self.tokens.train.n_bytes

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU computes."""
        return self.hardware.device == "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Every number that training needs."""

    model: ModelSpec
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    batch: BatchSpec
    compute: ComputeSpec
    seed: Annotated[int, Field(ge=0)]
    """Of the random initial weights, dropout, and the order of the blocks."""
    start_text: str
    """The prefix of a text that is generated without a prompt; if empty, the end-of-text token."""
    stop_at: Literal["sentence", "line"]
    """Where a text ends that is written with the model, unless the user says otherwise."""
    teacher: str
    """The run that is distilled from, as the user named it; "" for none."""
    reasons: dict[str, str]
    """Why the values are as they are, by the names of the settings."""

    @property
    def most_steps(self) -> int:
        """Steps in all epochs."""
        return self.batch.count_steps(self.schedule.epochs)

    @property
    def is_sharded(self) -> bool:
        """Whether the processes divide the model between them; a single one has it whole, whatever was planned."""
        return self.compute.shards and self.batch.n_processes > 1


def make_plan(settings: TrainSettings, inputs: PlanInputs) -> Plan:
    """The plan for counted tokens. Raises SettingsError, TextTooShort."""
    block_size = _choose_block_size(settings, inputs)
    epochs = _choose_epochs(settings, inputs)
    shape = _choose_shape(settings, inputs, block_size.value, epochs.value)
    best = _find_defaults(settings, inputs, shape.value, epochs.value)
    model, of_model = _plan_model(settings, inputs, shape, best)
    optimizer, of_optimizer = _plan_optimizer(settings, best)
    batch, of_batch = _plan_batch(settings, inputs, block_size)
    schedule, of_schedule = _plan_schedule(settings, epochs, best, batch)
    compute, of_compute = _plan_compute(settings, inputs.hardware, model, schedule, batch)
    return Plan(
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        batch=batch,
        compute=compute,
        seed=settings.seed,
        start_text=inputs.start_text,
        stop_at=inputs.stop_at,
        teacher="",
        reasons=_list_reasons(of_model | of_optimizer | of_batch | of_schedule | of_compute),
    )


def _list_reasons(choices: Choices) -> dict[str, str]:
    return {name: choice.reason for name, choice in choices.items() if choice.reason}


def _choose_block_size(settings: TrainSettings, inputs: PlanInputs) -> Choice[int]:
    n_tokens, limit = len(inputs.tokens.train.ids), 8192
    if inputs.base_shape is None:
        seconds = math.inf if settings.minutes == "none" else 60 * settings.minutes
        best = defaults.choose_block(inputs.n_bytes, inputs.on_cpu, seconds)
    else:
        limit = inputs.base_shape.n_positions
        best = min(limit, 256 if inputs.on_cpu else 1024)
    fewest = inputs.profile.fewest_blocks if inputs.profile else FEWEST_BLOCKS
    fits, reason = max(8, n_tokens // fewest), "enough context for a few sentences"
    if fits < best:
        best, reason = 2 ** int(math.log2(fits)), f"so that {n_tokens:,} tokens make {fewest} blocks or more"
    block_size = resolve(settings.block_size, Choice(best, reason))
    if block_size.value > limit:
        raise SettingsError(
            f"--block-size {block_size.value} is more than the {limit} positions of {inputs.base}.",
            hint=f"Use {limit} or less, or --base none.",
        )
    if n_tokens <= block_size.value:
        raise TextTooShort(
            f"The training text has {n_tokens:,} tokens; one block needs more than {block_size.value:,}.",
            hint=f"Give more text, or --block-size {best}." if best < block_size.value else "Give more text.",
        )
    return block_size


def _choose_epochs(settings: TrainSettings, inputs: PlanInputs) -> Choice[float]:
    best, why = defaults.choose_epochs(inputs.base, inputs.n_bytes), f"about right for {inputs.n_bytes:,} bytes"
    if inputs.read_before is not None:
        best, why = max(1.0, round(defaults.PASSES_AGAIN * best)), f"few: {name_base(inputs.base)} has read this text"
    timed = f"at most {best:g} epochs, if the minutes allow: " if settings.minutes != "none" else ""
    return resolve(settings.epochs, Choice(best, timed + why))


def _choose_shape(settings: TrainSettings, inputs: PlanInputs, block_size: int, epochs: float) -> Choice[Shape]:
    if inputs.base_shape is not None:
        return Choice(inputs.base_shape, "")

    def make(size: str) -> Shape:
        return make_shape(size, block_size=block_size, vocab_size=inputs.vocab_size)

    def count_tokens(size: str) -> float:
        passes = min(epochs, _guess_passes(settings, inputs, make(size)))
        return passes * inputs.tokens.train.n_tokens / make(size).n_parameters

    size = resolve(settings.size, defaults.choose_size(inputs.n_bytes, inputs.on_cpu, count_tokens))
    return Choice(make(size.value), size.reason)


def _find_defaults(settings: TrainSettings, inputs: PlanInputs, shape: Shape, epochs: float) -> TrainingDefaults:
    passes, lora = min(epochs, _guess_passes(settings, inputs, shape)), settings.lora != "none"
    best = defaults.choose_defaults(inputs.base, shape, inputs.n_bytes, epochs=epochs, passes=passes, lora=lora)
    if inputs.read_before is None or lora:
        return best
    name, rate = inputs.read_before.name, defaults.RATE_AGAIN * inputs.read_before.learning_rate
    return best._replace(
        optimizer=Choice(name, f"{name_base(inputs.base)} was trained with it"),
        rates=best.rates | {name: rate},
        rate_reason=f"{defaults.RATE_AGAIN:.0%} of that of {name_base(inputs.base)}, which has read this text",
        beta2=inputs.read_before.beta2,
        momentum=inputs.read_before.momentum,
        embedding_share=inputs.read_before.embedding_share,
    )


def _guess_passes(settings: TrainSettings, inputs: PlanInputs, shape: Shape) -> float:
    """Passes over the text that the minutes allow, from the arithmetic alone; no limit without minutes."""
    if settings.minutes == "none":
        return math.inf
    seconds = shape.guess_seconds(inputs.tokens.train.n_tokens, shape.n_positions, inputs.hardware)
    return 60 * settings.minutes * inputs.n_processes / seconds


# -- the model


def _plan_model(
    settings: TrainSettings, inputs: PlanInputs, shape: Choice[Shape], best: TrainingDefaults
) -> tuple[ModelSpec, Choices]:
    dropout = resolve(settings.dropout, best.dropout)
    lora = _choose_lora(settings, inputs)
    attention = _choose_attention(shape.value, inputs)
    spec = ModelSpec(
        base=inputs.base,
        base_revision=inputs.base_revision,
        shape=shape.value,
        dropout=dropout.value,
        lora=lora.value,
        attention=attention.value,
    )
    choices: Choices = {"size": shape, "dropout": dropout, "lora": lora, "attention": attention}
    return spec, choices | inputs.chosen._asdict()


def _choose_lora(settings: TrainSettings, inputs: PlanInputs) -> Choice[int | None]:
    rank = settings.lora
    if rank == "none":
        return Choice(None, "")
    if inputs.base_shape is None:
        raise SettingsError(f"--lora {rank} needs a base to adapt.", hint="Add --base gpt2, or leave --lora out.")
    if settings.optimizer == "muon":
        raise SettingsError("--optimizer muon does not go with --lora.", hint="Leave one of them out.")
    if not can_adapt():
        raise SettingsError("--lora needs the package peft.", hint='Install it: pip install "epigone[lora]"')
    return Choice(rank, "as asked: adapters are trained, and merged into the base's weights at the end")


def _choose_attention(shape: Shape, inputs: PlanInputs) -> Choice[Attention]:
    if inputs.on_cpu and shape.n_parameters < SMALL_PARAMETERS:
        return Choice("eager", "plain is fastest for small models on a CPU")
    return Choice("sdpa", "fused is fastest here")


# -- optimizer and batches


def _plan_optimizer(settings: TrainSettings, best: TrainingDefaults) -> tuple[OptimizerSpec, Choices]:
    name = resolve(settings.optimizer, best.optimizer)
    rate = resolve(settings.learning_rate, Choice(best.rates[name.value], best.rate_reason))
    decay = resolve(settings.weight_decay, best.weight_decay)
    muon = name.value == "muon"
    spec = OptimizerSpec(
        name=name.value,
        learning_rate=rate.value,
        matrix_share=MATRIX_SHARE if muon else 1.0,
        embedding_share=best.embedding_share if muon else 1.0,
        momentum=best.momentum,
        beta2=best.beta2,
        weight_decay=decay.value,
        max_grad_norm=settings.max_grad_norm,
    )
    return spec, {"optimizer": name, "learning_rate": rate, "weight_decay": decay}


def _plan_batch(settings: TrainSettings, inputs: PlanInputs, block_size: Choice[int]) -> tuple[BatchSpec, Choices]:
    n_blocks = len(inputs.tokens.train.ids) // block_size.value
    batch_size = _choose_batch_size(settings, inputs, block_size.value, n_blocks)
    accumulation = resolve(settings.gradient_accumulation, Choice(1, "the batch is large enough"))
    spec = BatchSpec(
        block_size=block_size.value,
        n_blocks=n_blocks,
        batch_size=batch_size.value,
        gradient_accumulation=accumulation.value,
        n_processes=inputs.n_processes,
        parts=1,
    )
    return spec, {"block_size": block_size, "batch_size": batch_size, "gradient_accumulation": accumulation}


def _choose_batch_size(settings: TrainSettings, inputs: PlanInputs, block_size: int, n_blocks: int) -> Choice[int]:
    if inputs.on_cpu:
        at_once, reason = _choose_tokens_per_step(inputs) // block_size, "fastest on a CPU"
    else:
        at_once, reason = 16_384 // block_size, "keeps a GPU busy"
    most = n_blocks // 4
    if most < at_once:
        at_once, reason = most, "so that a pass over this short text takes several steps"
    return resolve(settings.batch_size, Choice(max(1, at_once), reason))


def _choose_tokens_per_step(inputs: PlanInputs) -> int:
    if inputs.profile:
        return inputs.profile.choose_tokens_per_step(inputs.n_bytes)
    return 2048 if inputs.base_shape is None else 1024


# -- schedule and length


def _plan_schedule(
    settings: TrainSettings, epochs: Choice[float], best: TrainingDefaults, batch: BatchSpec
) -> tuple[ScheduleSpec, Choices]:
    name = resolve(settings.schedule, LINEAR)
    patience = resolve(settings.patience, best.patience)
    spec = ScheduleSpec(
        name=name.value,
        arguments=settings.schedule_arguments,
        epochs=epochs.value,
        minutes=None if settings.minutes == "none" else settings.minutes,
        patience=None if patience.value == "none" else patience.value,
        keep_best=settings.keep_best,
        evaluate_every=None if settings.evaluate_every == "auto" else settings.evaluate_every,
        n_steps=1,  # this and the rest: see _fit_length
        warmup_ratio=0.0,
        evaluations_per_epoch=1,
        report_every=1,
    )
    spec, of_length = _fit_length(spec, batch, settings)
    return spec, {"schedule": name, "epochs": epochs, "patience": patience, **of_length}


def _fit_length(
    schedule: ScheduleSpec, batch: BatchSpec, settings: TrainSettings, n_steps: int | None = None
) -> tuple[ScheduleSpec, Choices]:
    most = batch.count_steps(schedule.epochs)
    n_steps = max(1, min(most, n_steps or most))
    in_all = max(math.ceil(n_steps / batch.steps_per_epoch), min(10, n_steps // STEPS_BETWEEN_EVALUATIONS))
    often = Choice(1, "once a pass over the text")
    if n_steps < 5 * batch.steps_per_epoch:
        often = Choice(max(1, round(in_all * batch.steps_per_epoch / n_steps)), f"about {in_all} in all")
    share = min(0.25, max(0.05, WARM_UP_STEPS / n_steps))
    warmup = resolve(settings.warmup_ratio, Choice(share, "the first steps are the least stable"))
    fitted = replace(
        schedule,
        n_steps=n_steps,
        warmup_ratio=warmup.value,
        evaluations_per_epoch=often.value,
        report_every=min(50, max(1, n_steps // 200)),
    )
    return fitted, {"warmup_ratio": warmup, "evaluations_per_epoch": often}


def set_length(plan: Plan, settings: TrainSettings, n_steps: int | None = None) -> Plan:
    """The plan with its number of steps, and evaluations at every epoch or, if these are few, ten or so in all.

    `n_steps` is what the clock is expected to allow; without it the epochs decide.
    """
    schedule, choices = _fit_length(plan.schedule, plan.batch, settings, n_steps)
    return replace(plan, schedule=schedule, reasons=plan.reasons | _list_reasons(choices))


# -- the machine


def _plan_compute(
    settings: TrainSettings, hardware: Hardware, model: ModelSpec, schedule: ScheduleSpec, batch: BatchSpec
) -> tuple[ComputeSpec, Choices]:
    precision = Choice(*choose_precision(settings.precision, hardware))
    n_tokens = schedule.n_steps * batch.tokens_per_step / batch.n_processes
    seconds = model.shape.guess_seconds(n_tokens, batch.block_size, hardware)
    seconds = min(seconds, 60 * (schedule.minutes or math.inf))
    slow = hardware.device == "cpu" and precision.value == "fp32"
    compilation = resolve(settings.compile, _choose_compilation(seconds, model, hardware, slow=slow))
    shards, checkpoints = _choose_memory(settings, hardware, model, batch)
    if shards.value and compilation.value == "full":
        compilation = Choice("layers", "a model that is divided between processes is compiled layer by layer")
    spec = ComputeSpec(
        device=hardware.device,
        n_threads=hardware.n_threads,
        precision=precision.value,
        compile=compilation.value,
        machine=hardware.machine,
        shards=shards.value,
        checkpoints=checkpoints.value,
    )
    memory = {"shard": shards, "gradient_checkpointing": checkpoints}
    return spec, {"precision": precision, "compile": compilation, **memory}


STATE_BYTES = 16
"""For each parameter: weight, gradient and two averages of AdamW, in fp32."""
LAYER_BYTES, HEAD_BYTES = 40, 10
"""Of each token: for each layer and its width, what is kept for the gradient (with bf16); and for each entry of the
vocabulary, the logits and their gradient."""
FITS = "memory is enough, as far as is known"
USABLE = 0.9
"""Of a device's memory."""


def _choose_memory(
    settings: TrainSettings, hardware: Hardware, model: ModelSpec, batch: BatchSpec
) -> tuple[Choice[bool], Choice[bool]]:
    """Whether to divide the model between the processes, and whether to compute layers again."""
    shape, has_memory = model.shape, USABLE * hardware.memory_bytes
    state: float = STATE_BYTES * shape.n_parameters
    several = batch.n_processes > 1 and model.lora is None
    shared = state / batch.n_processes if several else state
    if settings.shard == "auto":
        needs = several and hardware.device == "cuda" and state + _measure_block(shape, batch) > has_memory
        why = _describe_memory(model, batch, hardware) if hardware.device == "cuda" and state > has_memory / 2 else FITS
        shards = Choice(needs, why)
    else:
        shards = Choice(settings.shard == "on" and several, "as asked")
    if settings.gradient_checkpointing == "auto":
        state = shared if shards.value else state
        needs = hardware.device == "cuda" and state + _measure_block(shape, batch) > has_memory
        return shards, Choice(needs, "a block would not fit otherwise" if needs else FITS)
    return shards, Choice(settings.gradient_checkpointing == "on", "as asked")


def _measure_block(shape: Shape, batch: BatchSpec) -> float:
    """Bytes that one block takes, as few as a process computes at once."""
    return batch.block_size * (LAYER_BYTES * shape.n_layer * shape.n_embd + HEAD_BYTES * shape.vocab_size)


def _describe_memory(model: ModelSpec, batch: BatchSpec, hardware: Hardware) -> str:
    """What fits where."""
    whole = STATE_BYTES * model.n_parameters / 1e9
    block = _measure_block(model.shape, batch) / 1e9
    n = batch.n_processes
    fewest = math.ceil(whole / max(0.1, USABLE * hardware.memory_bytes / 1e9 - block))
    each = f", {whole / n:.1f} GB in each of {n} that divide them" if n > 1 else ""
    return (
        f"weights, gradient and optimizer take {whole:.1f} GB{each}, and a block {block:.1f} GB; a device has "
        f"{hardware.memory_bytes / 1e9:.1f} GB, so {fewest} of them are enough"
    )


def _choose_compilation(seconds: float, model: ModelSpec, hardware: Hardware, *, slow: bool) -> Choice[Compilation]:
    """By the length of the run, estimated from its arithmetic alone: equal settings must give equal plans."""
    if not hardware.compiles:
        return Choice("off", "torch.compile finds no compiler here")
    if slow and not model.dropout:
        return Choice("off", "saves nothing in fp32 without dropout")
    for limit, compilation, few in LENGTHS_WORTH_COMPILING_FP32 if slow else LENGTHS_WORTH_COMPILING:
        if seconds >= limit and model.shape.n_layer <= few:
            return Choice(compilation, "pays off in a run of this length, guessed from its arithmetic")
    return Choice("off", "would not pay off in a run of this length, guessed from its arithmetic")


# -- resuming


def extend_plan(plan: Plan, settings: TrainSettings, changes: Mapping[str, Any]) -> Plan:
    """The plan with another length, patience or learning rate; everything else stays as it was."""
    if not changes:
        return plan
    before, minutes = plan.schedule, None if settings.minutes == "none" else settings.minutes
    in_time = None
    if minutes is not None and before.minutes is not None:
        in_time = round(before.n_steps * minutes / before.minutes)
    patience = before.patience if settings.patience == "auto" else settings.patience
    schedule = replace(
        before,
        epochs=changes.get("epochs", before.epochs),
        minutes=minutes,
        patience=None if patience == "none" else patience,
    )
    optimizer = replace(plan.optimizer, learning_rate=changes.get("learning_rate", plan.optimizer.learning_rate))
    why = {"learning_rate": "as asked when the run was resumed"} if "learning_rate" in changes else {}
    longer = replace(plan, schedule=schedule, optimizer=optimizer, reasons=plan.reasons | why)
    return set_length(longer, settings, in_time)


def adapt_to_processes(plan: Plan, n_processes: int, on_note: Callable[[str], None]) -> Plan:
    """The plan for another number of processes, which divide the same batches."""
    if plan.batch.n_processes == n_processes:
        return plan
    on_note(
        f"The run was planned for {_count_processes(plan.batch.n_processes)} and continues in "
        f"{_count_processes(n_processes)}: they divide the same batches, so that the result differs only by rounding "
        "and by what dropout draws."
    )
    compute = replace(plan.compute, n_threads=find_hardware(plan.compute.device).n_threads)
    return replace(plan, batch=replace(plan.batch, n_processes=n_processes), compute=compute)


def _count_processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"


def adapt_to_machine(plan: Plan, settings: TrainSettings, on_note: Callable[[str], None]) -> Plan:
    """The plan for this machine: as it is on the one that it was made for, elsewhere with another device, threads, …"""
    before, hardware = plan.compute, _find_planned(plan.compute.device)
    if hardware is not None and hardware.machine == before.machine:
        after, where = before, ""
    else:
        hardware, asked = _find_asked(settings)
        after, _ = _plan_compute(asked, hardware, plan.model, plan.schedule, plan.batch)
        where = f"on this machine ({after.machine}), which is not the planned one ({before.machine or 'unknown'}), "
    if after.n_threads > hardware.n_cores:
        after = replace(after, n_threads=hardware.n_threads)
    if hardware.device != "mps" and not hardware.compiles:  # "auto" would not have chosen it, and it would fail
        after = replace(after, compile="off")
    if changes := _list_changes(before, after):
        on_note(f"Training continues {where}with {' and '.join(changes)}.")
    return replace(plan, compute=after)


def _find_planned(device: str) -> Hardware | None:
    """The planned device, if this machine has it."""
    try:
        return find_hardware(device)
    except SettingsError:
        return None


def _find_asked(settings: TrainSettings) -> tuple[Hardware, TrainSettings]:
    """The device that was asked for, or the best one that there is; and the settings, as far as it can follow them."""
    hardware = _find_planned(settings.device) or find_hardware("auto")
    try:
        choose_precision(settings.precision, hardware)
    except SettingsError:
        settings = settings.model_copy(update={"precision": "auto"})
    return hardware, settings


def _list_changes(before: ComputeSpec, after: ComputeSpec) -> list[str]:
    """What changed but the machine itself, as "2 threads instead of 64"."""
    threads = pluralize(after.n_threads, "thread")
    changes = (
        (before.device, after.device, f"device {after.device}"),
        (before.n_threads, after.n_threads, threads),
        (before.precision, after.precision, f"precision {after.precision}"),
        (before.compile, after.compile, f"compile {after.compile}"),
        (before.checkpoints, after.checkpoints, f"gradient checkpointing {after.checkpoints}"),
    )
    return [f"{words} instead of {old}" for old, new, words in changes if old != new]
