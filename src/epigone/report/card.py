"""Facts about a trained model in, the README.md of its folder out: a Hugging Face model card."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from epigone.files import write_bytes
from epigone.report.escape import code_markdown, escape_markdown, fence_text, on_one_line
from epigone.report.views import COLUMNS, describe_judged, epoch_table, list_verdicts, name_moment, write_verdicts
from epigone.training.events import Evaluated, Sample, find_best


@dataclass(frozen=True, kw_only=True)
class TrainingFile:
    """One text that was read."""

    name: str
    size_bytes: int
    n_characters: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that the card tells. It is to lie beside curves.png."""

    title: str
    n_parameters: int
    evaluations: Sequence[Evaluated]
    sources: Sequence[TrainingFile]
    base: str | None = None
    """The model it started from; None for a fresh one."""
    base_on_hub: bool = False
    """Whether `base` is a name on the Hugging Face hub, to be linked, and not a folder."""
    taught: bool = False
    """Whether it learned from another model besides."""
    samples: Sequence[Sample] = ()
    sample_moment: str = ""
    """Which weights wrote them."""
    settings: Sequence[tuple[str, str, str]] = ()
    """Name, value and the reason for it, which may be empty."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """What it was made with: package and version."""
    judgement: Mapping[str, Any] | None = None
    """What `Judgement.as_json` gives; None where it has not been judged."""
    licence: str | None = None
    """An identifier that the hub knows, such as "mit"; None leaves it for the user to state."""


def write_card(facts: CardFacts, folder: Path) -> Path:
    """Write README.md into `folder`. Raises OutputError."""
    return write_bytes(folder / "README.md", build_card(facts).encode("utf-8", "replace"))


def build_card(facts: CardFacts) -> str:
    """The card: metadata in YAML, then chapters in Markdown."""
    chapters = [
        _introduce(facts),
        _explain_loading(),
        _show_epochs(facts.evaluations),
        _show_samples(facts.samples, facts.sample_moment),
        _show_verdicts(facts.judgement),
        _show_sources(facts.sources),
        _show_settings(facts.settings, facts.versions),
        _warn_of_copies(),
        _speak_of_licence(facts.licence),
    ]
    return f"---\n{_build_metadata(facts)}\n---\n\n" + "\n\n".join(chapter for chapter in chapters if chapter) + "\n"


def _build_metadata(facts: CardFacts) -> str:
    """YAML for the hub. `ModelCard.validate` would send it there; keys and types are checked here without that."""
    best = find_best(facts.evaluations)
    data = ModelCardData(
        model_name=re.sub(r"[^\w .-]+", " ", on_one_line(facts.title)).strip() or "model",
        eval_results=[] if best is None else _list_results(best),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["gpt2", "style-imitation", "epigone"],
        base_model=facts.base if facts.base_on_hub else None,
        license=facts.licence,
    )
    return data.to_yaml()


def _list_results(best: Evaluated) -> list[EvalResult]:
    """The numbers of the best evaluation, as the hub's model index knows them."""
    numbers = {
        "loss": ("Validation loss, nats per token", best.loss),
        "perplexity": ("Validation perplexity", best.perplexity),
        "bits_per_byte": ("Validation bits per byte", best.bits_per_byte),
        "accuracy": ("Next-token accuracy", best.accuracy),
    }
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type="held-out",
            dataset_name="held-out part of the text",
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 6),
        )
        for kind, (name, value) in numbers.items()
        if math.isfinite(value)
    ]


# -- the chapters


def _introduce(facts: CardFacts) -> str:
    size = f"a GPT-2 with {facts.n_parameters:,} parameters"
    origin = "trained from scratch" if facts.base is None else f"fine-tuned from {code_markdown(facts.base)}"
    origin += ", with another model as its teacher," if facts.taught else ""
    best = find_best(facts.evaluations)
    kept = "the best epoch" if best is None else name_moment(best.epoch, best.share)
    return (
        f"# {escape_markdown(facts.title)}\n\n"
        f"This model writes on in the style of one text. It is {size}, {origin} with epigone. "
        f"The weights are those at {kept}, where the validation loss was lowest."
    )


def _explain_loading() -> str:
    return """\
## How to use it

```python
from transformers import pipeline

write = pipeline("text-generation", model="path/to/this/folder")
print(write("Once", max_new_tokens=200, do_sample=True)[0]["generated_text"])
```"""


def _show_epochs(evaluations: Sequence[Evaluated]) -> str:
    rows = []
    for row in epoch_table(evaluations):
        cells = [row[column.name] for column in COLUMNS]
        rows.append([*(f"**{cell}**" for cell in cells), "**best**"] if row["best"] else [*cells, ""])
    table = _draw_table([*(column.name for column in COLUMNS), ""], rows, align="---:")
    return (
        "## How it learned\n\n"
        "![Loss, next-token accuracy and learning rate over the epochs](curves.png)\n\n"
        "Losses are in nats per token. Training loss is averaged over the steps since the row above, under any "
        "dropout; the other numbers come from held-out text, of which every token was read once.\n\n" + table
    )


def _show_samples(samples: Sequence[Sample], moment: str) -> str:
    if not samples:
        return ""
    blocks = [f"## What it wrote at {moment}, unchosen"]
    for sample in samples:
        start = f"After the prompt {code_markdown(sample.prompt)}" if sample.prompt else "Without a prompt"
        blocks += [f"{start}, seed {sample.seed}:", fence_text(sample.prompt + sample.text)]
    return "\n\n".join(blocks)


def _show_verdicts(judgement: Mapping[str, Any] | None) -> str:
    if not judgement or not list_verdicts(judgement):
        return ""
    about = escape_markdown(describe_judged(judgement))
    return f"## How close it comes, and how much it copies\n\n{about}\n\n{write_verdicts(judgement)}"


def _show_sources(sources: Sequence[TrainingFile]) -> str:
    if not sources:
        return ""
    rows = [
        [code_markdown(source.name), f"{source.size_bytes:,}", f"{source.n_characters:,}", code_markdown(source.sha256)]
        for source in sources
    ]
    return "## What it was trained on\n\n" + _draw_table(["text", "bytes", "characters", "SHA-256"], rows, align="---")


def _show_settings(settings: Sequence[tuple[str, str, str]], versions: Mapping[str, str]) -> str:
    rows = [[escape_markdown(cell) for cell in row] for row in settings]
    made_with = ", ".join(f"{escape_markdown(name)} {escape_markdown(version)}" for name, version in versions.items())
    parts = [
        "## How it was made",
        _draw_table(["setting", "value", "reason"], rows, align="---") if rows else "",
        f"Made with {made_with}." if made_with else "",
    ]
    return "\n\n".join(part for part in parts if part) if rows or made_with else ""


def _warn_of_copies() -> str:
    return """\
## Limits

It imitates a manner and knows nothing: names, dates and claims in what it writes are invented. It has read the text
several times and may copy passages word for word. Before you publish something, look for copies: search the
original for runs of eight words or more from it. What is held out for validation comes from the same text, so the
numbers above say how well it knows this text, not how well it writes elsewhere."""


def _speak_of_licence(licence: str | None) -> str:
    if licence is not None:
        return ""
    return """\
## Licence

None is stated. It depends on the rights to the text and on the licence of the model it started from, if any; whoever
shares this model should add a `license:` line to the top of this file."""


def _draw_table(headings: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    lines = [headings, [align] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
