"""Settings of training, writing and judging: typed, validated, and the source of flags, TOML files and docs."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from epigone.errors import SettingsError

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
]
SIZES = {
    "pico": (2, 64),
    "nano": (4, 128),
    "micro": (4, 192),
    "mini": (6, 256),
    "small": (6, 384),
    "medium": (8, 512),
    "gpt2": (12, 768),
    "gpt2-medium": (24, 1024),
    "gpt2-large": (36, 1280),
    "gpt2-xl": (48, 1600),
}
"""Named sizes of a new model: (layers, width)."""


def parse_size(size: str) -> tuple[int, int]:
    """Layers and width of a size: a name from `SIZES` or "LAYERSxWIDTH". Raises ValueError."""
    if size in SIZES:
        return SIZES[size]
    match = re.fullmatch(r"(\d{1,3})x(\d{1,5})", size)
    if match is None:
        raise ValueError(f"one of {', '.join(SIZES)} or LAYERSxWIDTH such as 6x256")
    n_layer, width = int(match[1]), int(match[2])
    if not (1 <= n_layer <= 96 and 32 <= width <= 4096 and width % 32 == 0):
        raise ValueError("a size with 1 to 96 layers and a width that is a multiple of 32 from 32 to 4096")
    return n_layer, width


def _check_size(size: str) -> str:
    if size != "auto":
        parse_size(size)
    return size


def _as_pairs(value: object) -> object:
    """A TOML table as a list of "name=value"."""
    return tuple(f"{name}={item}" for name, item in value.items()) if isinstance(value, Mapping) else value


def _check_pair(pair: str) -> str:
    if not re.fullmatch(r"[a-z_]+=\S+", pair):
        raise ValueError("written as name=value")
    return pair


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Auto = Literal["auto"]
Off = Literal["none"]
SELF = "self"
"""As a teacher: a first run that the same command makes."""
UNITS = {"s": 1 / 60, "m": 1, "min": 1, "h": 60}
"""Minutes in what may stand behind a number of minutes."""


def as_minutes(value: object) -> object:
    """The minutes in "90s", "10m" or "1h"; anything else as it is."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(s|m|min|h)", value) if isinstance(value, str) else None
    return float(found[1]) * UNITS[found[2]] if found else value


def _as_share(value: object) -> object:
    """The number in "0.1" or "10%"; the name of a file as it is. Raises ValueError for a share that is too large."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) ?(%?)", value) if isinstance(value, str) else None
    share = float(found[1]) / (100 if found[2] else 1) if found else value
    if isinstance(share, float) and not 0 < share <= 0.5:
        raise ValueError("a share of at most 0.5 (such as 0.1 or 10%) or the path of a file")
    return share


def as_mix(value: object) -> object:
    """The runs of {"runs/poe": 0.4} or "runs/poe:0.4" as the setting `mix` has them; anything else as it is."""
    if isinstance(value, Mapping):
        return tuple(f"{name}:{share}" for name, share in value.items())
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def parse_mix(text: str) -> tuple[str, float | None]:
    """The name and the share of "runs/poe:0.4", "…:0,4" or "…:40%"; no share where there is none. Raises ValueError."""
    found = re.fullmatch(r"(.+):(-?[0-9]*[.,]?[0-9]+(?:e-?[0-9]+)?) ?(%?)", text, re.DOTALL)
    if found is None:
        return text, None
    share = float(found[2].replace(",", ".")) / (100 if found[3] else 1)
    if not 0 <= share <= 1:
        raise ValueError("a run and its share, from 0 to 1, such as runs/poe:0.4")
    return found[1], share


def _check_mix(text: str) -> str:
    if not text:
        raise ValueError("a run and its share, such as runs/poe:0.4")
    parse_mix(text)
    return text


class Frozen(BaseModel):
    """A frozen object that refuses unknown keys and wrong types, and takes each field's help from the text under it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    synonyms: ClassVar[Mapping[str, str]] = {}
    """Other names that fields are known by: those of transformers' scripts and those of earlier versions."""
    old_values: ClassVar[Mapping[str, Mapping[object, str]]] = {}
    """Values of earlier versions, by field, and what they are called now."""
    groups: ClassVar[Mapping[str, str]] = {}
    """The headings under which fields stand in help and docs, each by the first field under it."""
    common: ClassVar[tuple[str, ...]] = ()
    """Fields that are set often, which come first in the help, in this order."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Let the help be one line, to be broken where it is shown."""
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split())

    @model_validator(mode="before")
    @classmethod
    def _understand(cls, values: object) -> object:
        """TOML and JSON know only lists, and older files other names."""
        if not isinstance(values, Mapping):
            return values
        current = cls.with_current_names(values)
        return {name: tuple(value) if isinstance(value, list) else value for name, value in current.items()}

    @classmethod
    def with_current_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values by their fields' names; of two names for one field, the synonym stays and is refused later."""
        found = {}
        for name, value in values.items():
            new = cls.synonyms.get(name, name)
            name = name if new in values else new
            old = cls.old_values.get(name, {})
            found[name] = old.get(value, value) if isinstance(value, str) else value
        return found


S = TypeVar("S", bound=Frozen)


FormatName = Literal[
    "auto",
    "text",
    "pdf",
    "epub",
    "docx",
    "odt",
    "fodt",
    "rtf",
    "fb2",
    "whatsapp",
    "telegram",
    "messenger",
    "discord",
    "tweets",
    "irc",
    "mail",
    "subtitles",
    "blog",
    "feed",
    "parquet",
    "notebook",
    "jsonl",
    "json",
    "html",
    "markdown",
    "org",
    "xml",
    "csv",
]
"""What a file may be read as; `corpus/readers/formats.py` has a reader for each."""


class ReadSettings(Frozen):
    """How texts are read."""

    encoding: str = "auto"
    """Encoding of the text, such as "cp1252". "auto" looks for a byte-order mark, tries UTF-8 and UTF-16, then detects
    it."""
    format: FormatName = "auto"
    """Format of the text. "auto" recognises it by its content; "text" reads any file as plain text, with its markup."""
    code: Literal["drop", "keep"] = "drop"
    """Blocks of program code in posts and pages: leave them out, or keep them."""
    furniture: Literal["drop", "keep"] = "drop"
    """What surrounds the text of books and scans: page numbers, running heads, footnotes and their marks, tables of
    contents, captions, transcribers' notes, imprints. Where they are certain, leave them out, or keep them."""
    field: tuple[str, ...] = ()
    """Field of a table or of JSON that has the text, such as "body" or "post.body". Can be repeated. Otherwise it is
    guessed from names and lengths, and the plan says which one it is."""
    speaker: tuple[str, ...] = ()
    """Of chats, mails and subtitles, learn only what this person says. Can be repeated. Otherwise the conversation is
    learned, with names."""
    anonymize: bool = False
    """Replace the names of speakers ("Person A"), phone numbers, e-mail addresses and handles."""
    keep_boilerplate: bool = False
    """Keep the header and licence of Project Gutenberg's files instead of removing them."""


class TextSettings(ReadSettings):
    """How texts become tokens: what is joined, what is held out, and whose tokenizer is used."""

    unwrap: Literal["auto", "yes", "no"] = "auto"
    """Join the lines of paragraphs that were wrapped at a width, so that the model writes paragraphs and no line ends.
    Verse, tables, lists and program text keep their lines. "auto": in a text that is mostly wrapped prose."""
    validation: Annotated[Annotated[float, Field(gt=0, le=0.5)] | str, BeforeValidator(_as_share)] = 0.1
    """Text held out from training to validate on: a share of the characters (0.1 or 10%), or the path of another file.
    """
    split: Literal["auto", "spread", "tail", "documents"] = "auto"
    """What is held out. "spread": several passages across each file. "tail": the end of the text. "documents": whole
    texts. "auto": documents if there are ten texts or more, otherwise spread."""

    base: str = "auto"
    """Model to start from: "modern" or "small" (included), "gpt2" or another GPT-2 on the Hugging Face Hub, a folder, a
    run of yours, or "none" to train a new model from scratch. "auto": the plan chooses and says why."""
    vocab_size: Annotated[int, Field(ge=257, le=65_536)] | Auto = "auto"
    """Tokens in a new model's vocabulary: byte-level BPE, trained on the training text (on an even sample of 100
    million characters if it is longer)."""


class PrepareSettings(TextSettings):
    """How to prepare texts for training."""

    synonyms: ClassVar[Mapping[str, str]] = {
        "model": "base",
        "validation_file": "validation",
        "vocabulary": "vocab_size",
        "num_proc": "workers",
    }
    groups: ClassVar[Mapping[str, str]] = {"encoding": "Text", "base": "Model", "seed": "Machine"}
    common: ClassVar[tuple[str, ...]] = ("base", "validation", "workers")

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random numbers."""
    workers: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Processes that read and encode. "auto": one for each core."""


class TrainSettings(TextSettings):
    """How to train. Every field has a default that works; "auto" leaves the choice to the plan."""

    synonyms: ClassVar[Mapping[str, str]] = {
        "lr": "learning_rate",
        "model": "base",
        "model_name_or_path": "base",
        "validation_file": "validation",
        "num_train_epochs": "epochs",
        "num_epochs": "epochs",
        "per_device_train_batch_size": "batch_size",
        "gradient_accumulation_steps": "gradient_accumulation",
        "max_length": "block_size",
        "max_seq_length": "block_size",
        "context_length": "block_size",
        "optim": "optimizer",
        "lr_scheduler_type": "schedule",
        "scheduler": "schedule",
        "lr_scheduler_kwargs": "schedule_arguments",
        "early_stopping_patience": "patience",
        "eval_steps": "evaluate_every",
        "lora_r": "lora",
        "lora_rank": "lora",
        "vocabulary": "vocab_size",
        "accumulation": "gradient_accumulation",
        "clip": "max_grad_norm",
        "warmup": "warmup_ratio",
        "compilation": "compile",
        "fsdp": "shard",
    }
    old_values: ClassVar[Mapping[str, Mapping[object, str]]] = {
        "compile": {"none": "off", "blocks": "layers", "whole": "full"},
        "keep_best": {"verdict": "quality"},
    }
    groups: ClassVar[Mapping[str, str]] = {
        "encoding": "Text",
        "base": "Model",
        "epochs": "Training",
        "device": "Machine",
        "evaluate_every": "Monitoring",
    }
    common: ClassVar[tuple[str, ...]] = ("base", "epochs", "minutes", "validation", "sample_prompt", "seed")

    by: Literal["none", "folder", "speaker", "author"] = "none"
    """Several voices: a run of all texts and, from it, a run for each voice, in which `epigone write --voice NAME`
    writes. "folder": for each folder and file in the folder that is named. "speaker": for each --speaker of a chat.
    "author": for each author that the documents name."""

    size: Annotated[str, AfterValidator(_check_size)] = "auto"
    """Size of a new model: pico, nano, micro, mini, small, medium, gpt2, gpt2-medium, gpt2-large, gpt2-xl, or
    LAYERSxWIDTH such as 6x256."""
    block_size: Annotated[int, Field(ge=8, le=8192)] | Auto = "auto"
    """Context length in tokens."""
    dropout: Share | Auto = "auto"
    """Share of activations dropped in training, against overfitting."""
    lora: Annotated[int, Field(ge=1, le=1024)] | Off = "none"
    """Fine-tune with low-rank adapters of this rank (16 is usual), which takes less memory. They are merged into the
    model at the end. Needs an extra package: pip install "epigone[lora]"."""

    teacher: str = "none"
    """Distil from another model: the loss also compares the predictions with those of that one. "self": two runs in
    one command, of which the second learns from the first and, from scratch on texts of 70 to 100 KB, is larger. Or the
    folder of a run that was trained from scratch on the same text. From scratch, on texts read 15 times or more, the
    loss ends 2 to 3 % lower than that of one run, 4 to 9 % if the second is larger; from a bundled base, which only
    "self" does, 0.2 to 0.5 %."""

    epochs: Positive | Auto = "auto"
    """Passes over the text. Fractions are allowed."""
    minutes: Annotated[Positive | Off, BeforeValidator(as_minutes)] = "none"
    """Train for at most this many minutes (also 90s, 10m or 1h); the learning rate schedule is fitted to them."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Blocks in a batch. Several processes divide it between them."""
    gradient_accumulation: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Batches whose gradients are added up for one step: a larger effective batch in the same memory."""
    optimizer: Literal["auto", "adamw", "muon"] = "auto"
    """Optimizer. "muon" updates the matrices inside the model with Muon and everything else with AdamW. "auto": muon
    from scratch, adamw for fine-tuning."""
    learning_rate: Positive | Auto = "auto"
    """Peak learning rate of AdamW. Muon's rate, and from scratch that of the embeddings, is in proportion to it.
    "auto": 5e-5 for fine-tuning; from scratch the plan chooses."""
    schedule: Schedule | Auto = "auto"
    """Learning rate schedule, by its name in transformers. "auto": linear to zero."""
    schedule_arguments: Annotated[
        tuple[Annotated[str, AfterValidator(_check_pair)], ...], BeforeValidator(_as_pairs)
    ] = ()
    """Further arguments of the schedule, such as num_cycles=3. Can be repeated."""
    warmup_ratio: Share | Auto = "auto"
    """Share of the training over which the learning rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Weight decay."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip gradients to this norm; 0 turns clipping off."""
    patience: Annotated[int, Field(ge=1)] | Auto | Off = "auto"
    """Stop after this many evaluations without improvement; "none" never stops early."""
    keep_best: Literal["loss", "quality"] = "loss"
    """How the best epoch is chosen. "loss": the lowest validation loss. "quality": the lowest among those whose samples
    do not copy or repeat themselves and, where epochs are long enough to tell, sound like the author."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random numbers."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format. "auto": bf16 where the machine computes in it natively, otherwise fp32."""
    compile: Literal["auto", "off", "layers", "full"] = "auto"
    """What torch.compile compiles: nothing, each layer of the model, or the full model, which takes longest.
    "auto": what pays off for the length of the run."""
    shard: Literal["auto", "on", "off"] = "auto"
    """With several processes: divide weights, gradient and optimizer state between them (FSDP), so that a model
    too large for one of them fits. "auto": on GPUs, where it would not fit otherwise."""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Compute each layer again for the gradient instead of keeping its activations: less memory, a third more time.
    "auto": on a GPU, where a block would not fit otherwise."""
    process_timeout: Annotated[float, Field(ge=5)] = 45.0
    """With several processes: seconds without a sign of life after which one counts as lost and the others end."""

    evaluate_every: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Steps between evaluations. "auto": at the end of each epoch, and more often if there are few."""
    sample_prompt: tuple[str, ...] = ()
    """Prompt for the samples shown during training. Can be repeated. Without it the model starts by itself."""
    sample_length: Annotated[int, Field(ge=1)] = 120
    """Tokens in each sample; after them it ends with the sentence or, in verse, with the line."""
    samples: Annotated[int, Field(ge=0)] = 2
    """Samples for each prompt at each evaluation; 0 for none."""


StopAt = Literal["anywhere", "sentence", "line", "paragraph", "speech", "document"]


class WriteSettings(Frozen):
    """How to write."""

    synonyms: ClassVar[Mapping[str, str]] = {
        "max_new_tokens": "length",
        "max_tokens": "length",
        "n_predict": "length",
        "num_return_sequences": "count",
        "num_samples": "count",
        "end": "stop_at",
        "stop_strings": "stop",
        "style_strength": "guidance",
        "repeat_penalty": "repetition_penalty",
        "no_repeat_ngram": "no_repeat_ngram_size",
    }
    groups: ClassVar[Mapping[str, str]] = {
        "length": "Length",
        "temperature": "Sampling",
        "max_copy": "Limits",
        "seed": "Machine",
    }
    common: ClassVar[tuple[str, ...]] = ("length", "unit", "count", "temperature")

    length: Annotated[int, Field(ge=1)] = 300
    """Length of each text, in the unit of --unit, without the prompt."""
    unit: Literal["tokens", "words", "characters"] = "tokens"
    """Unit of the length."""
    stop_at: StopAt | Auto = "auto"
    """Where a text ends. "auto": at the end of a sentence or, if the training text is made of lines, as verse is, of
    a line. "anywhere": exactly at the length. "sentence", "line", "paragraph", "speech": at the first end
    of one after the length, or soon after one and a half times the length. "document": where the model ends it, at
    most at the length."""
    count: Annotated[int, Field(ge=1)] = 1
    """Number of texts."""
    best_of: Annotated[int, Field(ge=1, le=1000)] = 1
    """Write this many candidates for each text and keep the one that is nearest to the author in likelihood and style
    and copies least. Needs a run."""
    temperature: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Daring: below 1 is safer, above 1 is wilder; 0 always takes the most likely token. "auto": the value found after
    training, the lowest at which the model varies as much as the author; 0.8 for other models."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Choose among this many most likely tokens; 0 for all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Choose among the most likely tokens that together have this probability."""
    min_p: Share = 0.0
    """Choose among tokens that are at least this likely, as a share of the most likely token's probability."""
    guidance: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Above 1 exaggerates the style that a fine-tuned model has learned, below 1 weakens it, 0 is the base model. Needs
    the base model."""
    mix: Annotated[tuple[Annotated[str, AfterValidator(_check_mix)], ...], BeforeValidator(as_mix)] = ()
    """Another run whose voice is mixed in, with its share from 0 to 1, such as runs/poe:0.4. Can be repeated; the rest
    is the first run's. Runs of one base are mixed by their weights, others with the same tokenizer by their
    probabilities."""
    repetition_penalty: Annotated[float, Field(ge=1)] = 1.0
    """Above 1 makes tokens that have already been written less likely."""
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = 0
    """Never write the same sequence of this many tokens twice; 0 turns this off."""
    loop_guard: Literal["on", "off"] = "on"
    """Leave loops: a passage that was written three times in a row is not started a fourth time; and, where the
    training text is known, phrases of two or three words are repeated no more often than there."""
    max_copy: Annotated[int, Field(ge=1)] | Off = "none"
    """Copy no passage longer than this many characters from the training text, ignoring case and white space. 50 is
    usual; below about 12 hardly any words are left."""
    words: Literal["auto", "known", "any"] = "auto"
    """Which words may be written. "known": those of the training text and of the prompt and, if the run started from a
    base that is included, of that base's list; numbers alone on a line, as of pages and poems, are then left
    out as well, and so is a word right behind itself, unless the author doubles it. "auto": known for small models,
    which misspell; any for others."""
    marks: Literal["auto", "any"] = "auto"
    """Quotation marks and brackets. "auto": in pairs, closed before a paragraph and a text end, as far as the training
    text has them in pairs, and no quotation marks of a kind that it never uses. "any": as the model writes them."""
    bad_words: tuple[str, ...] = ()
    """Never write this. Can be repeated."""
    stop: tuple[str, ...] = ()
    """End a text before this string. Can be repeated."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random numbers; the same seed writes the same text."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to compute on."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Number format of the weights. "auto": bf16 for a large model if the machine computes in it natively, otherwise
    int8 on a CPU and fp32 on a GPU. fp32 is exact; int8 changes the loss in its sixth digit."""


class JudgeSettings(ReadSettings):
    """How to judge."""

    synonyms: ClassVar[Mapping[str, str]] = {
        "against": "author",
        "others": "reference_authors",
        "characters": "sample_characters",
    }
    groups: ClassVar[Mapping[str, str]] = {"encoding": "Text", "author": "Comparison", "seed": "Machine"}
    common: ClassVar[tuple[str, ...]] = ("author", "sample_characters")

    author: tuple[str, ...] = ()
    """A text by the author, or a folder of them, to compare with. Can be repeated. A run has its own."""
    reference_authors: str = ""
    """Folder with a file or a folder of texts for each other author to compare with, instead of the included ones."""
    critic: str = "auto"
    """Model that helps to tell whether the text makes sense: the text should surprise it no more than the author's own
    does. "gpt2" or another GPT-2 on the Hugging Face Hub, a folder, "small" (included), or "none". "auto": small, for
    English; none for what a model trained from small has written, since small would always approve of it."""
    sample_characters: Annotated[int, Field(ge=1)] = 50_000
    """Characters that the run's model writes to be judged."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random numbers; the same seed gives the same verdict."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to compute on."""


def read_settings(path: Path, kind: type[S]) -> dict[str, Any]:
    """The values in a TOML file, by field name, checked against `kind`.

    Raises SettingsError that names the file and the key.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}.", hint="Check the path after --settings."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.", hint="A line looks like this: epochs = 3") from None
    make_settings(kind, values, source=str(path))
    return kind.with_current_names(values)


def make_settings(kind: type[S], values: Mapping[str, Any], *, source: str = "", strict: bool = True) -> S:
    """An object of `kind` from plain values; unless `strict`, numbers may be strings, as on a command line.

    Raises SettingsError that names the source (a file; "" means flags), each wrong key and the nearest right one.
    """
    try:
        return kind.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        raise _explain(kind, error, source) from None


def _explain(kind: type[Frozen], error: ValidationError, source: str) -> SettingsError:
    """pydantic's error in plain words: what is wrong, where, and what would be right."""
    problems: dict[str, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        problems.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(item)
    lines, hints = [], []
    for key, items in problems.items():
        given = items[0]["input"]
        if items[0]["type"] == "extra_forbidden":
            lines.append(f"unknown setting {flag_name(key, source)}")
            hints += [f"Did you mean {flag_name(name, source)}?" for name in nearest_field(key, kind)]
        else:
            right = _join_choices(list(dict.fromkeys(filter(None, map(_what_is_right, items)))))
            lines.append(f"{flag_name(key, source)} must be {right}, not {given!r}")
            found = _suggest_for(key, str(given)) or _suggest_value(str(given), [item["msg"] for item in items])
            hints += [found] if found else []
    if source and not hints:  # a command names its own help
        command = kind.__name__.removesuffix("Settings").lower()
        hints = [f"All settings and their values: epigone {command} --help-all"]
    where = f"{source}: " if source else ""
    return SettingsError(where + "; ".join(lines) + ".", hint=" ".join(hints))


GPU = 'A GPU is "cuda" (NVIDIA, AMD) or "mps" (Apple).'
VALUES = {
    **dict.fromkeys(("gpu", "nvidia", "amd", "rocm", "metal", "apple", "m1"), GPU),
    **dict.fromkeys(("word", "doc"), 'Word\'s .docx is "docx"; save a .doc as .docx first.'),
    **dict.fromkeys(("md", "mdx"), 'Did you mean "markdown"?'),
    **dict.fromkeys(("txt", "plain"), 'Did you mean "text"?'),
    **dict.fromkeys(("htm", "xhtml"), 'Did you mean "html"?'),
    "ebook": 'Did you mean "epub"?',
    **dict.fromkeys(("ollama", "llama.cpp", "llamacpp", "lmstudio", "lm-studio"), 'They read "gguf".'),
    **dict.fromkeys(("html", "browser"), 'Did you mean "page"?'),
    "web": 'To read web pages: "html". To export one: "page".',
    **dict.fromkeys(("safetensors", "transformers", "hf"), "RUN/model is that already: a Hugging Face folder."),
}
"""What to say of values that have another name here."""
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
MULTIPLES = {"k": 1_000, "m": 1_000_000}


def _join_choices(right: Sequence[str]) -> str:
    """What a value may be: words in one list, or anything else with "or" between."""
    if len(right) > 1 and all(re.fullmatch(r"'.*'", one) for one in right):
        *names, last = re.findall(r"'[^']*'", " ".join(right))
        return f"{', '.join(names)} or {last}"
    return " or ".join(right)


def _suggest_for(key: str, given: str) -> str:
    """What may have been meant by a wrong value of one setting, or ""."""
    if key == "max_copy" and given == "0":
        return "0 would forbid every letter; 50 is usual."
    if key == "words" and given.isdecimal():
        return f"For {given} words: --length {given} --unit words"
    if key == "minutes" and re.fullmatch(r"[0-9.]+ ?[a-z]+", given):
        return "Times are written like this: 10 (minutes), 10m, 90s, 1h."
    return ""


def _suggest_value(given: str, messages: Sequence[str]) -> str:
    """What may have been meant by a wrong value, or ""."""
    if given.casefold() in VALUES:
        return VALUES[given.casefold()]
    shares = re.fullmatch(r"([0-9]{2})[/:]([0-9]{2})", given)
    if shares and int(shares[1]) + int(shares[2]) == 100:
        return f"To hold out a share of the text: --validation {shares[2]}%"
    product = re.fullmatch(r"([0-9]+) ?[*×,] ?([0-9]+)", given)
    if product and any("LAYERSxWIDTH" in message for message in messages):
        return f"Write it with an x: {product[1]}x{product[2]}"
    if number := _suggest_number(given, messages):
        return number
    choices = {choice.casefold(): choice for message in messages for choice in re.findall(r"'([^']*)'", message)}
    return "".join(f'Did you mean "{choices[choice]}"?' for choice in nearest(given.casefold(), choices))


def _suggest_number(given: str, messages: Sequence[str]) -> str:
    """How a number is written that was given in another form, or ""."""
    if not any("number" in message or "integer" in message or "less than" in message for message in messages):
        return ""
    is_share = any("less than or equal to 1" in message for message in messages)
    if re.fullmatch(r"[0-9]+,[0-9]+", given):
        return f"Write it with a point: {given.replace(',', '.')}"
    if percent := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?%", given):
        return f"Write it as a number: {float(percent[1]) / 100:g}"
    if is_share and re.fullmatch(r"[0-9]{2}", given):
        return f"{given} % is {int(given) / 100:g}."
    if multiple := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([km])", given, re.I):
        return f"Write it in digits: {round(float(multiple[1]) * MULTIPLES[multiple[2].lower()])}"
    if clock := re.fullmatch(r"([0-9]{1,2}):([0-9]{2})(?::[0-9]{2})?", given):
        hours, minutes = int(clock[1]), int(clock[2])
        return f"Hours and minutes: {60 * hours + minutes}. Minutes and seconds: {hours + minutes / 60:.3g}."
    if unit := re.fullmatch(r"([0-9]+) ?(t|w|c|tokens?|words?|characters?)", given):
        name = next(name for name in ("tokens", "words", "characters") if name.startswith(unit[2].rstrip("s")))
        return f"Write the number alone, and the unit as an option: {unit[1]} --unit {name}"
    if given.casefold() in NUMBERS:
        return f"Write it in digits: {NUMBERS.index(given.casefold())}"
    with suppress(ValueError):
        if (number := float(given)).is_integer() and any("integer" in message for message in messages):
            return f"Write it in digits: {int(number)}"
    return ""


def _what_is_right(item: ErrorDetails) -> str:
    kinds = {"float": "a number", "int": "a whole number", "string": "text", "bool": "true or false", "tuple": "a list"}
    kind = kinds.get(item["type"].removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float"))
    words = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return kind or words.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")


def flag_name(name: str, source: str = "") -> str:
    """A setting's name as it stands in the source: a key in a file, a flag on the command line."""
    return name if source else "--" + name.replace("_", "-")


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """The name that is most like `name`, if one is like it by `cutoff` (0 to 1) at least."""
    return difflib.get_close_matches(name.replace("-", "_"), list(names), n=1, cutoff=cutoff)


def nearest_field(name: str, kind: type[Frozen]) -> list[str]:
    """The field that may have been meant, found by its name or by a synonym."""
    return [kind.synonyms.get(found, found) for found in nearest(name, [*kind.model_fields, *kind.synonyms])]


def write_toml(settings: Frozen) -> str:
    """The settings as TOML that `read_settings` reads back, each under its help."""
    lines = []
    for name, field in type(settings).model_fields.items():
        lines += ["", *textwrap.wrap(field.description or "", 118, initial_indent="# ", subsequent_indent="# ")]
        value = getattr(settings, name)
        literal = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON allows it, TOML does not
        lines.append(f"{name} = {literal}")
    return "\n".join(lines[1:]) + "\n"
