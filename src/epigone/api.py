"""The library's front door: texts in, a run out. The command is made of the same."""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from epigone import __version__
from epigone.errors import BaseUnusable, RunDamaged, RunExists, SettingsError, TrainingDiverged, first_line
from epigone.files import write_json
from epigone.judging.critic import Critic
from epigone.judging.tuning import choose_temperature
from epigone.model.changing import fit_to_machine, lengthen
from epigone.model.gpt2 import build_frame, build_model, load_model
from epigone.model.hardware import find_hardware
from epigone.model.hub import find_base
from epigone.model.plan import Plan
from epigone.model.weights import keep_temperature
from epigone.preparing import Preparation, Watch, look_away, one_after_another, prepare
from epigone.remaking import hash_tokens, name_texts, open_tokens
from epigone.reporting.publishing import is_quick, publish, publish_curves, write_report
from epigone.run import Run, Text, open_run, open_writer, score
from epigone.runs.folder import RunFolder
from epigone.runs.mending import FRAME
from epigone.settings import Settings, make_settings
from epigone.teaching import load_kept
from epigone.tokens.stream import Tokens
from epigone.tokens.vocabulary import Vocabulary, load_vocabulary
from epigone.training.events import CheckpointDue, Divided, Evaluated, Event, Finished
from epigone.training.loop import Learner, Origin
from epigone.training.mixing import Mixture
from epigone.training.state import Packed, count_processes, is_main_process
from epigone.writing.samples import Sampler

Stop = Callable[[], bool]
__all__ = ["Run", "open_run", "open_writer", "plan", "resume", "score", "train"]
"""What those who use the library need; the command takes the steps between as well."""


def _never() -> bool:
    return False


# -- training


def train(
    *texts: Text,
    out: Text | None = None,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] | None = None,
    **more: Any,
) -> Run:
    """Learn the style of `texts` (files, folders, globs, addresses) and return the run.

    `out` is the run's folder, runs/NAME by default. `more` are settings by name, such as epochs=3, and go before
    those in `settings`. `on_event` sees each event as it comes. Raises EpigoneError.
    """
    asked = make_settings(Settings, {**(settings or Settings()).model_dump(), **more}, source="train()")
    names = [str(text) for text in texts]
    folder = begin(names, out)
    with hold(folder):
        preparation = prepare_run(folder, names, asked, progress=False)
        for event in learn(folder, preparation):
            if on_event is not None:
                on_event(event)
    return Run(folder)


def plan(*texts: Text, settings: Settings | None = None, watch: Watch = look_away, **more: Any) -> Preparation:
    """Read and plan what `train` would do, and train nothing. Raises EpigoneError."""
    asked = make_settings(Settings, {**(settings or Settings()).model_dump(), **more}, source="plan()")
    with tempfile.TemporaryDirectory(prefix="epigone-", ignore_cleanup_errors=True) as folder:
        return prepare([str(text) for text in texts], asked, Path(folder), progress=False, watch=watch)


def resume(
    run: Text,
    *,
    on_event: Callable[[Event], None] | None = None,
    **changes: Any,
) -> Run:
    """Go on with a run from its last good checkpoint, or from the start.

    `changes` may be epochs and minutes, both counted from the start, patience and learning_rate. Raises EpigoneError.
    """
    folder = RunFolder.open(Path(run))
    with hold(folder):
        for event in go_on(folder, changes):
            if on_event is not None:
                on_event(event)
    return Run(folder)


def hold(folder: RunFolder) -> AbstractContextManager[object]:
    """Keep others out of a run's folder; of several processes the first one does. Raises RunLocked, OutputError."""
    return folder.lock() if is_main_process() else nullcontext()


def begin(texts: Sequence[str], out: Text | None) -> RunFolder:
    """The new folder of a run: `out`, or one named after the first text. Raises RunExists, OutputError."""
    path = Path(out) if out is not None else Path("runs") / name_run(texts)
    return RunFolder.create(path) if is_main_process() else RunFolder(path)


def name_run(texts: Sequence[str]) -> str:
    """A folder's name from the first text's: "shakespeare" for a/shakespeare.txt, "stdin" for "-"."""
    first = texts[0].removeprefix("sample:").partition("?")[0].rstrip("/\\") if texts else ""
    path = Path(first)
    while path.name and any(mark in path.name for mark in "*?["):
        path = path.parent
    stem = path.stem.encode("utf-8", "replace").decode()  # a name on the disk may be any bytes
    return {"": "text", "-": "stdin"}.get(stem, stem)


def prepare_run(
    folder: RunFolder, texts: Sequence[str], settings: Settings, *, progress: bool = True, watch: Watch = look_away
) -> Preparation:
    """Prepare in a run's folder and write down there what was asked, read and planned. Raises EpigoneError."""
    if is_main_process():
        if folder.is_run(folder.path):  # another process has begun and ended it since this one looked
            raise RunExists(f"{folder.path} already holds a run.", hint="Choose another folder with --out.")
        folder.write_settings(settings)
    preparation = prepare(texts, settings, folder.tokens, progress=progress, watch=watch)
    if is_main_process():
        model = preparation.build_model()
        folder.check_room(model)
        if preparation.teacher is not None:
            preparation.teacher.keep(folder)
        folder.write_receipt(preparation.receipt)
        folder.write_frame(model, preparation.vocabulary)
        folder.write_plan(
            preparation.plan,
            estimate=asdict(preparation.estimate),
            tokens=preparation.tokens.key,
            tokens_sha256=hash_tokens(folder.tokens, preparation.tokens),
            texts=name_texts(texts, settings, folder.path),
            versions=list_versions(),
        )
    return preparation


def learn(folder: RunFolder, preparation: Preparation, *, should_stop: Stop = _never) -> Iterator[Event]:
    """Train what was prepared, and keep in the folder what comes of it. Raises EpigoneError."""
    sampler = Sampler(preparation.vocabulary, preparation.settings, preparation.plan.start_text)
    learner = Learner(
        preparation.build_model(),
        preparation.tokens,
        preparation.plan,
        sample=_make_critic(sampler, preparation.tokens, preparation.plan),
        origin=find_origin(preparation.plan, preparation.build_model),
        teacher=preparation.teacher.load() if preparation.teacher else None,
        should_stop=should_stop,
    )
    learner.spend(preparation.estimate.compile_seconds)
    yield from _follow(folder, learner, preparation.vocabulary)


def find_origin(plan: Plan, build: Callable[[], GPT2LMHeadModel]) -> Origin | None:
    """What loads the untouched base once more, where one is tuned as a whole."""
    return None if plan.fresh or plan.lora is not None else lambda: build().state_dict()


def _make_critic(sampler: Sampler, tokens: Tokens, plan: Plan) -> Critic:
    return Critic(sampler, tokens, n_tokens_between=plan.n_blocks * plan.block_size / plan.evaluations_per_epoch)


def go_on(
    folder: RunFolder,
    changes: Mapping[str, Any],
    *,
    should_stop: Stop = _never,
    on_note: Callable[[str], None] = lambda note: None,
) -> Iterator[Event]:
    """Resume a run and keep in its folder what comes of it; `on_note` hears what is unusual. Raises EpigoneError."""
    if unfit := sorted(set(changes) - {"epochs", "minutes", "patience", "learning_rate"}):
        raise SettingsError(f"{unfit[0]} cannot change within a run.", hint="Train into another folder.")
    with _take_turns(folder):
        packed, found = folder.load_checkpoint()
    for line in found:
        on_note(f"{line}.")
    settings = make_settings(Settings, {**folder.read_settings().model_dump(), **changes})
    plan, more = folder.read_plan()
    plan = fit_to_machine(lengthen(plan, settings, changes), on_note)
    vocabulary = _load_vocabulary(folder)
    with _take_turns(folder):
        tokens = open_tokens(folder, vocabulary, on_note)
    learner = Learner(
        _rebuild_model(folder, plan, vocabulary, fresh_start=packed is None),
        tokens,
        plan,
        sample=_make_critic(Sampler(vocabulary, settings, plan.start_text), tokens, plan),
        origin=find_origin(plan, partial(_rebuild_model, folder, plan, vocabulary, fresh_start=True)),
        teacher=load_kept(folder) if plan.teacher else None,
        should_stop=should_stop,
    )
    if packed is None:
        on_note("No checkpoint is there: it starts from the beginning.")
        if is_main_process():
            folder.write_frame(learner.model, vocabulary)
    else:
        _unpack(learner, packed, folder)
        _mend_best(folder, learner, on_note)
    if is_main_process():
        folder.check_room(learner.model)
        if changes:
            folder.write_settings(settings)
            folder.write_plan(plan, **more)
        publish(folder, at_once=True)  # a crash may have come between the checkpoint and this
    yield from _follow(folder, learner, vocabulary)


def _take_turns(folder: RunFolder) -> AbstractContextManager[Any]:
    """The first process mends the folder, then the others find it mended."""
    if count_processes() == 1:
        return nullcontext()
    return one_after_another(find_hardware(folder.read_settings().device))


def _load_vocabulary(folder: RunFolder) -> Vocabulary:
    hint = "No checkpoint has a copy of it: train again from the text."
    for name in FRAME[1:]:
        if fault := folder.sums.find_fault(folder.model / name):
            raise RunDamaged(f"{folder.path}: {fault}.", hint=hint)
    try:
        return load_vocabulary(folder.model)
    except BaseUnusable as error:
        raise RunDamaged(str(error), hint=hint) from None


def _unpack(learner: Learner, packed: Packed, folder: RunFolder) -> None:
    try:
        learner.unpack(packed)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise RunDamaged(
            f"The checkpoint in {folder.checkpoints} is of another run than {folder.plan}: {first_line(error)}",
            hint="Put back the files that belong together, or train again from the text.",
        ) from None


def _mend_best(folder: RunFolder, learner: Learner, on_note: Callable[[str], None]) -> None:
    """Where the best weights are not what was written, take them from the checkpoint of their step."""
    progress = learner.progress
    if not is_main_process() or not math.isfinite(progress.best_loss) or not (fault := folder.find_best_fault()):
        return
    packed = folder.load_step(progress.best_step)
    if packed is None:
        on_note(f"{fault}, and no checkpoint of step {progress.best_step} is left: the best from here on is kept.")
        progress.best_loss, progress.evaluated_step = math.inf, progress.step - 1
        return
    model = build_frame(learner.plan, folder.model)
    model.load_state_dict(packed.weights, strict=False)
    if progress.best_share < 1 and learner.origin is not None:
        Mixture(model, learner.origin()).set(progress.best_share)
    folder.keep_best(model)
    on_note(f"{fault}; it is made anew from the checkpoint of step {progress.best_step}.")


def _rebuild_model(folder: RunFolder, plan: Plan, vocabulary: Vocabulary, *, fresh_start: bool) -> GPT2LMHeadModel:
    """The model that training started from, or just its frame where a checkpoint brings the weights."""
    if fresh_start:
        base = None if plan.fresh else find_base(plan.base).folder
        return build_model(plan, base, vocabulary.end_of_text_id)
    return build_frame(plan, folder.model)


def _follow(folder: RunFolder, learner: Learner, vocabulary: Vocabulary) -> Iterator[Event]:
    """Pass on what the learner tells, and keep in the folder what each event calls for."""
    try:
        for event in learner.learn():
            if is_main_process():
                _keep(folder, learner, event)
            yield event
    except TrainingDiverged as error:
        error.hint += f" To go on from the last good checkpoint: epigone resume {folder.path} --learning-rate …"
        raise


def _keep(folder: RunFolder, learner: Learner, event: Event) -> None:
    folder.check_place()
    folder.record(event)
    if isinstance(event, Evaluated) and event.best:
        folder.keep_best(learner.model)
    elif isinstance(event, CheckpointDue):
        folder.save_checkpoint(event.step, learner.pack())
        publish(folder)
    elif isinstance(event, Divided):
        _remember_parts(folder, event)
    elif isinstance(event, Finished):
        tune(folder, event)
        publish_curves(folder)
        write_report(folder, with_sentences=is_quick(folder))


def _remember_parts(folder: RunFolder, event: Divided) -> None:
    """In the plan, so that the run begins with them when it goes on, wherever it stopped."""
    plan, more = folder.read_plan()
    reason = f"in parts since memory ran out in step {event.step:,}"
    folder.write_plan(replace(plan, parts=event.parts, reasons=plan.reasons | {"batch_size": reason}), **more)


def tune(folder: RunFolder, finished: Finished) -> None:
    """Find the temperature at which the best model writes like its author, and keep it beside the model."""
    if finished.reason == "interrupted" or not math.isfinite(finished.best_loss):
        return
    plan, _ = folder.read_plan()
    vocabulary = load_vocabulary(folder.model)
    tuning = choose_temperature(
        load_model(folder.model), vocabulary, folder.read_some_held_out(), plan.start_text, plan.seed
    )
    if tuning is not None:
        keep_temperature(folder.model, tuning.temperature)
        write_json(folder.sampling, asdict(tuning))


def list_versions() -> dict[str, str]:
    """What a run was made with."""
    packages = {name: version(name) for name in ("torch", "transformers", "tokenizers", "accelerate")}
    return {"epigone": __version__, "python": platform.python_version(), **packages}
