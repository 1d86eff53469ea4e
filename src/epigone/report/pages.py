"""The report page, the quiz page and the model card of a run, rendered by jinja2 from the files in templates/.

What a text or a model says has no power in them. Every value that a template shows is escaped by default: in HTML by
jinja2's autoescape, in the card for Markdown as well; and characters that would act unseen are shown as signs. Only
what a filter or a macro has already escaped, which is `Markup`, passes unchanged. A page loads nothing, and its
content security policy allows no more than it shows.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from epigone import __version__
from epigone.errors import quote_command
from epigone.evaluation.best_sentences import HOW_CHOSEN
from epigone.evaluation.quiz import Question, describe_outcomes, list_shares
from epigone.evaluation.verdict import Judgement, Topic, percent
from epigone.model.base_profile import BASES
from epigone.planning.plan import Plan
from epigone.report.escape import code_markdown, escape_markdown, fence_text, on_one_line, show_controls
from epigone.report.views import (
    COLUMNS,
    Chip,
    Row,
    describe_end,
    describe_judgement,
    describe_learning,
    describe_origin,
    describe_plan,
    describe_weights,
    epoch_table,
    format_bytes,
    format_count,
    format_epoch,
    format_seconds,
    list_chips,
    summarise_judgement,
    view_verdicts,
)
from epigone.runs.records import ShowcaseRecord
from epigone.training.events import (
    Estimate,
    Evaluated,
    Event,
    Finished,
    Sample,
    Sampled,
    effective_history,
    find_best,
    same_weights,
)

TEMPLATES = Path(__file__).parent / "templates"
GENERATOR = '<meta name="generator" content="epigone'
"""Stands in the first lines of every page, so that a page of ours is recognised."""
MOST_ROWS = 60
MOST_EPOCHS = 6
MOST_PROMPTS = 6
MOST_MEASURES = 24
MOST_NOTES = 12
MOST_TITLE = 120
"""Characters of a title in a line to share."""
MOST_WIDGET_PROMPTS = 3
"""What is shown at most: a page stays below 2 MB and readable, however large the run."""


# -- templates


@cache
def html_environment() -> Environment:
    """Templates of pages: values are escaped for HTML, with control characters shown as signs."""
    return _make_environment(show_controls, {"shorten": shorten_text})


@cache
def markdown_environment() -> Environment:
    """Templates of Markdown: values are escaped for Markdown and for the HTML that it may contain."""
    filters: dict[str, Callable[..., Any]] = {
        "code": lambda text: Markup(code_markdown(text)),
        "fence": lambda text: Markup(fence_text(text)),
        "two_cells": _take_two,
    }
    return _make_environment(lambda text: Markup(escape_markdown(text)), filters)


def _take_two(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Rows without their reasons."""
    return [row[:2] for row in rows]


def _make_environment(escape: Callable[[str], str], filters: Mapping[str, Callable[..., Any]]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters.update(filters, number="{:,}".format)
    return environment


def shorten_text(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis where it is longer."""
    return text if len(text) <= most else text[:most].rstrip() + " …"


# -- the report page


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """All that the report page shows."""

    folder: str
    """Of the run, without the folders around it; of a voice with that of its run."""
    run: str
    """The same as a person types it, for commands: "runs/novel"."""
    title: str
    """What the text is called."""
    events: Sequence[Event]
    plan: Plan
    estimate: Estimate | None = None
    n_bytes: int
    """Of the text that was learned from."""
    receipt: Sequence[Row]
    settings: Sequence[tuple[str, str]] = ()
    """Name and value of those that were not the defaults."""
    versions: Mapping[str, str]
    judgement: Judgement | None = None
    showcase: ShowcaseRecord | None = None
    """The best of what the model wrote; None where it was not chosen."""
    card: bytes = b""
    """The picture to share, as PNG; empty if there is none."""


def render_report(data: ReportData) -> str:
    """The report page of a run, as HTML."""
    events = effective_history(data.events)
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    best = find_best(evaluations)
    questions = data.showcase.questions if data.showcase else ()
    headline, *details = describe_learning(evaluations)
    end = next((event for event in reversed(events) if isinstance(event, Finished)), None)
    return _render_page(
        "report.html",
        ("share.js", "guesses.js") if questions else (),
        title=data.title,
        about=_describe_model(data, end),
        chips=_list_chips(data.judgement, events, best),
        hero=_choose_hero(data.showcase, events, best),
        questions=questions,
        shares=list_shares(len(questions), shorten_text(data.title, MOST_TITLE)),
        headline=headline,
        details=details,
        status="" if end is None else describe_end(end),
        training=_view_training(events, evaluations, best),
        samples=_view_samples(events, best),
        judgement=_view_judgement(data.judgement),
        sentences=data.showcase.sentences if data.showcase else (),
        how_chosen=HOW_CHOSEN,
        card=f"data:image/png;base64,{base64.b64encode(data.card).decode()}" if data.card else "",
        more_epochs=math.ceil(2 * evaluations[-1].epoch) if evaluations and evaluations[-1].epoch else 10,
        receipt=data.receipt,
        plan=describe_plan(data.plan, data.estimate),
        settings=data.settings,
        versions=list(data.versions.items()),
        run=quote_command(PurePath(data.run)),
        python_name=repr(data.folder),
        python_folder=repr(f"{data.folder}/model"),
    )


def _describe_model(data: ReportData, end: Finished | None) -> str:
    """What wrote what the page shows, in a sentence."""
    model = data.plan.model
    size, time = format_count(model.n_parameters), "" if end is None else f" in {format_seconds(end.seconds)}"
    text = f"{format_bytes(data.n_bytes)} of text"
    learned = f"It learned from {text}{time}."
    if end is not None and 0 < end.epoch < 1:
        learned = f"It read {percent(end.epoch, 0)} of {text}{time}."
    return f"By a GPT-2 with {size} parameters, {describe_origin(data.plan)}. {learned}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hero:
    """The text that the page begins with."""

    text: str
    note: str
    why: str = ""
    prompt: str = ""


def _choose_hero(showcase: ShowcaseRecord | None, events: Sequence[Event], best: Evaluated | None) -> _Hero | None:
    """The best of several texts or, where none was chosen, the longest sample of the kept model; None without any."""
    if showcase is not None:
        note = f"The best of {showcase.n_candidates} texts that the model wrote without a prompt, as it wrote it."
        return _Hero(text=showcase.text.strip("\n"), note=note, why=showcase.why)
    samples = find_samples(events, best) if best else ()
    if not samples:
        return None
    sample = max(samples, key=lambda one: len(one.text))
    return _Hero(text=sample.text, prompt=sample.prompt, note="A sample of the kept model, not chosen among several.")


def find_samples(events: Sequence[Event], best: Evaluated) -> tuple[Sample, ...]:
    """The samples of the kept model."""
    sampled = [event for event in events if isinstance(event, Sampled) and same_weights(event, best)]
    return sampled[-1].samples if sampled else ()


def _list_chips(judgement: Judgement | None, events: Sequence[Event], best: Evaluated | None) -> list[Chip]:
    """The judgement in short; until there is one, what the samples of the kept model show."""
    if judgement is not None:
        return list_chips({verdict.topic: verdict.grade for verdict in judgement.verdicts})
    checked = [event.found for event in events if isinstance(event, Sampled) and best and same_weights(event, best)]
    found = checked[-1] if checked else None
    return [] if found is None else list_chips({"copies": found.copying, "repeats": found.repeating})


def _render_page(template: str, scripts: Sequence[str] = (), **values: Any) -> str:
    """A page on which only these scripts may run, as one, by its hash: files of the templates."""
    script = "\n".join((TEMPLATES / name).read_text("utf-8") for name in scripts)
    fingerprint = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values["script_policy"] = Markup(f"; script-src 'sha256-{fingerprint}'") if script else ""
    return html_environment().get_template(template).render(version=__version__, script=Markup(script), **values)


@dataclass(frozen=True, kw_only=True, slots=True)
class _TrainingView:
    """The course of training: pictures and the table of epochs."""

    wide: Any
    narrow: Any
    summary: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best_row: int
    n_left_out: int
    mix: str
    """The kept weights, where they are a mix of the base and an epoch; else empty."""


def _view_training(
    events: Sequence[Event], evaluations: Sequence[Evaluated], best: Evaluated | None
) -> _TrainingView | None:
    """None without an evaluation that gave a number."""
    if best is None:
        return None
    from epigone.report.curves import NARROW, WIDE, draw_for_page  # matplotlib takes a second to load

    table, best_place = epoch_table(evaluations), evaluations.index(best)
    shown = choose_evenly(len(table), MOST_ROWS, {best_place})
    return _TrainingView(
        wide=draw_for_page(events, WIDE),
        narrow=draw_for_page(events, NARROW),
        summary=_describe_curves(evaluations, best),
        columns=[column.name for column in COLUMNS],
        rows=[[table[place][column.name] for column in COLUMNS] for place in shown],
        best_row=shown.index(best_place),
        n_left_out=len(table) - len(shown),
        mix=describe_weights(best.epoch, best.share) if best.share < 1 else "",
    )


def _describe_curves(evaluations: Sequence[Evaluated], best: Evaluated) -> str:
    """What the pictures show, for readers who do not see them."""
    return (
        f"Loss, next-token accuracy and learning rate over {format_epoch(evaluations[-1].epoch)} epochs. The "
        f"validation loss went from {evaluations[0].loss:.3f} to {best.loss:.3f} at epoch {format_epoch(best.epoch)}."
    )


def choose_evenly(n_all: int, most: int, needed: set[int]) -> list[int]:
    """At most `most` numbers below `n_all`, evenly spaced, including the first, the last and those needed."""
    if n_all <= most:
        return list(range(n_all))
    room = max(2, most - len(needed))
    even = {round(place * (n_all - 1) / (room - 1)) for place in range(room)}
    return sorted(even | needed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _SampleView:
    """One text that the model wrote."""

    heading: str
    prompt: str
    text: str
    kept: bool
    """Whether the kept model wrote it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _SamplesView:
    """Samples over the epochs: for each prompt and seed a strip, and in it one sample for each epoch."""

    strips: Sequence[Sequence[_SampleView]]
    shown: int
    """The place of the one that is shown first."""
    left_out: Sequence[str]


def _view_samples(events: Sequence[Event], best: Evaluated | None) -> _SamplesView | None:
    sampled = [event for event in events if isinstance(event, Sampled) and event.samples]
    kept = {place for place, event in enumerate(sampled) if best is not None and same_weights(event, best)}
    if len(sampled) < 2:  # nothing changed
        return None
    places = choose_evenly(len(sampled), MOST_EPOCHS, kept)
    keys = list(dict.fromkeys((sample.prompt, sample.seed) for event in sampled for sample in event.samples))
    strips = [
        [
            _view_sample(sample, sampled[place], kept=place in kept)
            for place in places
            for sample in sampled[place].samples
            if (sample.prompt, sample.seed) == key
        ]
        for key in keys[:MOST_PROMPTS]
    ]
    left_out = {"evaluations": len(sampled) - len(places), "prompts or seeds": len(keys) - MOST_PROMPTS}
    return _SamplesView(strips=strips, shown=0, left_out=[f"{n:,} {what}" for what, n in left_out.items() if n > 0])


def _view_sample(sample: Sample, event: Sampled, *, kept: bool) -> _SampleView:
    epoch = "before training" if event.step == 0 else f"epoch {format_epoch(event.epoch)}"
    heading = f"{epoch}, kept" if kept and event.share == 1 else "kept model" if kept else epoch
    return _SampleView(heading=heading, prompt=sample.prompt, text=sample.text, kept=kept)


def _view_judgement(judgement: Judgement | None) -> dict[str, Any] | None:
    """What the pages show of a judgement; None where there is nothing to show."""
    if judgement is None or not judgement.verdicts:
        return None
    return {
        "about": describe_judgement(judgement),
        "summary": summarise_judgement(judgement),
        "verdicts": view_verdicts(judgement),
        "notes": judgement.notes[:MOST_NOTES],
        "most_measures": MOST_MEASURES,
        "quick": judgement.quick,
    }


# -- the quiz page


def render_quiz(questions: Sequence[Question], name: str) -> str:
    """A page that asks the questions of a quiz on the text of this name, and counts the answers."""
    return _render_page(
        "quiz.html",
        ("share.js", "quiz.js"),
        name=name,
        questions=questions,
        outcomes=describe_outcomes(questions),
        shares=list_shares(len(questions), shorten_text(on_one_line(name), MOST_TITLE)),
    )


# -- the model card


@dataclass(frozen=True, kw_only=True)
class TrainingFile:
    """One text that was read."""

    name: str
    size_bytes: int
    n_characters: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CardData:
    """All that the model card shows. The card expects curves.png in the same folder."""

    title: str
    n_parameters: int
    evaluations: Sequence[Evaluated]
    sources: Sequence[TrainingFile]
    before: Sequence[TrainingFile] = ()
    """What the runs that it was tuned from have read besides."""
    base: str | None = None
    """The model it started from; None for one trained from scratch."""
    root: str = "none"
    """What `base` was tuned from in the end; itself unless that is a run."""
    base_on_hub: bool = False
    """Whether `base` is a name on the Hugging Face hub, to be linked, and not a folder."""
    distilled: bool = False
    """Whether it also learned from another model."""
    samples: Sequence[Sample] = ()
    showcase: ShowcaseRecord | None = None
    """The best of what it wrote."""
    temperature: float | None = None
    """At which it writes best; its generation_config.json has it."""
    sample_weights: str = ""
    """Which weights wrote them."""
    settings: Sequence[Row] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """What it was made with: package and version."""
    judgement: Judgement | None = None
    licence: str | None = None
    """An identifier that the hub knows, such as "mit"; None leaves it to the user."""


def render_card(data: CardData) -> str:
    """The README.md of a model folder, a Hugging Face model card: metadata in YAML, then Markdown."""
    best = find_best(data.evaluations)
    return (
        markdown_environment()
        .get_template("card.md")
        .render(
            metadata=Markup(_card_metadata(data, best).to_yaml()),
            size=format_count(data.n_parameters),
            data=data,
            base_included=data.root in BASES,
            kept="the best epoch" if best is None else describe_weights(best.epoch, best.share),
            columns=tuple(column.name for column in COLUMNS),
            epochs=[_mark_best(row) for row in epoch_table(data.evaluations)],
            judgement=_view_judgement(data.judgement),
        )
    )


def _mark_best(row: Mapping[str, str]) -> list[str]:
    """The cells of a row of the table of epochs, in bold if it is the best."""
    cells = [row[name] for name in (*(column.name for column in COLUMNS), "best")]
    return [Markup(f"**{escape_markdown(cell)}**") for cell in cells] if row["best"] else cells


def _card_metadata(data: CardData, best: Evaluated | None) -> ModelCardData:
    """Metadata for the hub. `ModelCard.validate` would send it there, so it is not called."""
    relation: dict[str, Any] = {"base_model_relation": "finetune"} if data.base_on_hub else {}
    return ModelCardData(
        model_name=re.sub(r"[^\w .-]+", " ", on_one_line(data.title)).strip() or "model",
        eval_results=[] if best is None else [*_list_results(best), *_list_verdicts(data.judgement)],
        language=(data.showcase.language if data.showcase else "") or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["gpt2", "style-imitation", "epigone"],
        base_model=data.base if data.base_on_hub else None,
        license=data.licence,
        widget=[{"text": prompt} for prompt in _list_prompts(data)],
        **relation,
    )


def _list_prompts(data: CardData) -> list[str]:
    """What to try on the hub's page: the prompts of the samples, else how the best sentences begin."""
    prompts = [on_one_line(sample.prompt) for sample in data.samples if sample.prompt.strip()]
    best = [" ".join(sentence.split()[:4]) for sentence in (data.showcase.sentences if data.showcase else ())]
    plain = (re.sub(r"[^\w .,;:!?'’-]+", " ", prompt).strip() for prompt in [*prompts, *best])
    return list(dict.fromkeys(filter(None, plain)))[:MOST_WIDGET_PROMPTS] or ["Once"]


def _list_results(best: Evaluated) -> list[EvalResult]:
    """The numbers of the best evaluation, as the hub's model index knows them."""
    numbers = {
        "loss": ("Validation loss, nats per token", best.loss),
        "perplexity": ("Validation perplexity", best.perplexity),
        "bits_per_byte": ("Validation bits per byte", best.bits_per_byte),
        "accuracy": ("Next-token accuracy", best.accuracy),
    }
    return [
        _make_result("held-out", "held-out part of the text", kind, name, value)
        for kind, (name, value) in numbers.items()
        if math.isfinite(value)
    ]


_VERDICT_METRICS: tuple[tuple[Topic, str, str, str], ...] = (
    ("sounds like", "score", "style_score", "Sounds like the author: 0 is other authors, 100 the author"),
    ("makes sense", "score", "sense_score", "Words and sentences: 0 is nonsense, 100 the author"),
    ("copies", "share", "copied_share", "Share in passages of 50 characters from the training text"),
    ("copies", "longest_characters", "longest_copy", "Longest copied passage, characters"),
    ("repeats", "repeated", "repeated_share", "Share of four-word passages that recur"),
)
"""Topic and fact of a verdict, and their kind and name in the hub's model index."""


def _list_verdicts(judgement: Judgement | None) -> list[EvalResult]:
    """The numbers behind the verdicts, as far as they are known."""
    facts = {verdict.topic: verdict.facts for verdict in judgement.verdicts} if judgement else {}
    found = [(kind, name, facts[topic].get(fact)) for topic, fact, kind, name in _VERDICT_METRICS if topic in facts]
    return [
        _make_result("generated", "texts that the model wrote", kind, name, value)
        for kind, name, value in found
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def _make_result(dataset: str, dataset_name: str, kind: str, name: str, value: float) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        task_name="Text generation",
        dataset_type=dataset,
        dataset_name=dataset_name,
        metric_type=kind,
        metric_name=name,
        metric_value=round(value, 6),
    )
