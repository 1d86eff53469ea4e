"""Resuming a run from its last sound checkpoint, after repairing what is damaged in its folder."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from epigone.corpus.corpus import Corpus
from epigone.corpus.download import is_cached
from epigone.corpus.sources import ADDRESS, PIPE, SAMPLE, find_sources
from epigone.corpus.split import CAPPED, Split, group_spans, read_and_split
from epigone.distillation import check_two_runs, load_kept_teacher
from epigone.errors import (
    BaseUnusable,
    EpigoneError,
    OutputError,
    RunDamaged,
    SettingsError,
    TextNotFound,
    first_line,
    pluralize,
    quote_command,
)
from epigone.hardware import find_hardware
from epigone.model.gpt2 import build_from_config, build_model
from epigone.model.hub import find_base
from epigone.pipeline import (
    Planned,
    Stop,
    choose_path,
    explain_resuming,
    finish_two_runs,
    has_ended,
    hash_tokens,
    list_versions,
    lock_run,
    make_trainer,
    never,
    run_training,
    train_to_end,
    train_voices,
)
from epigone.planning.plan import Plan, adapt_to_machine, adapt_to_processes, extend_plan
from epigone.report.publish import publish
from epigone.run import Run
from epigone.runs.folder import RunFolder
from epigone.runs.model_folder import PathOrName
from epigone.runs.records import Manifest, TextLocations
from epigone.runs.repair import CONFIG_AND_TOKENIZER
from epigone.settings import SELF, TrainSettings, make_settings
from epigone.tokens.dataset import FACTS, TokenDataset, content_key, tokenize
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer
from epigone.training.distributed import (
    PROCESS_TIMEOUT,
    agree,
    agree_on_plan,
    ask_main_process,
    check_launch,
    check_shared,
    count_processes,
    is_main_process,
    join_processes,
    main_process_first,
    set_hint,
    set_timeout,
    was_begun_before_restart,
)
from epigone.training.events import Event, Stage
from epigone.training.interpolation import WeightInterpolation
from epigone.training.state import TrainerState
from epigone.training.trainer import Trainer
from epigone.voices import PlannedRun, list_planned

HINT = (
    "Put the text back as it was (receipt.json has its sha256) where it lay or, if nothing is there, into the folder "
    "where you are; then give the command again. The best model and the checkpoints are untouched: epigone write works."
)
CHANGEABLE = {"epochs", "minutes", "patience", "learning_rate", "process_timeout"}


def resume_training(
    path: PathOrName,
    changes: Mapping[str, Any],
    *,
    should_stop: Stop = never,
    on_note: Callable[[str], None] = lambda note: None,
) -> Iterator[Planned | Event | Stage]:
    """Go on with a run, event by event, from its last sound checkpoint, or from the start where there is none.

    `on_note` hears what was damaged and repaired. Of two runs that one command makes, the first is brought to its end,
    if it was not, and the second follows. Raises EpigoneError.
    """
    if unfit := sorted(set(changes) - CHANGEABLE):
        raise SettingsError(f"{unfit[0]} cannot change within a run.", hint="Train into another folder.")
    check_launch()
    resume_one = partial(_resume_one, changes=changes, should_stop=should_stop, on_note=on_note)
    if runs := list_planned(Path(path)):
        example = quote_command("epigone", "resume", runs[1].folder)
        _check_unchanged(changes, f"{path} has several voices", f"Resume one of them: {example}")
        yield from _resume_voices(runs, resume_one, should_stop)
    else:
        yield from resume_one(path)


def _resume_one(
    path: PathOrName, changes: Mapping[str, Any], should_stop: Stop, on_note: Callable[[str], None]
) -> Iterator[Planned | Event | Stage]:
    if RunFolder.is_in_first(Path(path)):
        yield from _resume_first(RunFolder(Path(path)), changes, should_stop, on_note)
        return
    with (
        join_processes(changes.get("process_timeout", PROCESS_TIMEOUT)),
        lock_run(RunFolder.open(Path(path))) as run,
    ):
        check_shared(run.processes)
        agree({**list_versions(), **changes})
        set_hint(explain_resuming(run))
        state = _repair(run, on_note)
        plan, settings = _apply_changes(run, changes, on_note)
        set_timeout(settings.process_timeout)
        agree_on_plan(plan)
        tokenizer = _load_tokenizer(run)
        with _main_process_first(run):
            tokens = open_tokens(run, tokenizer, on_note)
        model = _rebuild_model(run, plan, tokenizer, from_start=state is None)
        teacher = load_kept_teacher(run) if plan.teacher else None
        trainer = make_trainer(run, settings, tokenizer, model, tokens, plan, teacher=teacher, should_stop=should_stop)
        _restore(run, trainer, state, tokenizer, on_note)
        if is_main_process():
            run.check_room(trainer.model)
            _write_changes(run, plan, settings, changes)
        yield from train_to_end(run, trainer)


def _resume_voices(
    runs: Sequence[PlannedRun], resume_one: Callable[[Path], Iterator[Planned | Event | Stage]], should_stop: Stop
) -> Iterator[Planned | Event | Stage]:
    """Bring the run of all texts to its end, and then those of the voices."""
    shared, *voices = runs
    begun = [run.folder for run in runs if RunFolder.is_run(run.folder)]
    unfinished = [folder for folder in begun if not has_ended(folder)]
    if not unfinished and len(begun) == len(runs):
        unfinished = [shared.folder]  # to say that it has ended
    for folder in unfinished:
        if folder != shared.folder:
            run = RunFolder.open(folder)
            yield Planned(folder=run, receipt=run.read_receipt(), manifest=run.read_manifest(), part="voice")
        yield from resume_one(folder)
        if not has_ended(folder):
            return
    yield from train_voices(voices, should_stop)


def _resume_first(
    run: RunFolder, changes: Mapping[str, Any], should_stop: Stop, on_note: Callable[[str], None]
) -> Iterator[Planned | Event | Stage]:
    """Go on with the first of two runs, and then make the second."""
    hint = "Resume it without a change. Once the second has begun, that can be changed."
    _check_unchanged(changes, f"{run.path} is in the first of its two runs", hint)
    with join_processes(changes.get("process_timeout", PROCESS_TIMEOUT)), lock_run(run):
        settings = run.read_settings()
        check_two_runs(settings, count_processes())
        first = () if has_ended(run.first) else resume_training(run.first, {}, should_stop=should_stop, on_note=on_note)
        yield from finish_two_runs(run, settings, first, should_stop)


def _check_unchanged(changes: Mapping[str, Any], where: str, hint: str) -> None:
    if unfit := sorted(set(changes) - {"process_timeout"}):
        raise SettingsError(f"{where}, in which {unfit[0]} cannot change.", hint=hint)


def train_or_resume(
    texts: Sequence[str],
    settings: TrainSettings,
    out: PathOrName | None = None,
    *,
    should_stop: Stop = never,
    on_note: Callable[[str], None] = lambda note: None,
    **how: Any,
) -> Iterator[Planned | Event | Stage]:
    """As `run_training`; but where torchrun has restarted the processes, it resumes the run that they had begun."""
    check_launch()
    with join_processes(settings.process_timeout):
        path = choose_path(texts, out)
        run = RunFolder(path)
        if not ask_main_process(lambda: was_begun_before_restart(run.processes) and run.is_run(path)):
            yield from run_training(texts, settings, out, should_stop=should_stop, **how)
            return
        yield Planned(folder=run, receipt=run.read_receipt(), manifest=run.read_manifest())
        yield from resume_training(path, {}, should_stop=should_stop, on_note=on_note)


def resume(
    run: PathOrName,
    *,
    on_event: Callable[[Event], None] | None = None,
    **changes: Any,
) -> Run:
    """Go on with a run from its last sound checkpoint, or from the start.

    `changes` may be epochs and minutes, both counted from the start, patience, learning_rate and process_timeout.
    Raises EpigoneError.
    """
    for event in resume_training(run, changes):
        if on_event is not None and not isinstance(event, Planned | Stage):
            on_event(event)
    return Run(RunFolder(Path(run)))


# -- the steps


def _repair(run: RunFolder, on_note: Callable[[str], None]) -> TrainerState | None:
    """The last sound checkpoint, once the run's small files are as they were when it was saved."""
    with _main_process_first(run):
        state, found = run.load_checkpoint()
    for line in found:
        on_note(f"{line}.")
    return state


def _apply_changes(
    run: RunFolder, changes: Mapping[str, Any], on_note: Callable[[str], None]
) -> tuple[Plan, TrainSettings]:
    """Plan and settings with the changes. Raises SettingsError, RunDamaged."""
    manifest = run.read_manifest()
    before = run.read_settings().model_dump()
    if manifest.plan.teacher == SELF:  # they are those of both runs
        before["minutes"] = manifest.plan.schedule.minutes or "none"
    settings = make_settings(TrainSettings, {**before, **changes})
    changes_of_plan = {name: value for name, value in changes.items() if name != "process_timeout"}
    _note_versions(manifest.versions, on_note)
    plan = adapt_to_machine(extend_plan(manifest.plan, settings, changes_of_plan), settings, on_note)
    return adapt_to_processes(plan, count_processes(), on_note), settings


def _note_versions(made: Mapping[str, str], on_note: Callable[[str], None]) -> None:
    """Name the packages whose versions are not those that the run was made with: results may differ by rounding."""
    here = list_versions()
    other = [f"{name} {made[name]} (here {here[name]})" for name in here if made.get(name, here[name]) != here[name]]
    if other:
        on_note(f"The run was made with {', '.join(other)}: results may differ by rounding.")


def _restore(
    run: RunFolder,
    trainer: Trainer,
    state: TrainerState | None,
    tokenizer: BPETokenizer,
    on_note: Callable[[str], None],
) -> None:
    """Put the trainer where the checkpoint was saved."""
    if state is not None:
        _unpack(trainer, state, run)
        _repair_best(run, trainer, on_note)
        return
    on_note("There is no checkpoint: training starts from the beginning.")
    if is_main_process():
        run.write_config_and_tokenizer(trainer.model, tokenizer)


def _write_changes(run: RunFolder, plan: Plan, settings: TrainSettings, changes: Mapping[str, Any]) -> None:
    manifest = run.read_manifest()
    if changes:
        run.write_settings(settings)
    if changes or manifest.plan.compute != plan.compute:
        run.write_manifest(manifest.model_copy(update={"plan": plan}))
    publish(run, at_once=True)  # a crash may have come between the checkpoint and this


def _main_process_first(folder: RunFolder) -> AbstractContextManager[Any]:
    """The first process repairs the folder before the others look at it."""
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


def _unpack(trainer: Trainer, state: TrainerState, folder: RunFolder) -> None:
    try:
        trainer.unpack(state)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise RunDamaged(
            f"The checkpoint in {folder.checkpoints} is of another run than {folder.manifest}: {first_line(error)}",
            hint="Put back the files that belong together, or train again from the text.",
        ) from None


def _repair_best(folder: RunFolder, trainer: Trainer, on_note: Callable[[str], None]) -> None:
    """Where the best weights are not what was written, take them from the checkpoint of their step."""
    progress = trainer.progress
    if not is_main_process() or not math.isfinite(progress.best_loss) or not (fault := folder.find_damage_of_best()):
        return
    packed = folder.load_step(progress.best_step)
    if packed is None:
        on_note(f"{fault}, and no checkpoint of step {progress.best_step} is left: the best from here on is kept.")
        progress.best_loss, progress.evaluated_step = math.inf, progress.step - 1
        return
    model = build_from_config(trainer.plan.model, folder.model)
    model.load_state_dict(packed.weights, strict=False)
    if progress.best_share < 1 and trainer.origin is not None:
        WeightInterpolation(model, trainer.origin()).set(progress.best_share)
    folder.keep_best(model)
    on_note(f"{fault}; they were taken from the checkpoint of step {progress.best_step}.")


def _rebuild_model(folder: RunFolder, plan: Plan, tokenizer: BPETokenizer, *, from_start: bool) -> GPT2LMHeadModel:
    """The model that training started from; where a checkpoint brings the weights, only one of its shape."""
    if from_start:
        base = None if plan.model.fresh else find_base(plan.model.base).folder
        return build_model(plan.model, base, tokenizer.end_of_text_id, seed=plan.seed)
    return build_from_config(plan.model, folder.model)


# -- tokens that are damaged


def open_tokens(run: RunFolder, tokenizer: BPETokenizer, on_note: Callable[[str], None]) -> TokenDataset:
    """The tokens of a run; damaged files are made again from the text. Raises RunDamaged, OutputError."""
    manifest = run.read_manifest()
    place = run.tokens / manifest.tokens
    try:
        tokens = run.load_tokens()
        if hash_tokens(run.tokens, tokens) == manifest.tokens_sha256:
            return tokens
        fault = f"{place / FACTS} is not what was written"
    except RunDamaged as error:
        fault = str(error).removesuffix(".")
    tokens = _tokenize_again(run, manifest, tokenizer, fault)
    on_note(f"{fault}; the tokens were made again from the text and are the same, bit for bit.")
    return tokens


def _tokenize_again(run: RunFolder, manifest: Manifest, tokenizer: BPETokenizer, fault: str) -> TokenDataset:
    try:
        corpus, held_out, split = _read_text_again(run, manifest.texts)
        parts = group_spans(corpus, split.train), group_spans(held_out or corpus, split.validation)
        if content_key(*parts, tokenizer) != manifest.tokens:
            raise TextNotFound(_describe_change(run, corpus, held_out))
        (run.tokens / manifest.tokens / FACTS).unlink(missing_ok=True)  # it may be that of another run
        tokens = tokenize(*parts, tokenizer, run.tokens)
    except (RunDamaged, OutputError):
        raise
    except (EpigoneError, OSError, ValueError) as error:
        raise _run_damaged(fault, first_line(error)) from None
    if hash_tokens(run.tokens, tokens) != manifest.tokens_sha256:
        raise _run_damaged(fault, "Made again from the text they differ: was the run made with other versions?")
    return tokens


def _read_text_again(run: RunFolder, texts: TextLocations) -> tuple[Corpus, Corpus | None, Split]:
    """Raises TextError where the text is not there any more."""
    settings = run.read_settings()
    train, validation = ([_find_again(run.path, name) for name in names] for names in (texts.train, texts.validation))
    settings = settings.model_copy(update={"validation": validation[0]} if validation else {})
    is_capped = run.read_receipt().split.reason.endswith(CAPPED)  # earlier versions held out a tenth of any text
    return read_and_split(train, settings, run.tokens, is_capped=is_capped)


def _find_again(run: Path, name: str) -> str:
    """The text where it was, or else one of that name in the folder where the command is given."""
    if name == PIPE:
        raise TextNotFound("The text came through a pipe.")
    if ADDRESS.match(name) and not is_cached(name):  # a run that was given to the user must not cause network requests
        raise TextNotFound(f"The text came from {name} and is not kept in the cache any more.")
    if name.startswith(SAMPLE) or ADDRESS.match(name):
        return name
    for place in (run.resolve() / name, Path(Path(name).name)):
        with suppress(TextNotFound):
            find_sources([str(place)])
            return str(place)
    raise TextNotFound(f"The text is not in {os.path.normpath(run.resolve() / name)} any more.")


def _describe_change(run: RunFolder, corpus: Corpus, held_out: Corpus | None) -> str:
    files = run.read_receipt().all_files
    known = {file.sha256 for file in files}
    found = [*corpus.files, *(held_out.files if held_out else ())]
    changed = [file.name for file in found if file.sha256 not in known]
    if changed:
        return f"{changed[0]} is not what was read then: its sha256 differs."
    if len(found) != len(files):
        return f"The text is not what was read then: {pluralize(len(files), 'file')}, now {len(found):,}."
    return "The text is what it was, but this version of epigone encodes it differently."


def _run_damaged(fault: str, why: str) -> RunDamaged:
    return RunDamaged(f"{fault}. {why}", hint=HINT)
