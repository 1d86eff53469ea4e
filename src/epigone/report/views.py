"""What a run, a text or a judgement comes to in words: sentences and rows for the terminal, the report and the card.

Nothing here knows Markdown or HTML, and nothing is escaped: that is the work of whatever shows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from epigone.errors import pluralize, quote_command
from epigone.evaluation.verdict import SENSE_LIMITS, WORD_ORDER, Judgement, Measure, Topic, Verdict, percent, roughly
from epigone.model.base_profile import find_root, name_base
from epigone.report.escape import on_one_line
from epigone.settings import SELF
from epigone.training.events import (
    LEAST_LIKENESS,
    BatchSplit,
    Estimate,
    Evaluated,
    Finished,
    Grade,
    Sampled,
    SampleStats,
    Started,
    StepReport,
    find_best,
)

if TYPE_CHECKING:
    from epigone.corpus.corpus import FileReceipt
    from epigone.evaluation.attribution import Attribution, CandidateEvidence
    from epigone.generation.scoring import Score
    from epigone.planning.plan import Plan  # which loads torch
    from epigone.planning.specs import BatchSpec, OptimizerSpec, ScheduleSpec
    from epigone.runs.records import Receipt


NO_NUMBER = "–"
SHOWN_VOICES = 3
"""In the name of a text; the others are counted."""
NOTICEABLE = 0.02
"""Nats per token: a smaller rise of the validation loss is not called overfitting."""


class Row(NamedTuple):
    """One line of a table: what, how much, and why or compared with what."""

    name: str
    value: str
    reason: str = ""


# -- numbers in words


def format_seconds(seconds: float) -> str:
    """A duration as people say it: "1 h 02 min", "3 min 12 s", "42 s"."""
    if not math.isfinite(seconds):
        return NO_NUMBER
    whole = round(max(seconds, 0))
    if whole >= 3600:
        minutes = round(whole / 60)
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def format_count(count: int) -> str:
    """A number as people say it: "5.9 million", "64 thousand", "950"."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f} {name}".replace(".0 ", " ")
    return str(count)


def format_bytes(n_bytes: int) -> str:
    """The size of a text: "95 KB", "1.2 MB"."""
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if n_bytes >= size:
            return f"{n_bytes / size:.{1 if n_bytes < 10 * size else 0}f} {name}".replace(".0 ", " ")
    return f"{n_bytes} bytes"


def format_epoch(epoch: float) -> str:
    """A number of epochs for a sentence: "3", "2.5", "0.25"."""
    return f"{epoch:.2f}".rstrip("0").rstrip(".") if math.isfinite(epoch) else NO_NUMBER


def format_rate(rate: float) -> str:
    """A learning rate to three digits: "4.75e-5"."""
    if rate == 0 or not math.isfinite(rate):
        return "0" if rate == 0 else NO_NUMBER
    digits, exponent = f"{rate:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def format_loss(loss: float | None) -> str:
    """A loss in nats per token, or a dash before the first step."""
    return NO_NUMBER if loss is None else f"{loss:.3f}"


def format_perplexity(perplexity: float) -> str:
    """A perplexity in at most seven characters: "61.7", "50,257", "1.2e+09"."""
    if perplexity < 1000:
        return f"{perplexity:.1f}"
    return f"{perplexity:,.0f}" if perplexity < 1e6 else f"{perplexity:.1e}"


def format_value(value: float, unit: str) -> str:
    """A measured value in its unit, for a sentence."""
    if unit == "share":
        return roughly(value)
    if unit == "characters":
        return f"{value:,.0f} characters"
    if unit == "of 100":
        return f"{min(100.0, max(0.0, value)):.0f} of 100"
    return f"{value:.2f} {unit}" if unit else f"{value:,.3g}"


# -- the table of epochs


@dataclass(frozen=True)
class Column:
    """One column: its full name, a short heading and its width in characters where space is tight, and its content."""

    name: str
    heading: str
    width: int
    format: Callable[[Evaluated], str]


COLUMNS = (
    Column("epoch", "epoch", 6, lambda item: f"{item.epoch:.2f}"),
    Column("step", "step", 8, lambda item: f"{item.step:,}"),
    Column("training loss", "training", 8, lambda item: format_loss(item.training_loss)),
    Column("validation loss", "validation", 10, lambda item: format_loss(item.loss)),
    Column("accuracy", "accuracy", 8, lambda item: percent(item.accuracy)),
    Column("perplexity", "perplexity", 10, lambda item: format_perplexity(item.perplexity)),
    Column("bits per byte", "bits/byte", 9, lambda item: f"{item.bits_per_byte:.3f}"),
    Column("learning rate", "rate", 7, lambda item: format_rate(item.learning_rate)),
    Column("time", "time", 11, lambda item: format_seconds(item.seconds)),
)


def epoch_table(evaluations: Sequence[Evaluated]) -> list[dict[str, str]]:
    """One row of words per evaluation, keyed by the names in `COLUMNS`; "best" is "best" in one row, else empty."""
    best = find_best(evaluations)
    return [
        {column.name: column.format(item) for column in COLUMNS} | {"best": "best" if item is best else ""}
        for item in evaluations
    ]


# -- events in words


def describe_weights(epoch: float, share: float) -> str:
    """Which weights: "epoch 3", or "a mix of 62 % epoch 3 and 38 % base" where they were interpolated."""
    name = f"epoch {format_epoch(epoch)}"
    return name if share == 1 else f"a mix of {percent(share, 0)} {name} and {percent(1 - share, 0)} base"


def describe_start(event: Started) -> str:
    """One sentence on what is about to be done."""
    epochs = format_epoch(event.epochs)
    about = "about " if event.timed else ""
    whole = f"{about}{pluralize(event.n_steps, 'step')}, {about}{epochs} epoch" + ("" if epochs == "1" else "s")
    return f"Continuing after step {event.step:,} of {whole}." if event.resumed else f"Training: {whole}."


def describe_step(event: StepReport) -> list[str]:
    """Where training is, in short pieces: epoch, loss, learning rate, speed and time left."""
    return [
        f"epoch {event.epoch:.2f}",
        f"loss {format_loss(event.loss)}",
        f"rate {format_rate(event.learning_rate)}",
        f"{event.tokens_per_second:,.0f} tokens/s",
        f"{format_seconds(event.seconds_left)} left",
    ]


def describe_batch_split(event: BatchSplit) -> str:
    """What was done when memory ran out."""
    at_once = -(-event.batch_size // event.parts)
    return (
        f"Memory ran out in step {event.step:,}, so the step was repeated: a batch of {event.batch_size} blocks is now "
        f"computed in {event.parts} parts of {at_once} at most. The result stays the same."
    )


def describe_sample_stats(found: SampleStats) -> str:
    """One line on what the samples copy and repeat, and whether they sound like the author."""
    parts = [
        f"copied {percent(found.copied)}, longest passage {pluralize(found.longest_copied, 'character')}",
        f"repeated {percent(found.repeated)}",
    ]
    if found.sounds_like is not None:
        parts.append(f"sounds like the author: {found.sounds_like:.0f} of 100")
    return "; ".join(parts)


COPYING_WARNING = (
    "The model is beginning to copy: passages of its samples stand word for word in the training text. "
    "The best epoch so far is kept."
)

WHY_ENDED = {
    "done": "Trained for {time}.",
    "time": "Time was up after {time} of training.",
    "patience": "Stopped after {time} of training: it no longer got better.",
    "interrupted": "Interrupted after {time} of training.",
}


def describe_wait(seconds: float, *, resumed: bool) -> str:
    """How long the whole command took, training and all that is done before and after it."""
    whole = "This time it took" if resumed else "In all it took"
    return f"{whole} {format_seconds(seconds)}, with loading, reading and judging."


def describe_end(event: Finished) -> str:
    """One sentence on why training ended, and one on which weights were kept."""
    why = WHY_ENDED[event.reason].format(time=format_seconds(event.seconds))
    if not math.isfinite(event.best_loss):
        return f"{why} Nothing was kept: no evaluation gave a number."
    if event.step == 0 and event.best_epoch == 0:
        return f"{why} Nothing was learned: the model is as it was, with a validation loss of {event.best_loss:.3f}."
    kept = describe_weights(event.best_epoch, event.best_share)
    of_all = f" of {format_epoch(event.epoch)}" if event.best_share == 1 else ""
    return f"{why} Kept {kept}{of_all}: validation loss {event.best_loss:.3f}, the best."


FEW_STEPS = 50
"""Below these a model has hardly moved."""
GETTING_READY = 4
"""Times what came before the first step are enough to learn something."""


def describe_shortage(event: Finished, evaluations: Sequence[Evaluated], *, fresh: bool, share: float = 1.0) -> str:
    """That the time was too short to learn much, and how long one reading of the text takes; "" where it was not.

    `share`: of the minutes that were given, what this run had; that of a voice is below 1.
    """
    if event.reason == "time" and event.step == 0:  # getting ready and the first samples took all of it
        minutes = math.ceil(GETTING_READY * event.seconds / 60 / share)
        return f"The time was over before the first step. Give it more: --minutes {minutes}"
    if event.reason not in ("time", "done") or event.epoch >= 1 or event.epoch <= 0 or not evaluations:
        return ""
    gain = 0.0 if fresh else evaluations[0].loss - event.best_loss
    if event.step >= FEW_STEPS and (fresh or gain >= NOTICEABLE):
        return ""
    seconds = _estimate_reading(event, evaluations)
    minutes, in_all = math.ceil(seconds / 60), math.ceil(seconds / 60 / share)
    voices = " (each voice has a share of the time)" if share < 1 else ""
    return (
        f"This was too short to learn much: the model has read {percent(event.epoch, 0)} of the text, in "
        f"{pluralize(event.step, 'step')}. To read it once takes about {minutes} min{voices}: --minutes {in_all}"
    )


def _estimate_reading(event: Finished, evaluations: Sequence[Evaluated]) -> float:
    """Seconds that one reading of the text takes: what comes before the first step and after the last comes once."""
    start, end = evaluations[0].seconds, max(one.seconds for one in evaluations if one.share == 1)
    start, end = (start, end) if start < end else (0.0, event.seconds)
    return start + (end - start) / event.epoch + event.seconds - end


def describe_sample(event: Sampled, number: int) -> str:
    """Which sample this is, and the prompt it continues."""
    prompt = shorten(on_one_line(event.samples[number - 1].prompt), 40, placeholder="…")
    when = "before training" if event.step == 0 else f"at {describe_weights(event.epoch, event.share)}"
    where = f"sample {number} of {len(event.samples)} {when}"
    return f'{where}, after "{prompt}"' if prompt else where


# -- the result of training in words


def describe_learning(evaluations: Sequence[Evaluated]) -> list[str]:
    """Whether the model overfitted, in one plain sentence, and then the numbers behind it."""
    best = find_best(evaluations)
    if best is None:
        return ["There is no evaluation yet, so nothing can be said."]
    if best.share < 1:
        return _describe_mix(best, evaluations)
    last, first = evaluations[-1], evaluations[0]
    numbers = [_describe_best(best) + (f" It started at {first.loss:.3f}." if first is not best else "")]
    numbers += [] if best.training_loss is None else [_describe_gap(best.training_loss, best.loss)]
    numbers += [_describe_overfitting(last, best)] if last.loss - best.loss >= NOTICEABLE else []
    return [_describe_course(best, evaluations), " ".join(numbers)]


def is_overfitting(evaluations: Sequence[Evaluated]) -> bool:
    """Whether the validation loss has risen noticeably since the best evaluation."""
    best = find_best(evaluations)
    return best is not None and evaluations[-1].loss - best.loss >= NOTICEABLE


def _describe_course(best: Evaluated, evaluations: Sequence[Evaluated]) -> str:
    epoch, last = f"epoch {format_epoch(best.epoch)}", evaluations[-1]
    if best.step == 0:
        why = "It learned nothing yet" if best is last else "Training did not help"
        return f"{why}: the model is the one that it began with."
    if best is last:
        gain = evaluations[-2].loss - best.loss if len(evaluations) > 1 else 0.0
        more = " It was still improving, so more epochs may help." if gain >= NOTICEABLE else ""
        return f"It learned without memorizing: it was best at the end, at {epoch}.{more}"
    if last.loss - best.loss < NOTICEABLE:
        return f"It was best at {epoch} and hardly changed after that."
    return f"After {epoch} it began to memorize the text, so the model of that epoch was kept."


def _describe_best(best: Evaluated) -> str:
    return (
        f"The kept model has a validation loss of {best.loss:.3f} nats per token ({best.bits_per_byte:.3f} bits per "
        f"byte of held-out text) and predicts {percent(best.accuracy)} of the held-out tokens correctly."
    )


def _describe_gap(training: float, validation: float) -> str:
    gap = validation - training
    if gap <= 0:
        return f"Its training loss, averaged over the steps before with any dropout on, was {training:.3f}: no gap."
    return f"Its training loss was {training:.3f}: a gap of {gap:.3f} between the training text and held-out text."


def _describe_overfitting(last: Evaluated, best: Evaluated) -> str:
    fall = "" if last.training_loss is None else f" and the training loss was {last.training_loss:.3f}"
    return (
        f"By epoch {format_epoch(last.epoch)} the validation loss had risen by {last.loss - best.loss:.3f}{fall}: "
        "the model was memorizing its training text."
    )


def _describe_mix(best: Evaluated, evaluations: Sequence[Evaluated]) -> list[str]:
    trained = [item for item in evaluations if item.share == 1]
    lowest = min(trained, key=lambda item: item.loss)
    overfitted = trained[-1].loss - lowest.loss >= NOTICEABLE
    return [
        f"After epoch {format_epoch(lowest.epoch)} it began to memorize; mixing it with the base undid part of that."
        if overfitted
        else "It learned without memorizing, and mixing it with the base improved it further.",
        f"The kept weights are {describe_weights(best.epoch, best.share)}. {_describe_best(best)} The base had "
        f"{evaluations[0].loss:.3f}, the end of training {trained[-1].loss:.3f}.",
    ]


# -- plan and receipt as rows


SAMPLE_TITLES = {"sample:sonnets": "Shakespeare’s sonnets"}
"""Of the texts that come with the package."""
VOICES_WHY = (
    "one of all texts, which learns what the voices share, and from it one for each, so that they can be mixed; "
    "runs without --by predict each about as well (within 1 %), in less time"
)
FEW_BYTES = 2_000
"""Of held-out text: bits per byte of less than this are hardly more than chance."""
FEW_BREAKS = 3_000, 5_000
"""Characters in a line on average, and in the longest: hardly anybody writes paragraphs like these."""
MOST_FILES_SHOWN = 8
MOST_LINES_SHOWN = 5
SHORTEST_LINE = 16
"""Characters. A shorter line may be improbable for one rare name, so it is skipped where there are longer ones."""
COMPUTED = {"eager": "plain", "sdpa": "fused"}
COMPILED = {"off": "no", "layers": "layer by layer", "full": "as a whole"}


def describe_plan(plan: Plan, estimate: Estimate | None = None) -> list[Row]:
    """The plan with the reason for each number, and what was measured for it."""
    model, optimizer, schedule, compute = plan.model, plan.optimizer, plan.schedule, plan.compute
    size = f"{pluralize(model.shape.n_layer, 'layer')}, {model.shape.n_embd} wide: {model.n_parameters:,} parameters"
    rate = f"{optimizer.learning_rate:.3g}, {schedule.name}, {schedule.warmup_ratio:.0%} warm-up"
    values = {
        "start from": ("random weights" if model.fresh else describe_base(model.base), "base"),
        "size": (size, "size"),
        "vocabulary": (f"{model.shape.vocab_size:,} tokens", "vocab_size"),
        "block": (f"{plan.batch.block_size:,} tokens", "block_size"),
        "batch": (_describe_batch(plan.batch), "batch_size"),
        "steps": (_describe_length(schedule, plan.batch), "epochs"),
        "evaluations": (_describe_evaluations(schedule), "evaluations_per_epoch"),
        "optimizer": (_describe_optimizer(optimizer), "optimizer"),
        "learning rate": (rate, "learning_rate"),
        "dropout": (f"{model.dropout:g}", "dropout"),
        "weight decay": (f"{optimizer.weight_decay:g}", "weight_decay"),
        "patience": ("off" if schedule.patience is None else pluralize(schedule.patience, "evaluation"), "patience"),
        "precision": (f"{compute.precision} on {compute.device}", "precision"),
        "attention": (COMPUTED[model.attention], "attention"),
        "compiled": (COMPILED[compute.compile], "compile"),
    }
    if plan.is_sharded or "GB" in plan.reasons.get("shard", ""):
        values["divided"] = ("between all processes" if plan.is_sharded else "no", "shard")
    if compute.checkpoints:
        values["layers"] = ("computed again for the gradient", "gradient_checkpointing")
    if model.lora is not None:
        values["LoRA"] = (f"adapters of rank {model.lora}", "lora")
    if plan.teacher:
        values["teacher"] = (plan.teacher, "teacher")
    rows = [Row(name, value, plan.reasons.get(setting, "")) for name, (value, setting) in values.items()]
    return rows + (_describe_estimate(estimate) if estimate is not None else [])


def describe_voices(sizes: Mapping[str, int]) -> list[Row]:
    """The voices with the lengths of their texts, and how they are trained."""
    rows = [Row(name, format_bytes(n_bytes), "") for name, n_bytes in sizes.items()]
    return [*rows, Row("trained as", f"{1 + len(sizes)} runs", VOICES_WHY)]


def compare_voices(voices: Mapping[str, Sequence[Evaluated]], held_out: Mapping[str, int]) -> list[Row]:
    """How well each voice's own run predicts its held-out text, and how well the run of all texts did.

    `held_out`: bytes of that text.
    """
    rows = []
    for name, evaluations in voices.items():
        best = find_best(evaluations)
        if best is not None:
            before = evaluations[0].bits_per_byte
            few = f", of {held_out[name]:,} bytes: a guess" if held_out.get(name, FEW_BYTES) < FEW_BYTES else ""
            rows.append(Row(name, f"{best.bits_per_byte:.3f}", f"{before:.3f} by the run of all texts{few}"))
    return rows


def describe_base(base: str) -> str:
    """A base and, where that is a run, what it was tuned from: "authors, which was tuned from small"."""
    root = find_root(base)
    return name_base(base) + (f", which was tuned from {name_base(root)}" if root not in (base, "none") else "")


def describe_origin(plan: Plan) -> str:
    """How the weights came about: "fine-tuned from gpt2 and distilled from another model"."""
    origin = "trained from scratch" if plan.model.fresh else f"fine-tuned from {describe_base(plan.model.base)}"
    teacher = "a first run on the same text" if plan.teacher == SELF else "another model"
    return origin + (f" and distilled from {teacher}" if plan.teacher else "")


def _describe_optimizer(spec: OptimizerSpec) -> str:
    if spec.name == "adamw":
        return "AdamW"
    embeddings = spec.embedding_share * spec.learning_rate
    apart = f", embeddings at {embeddings:.3g}" if spec.embedding_share != 1 else ""
    return f"Muon at {spec.matrix_share * spec.learning_rate:.3g}, with AdamW{apart}"


def _describe_batch(batch: BatchSpec) -> str:
    factors = [pluralize(batch.batch_size, "block")]
    factors[0] += f" in {batch.parts} parts" if batch.parts > 1 else ""
    factors += [f"{batch.gradient_accumulation} accumulated"] if batch.gradient_accumulation > 1 else []
    fewest, n_more = divmod(batch.batch_size, batch.n_processes)
    share = f"{fewest} or {fewest + 1}" if n_more else f"{fewest}"
    shared = f", {share} of them in each of {batch.n_processes} processes" if batch.n_processes > 1 else ""
    return " x ".join(factors) + shared


def _describe_length(schedule: ScheduleSpec, batch: BatchSpec) -> str:
    if schedule.minutes is None:
        return f"{schedule.n_steps:,} in {schedule.epochs:g} epochs"
    epochs = min(schedule.epochs, schedule.n_steps / batch.steps_per_epoch)
    whole = schedule.minutes.is_integer() and schedule.minutes < 60  # a voice has a share of the minutes
    time = pluralize(int(schedule.minutes), "minute") if whole else format_seconds(60 * schedule.minutes)
    return f"about {schedule.n_steps:,} in {time}: {epochs:.2g} epochs"


def _describe_evaluations(schedule: ScheduleSpec) -> str:
    per_epoch, every = schedule.evaluations_per_epoch, schedule.evaluate_every
    often = "every epoch" if per_epoch == 1 else f"{per_epoch:,} an epoch"
    return often + ("" if every is None else f", and every {pluralize(every, 'step')}")


def _describe_estimate(estimate: Estimate) -> list[Row]:
    pace = f"{estimate.seconds_per_step:.3f} s a step, {estimate.seconds_per_evaluation:.1f} s an evaluation"
    return [
        Row("time", f"about {format_seconds(estimate.seconds)}", f"measured: {pace}"),
        Row("memory", f"{estimate.memory_bytes / 1e9:.1f} GB", "measured on the same steps"),
    ]


MOST_NAMED = 3
"""Texts that are called after the first one; more of them are called what their run is called."""


def name_text(receipt: Receipt, voices: Sequence[str] = (), run: str = "") -> str:
    """What to call the text of a run: "Persuasion by Jane Austen", "Wilde novel and 2 more"; of `voices` theirs.

    `run`: the name of the run, which most often is that of the folder of its texts.
    """
    if voices:
        return on_one_line(", ".join(map(_as_words, voices[:SHOWN_VOICES]))) + _count_more(len(voices) - SHOWN_VOICES)
    first, n_more = receipt.files[0], len(receipt.files) - 1
    if n_more >= MOST_NAMED and run:
        return on_one_line(_as_words(run))
    title = first.title or SAMPLE_TITLES.get(first.name) or _name_file(first.name)
    title += f" by {first.author}" if first.title and first.author else ""
    return on_one_line(title) + _count_more(n_more)


def _count_more(n_more: int) -> str:
    return f" and {n_more:,} more" if n_more > 0 else ""


def _name_file(name: str) -> str:
    """A file's name without its folder and ending: "Wilde novel" for texts/wilde-novel.txt."""
    return _as_words(PurePath(name.rpartition(":")[2] or name).stem) or "Text"


def _as_words(name: str) -> str:
    words = re.sub(r"[-_\s]+", " ", name).strip()
    return words[:1].upper() + words[1:]


def describe_receipt(receipt: Receipt) -> list[Row]:
    """What was read, file by file, and what became training text and held-out text."""
    rows = describe_files(receipt.files, receipt.skipped)
    rows += [row for file in receipt.held_out_files for row in _describe_file(file)]
    for name, part in (("training text", receipt.train), ("held-out text", receipt.validation)):
        count = f"{pluralize(part.n_characters, 'character')}, {pluralize(part.n_tokens, 'token')}"
        held_out = part is receipt.validation
        reason = receipt.split.reason if held_out else f"{part.bytes_per_token:.2f} bytes per token"
        rows.append(Row(name, count, reason))
    return rows


def describe_files(files: Sequence[FileReceipt], skipped: Sequence[str], listed_in: str = "receipt.json") -> list[Row]:
    """What was read from each file, and what was not read. `listed_in`: the file that has all of them."""
    rows = [row for file in files[:MOST_FILES_SHOWN] for row in _describe_file(file)]
    if len(files) > MOST_FILES_SHOWN:
        n_more = len(files) - MOST_FILES_SHOWN
        rows.append(Row("…", pluralize(n_more, "more file"), f"{listed_in} lists them all"))
    return rows + [Row("skipped", reason) for reason in skipped[:MOST_FILES_SHOWN]]


def _describe_file(file: FileReceipt) -> list[Row]:
    rows = [Row(file.name, f"{pluralize(file.n_bytes, 'byte')}, {file.encoding}", file.reason)]
    if file.format != "text":
        rows = [Row(file.name, pluralize(file.n_bytes, "byte"), f"read as {file.format}, {file.encoding}")]
        about = [part for part in (file.title, file.author, file.date) if part]
        rows += [Row("  about", shorten(", ".join(about), 60, placeholder=" …"), "what the file says")] if about else []
    if file.address:
        rows.append(Row("  found at", file.address, "the address redirects there"))
    notes = [note.partition("; ") for note in file.notes]
    rows += [
        Row("  note", shorten(what, 70, placeholder=" …"), shorten(how, 90, placeholder=" …")) for what, _, how in notes
    ]
    rows += [row._replace(name=f"  {row.name}") for row in describe_cuts(file)]
    rows += [Row("  replaced", f"{one.what}: {one.count:,}", "--anonymize") for one in file.replaced]
    if file.n_lines_joined:
        why = f"the prose was wrapped at {file.wrap_width} characters; --unwrap no keeps its lines"
        rows.append(Row("  unwrapped", f"{pluralize(file.n_lines_joined, 'line')} joined to the one before", why))
    kept = f"{pluralize(file.n_characters, 'character')} in {pluralize(file.n_lines, 'line')}"
    kept += f" of {file.n_documents:,} documents" if file.n_documents > 1 else ""
    fewer = f"line endings unified, {pluralize(file.n_bytes_newlines, 'byte')} fewer"
    rows.append(Row("  kept", kept, fewer if file.n_bytes_newlines else ""))
    if file.n_characters >= FEW_BREAKS[0] * max(1, file.n_lines) and file.longest_line >= FEW_BREAKS[1]:
        why = "the model will write none either; if the text has paragraphs, save it with line breaks"
        rows.append(Row("  note", f"hardly any line breaks: one line has {file.longest_line:,} characters", why))
    if file.n_end_of_text:
        rows.append(Row("  marks", f"{file.n_end_of_text:,} <|endoftext|>", "read as boundaries between documents"))
    if file.first_lines:
        rows.append(Row("  begins", shorten(" / ".join(file.first_lines), 60, placeholder=" …")))
    return rows


def describe_cuts(file: FileReceipt) -> list[Row]:
    """What was removed from a file, by its receipt."""
    cuts = [Row("cut", f"{pluralize(cut.n_characters, 'character')}: {cut.what}", cut.reason) for cut in file.cuts]
    return cuts + [
        Row("left out", f"{part.what}: {part.count:,}", shorten(part.example, 60, placeholder=" …"))
        for part in file.dropped
    ]


# -- the score of a text as rows


def describe_score(score: Score) -> list[Row]:
    """How probable a model finds a whole text."""
    length = f"{pluralize(score.n_characters, 'character')}, {pluralize(score.n_bytes, 'byte')}"
    uncertain = "as uncertain as among that many equally probable tokens"
    return [
        Row("tokens", f"{score.n_tokens:,}", length),
        Row("total", f"{score.nats:,.1f} nats", "minus the logarithm of the text's probability"),
        Row("loss", f"{score.loss:.3f} nats per token"),
        Row("perplexity", format_perplexity(score.perplexity), uncertain),
        Row("bits per byte", f"{score.bits_per_byte:.3f}", "comparable across tokenizers"),
        Row("accuracy", percent(score.accuracy), "tokens that were the most probable"),
    ]


def describe_worst_lines(score: Score) -> list[Row]:
    """The lines that the model finds least probable, the least probable first."""
    lines = [line for line in score.lines if not line.text.isspace()]
    long = [line for line in lines if len(line.text.strip()) >= SHORTEST_LINE]
    worst = sorted(long or lines, key=lambda line: -line.bits_per_byte)[:MOST_LINES_SHOWN]
    return [
        Row(
            f"line {line.number:,}",
            f"{line.bits_per_byte:.3f} bits per byte",
            shorten(line.text, 60, placeholder=" …"),
        )
        for line in worst
    ]


# -- who wrote a text

HALF, SURE = 0.5, 0.001
"""Probabilities: below the one nothing is likely, and what is nearer than the other to 0 or 1 is not told apart."""


def summarise_attribution(found: Attribution) -> str:
    """Who wrote it, as a sentence."""
    best, none = found.best, found.none
    probability = none if best is None else best.probability
    if probability < HALF:
        first = found.candidates[0]
        return f"It cannot be told. First is the author of {first.name}, with {_percent_of_sure(first.probability)}."
    who = "none of these" if best is None else f"the author of {best.name}"
    return f"It is likely to be by {who}: {_percent_of_sure(probability)}."


def _percent_of_sure(probability: float) -> str:
    """A probability that is never called 0 or 1."""
    if probability < SURE:
        return f"under {percent(SURE)}"
    return f"over {percent(1 - SURE)}" if probability > 1 - SURE else percent(probability)


def describe_attribution(found: Attribution) -> list[Row]:
    """The candidates with what speaks for them, and "none of these"."""
    rows = [Row(one.name, _percent_of_sure(one.probability), _describe_evidence(one)) for one in found.candidates]
    return [*rows, Row("none of these", _percent_of_sure(found.none), f"{found.n_characters:,} characters were given")]


def _describe_evidence(one: CandidateEvidence) -> str:
    parts = [f"{one.bits_per_byte:.3f} bits per byte"]
    if one.lead is not None:
        parts.append(f"{abs(one.lead):.3f} {'better' if one.lead > 0 else 'worse'} than all the runs together")
    if one.gain is not None:
        own = "" if one.own_gain is None else f" (of its own author's held-out text: {one.own_gain:.3f} fewer)"
        parts.append(f"{abs(one.gain):.3f} {'fewer' if one.gain > 0 else 'more'} than its base{own}")
    if one.style is not None:
        way = "nearer" if one.style > 0 else "farther"
        parts.append(f"style: {abs(one.style):.1f} standard deviations {way} than other authors")
    return "; ".join(parts)


# -- a judgement in words


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """A question in short and its answer."""

    question: str
    answer: str
    grade: Grade


_CHIPS: dict[Topic, tuple[str, dict[Grade, str]]] = {
    "sounds like": ("Sounds like the author:", {"good": "yes", "fair": "somewhat", "bad": "no"}),
    "makes sense": (
        "Sentences like the author's:",
        {"good": "yes", "fair": "somewhat", "bad": "no"},
    ),
    "copies": ("Copies:", {"good": "no", "fair": "a little", "bad": "yes"}),
    "repeats": ("Repeats itself:", {"good": "no", "fair": "a little", "bad": "yes"}),
}


def list_chips(grades: Mapping[Topic, Grade]) -> list[Chip]:
    """A judgement in a few words for each question that was asked."""
    return [
        Chip(question=question, answer=answers.get(grades[topic], "too little text to say"), grade=grades[topic])
        for topic, (question, answers) in _CHIPS.items()
        if topic in grades
    ]


QUESTIONS: dict[Topic, str] = {
    "sounds like": "Does it sound like the author?",
    "makes sense": "Does it make sense?",
    "copies": "Does it copy?",
    "repeats": "Does it repeat itself?",
    "learned": "What has it learned?",
}
GRADES: dict[Grade, str] = {"good": "good", "fair": "look at this", "bad": "not good", "unsure": "cannot tell"}
ReferenceKind = Literal["floor", "ceiling", "base"]
REFERENCE_KINDS: tuple[ReferenceKind, ...] = ("floor", "ceiling", "base")


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureView:
    """One number of a verdict in words, and its place on a scale."""

    name: str
    value: str
    """With its unit and, where it is known, its 95 % interval."""
    references: Mapping[ReferenceKind, str]
    """What to compare it with: "the author's own held-out text, 0.03 %"."""
    positions: Mapping[str, float]
    """Of the value, its interval and its references: per cent of the scale from its left end."""

    @property
    def comparison(self) -> str:
        """The references in one line."""
        return "; ".join(self.references.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictView:
    """The answer to one question, with its evidence."""

    question: str
    grade: Grade
    grade_name: str
    sentence: str
    measures: Sequence[MeasureView]
    passages: Sequence[Row]
    """The longest copied passage, as the model wrote it and as it stands in the author's text."""

    @property
    def answer(self) -> str:
        """Question, grade and sentence in one line."""
        return f"{self.question} {self.grade_name.capitalize()}. {self.sentence}"

    @property
    def measure_rows(self) -> list[Row]:
        """The numbers as rows."""
        return [Row(item.name, item.value, item.comparison) for item in self.measures]

    @property
    def rows(self) -> list[Row]:
        """All the evidence as rows."""
        return [*self.measure_rows, *self.passages]


def describe_judgement(judgement: Judgement) -> str:
    """One sentence on what was judged, and against whose text."""
    how = "Judged quickly" if judgement.quick else "Judged"
    return f"{how}: {judgement.text} ({judgement.n_characters:,} characters), against {judgement.against}."


_IN_SHORT: dict[Topic, dict[Grade, str]] = {
    "sounds like": {
        "good": "it sounds like the author",
        "fair": "it sounds somewhat like the author",
        "bad": "it does not sound like the author",
        "unsure": "whether it sounds like the author cannot be told",
    },
    "makes sense": {
        "good": "its words and sentences are built as well as the author's",
        "fair": "its words and sentences are not certainly built as well as the author's",
        "bad": "its words and sentences are not built like the author's",
        "unsure": "whether it makes sense cannot be told",
    },
    "copies": {
        "good": "it does not copy",
        "fair": "it copies a little",
        "bad": "it copies",
        "unsure": "whether it copies cannot be told",
    },
    "repeats": {
        "good": "it does not repeat itself",
        "fair": "it repeats itself a little",
        "bad": "it repeats itself",
        "unsure": "whether it repeats itself cannot be told",
    },
}


def summarise_judgement(judgement: Judgement) -> str:
    """One sentence on how the text sounds, whether it makes sense, copies and repeats itself; empty without any."""
    found = [
        _say_in_short(verdict) + _describe_lowest(verdict)
        for verdict in judgement.verdicts
        if verdict.topic in _IN_SHORT
    ]
    is_built = any(one.topic == "makes sense" and one.grade in ("good", "fair") for one in judgement.verdicts)
    limits = f" {SENSE_LIMITS}" if is_built else ""
    return f"In short: {'; '.join(found)}.{limits}" if found else ""


def describe_quick_judgement(judgement: Judgement, run: Path) -> list[str]:
    """Two lines for the end of training: what was found, and how to know more. `run`: the run's folder."""
    found = summarise_judgement(judgement)
    if not judgement.quick:
        return [describe_judgement(judgement), found]
    found = found.replace("In short", f"Judged quickly, by {judgement.n_characters:,} characters", 1)
    return [found, f"To judge it thoroughly: {quote_command('epigone', 'judge', run)}"]


def _is_doubtful(verdict: Verdict) -> bool:
    """Whether it would be bad, were there text enough to be certain."""
    score = verdict.facts.get("score")
    is_open = verdict.topic == "sounds like" and verdict.grade == "unsure"
    return is_open and isinstance(score, float) and score < LEAST_LIKENESS


def _say_in_short(verdict: Verdict) -> str:
    if _is_doubtful(verdict):
        return "it may not sound like the author"
    return _IN_SHORT[verdict.topic][verdict.grade]


def _describe_lowest(verdict: Verdict) -> str:
    score = verdict.facts.get("score")
    if not isinstance(score, float) or (verdict.grade == "unsure" and not _is_doubtful(verdict)):
        return ""
    is_partial = verdict.topic == "sounds like" and verdict.grade == "fair"
    is_partial &= not any(measure.name == WORD_ORDER for measure in verdict.measures)
    lacking = ", but word order cannot be measured with so little text" if is_partial else ""
    return f" ({format_value(score, 'of 100')}{lacking})"


def view_verdicts(judgement: Judgement) -> list[VerdictView]:
    """The verdicts in words, in the order of `QUESTIONS`."""
    known = {verdict.topic: verdict for verdict in judgement.verdicts}
    return [_view_verdict(question, known[topic]) for topic, question in QUESTIONS.items() if topic in known]


def _view_verdict(question: str, verdict: Verdict) -> VerdictView:
    return VerdictView(
        question=question,
        grade=verdict.grade,
        grade_name=GRADES[verdict.grade],
        sentence=verdict.sentence,
        measures=[_view_measure(measure) for measure in verdict.measures if math.isfinite(measure.value)],
        passages=_find_passages(verdict.facts),
    )


def _view_measure(measure: Measure) -> MeasureView:
    known = {kind: getattr(measure, kind) for kind in REFERENCE_KINDS}
    return MeasureView(
        name=measure.name,
        value=format_value(measure.value, measure.unit) + _describe_interval(measure),
        references={
            kind: f"{reference.name}, {format_value(reference.value, measure.unit)}"
            for kind, reference in known.items()
            if reference is not None and math.isfinite(reference.value)
        },
        positions=place_on_scale(measure),
    )


def _describe_interval(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return ""
    low, high = (format_value(end, measure.unit) for end in (measure.low, measure.high))
    low = low if low == "none" else low.removesuffix(f" {measure.unit}").removesuffix(" %")
    return f" (95 %: {low} to {high.removesuffix(' of 100')})"


def place_on_scale(measure: Measure) -> dict[str, float]:
    """Where "value", "low", "high" and the references stand on a scale from bad, on the left, to good, on the right.

    In per cent of its length; unknown ones are left out. Of all units but "of 100" less is better. Empty where there is
    nothing to compare the value with.
    """
    marks = {"value": measure.value, "low": measure.low, "high": measure.high}
    marks |= {kind: getattr(getattr(measure, kind), "value", None) for kind in REFERENCE_KINDS}
    known = {name: value for name, value in marks.items() if value is not None and math.isfinite(value)}
    if "value" not in known or (len(known) == 1 and measure.bad_from is None and measure.unit != "of 100"):
        return {}
    worst, best = 0.0, 100.0
    if measure.unit != "of 100":
        worst = max(known.values()) if measure.bad_from is None else measure.bad_from
        best = min([*known.values(), *([] if measure.unit == "bits per byte" else [0.0 if measure.unit else 1.0])])
    if worst == best:
        return dict.fromkeys(known, 100.0)
    places = {name: 100 * (value - worst) / (best - worst) for name, value in known.items()}
    return {name: round(min(100.0, max(0.0, place)), 2) for name, place in places.items()}


def _find_passages(facts: Mapping[str, Any]) -> list[Row]:
    """The longest passage that also stands in the training text, on both sides; none if there is no such passage."""
    ours, theirs = (" ".join(str(facts.get(side) or "").split()) for side in ("passage", "original"))
    if not ours or not theirs:
        return []
    line, document = facts.get("line"), facts.get("document")
    where = "its text"
    if isinstance(line, int) and isinstance(document, int):
        is_only = facts.get("n_documents") == 1
        where = f"line {line:,}" if is_only else f"line {line:,} of text {document + 1:,}"
    return [Row("longest, in what was judged", ours), Row(f"the same in the author's text ({where})", theirs)]
