"""The plan of a run: every number that training needs, from settings and counted tokens; and its change on a resume.

Equal settings, texts and machines give equal plans, so times are estimated from the arithmetic and not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from epigone.errors import SettingsError, TextTooShort
from epigone.hardware import Hardware, Precision, choose_precision, find_hardware
from epigone.model.base_profile import BASES
from epigone.model.lora import can_adapt
from epigone.model.loss import Compilation
from epigone.model.size import Attention, ModelSpec, Shape, make_shape
from epigone.planning import defaults
from epigone.planning.choose_base import BaseChoice, SettingResolver
from epigone.planning.defaults import choose_defaults, choose_epochs
from epigone.settings import TrainSettings
from epigone.tokens.dataset import TokenDataset

FEWEST_BLOCKS = 16
"""A text is cut into at least this many blocks, so that shuffling has an effect; short texts get shorter blocks."""
WARM_UP_STEPS = 20
"""With fewer, AdamW's first steps at a rate of 3e-3 raised the loss by two nats in trials."""
STEPS_BETWEEN_EVALUATIONS = 20
"""At least, unless an epoch is shorter: an evaluation and the checkpoint after it take time."""
SMALL_PARAMETERS = 50_000_000
MATRIX_RATE = 4.0
"""Muon's peak rate for a matrix as a multiple of AdamW's for the rest."""
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
    route: BaseChoice
    vocab_size: int
    base_shape: Shape | None = None
    """None for a new model."""
    base_revision: str = ""
    start_text: str = ""
    n_processes: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Every number that training needs. Steps and blocks are counted over all processes."""

    base: str
    base_revision: str
    shape: Shape
    n_parameters: int
    dropout: float
    lora: int | None = None
    """Rank of the adapters that are trained instead of the base's own weights; None to train all weights."""
    teacher: str = ""
    """The run that is distilled from, as the user named it; "" for none."""
    attention: Attention
    compile: Compilation
    optimizer: Literal["adamw", "muon"]
    device: Literal["cpu", "cuda", "mps"]
    precision: Precision
    n_threads: int
    n_processes: int
    block_size: int
    n_blocks: int
    """Blocks in one pass over the text."""
    batch_size: int
    """Blocks of a batch in one process, which computes them at once if they fit into memory."""
    gradient_accumulation: int
    parts: int = 1
    """Into how many parts, as equal as possible, each batch is divided because it does not fit into memory."""
    epochs: float
    """Passes over the text, at most: minutes or patience may end the run before."""
    minutes: float | None
    n_steps: int
    """Steps of the whole run; an estimate where the clock may end it."""
    learning_rate: float
    matrix_learning_rate: float
    """Peak learning rate of the matrices inside the layers; with AdamW the same as `learning_rate`."""
    embedding_share: float = 1.0
    """With Muon, the embeddings' peak learning rate as a multiple of `learning_rate`."""
    momentum: float = 0.95
    beta2: float
    schedule: str
    schedule_arguments: tuple[str, ...]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    patience: int | None
    """Training stops after this many evaluations without improvement."""
    evaluations_per_epoch: int
    """Evaluations in a pass over the text, at equal distances; under a time limit as far as it affords them."""
    evaluate_every: int | None
    """Steps between further evaluations."""
    report_every: int
    """Steps between reports."""
    start_text: str
    """The prefix of a text that is generated without a prompt; if empty, the end-of-text token."""
    seed: int
    n_train_tokens: int
    n_validation_tokens: int
    n_validation_bytes: int
    keep_best: Literal["loss", "quality"] = "loss"
    """Whether an epoch whose samples copy or repeat themselves can be the best one."""
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def model_spec(self) -> ModelSpec:
        """What is needed to build the model."""
        return ModelSpec(
            shape=self.shape, dropout=self.dropout, lora=self.lora, attention=self.attention, seed=self.seed
        )

    @property
    def fresh(self) -> bool:
        """Whether the model starts from random weights."""
        return self.base == "none"

    @property
    def blocks_per_step(self) -> int:
        """Blocks in one step."""
        return self.batch_size * self.gradient_accumulation * self.n_processes

    def list_rows(self, process: int, parts: int) -> list[slice]:
        """The blocks of a step that one process computes, each batch divided into `parts`."""
        edges = [part * self.batch_size // parts for part in range(parts + 1)]
        firsts = [
            (number * self.n_processes + process) * self.batch_size for number in range(self.gradient_accumulation)
        ]
        return [slice(first + start, first + end) for first in firsts for start, end in pairwise(edges)]

    @property
    def tokens_per_step(self) -> int:
        """Tokens in one step."""
        return self.blocks_per_step * self.block_size

    @property
    def most_steps(self) -> int:
        """Steps in all epochs."""
        return max(1, math.ceil(self.n_blocks * self.epochs / self.blocks_per_step))

    @property
    def steps_per_epoch(self) -> float:
        """Steps in one pass over the text; need not be whole."""
        return self.n_blocks / self.blocks_per_step


def make_plan(settings: TrainSettings, facts: PlanInputs) -> Plan:
    """The plan for counted tokens. Raises SettingsError, TextTooShort."""
    pick = SettingResolver(settings)
    hardware, train = facts.hardware, facts.tokens.train
    block_size = _choose_block(pick, facts)
    epochs = _choose_epochs(pick, facts.route.base, train.n_bytes)
    shape = facts.base_shape or _choose_shape(pick, facts, block_size, epochs)
    eager = hardware.device == "cpu" and shape.n_parameters < SMALL_PARAMETERS
    precision, pick.reasons["precision"] = choose_precision(settings.precision, hardware)
    pick.reasons["base"], pick.reasons["vocab_size"] = facts.route.reason, facts.route.vocab_size_reason
    pick.reasons["attention"] = "plain is fastest for small models on a CPU" if eager else "fused is fastest here"
    n_blocks = len(train.ids) // block_size
    plan = Plan(
        base=facts.route.base,
        base_revision=facts.base_revision,
        shape=shape,
        n_parameters=shape.n_parameters,
        attention="eager" if eager else "sdpa",
        compile="off",
        device=hardware.device,
        precision=precision,
        n_threads=hardware.n_threads,
        n_processes=facts.n_processes,
        block_size=block_size,
        n_blocks=n_blocks,
        batch_size=_choose_batch(pick, facts, block_size, n_blocks),
        gradient_accumulation=pick.choose("gradient_accumulation", 1, "the batch is large enough"),
        lora=_choose_lora(pick, facts),
        **_choose_learning(pick, facts, shape, epochs),
        minutes=None if settings.minutes == "none" else settings.minutes,
        n_steps=0,
        evaluations_per_epoch=1,
        evaluate_every=None if settings.evaluate_every == "auto" else settings.evaluate_every,
        report_every=1,
        max_grad_norm=settings.max_grad_norm,
        keep_best=settings.keep_best,
        start_text=facts.start_text,
        seed=settings.seed,
        n_train_tokens=train.n_tokens,
        n_validation_tokens=facts.tokens.validation.n_tokens,
        n_validation_bytes=facts.tokens.validation.n_bytes,
        reasons=pick.reasons,
    )
    plan = set_length(plan, settings)
    compilation, reason = _choose_compilation(settings, plan, hardware)
    return replace(plan, compile=compilation, reasons=plan.reasons | {"compile": reason})


def set_length(plan: Plan, settings: TrainSettings, n_steps: int | None = None) -> Plan:
    """The plan with its number of steps, and evaluations at every epoch or, if these are few, ten or so in all.

    `n_steps` is what the clock is expected to allow; without it the epochs decide.
    """
    n_steps = max(1, min(plan.most_steps, n_steps or plan.most_steps))
    few = n_steps < 5 * plan.steps_per_epoch
    in_all = max(math.ceil(n_steps / plan.steps_per_epoch), min(10, n_steps // STEPS_BETWEEN_EVALUATIONS))
    reason = f"about {in_all} in all" if few else "once a pass over the text"
    warmup_ratio = (
        min(0.25, max(0.05, WARM_UP_STEPS / n_steps)) if settings.warmup_ratio == "auto" else settings.warmup_ratio
    )
    return replace(
        plan,
        n_steps=n_steps,
        warmup_ratio=warmup_ratio,
        evaluations_per_epoch=max(1, round(in_all * plan.steps_per_epoch / n_steps)) if few else 1,
        report_every=min(50, max(1, n_steps // 200)),
        reasons=plan.reasons | {"evaluations_per_epoch": reason},
    )


def _choose_compilation(settings: TrainSettings, plan: Plan, hardware: Hardware) -> tuple[Compilation, str]:
    """By the length of the run, estimated from its arithmetic alone: equal settings must give equal plans."""
    if settings.compile != "auto":
        return settings.compile, "as asked"
    if not hardware.compiles:
        return "off", "torch.compile finds no compiler here"
    n_tokens = plan.n_steps * plan.tokens_per_step / plan.n_processes
    seconds = min(plan.shape.guess_seconds(n_tokens, plan.block_size, hardware), 60 * (plan.minutes or math.inf))
    slow = hardware.device == "cpu" and plan.precision == "fp32"
    if slow and not plan.dropout:
        return "off", "saves nothing in fp32 without dropout"
    for limit, compilation, few in LENGTHS_WORTH_COMPILING_FP32 if slow else LENGTHS_WORTH_COMPILING:
        if seconds >= limit and plan.shape.n_layer <= few:
            return compilation, f"pays off in a run of about {seconds / 60:.1f} minutes"
    return "off", f"would not pay off in a run of about {seconds:.0f} seconds"


def _choose_block(pick: SettingResolver, facts: PlanInputs) -> int:
    n_tokens = len(facts.tokens.train.ids)
    if facts.base_shape is None:
        seconds = math.inf if pick.settings.minutes == "none" else 60 * pick.settings.minutes
        limit, best = 8192, defaults.choose_block(facts.tokens.train.n_bytes, facts.hardware.device == "cpu", seconds)
    else:
        limit = facts.base_shape.n_positions
        best = min(limit, 256 if facts.hardware.device == "cpu" else 1024)
    profile = BASES.get(facts.route.base)
    fewest = FEWEST_BLOCKS if profile is None else profile.fewest_blocks
    fits = max(8, n_tokens // fewest)
    reason = "enough context for a few sentences"
    if fits < best:
        best, reason = 2 ** int(math.log2(fits)), f"so that {n_tokens:,} tokens make {fewest} blocks or more"
    block_size = int(pick.choose("block_size", best, reason))
    if block_size > limit:
        raise SettingsError(
            f"--block-size {block_size} is more than the {limit} positions of {facts.route.base}.",
            hint=f"Use {limit} or less, or --base none.",
        )
    if n_tokens <= block_size:
        raise TextTooShort(
            f"The training text has {n_tokens:,} tokens; one block needs more than {block_size:,}.",
            hint=f"Give more text, or --block-size {best}." if best < block_size else "Give more text.",
        )
    return block_size


def _choose_shape(pick: SettingResolver, facts: PlanInputs, block_size: int, epochs: float) -> Shape:
    def make(size: str) -> Shape:
        return make_shape(size, block_size=block_size, vocab_size=facts.vocab_size)

    def count_tokens(size: str) -> float:
        shape = make(size)
        passes = min(epochs, _guess_passes(pick.settings, facts, shape))
        return passes * train.n_tokens / shape.n_parameters

    train, on_processor = facts.tokens.train, facts.hardware.device == "cpu"
    return make(pick.choose("size", *defaults.choose_size(train.n_bytes, on_processor, count_tokens)))


def _choose_batch(pick: SettingResolver, facts: PlanInputs, block_size: int, n_blocks: int) -> int:
    if facts.hardware.device == "cpu":
        at_once, reason = _choose_tokens_per_step(facts) // block_size, "fastest on a CPU"
    else:
        at_once, reason = 16_384 // block_size, "keeps a GPU busy"
    most = n_blocks // (4 * facts.n_processes)
    if most < at_once:
        at_once, reason = most, "so that a pass over this short text takes several steps"
    return int(pick.choose("batch_size", max(1, at_once), reason))


def _choose_tokens_per_step(facts: PlanInputs) -> int:
    if facts.route.base in BASES:
        return BASES[facts.route.base].choose_tokens_per_step(facts.tokens.train.n_bytes)
    return 2048 if facts.base_shape is None else 1024


def _choose_lora(pick: SettingResolver, facts: PlanInputs) -> int | None:
    rank = pick.settings.lora
    if rank == "none":
        return None
    if facts.base_shape is None:
        raise SettingsError(f"--lora {rank} needs a base to adapt.", hint="Add --base gpt2, or leave --lora out.")
    if pick.settings.optimizer == "muon":
        raise SettingsError("--optimizer muon does not go with --lora.", hint="Leave one of them out.")
    if not can_adapt():
        raise SettingsError("--lora needs the package peft.", hint='Install it: pip install "epigone[lora]"')
    pick.reasons["lora"] = "as asked: adapters are trained, and merged into the base's weights at the end"
    return rank


def _choose_learning(pick: SettingResolver, facts: PlanInputs, shape: Shape, epochs: float) -> dict[str, Any]:
    """Epochs, optimizer, learning rates, regularisation and patience."""
    base, n_bytes = facts.route.base, facts.tokens.train.n_bytes
    passes = min(epochs, _guess_passes(pick.settings, facts, shape))
    best = choose_defaults(base, shape, n_bytes, passes, lora=pick.settings.lora != "none")
    optimizer = pick.choose("optimizer", *best.optimizer)
    rate = float(pick.choose("learning_rate", best.rates[optimizer], best.rate_reason))
    soon = max(3, min(10, round(epochs / 3))), "once a model overfits, later epochs are rarely better"
    patience = pick.choose("patience", *(best.patience or soon))
    return {
        "epochs": epochs,
        "optimizer": optimizer,
        "learning_rate": rate,
        "matrix_learning_rate": MATRIX_RATE * rate if optimizer == "muon" else rate,
        "embedding_share": best.embedding_share if optimizer == "muon" else 1.0,
        "momentum": best.momentum,
        "beta2": best.beta2,
        "schedule": pick.choose("schedule", "linear", "to zero: best in most measurements"),
        "schedule_arguments": pick.settings.schedule_arguments,
        "warmup_ratio": pick.choose("warmup_ratio", 0.05, "the first steps are the least stable"),
        "weight_decay": pick.choose("weight_decay", *best.weight_decay),
        "dropout": pick.choose("dropout", *best.dropout),
        "patience": None if patience == "none" else patience,
    }


def _choose_epochs(pick: SettingResolver, base: str, n_bytes: int) -> float:
    timed = "at most, if the minutes allow: " if pick.settings.minutes != "none" else ""
    return float(pick.choose("epochs", choose_epochs(base, n_bytes), f"{timed}about right for {n_bytes:,} bytes"))


def _guess_passes(settings: TrainSettings, facts: PlanInputs, shape: Shape) -> float:
    """Passes over the text that the minutes allow, from the arithmetic alone; no limit without minutes."""
    if settings.minutes == "none":
        return math.inf
    seconds = shape.guess_seconds(facts.tokens.train.n_tokens, shape.n_positions, facts.hardware)
    return 60 * settings.minutes * facts.n_processes / seconds


def extend_plan(plan: Plan, settings: TrainSettings, changes: Mapping[str, Any]) -> Plan:
    """The plan with another length, patience or learning rate; everything else stays as it was."""
    if not changes:
        return plan
    minutes = None if settings.minutes == "none" else settings.minutes
    in_time = None
    if minutes is not None and plan.minutes is not None:
        in_time = round(plan.n_steps * minutes / plan.minutes)
    patience = plan.patience if settings.patience == "auto" else settings.patience
    rate = changes.get("learning_rate", plan.learning_rate)
    reasons = {"learning_rate": "as asked when the run was resumed"} if "learning_rate" in changes else {}
    longer = replace(
        plan,
        learning_rate=rate,
        matrix_learning_rate=rate * (plan.matrix_learning_rate / plan.learning_rate),
        reasons=plan.reasons | reasons,
        epochs=changes.get("epochs", plan.epochs),
        minutes=minutes,
        patience=None if patience == "none" else patience,
    )
    return set_length(longer, settings, in_time)


def adapt_to_machine(plan: Plan, on_note: Callable[[str], None]) -> Plan:
    """The plan, with another device if this machine lacks the planned one."""
    try:
        find_hardware(plan.device)
        return plan
    except SettingsError:
        hardware = find_hardware("auto")
        on_note(f"This machine has no {plan.device}: training continues on {hardware.name}.")
        precision, _ = choose_precision("auto", hardware)
        return replace(plan, device=hardware.device, n_threads=hardware.n_threads, precision=precision, compile="off")
