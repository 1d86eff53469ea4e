"""A judgement as plain values in, its verdicts as parts of a page or of a card out: each number on a ruler of its own.

The values come from a file, so none is taken for granted: what is not as it should be is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from epigone.report.elements import draw_paragraph, escape, quote
from epigone.report.escape import escape_markdown, on_one_line
from epigone.training.events import (
    BatchSplit,
    Estimate,
    Evaluated,
    Finished,
    Sampled,
    SampleStats,
    Started,
    StepReport,
    find_best,
)

if TYPE_CHECKING:
    from epigone.generation.scoring import Score
    from epigone.planning.plan import Plan  # it loads torch


NOTHING = "–"
"""Stands where there is no number."""


# -- numbers in words


def format_seconds(seconds: float) -> str:
    """A duration as one says it: "1 h 02 min", "3 min 12 s", "42 s"."""
    if not math.isfinite(seconds):
        return NOTHING
    whole = round(max(seconds, 0))
    if whole >= 3600:
        minutes = round(whole / 60)
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def format_epoch(epoch: float) -> str:
    """A number of epochs for a sentence: "3", "2.5", "0.25"."""
    return f"{epoch:.2f}".rstrip("0").rstrip(".") if math.isfinite(epoch) else NOTHING


def name_moment(epoch: float, share: float) -> str:
    """Which weights: "epoch 3", or "62 % of the way from the base to epoch 3"."""
    way = "" if share == 1 else f"{share:.0%} of the way from the base to ".replace("%", " %")
    return f"{way}epoch {format_epoch(epoch)}"


def format_rate(rate: float) -> str:
    """A learning rate, three digits of it: "4.75e-5"."""
    if rate == 0 or not math.isfinite(rate):
        return "0" if rate == 0 else NOTHING
    digits, exponent = f"{rate:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def format_perplexity(perplexity: float) -> str:
    """A perplexity in at most seven characters: "61.7", "50,257", "1.2e+09"."""
    if perplexity < 1000:
        return f"{perplexity:.1f}"
    return f"{perplexity:,.0f}" if perplexity < 1e6 else f"{perplexity:.1e}"


# -- the table of epochs


@dataclass(frozen=True)
class Column:
    """One column: its name in full, a heading and a width in letters where room is short, and what stands in it."""

    name: str
    heading: str
    width: int
    format: Callable[[Evaluated], str]


COLUMNS = (
    Column("epoch", "epoch", 6, lambda item: f"{item.epoch:.2f}"),
    Column("step", "step", 8, lambda item: f"{item.step:,}"),
    Column("training loss", "training", 8, lambda item: format_loss(item.training_loss)),
    Column("validation loss", "validation", 10, lambda item: format_loss(item.loss)),
    Column("accuracy", "accuracy", 8, lambda item: f"{item.accuracy:.1%}".replace("%", " %")),
    Column("perplexity", "perplexity", 10, lambda item: format_perplexity(item.perplexity)),
    Column("bits per byte", "bits/byte", 9, lambda item: f"{item.bits_per_byte:.3f}"),
    Column("learning rate", "rate", 7, lambda item: format_rate(item.learning_rate)),
    Column("time", "time", 11, lambda item: format_seconds(item.seconds)),
)


def format_loss(loss: float | None) -> str:
    """A loss in nats per token, or a dash before the first step."""
    return NOTHING if loss is None else f"{loss:.3f}"


def epoch_table(evaluations: Sequence[Evaluated]) -> list[dict[str, str]]:
    """One row of words per evaluation, keyed by the names in `COLUMNS`; "best" is "best" in one row, else empty."""
    best = find_best(evaluations)
    return [
        {column.name: column.format(item) for column in COLUMNS} | {"best": "best" if item is best else ""}
        for item in evaluations
    ]


# -- events in words


def describe_start(event: Started) -> str:
    """One sentence on what is about to be done."""
    epochs = format_epoch(event.epochs)
    about = "about " if event.timed else ""
    whole = f"{about}{event.n_steps:,} steps, {about}{epochs} epoch" + ("" if epochs == "1" else "s")
    return f"Going on after step {event.step:,} of {whole}." if event.resumed else f"Learning: {whole}."


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
        f"Memory ran out in step {event.step:,}, which was taken again: a batch of {event.batch_size} blocks is now "
        f"computed in {event.parts} parts of {at_once} at most. What is learned stays the same."
    )


def describe_sample_stats(found: SampleStats) -> str:
    """One line on what the samples copy and repeat, and whether they sound like the author."""
    parts = [
        f"copied {found.copied:.1%}, the longest passage {found.longest_copied} characters",
        f"repeated {found.repeated:.1%}",
    ]
    if found.sounds_like is not None:
        parts.append(f"sounds like the author: {found.sounds_like:.0f} of 100")
    return "; ".join(parts).replace("%", " %")


COPYING = "It begins to copy: passages of its samples stand word for word in the text. The best epoch so far is kept."

WHY_ENDED = {
    "done": "Done in {time}.",
    "time": "Time was up after {time}.",
    "patience": "Stopped after {time}: it no longer got better.",
    "interrupted": "Interrupted after {time}.",
}


def describe_end(event: Finished) -> str:
    """One sentence on why training ended and one on what was kept, and why that."""
    why = WHY_ENDED[event.reason].format(time=format_seconds(event.seconds))
    if not math.isfinite(event.best_loss):
        return f"{why} Nothing was kept: no evaluation gave a number."
    kept = name_moment(event.best_epoch, event.best_share)
    of_all = f" of {format_epoch(event.epoch)}" if event.best_share == 1 else ""
    return f"{why} Kept {kept}{of_all}: validation loss {event.best_loss:.3f}, the best."


def describe_share(event: Evaluated) -> str:
    """What was evaluated, where that is neither the base nor an epoch."""
    return f"{name_moment(event.epoch, event.share)}, which foretells the held-out text better than either"


def name_sample(event: Sampled, number: int) -> str:
    """Which sample this is, and what it was asked to follow."""
    prompt = shorten(on_one_line(event.samples[number - 1].prompt), 40, placeholder="…")
    where = f"sample {number} of {len(event.samples)} at {name_moment(event.epoch, event.share)}"
    return f'{where}, after "{prompt}"' if prompt else where


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
        "vocab_size": (f"{plan.shape.vocab_size:,}", "vocab_size"),
        "block": (f"{plan.block_size:,} tokens", "block_size"),
        "batch": (_describe_batch(plan), "batch_size"),
        "steps": (_describe_length(plan), "epochs"),
        "evaluations": (_describe_evaluations(plan), "evaluations_per_epoch"),
        "optimizer": (_describe_optimizer(plan), "optimizer"),
        "learning rate": (
            f"{plan.learning_rate:.3g}, {plan.schedule}, {plan.warmup_ratio:.0%} warm-up",
            "learning_rate",
        ),
        "dropout": (f"{plan.dropout:g}", "dropout"),
        "weight decay": (f"{plan.weight_decay:g}", "weight_decay"),
        "patience": ("off" if plan.patience is None else f"{plan.patience} evaluations", "patience"),
        "precision": (f"{plan.precision} on {plan.device}", "precision"),
        "attention": (COMPUTED[plan.attention], "attention"),
        "compiled": (COMPILED[plan.compile], "compile"),
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
    factors += [f"{plan.gradient_accumulation} accumulated"] if plan.gradient_accumulation > 1 else []
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


TOPICS = {
    "sounds_like": "Does it sound like the author?",
    "copies": "Does it copy?",
    "repeats": "Does it repeat itself?",
    "learned": "What has it learned?",
}
GRADES = {"good": "good", "fair": "look at this", "bad": "not good", "unsure": "cannot tell"}
ENDS = {"floor": "", "ceiling": " top", "base": " other"}
"""What a number is to be seen by, and the class of its key on the page."""
MOST_MEASURES = 24
MOST_NOTES = 12


def list_verdicts(judgement: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each verdict with the question that it answers, the known ones in their order."""
    names = [*TOPICS, *(name for name in judgement if name not in TOPICS)]
    verdicts = [(name, judgement.get(name)) for name in names]
    return [
        (TOPICS.get(name, name.replace("_", " ")), verdict)
        for name, verdict in verdicts
        if isinstance(verdict, Mapping) and isinstance(verdict.get("sentence"), str)
    ]


def list_notes(judgement: Mapping[str, Any]) -> list[str]:
    """What a reader has to know beside the verdicts."""
    notes = judgement.get("notes")
    return [str(note) for note in notes[:MOST_NOTES]] if isinstance(notes, Sequence) and not _is_text(notes) else []


def describe_judged(judgement: Mapping[str, Any]) -> str:
    """One sentence on what was judged against what."""
    size = _number(judgement.get("n_characters"))
    length = f" ({size:,.0f} characters)" if size is not None else ""
    return f"Judged: {judgement.get('text', 'its text')}{length}, against {judgement.get('against', 'the author')}."


def draw_verdict(question: str, verdict: Mapping[str, Any]) -> str:
    """The answer, and under it each number between its floor and its ceiling."""
    found = _list_measures(verdict)
    shown = "\n".join(_draw_measure(item) for item in found[:MOST_MEASURES])
    rest = len(found) - MOST_MEASURES
    return (
        f"<h3>{escape(question)}</h3>\n<p>{_draw_grade(verdict)}{quote(str(verdict['sentence']), 600)}</p>\n"
        + (f'<ul class="measures">\n{shown}\n</ul>' if shown else "")
        + "".join(f'<p class="quiet">{quote(name)}: “{quote(text, 600)}”</p>' for name, text in _list_passages(verdict))
        + (draw_paragraph(f"{rest} more numbers are in judgement.json.", "quiet") if rest > 0 else "")
    )


def list_answers(judgement: Mapping[str, Any]) -> str:
    """The verdicts in short, as a list."""
    lines = [f"<li>{_draw_grade(said)}{quote(str(said['sentence']), 600)}</li>" for _, said in list_verdicts(judgement)]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def list_rows(judgement: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each question with its answer, and the numbers as rows of name, value and what it is to be seen by."""
    found = []
    for question, verdict in list_verdicts(judgement):
        answer = f"{question} {GRADES.get(str(verdict.get('tone')), '').capitalize()}. {verdict['sentence']}"
        rows = []
        for item in _list_measures(verdict):
            ends = [f"{_name_end(end)}{words}" for end, words in _list_ends(item).items() if words]
            rows.append((str(item["name"]), _tell_value(item), "; ".join(ends)))
        rows += [(name, text, "") for name, text in _list_passages(verdict)]
        found.append((answer, rows))
    return found


def write_verdicts(judgement: Mapping[str, Any]) -> str:
    """The verdicts as Markdown: a paragraph each, and a table of the numbers."""
    parts = []
    for question, verdict in list_verdicts(judgement):
        parts.append(f"**{escape_markdown(question)}** {escape_markdown(str(verdict['sentence']))}")
        found = _list_measures(verdict)
        rows = [[item["name"], _tell_value(item), *_list_ends(item).values()] for item in found[:MOST_MEASURES]]
        lines = [
            ["measure", "value", *ENDS],
            ["---"] * (2 + len(ENDS)),
            *([escape_markdown(c) for c in r] for r in rows),
        ]
        parts += ["\n".join(f"| {' | '.join(line)} |" for line in lines)] if rows else []
    parts += [escape_markdown(note) for note in list_notes(judgement)]
    return "\n\n".join(parts)


# -- a number and its ruler


def format_value(value: float, unit: str) -> str:
    """A value in its unit, for a sentence."""
    if unit == "share":
        return f"{100 * value:.3g} %" if value < 0.9995 or value > 1 else f"{100 * value:.0f} %"
    if unit == "characters":
        return f"{value:,.0f} characters"
    if unit == "of 100":
        return f"{value:.0f} of 100"
    return f"{value:.3f} {unit}" if unit else f"{value:,.4g}"


def place_on_scale(measure: Mapping[str, Any]) -> dict[str, float]:
    """Where value, low, high and ENDS stand, in per cent of the ruler; those that are not known are left out.

    The ruler begins at 0 where nothing is below it, except for bits per byte, and a ruler "of 100" ends there.
    """
    marks = {name: _number(measure.get(name)) for name in ("value", "low", "high")}
    marks |= {name: _number((measure.get(name) or {}).get("value")) for name in ENDS}
    known = {name: value for name, value in marks.items() if value is not None}
    unit = measure.get("unit", "")
    ends = list(known.values()) + ([0.0] if unit != "bits per byte" else []) + ([100.0] if unit == "of 100" else [])
    first, last = min(ends), max(ends)
    length = last - first
    return {name: round(100 * (value - first) / length, 2) if length > 0 else 0.0 for name, value in known.items()}


def _draw_measure(measure: Mapping[str, Any]) -> str:
    ends = _list_ends(measure)
    told = "".join(
        f'<span class="end"><span class="key{ENDS[end]}"></span>{_name_end(end)}{quote(words, 120)}</span>'
        for end, words in ends.items()
        if words
    )
    return (
        f"<li>{quote(measure['name'], 120)}: <strong>{escape(_tell_value(measure))}</strong>\n{_draw_scale(measure)}"
        + (f'<div class="quiet">{told}</div>' if told else "")
        + "</li>"
    )


def _name_end(end: str) -> str:
    return "" if end == "base" else f"{end}: "  # what that is, its name says


def _draw_scale(measure: Mapping[str, Any]) -> str:
    places = place_on_scale(measure)
    band = ""
    if "low" in places and "high" in places:
        band = f'<i class="band" style="left:{places["low"]}%;width:{round(places["high"] - places["low"], 2)}%"></i>'
    marks = [f'<i class="{name}" style="left:{places[name]}%"></i>' for name in (*ENDS, "value") if name in places]
    return f'<div class="ruler" aria-hidden="true"><i class="track"></i>{band}{"".join(marks)}</div>\n'


def _list_passages(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The longest passage that was found in what was learned from, as it stands on both sides."""
    sides = [verdict.get("passage"), verdict.get("original")]
    ours, theirs = (" ".join(side.split()) if isinstance(side, str) else "" for side in sides)
    if not ours or not theirs:
        return []
    line, document = _number(verdict.get("line")), _number(verdict.get("document"))
    where = f"line {line:,.0f} of text {document + 1:,.0f}" if line is not None and document is not None else "its text"
    return [("longest, in what was judged", ours), (f"the same in the author's text ({where})", theirs)]


def _list_measures(verdict: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    measures = verdict.get("measures")
    return [item for item in measures if _is_measure(item)] if isinstance(measures, Sequence) else []


def _tell_value(measure: Mapping[str, Any]) -> str:
    unit = str(measure.get("unit", ""))
    ends = [end for end in map(_number, (measure.get("low"), measure.get("high"))) if end is not None]
    low_and_high = " to ".join(format_value(end, unit).split()[0] for end in ends)
    band = f" (95 %: {low_and_high})" if len(ends) == 2 else ""
    return format_value(float(measure["value"]), unit) + band


def _list_ends(measure: Mapping[str, Any]) -> dict[str, str]:
    """ENDS in words, empty where there is none."""
    unit, ends = str(measure.get("unit", "")), {}
    for end in ENDS:
        mark = measure.get(end) or {}
        value = _number(mark.get("value"))
        ends[end] = "" if value is None else f"{mark.get('name', '')}, {format_value(value, unit)}"
    return ends


def _draw_grade(verdict: Mapping[str, Any]) -> str:
    tone = verdict.get("tone") if verdict.get("tone") in GRADES else "unsure"
    return f'<span class="tone {tone}">{GRADES[str(tone)]}</span>'


def _is_measure(item: object) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        return False
    ends = [item.get(end) for end in ENDS]
    return _number(item.get("value")) is not None and all(end is None or isinstance(end, Mapping) for end in ends)


def _is_text(value: object) -> bool:
    return isinstance(value, str | bytes)


def _number(value: object) -> float | None:
    """A finite number, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]
