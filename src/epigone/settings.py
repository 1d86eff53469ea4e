"""What a user can set: one frozen, typed object per job. Flags, TOML files and docs/settings.md are made from it."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

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
}
"""Named sizes of a fresh model: (layers, width)."""


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
    """A TOML table is as good as a list of "name=value"."""
    return tuple(f"{name}={item}" for name, item in value.items()) if isinstance(value, Mapping) else value


def _check_pair(pair: str) -> str:
    if not re.fullmatch(r"[a-z_]+=\S+", pair):
        raise ValueError("of the form name=value")
    return pair


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Auto = Literal["auto"]
Off = Literal["none"]


class Frozen(BaseModel):
    """A frozen object that refuses unknown keys and wrong types, and takes each field's help from the text under it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Let the help be one line, to be broken where it is shown."""
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split())

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: object) -> object:
        """TOML and JSON know lists only."""
        if not isinstance(values, Mapping):
            return values
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


S = TypeVar("S", bound=Frozen)


class TrainSettings(Frozen):
    """How to learn. Every field has a default that does the right thing; "auto" leaves the choice to the plan."""

    # -- the text
    encoding: str = "auto"
    """Encoding of the text, for example "cp1252". "auto": byte-order mark, UTF-8, UTF-16, then detection."""
    keep_boilerplate: bool = False
    """Keep Project Gutenberg's header and licence instead of cutting them."""
    validation: Annotated[float, Field(gt=0, le=0.5)] | str = 0.1
    """Held out to test on: a share of the characters (0.1 is a tenth), or the path of a separate text."""
    split: Literal["auto", "spread", "tail", "documents"] = "auto"
    """What is held out: "spread" is several unbroken stretches over each file, "tail" the end of the text, "documents"
    whole files. "auto": documents when there are ten files or more, spread otherwise."""

    # -- the model
    base: str = "auto"
    """Where to start: "small", which comes along; "gpt2" or another GPT-2 on the Hugging Face hub; a folder; or "none"
    for a fresh model with a vocabulary of its own. "auto": the plan chooses and says why."""
    size: Annotated[str, AfterValidator(_check_size)] = "auto"
    """Size of a fresh model: pico, nano, micro, mini, small, medium, gpt2, gpt2-medium, or LAYERSxWIDTH (6x256)."""
    vocab_size: Annotated[int, Field(ge=257, le=65_536)] | Auto = "auto"
    """Entries in a fresh model's vocabulary (byte-level BPE, learned from the text that is trained on; of more than 100
    million characters, from so many at even distances)."""
    block_size: Annotated[int, Field(ge=8, le=8192)] | Auto = "auto"
    """Tokens that the model sees at once."""
    dropout: Share | Auto = "auto"
    """Share of activations dropped while learning, against learning by heart."""
    lora: Annotated[int, Field(ge=1, le=1024)] | Off = "none"
    """Fine-tune a large base in little memory: learn low-rank adapters of this rank (16 is usual) beside its matrices,
    merged into them in the end. Needs the package peft: pip install "epigone[lora]"."""

    teacher: str = "none"
    """A run that has learned the same text from scratch, as a teacher: the new model learns from what that foretells
    as well as from the text, and comes to know it better where that was read many times."""

    # -- learning
    epochs: Positive | Auto = "auto"
    """Passes over the text. May be a fraction."""
    minutes: Positive | Off = "none"
    """Stop within this many minutes of training, with the schedule fitted to them."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Blocks that are computed at once, on each device."""
    gradient_accumulation: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Batches per step: a larger effective batch in the same memory."""
    optimizer: Literal["auto", "adamw", "muon"] = "auto"
    """What updates the weights. "muon" does it for the matrices inside the model and leaves the rest to AdamW. "auto":
    muon from scratch, adamw for fine-tuning."""
    learning_rate: Positive | Auto = "auto"
    """Peak step size of AdamW; Muon's and, from scratch, the embeddings' are in proportion. "auto": 5e-5 for
    fine-tuning; from scratch the plan chooses."""
    schedule: Schedule | Auto = "auto"
    """How the learning rate moves, by the name that transformers.get_scheduler knows it by. "auto": linear to zero."""
    schedule_arguments: Annotated[
        tuple[Annotated[str, AfterValidator(_check_pair)], ...], BeforeValidator(_as_pairs)
    ] = ()
    """Further arguments of the schedule as name=value, for example num_cycles=3."""
    warmup_ratio: Share | Auto = "auto"
    """Share of the run over which the learning rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Pull of the weights towards zero."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    patience: Annotated[int, Field(ge=1)] | Auto | Off = "auto"
    """Stop after this many evaluations without a better one; "none" never does."""
    keep_best: Literal["loss", "verdict"] = "loss"
    """Which epoch is kept: the one with the lowest validation loss, or with "verdict" the lowest of those whose samples
    neither copy nor repeat themselves and, where epochs are long enough for that to be heard, sound like the author."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Start of all random numbers."""

    # -- the machine
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What computes."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the arithmetic. "auto": bf16 where the machine computes in it, otherwise fp32."""
    compile: Literal["auto", "none", "blocks", "whole"] = "auto"
    """What torch.compile speeds up: nothing, one block of the model at a time, or the whole model, which takes longest
    to compile. "auto": as it pays for the length of the run."""

    # -- watching
    evaluate_every: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Steps between evaluations. "auto": at the end of each epoch, and more often when epochs are few."""
    sample_prompt: tuple[str, ...] = ()
    """Prompt for the samples shown while it learns; may be given several times. Default: none, the model begins."""
    sample_length: Annotated[int, Field(ge=1)] = 120
    """Tokens in each of those samples."""
    samples: Annotated[int, Field(ge=0)] = 2
    """Samples per prompt at each evaluation; 0 for none."""


class WriteSettings(Frozen):
    """How to write."""

    length: Annotated[int, Field(ge=1)] = 300
    """How much to write, in the unit that `unit` gives."""
    unit: Literal["tokens", "words", "characters"] = "tokens"
    """What the length counts."""
    end: Literal["anywhere", "sentence", "line", "paragraph", "speech", "document"] = "anywhere"
    """Where to end: exactly at the length; at the first sentence, line, paragraph or speech that ends after it (or
    soon after one and a half times the length); or, "document", where the model itself would end, at most at the
    length."""
    count: Annotated[int, Field(ge=1)] = 1
    """Texts to write."""
    temperature: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Daring: below 1 safer, above 1 wilder; 0 always takes the likeliest token. "auto": what was found for the model
    when its training ended, the lowest at which it is as varied as the author; otherwise 0.8."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Choose among this many likeliest tokens; 0 for all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Choose among the likeliest tokens that together have this probability."""
    min_p: Share = 0.0
    """Choose among tokens at least this likely, as a share of the likeliest one's probability."""
    guidance: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Above 1 exaggerates what a fine-tuned model has learned of the style, below 1 tones it down; 0 is the base, which
    has to be at hand."""
    repetition_penalty: Annotated[float, Field(ge=1)] = 1.0
    """Above 1 makes tokens that were already written less likely."""
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = 0
    """Never write so many tokens in a row twice; 0 allows it."""
    loop_guard: Literal["on", "off"] = "on"
    """Step out of a loop: what was written three times in a row, wherever lines break, is not begun a fourth time."""
    max_copy: Annotated[int, Field(ge=1)] | Off = "none"
    """Let no passage of more than this many characters stand word for word in the text that was learned from (case and
    white space aside)."""
    bad_words: tuple[str, ...] = ()
    """Never write this; may be given several times."""
    stop: tuple[str, ...] = ()
    """End a text before this string; may be given several times."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Start of all random numbers; the same seed writes the same text."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What computes."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Number format of the weights. "auto": bf16 for a large model where the machine computes in it, otherwise int8
    on a processor and fp32 on a GPU. fp32 is exact; int8 was seen to change the loss in its sixth digit."""


class JudgeSettings(Frozen):
    """How to judge."""

    against: tuple[str, ...] = ()
    """A text of the author's, or a folder of them, to hold any text against; may be given several times. A run knows
    its own."""
    others: str = ""
    """A folder with a folder or a file for each other author to compare with, instead of those that come along."""
    characters: Annotated[int, Field(ge=1)] = 50_000
    """How much a run writes to be judged."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Start of all random numbers; the same seed gives the same judgement."""
    encoding: str = "auto"
    """Encoding of the texts, for example "cp1252"."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What computes."""


def read_settings(path: Path, kind: type[S]) -> dict[str, Any]:
    """The values in a TOML file, checked against `kind`. Raises SettingsError that names the file and the key."""
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}.", hint="Check the path after --settings."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is not TOML: {error}.", hint="A line looks like: epochs = 3") from None
    make_settings(kind, values, source=str(path))
    return values


def make_settings(kind: type[S], values: Mapping[str, Any], *, source: str = "") -> S:
    """An object of `kind` from plain values.

    Raises SettingsError that names the source (a file; "" means flags), each wrong key and the nearest right one.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise explain(kind, error, source) from None


def explain(kind: type[BaseModel], error: ValidationError, source: str = "") -> SettingsError:
    """pydantic's error in our words: what, where, and what would be right."""
    problems: dict[str, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        problems.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(item)
    lines, hints = [], []
    for key, items in problems.items():
        given = items[0]["input"]
        if items[0]["type"] == "extra_forbidden":
            lines.append(f"{flag_name(key, source)} is no setting")
            hints += [f"Did you mean {flag_name(name, source)}?" for name in nearest(key, kind.model_fields)]
        else:
            right = " or ".join(dict.fromkeys(_what_is_right(item) for item in items))
            lines.append(f"{flag_name(key, source)} must be {right}, not {given!r}")
            choices = [choice for item in items for choice in re.findall(r"'([^']*)'", item["msg"])]
            hints += [f'Did you mean "{choice}"?' for choice in nearest(str(given), choices)]
    where = f"{source}: " if source else ""
    return SettingsError(
        where + "; ".join(lines) + ".", hint=" ".join(hints) or "docs/settings.md lists every setting."
    )


def _what_is_right(item: ErrorDetails) -> str:
    kinds = {"float": "a number", "int": "a whole number", "string": "text", "bool": "true or false", "tuple": "a list"}
    kind = kinds.get(item["type"].removesuffix("_type").removesuffix("_parsing"))
    return kind or item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def flag_name(name: str, source: str = "") -> str:
    """A setting's name as it stands in the source: a key in a file, a flag on the command line."""
    return name if source else "--" + name.replace("_", "-")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The name most like `name`, if one is alike at all."""
    return difflib.get_close_matches(name.replace("-", "_"), list(names), n=1, cutoff=0.5)


def write_toml(settings: Frozen) -> str:
    """The settings as TOML that `read_settings` reads back, each under its help."""
    lines = []
    for name, field in type(settings).model_fields.items():
        lines += ["", *textwrap.wrap(field.description or "", 118, initial_indent="# ", subsequent_indent="# ")]
        value = getattr(settings, name)
        literal = json.dumps(value, ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )  # which JSON allows and TOML does not
        lines.append(f"{name} = {literal}")
    return "\n".join(lines[1:]) + "\n"
