"""A plan, a receipt or a score in, rows of name, value and reason for people out."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from epigone.model.plan import Plan
from epigone.reporting.history import format_perplexity, format_seconds
from epigone.training.events import Estimate

if TYPE_CHECKING:
    from epigone.writing.scoring import Score

Row = tuple[str, str, str]
MOST_FILES_SHOWN = 8
MOST_LINES_SHOWN = 5
SHORTEST_LINE = 16
"""Letters. In a shorter line one rare name is everything, so it is passed over where there are others."""
COMPUTED = {"eager": "plain", "sdpa": "fused"}
COMPILED = {"none": "no", "blocks": "block by block", "whole": "as a whole"}


def describe_plan(plan: Plan, estimate: Estimate | None = None) -> list[Row]:
    """The plan, and what was measured for it."""
    reasons = plan.reasons
    values = {
        "start from": ("random weights" if plan.fresh else plan.base, "base"),
        "size": (f"{plan.shape.n_layer} layers, {plan.shape.n_embd} wide: {plan.n_parameters:,} parameters", "size"),
        "vocabulary": (f"{plan.shape.vocabulary_size:,}", "vocabulary"),
        "block": (f"{plan.block_size:,} tokens", "block_size"),
        "batch": (_describe_batch(plan), "batch_size"),
        "steps": (_describe_length(plan), "epochs"),
        "evaluations": (_describe_evaluations(plan), "evaluations_per_epoch"),
        "optimizer": (_describe_optimizer(plan), "optimizer"),
        "learning rate": (f"{plan.learning_rate:.3g}, {plan.schedule}, {plan.warmup:.0%} warm-up", "learning_rate"),
        "dropout": (f"{plan.dropout:g}", "dropout"),
        "weight decay": (f"{plan.weight_decay:g}", "weight_decay"),
        "patience": ("off" if plan.patience is None else f"{plan.patience} evaluations", "patience"),
        "precision": (f"{plan.precision} on {plan.device}", "precision"),
        "attention": (COMPUTED[plan.attention], "attention"),
        "compiled": (COMPILED[plan.compilation], "compilation"),
    }
    if plan.lora is not None:
        values["adapters"] = (f"of rank {plan.lora}", "lora")
    if plan.teacher:
        values["teacher"] = (plan.teacher, "teacher")
    rows = [(name, value, reasons.get(reason, "")) for name, (value, reason) in values.items()]
    return rows + (_describe_estimate(estimate) if estimate is not None else [])


def _describe_optimizer(plan: Plan) -> str:
    if plan.optimizer == "adamw":
        return "AdamW"
    apart = f", embeddings at {plan.embedding_share * plan.learning_rate:.3g}" if plan.embedding_share != 1 else ""
    return f"Muon at {plan.matrix_learning_rate:.3g}, with AdamW{apart}"


def _describe_batch(plan: Plan) -> str:
    factors = [f"{plan.batch_size} blocks"]
    factors[0] += f" in {plan.parts} parts" if plan.parts > 1 else ""
    factors += [f"{plan.accumulation} accumulated"] if plan.accumulation > 1 else []
    factors += [f"{plan.n_processes} processes"] if plan.n_processes > 1 else []
    return " x ".join(factors)


def _describe_length(plan: Plan) -> str:
    if plan.minutes is None:
        return f"{plan.n_steps:,} in {plan.epochs:g} epochs"
    epochs = min(plan.epochs, plan.n_steps / plan.steps_per_epoch)
    return f"about {plan.n_steps:,} in {plan.minutes:g} minutes: {epochs:.2g} epochs"


def _describe_evaluations(plan: Plan) -> str:
    often = "each epoch" if plan.evaluations_per_epoch == 1 else f"{plan.evaluations_per_epoch:,} an epoch"
    return often + ("" if plan.evaluate_every is None else f", and every {plan.evaluate_every:,} steps")


def _describe_estimate(estimate: Estimate) -> list[Row]:
    pace = f"{estimate.seconds_per_step:.3f} s a step, {estimate.seconds_per_evaluation:.1f} s an evaluation"
    return [
        ("time", f"about {format_seconds(estimate.seconds)}", f"measured: {pace}"),
        ("memory", f"{estimate.memory_bytes / 1e9:.1f} GB", "measured on the same steps"),
    ]


def describe_receipt(receipt: Mapping[str, Any]) -> list[Row]:
    """The receipt, file by file."""
    rows = [row for file in receipt["files"][:MOST_FILES_SHOWN] for row in _describe_file(file)]
    if len(receipt["files"]) > MOST_FILES_SHOWN:
        rows.append(("…", f"{len(receipt['files']) - MOST_FILES_SHOWN:,} more files", "all are in receipt.json"))
    rows += [("skipped", reason, "") for reason in receipt["skipped"][:MOST_FILES_SHOWN]]
    rows += [row for file in receipt["held_out_files"] for row in _describe_file(file)]
    for name, part in (("to learn from", receipt["train"]), ("held out", receipt["validation"])):
        count = f"{part['n_characters']:,} characters, {part['n_tokens']:,} tokens"
        why = receipt["split"]["reason"] if name == "held out" else f"{part['bytes_per_token']:.2f} bytes per token"
        rows.append((name, count, why))
    return rows


def _describe_file(file: Mapping[str, Any]) -> list[Row]:
    rows = [(file["name"], f"{file['n_bytes']:,} bytes, {file['encoding']}", file["reason"])]
    rows += [("  cut", value, reason) for _, value, reason in describe_cuts(file)]
    kept = f"{file['n_characters']:,} characters in {file['n_lines']:,} lines"
    newlines = f"{file['n_bytes_newlines']:,} bytes of line ends made one" if file["n_bytes_newlines"] else ""
    rows.append(("  kept", kept, newlines))
    if file["n_end_of_text"]:
        rows.append(("  marks", f"{file['n_end_of_text']:,} <|endoftext|>", "learned as boundaries of documents"))
    if file["first_lines"]:
        rows.append(("  begins", shorten(" / ".join(file["first_lines"]), 60, placeholder=" …"), ""))
    return rows


def describe_cuts(file: Mapping[str, Any]) -> list[Row]:
    """What was cut from a file, by its receipt."""
    return [("cut", f"{cut['n_characters']:,} characters: {cut['what']}", cut["reason"]) for cut in file["cuts"]]


def describe_score(score: Score) -> list[Row]:
    """What a model thinks of a text as a whole."""
    length = f"{score.n_characters:,} characters, {score.n_bytes:,} bytes"
    return [
        ("tokens", f"{score.n_tokens:,}", length),
        ("total", f"{score.nats:,.1f} nats", "minus the logarithm of the text's probability"),
        ("loss", f"{score.loss:.3f} nats per token", ""),
        ("perplexity", format_perplexity(score.perplexity), "as unsure as among so many tokens, all equally likely"),
        ("bits per byte", f"{score.bits_per_byte:.3f}", "comparable between vocabularies"),
        ("accuracy", f"{score.accuracy:.1%}".replace("%", " %"), "tokens that were the likeliest"),
    ]


def describe_worst_lines(score: Score) -> list[Row]:
    """The lines that the model finds least likely, the least likely first."""
    lines = [line for line in score.lines if not line.text.isspace()]
    long = [line for line in lines if len(line.text.strip()) >= SHORTEST_LINE]
    worst = sorted(long or lines, key=lambda line: -line.bits_per_byte)[:MOST_LINES_SHOWN]
    return [
        (f"line {line.number:,}", f"{line.bits_per_byte:.3f} bits per byte", shorten(line.text, 60, placeholder=" …"))
        for line in worst
    ]
