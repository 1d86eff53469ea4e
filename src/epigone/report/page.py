"""All that is known of a run in, one offline page about it out: report.html.

It answers in the order in which one asks: is it good, how did it learn, what does it write, what was it made from.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from epigone.planning.plan import Plan
from epigone.report.best_sentences import HOW_CHOSEN
from epigone.report.curves import NARROW, WIDE, draw_svg
from epigone.report.elements import (
    draw_chapter,
    draw_page,
    draw_paragraph,
    draw_table,
    escape,
    place_svg,
    quote,
    shorten_text,
)
from epigone.report.views import (
    COLUMNS,
    Row,
    describe_end,
    describe_judged,
    describe_plan,
    describe_receipt,
    describe_share,
    draw_verdict,
    epoch_table,
    format_epoch,
    list_answers,
    list_notes,
    list_verdicts,
    name_moment,
)
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

MOST_ROWS = 60
MOST_EPOCHS = 6
MOST_PROMPTS = 6
LONGEST_SAMPLE = 900
LONGEST_PROMPT = 200
"""Characters that are shown: a page is to stay below 2 MB whatever the run, and to be read."""
NOTICEABLE = 0.02
"""Nats per token by which the validation loss has to have risen for us to speak of overfitting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFacts:
    """All that the page tells."""

    name: str
    """Of the run's folder; none of the folders around it is named."""
    events: Sequence[Event]
    plan: Plan
    estimate: Estimate | None = None
    receipt: Mapping[str, Any]
    settings: Sequence[tuple[str, str]] = ()
    """Name and value of those that were not the defaults."""
    versions: Mapping[str, str]
    judgement: Mapping[str, Any] | None = None
    """What `Judgement.as_json` gives."""
    sentences: Sequence[str] | None = None
    """The best ones; None where they have not been chosen yet."""


def build_page(facts: PageFacts) -> str:
    """The page, as HTML."""
    events = effective_history(facts.events)
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    chapters = {
        "course": ("How it learned", _show_course(events, evaluations)),
        "samples": ("What it wrote, epoch by epoch", _show_samples(events, find_best(evaluations))),
        "verdicts": ("Verdicts", _show_verdicts(facts.judgement, facts.name)),
        "sentences": ("Best sentences", _show_sentences(facts.sentences)),
        "text": (
            "What was read, and what was cut",
            _show_rows("From the file to the tokens", describe_receipt(facts.receipt)),
        ),
        "plan": ("The plan, and why", _show_rows("What was derived", describe_plan(facts.plan, facts.estimate))),
        "settings": ("What was asked, and with what it was made", _show_settings(facts)),
        "next": ("How to go on", _show_commands(facts.name)),
    }
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, (heading, _) in chapters.items())
    body = "\n".join(
        [
            f"<header>\n{_introduce(facts, events, evaluations)}\n</header>",
            f'<nav aria-label="Chapters"><ul>{links}</ul></nav>',
            "<main>",
            *(draw_chapter(name, heading, parts) for name, (heading, parts) in chapters.items()),
            "</main>",
            '<footer class="quiet"><p>Made by epigone. This page loads nothing and can be kept or sent as it is; '
            "it quotes the text and what the model wrote.</p></footer>",
        ]
    )
    return draw_page(f"{facts.name}: what it learned", body)


# -- is it good


def _introduce(facts: PageFacts, events: Sequence[Event], evaluations: Sequence[Evaluated]) -> str:
    plan = facts.plan
    origin = "trained from scratch" if plan.fresh else f"fine-tuned from {quote(plan.base)}"
    origin += ", with another model as its teacher," if plan.teacher else ""
    names = [str(file["name"]) for file in facts.receipt["files"]]
    text = quote(names[0], 120) if names else "a text"
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    lead, *rest = describe_learning(evaluations)
    ended = [describe_end(event) for event in events if isinstance(event, Finished)][-1:]
    return "\n".join(
        [
            f'<h1 dir="auto">{quote(facts.name, 120)}</h1>',
            f'<p class="by">A GPT-2 with {plan.n_parameters:,} parameters, {origin} on {text}{more}.</p>',
            draw_paragraph(lead, "lead"),
            *map(draw_paragraph, rest),
            list_answers(facts.judgement) if facts.judgement else "",
            *(draw_paragraph(line, "quiet") for line in ended or ["It is not finished, or was stopped."]),
        ]
    )


def describe_learning(evaluations: Sequence[Evaluated]) -> list[str]:
    """Whether it overfitted, in one plain sentence, and then the numbers that say so."""
    best = find_best(evaluations)
    if best is None:
        return ["There is no evaluation yet, so nothing can be said."]
    if best.share < 1:
        return _describe_mixture(best, evaluations)
    last, first = evaluations[-1], evaluations[0]
    epoch = f"epoch {format_epoch(best.epoch)}"
    parts = [_tell_score(best) + (f" It began at {first.loss:.3f}." if first is not best else "")]
    if best.training_loss is not None:
        parts.append(_compare(best))
    if best is last:
        gain = evaluations[-2].loss - best.loss if first is not best else 0.0
        more = " It was still getting better, so more epochs may help." if gain >= NOTICEABLE else ""
        return [f"It did not overfit: it was best at the end, at {epoch}.{more}", " ".join(parts)]
    rise = last.loss - best.loss
    if rise < NOTICEABLE:
        return [f"It was best at {epoch} and got no better from there; it hardly overfitted.", " ".join(parts)]
    now = f" at epoch {format_epoch(last.epoch)}"
    fall = "" if last.training_loss is None else f", while the training loss came to {last.training_loss:.3f}"
    parts.append(f"From there the validation loss rose by {rise:.3f}{now}{fall}: it learned by heart what it read.")
    return [f"It overfitted after {epoch}; the weights of that epoch were kept.", " ".join(parts)]


def _tell_score(best: Evaluated) -> str:
    return (
        f"There the validation loss was {best.loss:.3f} nats per token ({best.bits_per_byte:.3f} bits per byte of "
        f"held-out text), and {100 * best.accuracy:.1f}\u00a0% of its tokens were predicted."
    )


def _describe_mixture(best: Evaluated, evaluations: Sequence[Evaluated]) -> list[str]:
    learned = [item for item in evaluations if item.share == 1]
    lowest = min(learned, key=lambda item: item.loss)
    overfitted = learned[-1].loss - lowest.loss >= NOTICEABLE
    return [
        f"It overfitted after epoch {format_epoch(lowest.epoch)}, and some of it was taken back."
        if overfitted
        else "It did not overfit, and going back a little made it better still.",
        f"The weights that were kept lie {name_moment(best.epoch, best.share)}. {_tell_score(best)} The base's was "
        f"{evaluations[0].loss:.3f}, that of the end {learned[-1].loss:.3f}.",
    ]


def _compare(best: Evaluated) -> str:
    """The gap between what it learned from and what it did not see."""
    training, gap = best.training_loss or 0.0, best.loss - (best.training_loss or 0.0)
    if gap <= 0:
        return f"Training loss, averaged over the steps before and under any dropout, was {training:.3f}: no gap."
    return f"Training loss was {training:.3f}: a gap of {gap:.3f} between the text it learned from and held-out text."


# -- how it learned


def _show_course(events: Sequence[Event], evaluations: Sequence[Evaluated]) -> Iterator[str]:
    best = find_best(evaluations)
    if not evaluations or best is None:
        yield draw_paragraph("No evaluation gave a number yet.")
        return
    title = (
        f"Loss, next-token accuracy and learning rate over {format_epoch(evaluations[-1].epoch)} epochs; validation "
        f"loss fell from {evaluations[0].loss:.3f} to {best.loss:.3f} at epoch {format_epoch(best.epoch)}."
    )
    pictures = [place_svg(draw_svg(events, how), kind, title) for how, kind in ((WIDE, "wide"), (NARROW, "narrow"))]
    yield f"<figure>\n{''.join(pictures)}\n<figcaption>{_EXPLAIN_CURVES}</figcaption>\n</figure>"
    table = epoch_table(evaluations)
    kept = choose_evenly(len(table), MOST_ROWS, {evaluations.index(best)})
    rows = [[table[number][column.name] for column in COLUMNS] for number in kept]
    names, best_row = [column.name for column in COLUMNS], kept.index(evaluations.index(best))
    yield draw_table("Losses in nats per token", names, rows, "numbers", best_row)
    if best.share < 1:
        yield draw_paragraph(f"The best one is {describe_share(best)}.", "quiet")
    if len(kept) < len(table):
        yield draw_paragraph(f"{len(table) - len(kept):,} more evaluations are in metrics.jsonl.", "quiet")


_EXPLAIN_CURVES = (
    "Training loss is averaged over the steps between two evaluations, under any dropout. The rest comes from held-out "
    "text, of which every token was read once. The mark is the best evaluation: its weights were kept."
)


def choose_evenly(n_all: int, most: int, needed: set[int]) -> list[int]:
    """At most `most` numbers below `n_all` at even distances, the first and last and those needed among them."""
    if n_all <= most:
        return list(range(n_all))
    room = max(2, most - len(needed))
    even = {round(place * (n_all - 1) / (room - 1)) for place in range(room)}
    return sorted(even | needed)


# -- what it wrote


def _show_samples(events: Sequence[Event], best: Evaluated | None) -> Iterator[str]:
    sampled = [event for event in events if isinstance(event, Sampled) and event.samples]
    if not sampled:
        yield draw_paragraph("No samples were asked for.")
        return
    chosen = {place for place, event in enumerate(sampled) if best is not None and same_weights(event, best)}
    shown = [sampled[place] for place in choose_evenly(len(sampled), MOST_EPOCHS, chosen)]
    yield draw_paragraph("The same prompt and the same seed each time, nothing chosen.", "quiet")
    keys = list(dict.fromkeys((sample.prompt, sample.seed) for event in sampled for sample in event.samples))
    for prompt, seeds in groupby(keys[:MOST_PROMPTS], key=lambda key: key[0]):
        yield f"<h3>{f'After “{quote(prompt, LONGEST_PROMPT)}”' if prompt.strip() else 'Without a prompt'}</h3>"
        for _, seed in seeds:
            yield _compare_epochs(shown, (prompt, seed), best)
    if left := _tell_left_out(len(sampled) - len(shown), len(keys) - MOST_PROMPTS):
        yield draw_paragraph(left, "quiet")


def _compare_epochs(shown: Sequence[Sampled], key: tuple[str, int], best: Evaluated | None) -> str:
    """One prompt and seed, at each of the epochs."""
    texts = [
        _draw_sample(sample, event, is_best=best is not None and same_weights(event, best))
        for event in shown
        for sample in event.samples
        if (sample.prompt, sample.seed) == key
    ]
    return f'<div class="epochs">\n{"".join(texts)}</div>'


def _draw_sample(sample: Sample, event: Sampled, *, is_best: bool) -> str:
    heading = name_moment(event.epoch, event.share) + (", the best" if is_best else "")
    prompt = f'<span class="prompt">{escape(shorten_text(sample.prompt, LONGEST_PROMPT))}</span>'
    text = f"{prompt if sample.prompt else ''}{escape(shorten_text(sample.text, LONGEST_SAMPLE))}"
    return (
        f'<article class="text{" chosen" if is_best else ""}"><h4>{heading}</h4>'
        f'<p class="said" dir="auto" lang="">{text}</p></article>\n'
    )


def _tell_left_out(n_epochs: int, n_prompts: int) -> str:
    left = [f"{n_epochs:,} evaluations"] if n_epochs > 0 else []
    left += [f"{n_prompts:,} prompts or seeds"] if n_prompts > 0 else []
    return f"Left out here, but in the folder samples: {' and '.join(left)}." if left else ""


def _show_verdicts(judgement: Mapping[str, Any] | None, name: str) -> Iterator[str]:
    if not judgement or not list_verdicts(judgement):
        command = escape(f"epigone judge {shlex.quote(name)}")
        yield f'<p>Not judged yet, as the model is now: <code dir="ltr">{command}</code></p>'
        return
    yield f'<p class="quiet">{quote(describe_judged(judgement), 600)}</p>'
    for question, verdict in list_verdicts(judgement):
        yield draw_verdict(question, verdict)
    yield from (f'<p class="quiet">{quote(note, 600)}</p>' for note in list_notes(judgement))


def _show_sentences(sentences: Sequence[str] | None) -> Iterator[str]:
    if sentences is None:
        yield draw_paragraph("They are chosen when the run is finished, or by epigone report.")
        return
    if not sentences:
        yield draw_paragraph("In what it wrote after the best epoch there is none that is whole, new and not too long.")
        return
    yield draw_paragraph(HOW_CHOSEN, "quiet")
    for sentence in sentences:
        shown = escape(shorten_text(sentence, 400))
        yield f'<blockquote><p class="said" dir="auto" lang="">{shown}</p></blockquote>'


# -- what it was made from


def _show_rows(caption: str, rows: Sequence[Row]) -> Iterator[str]:
    yield draw_table(caption, ["", "value", "reason"], rows, "words")


def _show_settings(facts: PageFacts) -> Iterator[str]:
    if facts.settings:
        yield draw_table("Settings that were not the defaults", ["setting", "value"], facts.settings, "words")
    else:
        yield draw_paragraph("Every setting had its default.")
    yield draw_table("Versions", ["package", "version"], list(facts.versions.items()), "words")


def _show_commands(name: str) -> Iterator[str]:
    run = shlex.quote(name)
    yield draw_paragraph("In the folder that holds this run:")
    lines = (
        (f'epigone write {run} --prompt "Once" --length 500', "write"),
        (f"epigone resume {run} --epochs 40", "learn on, up to so many epochs in all"),
        (f"epigone judge {run}", "style, copying, repetition"),
        (f"epigone quiz {run}", "can you tell it from the author?"),
        (f"epigone score {run} other.txt", "how likely it finds another text"),
        (f"epigone report {run}", "make this page anew"),
    )
    items = [
        f'<li><span class="quiet">{what}</span><code dir="ltr">{escape(command)}</code></li>' for command, what in lines
    ]
    yield f'<ul class="commands">{"".join(items)}</ul>'
    yield "<p>From Python, with epigone or without it:</p>"
    folder = f"{name}/model"
    code = f"epigone.open_run({name!r}).write('Once')\ntransformers.AutoModelForCausalLM.from_pretrained({folder!r})"
    yield f'<pre dir="ltr">{escape(code)}</pre>'
