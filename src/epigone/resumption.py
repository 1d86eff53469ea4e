"""A run in; its tokens out, made anew of the text, bit for bit, where their files are damaged and the text is not."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from epigone.corpus.corpus import Corpus
from epigone.corpus.sources import ADDRESS, PIPE, SAMPLE, find_sources, is_kept
from epigone.corpus.split import Split, group_spans, read_and_split
from epigone.distillation import load_kept_teacher
from epigone.errors import (
    BaseUnusable,
    EpigoneError,
    OutputError,
    RunDamaged,
    SettingsError,
    TextNotFound,
    first_line,
)
from epigone.evaluation.sample_checks import SampleWriter
from epigone.hardware import find_hardware
from epigone.model.gpt2 import build_from_config, build_model
from epigone.model.hub import find_base
from epigone.pipeline import (
    Stop,
    _make_sample_checker,
    _never,
    _record_events,
    base_weights_loader,
    hash_tokens,
    lock_run,
)
from epigone.planning.plan import Plan, adapt_to_machine, extend_plan
from epigone.report.publish import publish
from epigone.run import PathOrName, Run
from epigone.runs.folder import RunFolder
from epigone.runs.repair import CONFIG_AND_TOKENIZER
from epigone.settings import TrainSettings, make_settings
from epigone.tokens.dataset import FACTS, TokenDataset, content_key, load_tokens, tokenize
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer
from epigone.training.distributed import count_processes, is_main_process, main_process_first
from epigone.training.events import Event
from epigone.training.interpolation import WeightInterpolation
from epigone.training.state import TrainerState
from epigone.training.trainer import Trainer

PARTS = ("learned", "held_out")
HINT = (
    "Put the text back as it was (receipt.json has its sha256) where it lay or, if nothing is there, into the folder "
    "where you are; then give the command again. The best model and the checkpoints are untouched: epigone write works."
)


# -- what is done where something is


def open_tokens(folder: RunFolder, tokenizer: BPETokenizer, on_note: Callable[[str], None]) -> TokenDataset:
    """The tokens of a run; `on_note` hears of it if they had to be made anew. Raises RunDamaged, OutputError."""
    _, more = folder.read_plan()
    place = folder.tokens / more["tokens"]
    try:
        tokens = load_tokens(place)
        if more.get("tokens_sha256") in (None, hash_tokens(folder.tokens, tokens)):
            return tokens
        fault = f"{place / FACTS} is not what was written"
    except RunDamaged as error:
        fault = str(error).removesuffix(".")
    tokens = _tokenize_again(folder, more, tokenizer, fault)
    on_note(f"{fault}; the tokens are made anew of the text and are the same, bit for bit.")
    return tokens


def _tokenize_again(folder: RunFolder, more: dict[str, Any], tokenizer: BPETokenizer, fault: str) -> TokenDataset:
    try:
        corpus, held_out, split = _read_text_again(folder, more)
        parts = group_spans(corpus, split.train), group_spans(held_out or corpus, split.validation)
        if content_key(*parts, tokenizer) != more["tokens"]:
            raise TextNotFound(_say_what_changed(folder, corpus, held_out))
        (folder.tokens / more["tokens"] / FACTS).unlink(missing_ok=True)  # it may vouch for what another run had
        tokens = tokenize(*parts, tokenizer, folder.tokens)
    except (RunDamaged, OutputError):
        raise
    except (EpigoneError, OSError, ValueError) as error:
        raise _run_damaged(fault, first_line(error)) from None
    if hash_tokens(folder.tokens, tokens) != more.get("tokens_sha256"):
        raise _run_damaged(fault, "Made anew of the text they are others: was the run made with other versions?")
    return tokens


def _read_text_again(folder: RunFolder, more: dict[str, Any]) -> tuple[Corpus, Corpus | None, Split]:
    """Raises TextError where the text is not there any more."""
    settings = folder.read_settings()
    try:
        learned, held_out = ([_find_again(folder.path, str(name)) for name in more["texts"][part]] for part in PARTS)
    except (KeyError, TypeError):
        raise TextNotFound("The plan, as one of an earlier version, does not say where the text lay.") from None
    settings = settings.model_copy(update={"validation": held_out[0]} if held_out else {})
    return read_and_split(learned, settings, folder.tokens)


def _find_again(run: Path, name: str) -> str:
    """The text where it was, or else one of that name in the folder where the command is given."""
    if name == PIPE:
        raise TextNotFound("The text came through a pipe.")
    if ADDRESS.match(name) and not is_kept(name):  # nobody is asked because of what a run says
        raise TextNotFound(f"The text came from {name} and is not kept in the cache any more.")
    if name.startswith(SAMPLE) or ADDRESS.match(name):
        return name
    for place in (run.resolve() / name, Path(Path(name).name)):
        with suppress(TextNotFound):
            find_sources([str(place)])
            return str(place)
    raise TextNotFound(f"The text is not in {os.path.normpath(run.resolve() / name)} any more.")


def _say_what_changed(folder: RunFolder, corpus: Corpus, held_out: Corpus | None) -> str:
    receipt = folder.read_receipt()
    known = {file["sha256"] for file in [*receipt["files"], *receipt["held_out_files"]]}
    found = [*corpus.documents, *(held_out.documents if held_out else ())]
    changed = [document.name for document in found if document.receipt.sha256 not in known]
    n_read = len(receipt["files"]) + len(receipt["held_out_files"])
    if changed:
        return f"{changed[0]} is not what was read then: its sha256 is another."
    if len(found) != n_read:
        return f"The text is not what was read then: {n_read:,} files, of which {len(found):,} are there."
    return "The text is what it was, but this version of epigone makes other tokens of it."


def _run_damaged(fault: str, why: str) -> RunDamaged:
    return RunDamaged(f"{fault}. {why}", hint=HINT)


def resume(
    run: PathOrName,
    *,
    on_event: Callable[[Event], None] | None = None,
    **changes: Any,
) -> Run:
    """Go on with a run from its last good checkpoint, or from the start.

    `changes` may be epochs and minutes, both counted from the start, patience and learning_rate. Raises EpigoneError.
    """
    folder = RunFolder.open(Path(run))
    with lock_run(folder):
        for event in continue_run(folder, changes):
            if on_event is not None:
                on_event(event)
    return Run(folder)


def continue_run(
    folder: RunFolder,
    changes: Mapping[str, Any],
    *,
    should_stop: Stop = _never,
    on_note: Callable[[str], None] = lambda note: None,
) -> Iterator[Event]:
    """Resume a run and keep in its folder what comes of it; `on_note` hears what is unusual. Raises EpigoneError."""
    if unfit := sorted(set(changes) - {"epochs", "minutes", "patience", "learning_rate"}):
        raise SettingsError(f"{unfit[0]} cannot change within a run.", hint="Train into another folder.")
    with _main_process_first(folder):
        packed, found = folder.load_checkpoint()
    for line in found:
        on_note(f"{line}.")
    settings = make_settings(TrainSettings, {**folder.read_settings().model_dump(), **changes})
    plan, more = folder.read_plan()
    plan = adapt_to_machine(extend_plan(plan, settings, changes), on_note)
    tokenizer = _load_tokenizer(folder)
    with _main_process_first(folder):
        tokens = open_tokens(folder, tokenizer, on_note)
    learner = Trainer(
        _rebuild_model(folder, plan, tokenizer, fresh_start=packed is None),
        tokens,
        plan,
        sample=_make_sample_checker(SampleWriter(tokenizer, settings, plan.start_text), tokens, plan),
        origin=base_weights_loader(plan, partial(_rebuild_model, folder, plan, tokenizer, fresh_start=True)),
        teacher=load_kept_teacher(folder) if plan.teacher else None,
        should_stop=should_stop,
    )
    if packed is None:
        on_note("No checkpoint is there: it starts from the beginning.")
        if is_main_process():
            folder.write_config_and_tokenizer(learner.model, tokenizer)
    else:
        _unpack(learner, packed, folder)
        _repair_best(folder, learner, on_note)
    if is_main_process():
        folder.check_room(learner.model)
        if changes:
            folder.write_settings(settings)
            folder.write_plan(plan, **more)
        publish(folder, at_once=True)  # a crash may have come between the checkpoint and this
    yield from _record_events(folder, learner, tokenizer)


def _main_process_first(folder: RunFolder) -> AbstractContextManager[Any]:
    """The first process mends the folder, then the others find it mended."""
    if count_processes() == 1:
        return nullcontext()
    return main_process_first(find_hardware(folder.read_settings().device))


def _load_tokenizer(folder: RunFolder) -> BPETokenizer:
    hint = "No checkpoint has a copy of it: train again from the text."
    for name in CONFIG_AND_TOKENIZER[1:]:
        if fault := folder.checksums.find_damage(folder.model / name):
            raise RunDamaged(f"{folder.path}: {fault}.", hint=hint)
    try:
        return load_tokenizer(folder.model)
    except BaseUnusable as error:
        raise RunDamaged(str(error), hint=hint) from None


def _unpack(learner: Trainer, packed: TrainerState, folder: RunFolder) -> None:
    try:
        learner.unpack(packed)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise RunDamaged(
            f"The checkpoint in {folder.checkpoints} is of another run than {folder.plan}: {first_line(error)}",
            hint="Put back the files that belong together, or train again from the text.",
        ) from None


def _repair_best(folder: RunFolder, learner: Trainer, on_note: Callable[[str], None]) -> None:
    """Where the best weights are not what was written, take them from the checkpoint of their step."""
    progress = learner.progress
    if not is_main_process() or not math.isfinite(progress.best_loss) or not (fault := folder.find_damage_of_best()):
        return
    packed = folder.load_step(progress.best_step)
    if packed is None:
        on_note(f"{fault}, and no checkpoint of step {progress.best_step} is left: the best from here on is kept.")
        progress.best_loss, progress.evaluated_step = math.inf, progress.step - 1
        return
    model = build_from_config(learner.plan.model_spec, folder.model)
    model.load_state_dict(packed.weights, strict=False)
    if progress.best_share < 1 and learner.origin is not None:
        WeightInterpolation(model, learner.origin()).set(progress.best_share)
    folder.keep_best(model)
    on_note(f"{fault}; it is made anew from the checkpoint of step {progress.best_step}.")


def _rebuild_model(folder: RunFolder, plan: Plan, tokenizer: BPETokenizer, *, fresh_start: bool) -> GPT2LMHeadModel:
    """The model that training started from, or just its frame where a checkpoint brings the weights."""
    if fresh_start:
        base = None if plan.fresh else find_base(plan.base).folder
        return build_model(plan.model_spec, base, tokenizer.end_of_text_id)
    return build_from_config(plan.model_spec, folder.model)
